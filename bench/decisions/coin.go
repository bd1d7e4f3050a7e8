package main

import (
	"hash/fnv"
	"math"
	"time"
)

// A coin is the chance that one try of one request meets. It is a hash of the seed, the scenario, the client, the
// request's number and the try's number, and of nothing else: whatever breaker stands in between, the same request
// draws the same lot.
type coin uint64

// What a coin is asked. Each draw of a coin is independent of its others.
const (
	drawFault = iota + 1
	drawKind
	drawLatency
	drawHang
	drawRetryAfter
	drawCancel
	drawCancelAfter
	drawBackoff
	drawReset
	drawStretch
	drawLong
	drawTakes
	drawTail
	drawTailLength
	drawRoute
	drawMethod
	drawID
	drawPatience
	drawLasts

	tryCoins = 100 // plus the number of the try: its own coin
)

// newCoin returns the coin of a scenario under a seed, from which those of its requests are derived by with.
func newCoin(seed uint64, scenario string) coin {
	h := fnv.New64a()
	h.Write([]byte(scenario))
	return coin(h.Sum64()).with(seed)
}

func (c coin) with(v uint64) coin {
	z := uint64(c) ^ (v+0x9e3779b97f4a7c15)*0xbf58476d1ce4e5b9
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return coin(z ^ z>>31)
}

// uniform returns the draw as a number from 0 up to but not including 1.
func (c coin) uniform(draw uint64) float64 {
	return float64(c.with(draw)>>11) / (1 << 53)
}

// lognormal returns the draw as a duration with that median and that standard deviation of its logarithm.
func (c coin) lognormal(draw uint64, median time.Duration, sigma float64) time.Duration {
	u := max(c.uniform(draw), 1e-12)
	v := c.with(draw).uniform(draw)
	normal := math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*v)
	return time.Duration(float64(median) * math.Exp(sigma*normal))
}
