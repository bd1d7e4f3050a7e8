package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/sony/gobreaker/v2"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var gobreakerSingle = subject{name: "gobreaker-single", about: "sony/gobreaker v2, one circuit for all hosts",
	new: newGobreaker}

var gobreakerPerHost = subject{
	name: "gobreaker", about: "sony/gobreaker v2", perHost: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		return perHost(func() http.RoundTripper { return newGobreaker(base) })
	},
}

func newGobreaker(base http.RoundTripper) http.RoundTripper {
	cb := gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{
		IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
	})
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := cb.Execute(func() (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			return resp, peer.Error(resp, err)
		})
		if err == peer.ErrFailed {
			err = nil
		}
		return resp, err
	})
}
