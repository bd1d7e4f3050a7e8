package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunPrintsTablesAndDrawsPictures(t *testing.T) {
	folder := t.TempDir()
	o, err := parse([]string{"-scenario", "^outage-(500ms|10s)$", "-subject", "gobreaker|fusebox", "-seed", "1,2", "-out", folder, "-detail"}, flag.ContinueOnError)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := o.run(t, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"oracle", "gobreaker-tuned", "outage-500ms", "recover s", "seeds [1 2]"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the tables lack %q", want)
		}
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.svg"))
	if err != nil || len(files) != 3 {
		t.Fatalf("drew %v, %v; want a heat map and two timelines", files, err)
	}
	for _, name := range files {
		picture, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(picture)
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
		picture.Close()
	}

	var doc bytes.Buffer
	if err := o.table.json(&doc); err != nil || !json.Valid(doc.Bytes()) {
		t.Errorf("JSON: %v", err)
	}
	doc.Reset()
	o.table.report(&doc, grid.markdown, false)
	if !strings.Contains(doc.String(), "| gobreaker |") {
		t.Error("Markdown lacks a subject")
	}
}

func TestParseRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{
		{"-scenario", "nowhere"}, {"-scenario", "("}, {"-subject", "("}, {"-seed", "x"}, {"-scale", "0"}, {"-scale", "x"}, {"-seeds", "0"},
	} {
		if _, err := parse(args, flag.ContinueOnError); err == nil {
			t.Errorf("no error for %q", args)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range subjects() {
		if seen[s.name] {
			t.Errorf("two subjects are named %q", s.name)
		}
		seen[s.name] = true
	}
	for _, sc := range scenarios() {
		if seen[sc.name] {
			t.Errorf("the name %q is taken", sc.name)
		}
		seen[sc.name] = true
	}
}
