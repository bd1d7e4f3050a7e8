package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// timeline prints what happens as it happens: a headline for each change, and under it what the callers got until
// the next.
type timeline struct {
	out    io.Writer
	colour bool
	start  time.Time
	closed chan struct{} // gets a value when the circuit closes

	mu      sync.Mutex
	parts   []*part // the last one is now
	printed int     // parts whose callers are printed
	calls   []result
	changes []transport.StateChange
	modes   []modeChange
}

// part is the time from one headline to the next.
type part struct {
	headline string
	out      int // callers that are not back
	took     [refused + 1][]time.Duration
}

type result struct {
	started time.Time
	got     answer
}

type modeChange struct {
	at   time.Time
	mode mode
}

func newTimeline(out io.Writer, colour bool) *timeline {
	return &timeline{out: out, colour: colour, start: time.Now(), closed: make(chan struct{}, 1)}
}

// server is told of a new mode of the server.
func (t *timeline) server(m mode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.modes = append(t.modes, modeChange{now, m})
	t.begin(now, "server ", t.paint(colourOfMode[m], m.String()))
}

// circuit is the observer of the circuit's changes.
func (t *timeline) circuit(change transport.StateChange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes = append(t.changes, change)
	t.begin(change.At, "circuit", t.paint(colourOfState[change.To], change.To.String())+": "+reason(change))
	if change.To == policy.Closed {
		select {
		case t.closed <- struct{}{}:
		default:
		}
	}
}

func reason(change transport.StateChange) string {
	switch {
	case change.To == policy.Open && change.From == policy.Closed:
		return fmt.Sprintf("tripped by %d failures in a row, the last one %v", change.Failures, change.Cause)
	case change.To == policy.Open:
		return fmt.Sprintf("%s, %v", change.Reason, change.Cause)
	case change.To == policy.Closed:
		return fmt.Sprintf("%s, %d probes went well", change.Reason, change.Successes)
	}
	return string(change.Reason) + ", probes may go"
}

// begin starts a part. It is called with the lock.
func (t *timeline) begin(at time.Time, who, what string) {
	seconds := max(0, at.Sub(t.start)).Seconds()
	t.parts = append(t.parts, &part{headline: fmt.Sprintf("%6.2f s  %s  %s\n", seconds, who, what)})
	t.print()
}

// join counts a caller in.
func (t *timeline) join() *part {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.parts[len(t.parts)-1]
	now.out++
	return now
}

// move counts a caller in now and no longer where it was.
func (t *timeline) move(from *part) *part {
	to := t.join()
	t.mu.Lock()
	defer t.mu.Unlock()
	from.out--
	return to
}

// leave counts a caller out.
func (t *timeline) leave(c *caller, got answer, took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.part.out--
	c.part.took[got] = append(c.part.took[got], took)
	t.calls = append(t.calls, result{c.started, got})
	t.print()
}

// print prints the parts that are over and have all their callers back, in order, each with its headline before it.
func (t *timeline) print() {
	for i := t.printed; i < len(t.parts); i++ {
		p := t.parts[i]
		if p.headline != "" {
			io.WriteString(t.out, p.headline)
			p.headline = ""
		}
		if i == len(t.parts)-1 || p.out > 0 {
			return
		}
		t.printCallers(p)
		t.printed++
	}
}

func (t *timeline) printCallers(p *part) {
	if text := t.tally(p.took); text != "" {
		fmt.Fprintf(t.out, "          callers  %s\n", text)
	}
}

func (t *timeline) tally(took [refused + 1][]time.Duration) string {
	var texts []string
	for got, times := range took {
		if len(times) == 0 {
			continue
		}
		slices.Sort(times)
		text := fmt.Sprintf("%d %s", len(times), wordOfAnswer[got])
		texts = append(texts, t.paint(colourOfAnswer[answer(got)], text)+" in "+median(times))
	}
	return strings.Join(texts, ", ")
}

// median writes the time of most, if they are many.
func median(sorted []time.Duration) string {
	if len(sorted) == 1 {
		return short(sorted[0])
	}
	return "about " + short(sorted[len(sorted)/2]) + " each"
}

// short writes a time with two digits.
func short(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 100*unit {
			return d.Round(unit).String()
		}
	}
}

func (t *timeline) awaitClosed(ctx context.Context) {
	select {
	case <-t.closed:
	case <-ctx.Done():
	}
}

func (t *timeline) states() []policy.State {
	t.mu.Lock()
	defer t.mu.Unlock()
	states := []policy.State{policy.Closed}
	for _, change := range t.changes {
		states = append(states, change.To)
	}
	return states
}

func words(states []policy.State) string {
	texts := make([]string, len(states))
	for i, state := range states {
		texts[i] = state.String()
	}
	return strings.Join(texts, ", ")
}
