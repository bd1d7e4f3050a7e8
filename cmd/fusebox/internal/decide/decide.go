// Package decide has circuits decide about calls of which it is known what came of them. They are the circuits of a
// Transport, told the times of the calls in place of a clock's.
//
// A call asks its key's circuit at its start, and if it is let through, comes back at its end with its outcome. If it
// is refused, the circuit never hears of it, and what it had come to is counted.
package decide

import (
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// Policy is one to decide by.
type Policy struct {
	Name   string
	Policy policy.Policy // that transport.New takes
	// Brief says that only totals by column are wanted, and of one seed.
	Brief bool
}

// Options is how it is decided.
type Options struct {
	Policies []Policy
	Clients  int           // circuits of each key, among which calls are dealt out by who called; 0 means 1
	Seeds    int           // of the jitter of waits, to see how much it matters; 0 means 16
	Timeout  time.Duration // of callers; 0 means what calls that timed out tell
}

// Replay is calls under way. Its methods are called by one goroutine.
type Replay struct {
	options Options
	truth   truth
	runs    []*run
	facts   []fact // of the calls at hand
}

// New begins. It panics if a policy makes no sense.
func New(o Options) *Replay {
	if o.Seeds == 0 {
		o.Seeds = 16
	}
	r := &Replay{options: o}
	for _, p := range o.Policies {
		r.runs = append(r.runs, newRun(p, &o))
	}
	return r
}

// Calls plays calls, in order of their start over all calls of Calls.
func (r *Replay) Calls(calls []record.Call) {
	if len(calls) == 0 {
		return
	}
	if len(r.facts) < len(calls) {
		r.facts = make([]fact, len(calls))
	}
	for i := range calls {
		r.truth.call(&calls[i])
		k := &r.truth.keys[calls[i].Key]
		r.facts[i] = fact{k.Calls, r.deadline(&calls[i], &k.patience)}
	}
	if len(r.runs) == 0 {
		return
	}
	each := func(some []*run) {
		for _, run := range some {
			if run.axis.Width == 0 {
				run.axis = Axis{From: r.truth.axis.From, Width: firstWidth}
			}
			if !run.Brief {
				run.stripOf = r.truth.stripOf
			}
			for i := range calls {
				run.call(&calls[i], r.facts[i])
			}
		}
	}
	r.share(each)
}

// deadline is when the caller of a call is gone; 0 if that is not known. It is asked in order of the starts.
func (r *Replay) deadline(call *record.Call, patience *patience) int64 {
	if timeout := r.options.Timeout; timeout > 0 {
		return max(call.End(), call.Start+int64(timeout))
	}
	patience.learn(call)
	return patience.deadline(call)
}

// share has all runs done, by as many goroutines as there are processors.
func (r *Replay) share(each func([]*run)) {
	workers := min(runtime.GOMAXPROCS(0), len(r.runs))
	var done sync.WaitGroup
	for w := 1; w < workers; w++ {
		done.Go(func() {
			for i := w; i < len(r.runs); i += workers {
				each(r.runs[i : i+1])
			}
		})
	}
	for i := 0; i < len(r.runs); i += workers {
		each(r.runs[i : i+1])
	}
	done.Wait()
}

// Range is the least and the most of all seeds.
type Range struct{ Least, Most int64 }

func (r *Range) take(n int64, first bool) {
	if first {
		r.Least, r.Most = n, n
	}
	r.Least, r.Most = min(r.Least, n), max(r.Most, n)
}

// Outcome is what became of the calls by one policy.
type Outcome struct {
	Policy
	Totals
	Suffered int64         // failures that were not refused
	OpenFor  time.Duration // circuits were not closed, all together
	Seeds    int           // of the ranges; 1 if chance has no say
	// over the seeds; the Totals are those of the first
	OpenedRange, RefusedRange, PriceRange, GainRange Range
	SparedRange                                      Range // in nanoseconds
	Spans                                            []Span
	SpansLeft                                        int      // that are not kept
	Keys                                             []Totals // by the number of the key; empty if Brief
	Lanes                                            []*Lane  // by strip, the first of all keys; nil where nothing was
	Passed                                           int64    // calls for which there was no room for a circuit
}

// Result is what became of all calls.
type Result struct {
	Total        Key
	Keys         []Key // by their number
	First, Last  int64 // start and end, in nanoseconds since 1970
	Axis         Axis
	Strips       []*Strip // the first of all keys
	Troubles     []*Trouble
	TroublesLeft int // that are not kept
	Outcomes     []Outcome
}

// Finish lets the calls come back that are out, and returns what became of all.
func (r *Replay) Finish() *Result {
	t := &r.truth
	t.finish()
	result := &Result{
		Total: t.total, Keys: t.keys, First: t.axis.From, Last: t.last,
		Strips: t.strips, Troubles: t.troubles, TroublesLeft: t.left,
	}
	if t.total.Calls > 0 {
		_, joins := t.axis.at(t.last)
		for range joins {
			for _, s := range t.strips {
				s.join()
			}
		}
		r.share(func(some []*run) {
			for _, run := range some {
				run.finish(t.last)
			}
		})
	}
	result.Axis = t.axis
	for _, run := range r.runs {
		o := Outcome{
			Policy: run.Policy, Totals: run.Totals, Suffered: t.total.Failure - run.Gain, OpenFor: run.openFor,
			Seeds: len(run.configs), Spans: run.spans, SpansLeft: run.left, Keys: run.keys, Lanes: run.lanes,
			Passed: run.circuits.passed,
		}
		for seed := range run.configs {
			totals, first := run.seed(seed), seed == 0
			o.OpenedRange.take(totals.Opened, first)
			o.RefusedRange.take(totals.Refused, first)
			o.PriceRange.take(totals.Price, first)
			o.GainRange.take(totals.Gain, first)
			o.SparedRange.take(int64(totals.Spared), first)
		}
		slices.SortStableFunc(o.Spans, func(a, b Span) int { return compare(a.Opened, b.Opened) })
		result.Outcomes = append(result.Outcomes, o)
	}
	return result
}

func compare(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
