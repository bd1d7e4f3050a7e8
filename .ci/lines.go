//go:build ignore

// Lines finds lines of code that is no test's which are wider than 120 columns, a tab being four. Run it in the root:
//
//	go run .ci/lines.go
package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

const most = 120

func main() {
	log.SetFlags(0)
	wide := 0
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		lines := bufio.NewScanner(file)
		for n := 1; lines.Scan(); n++ {
			if width := utf8.RuneCountInString(strings.ReplaceAll(lines.Text(), "\t", "    ")); width > most {
				fmt.Printf("%s:%d: %d columns, and %d are enough\n", filepath.ToSlash(name), n, width, most)
				wide++
			}
		}
		return lines.Err()
	})
	if err != nil {
		log.Fatal(err)
	}
	if wide > 0 {
		os.Exit(1)
	}
}
