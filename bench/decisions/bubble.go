package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inTest runs f as a test function would be run, so that a program, too, has the *testing.T that synctest asks for,
// and ends the process with f's exit code. testing.Main is kept in the standard library for programs that simulate
// `go test`.
func inTest(f func(t *testing.T) int) {
	os.Args = os.Args[:1] // testing.Main parses the command line for flags of its own
	every := func(pat, str string) (bool, error) { return true, nil }
	testing.Main(every, []testing.InternalTest{{Name: "decisions", F: func(t *testing.T) { os.Exit(f(t)) }}}, nil, nil)
}

// epoch is when every simulation begins. A bubble's clock starts in the year 2000, before the process did; packages
// that keep a start time from their initialisation, go-zero's for one, would see time before its beginning.
var epoch = time.Date(2100, time.January, 1, 0, 0, 0, 0, time.UTC)

// bubble runs f in virtual time, from epoch on. If leaks is set, f may leave goroutines behind that never end: two of
// the peers start one per breaker and have no way to stop it.
func bubble(t *testing.T, leaks bool, f func()) {
	done := false
	defer func() {
		switch r := recover(); {
		case r == nil:
		case done && leaks && strings.Contains(fmt.Sprint(r), "blocked goroutines remain"):
		default:
			panic(r)
		}
	}()
	synctest.Test(t, func(*testing.T) {
		time.Sleep(time.Until(epoch))
		f()
		done = true
	})
}
