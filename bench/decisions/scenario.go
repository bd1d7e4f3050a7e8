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

	// route says what a request asks for; nil means the front page.
	route func(c coin) route

	patience time.Duration // timeout of each try; 0 means none
	hasty    float64       // standard deviation of the logarithm of that timeout, which varies from caller to caller
	// long says which calls take long by nature and how long their callers wait: 0 for any time. Others take 0.
	long func(w world, t time.Duration, c coin) (takes, patience time.Duration)

	// lasts says how long a body lasts, and that its caller waits for any time, or 0.
	lasts func(w world, c coin) time.Duration

	retries int     // further tries of a request that failed, was refused or timed out
	cancels float64 // share of callers that cancel, 5 to 60 ms after their request

	suits int // calls in flight of each client that suit the upstream, as a user who has measured it would know; 0: any

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

// nature sets how long a try at t takes that takes long by nature, and how long its caller waits.
func (w world) nature(t time.Duration, try *try) {
	if w.long != nil {
		if takes, patience := w.long(w, t, try.coin); takes > 0 {
			try.takes, try.patience = takes, patience
			return
		}
	}
	if w.lasts != nil {
		if try.lasts = w.lasts(w, try.coin); try.lasts > 0 {
			return
		}
	}
	if try.patience = w.patience; w.hasty > 0 {
		try.patience = try.coin.lognormal(drawPatience, w.patience, w.hasty)
	}
}

// troubled says whether t lies in the trouble.
func (w world) troubled(t time.Duration) bool { return t >= w.begin && t < w.end }

// servers scales a number of servers with the traffic, so that load per server stays what the scenario says.
func (w world) servers(n int) int { return max(1, int(math.Round(float64(n)*w.scale))) }
