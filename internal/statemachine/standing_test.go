package statemachine

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// whileLocked calls f while the test holds a circuit's lock, and so finds out whether it takes it: then it comes to no end.
func whileLocked(t *testing.T, c *Circuit, f func()) {
	c.mu.Lock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	select {
	case <-ended:
	case <-time.After(10 * time.Second): // on a real clock, and only if it fails
		t.Error("it waits for the lock")
	}
	c.mu.Unlock()
	<-ended
}

// standingCases are circuits that have nothing to decide.
var standingCases = map[string]struct {
	rules  policy.Rules
	script []string
	reason policy.RefusalReason
}{
	"open, before a probe is due":        {classic, []string{"set open"}, policy.RefusedOpen},
	"open, a probe is out":               {probing, []string{"set open", "ask p"}, policy.RefusedOpen},
	"open, before the next of Squares":   {squared, []string{"set open", "ask p", "fail p", "ask"}, policy.RefusedOpen},
	"forced open":                        {classic, []string{"force open"}, policy.RefusedForced},
	"half-open, a trial with all places": {classic, []string{"set half-open", "ask a", "ask b"}, policy.RefusedRamp},
	"half-open, a ramp with all places": {
		policy.Adaptive{}.Rules(), []string{"set half-open", "ask a", "ask b"}, policy.RefusedRamp,
	},
}

// squared has a probe due at once, and the next with the sixth request.
var squared = policy.Rules{
	Trip: policy.Consecutive{Failures: 2}, Probe: policy.Squares{Wait: 1}, Recover: policy.Ramp{},
}

// played is a circuit after a script, whose observer wants to hear nothing, and when that is.
func played(rules policy.Rules, script []string) (c *rig, at time.Duration) {
	c = &rig{New(&Config{Rules: validated(rules), Random: func() float64 { return 0 }}, &deaf{}, nil), &told{}, map[string]Permit{}}
	at = time.Second
	for _, operation := range script {
		at++
		c.do(at, operation)
	}
	return c, at
}

func TestARefusalThatDecidesNothingTakesNoLock(t *testing.T) {
	for name, s := range standingCases {
		t.Run(name, func(t *testing.T) {
			c, at := played(s.rules, s.script)
			before := lookAt(c, epoch.Add(at))
			for range 3 {
				whileLocked(t, c.Circuit, func() {
					_, r := c.Acquire(epoch.Add(at), time.Time{}, ToProbe)
					require.Equal(t, s.reason, r.Reason)
				})
			}
			after := lookAt(c, epoch.Add(at))
			require.Equal(t, before.Counts.Refusals+3, after.Counts.Refusals, "and each is counted")
			if before.Requests > 3 {
				require.Equal(t, before.Requests-3, after.Requests, "and brings the next probe nearer")
			}
		})
	}
}

func TestWhoIsToldOfRefusalsIsToldOfAll(t *testing.T) {
	o := &told{}
	c := New(&Config{Rules: classic, Random: func() float64 { return 0 }}, o, nil)
	c.Set(policy.Open, epoch)
	for range 10 {
		c.Acquire(epoch, time.Time{}, ToProbe)
	}
	require.Len(t, o.refusals, 10)
}

// TestARefusalIsCountedWhereverItCounts refuses in all places, some of which one count has and others another.
func TestARefusalIsCountedWhereverItCounts(t *testing.T) {
	for name, s := range standingCases {
		t.Run(name, func(t *testing.T) {
			c, at := played(s.rules, s.script)
			before := lookAt(c, epoch.Add(at))
			refused, standing := 0, c.standing.Load()
			for place := range uint(100) {
				if r, ok := c.refuseAtOnce(momentOf(epoch.Add(at)), place); ok {
					require.Equal(t, s.reason, r.Reason)
					refused++
				}
			}
			if before.Requests > 0 {
				require.Nil(t, standing.many, "each has a number")
				require.LessOrEqual(t, refused, before.Requests)
			} else {
				require.Equal(t, 100, refused)
				for i := range standing.many {
					require.Less(t, standing.many[i].left.Load(), standing.most, "a line of memory for some")
				}
			}
			require.Equal(t, before.Counts.Refusals+uint64(refused), lookAt(c, epoch.Add(at)).Counts.Refusals)
		})
	}
}

// TestNoRefusalOfACrowdIsMissing has many refused at once, in all places, while somebody looks again and again.
func TestNoRefusalOfACrowdIsMissing(t *testing.T) {
	c := New(&Config{Rules: classic, Random: func() float64 { return 0 }}, &deaf{}, nil)
	c.Force(policy.Open, epoch)
	const crowd, each = 16, 2000
	var out sync.WaitGroup
	for place := range uint(crowd) {
		out.Go(func() {
			for range each {
				if _, ok := c.refuseAtOnce(momentOf(epoch), place); !ok {
					c.Acquire(epoch, time.Time{}, ToProbe)
				}
				if place == 0 {
					c.Snapshot(epoch)
				}
			}
		})
	}
	out.Wait()
	require.EqualValues(t, crowd*each, c.Snapshot(epoch).Counts.Refusals)
}

// TestOfACrowdExactlyTheRightRequestIsTheProbe has many ask at once, again and again: of the requests since the trip, those
// with the numbers of Squares go, and no other.
func TestOfACrowdExactlyTheRightRequestIsTheProbe(t *testing.T) {
	c := New(&Config{Rules: squared, Random: func() float64 { return 0 }}, &deaf{}, nil)
	c.Set(policy.Open, epoch)
	var came, clock atomic.Int64
	const crowd, each = 16, 500
	probes := 0
	for number := 1; number*number-3 < crowd*each; {
		var permit Permit
		var got atomic.Int64
		var out sync.WaitGroup
		next := int64((number+1)*(number+1) - 3)
		for range crowd {
			out.Go(func() {
				for came.Add(1) <= next {
					now := epoch.Add(time.Second + time.Duration(clock.Add(1)))
					if p, _ := c.Acquire(now, time.Time{}, ToProbe); p.Granted() {
						got.Add(1)
						permit = p
					}
				}
			})
		}
		out.Wait()
		came.Store(next)
		require.EqualValues(t, 1, got.Load(), "of the %d requests there was one more probe", next)
		require.EqualValues(t, next, lookAt(c, epoch).Counts.Refusals+lookAt(c, epoch).Counts.Probes)
		permit.Done(epoch.Add(time.Second+time.Duration(clock.Add(1))), policy.Result{Outcome: policy.Failure, Cause: statusOf})
		clock.Add(1000) // until it is due by time
		probes++
		number++
	}
	require.Greater(t, probes, 80)
}
