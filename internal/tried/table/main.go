// Command table runs the tests that say what they tried (package tried), and writes their rows into SECURITY.md. It is
// run in the folder of the repository.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/fusebox-go/fusebox/internal/tried"
)

// places are the folders whose tests have rows, in the order of the table. Nested modules are run in their own.
var places = []struct{ in, packages string }{
	{".", "./transport"}, {".", "./logs"}, {".", "./dashboard"}, {"fuseboxprom", "."}, {"fleet/fleetredis", "."},
}

const (
	page  = "SECURITY.md"
	begin = "<!-- what was tried: written by go run ./internal/tried/table -->\n"
	end   = "<!-- end of what was tried -->\n"
)

func main() {
	log.SetFlags(0)
	if err := write(); err != nil {
		log.Fatal(err)
	}
}

func write() error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the table: it stands between %q and %q", page, begin, end)
	}
	var table strings.Builder
	table.WriteString("| tried | before | bound | in the last run | test |\n|---|---|---|---|---|\n")
	for _, place := range places {
		rows, err := rowsOf(place.in, place.packages)
		if err != nil {
			return err
		}
		table.WriteString(rows)
	}
	return os.WriteFile(page, []byte(before+begin+table.String()+end+after), 0o644)
}

// call is how a test says a row.
var call = regexp.MustCompile(`(?s)\nfunc (Test\w+)\(.*?\n}\n`)

// rowsOf runs the tests of a package that have rows, and returns these.
func rowsOf(in, packages string) (string, error) {
	files, err := os.ReadDir(in + "/" + packages)
	if err != nil {
		return "", err
	}
	var names []string
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(in + "/" + packages + "/" + f.Name())
		if err != nil {
			return "", err
		}
		for _, test := range call.FindAllSubmatch(text, -1) {
			if bytes.Contains(test[0], []byte("tried.Row(")) {
				names = append(names, string(test[1]))
			}
		}
	}
	if len(names) == 0 {
		return "", fmt.Errorf("no test of %s/%s says what it tried", in, packages)
	}
	run := exec.Command("go", "test", "-count=1", "-v", "-run", "^("+strings.Join(names, "|")+")$", packages)
	run.Dir = in
	output, err := run.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%v\n%s", err, output)
	}
	var rows []string
	for line := range strings.Lines(string(output)) {
		if _, row, ok := strings.Cut(line, tried.Prefix); ok {
			rows = append(rows, "| "+strings.TrimSpace(row)+" |\n")
		}
	}
	slices.Sort(rows)
	return strings.Join(slices.Compact(rows), ""), nil
}
