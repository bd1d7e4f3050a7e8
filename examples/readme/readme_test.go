// Package readme checks that README.md and the pages in docs keep their word: their Go code compiles and runs, their tables are complete, and
// what they link to, name and tell to run exists.
package readme

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// page is a page for people, by its path from the root.
type page struct{ name, text string }

// pages returns all pages, those of nested modules too.
func pages(t *testing.T) (all []page) {
	t.Helper()
	for _, name := range files(t, ".md") {
		all = append(all, page{name, readFile(t, name)})
	}
	if len(all) < 2 {
		t.Fatal("there are no pages")
	}
	return all
}

var (
	goBlock  = regexp.MustCompile("(?ms)^(<!-- recipe: .* -->\n)?```go\n(.*?)^```$")
	declared = regexp.MustCompile(`(?m)^([a-z]\w*)(?:, ([a-z]\w*))? :=|^var ([a-z]\w*) `)
	word     = regexp.MustCompile(`\b([a-z]+)\.[A-Z]`)
)

// imports are the packages that a piece of code may use without importing them.
var imports = map[string]string{
	"bytes": "bytes", "context": "context", "errors": "errors", "fmt": "fmt", "io": "io", "log": "log", "os": "os", "http": "net/http",
	"slog": "log/slog", "strings": "strings", "time": "time",
	"dashboard": "github.com/fusebox-go/fusebox/dashboard", "fleet": "github.com/fusebox-go/fusebox/fleet",
	"logs": "github.com/fusebox-go/fusebox/logs", "policy": "github.com/fusebox-go/fusebox/policy",
	"recorder":  "github.com/fusebox-go/fusebox/recorder",
	"transport": "github.com/fusebox-go/fusebox/transport", "vars": "github.com/fusebox-go/fusebox/vars",
}

// TestGoCodeOnPagesCompilesAndRuns makes a package of each piece of code. What calls a server is compiled alone, and so are whole programs.
// Each of the others runs in a process of its own, where it must not panic. Recipes are left out: package recipes runs them.
func TestGoCodeOnPagesCompilesAndRuns(t *testing.T) {
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	add := func(name, text string) {
		file := filepath.Join(temp, name+".go")
		writeFile(t, file, []byte(text))
		overlay.Replace[filepath.Join(dir, name, name+".go")] = file
	}
	build := func(to string, packages ...string) {
		args := []string{"build", "-buildvcs=false", "-overlay", filepath.Join(temp, "overlay.json"), "-o", to}
		if out, err := exec.Command("go", append(args, packages...)...).CombinedOutput(); err != nil {
			t.Fatalf("there is Go code that does not compile: %v\n%s", err, out)
		}
	}

	var all []string
	runs := make(map[string]string) // where a piece is from, by its name
	for _, p := range pages(t) {
		for _, at := range goBlock.FindAllStringSubmatchIndex(p.text, -1) {
			if at[2] >= 0 {
				continue
			}
			name, code := fmt.Sprintf("piece%d", len(all)+1), p.text[at[4]:at[5]]
			from := fmt.Sprintf("%s:%d", p.name, strings.Count(p.text[:at[4]], "\n")+1)
			add(name, source(code, name, from))
			all = append(all, "./"+name)
			if !strings.HasPrefix(code, "package ") && !strings.Contains(code, "client.Get(") {
				runs[name] = from
			}
		}
	}
	if len(runs) < 10 {
		t.Fatalf("there are %d pieces of Go code to run", len(runs))
	}
	add("runner", runner(runs))
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(temp, "overlay.json"), text)
	build(os.DevNull, all...) // to a folder only the programs among them would be built
	build(filepath.Join(temp, "run"), "./runner")
	for name, from := range runs {
		run := exec.Command(filepath.Join(temp, "run"), name)
		run.Dir = t.TempDir() // some write a file
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("the Go code at %s: %v\n%s", from, err, out)
		}
	}
}

