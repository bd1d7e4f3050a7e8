package main

import (
	"net/http"
	"time"

	"github.com/cenk/backoff"
	circuit "github.com/rubyist/circuitbreaker"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// The waits between probes are exponential and jittered by the global source of math/rand.
func init() {
	register(
		subject{
			name: "rubyist-consecutive", about: "rubyist/circuitbreaker: 10 in a row, waits from 0.5 s to 60 s",
			dice: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				return peer.Rubyist(base, circuit.NewConsecutiveBreaker(10))
			},
		},
		subject{
			name: "rubyist-threshold", about: "rubyist/circuitbreaker: 10 in 10 s, waits from 0.5 s to 60 s",
			dice: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				return peer.Rubyist(base, circuit.NewThresholdBreaker(10))
			},
		},
		subject{
			name: "rubyist-rate", about: "rubyist/circuitbreaker: 95 % of 100 in 10 s, waits from 0.5 s to 60 s",
			dice: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				return peer.Rubyist(base, circuit.NewRateBreaker(0.95, 100))
			},
		},
		subject{
			name: "rubyist-tuned", about: "rubyist/circuitbreaker: 50 % of 10 in 10 s, waits from 0.5 s to 5 s",
			dice: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				waits := backoff.NewExponentialBackOff()
				waits.MaxInterval, waits.MaxElapsedTime = 5*time.Second, 0
				return peer.Rubyist(base, circuit.NewBreakerWithOptions(&circuit.Options{
					ShouldTrip: circuit.RateTripFunc(0.5, 10), BackOff: waits,
				}))
			},
		},
	)
}
