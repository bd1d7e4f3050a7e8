package main

import "time"

// Latency of a healthy upstream: 30 ms at the median, 76 ms at the 99th percentile.
const (
	latency      = 30 * time.Millisecond
	latencySigma = 0.4
)

// forever is longer than any caller waits.
const forever = 24 * time.Hour

// paysUpTo is the share of failures up to which a call pays: the expected good answer, 1-f, outweighs the expected
// waste, f/2.
const paysUpTo = 2.0/3 + 1e-9

// A script is an upstream that fails by the clock, whatever traffic it gets.
type script struct {
	share      func(t time.Duration) float64               // of calls that fail
	kind       func(t time.Duration, c coin) fault         // how they fail; nil: half 503, half reset
	slowness   func(t time.Duration) float64               // factor of the latency; nil: 1
	retryAfter func(t time.Duration, c coin) time.Duration // in 503s; nil: none
	hangFor    time.Duration                               // how long a hanging call hangs; 0: forever
}

func (s *script) serves(now, _ time.Duration, _ coin) bool { return s.share(now) <= paysUpTo }

func (s *script) take(now, _ time.Duration, c coin) fate {
	share := s.share(now)
	f := fate{after: c.lognormal(drawLatency, latency, latencySigma), hopeless: share > paysUpTo}
	if s.slowness != nil {
		f.after = time.Duration(float64(f.after) * s.slowness(now))
	}
	if c.uniform(drawFault) >= share {
		return f
	}
	switch {
	case s.kind != nil:
		f.fault = s.kind(now, c)
	case c.uniform(drawKind) < 0.5:
		f.fault = fault503
	default:
		f.fault = faultReset
	}
	switch f.fault {
	case faultRefused:
		f.after = time.Millisecond/2 + time.Duration(c.uniform(drawLatency)*float64(time.Millisecond))
	case fault503:
		f.after /= 3
		if s.retryAfter != nil {
			f.retryAfter = s.retryAfter(now, c)
		}
	case faultHang:
		f.after = s.hangFor
		if f.after == 0 {
			f.after = forever
		}
	}
	return f
}

// always returns a kind of failure that does not vary.
func always(f fault) func(time.Duration, coin) fault {
	return func(time.Duration, coin) fault { return f }
}
