package main

import (
	"context"
	"errors"
	"net/http"
	"time"

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

var gobreakerQuick = subject{
	name: "gobreaker-quick", about: "the same, half-open after 10 ms", perHost: true,
	only: []string{"refusals-half-open"},
	new: func(base http.RoundTripper) http.RoundTripper {
		return perHost(func() http.RoundTripper { return newGobreakerFor(base, 10*time.Millisecond) })
	},
}

func newGobreaker(base http.RoundTripper) http.RoundTripper { return newGobreakerFor(base, 0) }

// newGobreakerFor takes how long a circuit stays open; 0 is the default.
func newGobreakerFor(base http.RoundTripper, open time.Duration) http.RoundTripper {
	cb := gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{
		Timeout:    open,
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
