//go:build ignore

// Names counts the exported names of packages, methods and fields aside. Run it in the root:
//
//	go run .ci/names.go policy transport
package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	log.SetFlags(0)
	fmt.Println("                 funcs types consts vars   all")
	var sum count
	for _, folder := range os.Args[1:] {
		names, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			log.Fatal(err)
		}
		var c count
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
			if err != nil {
				log.Fatal(err)
			}
			for _, d := range file.Decls {
				c.add(d)
			}
		}
		c.print(folder)
		for i := range sum {
			sum[i] += c[i]
		}
	}
	sum.print("together")
}

// count is of functions, types, constants and variables.
type count [4]int

func (c *count) add(d ast.Decl) {
	names := func(i int, all ...*ast.Ident) {
		for _, name := range all {
			if name.IsExported() {
				c[i]++
			}
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names(0, d.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names(1, s.Name)
			case *ast.ValueSpec:
				names(map[token.Token]int{token.CONST: 2, token.VAR: 3}[d.Tok], s.Names...)
			}
		}
	}
}

func (c count) print(what string) {
	fmt.Printf("%-16s %5d %5d %6d %4d %5d\n", what, c[0], c[1], c[2], c[3], c[0]+c[1]+c[2]+c[3])
}
