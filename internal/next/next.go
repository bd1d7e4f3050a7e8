// Package next says when an open circuit is probed next, in the same words wherever people read it.
package next

import (
	"math"
	"strconv"
	"time"
)

// Probe is when a request is let through as a probe, as far as that is known.
type Probe struct {
	// Requests is how many are to come until one is the probe, itself among them; 0 if time alone decides.
	Requests int
	Soonest  time.Duration // not before; 0 if that is now
	Latest   time.Duration // from then on any request, whatever its number; only if Requests is not 0
}

// AppendText appends "next probe in 5s", or "next probe with the 13th request from now, at the latest in 1m30s". It
// appends nothing if there is nothing to say.
func (p Probe) AppendText(b []byte) []byte {
	switch {
	case p.Requests <= 1 && p.Soonest > 0:
		b = appendRounded(append(b, "next probe in "...), p.Soonest)
	case p.Requests == 1:
		b = append(b, "next probe with the next request"...)
	case p.Requests > 1:
		b = strconv.AppendInt(append(b, "next probe with the "...), int64(p.Requests), 10)
		b = append(append(b, ending(p.Requests)...), " request from now"...)
		if p.Soonest > 0 {
			b = appendRounded(append(b, ", not before "...), p.Soonest)
		}
		if p.Latest > p.Soonest {
			b = appendRounded(append(b, ", at the latest in "...), p.Latest)
		}
	}
	return b
}

// String is AppendText as a string.
func (p Probe) String() string { return string(p.AppendText(nil)) }

// appendRounded appends a time in milliseconds, or in seconds from ten of them on. It is time.Duration.Round and String
// for that, in a third of the time.
func appendRounded(b []byte, d time.Duration) []byte {
	if d >= 10*time.Second {
		return appendSeconds(b, int64((min(d, math.MaxInt64-time.Second)+time.Second/2)/time.Second))
	}
	ms := max(1, int64((d+time.Millisecond/2)/time.Millisecond))
	if ms < 1000 {
		return append(strconv.AppendInt(b, ms, 10), "ms"...)
	}
	b = strconv.AppendInt(b, ms/1000, 10)
	if ms %= 1000; ms > 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
	}
	return append(b, 's')
}

func appendSeconds(b []byte, s int64) []byte {
	if s >= 3600 {
		b = append(strconv.AppendInt(b, s/3600, 10), 'h')
	}
	if s >= 60 {
		b = append(strconv.AppendInt(b, s/60%60, 10), 'm')
	}
	return append(strconv.AppendInt(b, s%60, 10), 's')
}

// ending is that of an ordinal number.
func ending(n int) string {
	if n/10%10 != 1 {
		switch n % 10 {
		case 1:
			return "st"
		case 2:
			return "nd"
		case 3:
			return "rd"
		}
	}
	return "th"
}
