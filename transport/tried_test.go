package transport_test

import (
	"fmt"
	"testing"
)

// tried logs a row of the table of what was tried: the case, the bound that holds, and what it came to in this run.
func tried(t *testing.T, what, bound, format string, measured ...any) {
	t.Helper()
	t.Logf("tried | %s | %s | %s", what, bound, fmt.Sprintf(format, measured...))
}
