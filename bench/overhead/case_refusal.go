package main

import (
	"fmt"
	"net/http"
	"testing"
)

// tripped is the prepare of the refusal case. Throttlers forget in seconds, so that every measurement trips anew.
func tripped(s subject) *rig {
	if s.name == bare.name {
		return over(empty, serial)(s)
	}
	base := &failing{}
	rt := s.new(base)
	return &rig{rt: rt, bench: func(b *testing.B) error {
		c := newCaller(upstream)
		defer c.cancel()
		if err := trip(c, rt, base); err != nil {
			return err
		}
		before := base.calls.Load()
		b.ReportAllocs()
		for b.Loop() {
			c.ask(rt)
		}
		if passed := base.calls.Load() - before; passed > 10+int64(b.N)/100 {
			return fmt.Errorf("%d of %d calls were not refused", passed, b.N)
		}
		return nil
	}}
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
