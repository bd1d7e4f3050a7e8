package main

import (
	"errors"
	"net/http"
	"time"

	"github.com/platinummonkey/go-concurrency-limits/core"
	"github.com/platinummonkey/go-concurrency-limits/limit"
	"github.com/platinummonkey/go-concurrency-limits/limiter"
	"github.com/platinummonkey/go-concurrency-limits/strategy"
	"github.com/sony/gobreaker/v2"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// Windows are of a second and ten calls, the least that it takes: by its defaults of a hundred, clients with little
// traffic would keep their first limit for good. Gradient2's least limit is 1 and not 20, which no client of a
// service in trouble should send at once. What times out or is turned away by 503 or 429 is dropped, as the library
// calls it; what the breaker refuses, what callers cancel, and other failures, which tell no time, are left out.
func init() {
	register(
		subject{
			name: "vegas", apart: true, dice: true,
			about: "platinummonkey/go-concurrency-limits: Vegas, from 20 on, around gobreaker-tuned",
			new: func(base http.RoundTripper) http.RoundTripper {
				vegas := limit.NewDefaultVegasLimit("vegas", limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
				return newConcurrencyLimit(newTunedGobreaker(base), vegas)
			},
		},
		subject{
			name: "gradient2", apart: true,
			about: "platinummonkey/go-concurrency-limits: gradient2 of 1 to 200, from 20 on, around gobreaker-tuned",
			new: func(base http.RoundTripper) http.RoundTripper {
				gradient2, err := limit.NewGradient2Limit("gradient2", 20, 200, 1, nil, 0.2, 600,
					limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
				if err != nil {
					panic(err)
				}
				return newConcurrencyLimit(newTunedGobreaker(base), gradient2)
			},
		},
	)
}

func newConcurrencyLimit(next http.RoundTripper, l core.Limit) http.RoundTripper {
	const window, fewest, shortest = int64(time.Second), 10, int64(100 * time.Microsecond)
	lim, err := limiter.NewDefaultLimiter(l, window, window, shortest, fewest,
		strategy.NewSimpleStrategy(l.EstimatedLimit()), limit.NoopLimitLogger{}, core.EmptyMetricRegistryInstance)
	if err != nil {
		panic(err)
	}
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		token, ok := lim.Acquire(req.Context())
		if !ok {
			return nil, errLimit
		}
		resp, err := next.RoundTrip(req)
		switch {
		case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
			token.OnIgnore()
		case turnedAway(req, resp, err):
			token.OnDropped()
		case peer.Failed(resp, err), err != nil:
			token.OnIgnore()
		default:
			token.OnSuccess()
		}
		return resp, err
	})
}
