package main

import (
	"math/rand/v2"
	"slices"
	"time"
)

// An arrival is one request as its caller makes it, before any breaker or retry.
type arrival struct {
	at     time.Duration
	client int
	coin   coin
	route  route
}

// arrivals returns the whole traffic of a world, in order of time.
func (w world) arrivals() []arrival {
	peak := max(w.peak, 1)
	var all []arrival
	for client := range w.clients {
		c := w.coin.with(uint64(client))
		rng := rand.New(rand.NewPCG(uint64(c), 1))
		gap := float64(time.Second) / (w.rate * w.scale * peak)
		number := uint64(0)
		for t := time.Duration(rng.ExpFloat64() * gap); t < w.over; t += time.Duration(rng.ExpFloat64() * gap) {
			if w.load != nil && rng.Float64() >= w.load(w, t)/peak {
				continue
			}
			a := arrival{at: t, client: client, coin: c.with(number), route: front}
			if w.route != nil {
				a.route = w.route(a.coin)
			}
			all = append(all, a)
			number++
		}
	}
	slices.SortFunc(all, func(a, b arrival) int { return int(a.at - b.at) })
	return all
}
