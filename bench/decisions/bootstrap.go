package main

import (
	"math/rand/v2"
	"slices"
)

// resamples is how often the draws are drawn anew, to see how far a figure depends on which they were.
const resamples = 2000

// An interval is what nine of ten resamples lie in.
type interval struct{ low, high float64 }

// spread returns the interval of a figure that is a function of the means of two subjects over all families. Each
// resample takes as many draws of each family as there are, with replacement, and the same ones for both subjects.
func (ds *draws) spread(a, b int, figure func(a, b float64) float64) interval {
	return spread(ds.runs, a, b, figure)
}

func spread(families [][]run, a, b int, figure func(a, b float64) float64) interval {
	rng := rand.New(rand.NewPCG(1, 1))
	figures := make([]float64, resamples)
	for i := range figures {
		var sumA, sumB float64
		n := 0
		for _, runs := range families {
			n += len(runs)
			for range runs {
				r := runs[rng.IntN(len(runs))]
				sumA += r.measures[a].Regret
				sumB += r.measures[b].Regret
			}
		}
		figures[i] = figure(sumA/float64(n), sumB/float64(n))
	}
	slices.Sort(figures)
	return interval{figures[resamples/20], figures[resamples-1-resamples/20]}
}

func first(a, _ float64) float64 { return a }
func ratio(a, b float64) float64 { return a / b }
func less(a, b float64) float64  { return a - b }
