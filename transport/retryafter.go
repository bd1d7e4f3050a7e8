package transport

import (
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// retryAfter reads the Retry-After header.
func retryAfter(h http.Header, now time.Time) time.Duration {
	return policy.ParseRetryAfter(h.Get("Retry-After"), now)
}
