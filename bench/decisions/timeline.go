package main

import "time"

// A timeline counts what came of requests, by when they arrived, and wasted calls, by when they began.
type timeline struct {
	over, begin, end              time.Duration
	good, refused, failed, wasted []int
}

const timelineBins = 180

func (w world) timeline(tr *trace) *timeline {
	tl := &timeline{over: w.over, begin: w.begin, end: w.end}
	bins := func() []int { return make([]int, timelineBins) }
	tl.good, tl.refused, tl.failed, tl.wasted = bins(), bins(), bins(), bins()
	bin := func(t time.Duration) int { return min(int(timelineBins*t/w.over), timelineBins-1) }
	for i, r := range tr.results {
		n := bin(tr.arrivals[i].at)
		switch r.outcome {
		case outcomeGood:
			tl.good[n]++
		case outcomeRefused:
			tl.refused[n]++
		case outcomeFailed:
			tl.failed[n]++
		}
	}
	for _, c := range tr.calls.calls {
		if c.hopeless {
			tl.wasted[bin(c.begin)]++
		}
	}
	return tl
}
