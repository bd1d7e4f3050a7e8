// Package tried is how tests say what they tried to break Fusebox with, for the table in SECURITY.md. `go run ./internal/tried/table`
// runs them and writes it.
package tried

import (
	"fmt"
	"strings"
	"testing"
)

// Prefix is what a row begins with in the output of a test.
const Prefix = "tried | "

// Row logs one: what was tried, what it came to before there was a bound, the bound that the test holds it to, and what it came to in
// this run. Before is empty if that was not measured.
func Row(t testing.TB, what, before, bound, format string, measured ...any) {
	t.Helper()
	name, _, _ := strings.Cut(t.Name(), "/")
	t.Logf(Prefix+"%s | %s | %s | %s | `%s`", what, before, bound, fmt.Sprintf(format, measured...), name)
}
