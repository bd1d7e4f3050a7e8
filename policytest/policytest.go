// Package policytest is the conformance suite for rules of one's own: what package policy says of a TripRule, a
// ProbeRule and a RecoverRule, of the memories that they make, and of what these can have beside their methods
// (policy.Gauge, Judge, Countdown, InVain and Joint).
//
// It goes by random histories, the same in each run: calls that succeed and fail in phases, requests in bursts and
// years apart, clocks that stand still and jump, numbers as large as there are. Two memories that are told the same
// have to do the same, so a rule that draws chance of its own, or reads a clock, fails: time and chance are given to
// it.
//
// What the suite asks for is what a circuit relies on. That a rule is a good one it cannot tell.
package policytest

import (
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// TestTrip tests a TripRule. Of each of the senseless ones, if there are any, NewTrip has to panic.
func TestTrip(t *testing.T, rule policy.TripRule, senseless ...policy.TripRule) {
	runAll(t, rule, tripChecks)
	for _, rule := range senseless {
		checkPanics(t, rule, func() { rule.NewTrip() })
	}
}

// TestProbe tests a ProbeRule. Of each of the senseless ones, if there are any, NewProbe has to panic.
func TestProbe(t *testing.T, rule policy.ProbeRule, senseless ...policy.ProbeRule) {
	runAll(t, rule, probeChecks)
	for _, rule := range senseless {
		checkPanics(t, rule, func() { rule.NewProbe() })
	}
}

// TestRecover tests a RecoverRule. Of each of the senseless ones, if there are any, NewRecover has to panic.
func TestRecover(t *testing.T, rule policy.RecoverRule, senseless ...policy.RecoverRule) {
	runAll(t, rule, recoverChecks)
	for _, rule := range senseless {
		checkPanics(t, rule, func() { rule.NewRecover() })
	}
}

// TestPolicy tests that a Policy has its three rules and sensible values of the rest, and each of the rules.
func TestPolicy(t *testing.T, p policy.Policy) {
	rules := p.Rules()
	checkRules(t, rules)
	t.Run("Trip", func(t *testing.T) { TestTrip(t, rules.Trip) })
	t.Run("Probe", func(t *testing.T) { TestProbe(t, rules.Probe) })
	t.Run("Recover", func(t *testing.T) { TestRecover(t, rules.Recover) })
}

// check is one sentence of the contract, and what finds out whether a rule keeps to it.
type check[Rule any] struct {
	name string
	test func(testing.TB, Rule)
}

func runAll[Rule any](t *testing.T, rule Rule, checks []check[Rule]) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) { c.test(t, rule) })
	}
}

func checkRules(t testing.TB, rules policy.Rules) {
	t.Helper()
	if rules.Trip == nil || rules.Probe == nil || rules.Recover == nil {
		t.Fatalf("a rule is nil: Trip %v, Probe %v, Recover %v", rules.Trip, rules.Probe, rules.Recover)
	}
	rules.Validated()
}

func checkPanics(t testing.TB, rule any, makes func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%+v makes no sense, and its New does not panic", rule)
		}
	}()
	makes()
}

