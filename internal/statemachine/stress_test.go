package statemachine

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// Many goroutines, a clock that they all push on, and a limit that is counted here and not by the circuit.
func TestManyGoroutinesAtOnce(t *testing.T) {
	cases := map[string]policy.Rules{
		"classic":     policy.Classic{Failures: 3, OpenFor: 100 * time.Millisecond, Probes: 3, Successes: 5}.Rules(),
		"probe first": {Trip: policy.Consecutive{Failures: 3}, Probe: policy.OpenTime{For: 100 * time.Millisecond}, Recover: afterProbe{policy.Trial{Probes: 3, Successes: 5}}},
	}
	for name, rules := range cases {
		t.Run(name, func(t *testing.T) {
			seen := map[[2]policy.State]bool{}
			for range 5 { // chance has it that a recovery is missing now and then
				if manyGoroutines(t, rules, seen); len(seen) == 4 {
					return
				}
			}
			require.Len(t, seen, 4, "closed→open→half-open→closed and half-open→open all happened")
		})
	}
}

// manyGoroutines has them use a circuit at once, and adds to seen what changes of state there were.
func manyGoroutines(t *testing.T, rules policy.Rules, seen map[[2]policy.State]bool) {
	const goroutines, rounds = 32, 1500
	var changes []Change
	var telling, inFlight atomic.Int32
	o := &listening{changed: func(c Change) {
		if telling.Add(1) != 1 {
			t.Error("two goroutines tell the observer at once")
		}
		changes = append(changes, c)
		telling.Add(-1)
	}}
	c := observed(rules, o)
	var clock atomic.Int64 // less than the 60 s of a lease go by while a call is out
	var probing sync.Map   // generation -> *atomic.Int32, calls in flight that are counted by the test
	var granted, refused, failed, ignored, probes atomic.Uint64
	work := func(seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		for range rounds {
			now := epoch.Add(time.Duration(clock.Add(int64(time.Millisecond))))
			permit, ok := c.AcquireClosed()
			if !ok {
				permit, _ = c.Acquire(now, time.Time{}, ToProbe)
			}
			if !permit.Granted() {
				refused.Add(1)
				continue
			}
			granted.Add(1)
			inFlight.Add(1)
			out := new(atomic.Int32)
			if permit.Probing() {
				probes.Add(1)
				counter, _ := probing.LoadOrStore(permit.generation(), new(atomic.Int32))
				out = counter.(*atomic.Int32)
				if n := out.Add(1); n > 3 {
					t.Errorf("%d calls in flight, and the limit is 3", n)
				}
			}
			if random.IntN(4) == 0 {
				lookAt(c, now)
			}
			for range random.IntN(4) {
				runtime.Gosched() // so that many calls are out at once
			}
			out.Add(-1)
			if random.IntN(3) == 0 {
				permit.Headers(now, 0) // from now on its place may be given to another call
				runtime.Gosched()
			}
			result := policy.Result{Outcome: policy.Success}
			switch r := random.IntN(100); {
			case r < 20:
				result = policy.Result{Outcome: policy.Failure, Cause: statusOf}
				failed.Add(1)
			case r < 30:
				result.Outcome = policy.Ignored
				ignored.Add(1)
			}
			inFlight.Add(-1)
			if result.Outcome == policy.Success && permit.Quiet() {
				continue
			}
			permit.Done(now, result)
		}
	}
	var all sync.WaitGroup
	for i := range goroutines {
		all.Go(func() { work(uint64(i)) })
	}
	all.Wait()

	s := c.Snapshot(epoch.Add(time.Duration(clock.Load())))
	require.Zero(t, inFlight.Load())
	require.Zero(t, s.InFlight, "a permit was not given back")
	require.Empty(t, c.machine.leases.places)
	require.Equal(t, failed.Load(), s.Counts.Failures)
	require.Equal(t, ignored.Load(), s.Counts.Ignored)
	require.Equal(t, refused.Load(), s.Counts.Refusals)
	require.Equal(t, probes.Load(), s.Counts.Probes)
	require.EqualValues(t, goroutines*rounds, granted.Load()+refused.Load())
	require.EqualValues(t, s.Generation, len(changes))
	requireOneHistory(t, changes, s.State)

	for _, change := range changes {
		seen[[2]policy.State{change.From, change.To}] = true
	}
}

// A circuit is forgotten at most once, and from then on it gives no permit.
func TestForgettingWhileInUse(t *testing.T) {
	for range 200 {
		c := New(&Config{Rules: classic}, nil, nil)
		var forgotten atomic.Bool
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				for range 20 {
					before := forgotten.Load()
					p, ok := c.AcquireClosed()
					if !ok {
						p, _ = c.Acquire(epoch, time.Time{}, ToProbe)
					}
					if before && p.Granted() {
						t.Error("a permit of a circuit that was forgotten before")
					}
					if p.Granted() {
						p.Done(epoch, policy.Result{Outcome: policy.Success})
					}
				}
			})
		}
		all.Go(func() {
			for !forgotten.Load() {
				if c.Forget(epoch, Idle, 1) {
					forgotten.Store(true)
				}
				if c.machine.state != policy.Closed {
					return
				}
			}
		})
		all.Wait()
	}
}
