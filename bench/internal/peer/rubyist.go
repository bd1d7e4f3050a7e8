package peer

import (
	"net/http"

	circuit "github.com/rubyist/circuitbreaker"
)

// Rubyist is a breaker of rubyist/circuitbreaker.
func Rubyist(base http.RoundTripper, cb *circuit.Breaker) http.RoundTripper {
	return RoundTripper(func(req *http.Request) (resp *http.Response, err error) {
		err = cb.CallContext(req.Context(), func() error {
			var err error
			resp, err = base.RoundTrip(req)
			return Error(resp, err)
		}, 0)
		return resp, withoutFailed(err)
	})
}
