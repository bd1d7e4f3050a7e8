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
// their protocol has it. A date is by the clock of the upstream, so that now is mostly what UpstreamTime returns.
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

// UpstreamTime returns what the clock of an upstream shows now, by the Date (RFC 9110, section 6.6.1) of a response
// whose headers came at that time, zero being now, and by its Age if a cache kept it. It is right to the second, as
// Date is, and now if there is no Date that can be read.
func UpstreamTime(headers http.Header, came, now time.Time) time.Time {
	there, err := http.ParseTime(headers.Get("Date"))
	if err != nil {
		return now
	}
	if age, err := strconv.ParseUint(headers.Get("Age"), 10, 31); err == nil {
		there = there.Add(time.Duration(age) * time.Second)
	}
	if came.IsZero() {
		return there
	}
	return there.Add(now.Sub(came))
}