// source makes a package of a piece of code, which Run runs; a whole program is left as it is. The compiler counts lines from there.
func source(code, name, from string) string {
	if strings.HasPrefix(code, "package ") {
		return fmt.Sprintf("//line %s\n%s", from, code)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n\n", name)
	imported := make(map[string]bool)
	for _, use := range word.FindAllStringSubmatch(code, -1) {
		if path, ok := imports[use[1]]; ok && !imported[path] {
			imported[path] = true
			fmt.Fprintf(&b, "import %q\n", path)
		}
	}
	fmt.Fprintf(&b, "\nfunc Run() {\n//line %s\n%s", from, code)
	used := make(map[string]bool)
	for _, names := range declared.FindAllStringSubmatch(code, -1) {
		for _, name := range names[1:] {
			if name != "" && !used[name] {
				used[name] = true
				fmt.Fprintf(&b, "\t_ = %s\n", name) // a piece need not use what it makes
			}
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// runner is a program that runs the piece whose name it is called with.
func runner(pieces map[string]string) string {
	var b strings.Builder
	b.WriteString("package main\n\nimport \"os\"\n")
	for name := range pieces {
		fmt.Fprintf(&b, "import \"github.com/fusebox-go/fusebox/examples/readme/%s\"\n", name)
	}
	b.WriteString("\nfunc main() {\n\tmap[string]func(){\n")
	for name := range pieces {
		fmt.Fprintf(&b, "\t\t%[1]q: %[1]s.Run,\n", name)
	}
	b.WriteString("\t}[os.Args[1]]()\n}\n")
	return b.String()
}

func TestReadmeIsShort(t *testing.T) {
	readme := readFile(t, "README.md")
	if lines := strings.Count(readme, "\n"); lines > 200 {
		t.Errorf("README.md has %d lines; 200 are the most", lines)
	}
	if words := len(strings.Fields(readme)); words > 1500 {
		t.Errorf("README.md has %d words; 1500 are the most", words)
	}
}

// TestEveryOptionHasItsRow looks for all that a user can set: a row of some table has to begin with each option, classifier and function
// of an Observer, and one with each rule and policy, which has to name its fields.
func TestEveryOptionHasItsRow(t *testing.T) {
	var rows []string
	for _, p := range pages(t) {
		rows = append(rows, regexp.MustCompile("(?m)^\\| `.*$").FindAllString(p.text, -1)...)
	}
	found := 0
	row := func(name string) string {
		found++
		of := regexp.MustCompile("^[^|]*\\|[^|]*`" + regexp.QuoteMeta(name) + "[`([]")
		at := slices.IndexFunc(rows, of.MatchString)
		if at < 0 {
			t.Errorf("no table has a row of %s", name)
			return ""
		}
		return rows[at]
	}
	for _, dir := range []string{"transport", "policy", "dashboard", "prometheus", "otel"} {
		types := make(map[string]*ast.StructType)
		rules := make(map[string]bool)
		for _, decl := range declarations(t, dir) {
			switch d := decl.(type) {
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					if s, ok := spec.(*ast.TypeSpec); ok {
						types[s.Name.Name], _ = s.Type.(*ast.StructType)
					}
				}
			case *ast.FuncDecl:
				name, returns := d.Name.Name, result(d)
				switch {
				case !d.Name.IsExported():
				case d.Recv != nil:
					if receiver, ok := d.Recv.List[0].Type.(*ast.Ident); ok &&
						slices.Contains([]string{"NewTrip", "NewProbe", "NewRecover", "Rules", "Validated"}, name) {
						rules[receiver.Name] = true
					}
				case returns == "Option", returns == "Classifier":
					row(name)
				}
			}
		}
		for name := range rules {
			if !ast.IsExported(name) {
				continue
			}
			for _, field := range fields(types[name]) {
				if in := row(name); in != "" && !strings.Contains(in, "`"+field+"`") {
					t.Errorf("the row of %s does not name its field %s", name, field)
				}
			}
		}
		for _, field := range fields(types["Observer"]) {
			row(field)
		}
	}
	if found < 60 {
		t.Errorf("only %d options and rules were found in the code", found)
	}
}

func declarations(t *testing.T, dir string) (all []ast.Decl) {
	t.Helper()
	for _, name := range files(t, ".go") {
		if filepath.ToSlash(filepath.Dir(name)) != dir || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file.Decls...)
	}
	return all
}

// result returns the name of the type that a function returns, if it is one of its package.
func result(f *ast.FuncDecl) string {
	if f.Type.Results == nil || len(f.Type.Results.List) != 1 {
		return ""
	}
	name, _ := f.Type.Results.List[0].Type.(*ast.Ident)
	if name == nil {
		return ""
	}
	return name.Name
}

func fields(s *ast.StructType) (names []string) {
	if s == nil {
		return nil
	}
	for _, field := range s.Fields.List {
		for _, name := range field.Names {
			if name.IsExported() {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

var (
	link   = regexp.MustCompile(`\]\(([^)\s]+)\)|src="([^"]+)"`)
	quoted = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]*`")
)

func TestLinksBetweenPagesLeadSomewhere(t *testing.T) {
	known := make(map[string][]string)
	for _, p := range pages(t) {
		known[p.name] = anchors(p.text)
	}
	for _, p := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(quoted.ReplaceAllString(p.text, ""), -1) {
			target := found[1] + found[2]
			if strings.Contains(target, "://") {
				continue
			}
			path, anchor, anchored := strings.Cut(target, "#")
			to := p.name
			if path != "" {
				to = filepath.Join(filepath.Dir(p.name), path)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s: %v", p.name, target, err)
			} else if anchored && !slices.Contains(known[to], anchor) {
				t.Errorf("%s links to %s, which has no such heading", p.name, target)
			}
		}
	}
}

// TestAlertsLinkToWhatThereIsToDo reads the rules as text: the module rulecheck reads them as Prometheus does.
func TestAlertsLinkToWhatThereIsToDo(t *testing.T) {
	rules := strings.Split(readFile(t, "fuseboxprom/alerts.yml"), "- alert: ")[1:]
	page := readFile(t, "docs/operations.md")
	if len(rules) < 5 {
		t.Errorf("there are %d rules", len(rules))
	}
	runbook := regexp.MustCompile(`(?m)runbook_url: https://github.com/fusebox-go/fusebox/blob/main/(\S+)#(\S+)$`)
	for _, rule := range rules {
		name, _, _ := strings.Cut(rule, "\n")
		found := runbook.FindStringSubmatch(rule)
		if found == nil {
			t.Errorf("%s has no runbook_url to a heading", name)
		} else if !slices.Contains(anchors(readFile(t, found[1])), found[2]) {
			t.Errorf("%s links to %s, which has no heading %s", name, found[1], found[2])
		}
		if !strings.Contains(page, "| `"+name+"` |") {
			t.Errorf("docs/operations.md does not say what to do about %s", name)
		}
	}
	if n := strings.Count(page, "| `Fusebox"); n != len(rules) {
		t.Errorf("docs/operations.md has %d alerts, and there are %d", n, len(rules))
	}
}

func TestReadmeLinksToEveryPageInDocs(t *testing.T) {
	readme := readFile(t, "README.md")
	for _, p := range pages(t) {
		if name := filepath.ToSlash(p.name); strings.HasPrefix(name, "docs/") && !strings.Contains(readme, "]("+name) {
			t.Errorf("README.md does not link to %s", name)
		}
	}
}

var (
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced  = regexp.MustCompile("(?ms)^```.*?^```$")
	dropped = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// anchors returns what a page's headings are linked by, as GitHub makes it.
func anchors(text string) (all []string) {
	times := make(map[string]int)
	for _, found := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		anchor := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(found[1]), ""), " ", "-")
		if n := times[anchor]; n > 0 {
			all = append(all, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			all = append(all, anchor)
		}
		times[anchor]++
	}
	return all
}

var (
	named   = regexp.MustCompile(`\b(?:docs|examples|conformance)/[\w./-]*\w`)
	running = regexp.MustCompile(`(?:cd ([\w/]+) && )?go run (?:-C )?(\.?[\w./-]+)(@?)`)
	runs    = regexp.MustCompile(`-run '?([A-Z]\w*)`)
)

// testNamed is a test or a fuzz target in backquotes, or a subtest of one.
var testNamed = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)(?:/[^`]*)?`")

func TestWhatPagesNameAndTellToRunExists(t *testing.T) {
	var tests strings.Builder
	for _, name := range files(t, "_test.go") {
		tests.WriteString(readFile(t, name))
	}
	for _, p := range pages(t) {
		for _, name := range named.FindAllString(p.text, -1) {
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("%s names %s: %v", p.name, name, err)
			}
		}
		for _, found := range running.FindAllStringSubmatch(p.text, -1) {
			if found[3] != "" {
				continue // of another module
			}
			if _, err := os.Stat(filepath.Join(root, found[1], found[2])); err != nil {
				t.Errorf("%s says %q: %v", p.name, found[0], err)
			}
		}
		for _, found := range runs.FindAllStringSubmatch(p.text, -1) {
			if !regexp.MustCompile(`(?m)^func Test\w*` + strings.TrimPrefix(found[1], "Test")).MatchString(tests.String()) {
				t.Errorf("%s says %q, and there is no such test", p.name, found[0])
			}
		}
		for _, found := range testNamed.FindAllStringSubmatch(p.text, -1) {
			if !strings.Contains(tests.String(), "\nfunc "+found[1]+"(") {
				t.Errorf("%s names the test %s, and there is none", p.name, found[1])
			}
		}
	}
}

// files returns the paths from the root of all files whose name ends so.
func files(t *testing.T, ending string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch name := entry.Name(); {
		case err != nil:
			return err
		case entry.IsDir():
			if name == "testdata" || path != root && strings.HasPrefix(name, ".") {
				return filepath.SkipDir
			}
		case strings.HasSuffix(name, ending):
			name, err := filepath.Rel(root, path)
			names = append(names, name)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
