package transport

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 6, 8, 49, 37, 0, time.UTC)
	const year = 365 * 24 * time.Hour
	cases := []struct {
		name   string
		values []string
		want   time.Duration
	}{
		{"missing", nil, 0},
		{"empty", []string{""}, 0},
		{"seconds", []string{"120"}, 2 * time.Minute},
		{"zero", []string{"0"}, 0},
		{"leading zeros", []string{"007"}, 7 * time.Second},
		{"a year", []string{"31536000"}, year},
		{"more than a year", []string{"31536001"}, year},
		{"more than a Duration holds", []string{"9223372037"}, year},
		{"the largest number", []string{"18446744073709551615"}, year},
		{"larger than the largest number", []string{"18446744073709551616"}, year},
		{"negative", []string{"-1"}, 0},
		{"signed", []string{"+1"}, 0},
		{"a fraction", []string{"1.5"}, 0},
		{"spaces within", []string{"1 0"}, 0},
		{"hexadecimal", []string{"0x10"}, 0},
		{"digits of another script", []string{"١٢"}, 0},
		{"words", []string{"soon"}, 0},
		{"the first of several", []string{"1", "100"}, time.Second},

		{"a date", []string{"Fri, 06 Nov 2026 08:50:37 GMT"}, time.Minute},
		{"now", []string{"Fri, 06 Nov 2026 08:49:37 GMT"}, 0},
		{"a date past", []string{"Sun, 06 Nov 1994 08:49:37 GMT"}, 0},
		{"a date as of RFC 850", []string{"Friday, 06-Nov-26 08:50:37 GMT"}, time.Minute},
		{"a date as of asctime", []string{"Fri Nov  6 08:50:37 2026"}, time.Minute},
		{"a date too far away", []string{"Fri, 31 Dec 9999 23:59:59 GMT"}, year},
		{"the first of dates", []string{"Mon, 01 Jan 0001 00:00:00 GMT"}, 0},
		{"half a date", []string{"Fri, 06 Nov 2026"}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{}
			for _, value := range c.values {
				h.Add("Retry-After", value)
			}
			require.Equal(t, c.want, retryAfter(h, now))
		})
	}
}

func TestRetryAfterOfADateIsCountedFromNow(t *testing.T) {
	h := http.Header{"Retry-After": {"Fri, 06 Nov 2026 08:50:37 GMT"}}
	for _, left := range []time.Duration{time.Hour, 1500 * time.Millisecond, 1} {
		now := time.Date(2026, 11, 6, 8, 50, 37, 0, time.UTC).Add(-left)
		require.Equal(t, left, retryAfter(h, now.In(time.FixedZone("elsewhere", 9*3600))))
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "1", "99999999999999999999", "-9", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"} {
		f.Add(value, int64(0))
		f.Add(value, int64(-1<<62))
	}
	f.Fuzz(func(t *testing.T, value string, seconds int64) {
		got := retryAfter(http.Header{"Retry-After": {value}}, time.Unix(seconds, 0))
		if got < 0 || got > 365*24*time.Hour {
			t.Errorf("%q is %v", value, got)
		}
	})
}
