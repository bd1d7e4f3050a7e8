//go:build ignore

// Modules tries, before a release, what users do after it: go get and go install of every public module, without a
// replace. It makes a module proxy of files in a temporary folder, with the modules as they are in the tree under a
// version of today's choice, and in a module outside the tree gets each, builds a program that imports all of its
// packages, and installs its commands. Run it in the root:
//
//	go run .ci/modules.go [-version v0.1.0]
//
// It asks nobody for the modules of this repository, and for those of others the module cache and then GOPROXY, but for
// "direct".
package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const root = "github.com/fusebox-go/fusebox"

// public are the folders of the modules that users import. The others are tests, benchmarks and examples.
var public = []string{".", "cmd/fusebox", "fleet/fleetredis", "fuseboxotel", "fuseboxprom"}

func main() {
	log.SetFlags(0)
	version := flag.String("version", "v0.1.0", "what the modules are called")
	flag.Parse()
	temp, err := os.MkdirTemp("", "modules")
	if err != nil {
		log.Fatal(err)
	}
	err = try(temp, *version)
	exec.Command("chmod", "-R", "u+w", temp).Run() // as go clean -modcache does
	if err = errors.Join(err, os.RemoveAll(temp)); err != nil {
		log.Fatal(err)
	}
}

func try(temp, version string) error {
	out, err := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return err
	}
	files := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
	files = slices.DeleteFunc(files, func(f string) bool { // deleted and not yet committed
		_, err := os.Lstat(f)
		return err != nil
	})
	proxy := filepath.Join(temp, "proxy")
	for _, folder := range public {
		if err := publish(proxy, folder, version, files); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	user, err := newUser(temp, proxy)
	if err != nil {
		return err
	}
	for _, folder := range public {
		if err := user.uses(folder, version); err != nil {
			return fmt.Errorf("%s: %w", folder, err)
		}
	}
	return nil
}

// moduleOf is the path of the module in a folder of the tree.
func moduleOf(folder string) string { return path.Join(root, folder) }

// publish puts a module into the proxy, as the commit that is tagged for it has it (CONTRIBUTING.md, "Release").
func publish(proxy, folder, version string, files []string) error {
	module := moduleOf(folder)
	at := filepath.Join(proxy, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	goMod, err := released(filepath.Join(at, version+".mod"), folder, version)
	if err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": version, "Time": time.Now().UTC()})
	if err != nil {
		return err
	}
	var buffer bytes.Buffer
	archive := zip.NewWriter(&buffer)
	add := func(name string, content []byte) error {
		w, err := archive.Create(module + "@" + version + "/" + name)
		if err == nil {
			_, err = w.Write(content)
		}
		return err
	}
	licensed := false
	for _, file := range files {
		name, inside := within(folder, file, files)
		if !inside {
			continue
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if name == "go.mod" {
			content = goMod
		}
		licensed = licensed || name == "LICENSE"
		if err := add(name, content); err != nil {
			return err
		}
	}
	if !licensed { // the go command takes the repository's
		content, err := os.ReadFile("LICENSE")
		if err == nil {
			err = add("LICENSE", content)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(
		archive.Close(),
		os.WriteFile(filepath.Join(at, version+".zip"), buffer.Bytes(), 0o600),
		os.WriteFile(filepath.Join(at, version+".info"), info, 0o600),
		os.WriteFile(filepath.Join(at, "list"), []byte(version+"\n"), 0o600),
	)
}

// within returns the name of a file in the module of a folder, unless it is of a module inside or outside.
func within(folder, file string, files []string) (name string, inside bool) {
	for dir := path.Dir(file); ; dir = path.Dir(dir) {
		if slices.Contains(files, path.Join(dir, "go.mod")) || dir == "." {
			name, _ = strings.CutPrefix(file, dir+"/")
			return name, dir == folder
		}
	}
}

// released writes the go.mod of a module that is released: it has no replace, and asks for what it needs of this
// repository in the same version.
func released(name, folder, version string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(name, content, 0o600); err != nil {
		return nil, err
	}
	for _, other := range public {
		if m := moduleOf(other); other != folder && bytes.Contains(content, []byte(m+" v")) {
			edit := exec.Command("go", "mod", "edit", "-dropreplace="+m, "-require="+m+"@"+version, name)
			if out, err := edit.CombinedOutput(); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, out)
			}
		}
	}
	if content, err = os.ReadFile(name); err == nil && bytes.Contains(content, []byte("\nreplace ")) {
		err = errors.New("there is a replace left in go.mod, and go install takes none")
	}
	return content, err
}

// user is somebody outside the tree.
type user struct {
	temp        string
	environment []string
}

func newUser(temp, proxy string) (*user, error) {
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return nil, err
	}
	cache, proxies, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	from := []string{
		"file://" + filepath.ToSlash(proxy), "file://" + path.Join(filepath.ToSlash(cache), "cache/download"),
	}
	for _, p := range strings.FieldsFunc(proxies, func(r rune) bool { return r == ',' || r == '|' }) {
		if p != "direct" {
			from = append(from, p)
		}
	}
	return &user{temp, append(
		os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "GOPRIVATE=", "GONOPROXY=none", "GONOSUMDB="+root,
		"GOPROXY="+strings.Join(from, ","),
		"GOMODCACHE="+filepath.Join(temp, "cache"), // or what is tried here would stay in the machine's
		"GOBIN="+filepath.Join(temp, "bin"),
	)}, nil
}

func (u *user) goes(dir string, args ...string) (string, error) {
	c := exec.Command("go", args...)
	c.Dir, c.Env = dir, u.environment
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, errs.String())
	}
	return string(out), err
}

// uses gets a module, builds a program with all of its packages, and installs its commands.
func (u *user) uses(folder, version string) error {
	start := time.Now()
	module := moduleOf(folder)
	dir := filepath.Join(u.temp, "user", filepath.FromSlash(folder))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := u.goes(dir, "mod", "init", "example.com/user"); err != nil {
		return err
	}
	if _, err := u.goes(dir, "get", module); err != nil { // the latest version
		return err
	}
	listed, err := u.goes(dir, "list", "-f", "{{if .GoFiles}}{{.ImportPath}} {{.Name}}{{end}}", module+"/...")
	if err != nil {
		return err
	}
	var program strings.Builder
	program.WriteString("package main\n\n")
	var packages, commands []string
	for line := range strings.Lines(listed) {
		name, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "", strings.Contains(name+"/", "/internal/"):
		case kind == "main":
			commands = append(commands, name)
		default:
			packages = append(packages, name)
			fmt.Fprintf(&program, "import _ %q\n", name)
		}
	}
	program.WriteString("\nfunc main() {}\n")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program.String()), 0o600); err != nil {
		return err
	}
	if _, err := u.goes(dir, "run", "."); err != nil {
		return err
	}
	modules, err := u.goes(dir, "list", "-m", "-f", "{{.Path}} {{.Version}} {{.Replace}}", "all")
	if err != nil {
		return err
	}
	for line := range strings.Lines(modules) {
		if strings.HasPrefix(line, root) && !strings.HasSuffix(line, " "+version+" <nil>\n") {
			return fmt.Errorf("%s is not %s", strings.TrimSpace(line), version)
		}
	}
	for _, command := range commands {
		if _, err := u.goes(u.temp, "install", command+"@"+version); err != nil {
			return err
		}
	}
	fmt.Printf("%s@%s: %d packages, %d commands, %.0f s\n",
		module, version, len(packages), len(commands), time.Since(start).Seconds())
	return nil
}
