// Command way counts the functions of this module that a request passes through, and the files that they are in: for a
// healthy call without a body and with one, a refusal by an open circuit, and a probe that closes it. Run it in the
// module's root:
//
//	go run ./internal/way
//
// It builds itself anew with coverage, clears the counters before the one call, and asks go tool covdata what was
// entered. Methods without a statement, such as most of peers.Alone, have no counter. With -v it lists the functions.
// It fails if a call passes through more of them than it did when the figures below were set, or through a file that is
// of fleets, since this process is in none.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/coverage"
	"slices"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/transport"
)

const module = "github.com/fusebox-go/fusebox/"

// A way is a kind of request.
type way struct {
	name    string
	most    int // functions; to be lowered where a way becomes shorter
	prepare func(*scene)
}

var ways = []way{
	{"healthy", 9, func(s *scene) { s.warm() }},
	{"healthy-body", 15, func(s *scene) { s.body = "hello"; s.warm() }},
	{"refused", 36, func(s *scene) { s.open(); s.call() }},
	{"probe", 125, func(s *scene) { s.open(); time.Sleep(wait) }},
}

// wait is longer than it takes until a circuit is due for its first probe.
const wait = 150 * time.Millisecond

// scene is a client of an upstream that does as it is told.
type scene struct {
	client http.RoundTripper
	status int
	body   string
}

// RoundTrip is the upstream's.
func (s *scene) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.status, ProtoMajor: 1, Header: make(http.Header), Request: req,
		ContentLength: int64(len(s.body)), Body: io.NopCloser(struct{ io.Reader }{strings.NewReader(s.body)}),
	}, nil
}

// call makes a request and reads what comes to its end.
func (s *scene) call() {
	req, err := http.NewRequest(http.MethodGet, "http://upstream.example/", nil)
	if err != nil {
		log.Fatal(err)
	}
	resp, err := s.client.RoundTrip(req)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
}

// warm makes the calls of which the first make the circuit and are timed; nothing is timed for a while after that.
func (s *scene) warm() {
	for range 3 {
		s.call()
	}
}

// open has the circuit open.
func (s *scene) open() {
	s.warm()
	s.status = http.StatusInternalServerError
	for range 6 {
		s.call()
	}
	s.status = http.StatusOK
}

// run makes one call and writes what it passed through to a folder.
func (w way) run(folder string) error {
	s := &scene{status: http.StatusOK}
	s.client = transport.New(s)
	w.prepare(s)
	if err := coverage.ClearCounters(); err != nil {
		return err
	}
	s.call()
	return errors.Join(coverage.WriteCountersDir(folder), coverage.WriteMetaDir(folder))
}

func main() {
	log.SetFlags(0)
	verbose := flag.Bool("v", false, "list the functions")
	name := flag.String(
		"way", "", "make the one call of that name; only for a binary with coverage, which this one makes",
	)
	folder := flag.String("folder", "", "where to, with -way")
	flag.Parse()
	if *name != "" {
		at := slices.IndexFunc(ways, func(w way) bool { return w.name == *name })
		if at < 0 {
			log.Fatalf("there is no way called %q", *name)
		}
		if err := ways[at].run(*folder); err != nil {
			log.Fatal(err)
		}
		return
	}
	ok, err := count(*verbose)
	if err != nil {
		log.Fatal(err)
	}
	if !ok {
		os.Exit(1)
	}
}

// count has all ways gone, prints what they passed through, and reports whether that is no more than it may be.
func count(verbose bool) (ok bool, err error) {
	temp, err := os.MkdirTemp("", "way")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(temp)
	binary := filepath.Join(temp, "way.exe")
	build := exec.Command(
		"go", "build", "-cover", "-covermode=atomic", "-coverpkg="+module+"...", "-o", binary, "./internal/way",
	)
	if err := run(build); err != nil {
		return false, err
	}
	ok = true
	all := make(map[string]bool)
	for _, w := range ways {
		folder := filepath.Join(temp, w.name)
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return false, err
		}
		call := exec.Command(binary, "-way", w.name, "-folder", folder)
		call.Env = append(os.Environ(), "GOCOVERDIR="+temp) // where what comes at its end does not matter
		if err := run(call); err != nil {
			return false, err
		}
		functions, err := entered(folder)
		if err != nil {
			return false, err
		}
		files := make(map[string]bool)
		for _, f := range functions {
			files[f.file], all[f.file] = true, true
		}
		n, err := lines(files)
		if err != nil {
			return false, err
		}
		fmt.Printf("%-12s  %2d functions in %2d files of %d lines\n", w.name, len(functions), len(files), n)
		if len(functions) > w.most {
			ok = false
			fmt.Printf("    which is more than %d\n", w.most)
		}
		for file := range files {
			if ofFleets(file) {
				ok = false
				fmt.Printf("    %s is of fleets, and this process is in none\n", file)
			}
		}
		if verbose {
			for _, f := range functions {
				fmt.Printf("    %s %s\n", f.file, f.name)
			}
		}
	}
	n, err := lines(all)
	if err != nil {
		return false, err
	}
	fmt.Printf("together                   %2d files of %d lines\n", len(all), n)
	return ok, nil
}

// ofFleets reports whether a file is of circuits in many processes.
func ofFleets(file string) bool {
	return strings.Contains(file, "fleet") ||
		strings.HasPrefix(file, "internal/peers/") && file != "internal/peers/peers.go"
}

// function is one of this module.
type function struct{ file, name string }

// entered returns the functions of which something was done.
func entered(folder string) (functions []function, err error) {
	out, err := exec.Command("go", "tool", "covdata", "func", "-i="+folder).Output()
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line) // file:line: name share
		if len(fields) != 3 || fields[2] == "0.0%" {
			continue
		}
		file, _, _ := strings.Cut(fields[0], ":")
		file, ours := strings.CutPrefix(file, module)
		if !ours || strings.HasPrefix(file, "internal/way/") {
			continue
		}
		functions = append(functions, function{file, fields[1]})
	}
	if len(functions) == 0 {
		return nil, errors.New("nothing was entered: is this not the module's root?")
	}
	return functions, nil
}

// lines counts those of files.
func lines(files map[string]bool) (n int, err error) {
	for file := range files {
		text, err := os.ReadFile(filepath.FromSlash(file))
		if err != nil {
			return 0, err
		}
		n += bytes.Count(text, []byte("\n"))
	}
	return n, nil
}

func run(c *exec.Cmd) error {
	c.Stderr = os.Stderr
	return c.Run()
}
