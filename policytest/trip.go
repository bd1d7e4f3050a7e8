package policytest

import (
	"math"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

var tripChecks = []check[policy.TripRule]{
	{"NewMakesMemoryForOneCircuit", tripMemoryIsOfOneCircuit},
	{"LookingChangesNothing", lookingAtTripChangesNothing},
	{"StartForgetsAllCalls", startForgetsAllCalls},
	{"WhileItIsQuietASuccessChangesNothing", quietMeansNothingChanges},
	{"CountsAreNeverNegative", tripCountsAreCounts},
	{"TheGaugeIsBelowItsEndUntilItTrips", gaugeIsBelowItsEnd},
	{"OnlyATimedRuleLooksAtTheTimeOfCalls", onlyTimedLooksAtElapsed},
	{"AQuickSuccessIsNotBad", quickSuccessIsNotBad},
	{"NoTimeAndNoNumberDoesHarm", tripTakesAnything},
	{"ASuccessAllocatesNothing", successAllocatesNothing},
}

// tripStep is what a circuit that is closed tells its rule.
type tripStep struct {
	now    time.Time
	result policy.Result
	probes int // that fail, if it trips
}

func tripSteps(seed uint64, wild bool) []tripStep {
	w, all := newWorld(seed, wild), make([]tripStep, steps)
	for i := range all {
		all[i] = tripStep{now: w.pass(), result: w.result(), probes: w.number()}
	}
	return all
}

// tripSeen is what there is to see of a memory.
type tripSeen struct {
	tripped, quiet, bad bool
	failures, successes int
	value, trips        int
}

// take tells a memory of a call, and begins anew if it trips.
func (s tripStep) take(m policy.Trip) (tripped bool) {
	if tripped = m.Record(s.now, s.result); tripped {
		m.Start(s.now, s.probes)
	}
	return tripped
}

func (s tripStep) see(m policy.Trip) (seen tripSeen) {
	seen.quiet = m.Quiet()
	seen.failures, seen.successes = m.Counts()
	if gauge, ok := m.(policy.Gauge); ok {
		seen.value, seen.trips = gauge.Gauge(s.now)
	}
	if judge, ok := m.(policy.Judge); ok {
		seen.bad = judge.Bad(s.result)
	}
	return seen
}

func (s tripStep) takeAndSee(m policy.Trip) tripSeen {
	tripped := s.take(m)
	seen := s.see(m)
	seen.tripped = tripped
	return seen
}

func tripMemoryIsOfOneCircuit(t testing.TB, rule policy.TripRule) {
	sameAlways(t, func(seed uint64) func() tripSeen {
		m, left := rule.NewTrip(), tripSteps(seed, false)
		return func() (seen tripSeen) {
			seen, left = left[0].takeAndSee(m), left[1:]
			return seen
		}
	})
}

func lookingAtTripChangesNothing(t testing.TB, rule policy.TripRule) {
	for seed := range uint64(seeds) {
		a, b := rule.NewTrip(), rule.NewTrip()
		for i, s := range tripSteps(seed, false) {
			for range i % 4 {
				s.see(b)
			}
			if want, got := s.take(a), s.take(b); got != want {
				t.Fatalf(
					"call %d: tripped %v, and %v where Quiet, Counts, Gauge and Bad were called before", i, want, got,
				)
			}
		}
	}
}

// How many probes have failed a rule may remember, and so both memories are told the same.
func startForgetsAllCalls(t testing.TB, rule policy.TripRule) {
	for seed := range uint64(seeds) {
		all := tripSteps(seed, false)
		a, b := rule.NewTrip(), rule.NewTrip()
		for _, s := range all[:100+seed] {
			if s.take(a) {
				b.Start(s.now, s.probes)
			}
		}
		for i, s := range all[100+seed:] {
			if i == 0 {
				a.Start(s.now, 2)
				b.Start(s.now, 2)
				if want, got := s.see(b), s.see(a); got != want {
					t.Fatalf(
						"after Start, a circuit that has seen calls is not as one that has not:\nwant %+v\ngot  %+v",
						want, got,
					)
				}
				if failures, successes := a.Counts(); failures != 0 || successes != 0 {
					t.Fatalf("after Start, %d failures and %d successes are in view", failures, successes)
				}
			}
			if want, got := s.takeAndSee(b), s.takeAndSee(a); got != want {
				t.Fatalf(
					"call %d after Start is not as for a circuit that has seen no calls:\nwant %+v\ngot  %+v", i, want,
					got,
				)
			}
		}
	}
}

func quietMeansNothingChanges(t testing.TB, rule policy.TripRule) {
	for seed := range uint64(seeds) {
		w := newWorld(seed, false)
		a, b := rule.NewTrip(), rule.NewTrip()
		for i, s := range tripSteps(seed, false) {
			for range w.IntN(4) {
				if !b.Quiet() {
					break
				}
				before := s.see(b)
				if b.Record(s.now, policy.Result{Outcome: policy.Success, Elapsed: w.elapsed()}) {
					t.Fatalf("before call %d: it is quiet, and trips by a success", i)
				}
				if after := s.see(b); after != before {
					t.Fatalf(
						"before call %d: it is quiet, and a success changes it:\nbefore %+v\nafter  %+v", i, before,
						after,
					)
				}
			}
			if want, got := s.takeAndSee(a), s.takeAndSee(b); got != want {
				t.Fatalf("call %d is not as where successes while it was quiet were not reported:\nwant %+v\ngot  %+v",
					i, want, got)
			}
		}
	}
}

func tripCountsAreCounts(t testing.TB, rule policy.TripRule) {
	for seed := range uint64(seeds) {
		m := rule.NewTrip()
		if failures, successes := m.Counts(); failures != 0 || successes != 0 {
			t.Fatalf("a new circuit has %d failures and %d successes in view", failures, successes)
		}
		for i, s := range tripSteps(seed, false) {
			s.take(m)
			if failures, successes := m.Counts(); failures < 0 || successes < 0 {
				t.Fatalf("after call %d: %d failures and %d successes are in view", i, failures, successes)
			}
		}
	}
}

// A gauge of one rule of several can be far from its end when another one trips.
func gaugeIsBelowItsEnd(t testing.TB, rule policy.TripRule) {
	for seed := range uint64(seeds) {
		m := rule.NewTrip()
		gauge, ok := m.(policy.Gauge)
		if !ok {
			return
		}
		for i, s := range tripSteps(seed, false) {
			s.take(m)
			value, trips := gauge.Gauge(s.now)
			if value < 0 || trips < 0 || value > 0 && trips == 0 {
				t.Fatalf("after call %d the gauge is at %d of %d", i, value, trips)
			}
			if trips > 0 && value >= trips {
				t.Fatalf(
					"after call %d the gauge is at %d of %d, and it has not tripped, or has started anew", i, value,
					trips,
				)
			}
		}
	}
}

func timed(rule policy.TripRule) bool {
	timed, ok := rule.NewTrip().(policy.Timed)
	return ok && timed.Timed()
}

func onlyTimedLooksAtElapsed(t testing.TB, rule policy.TripRule) {
	if timed(rule) {
		return
	}
	for seed := range uint64(seeds) {
		a, b := rule.NewTrip(), rule.NewTrip()
		for i, s := range tripSteps(seed, false) {
			got := s.takeAndSee(a)
			s.result.Elapsed = 0
			if want := s.takeAndSee(b); got != want {
				t.Fatalf(
					"call %d: it is not Timed, and the time of calls makes a difference:\nwithout %+v\nwith    %+v", i,
					want, got,
				)
			}
		}
	}
}

func quickSuccessIsNotBad(t testing.TB, rule policy.TripRule) {
	if judge, ok := rule.NewTrip().(policy.Judge); ok && judge.Bad(policy.Result{Outcome: policy.Success, Elapsed: 1}) {
		t.Error("a success that took no time is Bad: no circuit would ever close again")
	}
}

// A circuit also opens because others say so, or somebody, and closes again without a trip of the rule's.
func tripTakesAnything(t testing.TB, rule policy.TripRule) {
	for seed := range uint64(seeds) {
		m := rule.NewTrip()
		for i, s := range tripSteps(seed, true) {
			if i%50 == 49 {
				m.Start(s.now, s.probes)
			}
			if seen := s.takeAndSee(m); seen.failures < 0 || seen.successes < 0 || seen.value < 0 || seen.trips < 0 {
				t.Fatalf("after call %d: %+v", i, seen)
			}
		}
		m.Start(epoch, math.MaxInt/2) // as of a circuit that somebody closes by hand
		if failures, successes := m.Counts(); failures != 0 || successes != 0 {
			t.Fatalf("after Start, %d failures and %d successes are in view", failures, successes)
		}
	}
}

// What a rule that is quiet would not be told either has to be as cheap where it is not.
func successAllocatesNothing(t testing.TB, rule policy.TripRule) {
	m, good := rule.NewTrip(), policy.Result{Outcome: policy.Success, Elapsed: time.Millisecond}
	for range steps { // what has to grow has grown
		m.Record(epoch, good)
	}
	if n := allocations(func() {
		if !m.Quiet() {
			m.Record(epoch, good)
		}
	}); n > 0 {
		t.Errorf("a success, or to ask whether one has to be reported, makes %d allocations", n)
	}
}
