package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// The play goes over real sockets, so its clock is real too; the script is a short one.
func TestQuickstartClosesOpensAndClosesAgain(t *testing.T) {
	short := script{
		well: 200 * time.Millisecond, failing: 400 * time.Millisecond, hanging: 600 * time.Millisecond,
		after: 200 * time.Millisecond, patience: 20 * time.Second,
		every: 10 * time.Millisecond, timeout: 150 * time.Millisecond,
		policy: policy.Classic{Failures: 5, OpenFor: 200 * time.Millisecond, Probes: 2},
	}
	var out bytes.Buffer
	if err := run(&out, false, short); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	text := out.String()
	rest := text
	for _, headline := range []string{
		"server   works", "server   answers 500", "circuit  open: tripped by 5 failures in a row", "refused in",
		"circuit  half-open: ", "server   works", "circuit  closed: recovered", "answered in", "Spared", "Recovered", "Callers",
	} {
		_, after, found := strings.Cut(rest, headline)
		if !found {
			t.Fatalf("%q does not follow in:\n%s", headline, text)
		}
		rest = after
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("there is colour in a buffer:\n%s", text)
	}
}

func TestCheckReportsWhatDidNotHappen(t *testing.T) {
	c, o, h := policy.Closed, policy.Open, policy.HalfOpen
	for _, test := range []struct {
		states []policy.State
		ok     bool
	}{
		{[]policy.State{c, o, h, c}, true},
		{[]policy.State{c, o, h, o, h, c}, true},
		{[]policy.State{c}, false},
		{[]policy.State{c, o, h, o}, false},
		{[]policy.State{c, o, c}, false},
		{[]policy.State{c, o, h, c, o}, false},
	} {
		if err := check(test.states); (err == nil) != test.ok {
			t.Errorf("check(%s) is %v", words(test.states), err)
		}
	}
}
