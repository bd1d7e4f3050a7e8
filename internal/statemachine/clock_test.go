package statemachine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// call is a whole call by the way that transport goes. It reports whether it was let through.
func call(c *Circuit, now time.Time, r policy.Result) bool {
	p, ok := c.AcquireClosed()
	if !ok {
		p, _ = c.Acquire(now, time.Time{}, ToProbe)
	}
	if p.Granted() && (r.Outcome != policy.Success || !p.Quiet()) {
		p.Done(now, r)
	}
	return p.Granted()
}

var (
	well   = policy.Result{Outcome: policy.Success, Elapsed: 10 * time.Millisecond}
	failed = policy.Result{Outcome: policy.Failure, Cause: statusOf, Elapsed: 10 * time.Millisecond}
)

// requireRecovery checks that a circuit whose upstream is well again is closed, and lets everything through, after so
// much time of ten calls a second.
func requireRecovery(t *testing.T, c *Circuit, now time.Time, within time.Duration, what string) {
	t.Helper()
	for end := now.Add(within); now.Before(end); now = now.Add(100 * time.Millisecond) {
		call(c, now, well)
	}
	s := lookAt(c, now)
	require.Equal(t, policy.Closed, s.State, "%s: %+v", what, s)
	for range 20 {
		require.True(t, call(c, now, well), what)
	}
}

// A clock that jumps delays a circuit by as much as it has jumped, and never for good.
func TestNoJumpOfTheClockHoldsUpACircuitForGood(t *testing.T) {
	try := testkit.OneIn(8)
	const furthest = time.Hour
	for trip := range tripRules {
		for probe := range 6 { // the two that wait for 292 years do so
			for recovery := range 7 {
				if !try() {
					continue
				}
				rules := someRules(byte(trip), byte(probe), byte(recovery))
				what := fmt.Sprintf("%+v", rules)
				random := rand.New(rand.NewPCG(uint64(trip), uint64(probe*16+recovery)))
				c := New(&Config{Rules: rules, Random: random.Float64}, nil, nil)
				real, latest := epoch, epoch
				var out []Permit
				for range 400 {
					real = real.Add(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
					now := real
					switch random.IntN(8) {
					case 0:
						now = now.Add(time.Duration(random.Int64N(int64(furthest))))
					case 1:
						now = now.Add(-time.Duration(random.Int64N(int64(furthest))))
					case 2:
						now = now.Add(time.Duration(random.Int64N(int64(4*time.Second))) - 2*time.Second)
					}
					if now.After(latest) {
						latest = now
					}
					switch random.IntN(6) {
					case 0, 1:
						if p, _ := c.Acquire(now, time.Time{}, ToProbe); p.Granted() {
							out = append(out, p)
						}
					case 2:
						if len(out) > 0 {
							out[0].Headers(now, 0)
						}
					case 3, 4:
						if len(out) > 0 {
							out[0].Done(now, []policy.Result{well, failed, {Outcome: policy.Ignored}}[random.IntN(3)])
							out = out[1:]
						}
					case 5:
						call(c, now, failed)
					}
				}
				// What is still out never comes back. Waits grow to a minute at most, and leases to ten where calls seem to
				// take long. The many requests of an hour's jump are one a second.
				for now := real; now.Before(latest); now = now.Add(time.Second) {
					call(c, now, well)
				}
				requireRecovery(t, c, latest, 15*time.Minute, what)
			}
		}
	}
}

// Hold has a clock of its own, that of the machine, and is told of another.
func TestNoJumpOfTheClockHoldsCallsForGood(t *testing.T) {
	const furthest = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20) {
			random := rand.New(rand.NewPCG(seed, 1))
			rules := policy.Adaptive{Hold: policy.Hold{InFlight: 1 + int(seed%10)}}.Rules()
			c := New(&Config{Rules: validated(rules), Random: random.Float64}, nil, nil)
			skewed := func() time.Time {
				if random.IntN(4) > 0 {
					return time.Now()
				}
				return time.Now().Add(time.Duration(random.Int64N(int64(2*furthest))) - furthest)
			}
			var out []Permit
			for range 2000 {
				time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
				if random.IntN(100) == 0 {
					time.Sleep(2 * time.Second)
				}
				if random.IntN(2) == 0 {
					now := skewed()
					p, ok := c.AcquireClosed()
					if !ok {
						p, _ = c.Acquire(now, now.Add(time.Second), ToProbe)
					}
					if p.Granted() {
						out = append(out, p)
					}
				} else if len(out) > 0 {
					i := random.IntN(len(out))
					out[i].Done(skewed(), []policy.Result{well, well, well, failed, {Outcome: policy.Ignored}}[random.IntN(5)])
					out = append(out[:i], out[i+1:]...)
				}
			}
			time.Sleep(furthest)
			for range 3000 {
				time.Sleep(10 * time.Millisecond)
				call(c, time.Now(), well)
			}
			require.Equal(t, policy.Closed, c.machine.state, "seed %d: %+v", seed, lookAt(c, time.Now()))
			for range 100 {
				require.True(t, call(c, time.Now(), well), "seed %d", seed)
			}
			c.Set(policy.Open, time.Now()) // stops the timer
		}
	})
}

