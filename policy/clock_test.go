package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// These tests are of clocks that jump, and of counters at their ends, which are set here.

var (
	start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	bad   = Result{Outcome: Failure, Cause: Cause{Kind: KindStatus, Status: 500}, Elapsed: time.Millisecond}
	good  = Result{Outcome: Success, Elapsed: time.Millisecond}
)

// jumps are steps of a clock, forwards and backwards.
var jumps = []time.Duration{0, 1, -1, time.Second, -time.Second, 24 * time.Hour, -24 * time.Hour, 400 * 24 * time.Hour, -400 * 24 * time.Hour}

// naiveWindow is a FailureShare or SlowShare over time: a list of calls, and the tenth of the window that each came in.
type naiveWindow struct {
	slot   time.Duration
	from   time.Time // of the tenth 0
	newest int64
	calls  []struct {
		slot int64
		bad  bool
	}
}

func (w *naiveWindow) add(now time.Time, bad bool) (failures, successes int) {
	if len(w.calls) == 0 {
		w.from, w.newest = now, 0
	}
	switch slot := int64(now.Sub(w.from) / w.slot); {
	case slot >= w.newest+10: // all are out of view
		w.calls, w.from, w.newest = nil, now, 0
	case slot > w.newest:
		w.newest = slot
	}
	w.calls = append(w.calls, struct {
		slot int64
		bad  bool
	}{w.newest, bad})
	for _, call := range w.calls {
		switch {
		case call.slot <= w.newest-10:
		case call.bad:
			failures++
		default:
			successes++
		}
	}
	return failures, successes
}

func TestAWindowIsWhatTheClockSaysHoweverItJumps(t *testing.T) {
	for _, window := range []time.Duration{1, 9, 10, 11, time.Second, time.Hour, 365 * 24 * time.Hour} {
		random := rand.New(rand.NewPCG(uint64(window), 1))
		trip := FailureShare{Window: window, Percent: 100}.NewTrip()
		naive := &naiveWindow{slot: max(window/10, 1)}
		now := start
		for i := range 3000 {
			switch random.IntN(20) {
			case 0:
				now = now.Add(jumps[random.IntN(len(jumps))])
			case 1:
				now = start
			default:
				now = now.Add(time.Duration(random.Int64N(max(2, int64(window)/7))))
			}
			result := []Result{good, bad}[random.IntN(2)]
			trip.Record(now, result)
			failures, successes := trip.Counts()
			naiveFailures, naiveSuccesses := naive.add(now, result.Outcome == Failure)
			require.Equal(t, [2]int{naiveFailures, naiveSuccesses}, [2]int{failures, successes}, "window %v, call %d at %v", window, i, now)
		}
	}
}

// A clock that jumps can make a rule see the last failure too early or too late, but a failing upstream trips it and a
// healthy one does not.
func TestTripRulesUnderAClockThatJumps(t *testing.T) {
	for name, rule := range map[string]TripRule{
		"evidence": Evidence{}, "share": FailureShare{}, "window": FailureShare{Window: time.Minute}, "nanosecond": FailureShare{Window: 1, Minimum: 1},
		"slow": SlowShare{Slower: time.Second}, "consecutive": Consecutive{},
	} {
		t.Run(name, func(t *testing.T) {
			failing := bad
			failing.Elapsed = time.Minute
			random := rand.New(rand.NewPCG(1, 1))
			trip := rule.NewTrip()
			now := start
			for range 200 {
				for range 20 {
					now = now.Add(jumps[random.IntN(5)])
					require.False(t, trip.Record(now, good))
				}
				now = now.Add(jumps[random.IntN(len(jumps))])
				trips := false
				for range 100 { // 30 are the most that false alarms make of Evidence
					now = now.Add(jumps[random.IntN(3)])
					if trips = trip.Record(now, failing); trips {
						break
					}
				}
				require.True(t, trips)
				now = now.Add(jumps[random.IntN(len(jumps))])
				trip.Start(now, random.IntN(12))
			}
		})
	}
}

func TestEvidenceOfTheLargestThreshold(t *testing.T) {
	for _, threshold := range []int{math.MaxInt, math.MaxInt / 2, math.MaxInt/5 + 1, math.MaxInt / 5} {
		trip := Evidence{Threshold: threshold, Worth: math.MaxInt}.NewTrip()
		for falseAlarms := range 5 {
			for range 1000 {
				require.False(t, trip.Record(start, bad), "never trips, by a threshold of %d and after %d false alarms", threshold, falseAlarms)
			}
			trip.Record(start, good)
			require.True(t, trip.Quiet())
			trip.Start(start, 0)
		}
	}
}

func TestEvidenceTakesAnyNumberOfFailedProbes(t *testing.T) {
	for failedProbes, wary := range map[int]bool{0: true, 4: true, 5: false, 9: false, math.MaxInt: false} {
		trip := Evidence{}.NewTrip()
		trip.Start(start, failedProbes)
		calls := 1
		for !trip.Record(start, bad) {
			calls++
		}
		require.Equal(t, map[bool]int{false: 6, true: 18}[wary], calls, "%d", failedProbes)
	}
}

func TestSquaresAfterABillionRequests(t *testing.T) {
	for _, came := range []float64{1e9, 1e12} {
		s := Squares{}.NewProbe().(*squares)
		s.Trip(start, bad, 0)
		s.came = came
		s.probe = math.Ceil(math.Sqrt(came / s.rule.Spacing))
		now := s.Due()
		for range 3 {
			requests := 1.
			for !s.Ask(now) {
				requests++
			}
			require.LessOrEqual(t, requests, 6*math.Sqrt(came), "up to three gaps, and each is the root")
			require.InEpsilon(t, s.probe*s.probe, s.came, 0.001, "and the probe at the square")
			s.Fail(now, bad, 0)
			now = s.Due()
			if came > 1e9 {
				break // 2^26 requests and more
			}
		}
	}
}

