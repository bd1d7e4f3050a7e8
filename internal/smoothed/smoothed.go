// Package smoothed has the moving mean of the times that calls take: that of circuits, and that of a fleet's.
package smoothed

import "time"

// Of is how many times are in a mean, about: as in TCP's smoothed round trip (RFC 6298, section 2).
const Of = 8

// With is the mean with one more time in it. A mean of 0 is of none yet.
func With(mean, took time.Duration) time.Duration {
	if mean == 0 {
		return took
	}
	return mean + (took-mean)/Of
}

// Among is the mean with a time in it that is the n-th: that of all n, until there are as many as Of.
func Among(mean, took time.Duration, n int) time.Duration {
	return mean + (took-mean)/time.Duration(min(n, Of))
}
