package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"

	"github.com/afex/hystrix-go/hystrix"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

func init() {
	register(
		subject{
			name: "hystrix", about: "afex/hystrix-go: 50 % of 20 in 10 s, 5 s; 1 s timeout, 10 at a time", leaks: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				return newHystrix(base, hystrix.CommandConfig{})
			},
		},
		subject{
			name: "hystrix-tuned",
			about: "afex/hystrix-go: 50 % of 10 in 10 s, 2 s; 90 s timeout, longer than callers wait, " +
				"1000 at a time",
			leaks: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				return newHystrix(base, hystrix.CommandConfig{
					Timeout: 90_000, MaxConcurrentRequests: 1000, RequestVolumeThreshold: 10, SleepWindow: 2000,
				})
			},
		},
	)
}

// hystrixCircuits numbers circuits: they are global, and told apart by name.
var hystrixCircuits atomic.Int64

// newHystrix does not hand the request's context to hystrix-go: whether its watcher or the call itself saw the end of
// the context first would be a race, and a timeout seen by the watcher would not count as a failure.
func newHystrix(base http.RoundTripper, config hystrix.CommandConfig) http.RoundTripper {
	name := fmt.Sprint("upstream-", hystrixCircuits.Add(1))
	hystrix.ConfigureCommand(name, config)
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		ctx, cancel := context.WithCancel(req.Context())
		answers := make(chan *http.Response, 1)
		err := hystrix.Do(name, func() error {
			resp, err := base.RoundTrip(req.WithContext(ctx))
			answers <- resp
			if errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("upstream: %w", err) // bare, it would not count
			}
			return peer.Error(resp, err)
		}, nil)
		if err != nil && !errors.Is(err, peer.ErrFailed) {
			cancel() // of a call that hystrix-go no longer waits for
			return nil, err
		}
		resp := <-answers
		context.AfterFunc(req.Context(), cancel)
		return resp, nil
	})
}
