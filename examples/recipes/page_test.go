// Package recipes runs the recipes of docs/recipes.md, and keeps the page to the very code that it runs:
//
//	go test . -write
//
// writes the code and what the clients saw into the page; without -write the tests compare them.
package recipes

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const page = "../../docs/recipes.md"

var (
	write  = flag.Bool("write", false, "write docs/recipes.md and do not compare it")
	recipe = regexp.MustCompile(`(?ms)^(\t*)// recipe: ([\w-]+)\n(.*?)^\t*// end\n`)
	begin  = regexp.MustCompile(`(?m)^\t*// recipe: `)
	fence  = regexp.MustCompile("(?m)^```go$")
)

func TestPageHasTheCodeThatRuns(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	recipes := 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		found := recipe.FindAllStringSubmatch(string(text), -1)
		require.Len(t, begin.FindAll(text, -1), len(found), "%s has a recipe without an end", name)
		for _, r := range found {
			recipes++
			code := regexp.MustCompile(`(?m)^`+r[1]).ReplaceAllString(strings.TrimRight(r[3], "\n"), "")
			inPage(t, "recipe: "+r[2], "go", code)
		}
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	require.NotZero(t, recipes)
	require.Equal(t, recipes, len(fence.FindAll(text, -1)), "every block of Go in the page is a recipe")
}

// sees compares what a client saw with the page. Addresses and times are replaced; the time to the next probe is left
// out by the refusal if it has passed, and a busy machine must not change the page.
func sees(t *testing.T, name, text string) {
	t.Helper()
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "upstream.test")
	text = regexp.MustCompile(`(for [^,]+?)(?:, next probe in \S+?)?, last`).ReplaceAllString(text, "$1, next probe in 96ms, last")
	inPage(t, "seen: "+name, "text", strings.TrimSuffix(text, "\n"))
}

// inPage compares, or writes, the block under the comment that names it.
func inPage(t *testing.T, name, language, want string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	head := fmt.Sprintf("<!-- %s -->\n```%s\n", name, language)
	before, rest, found := strings.Cut(string(text), head)
	require.True(t, found, "docs/recipes.md has no %q", head)
	got, after, found := strings.Cut("\n"+rest, "\n```\n")
	require.True(t, found, "in docs/recipes.md %q has no end", head)
	require.NotContains(t, after, head)
	if *write {
		require.NoError(t, os.WriteFile(page, []byte(before+head+want+"\n```\n"+after), 0o644))
		return
	}
	require.Equal(t, want, strings.TrimPrefix(got, "\n"), "%s: look at the difference, then: go test . -write", name)
}
