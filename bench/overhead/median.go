package main

import (
	"cmp"
	"slices"
)

// median returns the middle of values; of an even number of them, the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

func compare(a, b float64) int { return cmp.Compare(a, b) }
