package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-kratos/aegis/circuitbreaker/sre"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

func init() {
	register(
		subject{name: "aegis", about: "go-kratos/aegis: client-side throttling, K 1.67, 100 in 3 s", new: func(base http.RoundTripper) http.RoundTripper {
			return newAegis(base)
		}},
		subject{name: "aegis-tuned", about: "go-kratos/aegis: client-side throttling, K 2, 10 in 10 s", new: func(base http.RoundTripper) http.RoundTripper {
			return newAegis(base, sre.WithSuccess(0.5), sre.WithRequest(10), sre.WithWindow(10*time.Second))
		}},
	)
}

// newAegis counts a refusal as a failure, as the middleware of kratos does.
func newAegis(base http.RoundTripper, opts ...sre.Option) http.RoundTripper {
	cb := sre.NewBreaker(opts...)
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		if err := cb.Allow(); err != nil {
			cb.MarkFailed()
			return nil, err
		}
		resp, err := base.RoundTrip(req)
		switch {
		case peer.Failed(resp, err):
			cb.MarkFailed()
		case !errors.Is(err, context.Canceled):
			cb.MarkSuccess()
		}
		return resp, err
	})
}