// A wall clock without a monotonic one beside it: what time.Round(0), JSON and time.Unix make.
func TestTimesWithoutAMonotonicClockAreTimesToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wall := func() time.Time { return time.Now().Round(0) }
		for _, clocks := range [][2]func() time.Time{{wall, wall}, {time.Now, wall}, {wall, time.Now}} {
			c := New(&Config{Rules: probing, Random: func() float64 { return 0 }}, nil, nil)
			call(c, clocks[0](), failed)
			call(c, clocks[1](), failed)
			require.Equal(t, policy.Open, c.machine.state)
			time.Sleep(10*time.Second - 1)
			require.False(t, call(c, clocks[1](), well))
			time.Sleep(time.Nanosecond)
			p, _ := c.Acquire(clocks[1](), time.Time{}, ToProbe)
			require.True(t, p.Granted())
			time.Sleep(2*time.Second - 1)
			lookAt(c, clocks[0]())
			require.Len(t, c.machine.leases.places, 1)
			time.Sleep(time.Nanosecond)
			lookAt(c, clocks[0]()) // its lease has ended
			require.Empty(t, c.machine.leases.places)
		}
	})
}

func TestRestoreTakesAnyTime(t *testing.T) {
	const years = 365 * 24 * time.Hour
	for _, rules := range []policy.Rules{classic, probing, policy.Adaptive{}.Rules()} {
		rules.Hold = nil
		for _, due := range []time.Time{{}, time.Unix(0, 0), time.Unix(math.MaxInt64, 0), time.Unix(math.MinInt64, 0), epoch.Add(290 * years), epoch.Add(-290 * years)} {
			c := New(&Config{Rules: rules, Random: func() float64 { return 0 }}, nil, nil)
			c.Restore(epoch, due, time.Time{}, true)
			require.Equal(t, policy.Open, c.machine.state)
			require.False(t, lookAt(c, epoch).Due.After(epoch.Add(10*time.Minute)), "%v", due)
			requireRecovery(t, c, epoch, 11*time.Minute, due.String())
		}
	}
}

// 400 days: a day of traffic, one of an outage, one of neither, and so on.
func TestFourHundredDays(t *testing.T) {
	days := 400
	if testkit.Brief() {
		days = 100
	}
	for name, rules := range map[string]policy.Rules{
		"classic":  classic,
		"window":   {Trip: policy.FailureShare{Window: 30 * 24 * time.Hour}, Probe: policy.OpenTime{For: time.Hour, Factor: 2, Max: 20 * time.Hour}, Recover: policy.Trial{Probes: 3}},
		"adaptive": policy.Adaptive{}.Rules(),
	} {
		t.Run(name, func(t *testing.T) {
			rules.Hold = nil
			c := New(&Config{Rules: rules, Random: func() float64 { return 0.5 }}, nil, nil)
			now := epoch
			for day := range days {
				result := []policy.Result{well, failed, {}}[day%3]
				for end := now.AddDate(0, 0, 1); now.Before(end); now = now.Add(time.Minute) {
					if result.Outcome != policy.Undecided {
						call(c, now, result)
					}
				}
				want := []policy.State{policy.Closed, policy.Open, policy.Open}[day%3]
				require.Equal(t, want, lookAt(c, now).State, "day %d", day)
			}
			s := lookAt(c, now)
			require.EqualValues(t, days/3, s.Counts.Trips)
			requireRecovery(t, c, now, 24*time.Hour, name)
		})
	}
}

func TestAnOutageOfFourHundredDays(t *testing.T) {
	days := 400
	if testkit.Brief() {
		days = 100
	}
	for name, rules := range map[string]policy.Rules{
		"classic":     classic,
		"exponential": {Trip: policy.Consecutive{}, Probe: policy.OpenTime{Factor: math.MaxInt, Max: 24 * time.Hour}, Recover: policy.Trial{}},
		"adaptive":    policy.Adaptive{}.Rules(),
	} {
		t.Run(name, func(t *testing.T) {
			rules.Hold = nil
			c := New(&Config{Rules: rules, Random: func() float64 { return 0 }}, nil, nil)
			now := epoch
			requests, probes := 0, 0
			for end := epoch.AddDate(0, 0, days); now.Before(end); now = now.Add(time.Minute) {
				requests++
				if call(c, now, failed) {
					probes++
				}
			}
			require.NotEqual(t, policy.Closed, lookAt(c, now).State)
			if name == "adaptive" {
				require.InDelta(t, math.Sqrt(float64(requests)), probes, 30)
			}
			// The outage ends. The gap between two squares is then 25 hours, and the exponential wait a day.
			for end := now.Add(26 * time.Hour); now.Before(end); now = now.Add(time.Minute) {
				call(c, now, well)
			}
			require.Equal(t, policy.Closed, lookAt(c, now).State)
		})
	}
}

