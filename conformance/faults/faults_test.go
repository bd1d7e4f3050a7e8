//go:build linux

package faults_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	page      = "../../docs/faults.md"
	mostCalls = 8 // of a circuit that stays closed
	leastWait = 50 * time.Millisecond
	mostWait  = generously
)

var write = flag.Bool("write", false, "write docs/faults.md and do not compare it")

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http has something to say of some of these upstreams
	os.Exit(m.Run())
}

// line is a fault on the page.
type line struct {
	name, gets, outcome, cause, circuit string
}

// TestFaults makes every fault three times: for a client without Fusebox, whose answer is the one to be had; for one
// with an Observer; and for one without, where a healthy call takes another way through the code.
func TestFaults(t *testing.T) {
	var lines []line
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { lines = append(lines, f.run(t)) })
	}
	if len(lines) < len(faults) {
		return // -run picked some of them, or one broke off: its test has said so
	}
	text := pageOf(lines)
	if *write {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
		return
	}
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	require.Contains(t, string(readme), fmt.Sprintf("lists %d faults", len(lines)))
	require.Equal(t, string(written), text, "the page is not what was seen; look at each difference, then: go test ./faults -run TestFaults -write")
}

func (f fault) run(t *testing.T) (l line) {
	for wait := leastWait; ; wait *= 2 {
		require.Less(t, wait, mostWait, "the wait was never long enough")
		if f.attempt(t, wait, &l) {
			return l
		}
	}
}

// attempt reports whether the wait was long enough.
func (f fault) attempt(t *testing.T, wait time.Duration, l *line) (whole bool) {
	var bare answer
	if !play(t, f, wait, asItIs, func(s *scene) { bare = s.call() }) {
		return false
	}
	*l = line{name: f.name, gets: bare.String(), outcome: "none"}
	same := func(s *scene) bool {
		got := s.call()
		if s.tooSoon {
			return false
		}
		if s.client.Timeout > 0 && got.err != nil && !strings.Contains(got.err.Error(), "Client.Timeout") {
			// http.Client finds out that it was its Timeout by a goroutine of its own, which was late.
			require.ErrorIs(t, got.err, context.DeadlineExceeded)
			got.Err, got.Is, got.IsTime = bare.Err, bare.Is, bare.IsTime
		}
		got.response, got.err = bare.response, bare.err // these are never the same; the rest is made of them
		require.Equal(t, bare, got, "what the caller gets without Fusebox and with it")
		return true
	}

	calls, unnamed := 0, 0
	var outcomes []transport.CallEnd
	var first transport.CallEnd
	var trips []transport.StateChange
	observer := transport.Observer{
		OnOutcome:     func(e transport.CallEnd) { outcomes = append(outcomes, e) },
		OnStateChange: func(c transport.StateChange) { trips = append(trips, c) },
	}
	var rt *transport.Transport
	fused := func(opts ...transport.Option) func(http.RoundTripper) http.RoundTripper {
		return func(base http.RoundTripper) http.RoundTripper {
			rt = transport.New(base, opts...)
			return rt
		}
	}
	circuit := func() transport.Snapshot {
		all := rt.Circuits()
		require.Len(t, all, 1)
		return all[0]
	}
	whole = play(t, f, wait, fused(transport.WithObserver(observer)), func(s *scene) {
		for len(trips) == 0 && calls < mostCalls {
			if !same(s) {
				return
			}
			calls++
			c := circuit()
			if f.want == unwatched {
				require.Empty(t, outcomes)
				require.Zero(t, c.FailedCalls+c.IgnoredCalls)
				continue
			}
			require.Len(t, outcomes, calls, "one outcome of each call")
			end := outcomes[calls-1]
			cause := end.Cause
			if s.client.Timeout > 0 && end.Cause.Deadline == policy.DeadlineNone {
				unnamed++ // that goroutine, again
				end.Cause.Deadline = policy.DeadlineClient
			}
			if calls == 1 {
				first = end
			}
			require.Equal(t, first.Outcome, end.Outcome)
			require.Equal(t, first.Cause, end.Cause)
			l.outcome, l.cause = end.Outcome.String(), causeText(end)
			if calls == 1 {
				assert.Equal(t, f.want.String(), end.Outcome.String(), "of %q: who is to blame?", end.Cause)
			}
			require.Equal(t, expected(end.Outcome, calls), [2]uint64{c.FailedCalls, c.IgnoredCalls})
			require.Zero(t, c.InFlight)
			if len(trips) == 0 {
				require.Equal(t, policy.Closed, c.State)
				require.Equal(t, int(c.FailedCalls), c.Failures, "in view")
				continue
			}
			require.Equal(t, policy.Open, c.State)
			require.Equal(t, cause, c.Cause)
		}
	})
	if !whole {
		return false
	}
	if calls > 0 && unnamed == calls {
		return false // none of them said whose Timeout it was
	}
	l.circuit = "stays closed"
	if len(trips) > 0 {
		l.circuit = fmt.Sprintf("trips after %d calls", calls)
		if wait := trips[0].NextProbe.Sub(trips[0].At); wait > 100*time.Millisecond {
			l.circuit += fmt.Sprintf(", no probe for %v", wait)
		}
	}

	// The wait is longer here, so that a machine that stops for a moment does not make a probe of the call that is to be
	// refused; and nobody is told anything.
	return play(t, f, wait, fused(transport.WithPolicy(policy.Adaptive{Probe: policy.Squares{Wait: time.Hour}})), func(s *scene) {
		for range calls {
			if !same(s) {
				return
			}
		}
		if len(trips) == 0 {
			require.Equal(t, policy.Closed, circuit().State)
			return
		}
		require.Equal(t, policy.Open, circuit().State)
		opened := s.opened.Load()
		s.before, s.onBody, s.after = nil, nil, nil
		refused := s.call()
		require.NoError(t, refused.err)
		require.True(t, transport.Refused(refused.response))
		require.Equal(t, opened, s.opened.Load(), "an open circuit makes no connection")
	})
}

