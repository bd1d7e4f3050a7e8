package main

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// A trace is all that is known of one subject in one world.
type trace struct {
	arrivals []arrival
	results  []result
	calls    callLog
}

// simulate runs a subject through a world, in a bubble of its own.
func simulate(t *testing.T, w world, arrivals []arrival, s subject) *trace {
	tr := &trace{arrivals: arrivals, results: make([]result, len(arrivals))}
	bubble(t, s.leaks, func() {
		clock := &clock{}
		base := &wire{clock: clock, log: &tr.calls, suits: w.suits}
		clients := make([]http.RoundTripper, w.clients)
		newClient := s.new
		if s.fleet != nil {
			newClient = s.fleet()
		}
		for i := range clients {
			clients[i] = newClient(base)
			time.Sleep(1234567 * time.Nanosecond) // processes do not start, nor their tickers tick, in one instant
		}
		clock.start = time.Now()
		base.upstream = w.upstream(w)
		var wg sync.WaitGroup
		for i, a := range arrivals {
			time.Sleep(a.at - clock.now())
			wg.Go(func() { tr.results[i] = w.request(a, clients[a.client], base) })
		}
		wg.Wait()
		if s.fleet != nil {
			time.Sleep(time.Minute) // for what the members have still to tell each other
		}
	})
	return tr
}
