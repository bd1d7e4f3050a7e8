package main

import (
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivethrottler"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// A cancelled call counts as a success: failsafe-go knows only the two.
func init() {
	register(
		subject{
			name: "failsafe", about: "failsafe-go: 1 failure, 60 s, 1 success",
			new: func(base http.RoundTripper) http.RoundTripper {
				return failsafehttp.NewRoundTripper(base, newFailsafe().Build())
			},
		},
		subject{
			name: "failsafe-tuned", about: "failsafe-go: 5 of the last 10, 5 s, 3 successes",
			new: func(base http.RoundTripper) http.RoundTripper {
				return failsafehttp.NewRoundTripper(base, newFailsafe().
					WithFailureThresholdRatio(5, 10).
					WithDelay(5*time.Second).
					WithSuccessThreshold(3).
					Build())
			},
		},
		subject{
			name: "failsafe-rate", about: "failsafe-go: 50 % of 10 in 10 s, 5 s or Retry-After up to 30 s, 3 successes",
			new: func(base http.RoundTripper) http.RoundTripper {
				return failsafehttp.NewRoundTripper(base, newFailsafe().
					WithFailureRateThreshold(0.5, 10, 10*time.Second).
					WithDelay(5*time.Second).
					WithDelayFunc(func(exec failsafe.ExecutionAttempt[*http.Response]) time.Duration {
						return min(failsafehttp.DelayFunc(exec), 30*time.Second)
					}).
					WithSuccessThreshold(3).
					Build())
			},
		},
		subject{
			name: "failsafe-throttler", about: "failsafe-go: its adaptive throttler", dice: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				throttler := adaptivethrottler.NewBuilder[*http.Response]().HandleIf(peer.Failed).Build()
				return failsafehttp.NewRoundTripper(base, throttler)
			},
		},
	)
}

func newFailsafe() circuitbreaker.Builder[*http.Response] {
	return circuitbreaker.NewBuilder[*http.Response]().HandleIf(peer.Failed)
}
