package main

import (
	"context"
	"net/http"
	"time"
)

// A fate is what an upstream has in store for a call.
type fate struct {
	after      time.Duration // how long the answer takes
	fault      fault
	retryAfter time.Duration // announced by a 503 or 429; 0 means not at all
	killed     <-chan struct{}

	// hopeless means that the upstream was in no state to serve this call: more than two in three such calls fail, or
	// the answer comes after the caller has gone.
	hopeless bool
}

// An upstream decides what becomes of calls. Methods may be called at once.
type upstream interface {
	// serves says, without changing anything, whether a call made now would pay. Only the oracle asks, and whoever
	// counts refusals that were wrong.
	serves(now time.Duration, t *try) bool
	// take accepts a call.
	take(now time.Duration, t *try) fate
}

// A try is one call as a client makes it: what the client puts into the request's context so that both ends know
// which it is. The request itself carries its method and its URL, and nothing else that a breaker could look at.
type try struct {
	coin     coin
	route    route
	takes    time.Duration // if it takes long by nature, and is served at all
	lasts    time.Duration // of the body, from the headers to its end
	patience time.Duration // 0 for any time
	reached  chan struct{} // has an element once the upstream has seen the call
}

type tryKey struct{}

func tryOf(ctx context.Context) *try { return ctx.Value(tryKey{}).(*try) }

// A wire carries calls to an upstream in virtual time, and logs them. It is the base RoundTripper of every subject.
type wire struct {
	upstream
	clock *clock
	log   *callLog
	suits int // calls in flight that suit the upstream, of each client; 0 means any number
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	try := tryOf(ctx)
	select {
	case try.reached <- struct{}{}:
	default:
	}
	now := w.clock.now()
	fate := w.take(now, try)
	if try.takes > 0 && (fate.fault == faultNone || fate.fault == faultBody) {
		fate.after = try.takes
	}
	failed := true
	defer func() { w.log.add(now, fate.hopeless, failed, w.clock) }()

	timer := time.NewTimer(fate.after)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-fate.killed:
		// Connections of a crashed process break one after the other, not in one instant.
		time.Sleep(time.Duration(try.coin.uniform(drawReset) * float64(time.Millisecond)))
		return answer(req, faultReset, 0, 0)
	case <-timer.C:
		failed = fate.fault != faultNone
		return answer(req, fate.fault, fate.retryAfter, try.lasts)
	}
}

// servesNow says whether a call made now would pay.
func (w *wire) servesNow(t *try) bool { return w.serves(w.clock.now(), t) }

// A clock reads virtual time as the time since traffic began.
type clock struct{ start time.Time }

func (c *clock) now() time.Duration { return time.Since(c.start) }
