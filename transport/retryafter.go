package transport

import (
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// retryAfter reads the Retry-After header of a response whose headers came at that time. A date is by the upstream's
// clock, which may be an hour ahead of this one's.
func retryAfter(h http.Header, came, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	return policy.ParseRetryAfter(value, policy.UpstreamTime(h, came, now))
}
