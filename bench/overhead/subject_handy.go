package main

import (
	"net/http"

	"github.com/streadway/handy/breaker"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var handy = subject{
	name: "handy", about: "streadway/handy, 50 % failures", perHost: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		valid := func(resp *http.Response) bool { return !peer.Failed(resp, nil) }
		return perHost(func() http.RoundTripper { return breaker.Transport(breaker.NewBreaker(0.5), valid, base) })
	},
}
