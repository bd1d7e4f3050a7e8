package main

import "time"

// forever is longer than any caller waits.
const forever = 24 * time.Hour

// paysUpTo is the share of failures up to which a call pays: the expected good answer, 1-f, outweighs the expected
// waste, f/2.
const paysUpTo = 2.0/3 + 1e-9

// A script is an upstream that fails by the clock, whatever traffic it gets.
type script struct {
	share      func(t time.Duration) float64               // of calls that fail
	part       func(t time.Duration, r route) float64      // of calls to a part of its URLs; nil: share says it all
	kind       func(t time.Duration, c coin) fault         // how they fail; nil: half 503, half reset
	kindOf     func(t time.Duration, try *try) fault       // in place of kind
	slowness   func(t time.Duration) float64               // factor of the latency; nil: 1
	retryAfter func(t time.Duration, c coin) time.Duration // in 503s; nil: none
	hangFor    time.Duration                               // how long a hanging call hangs; 0: forever
	latency    latencies                                   // the zero value: 30 ms at the median
}

// failing returns the share of calls that fail by themselves, of those that are like this one.
func (s *script) failing(now time.Duration, t *try) float64 {
	if s.part != nil {
		return s.part(now, t.route)
	}
	return s.share(now)
}

// vain returns the share of calls that fail or are too late for their callers.
func (s *script) vain(now time.Duration, t *try) float64 {
	share := s.failing(now, t)
	if s.slowness == nil || t.takes > 0 || t.patience == 0 {
		return share
	}
	return share + (1-share)*s.latency.beyond(float64(t.patience)/s.slowness(now))
}

func (s *script) serves(now time.Duration, t *try) bool { return s.vain(now, t) <= paysUpTo }

func (s *script) take(now time.Duration, t *try) fate {
	c, share := t.coin, s.failing(now, t)
	f := fate{after: s.latency.of(c), hopeless: !s.serves(now, t)}
	if s.slowness != nil {
		f.after = time.Duration(float64(f.after) * s.slowness(now))
	}
	if c.uniform(drawFault) >= share {
		return f
	}
	switch {
	case s.kindOf != nil:
		f.fault = s.kindOf(now, t)
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
	case fault503, fault500, fault429:
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
