package main

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var errLimit = errors.New("limit: too many calls in flight")

func init() {
	register(
		subject{
			name: "limit-10", apart: true,
			about: "ten calls in flight, around gobreaker-tuned",
			new: func(base http.RoundTripper) http.RoundTripper {
				return limited(newTunedGobreaker(base), 10)
			},
		},
		subject{
			name: "limit-fits", apart: true,
			about: "as many calls in flight as suit the upstream, which is known, around gobreaker-tuned; " +
				"no limit where any number does",
			new: func(base http.RoundTripper) http.RoundTripper {
				suits := base.(*wire).suits
				if suits == 0 {
					return newTunedGobreaker(base)
				}
				return limited(newTunedGobreaker(base), suits)
			},
		},
	)
}

// limited lets n calls at a time through until the headers of their answers, and refuses the others.
func limited(next http.RoundTripper, n int) http.RoundTripper {
	var out atomic.Int64
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		defer out.Add(-1)
		if out.Add(1) > int64(n) {
			return nil, errLimit
		}
		return next.RoundTrip(req)
	})
}

// turnedAway says whether an upstream had too much to do for a call: it said so, or was too late.
func turnedAway(req *http.Request, resp *http.Response, err error) bool {
	if err != nil {
		return errors.Is(req.Context().Err(), context.DeadlineExceeded)
	}
	return resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests
}
