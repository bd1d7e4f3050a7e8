package read

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestLinesWithinOthersAreRead(t *testing.T) {
	for _, log := range logs {
		if log.format == "har" || strings.HasPrefix(log.format, "otlp") || log.format == "stdouttrace" {
			continue
		}
		text, err := os.ReadFile(logFile(log.file))
		if err != nil {
			t.Fatal(err)
		}
		for name, wrap := range map[string]func(line string) string{
			"an envelope": func(line string) string {
				quoted, err := json.Marshal(line + "\n")
				if err != nil {
					t.Fatal(err)
				}
				return `{"log":` + string(quoted) + `,"stream":"stdout","time":"2026-11-29T02:27:06.1Z"}`
			},
			"Kubernetes":  func(line string) string { return "2026-11-29T02:27:06.123456789Z stdout F " + line },
			"syslog":      func(line string) string { return "<190>Nov  9 02:27:06 host program[12]: " + line },
			"new syslog":  func(line string) string { return "<190>1 2026-11-29T02:27:06Z host program 12 - - " + line },
			"no priority": func(line string) string { return "Nov 29 02:27:06 host program: " + line },
		} {
			if log.file == "haproxy-httplog-syslog.log" && strings.Contains(name, "log") {
				continue // which it has
			}
			var b bytes.Buffer
			for line := range strings.Lines(string(text)) {
				fmt.Fprintln(&b, wrap(strings.TrimRight(line, "\n")))
			}
			_, report := readAll(t, Options{Stdin: &b}, "-")
			f := report.Files[0]
			if f.Success != log.success || f.Failure != log.failure || f.Ignored != log.ignored || f.NotUnderstood != 0 ||
				f.Format != log.format {
				t.Errorf("%s in %s: %s, %s", log.file, name, f.Format, countsOf(report))
			}
		}
	}
}

func TestWhatJSONSaysIsScannedAsItIs(t *testing.T) {
	tree := treeOf("a", "b.c", "b", "d.e.f", "x.y")
	for _, test := range []struct {
		text string
		want string // of a, b.c, d.e.f and x.y
		ok   bool
	}{
		{`{}`, "   ", true},
		{` { "a" : 1 , "b" : { "c" : "x" } } `, "1 x  ", true},
		{`{"a":"\"\\","b":{"c":[1,"]",{"c":2}],"d":{}},"d":{"e":{"f":null}}}`, `\"\\ [1,"]",{"c":2}] null `, true},
		{`{"x.y":7,"b":5,"z":[[[{"a":1}]]],"a":-1e-5}`, "-1e-5   7", true},
		{`{"a":009}`, "009   ", true},
		{`{"a":1`, "", false}, {`{"a":1}}`, "", false}, {`{"a" 1}`, "", false}, {`{"a":1,}`, "", false}, {`{"a":"x}`, "", false},
		{`[1]`, "", false}, {``, "", false}, {`{"a":}`, "", false}, {`{a:1}`, "", false}, {`{"a":"\"}`, "", false}, {`{"a":[}`, "", false},
	} {
		var v [5]value
		ok := tree.scan([]byte(test.text), v[:])
		got := fmt.Sprintf("%s %s %s %s", v[0].raw, v[1].raw, v[3].raw, v[4].raw)
		if ok != test.ok || ok && got != test.want {
			t.Errorf("%s: %v, %q, want %v, %q", test.text, ok, got, test.ok, test.want)
		}
	}
}
