package main

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"
)

// garbage is what each call of the tails leaves behind, beside what the subject does: as much as a small real answer.
const garbage = 4 << 10

// tailSubjects are those of the tails, beside the bare base.
var tailSubjects = []string{"fusebox", "gobreaker", "failsafe"}

// A tail is how long the slowest calls of a subject take.
type tail struct {
	subject   subject
	median    float64 // ns of a call, as the next ones
	p99, p999 float64
	pauses    float64 // collections of garbage
}

// tailOf measures a subject: 64 goroutines make a number of calls each, with a body and garbage, and each call is
// timed.
func tailOf(s subject, each int) tail {
	rt := s.new(full)
	times := make([][]int64, goroutines)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var out sync.WaitGroup
	for g := range goroutines {
		times[g] = make([]int64, each)
		out.Go(func() { callTimed(rt, times[g]) })
	}
	out.Wait()
	runtime.ReadMemStats(&after)
	all := slices.Concat(times...)
	slices.Sort(all)
	at := func(share float64) float64 { return float64(all[int(share*float64(len(all)-1))]) }
	return tail{s, at(0.5), at(0.99), at(0.999), float64(after.NumGC - before.NumGC)}
}

func callTimed(rt http.RoundTripper, times []int64) {
	c := newCaller(upstream)
	defer c.cancel()
	var kept [16][]byte
	for i := range times {
		began := time.Now()
		if err := c.read(rt); err != nil {
			panic(err)
		}
		times[i] = int64(time.Since(began))
		kept[i%len(kept)] = make([]byte, garbage)
	}
	runtime.KeepAlive(kept)
}

// reportTails writes the medians of all rounds.
func (o *options) reportTails(out, progress io.Writer) {
	const each = 4000
	fmt.Fprintf(out, "### tails: a call with a body in a crowd of %d goroutines, each with %d bytes of garbage\n\n"+
		"Whole calls, %d of each subject in each of %d rounds. Two readings of the clock are in each.\n\n"+
		"| subject | median ns | p99 ns | p99.9 ns | collections |\n|---|--:|--:|--:|--:|\n",
		goroutines, garbage, goroutines*each, o.rounds)
	var all []subject
	for _, s := range append([]subject{bare}, subjects()...) {
		if s.name == bare.name || slices.Contains(tailSubjects, s.name) {
			all = append(all, s)
		}
	}
	runs := make([][]tail, len(all))
	for round := range o.rounds {
		for i, s := range all {
			fmt.Fprintf(progress, "\r%-14s %-18s round %d of %d  ", "tails", s.name, round+1, o.rounds)
			runs[i] = append(runs[i], tailOf(s, each))
		}
	}
	fmt.Fprintf(progress, "\r%60s\r", "")
	for i, s := range all {
		of := func(get func(tail) float64) float64 {
			var values []float64
			for _, run := range runs[i] {
				values = append(values, get(run))
			}
			return median(values)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", s.name,
			number(of(func(t tail) float64 { return t.median })), number(of(func(t tail) float64 { return t.p99 })),
			number(of(func(t tail) float64 { return t.p999 })), number(of(func(t tail) float64 { return t.pauses })))
	}
	fmt.Fprintln(out)
}
