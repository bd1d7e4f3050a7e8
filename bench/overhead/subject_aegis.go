package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-kratos/aegis/circuitbreaker/sre"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var aegis = subject{name: "aegis", about: "go-kratos/aegis, used as the middleware of kratos does", perHost: true, new: func(base http.RoundTripper) http.RoundTripper {
	return perHost(func() http.RoundTripper { return newAegis(base) })
}}

func newAegis(base http.RoundTripper) http.RoundTripper {
	cb := sre.NewBreaker()
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
