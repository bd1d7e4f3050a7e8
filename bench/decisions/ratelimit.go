package main

import (
	"sync"
	"time"
)

// Limits are what a rate limit goes by.
type limits struct {
	latency latencies
	rate    float64       // calls a second
	burst   float64       // size of a bucket that fills at that rate
	window  time.Duration // in place of a bucket: that many seconds' calls in each window
	says    bool          // Retry-After, rounded up to seconds
}

// A rateLimit is an upstream that answers 429 to what is beyond a rate, and serves the rest.
type rateLimit struct {
	limits

	mu     sync.Mutex
	at     time.Duration // of what follows
	tokens float64       // in the bucket, or left in the window
}

func newRateLimit(l limits) *rateLimit { return &rateLimit{limits: l, tokens: l.full()} }

// full returns how many calls are served at once at most.
func (l limits) full() float64 {
	if l.window > 0 {
		return max(1, l.rate*l.window.Seconds())
	}
	return l.burst
}

// settle brings the tokens up to date. r.mu must be held.
func (r *rateLimit) settle(now time.Duration) {
	switch {
	case r.window == 0:
		r.tokens = min(r.full(), r.tokens+r.rate*(now-r.at).Seconds())
	case now/r.window != r.at/r.window:
		r.tokens = r.full()
	}
	r.at = now
}

// wait returns how long it takes until the next call is served.
func (r *rateLimit) wait(now time.Duration) time.Duration {
	if r.window > 0 {
		return r.window - now%r.window
	}
	return scaled(time.Second, (1-r.tokens)/r.rate)
}

func (r *rateLimit) serves(now time.Duration, _ *try) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(now)
	return r.tokens >= 1
}

func (r *rateLimit) take(now time.Duration, t *try) fate {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(now)
	f := fate{after: r.latency.of(t.coin)}
	if r.tokens >= 1 {
		r.tokens--
		return f
	}
	f.after /= 3
	f.fault, f.hopeless = fault429, true
	if r.says {
		f.retryAfter = r.wait(now)
	}
	return f
}
