package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

func init() {
	register(
		subject{
			name: "gobreaker", about: "sony/gobreaker v2: more than 5 in a row, 60 s, 1 probe",
			new: func(base http.RoundTripper) http.RoundTripper {
				return newGobreaker(base, gobreaker.Settings{})
			},
		},
		subject{
			name: "gobreaker-tuned", about: "sony/gobreaker v2: 50 % of 10 in 10 s, 5 s, 3 probes",
			new: newTunedGobreaker,
		},
	)
}

func newTunedGobreaker(base http.RoundTripper) http.RoundTripper {
	return newGobreaker(base, gobreaker.Settings{
		MaxRequests: 3,
		Interval:    10 * time.Second,
		Timeout:     5 * time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.Requests >= 10 && 2*c.TotalFailures >= c.Requests },
	})
}

func newGobreaker(base http.RoundTripper, st gobreaker.Settings) http.RoundTripper {
	st.IsExcluded = func(err error) bool { return errors.Is(err, context.Canceled) }
	cb := gobreaker.NewCircuitBreaker[*http.Response](st)
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := cb.Execute(func() (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			return resp, peer.Error(resp, err)
		})
		if errors.Is(err, peer.ErrFailed) {
			err = nil
		}
		return resp, err
	})
}