// The generation has 53 bits. Behind the last one comes 0, and nothing else changes.
func TestTheGenerationWrapsAround(t *testing.T) {
	const last = 1<<53 - 1
	r := newRig(classic)
	r.machine.generation = last - 1
	r.publish()
	r.do(0, "ask a")
	r.do(0, "ask b")
	r.do(0, "ask c")
	r.do(0, "fail a")
	require.Equal(t, "opened, open", r.do(0, "fail b"))
	require.EqualValues(t, uint64(last), lookAt(r, epoch).Generation)
	require.Equal(t, "open", r.do(0, "ok c"), "of an older generation")
	require.Equal(t, "probe, half-open", r.do(10*time.Second, "ask p"))
	require.Zero(t, lookAt(r, epoch).Generation)
	require.Equal(t, "probe, half-open", r.do(10*time.Second, "ask q"))
	require.Equal(t, "refused, half-open", r.do(10*time.Second, "ask s"))
	require.Equal(t, "half-open", r.do(11*time.Second, "ok p"))
	require.Equal(t, "closed", r.do(11*time.Second, "ok q"))
	require.Equal(t, "granted, closed", r.do(11*time.Second, "quick d"))
	require.True(t, r.permits["d"].Quiet())
	require.False(t, r.permits["c"].Quiet(), "of an older generation")
	require.EqualValues(t, 1, r.machine.counts.LateCalls)
}

// What is counted decides nothing, so that a count that has begun again at 0 does no harm.
func TestCountsThatWrapAroundChangeNothing(t *testing.T) {
	const most = math.MaxUint64
	for _, rules := range []policy.Rules{classic, probing} {
		c := New(&Config{Rules: rules, Random: func() float64 { return 0 }}, nil, nil)
		c.machine.remember()
		c.machine.counts = Counts{most, most, most, most, most, most}
		c.machine.opened = most
		call(c, epoch, failed)
		call(c, epoch, failed)
		require.Equal(t, policy.Open, c.machine.state)
		require.False(t, call(c, epoch, well))
		require.Zero(t, lookAt(c, epoch).Counts.Trips)
		requireRecovery(t, c, epoch, 20*time.Second, "wrapped around")
	}
}

// Whoever closes a circuit by hand says that its trip was no false alarm. What fails after that must not turn it into one.
func TestAfterClosingByHandFailedRecoveriesAreCountedStill(t *testing.T) {
	asked := -1
	rules := classic
	rules.Trip = listeningTrip{classic.Trip, &asked}
	r := newRig(rules)
	r.do(0, "set open")
	r.do(0, "set closed")
	require.Greater(t, asked, 1000)
	r.do(0, "set half-open")
	r.do(0, "ask p")
	require.Equal(t, "opened, open", r.do(0, "fail p"))
	r.do(10*time.Second, "ask q")
	r.do(10*time.Second, "ask s")
	r.do(10*time.Second, "ok q")
	require.Equal(t, "closed", r.do(10*time.Second, "ok s"))
	require.Positive(t, asked, "so many recoveries failed before this one")
}

// listeningTrip tells how many failed probes it is told of.
type listeningTrip struct {
	policy.TripRule
	failedProbes *int
}

func (l listeningTrip) NewTrip() policy.Trip {
	return listeningTripMemory{l.TripRule.NewTrip(), l.failedProbes}
}

type listeningTripMemory struct {
	policy.Trip
	failedProbes *int
}

func (l listeningTripMemory) Start(now time.Time, failedProbes int) {
	*l.failedProbes = failedProbes
	l.Trip.Start(now, failedProbes)
}

// Two goroutines read the clock, and the one that read it later comes first. What observers are told is one history.
func TestTheTimesOfChangesDoNotRunBackwards(t *testing.T) {
	r := newRig(classic)
	r.do(time.Second+1, "set open")
	r.do(time.Second, "set closed")
	r.do(time.Second+2, "set open")
	for i, change := range r.told.changes[1:] {
		require.False(t, change.At.Before(r.told.changes[i].At), "%v after %v", change.At, r.told.changes[i].At)
	}
}
