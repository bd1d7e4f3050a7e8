// Package next says when an open circuit is probed next, in the same words wherever people read it.
package next

import (
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

func appendRounded(b []byte, d time.Duration) []byte {
	step := time.Millisecond
	if d >= 10*time.Second {
		step = time.Second
	}
	return append(b, max(step, d.Round(step)).String()...)
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