func TestProbeRulesUnderAClockThatJumps(t *testing.T) {
	for name, rule := range map[string]ProbeRule{
		"open time": OpenTime{}, "growing": OpenTime{For: time.Second, Factor: 7, JitterPercent: 100}, "nanosecond": OpenTime{For: 1, Max: 1},
		"squares": Squares{}, "squares at once": Squares{Wait: 1, Spacing: 1e-9}, "squares far apart": Squares{Spacing: 5},
	} {
		t.Run(name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 1))
			probe := rule.NewProbe()
			now := start
			probe.Trip(now, bad, 0)
			for range 100 {
				now = now.Add(jumps[random.IntN(len(jumps))])
				r := bad
				r.RetryAfter = jumps[random.IntN(len(jumps))]
				probe.Fail(now, r, random.Float64())
				require.False(t, probe.Due().Before(now))
				require.False(t, probe.Due().After(now.Add(10*time.Minute)), "whatever the upstream asks for")
				if back := now.Add(-time.Nanosecond); probe.Due().After(now) {
					probe.Ask(back)
				}
				now = probe.Due()
				for asks := 0; !probe.Ask(now); asks++ {
					require.Less(t, asks, 5*(2*105), "the gap between two squares")
				}
			}
		})
	}
}

func TestWaitsAtTheirEnds(t *testing.T) {
	const most = time.Duration(math.MaxInt64)
	for _, rule := range []ProbeRule{
		OpenTime{For: most}, OpenTime{For: most, JitterPercent: 100}, OpenTime{For: 1, Factor: math.MaxInt, Max: most, RetryAfterMax: most},
		Squares{Wait: most}, Squares{Wait: 1, RetryAfterMax: most},
	} {
		for _, retryAfter := range []time.Duration{0, most, math.MinInt64} {
			for _, random := range []float64{0, 0.5, math.Nextafter(1, 0)} {
				for _, now := range []time.Time{start, time.Now(), time.Unix(0, 0)} {
					probe := rule.NewProbe()
					probe.Trip(now, Result{Outcome: Failure, RetryAfter: retryAfter}, random)
					for range 4 {
						what := fmt.Sprintf("%+v, Retry-After %v, random %v: due %v", rule, retryAfter, random, probe.Due())
						require.False(t, probe.Due().Before(now), what)
						require.False(t, probe.Due().After(now.Add(most)), what)
						require.True(t, probe.Ask(probe.Due().Add(1)), what)
						probe.Fail(now, Result{Outcome: Failure, RetryAfter: retryAfter}, random)
						if _, ok := rule.(Squares); ok {
							break
						}
					}
				}
			}
		}
	}
}

func TestARampGrowsAsLongAsThereIsDemand(t *testing.T) {
	r := Ramp{}.NewRecover().(*ramp)
	r.Start(start, good)
	for range 200_000 {
		mark, ok := r.Admit(r.Limit() - 1) // as many as may be are always out, so that no round is calm
		require.True(t, ok)
		require.Equal(t, VerdictStay, r.Record(start, mark, good))
	}
	require.Equal(t, firstLimit+200_000, r.Limit())
	failures := 0
	for verdict := VerdictStay; verdict == VerdictStay; failures++ {
		mark, ok := r.Admit(0)
		require.True(t, ok)
		verdict = r.Record(start, mark, bad)
	}
	require.Less(t, failures, 60, "halving is fast, whatever the limit is")
}

func TestARampTakesAnyElapsedTime(t *testing.T) {
	times := []time.Duration{0, 1, -1, time.Millisecond, time.Hour, math.MaxInt64, math.MinInt64}
	random := rand.New(rand.NewPCG(1, 1))
	r := Ramp{Worth: math.MaxInt, Health: 1}.NewRecover()
	for range 1000 {
		r.Start(start, Result{Outcome: Success, Elapsed: times[random.IntN(len(times))]})
		for range 50 {
			mark, ok := r.Admit(0)
			require.True(t, ok, "one call can always go")
			require.Positive(t, r.Limit())
			if r.Record(start, mark, Result{Outcome: Success, Elapsed: times[random.IntN(len(times))]}) == VerdictClose {
				break
			}
		}
	}
}

// One success is worth more than all failures together.
func TestARampOfTheLargestWorth(t *testing.T) {
	for successes := range 10 {
		r := Ramp{Worth: math.MaxInt}.NewRecover()
		r.Start(start, good)
		for range successes {
			mark, ok := r.Admit(r.Limit() - 1)
			require.True(t, ok)
			require.Equal(t, VerdictStay, r.Record(start, mark, good))
		}
		limit := r.Limit()
		mark, _ := r.Admit(0)
		require.Equal(t, VerdictStay, r.Record(start, mark, bad))
		require.Equal(t, limit, r.Limit(), "one failure after %d successes", successes)
	}
}

func TestARoundNumberNeverRunsOut(t *testing.T) {
	r := Ramp{}.NewRecover().(*ramp)
	r.Start(start, good)
	r.round, r.counted = math.MaxInt-1, math.MaxInt-1
	for range 4 {
		mark, ok := r.Admit(0)
		require.True(t, ok)
		if r.Record(start, mark, good) == VerdictClose {
			return
		}
	}
	require.Fail(t, "half-open for good")
}
