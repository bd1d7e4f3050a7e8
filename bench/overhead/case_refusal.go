package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tripped is the prepare of the refusal case. Throttlers forget in seconds, so that every measurement trips anew.
func tripped(s subject) *rig {
	if s.name == bare.name {
		return over(empty, serial)(s)
	}
	return trippedFirst(s, func(b *testing.B, c *caller, rt http.RoundTripper) {
		b.ReportAllocs()
		for b.Loop() {
			c.ask(rt)
		}
	})
}

// trippedForAll is tripped with many goroutines, which ask at once.
func trippedForAll(s subject) *rig {
	if s.name == bare.name {
		return over(empty, crowd)(s)
	}
	return trippedFirst(s, func(b *testing.B, _ *caller, rt http.RoundTripper) {
		b.ResetTimer()
		askAll(b, rt)
	})
}

// trippedFirst measures what asks a circuit that its caller has tripped.
func trippedFirst(s subject, ask func(*testing.B, *caller, http.RoundTripper)) *rig {
	base := &failing{}
	rt := s.new(base)
	return &rig{rt: rt, bench: func(b *testing.B) error {
		c := newCaller(upstream)
		defer c.cancel()
		if err := trip(c, rt, base); err != nil {
			return err
		}
		before := base.calls.Load()
		ask(b, c, rt)
		return refused(b, base.calls.Load()-before)
	}}
}

// halfOpenForAll is trippedForAll of a circuit that is half-open and has as many calls in flight as may be.
func halfOpenForAll(s subject) *rig {
	if s.name == bare.name {
		return over(empty, crowd)(s)
	}
	base := &hanging{}
	rt := s.new(base)
	return &rig{rt: rt, bench: func(b *testing.B) error {
		let, err := base.fill(rt, s.probes)
		defer let()
		if err != nil {
			return err
		}
		before := base.calls.Load()
		b.ResetTimer()
		askAll(b, rt)
		b.StopTimer()
		return refused(b, base.calls.Load()-before)
	}}
}

// goroutines is how many ask or call at once.
const goroutines = 64

func askAll(b *testing.B, rt http.RoundTripper) {
	b.ReportAllocs()
	b.SetParallelism((goroutines + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		c := newCaller(upstream)
		defer c.cancel()
		for pb.Next() {
			c.ask(rt)
		}
	})
}

// crowd is askAll for calls that go well.
func crowd(b *testing.B, rt http.RoundTripper, _ string) error {
	askAll(b, rt)
	return nil
}

func refused(b *testing.B, passed int64) error {
	if passed > 10+int64(b.N)/100 {
		return fmt.Errorf("%d of %d calls were not refused", passed, b.N)
	}
	return nil
}

// trip calls until a thousand calls in a row were refused, but for one. Throttlers always let some through.
func trip(c *caller, rt http.RoundTripper, base *failing) error {
	const most, enough = 100_000, 1000
	for range most / enough {
		before := base.calls.Load()
		for range enough {
			c.ask(rt)
		}
		if base.calls.Load()-before <= 1 {
			return nil
		}
	}
	return fmt.Errorf("not open after %d calls that failed", most)
}

// hanging is a base whose calls fail at first, then go well for a number of them, and then hang.
type hanging struct {
	calls atomic.Int64
	fails atomic.Bool
	well  atomic.Int64 // calls that do not hang
	let   atomic.Pointer[chan struct{}]
}

// RoundTrip implements http.RoundTripper.
func (h *hanging) RoundTrip(req *http.Request) (*http.Response, error) {
	h.calls.Add(1)
	switch {
	case h.fails.Load():
		return answer(req, http.StatusInternalServerError, http.NoBody, 0), nil
	case h.well.Add(-1) >= 0:
		return answer(req, http.StatusOK, http.NoBody, 0), nil
	}
	<-*h.let.Load()
	return answer(req, http.StatusOK, http.NoBody, 0), nil
}

// fill opens a circuit, waits until it is half-open, which takes that many probes that go well, and has as many calls
// hang as it lets through. Let lets go of these and waits for them.
func (h *hanging) fill(rt http.RoundTripper, probes int64) (let func(), err error) {
	hang := make(chan struct{})
	var out sync.WaitGroup
	let = func() { close(hang); out.Wait() }
	h.let.Store(&hang)
	h.fails.Store(true)
	c := newCaller(upstream)
	defer c.cancel()
	for range 100 {
		c.ask(rt)
	}
	h.well.Store(probes)
	h.fails.Store(false)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	before := h.calls.Load()
	for ctx.Err() == nil {
		if h.calls.Load()-before > probes { // half-open, and one hangs
			if h.asksInVain(rt, 100) {
				return let, nil
			}
		}
		ended := make(chan struct{})
		out.Go(func() {
			defer close(ended)
			c := newCaller(upstream)
			defer c.cancel()
			c.ask(rt)
		})
		select {
		case <-ended:
		case <-time.After(time.Millisecond): // it hangs
		}
	}
	return let, errors.New("not half-open with all places taken after ten seconds")
}

// asksInVain reports whether a number of calls are all refused. One that is not hangs, and so nobody waits for it.
func (h *hanging) asksInVain(rt http.RoundTripper, n int) bool {
	before, ended := h.calls.Load(), make(chan struct{})
	go func() {
		defer close(ended)
		c := newCaller(upstream)
		defer c.cancel()
		for range n {
			c.ask(rt)
		}
	}()
	select {
	case <-ended:
	case <-time.After(100 * time.Millisecond):
		return false
	}
	return h.calls.Load() == before
}
