package main

import (
	"net/http"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

var failsafePerHost = subject{
	name: "failsafe", about: "failsafe-go's failsafehttp", perHost: true,
	new: func(base http.RoundTripper) http.RoundTripper {
		return perHost(func() http.RoundTripper {
			breaker := circuitbreaker.NewBuilder[*http.Response]().HandleIf(peer.Failed).Build()
			return failsafehttp.NewRoundTripper(base, breaker)
		})
	},
}
