package policytest

import (
	"fmt"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

var probeChecks = []check[policy.ProbeRule]{
	{"NewMakesMemoryForOneCircuit", probeMemoryIsOfOneCircuit},
	{"LookingChangesNothing", lookingAtProbeChangesNothing},
	{"NoRequestIsLetThroughBeforeItIsDue", noRequestBeforeDue},
	{"NoWaitIsOverBeforeItBegins", noWaitIsOverBeforeItBegins},
	{"EveryWaitEnds", everyWaitEnds},
	{"AWaitThatBeganElsewhereEndsWhenItIsDue", resumeEndsAtDue},
	{"AYearIsNotWaitedBecauseAnUpstreamSaysSo", noYearIsWaited},
	{"ALeaseIsPositive", probeLeaseIsPositive},
	{"ACountdownComesTrue", countdownComesTrue},
	{"RequestsInVainAreAsIfItWasAskedAboutEach", probeIsToldOfMany},
	{"NoTimeAndNoNumberDoesHarm", probeTakesAnything},
}

const burst = 10_000 // requests at one time

// probeStep is what a circuit that is open tells its rule.
type probeStep struct {
	now    time.Time
	kind   string // "trip", "fail", "resume" or "ask"
	result policy.Result
	random float64
	due    time.Time
}

// probeSteps begins with a trip or with a wait that began elsewhere.
func probeSteps(seed uint64, wild bool) []probeStep {
	w, all := newWorld(seed, wild), make([]probeStep, steps)
	for i := range all {
		s := probeStep{now: w.pass(), kind: "ask", result: w.result(), random: w.chance()}
		switch n := w.IntN(50); {
		case i == 0 && seed%2 == 0, n == 0:
			s.kind = "trip"
		case i == 0, n == 1:
			s.kind, s.due = "resume", s.now.Add(w.upTo(time.Minute))
			if w.wild {
				s.due = w.pass()
			}
		case n < 6:
			s.kind = "fail"
		}
		if s.kind != "resume" {
			s.result.Outcome = policy.Failure
		}
		all[i] = s
	}
	return all
}

// probeSeen is what there is to see of a memory.
type probeSeen struct {
	through  bool
	due      time.Time
	lease    time.Duration
	requests int
	latest   time.Time
}

func (s probeSeen) String() string {
	return fmt.Sprintf(
		"let through %v, due %v, lease %v, %d requests to come, or at %v", s.through, s.due, s.lease, s.requests,
		s.latest,
	)
}

func (s probeStep) take(m policy.Probe) (through bool) {
	switch s.kind {
	case "trip":
		m.Trip(s.now, s.result, s.random)
	case "fail":
		m.Fail(s.now, s.result, s.random)
	case "resume":
		m.Resume(s.now, s.due)
	default:
		return m.Ask(s.now)
	}
	return false
}

func seeProbe(m policy.Probe) (seen probeSeen) {
	seen.due, seen.lease = m.Due(), m.Lease()
	if countdown, ok := m.(policy.Countdown); ok {
		seen.requests, seen.latest = countdown.Countdown()
	}
	return seen
}

func (s probeStep) takeAndSee(m policy.Probe) probeSeen {
	through := s.take(m)
	seen := seeProbe(m)
	seen.through = through
	return seen
}

func probeMemoryIsOfOneCircuit(t testing.TB, rule policy.ProbeRule) {
	sameAlways(t, func(seed uint64) func() probeSeen {
		m, left := rule.NewProbe(), probeSteps(seed, false)
		return func() (seen probeSeen) {
			seen, left = left[0].takeAndSee(m), left[1:]
			return seen
		}
	})
}

func lookingAtProbeChangesNothing(t testing.TB, rule policy.ProbeRule) {
	for seed := range uint64(seeds) {
		a, b := rule.NewProbe(), rule.NewProbe()
		for i, s := range probeSteps(seed, false) {
			for range i % 4 {
				seeProbe(b)
			}
			if want, got := s.take(a), s.take(b); got != want {
				t.Fatalf(
					"step %d: let through %v, and %v where Due, Lease and Countdown were called before", i, want, got,
				)
			}
		}
	}
}

func noRequestBeforeDue(t testing.TB, rule policy.ProbeRule) {
	eachProbeStep(rule, func(i int, m policy.Probe, s probeStep) {
		if due := m.Due(); s.take(m) && s.now.Before(due) {
			t.Fatalf("step %d: a request is let through %v before Due", i, due.Sub(s.now))
		}
	})
}

func noWaitIsOverBeforeItBegins(t testing.TB, rule policy.ProbeRule) {
	eachProbeStep(rule, func(i int, m policy.Probe, s probeStep) {
		s.take(m)
		if (s.kind == "trip" || s.kind == "fail") && m.Due().Before(s.now) {
			t.Fatalf("step %d: a %s with a random %v is due %v before it", i, s.kind, s.random, s.now.Sub(m.Due()))
		}
	})
}

func eachProbeStep(rule policy.ProbeRule, do func(i int, m policy.Probe, s probeStep)) {
	for seed := range uint64(seeds) {
		m := rule.NewProbe()
		for i, s := range probeSteps(seed, false) {
			do(i, m, s)
		}
	}
}

// ends reports whether a request is let through once many have come when it is due, or after a time however long.
func ends(m policy.Probe, now time.Time) bool {
	if due := m.Due(); due.After(now) {
		now = due
	}
	for range burst {
		if m.Ask(now) {
			return true
		}
	}
	for wait := time.Second; wait < 100*year; wait *= 2 {
		if m.Ask(now.Add(wait)) {
			return true
		}
	}
	return false
}

func everyWaitEnds(t testing.TB, rule policy.ProbeRule) {
	m, w := rule.NewProbe(), newWorld(1, false)
	m.Trip(epoch, failure, w.chance())
	for n := range 100 {
		if !ends(m, m.Due()) {
			t.Fatalf("after %d failed probes, no request is let through however many come and however long it takes", n)
		}
		m.Fail(m.Due().Add(time.Second), failure, w.chance())
	}
}

// What is a wait of its own a rule can do elsewhere as well; one that is longer it may cut short.
func resumeEndsAtDue(t testing.TB, rule policy.ProbeRule) {
	m := rule.NewProbe()
	m.Trip(epoch, failure, 0)
	own := m.Due().Sub(epoch)
	for _, wait := range []time.Duration{
		-time.Hour, 0, own / 2, own, own + time.Second, own + time.Hour, own + 10*year,
	} {
		for _, m := range []policy.Probe{m, rule.NewProbe()} {
			due := epoch.Add(wait)
			m.Resume(epoch, due)
			switch got := m.Due(); {
			case wait >= 0 && wait <= own && !got.Equal(due):
				t.Errorf("a wait that began elsewhere and ends after %v is due after %v", wait, got.Sub(epoch))
			case got.After(due) && got.After(epoch):
				t.Errorf("a wait that began elsewhere and ends after %v is due later, after %v", wait, got.Sub(epoch))
			}
			if !ends(m, epoch) {
				t.Errorf("a wait that began elsewhere and ends after %v never ends", wait)
			}
			m.Fail(epoch, failure, 0.5)
			if !ends(m, epoch) {
				t.Errorf("a probe fails after a wait that began elsewhere, and there is no other")
			}
		}
	}
}

func noYearIsWaited(t testing.TB, rule policy.ProbeRule) {
	wait := func(asked time.Duration) time.Duration {
		m := rule.NewProbe()
		m.Trip(epoch, policy.Result{Outcome: policy.Failure, RetryAfter: asked}, 0)
		return m.Due().Sub(epoch)
	}
	if got := wait(year); got >= year && wait(0) < year {
		t.Errorf("an upstream that asks for a year is not called for %v", got)
	}
}

func probeLeaseIsPositive(t testing.TB, rule policy.ProbeRule) {
	eachProbeStep(rule, func(i int, m policy.Probe, s probeStep) {
		s.take(m)
		if m.Lease() <= 0 {
			t.Fatalf("after step %d the lease of a probe is %v", i, m.Lease())
		}
	})
}

// However far a wait has gone, as many requests as are to come end it, and so does the first one from the latest time
// on.
func countdownComesTrue(t testing.TB, rule policy.ProbeRule) {
	for seed := range uint64(seeds) {
		all := probeSteps(seed, false)
		for _, far := range []int{1, 2, 3, 10, 30, 100} {
			var counting [2]policy.Probe
			var now time.Time
			for i := range counting {
				counting[i] = rule.NewProbe()
				for _, s := range all[:far] {
					s.take(counting[i])
					now = s.now
				}
			}
			m := counting[0]
			countdown, ok := m.(policy.Countdown)
			if !ok {
				return
			}
			requests, latest := countdown.Countdown()
			if requests < 1 || latest.Before(m.Due()) {
				t.Fatalf(
					"after %d steps %d requests are to come, and the latest time is %v before Due", far, requests,
					m.Due().Sub(latest),
				)
			}
			if now.Before(m.Due()) {
				now = m.Due()
			}
			for n := 1; n <= min(requests, burst/10) && now.Before(latest); n++ {
				if through := m.Ask(now); through != (n == requests) {
					t.Fatalf(
						"after %d steps %d requests are to come; the %d. is let through: %v", far, requests, n, through,
					)
				}
			}
			if now.Before(latest) {
				now = latest
			}
			if !counting[1].Ask(now) {
				t.Fatalf("after %d steps a request at the latest time for one is not let through", far)
			}
		}
	}
}

// A probe that is an InVain is the same, whether it is asked about requests that are not let through or told of them.
func probeIsToldOfMany(t testing.TB, rule policy.ProbeRule) {
	for seed := range uint64(seeds) {
		a, b := rule.NewProbe(), rule.NewProbe()
		told, ok := b.(policy.InVain)
		if !ok {
			return
		}
		for i, s := range probeSteps(seed, false) {
			s.take(a)
			s.take(b)
			n := inVain(a, s.now, 1+i%7)
			for range n {
				if a.Ask(s.now) {
					t.Fatalf("step %d: a request is let through before Due, or before its turn by Countdown", i)
				}
			}
			if n > 0 {
				told.InVain(n)
			}
			if want, got := seeProbe(a), seeProbe(b); got != want {
				t.Fatalf("step %d: %v, and %v where InVain(%d) was called", i, want, got, n)
			}
		}
	}
}

// inVain is how many requests of some are not let through now.
func inVain(m policy.Probe, now time.Time, some int) int {
	if now.Before(m.Due()) {
		return some
	}
	if countdown, ok := m.(policy.Countdown); ok {
		if requests, latest := countdown.Countdown(); now.Before(latest) {
			return min(some, requests-1)
		}
	}
	return 0
}

func probeTakesAnything(t testing.TB, rule policy.ProbeRule) {
	for seed := range uint64(seeds) {
		m := rule.NewProbe()
		for i, s := range probeSteps(seed, true) {
			due := m.Due()
			seen := s.takeAndSee(m)
			begun := s.kind == "trip" || s.kind == "fail"
			if seen.through && s.now.Before(due) || begun && seen.due.Before(s.now) || seen.lease <= 0 ||
				seen.requests < 0 {
				t.Fatalf("step %d, %s: due %v, now %v, and then %+v", i, s.kind, due, s.now, seen)
			}
		}
		if !ends(m, epoch) {
			t.Fatal("after times that jump, no request is let through however many come and however long it takes")
		}
	}
}
