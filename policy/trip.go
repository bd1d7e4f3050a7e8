package policy

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Consecutive trips at a number of failures in a row. A success zeroes the count.
type Consecutive struct {
	Failures int // 0 means 5
}

// NewTrip makes the memory of a circuit. It panics if a parameter makes no sense.
func (c Consecutive) NewTrip() Trip {
	return &consecutive{limit: positiveOr(c.Failures, 5, "Consecutive.Failures")}
}

type consecutive struct{ limit, failures int }

func (c *consecutive) Start(time.Time, int) { c.failures = 0 }
func (c *consecutive) Quiet() bool          { return c.failures == 0 }
func (c *consecutive) Counts() (int, int)   { return c.failures, 0 }

func (c *consecutive) Gauge(time.Time) (value, trips int) { return c.failures, c.limit }

func (c *consecutive) Record(_ time.Time, r Result) bool {
	if r.Outcome == Success {
		c.failures = 0
		return false
	}
	c.failures++
	return c.failures >= c.limit
}

func (c *consecutive) Explain() string {
	return fmt.Sprintf("%s in a row (bound %d)", counted(c.failures, "failure"), c.limit)
}

// counted writes a number of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return strconv.Itoa(n) + " " + thing
}

// FailureShare trips when at least Percent of the calls in view failed. In view are the last Calls calls, or,
// if Window is set, those of the last Window of time (known to a tenth of it).
type FailureShare struct {
	Percent int           // 1 to 100; 0 means 50
	Calls   int           // size of the view in calls; 0 means 100; not together with Window
	Window  time.Duration // size of the view in time; 0 means that the view is counted in calls
	Minimum int           // calls that must be in view before the share says anything; 0 means 10
}

// NewTrip makes the memory of a circuit. It panics if a parameter makes no sense.
func (f FailureShare) NewTrip() Trip {
	return newShareTrip("FailureShare", f, "failed", func(r Result) bool { return r.Outcome == Failure })
}

// SlowShare trips when at least Percent of the calls in view took longer than Slower to their headers or error,
// whether they succeeded or not. The view is that of FailureShare.
type SlowShare struct {
	Slower  time.Duration // required
	Percent int           // as in FailureShare
	Calls   int
	Window  time.Duration
	Minimum int
}

// NewTrip makes the memory of a circuit. It panics if a parameter makes no sense.
func (s SlowShare) NewTrip() Trip {
	if s.Slower <= 0 {
		panic(invalid("SlowShare.Slower is %v; write how long a good call may take", s.Slower))
	}
	view := FailureShare{Percent: s.Percent, Calls: s.Calls, Window: s.Window, Minimum: s.Minimum}
	slow := func(r Result) bool { return r.Elapsed > s.Slower }
	return slowTrip{newShareTrip("SlowShare", view, "slower than "+s.Slower.String(), slow)}
}

type slowTrip struct{ *shareTrip }

func (slowTrip) Timed() bool { return true }

type shareTrip struct {
	view    view
	bad     func(Result) bool
	is      string // what a bad call is
	percent int
	minimum int
}

func newShareTrip(name string, f FailureShare, is string, bad func(Result) bool) *shareTrip {
	if f.Window != 0 && f.Calls != 0 {
		panic(invalid("%s has both Calls and Window; write one of them, or combine two rules with AnyOf", name))
	}
	s := &shareTrip{
		bad:     bad,
		is:      is,
		percent: percentOr(f.Percent, 50, name+".Percent"),
		minimum: positiveOr(f.Minimum, 10, name+".Minimum"),
	}
	if f.Window < 0 {
		panic(invalid("%s.Window is %v; write a positive one, or 0 to count the view in calls", name, f.Window))
	}
	if f.Window > 0 {
		s.view = newTimeView(f.Window)
		return s
	}
	calls := positiveOr(f.Calls, 100, name+".Calls")
	if f.Minimum == 0 {
		s.minimum = min(s.minimum, calls)
	}
	if s.minimum > calls {
		panic(invalid(
			"%s.Minimum is %d but only the last %d calls are in view; write a larger Calls", name, s.minimum, calls,
		))
	}
	s.view = newCallView(calls)
	return s
}

func (s *shareTrip) Start(time.Time, int) { s.view.clear() }
func (s *shareTrip) Quiet() bool          { return false } // a success is part of the share
func (s *shareTrip) Counts() (int, int)   { bad, total := s.view.counts(); return bad, total - bad }
func (s *shareTrip) Bad(r Result) bool    { return s.bad(r) }
func (s *shareTrip) Record(now time.Time, r Result) bool {
	s.view.add(now, s.bad(r))
	bad, total := s.view.counts()
	return total >= s.minimum && share(bad, total, s.percent)
}

func (s *shareTrip) Explain() string {
	bad, total := s.view.counts()
	return fmt.Sprintf("%d of %s %s (bound %d %%)", bad, counted(total, "call"), s.is, s.percent)
}

// AnyOf trips when one of its rules does. Its counts are those of the rule that tripped, and of the first until then;
// its gauge is that of the rule nearest to tripping, of those that have one.
func AnyOf(rules ...TripRule) TripRule {
	if len(rules) == 0 {
		panic(invalid("AnyOf got no rules; write at least one"))
	}
	if slices.Contains(rules, nil) {
		panic(invalid("AnyOf got a nil rule; leave it out"))
	}
	return anyOf(slices.Clone(rules))
}

type anyOf []TripRule

func (a anyOf) NewTrip() Trip {
	trips := make([]Trip, len(a))
	for i, rule := range a {
		trips[i] = rule.NewTrip()
	}
	return &anyTrip{rules: trips}
}

type anyTrip struct {
	rules   []Trip
	tripped int // the index of the rule that did; of the first until then
}

func (a *anyTrip) Start(now time.Time, failedProbes int) {
	a.tripped = 0
	for _, t := range a.rules {
		t.Start(now, failedProbes)
	}
}

func (a *anyTrip) Quiet() bool {
	for _, t := range a.rules {
		if !t.Quiet() {
			return false
		}
	}
	return true
}

func (a *anyTrip) Record(now time.Time, r Result) bool {
	tripped := false
	for i, t := range a.rules {
		if t.Record(now, r) && !tripped { // each one sees every result
			a.tripped, tripped = i, true
		}
	}
	return tripped
}

func (a *anyTrip) Counts() (int, int) { return a.rules[a.tripped].Counts() }

func (a *anyTrip) Explain() string {
	if explainer, ok := a.rules[a.tripped].(Explainer); ok {
		return explainer.Explain()
	}
	return ""
}

func (a *anyTrip) Timed() bool {
	return slices.ContainsFunc(a.rules, func(t Trip) bool {
		timed, ok := t.(Timed)
		return ok && timed.Timed()
	})
}

func (a *anyTrip) Bad(r Result) bool {
	return slices.ContainsFunc(a.rules, func(t Trip) bool {
		judge, ok := t.(Judge)
		return ok && judge.Bad(r)
	})
}

func (a *anyTrip) Gauge(now time.Time) (value, trips int) {
	for _, t := range a.rules {
		gauge, ok := t.(Gauge)
		if !ok {
			continue
		}
		if v, at := gauge.Gauge(now); trips == 0 || int64(v)*int64(trips) > int64(value)*int64(at) {
			value, trips = v, at
		}
	}
	return value, trips
}
