// Quickstart plays an outage on loopback: a server works, answers 500, hangs, and works again, while callers
// go on calling it through Fusebox. It prints what the circuit does and what the callers get.
//
//	go run ./examples/quickstart
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// script says what happens when.
type script struct {
	well, failing, hanging time.Duration // how long the server is so, one after the other; then it is well
	after                  time.Duration // how long to go on once the circuit has closed again
	patience               time.Duration // how long to wait for that
	every                  time.Duration // from one call to the next
	timeout                time.Duration // of a caller
	policy                 policy.Classic
}

var tenSeconds = script{
	well: 1500 * time.Millisecond, failing: 2 * time.Second, hanging: 2100 * time.Millisecond,
	after: 1500 * time.Millisecond, patience: 8 * time.Second,
	every: 10 * time.Millisecond, timeout: 300 * time.Millisecond,
	policy: policy.Classic{Failures: 5, OpenFor: time.Second, Probes: 2},
}

func main() {
	if err := run(os.Stdout, isTerminal(os.Stdout), tenSeconds); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, colour bool, s script) error {
	upstream, err := startServer()
	if err != nil {
		return err
	}
	defer upstream.Close()

	fmt.Fprintf(
		out, "A server on loopback works, fails, hangs and recovers. Every %v it is called through Fusebox.\n", s.every,
	)
	fmt.Fprintf(out,
		"%d failures in a row open the circuit for %v; then %d probes decide. Callers wait %v at most.\n\n",
		s.policy.Failures, s.policy.OpenFor, s.policy.Probes, s.timeout)
	line := newTimeline(out, colour)

	// This is all that there is to set up.
	breaker := transport.New(nil,
		transport.WithPolicy(s.policy),
		transport.WithObserver(transport.Observer{
			OnStateChange: line.circuit,
			OnCall:        func(start transport.CallStart) { callerOf(start.Request.Context()).letThrough() },
		}),
	)
	client := &http.Client{Transport: breaker, Timeout: s.timeout}

	line.server(works)
	callers := callEvery(s.every, client, upstream.url, line)
	play(s, upstream, line)
	callers.stop()
	client.CloseIdleConnections()
	line.summary(upstream)
	return check(line.states())
}

// play changes the server by the script and ends a while after the circuit has closed again.
func play(s script, upstream *server, line *timeline) {
	time.Sleep(s.well + s.every/2) // the half, so that no change of the server meets a call on its way
	for _, scene := range []struct {
		mode mode
		last time.Duration
	}{{fails, s.failing}, {hangs, s.hanging}, {works, 0}} {
		line.server(scene.mode)
		upstream.set(scene.mode)
		time.Sleep(scene.last)
	}
	patience, cancel := context.WithTimeout(context.Background(), s.patience)
	defer cancel()
	line.awaitClosed(patience)
	time.Sleep(s.after)
}

// check reports an error unless the circuit opened, and closed again by way of half-open.
func check(states []policy.State) error {
	want := []policy.State{policy.Closed, policy.Open, policy.HalfOpen, policy.Closed}
	met := 0
	for _, state := range states {
		if met < len(want) && state == want[met] {
			met++
		}
	}
	if met < len(want) || states[len(states)-1] != policy.Closed {
		return errors.New("the circuit should go closed, open, half-open, closed; it went " + words(states))
	}
	return nil
}

// isTerminal reports whether colour makes sense.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" &&
		os.Getenv("TERM") != "dumb"
}
