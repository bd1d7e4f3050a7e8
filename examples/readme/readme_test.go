// Package readme checks that README.md keeps its word: its Go code compiles, and its table of options is complete.
package readme

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

var (
	goBlock  = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	declared = regexp.MustCompile(`(?m)^([a-z]\w*)(?:, ([a-z]\w*))? :=|^var ([a-z]\w*) `)
	word     = regexp.MustCompile(`\b([a-z]+)\.[A-Z]`)
)

// imports are the packages that a piece of code may use without importing them.
var imports = map[string]string{
	"bytes": "bytes", "errors": "errors", "fmt": "fmt", "log": "log", "os": "os", "http": "net/http", "slog": "log/slog", "time": "time",
	"dashboard": "github.com/fusebox-go/fusebox/dashboard", "fleet": "github.com/fusebox-go/fusebox/fleet",
	"policy": "github.com/fusebox-go/fusebox/policy", "transport": "github.com/fusebox-go/fusebox/transport",
}

func TestGoCodeInReadmeCompiles(t *testing.T) {
	dir, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	// To os.DevNull all packages are built; to a folder the programs alone would be.
	args := []string{"build", "-buildvcs=false", "-overlay", filepath.Join(temp, "overlay.json"), "-o", os.DevNull}
	readme := readFile(t, "README.md")
	for i, at := range goBlock.FindAllStringSubmatchIndex(readme, -1) {
		line := strings.Count(readme[:at[2]], "\n") + 1
		name := fmt.Sprintf("block%d", i+1)
		file := filepath.Join(temp, name+".go")
		writeFile(t, file, []byte(source(readme[at[2]:at[3]], line)))
		overlay.Replace[filepath.Join(dir, name, "main.go")] = file
		args = append(args, "./"+name)
	}
	if len(overlay.Replace) == 0 {
		t.Fatal("README.md has no Go code")
	}
	text, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(temp, "overlay.json"), text)
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		t.Errorf("README.md has Go code that does not compile: %v\n%s", err, out)
	}
}

// source makes a piece of code a package; a whole program is left as it is. The compiler counts lines from line on.
func source(code string, line int) string {
	if strings.HasPrefix(code, "package ") {
		return fmt.Sprintf("//line README.md:%d\n%s", line, code)
	}
	var b strings.Builder
	b.WriteString("package readme\n\n")
	imported := make(map[string]bool)
	for _, use := range word.FindAllStringSubmatch(code, -1) {
		if path, ok := imports[use[1]]; ok && !imported[path] {
			imported[path] = true
			fmt.Fprintf(&b, "import %q\n", path)
		}
	}
	fmt.Fprintf(&b, "\nfunc _() {\n//line README.md:%d\n%s", line, code)
	for _, names := range declared.FindAllStringSubmatch(code, -1) {
		for _, name := range names[1:] {
			if name != "" {
				fmt.Fprintf(&b, "\t_ = %s\n", name) // a piece need not use what it makes
			}
		}
	}
	b.WriteString("}\n")
	return b.String()
}

func TestReadmeNamesEveryOption(t *testing.T) {
	readme := readFile(t, "README.md")
	files, err := filepath.Glob(filepath.Join(root, "transport", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "With") && !strings.Contains(readme, "| `"+f.Name.Name+"(") {
				t.Errorf("README.md has no row for %s", f.Name.Name)
			}
		}
	}
}

func TestFilesThatReadmeNamesExist(t *testing.T) {
	for _, name := range regexp.MustCompile(`\b(?:docs|examples)/[\w.-]+`).FindAllString(readFile(t, "README.md"), -1) {
		if _, err := os.Stat(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	}
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
