package policy

import (
	"errors"
	"net/http"
	"strconv"
	"time"
)

// mostRetryAfter keeps absurd values from overflowing. How much of it counts is the policy's to say.
const mostRetryAfter = 365 * 24 * time.Hour

// ParseRetryAfter reads the value of a Retry-After header (RFC 9110, section 10.2.3): seconds, or a date. What is
// missing, malformed, negative or past is 0, and a year is the most. It is for classifiers that find one where only
// their protocol has it.
func ParseRetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(mostRetryAfter/time.Second))) * time.Second
	}
	if date, err := http.ParseTime(value); err == nil {
		return min(max(0, date.Sub(now)), mostRetryAfter)
	}
	return 0
}
