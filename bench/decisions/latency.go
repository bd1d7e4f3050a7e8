package main

import (
	"math"
	"time"
)

// Latency of a healthy upstream unless a draw says otherwise: 30 ms at the median, 76 ms at the 99th percentile.
const (
	latency      = 30 * time.Millisecond
	latencySigma = 0.4
)

// Latencies are lognormal, and a share of them has a tail beyond: that many times as long as a Pareto variable says.
// The zero value has 30 ms at the median and no tail.
type latencies struct {
	median time.Duration
	sigma  float64 // of the logarithm
	tail   float64 // share of calls
	alpha  float64 // of the tail: the less, the heavier
}

// longest is how many times as long as usual a call of the tail takes at the most.
const longest = 100

func (l latencies) of(c coin) time.Duration {
	if l.median == 0 {
		l.median, l.sigma = latency, latencySigma
	}
	took := c.lognormal(drawLatency, l.median, l.sigma)
	if l.tail > 0 && c.uniform(drawTail) < l.tail {
		took = time.Duration(float64(took) * min(longest, math.Pow(1-c.uniform(drawTailLength), -1/l.alpha)))
	}
	return took
}

// beyond returns the share of calls that take longer than that, the tail left out.
func (l latencies) beyond(nanoseconds float64) float64 {
	if l.median == 0 {
		l.median, l.sigma = latency, latencySigma
	}
	return math.Erfc(math.Log(nanoseconds/float64(l.median))/l.sigma/math.Sqrt2) / 2
}
