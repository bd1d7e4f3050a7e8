package main

import (
	"net/http"

	circuit "github.com/rubyist/circuitbreaker"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// rubyist has the breaker of its own HTTPClient, which has circuits per host but is no RoundTripper, sees no status,
// and finds a host by printing and parsing the URL.
var rubyist = subject{
	name: "rubyist", about: "rubyist/circuitbreaker, 10 failures", perHost: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		return perHost(func() http.RoundTripper { return peer.Rubyist(base, circuit.NewThresholdBreaker(10)) })
	},
}