func asItIs(base http.RoundTripper) http.RoundTripper { return base }

func expected(of policy.Outcome, calls int) (failedAndIgnored [2]uint64) {
	switch of {
	case policy.Failure:
		failedAndIgnored[0] = uint64(calls)
	case policy.Ignored:
		failedAndIgnored[1] = uint64(calls)
	}
	return failedAndIgnored
}

func causeText(end transport.CallEnd) string {
	if end.Outcome == policy.Success {
		return ""
	}
	return end.Cause.String()
}

const intro = `# What every fault comes to

Each line is a fault that was really made, on loopback, for a call through ` + "`http.Client`" + ` and a ` + "`transport.New(base)`" + ` with its
defaults, over and over until the circuit tripped or %d calls were made. What the caller gets was the same without Fusebox: status, header,
body, error text, and all that ` + "`errors.Is`" + ` and ` + "`errors.As`" + ` find. Afterwards no goroutine and no connection was left. The page is written by
` + "`cd conformance && go test ./faults -run TestFaults -write`" + ` and by no hand; without ` + "`-write`" + ` the test compares it with what it sees. Addresses,
times and stream numbers are replaced. Two differences are not counted, since net/http and net leave them to chance: a call ended by
` + "`http.Client.Timeout`" + ` says "context deadline exceeded" or, behind any RoundTripper but net/http's own, "net/http: request canceled"; behind
those its error can also lack "(Client.Timeout exceeded …)", as the cause can "(client)". And a dial that times out has one of two types of error, of which
only one is ` + "`context.DeadlineExceeded`" + `.

| fault | what the caller gets | outcome | cause | circuit afterwards |
|---|---|---|---|---|
`

func pageOf(lines []line) string {
	var b strings.Builder
	fmt.Fprintf(&b, intro, mostCalls)
	for _, l := range lines {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", l.name, l.gets, l.outcome, l.cause, l.circuit)
	}
	return b.String()
}
