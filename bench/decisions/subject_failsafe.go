package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
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
				return failsafehttp.NewRoundTripper(base, newFailsafeRate())
			},
		},
		subject{
			name: "failsafe-throttler", about: "failsafe-go: its adaptive throttler", dice: true,
			new: func(base http.RoundTripper) http.RoundTripper {
				throttler := adaptivethrottler.NewBuilder[*http.Response]().HandleIf(peer.Failed).Build()
				return failsafehttp.NewRoundTripper(base, throttler)
			},
		},
		subject{
			name: "failsafe-throttler-tuned", apart: true, dice: true,
			about: "failsafe-go: its adaptive throttler, 50 % of 10 in 10 s, around failsafe-rate",
			new: func(base http.RoundTripper) http.RoundTripper {
				throttler := adaptivethrottler.NewBuilder[*http.Response]().
					HandleIf(failedOrLimited).
					WithFailureRateThreshold(0.5, 10, 10*time.Second).
					Build()
				return failsafehttp.NewRoundTripper(base, throttler, newFailsafeRate())
			},
		},
		subject{
			name: "failsafe-limiter", apart: true,
			about: "failsafe-go: its adaptive limiter of 1 to 200, from 20 on, by ten calls at a time, " +
				"around failsafe-rate",
			new: newFailsafeLimiter,
		},
	)
}

// failedOrLimited is what a throttler is to send less for: a 429 as well, and no refusal of the breaker behind it.
func failedOrLimited(resp *http.Response, err error) bool {
	if err == nil && resp.StatusCode == http.StatusTooManyRequests {
		return true
	}
	return peer.Failed(resp, err) && !errors.Is(err, circuitbreaker.ErrOpen)
}

func newFailsafeRate() circuitbreaker.CircuitBreaker[*http.Response] {
	return newFailsafe().
		WithFailureRateThreshold(0.5, 10, 10*time.Second).
		WithDelay(5 * time.Second).
		WithDelayFunc(func(exec failsafe.ExecutionAttempt[*http.Response]) time.Duration {
			return min(failsafehttp.DelayFunc(exec), 30*time.Second)
		}).
		WithSuccessThreshold(3).
		Build()
}

// newFailsafeLimiter drops, as the library calls it, what the breaker refused, what failed at once and what was cut
// off by its caller's deadline or will; otherwise a refusal would be taken for the quickest of answers. By its
// defaults the limiter would want fifty calls before it changes, which thin traffic takes minutes for.
func newFailsafeLimiter(base http.RoundTripper) http.RoundTripper {
	limiter := adaptivelimiter.NewBuilder[*http.Response]().WithRecentWindow(time.Second, 30*time.Second, 10).Build()
	next := failsafehttp.NewRoundTripper(base, newFailsafeRate())
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		permit, ok := limiter.TryAcquirePermit()
		if !ok {
			return nil, adaptivelimiter.ErrExceeded
		}
		resp, err := next.RoundTrip(req)
		if err != nil {
			permit.Drop()
		} else {
			permit.Record()
		}
		return resp, err
	})
}

func newFailsafe() circuitbreaker.Builder[*http.Response] {
	return circuitbreaker.NewBuilder[*http.Response]().HandleIf(peer.Failed)
}