const (
	seeds = 6    // of histories
	steps = 1000 // of a history
	year  = 365 * 24 * time.Hour
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// A world is where times and results of a history come from.
type world struct {
	*rand.Rand
	wild    bool // clocks stand still and jump, and numbers are huge
	now     time.Time
	failing float64 // share of the calls, in this phase
}

func newWorld(seed uint64, wild bool) *world {
	return &world{Rand: newRand(seed), wild: wild, now: epoch}
}

// pass lets time go on.
func (w *world) pass() time.Time {
	switch n := w.IntN(100); {
	case w.wild && n < 10: // and stands still
	case w.wild && n < 20:
		w.now = w.now.Add(-w.upTo(2 * time.Hour))
	case w.wild && n < 22:
		w.now = w.now.Add(-w.upTo(50 * year))
	case w.wild && n < 24:
		w.now = w.now.Add(w.upTo(50 * year))
	case w.wild && n < 25:
		w.now = time.Time{}
	case w.wild && n < 27 || w.now.Year() < 1900 || w.now.Year() > 2200:
		w.now = epoch
	case n < 90:
		w.now = w.now.Add(w.upTo(100 * time.Millisecond))
	default:
		w.now = w.now.Add(w.upTo(2 * time.Minute))
	}
	return w.now
}

func (w *world) upTo(d time.Duration) time.Duration { return time.Duration(w.Int64N(int64(d) + 1)) }

// result is what a call has come to. Phases in which all goes well, in which some fails and in which all fails take
// turns.
func (w *world) result() policy.Result {
	if w.IntN(30) == 0 {
		w.failing = []float64{0, 0.02, 0.5, 0.9, 1}[w.IntN(5)]
	}
	r := policy.Result{Outcome: policy.Success, Elapsed: w.elapsed()}
	if w.Float64() < w.failing {
		r.Outcome, r.Cause = policy.Failure, policy.Cause{Kind: policy.KindStatus, Status: 500}
		if w.IntN(20) == 0 {
			r.RetryAfter = w.upTo(time.Minute)
		}
		if w.wild && w.IntN(20) == 0 {
			r.RetryAfter = math.MaxInt64
		}
	}
	return r
}

func (w *world) elapsed() time.Duration {
	switch n := w.IntN(20); {
	case w.wild && n == 0:
		return math.MaxInt64
	case n < 3:
		return 0 // nobody asked for it
	case n < 6:
		return w.upTo(time.Minute)
	}
	return w.upTo(20 * time.Millisecond)
}

// number is one that is not negative, and sometimes the largest.
func (w *world) number() int {
	if w.wild && w.IntN(4) == 0 {
		return math.MaxInt
	}
	return w.IntN(20)
}

// chance is a number in [0,1), its ends often among them.
func (w *world) chance() float64 {
	switch w.IntN(4) {
	case 0:
		return 0
	case 1:
		return math.Nextafter(1, 0)
	}
	return w.Float64()
}

// sameAlways has circuits of one rule go through histories: one after the other, all by turns, and all at once. It
// fails if what comes of one is not the same each time, as it would not be if a memory were part of another, or of the
// rule. Begin returns what makes one step of a new circuit.
func sameAlways[Seen comparable](t testing.TB, begin func(seed uint64) (step func() Seen)) {
	t.Helper()
	play := func(step func() Seen) (seen []Seen) {
		for range steps {
			seen = append(seen, step())
		}
		return seen
	}
	var alone, byTurns, atOnce [seeds][]Seen
	for seed := range alone {
		alone[seed] = play(begin(uint64(seed)))
	}
	var circuits [seeds]func() Seen
	for seed := range circuits {
		circuits[seed] = begin(uint64(seed))
	}
	for range steps {
		for seed, step := range circuits {
			byTurns[seed] = append(byTurns[seed], step())
		}
	}
	for seed := range alone {
		sameSeen(t, alone[seed], byTurns[seed], "a circuit that goes by turns with others")
	}
	var playing sync.WaitGroup
	for seed := range atOnce {
		playing.Go(func() { atOnce[seed] = play(begin(uint64(seed))) })
	}
	playing.Wait()
	for seed := range alone {
		sameSeen(t, alone[seed], atOnce[seed], "a circuit that goes at once with others")
	}
}

func sameSeen[Seen comparable](t testing.TB, alone, seen []Seen, whose string) {
	t.Helper()
	for i := range alone {
		if alone[i] != seen[i] {
			t.Fatalf("%s is not as one that is alone, at step %d:\nwant %+v\ngot  %+v", whose, i, alone[i], seen[i])
		}
	}
}

// allocations returns how many allocations f makes, others in the process left out as far as can be.
func allocations(f func()) uint64 {
	least := uint64(math.MaxUint64)
	for range 10 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			f()
		}
		runtime.ReadMemStats(&after)
		least = min(least, (after.Mallocs-before.Mallocs)/100)
	}
	return least
}
