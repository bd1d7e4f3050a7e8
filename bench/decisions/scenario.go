package main

import (
	"math"
	"time"
)

// A scenario is a script of traffic and trouble. It knows nothing of breakers.
type scenario struct {
	name  string
	about string

	apart bool // not one of the table's, but of -fleets

	clients int     // processes, each with a breaker of its own
	rate    float64 // requests a second that each client offers, Poisson

	// load multiplies the rate as time passes, never beyond peak. nil means a steady rate.
	load func(w world, t time.Duration) float64
	peak float64

	lead, trouble, tail time.Duration // healthy, not, and healthy again; trouble is stretched by up to 10 % either way

	patience time.Duration // timeout of each try; 0 means none
	// long says which calls take long by nature and how long their callers wait: 0 for any time. Others take 0.
	long func(w world, t time.Duration, c coin) (takes, patience time.Duration)

	retries int     // further tries of a request that failed, was refused or timed out
	cancels float64 // share of callers that cancel, 5 to 60 ms after their request

	upstream func(w world) upstream
}

// A world is a scenario under one seed and one scale.
type world struct {
	*scenario
	coin  coin
	scale float64

	begin, end time.Duration // of the trouble
	over       time.Duration // when traffic stops
}

func (s *scenario) world(seed uint64, scale float64) world {
	c := newCoin(seed, s.name)
	stretched := time.Duration(float64(s.trouble) * (0.9 + 0.2*c.uniform(drawStretch)))
	return world{
		scenario: s, coin: c, scale: scale,
		begin: s.lead, end: s.lead + stretched, over: s.lead + stretched + s.tail,
	}
}

// call says how long a call takes that takes long by nature, 0 for any other, and how long its caller waits; 0 for any
// time.
func (w world) call(t time.Duration, c coin) (takes, patience time.Duration) {
	if w.long != nil {
		if takes, patience = w.long(w, t, c); takes > 0 {
			return takes, patience
		}
	}
	return 0, w.patience
}

// troubled says whether t lies in the trouble.
func (w world) troubled(t time.Duration) bool { return t >= w.begin && t < w.end }

// servers scales a number of servers with the traffic, so that load per server stays what the scenario says.
func (w world) servers(n int) int { return max(1, int(math.Round(float64(n)*w.scale))) }
