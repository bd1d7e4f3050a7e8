package peer

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-kratos/aegis/circuitbreaker/sre"
)

// Aegis is a breaker of go-kratos/aegis. It counts a refusal as a failure, as the middleware of kratos does.
func Aegis(base http.RoundTripper, opts ...sre.Option) http.RoundTripper {
	cb := sre.NewBreaker(opts...)
	return RoundTripper(func(req *http.Request) (*http.Response, error) {
		if err := cb.Allow(); err != nil {
			cb.MarkFailed()
			return nil, err
		}
		resp, err := base.RoundTrip(req)
		switch {
		case Failed(resp, err):
			cb.MarkFailed()
		case !errors.Is(err, context.Canceled):
			cb.MarkSuccess()
		}
		return resp, err
	})
}
