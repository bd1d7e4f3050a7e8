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
			require.Equal(t, c.want, retryAfter(h, time.Time{}, now))
		})
	}
}

func TestRetryAfterOfADateIsCountedFromNow(t *testing.T) {
	h := http.Header{"Retry-After": {"Fri, 06 Nov 2026 08:50:37 GMT"}}
	for _, left := range []time.Duration{time.Hour, 1500 * time.Millisecond, 1} {
		now := time.Date(2026, 11, 6, 8, 50, 37, 0, time.UTC).Add(-left)
		require.Equal(t, left, retryAfter(h, time.Time{}, now.In(time.FixedZone("elsewhere", 9*3600))))
	}
}

func TestRetryAfterOfADateIsByTheClockOfTheUpstream(t *testing.T) {
	now := time.Date(2026, 11, 6, 8, 49, 37, 0, time.UTC)
	at := func(after time.Duration) string { return now.Add(after).Format(http.TimeFormat) }
	const minute = "Fri, 06 Nov 2026 08:50:37 GMT"
	cases := []struct {
		name, value, date, age string
		ago, want              time.Duration // since the headers came; to wait
	}{
		{"no Date", minute, "", "", 0, time.Minute},
		{"Date that is none", minute, "yesterday", "", 0, time.Minute},
		{"half a Date", minute, "Fri, 06 Nov 2026", "", 0, time.Minute},
		{"Date as seconds", minute, "1794041377", "", 0, time.Minute},
		{"the same clock", minute, at(0), "", 0, time.Minute},
		{"clock that is an hour ahead", at(61 * time.Minute), at(time.Hour), "", 0, time.Minute},
		{"clock that is an hour behind", at(-59 * time.Minute), at(-time.Hour), "", 0, time.Minute},
		{"clock of 1970", "Thu, 01 Jan 1970 00:01:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "", 0, time.Minute},
		{"Date as of RFC 850", minute, "Friday, 06-Nov-26 08:49:37 GMT", "", 0, time.Minute},
		{"past by its own clock", minute, at(time.Hour), "", 0, 0},
		{"the time that it is", at(time.Hour), at(time.Hour), "", 0, 0},
		{"Date of another age", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "", 0, 365 * 24 * time.Hour},
		{"headers that came a while ago", at(61 * time.Minute), at(time.Hour), "", 40 * time.Second, 20 * time.Second},
		{"headers that came too long ago", at(61 * time.Minute), at(time.Hour), "", time.Hour, 0},
		{"from a cache", minute, at(-time.Hour), "3600", 0, time.Minute},
		{"from a cache that has no age to tell", minute, at(-time.Hour), "old", 0, 61 * time.Minute},
		{"age without a Date", minute, "", "30", 0, time.Minute},
		{"seconds", "60", at(time.Hour), "30", 40 * time.Second, time.Minute},
		{"nothing", "", at(-time.Hour), "", 0, 0},
		{"words", "soon", at(-time.Hour), "", 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"Retry-After": {c.value}, "Date": {c.date}, "Age": {c.age}}
			require.Equal(t, c.want, retryAfter(h, now.Add(-c.ago), now))
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "1", "99999999999999999999", "-9", "Fri, 31 Dec 9999 23:59:59 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"} {
		f.Add(value, "", "", int64(0))
		f.Add(value, value, value, int64(-1<<62))
	}
	f.Fuzz(func(t *testing.T, value, date, age string, seconds int64) {
		h := http.Header{"Retry-After": {value}, "Date": {date}, "Age": {age}}
		for _, came := range []time.Time{{}, time.Unix(0, 0), time.Unix(seconds, 0)} {
			if got := retryAfter(h, came, time.Unix(seconds, 0)); got < 0 || got > 365*24*time.Hour {
				t.Errorf("%q is %v", h, got)
			}
		}
	})
}
