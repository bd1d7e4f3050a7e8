package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// lines is a log in JSON lines: 20 calls a second, that fail from one second to another, to a host.
func lines(host string, seconds, from, to int) string {
	var b strings.Builder
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range seconds * 20 {
		status := 200
		if i >= from*20 && i < to*20 {
			status = 503
		}
		at := start.Add(time.Duration(i) * 50 * time.Millisecond)
		made, _ := json.Marshal(map[string]any{"start": at.Format(time.RFC3339Nano), "ms": 10, "status": status, "host": host})
		b.Write(append(made, '\n'))
	}
	return b.String()
}

const mapping = "json:start=start,ms=ms,status=status,host=host"

func file(t *testing.T, text string) string {
	name := filepath.Join(t.TempDir(), "calls.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// do runs the command.
func do(t *testing.T, in string, args ...string) (code int, out, problems string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code, err = run(t.Context(), args, strings.NewReader(in), &stdout, &stderr)
	return code, stdout.String(), stderr.String(), err
}

func TestTheDataHasWhatIsDocumented(t *testing.T) {
	log := file(t, lines("shop", 60, 20, 40)+"what is this?\n")
	code, out, problems, err := do(t, "", "replay", "-format", mapping, log, "-json", "-", "-policy", "classic failures=5 openfor=3s")
	if code != exitOK || err != nil || problems != "" {
		t.Fatal(code, err, problems)
	}
	var d struct {
		Read struct {
			Lines, Calls, Success, Failure, Ignored int
			NotUnderstood                           int `json:"not_understood"`
		}
		Keys []struct {
			Key                              string
			Calls, Success, Failure, Ignored int
		}
		Policies []struct {
			Policy                                 string
			Opened, Refused, Price, Gain, Suffered int
			Spared                                 float64 `json:"spared_seconds"`
			Troubles                               []struct {
				Key    string
				Opened time.Time  `json:"opened_at"`
				Closed *time.Time `json:"closed_at"`
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &d); err != nil { // nothing else is on standard output
		t.Fatal(err)
	}
	if r := d.Read; r.Lines != 1201 || r.Calls != 1200 || r.Success != 800 || r.Failure != 400 || r.Ignored != 0 || r.NotUnderstood != 1 {
		t.Errorf("%+v", r)
	}
	if len(d.Keys) != 1 || d.Keys[0].Key != "shop" || d.Keys[0].Calls != 1200 || d.Keys[0].Failure != 400 {
		t.Errorf("%+v", d.Keys)
	}
	if len(d.Policies) != 2 || d.Policies[0].Policy != "default" || d.Policies[1].Policy != "classic failures=5 openfor=3s" {
		t.Fatalf("%+v", d.Policies)
	}
	for _, p := range d.Policies {
		if p.Opened != 1 || p.Refused != p.Price+p.Gain || p.Suffered != 400-p.Gain || p.Gain < 350 || p.Spared != float64(p.Gain)/100 {
			t.Errorf("%+v", p)
		}
		begin := time.Date(2026, 1, 2, 3, 4, 25, 0, time.UTC)
		if len(p.Troubles) != 1 || p.Troubles[0].Key != "shop" || p.Troubles[0].Opened.Before(begin) ||
			p.Troubles[0].Opened.After(begin.Add(time.Second)) || p.Troubles[0].Closed == nil ||
			p.Troubles[0].Closed.Before(begin.Add(20*time.Second)) {
			t.Errorf("%+v", p.Troubles)
		}
	}
}

func TestExitCodesAreThoseThatAreDocumented(t *testing.T) {
	good := lines("shop", 60, 20, 40)
	log := file(t, good)
	strange := file(t, lines("shop", 5, 9, 9)+strings.Repeat("what is this?\n", 20))
	for _, try := range []struct {
		code int
		says string
		args []string
	}{
		{exitOK, "", []string{log}},
		{exitOK, "", []string{log, "-max-price", "10%"}},
		{exitPrice, "default: ", []string{"-max-price", "0.01%", log}},
		{exitPrice, "classic openfor=30s: ", []string{"-max-price", "3%", "-policy", "classic openfor=30s", log}},
		{exitOK, "", []string{"-max-price", "3%", "-policy", "classic openfor=1s", log}},
		{exitStrange, "20 of 120 lines were not understood", []string{strange}},
		{exitOK, "", []string{"-not-understood", "50%", strange}},
		{exitWrong, "there is no file to read", nil},
		{exitWrong, "no such file", []string{filepath.Join(t.TempDir(), "none")}},
		{exitWrong, "flag provided but not defined: -polcy; fusebox replay -h", []string{"-polcy", "x", log}},
		{exitWrong, `-policy: there is no policy "clasic"`, []string{"-policy", "clasic", log}},
		{exitWrong, `-max-price: "ten" is no share`, []string{"-max-price", "ten", log}},
		{exitWrong, `-fail: "4xx" is no status`, []string{"-fail", "4xx", log}},
		{exitWrong, `-from: "noon" is no time`, []string{"-from", "noon", log}},
		{exitWrong, "-clients is 0", []string{"-clients", "0", log}},
		{exitWrong, "would be written over what is read", []string{"-json", log, log}},
		{exitWrong, "-html and -svg are both", []string{"-html", log + ".out", "-svg", log + ".out", log}},
		{exitOK, "", []string{"-html", os.DevNull, "-svg", os.DevNull, log}},
		{exitPrice, "default: ", []string{"-max-price", "0.01%", "-policy", "default", "-policy", "classic failures=999", log}},
		{exitWrong, "only one of", []string{"-json", "-", "-html", "-", log}},
	} {
		t.Run(fmt.Sprint(try.args), func(t *testing.T) {
			code, _, _, err := do(t, "", append([]string{"replay", "-format", mapping}, try.args...)...)
			if code != try.code || (err == nil) != (try.says == "") || err != nil && !strings.Contains(err.Error(), try.says) {
				t.Errorf("%d, %v; want %d, %s", code, err, try.code, try.says)
			}
		})
	}
	if code, _, _, err := do(t, "", "relpay"); code != exitWrong || err == nil {
		t.Error(code, err)
	}
	for _, args := range [][]string{{"replay", "-h"}, {"help"}} {
		if code, out, _, err := do(t, "", args...); code != exitOK || err != nil || !strings.Contains(out, "usage: fusebox replay") {
			t.Error(code, err, out)
		}
	}
}

func TestStandardInputIsAFileCalledMinus(t *testing.T) {
	code, out, _, err := do(t, lines("shop", 10, 5, 5), "replay", "-format", mapping, "-")
	if code != exitOK || err != nil || !strings.Contains(out, "200 calls: 200 succeeded") {
		t.Error(code, err, out)
	}
}

func TestStatusesCountAsTheFlagsSay(t *testing.T) {
	log := file(t, lines("shop", 60, 20, 40))
	_, out, _, err := do(t, "", "replay", "-format", mapping, "-ignore", "503", log)
	if err != nil || !strings.Contains(out, "800 succeeded, 0 failed, 400 say nothing") {
		t.Error(err, out)
	}
	_, out, _, err = do(t, "", "replay", "-format", mapping, "-fail", "200", log)
	if err != nil || !strings.Contains(out, "0 succeeded, 1,200 failed") {
		t.Error(err, out)
	}
}

// Whoever writes lines into a log does not write the page, nor to the terminal.
func TestWhatComesFromALogIsEscaped(t *testing.T) {
	hostile := "</script><script>alert(1)</script>\"'&\x1b[31m\u202e]]>"
	log := file(t, lines(hostile, 60, 20, 40)+"\x1b]0;title\x07 is no call <b>\n")
	dir := t.TempDir()
	page, picture := filepath.Join(dir, "page.html"), filepath.Join(dir, "picture.svg")
	code, out, _, err := do(t, "", "replay", "-format", mapping, "-explain", "-html", page, "-svg", picture, log)
	if code != exitOK || err != nil {
		t.Fatal(code, err)
	}
	if strings.ContainsAny(out, "\x1b\x07\u202e") {
		t.Error("the text has what a terminal acts on")
	}
	for _, name := range []string{page, picture} {
		made, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text := string(made)
		if strings.Contains(text, "<script>alert") || strings.ContainsAny(text, "\x1b\x07\u202e") || !strings.Contains(text, "alert(1)") {
			t.Errorf("%s is not escaped", name)
		}
		if name == page && strings.Count(text, "<script") != 1 {
			t.Error("there is another script")
		}
		for _, elsewhere := range []string{"src=", "@import", "url(", "<link"} {
			if strings.Contains(text, elsewhere) {
				t.Errorf("%s has %s, and asks for something from elsewhere", name, elsewhere)
			}
		}
	}
}

func TestAdviceIsGivenOnlyWhereTheDataTells(t *testing.T) {
	thin := file(t, lines("shop", 60, 20, 40))
	_, out, _, err := do(t, "", "replay", "-format", mapping, "-suggest", thin)
	if err != nil || !strings.Contains(out, "Too thin to tell: the earlier part has 1 trouble, and 3 are needed at least") {
		t.Error(err, out)
	}
	var many strings.Builder
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 60_000 { // an outage of 20 s in two minutes
		status := 200
		if i%2400 > 1000 && i%2400 < 1400 {
			status = 503
		}
		at := start.Add(time.Duration(i) * 50 * time.Millisecond).Format(time.RFC3339Nano)
		fmt.Fprintf(&many, `{"start":%q,"ms":10,"status":%d,"host":"shop"}`+"\n", at, status)
	}
	dir := t.TempDir()
	page := filepath.Join(dir, "page.html")
	_, out, _, err = do(t, "", "replay", "-format", mapping, "-suggest", "-max-price", "3%", "-html", page, file(t, many.String()))
	if err != nil || !strings.Contains(out, "For a price of 3 % at most:\n\n\ttransport.New(nil") {
		t.Error(err, out)
	}
	if made, _ := os.ReadFile(page); !strings.Contains(string(made), `class="front"`) {
		t.Error("there is no picture of the front")
	}
}

// By go run -C the command runs in another folder than that in which it was typed, which PWD tells.
func TestNamesAreOfTheFolderInWhichTheyWereTyped(t *testing.T) {
	log := file(t, lines("shop", 10, 5, 5))
	there := filepath.Dir(log)
	t.Setenv("PWD", there)
	code, out, _, err := do(t, "", "replay", "-format", mapping, "-html", "page.html", filepath.Base(log))
	if code != exitOK || err != nil || !strings.Contains(out, "200 calls") {
		t.Error(code, err, out)
	}
	if _, err := os.Stat(filepath.Join(there, "page.html")); err != nil {
		t.Error(err)
	}
	// What is not there may be here.
	if code, _, _, err := do(t, "", "replay", "sample/access.log.gz"); code != exitOK || err != nil {
		t.Error(code, err)
	}
}
