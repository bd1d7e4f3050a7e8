package fusebox_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A release is by hand, and what is renamed since the last one would be found out in its middle.
func TestAReleaseIsOfModulesThatAreThere(t *testing.T) {
	if _, err := os.Stat("fuseboxprom/go.mod"); err != nil {
		return // this is the module alone, as the module proxy has it
	}
	for file, list := range map[string]string{
		"CONTRIBUTING.md": `for module in ([^;]+); do`, ".ci/modules.go": `public = \[\]string\{".", (.*)\}`,
	} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		found := regexp.MustCompile(list).FindAllSubmatch(text, -1)
		require.NotEmpty(t, found, file)
		for _, names := range found {
			modules := strings.FieldsFunc(string(names[1]), func(r rune) bool { return strings.ContainsRune(`", `, r) })
			require.Len(t, modules, 4, file)
			for _, module := range modules {
				require.FileExists(t, module+"/go.mod", file)
			}
		}
	}
}

// A module that is not listed gets no updates, and one that is gone makes the others get none.
func TestEveryModuleGetsUpdates(t *testing.T) {
	if _, err := os.Stat("fuseboxprom/go.mod"); err != nil {
		return // this is the module alone, as the module proxy has it
	}
	text, err := os.ReadFile(".github/dependabot.yml")
	require.NoError(t, err)
	var listed, there []string
	for _, found := range regexp.MustCompile(`(?m)^ +- /(\S+)$`).FindAllSubmatch(text, -1) {
		listed = append(listed, string(found[1]))
	}
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if folder := filepath.ToSlash(filepath.Dir(name)); err == nil && entry.Name() == "go.mod" && folder != "." {
			there = append(there, folder)
		}
		return err
	}))
	assert.ElementsMatch(t, there, listed)
}

// What is said in the documents of who carries on is to be found where they say.
func TestTheTestsAndFilesThatTheDesignNamesAreThere(t *testing.T) {
	tests, files := map[string]bool{}, map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	require.NoError(t, filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() == ".git" {
			return err
		}
		files[filepath.ToSlash(name)], files[entry.Name()] = true, true
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		for _, found := range function.FindAllSubmatch(text, -1) {
			tests[string(found[1])] = true
		}
		return err
	}))
	quoted := regexp.MustCompile("`([^`\n]+)`")
	named := regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w+$`)
	path := regexp.MustCompile(`^[a-z.][\w./-]*(/[\w-]+|\.(go|md|sh|yml))$`)
	ours := func(name string) bool { // and not of another repository, or a name for any
		top, _, deep := strings.Cut(name, "/")
		_, err := os.Stat(top)
		return !strings.Contains(name, "NAME") && (err == nil || !deep)
	}
	if !files["conformance/go.mod"] {
		return // this is the module alone, as the module proxy has it, without those nested in it
	}
	for _, page := range []string{"docs/design.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range quoted.FindAllStringSubmatch(string(text), -1) {
			switch name := found[1]; {
			case named.MatchString(name):
				assert.True(t, tests[name], "%s names %s, and there is no such test", page, name)
			case path.MatchString(name) && ours(name):
				assert.True(t, files[strings.TrimSuffix(name, "/")], "%s names %s, and there is no such file", page, name)
			}
		}
	}
}
