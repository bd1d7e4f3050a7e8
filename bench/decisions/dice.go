package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// Dice draw the parameters of one draw of a family.
type dice struct{ *rand.Rand }

// newDice returns the dice of a family under a seed.
func newDice(seed uint64, family string) dice {
	return dice{rand.New(rand.NewPCG(uint64(newCoin(seed, "family "+family)), 2))}
}

// between returns a number of which all between two are as likely.
func (d dice) between(lo, hi float64) float64 { return lo + (hi-lo)*d.Float64() }

// spread returns a number of which all between two are as likely on a logarithmic scale, as is right for what spans
// powers of ten.
func (d dice) spread(lo, hi float64) float64 { return lo * math.Pow(hi/lo, d.Float64()) }

// whole returns a whole number from lo to hi.
func (d dice) whole(lo, hi int) int { return lo + d.IntN(hi-lo+1) }

// chance says yes with that probability.
func (d dice) chance(p float64) bool { return d.Float64() < p }

// time returns a duration, spread.
func (d dice) time(lo, hi time.Duration) time.Duration {
	return time.Duration(d.spread(float64(lo), float64(hi)))
}

// pick returns one of several; who is named twice is twice as likely.
func pick[T any](d dice, from ...T) T { return from[d.IntN(len(from))] }

// scaled returns a multiple of a duration.
func scaled(t time.Duration, by float64) time.Duration { return time.Duration(by * float64(t)) }

// clamp returns v, or the bound that it is beyond.
func clamp[T int | float64 | time.Duration](lo, v, hi T) T { return min(max(lo, v), hi) }
