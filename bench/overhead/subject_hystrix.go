package main

import (
	"context"
	"net/http"

	"github.com/afex/hystrix-go/hystrix"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// hystrixGo has circuits of its own by name, for the whole process: making one of these forgets those of the last. A
// call gives its place back only after its caller has gone on, so that a quick caller meets the limit of 10 calls at a
// time that is the default, and that of 100. The answer of a call that timed out is left unread.
var hystrixGo = subject{
	name: "hystrix", about: "afex/hystrix-go, a command per host, the busy one with 10,000 at a time",
	perHost: true, native: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		hystrix.Flush()
		hystrix.ConfigureCommand(hotHost, hystrix.CommandConfig{MaxConcurrentRequests: 10_000})
		return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
			answers := make(chan *http.Response, 1)
			err := hystrix.DoC(req.Context(), req.URL.Host, func(context.Context) error {
				resp, err := base.RoundTrip(req)
				answers <- resp
				return peer.Error(resp, err)
			}, nil)
			if err != nil && err != peer.ErrFailed {
				return nil, err
			}
			return <-answers, nil
		})
	},
}
