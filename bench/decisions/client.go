package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// An outcome is what came of a request in the end, all its tries counted.
type outcome uint8

const (
	outcomeGood      outcome = iota // 200 and a whole body
	outcomeRefused                  // the last try never reached the upstream
	outcomeFailed                   // the last try reached it in vain
	outcomeCancelled                // the caller went away
)

// A result is all that is kept of one request.
type result struct {
	outcome  outcome
	refusals int           // tries that never reached the upstream
	refused  time.Duration // when the first refusal was, if there was one
	wrongly  bool          // refused in the end, though the call would have paid
	held     time.Duration // for which failing tries kept the caller waiting
}

const host = "upstream.test"

// A route is what a request asks for.
type route struct {
	method, path string
	part         int // of the upstream's URLs, by the numbers that the scenario gives them
}

// front is what requests ask for unless the scenario says otherwise.
var front = route{method: http.MethodGet, path: "/"}

// retryWait is the wait before the first retry; the second waits twice that. Both are jittered by half either way.
const retryWait = 200 * time.Millisecond

// request makes one request as a client does: with a timeout, reading the body to its end, and trying again where
// the scenario says so.
func (w world) request(a arrival, subject http.RoundTripper, base *wire) result {
	clock := base.clock
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if a.coin.uniform(drawCancel) < w.cancels {
		after := 5*time.Millisecond + time.Duration(a.coin.uniform(drawCancelAfter)*float64(55*time.Millisecond))
		defer time.AfterFunc(after, cancel).Stop()
	}
	var r result
	for n := 0; ; n++ {
		try := &try{coin: a.coin.with(tryCoins + uint64(n)), route: a.route, reached: make(chan struct{}, 1)}
		begun := clock.now()
		w.nature(begun, try)
		pays := base.servesNow(try)
		good := w.try(ctx, try, subject)
		switch {
		case good:
			r.outcome = outcomeGood
			return r
		case len(try.reached) == 0:
			r.outcome, r.wrongly = outcomeRefused, pays
			if r.refusals == 0 {
				r.refused = begun
			}
			r.refusals++
		case errors.Is(ctx.Err(), context.Canceled):
			r.outcome = outcomeCancelled
			return r
		default:
			r.outcome = outcomeFailed
			r.held += clock.now() - begun
		}
		if n == w.retries {
			return r
		}
		jitter := 0.5 + try.coin.uniform(drawBackoff)
		time.Sleep(time.Duration(jitter * float64(retryWait<<n)))
	}
}

// try reports whether the answer was good.
func (w world) try(ctx context.Context, try *try, subject http.RoundTripper) bool {
	ctx = context.WithValue(ctx, tryKey{}, try)
	if try.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, try.patience)
		defer cancel()
	}
	req := &http.Request{
		Method: try.route.method, URL: &url.URL{Scheme: "http", Host: host, Path: try.route.path}, Host: host,
		Header: http.Header{},
		Proto:  "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	resp, err := subject.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err == nil && resp.StatusCode == http.StatusOK
}
