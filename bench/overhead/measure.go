package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
)

// A result is what was measured of one subject in one case.
type result struct {
	subject      subject
	ns           float64 // median of the whole time of a call
	over         float64 // median of what is over the base's of the same round
	allocs       float64 // over the base's, but for whole cases
	bytes        float64 // likewise
	bytesPerHost float64
}

// measure returns the results of a case, that of the bare base first, and the others by time.
func (o *options) measure(c testCase, progress io.Writer) ([]result, error) {
	var all []result
	for _, group := range c.groups(o.subjects) {
		results, err := o.measureGroup(c, group, progress)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 {
			results = results[1:] // the base is in every group
		}
		all = append(all, results...)
		runtime.GC()
	}
	slices.SortStableFunc(all[1:], func(a, b result) int { return compare(a.time(c), b.time(c)) })
	return all, nil
}

func (o *options) measureGroup(c testCase, group []subject, progress io.Writer) ([]result, error) {
	rigs := make([]*rig, len(group))
	runs := make([][]testing.BenchmarkResult, len(group))
	for i, s := range group {
		rigs[i] = c.prepare(s)
	}
	for round := range o.rounds {
		for i, s := range group {
			fmt.Fprintf(progress, "\r%-14s %-18s round %d of %d  ", c.name, s.name, round+1, o.rounds)
			var err error
			run := testing.Benchmark(func(b *testing.B) {
				if err = rigs[i].bench(b); err != nil {
					b.FailNow()
				}
			})
			if err != nil {
				return nil, fmt.Errorf("%s in case %s: %w", s.name, c.name, err)
			}
			runs[i] = append(runs[i], run)
		}
	}
	fmt.Fprintf(progress, "\r%60s\r", "")

	results := make([]result, len(group))
	for i, s := range group {
		var ns, over, allocs, bytes []float64
		for round, run := range runs[i] {
			base := runs[0][round]
			ns = append(ns, nsPerOp(run))
			over = append(over, nsPerOp(run)-nsPerOp(base))
			if c.whole || i == 0 {
				base.MemAllocs, base.MemBytes = 0, 0
			}
			allocs = append(allocs, perOp(run.MemAllocs, run)-perOp(base.MemAllocs, base))
			bytes = append(bytes, perOp(run.MemBytes, run)-perOp(base.MemBytes, base))
		}
		results[i] = result{s, o.middle(ns), median(over), median(allocs), median(bytes), rigs[i].bytesPerHost}
		if o.least {
			results[i].over = results[i].ns - results[0].ns
		}
	}
	return results, nil
}

// time returns what counts in a case.
func (r result) time(c testCase) float64 {
	if c.whole {
		return r.ns
	}
	return r.over
}

func nsPerOp(r testing.BenchmarkResult) float64 { return float64(r.T.Nanoseconds()) / float64(r.N) }

func perOp(n uint64, r testing.BenchmarkResult) float64 { return float64(n) / float64(r.N) }
