// Builds reports what of modules does not build for other systems, their tests included: all that go vet says of a
// system that the code was not written on, without compiling what is below it, which takes a minute of two cores for
// each system.
//
//	go run .ci/builds.go linux/386,plan9/amd64 . ./fuseboxotel
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
	Standard        bool // it is of Go's own library
	DepOnly         bool // it belongs to others, and only what it declares is looked at
	Error           *struct{ Err string }
}

func main() {
	failed := false
	for system := range strings.SplitSeq(os.Args[1], ",") {
		library := map[string]*types.Package{"unsafe": types.Unsafe} // the same for all modules
		for _, module := range os.Args[2:] {
			for _, err := range check(module, system, library) {
				fmt.Printf("%s for %s: %v\n", module, system, err)
				failed = true
			}
		}
	}
	if failed {
		os.Exit(1)
	}
}

func check(module, system string, library map[string]*types.Package) (errs []error) {
	goos, goarch, _ := strings.Cut(system, "/")
	list := exec.Command(
		"go", "list", "-deps", "-test", "-json=ImportPath,Dir,GoFiles,ImportMap,Standard,DepOnly,Error", "./...",
	)
	list.Dir, list.Stderr = module, os.Stderr
	list.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	out, err := list.Output()
	if err != nil {
		return []error{err}
	}
	checked := maps.Clone(library)
	files := token.NewFileSet()
	for packages := json.NewDecoder(strings.NewReader(string(out))); ; { // what a package imports is listed before it
		var p listed
		if err := packages.Decode(&p); err == io.EOF {
			return errs
		} else if err != nil {
			return append(errs, err)
		}
		if strings.HasSuffix(p.ImportPath, ".test") || library[p.ImportPath] != nil {
			continue // the first is made by go test
		}
		if p.Error != nil {
			errs = append(errs, fmt.Errorf("%s: %s", p.ImportPath, p.Error.Err))
		}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				errs = append(errs, err)
			}
			parsed = append(parsed, file)
		}
		config := types.Config{
			Sizes: types.SizesFor("gc", goarch), IgnoreFuncBodies: p.DepOnly,
			Importer: importer(func(path string) (*types.Package, error) {
				if mapped, ok := p.ImportMap[path]; ok {
					path = mapped
				}
				if found := checked[path]; found != nil {
					return found, nil
				}
				return nil, fmt.Errorf("%s is not listed", path)
			}),
			Error: func(err error) {
				if !p.DepOnly {
					errs = append(errs, err)
				}
			},
		}
		path, _, _ := strings.Cut(p.ImportPath, " ")
		checked[p.ImportPath], _ = config.Check(path, files, parsed, nil)
		if p.Standard {
			library[p.ImportPath] = checked[p.ImportPath]
		}
	}
}

type importer func(path string) (*types.Package, error)

func (i importer) Import(path string) (*types.Package, error) { return i(path) }
