package main

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// A call is what the upstream saw of a try.
type call struct {
	begin, end time.Duration
	hopeless   bool
	failed     bool
}

// A callLog keeps the calls that reached the upstream. Its methods may be called at once.
type callLog struct {
	mu    sync.Mutex
	calls []call
}

// add logs a call that ends now.
func (l *callLog) add(begin time.Duration, hopeless, failed bool, clock *clock) {
	end := clock.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, call{begin, end, hopeless, failed})
}

// wasted returns how many calls the upstream was in no state to serve.
func (l *callLog) wasted() int {
	n := 0
	for _, c := range l.calls {
		if c.hopeless {
			n++
		}
	}
	return n
}

// vain returns how many of the wasted calls failed.
func (l *callLog) vain() int {
	n := 0
	for _, c := range l.calls {
		if c.hopeless && c.failed {
			n++
		}
	}
	return n
}

// burst returns the largest number of hopeless calls in flight at one time, of those that began after a time.
func (l *callLog) burst(after time.Duration) int {
	type edge struct {
		at time.Duration
		by int
	}
	var edges []edge
	for _, c := range l.calls {
		if c.hopeless && c.begin > after {
			edges = append(edges, edge{c.begin, 1}, edge{c.end, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.by, b.by)) })
	n, most := 0, 0
	for _, e := range edges {
		n += e.by
		most = max(most, n)
	}
	return most
}
