package statemachine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

var (
	leaseEnded = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindLease}}
	wasReset   = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}}
	refused    = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}}
	with500    = policy.Result{Outcome: policy.Failure, Cause: statusOf}
)

// tripBy opens a circuit at epoch by failures that end so.
func (r *rig) tripBy(t *testing.T, result policy.Result) {
	for i := 0; r.machine.state != policy.Open; i++ {
		require.Less(t, i, 100)
		p, _ := r.Acquire(epoch, time.Time{}, ToProbe)
		p.Done(epoch, result)
	}
}

// stale gets the next permit, which is a probe's, over a connection that has been idle since before the trip.
func (r *rig) stale(t *testing.T, at time.Duration) Permit {
	t.Helper()
	p := r.granted(t, at)
	p.Reused(epoch.Add(at), true, epoch.Add(-time.Minute), 128)
	return p
}

func (r *rig) granted(t *testing.T, at time.Duration) Permit {
	t.Helper()
	p, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
	require.True(t, p.Probe(), "at %v: %v", at, refusal.Reason)
	return p
}

func (r *rig) refused(t *testing.T, at time.Duration) {
	t.Helper()
	_, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
	require.NotEqual(t, policy.NotRefused, refusal.Reason, "at %v", at)
}

func TestOfAProbeOverAConnectionFromBeforeSilenceSaysNothing(t *testing.T) {
	const at = 10 * time.Second
	for name, c := range map[string]struct {
		since   time.Duration // when the connection was used last
		reused  bool
		result  policy.Result
		nothing bool
	}{
		"timed out":                             {-time.Second, true, timedOut, true},
		"reset":                                 {-time.Second, true, wasReset, true},
		"refused":                               {-time.Second, true, refused, false},
		"an answer":                             {-time.Second, true, with500, false},
		"a new connection":                      {-time.Second, false, timedOut, false},
		"one that was of use since the trip":    {time.Second, true, timedOut, false},
		"one that was of use until the trip":    {0, true, timedOut, true},
		"one of which nothing more is known":    {-1e9 * time.Second, true, timedOut, true},
		"a new one, reset":                      {0, false, wasReset, false},
		"one of use since, and reset none less": {9 * time.Second, true, wasReset, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(probing)
			r.tripBy(t, timedOut)
			p := r.granted(t, at)
			p.Reused(epoch.Add(at), c.reused, epoch.Add(c.since), 128)
			r.refused(t, at) // one at a time
			p.Done(epoch.Add(at), c.result)
			require.Equal(t, policy.Open, r.machine.state)
			if c.nothing {
				require.Zero(t, r.machine.failedProbes)
				r.granted(t, at)
				return
			}
			require.Equal(t, 1, r.machine.failedProbes)
			r.refused(t, at+9*time.Second)
			r.granted(t, at+10*time.Second)
		})
	}
}

func TestLeasesOverConnectionsFromBeforeHalve(t *testing.T) {
	for name, c := range map[string]struct {
		rules policy.Rules
		first time.Duration
	}{
		"of an open circuit, a second at most": {probing, time.Second},
		"of a trial":                           {classic, time.Second},
		"shorter ones too":                     {policy.Rules{Trip: policy.Consecutive{Failures: 2}, Probe: policy.OpenTime{For: 10 * time.Second, Lease: 80 * time.Millisecond}, Recover: afterProbe{policy.Trial{Probes: 1}}}, 80 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			rules := c.rules
			if rules == classic {
				rules = policy.Classic{Failures: 2, OpenFor: 10 * time.Second}.Rules()
			}
			r := newRig(rules)
			r.tripBy(t, timedOut)
			at := 10 * time.Second
			for n := range 20 {
				lease := max(c.first>>n, time.Millisecond)
				r.stale(t, at)
				r.refused(t, at+lease-1)
				at += lease
			}
			p := r.granted(t, at)
			p.Reused(epoch.Add(at), false, time.Time{}, 128)
			r.refused(t, at+c.first-1) // a new connection has all the time
			p.Done(epoch.Add(at+c.first-1), succeeded)
			require.NotEqual(t, policy.Open, r.machine.state)
			require.Zero(t, r.machine.failedProbes)
		})
	}
}

func TestAProbeThatStartsAnewOverANewConnectionHasItsLeaseBack(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, timedOut)
	p := r.stale(t, 10*time.Second)
	p.Reused(epoch.Add(10*time.Second), false, time.Time{}, 128)
	r.refused(t, 12*time.Second-1)
	require.Zero(t, r.machine.failedProbes)
	r.refused(t, 12*time.Second)
	require.Equal(t, 1, r.machine.failedProbes, "and says what it says")
}

func TestAnAnswerOverAConnectionFromBeforeCountsHoweverLate(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"probing": probing, "classic": policy.Classic{Failures: 2, OpenFor: 10 * time.Second}.Rules()} {
		t.Run(name, func(t *testing.T) {
			r := newRig(rules)
			r.tripBy(t, timedOut)
			p := r.stale(t, 10*time.Second)
			r.stale(t, 11*time.Second)
			p.Done(epoch.Add(11*time.Second), succeeded)
			require.NotEqual(t, policy.Open, r.machine.state)
			require.Zero(t, r.machine.failedProbes)
			require.Zero(t, r.machine.counts.LateCalls)
		})
	}
}

func TestHowManyProbesSayNothingIsBounded(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"probing": probing, "classic": policy.Classic{Failures: 2, OpenFor: 10 * time.Second}.Rules()} {
		for _, most := range []int{0, 1, 4, 128} {
			t.Run(fmt.Sprint(name, most), func(t *testing.T) {
				r := newRig(rules)
				r.tripBy(t, timedOut)
				for opening := range 2 { // each time anew
					at := time.Duration(opening+1) * 20 * time.Second
					for range most + 1 {
						p := r.granted(t, at)
						p.Reused(epoch.Add(at), true, epoch.Add(-time.Minute), most)
						p.Done(epoch.Add(at), timedOut)
					}
					require.Equal(t, policy.Open, r.machine.state)
					r.refused(t, at)
					if rules.Recover.AfterProbe() {
						break // it is the same opening still
					}
				}
			})
		}
	}
}

func TestATrialCallThatSaysNothingGivesItsPlaceBack(t *testing.T) {
	r := newRig(classic)
	r.tripBy(t, timedOut)
	at := 10 * time.Second
	a, b := r.stale(t, at), r.stale(t, at)
	require.Equal(t, policy.HalfOpen, r.machine.state)
	r.refused(t, at)
	a.Done(epoch.Add(at), timedOut)
	c := r.granted(t, at)
	r.refused(t, at)
	b.Done(epoch.Add(at), wasReset)
	d := r.granted(t, at)
	require.Equal(t, policy.HalfOpen, r.machine.state)
	c.Done(epoch.Add(at), succeeded)
	d.Done(epoch.Add(at), succeeded)
	require.Equal(t, policy.Closed, r.machine.state)
}

func TestTheFirstProbeAfterSilenceTrustsNoConnectionFromBefore(t *testing.T) {
	for name, c := range map[string]struct {
		result policy.Result
		stale  bool
	}{
		"timed out": {timedOut, true}, "lease": {leaseEnded, true}, "reset": {wasReset, true}, "refused": {refused, false}, "an answer": {with500, false},
	} {
		for policyName, rules := range map[string]policy.Rules{"probing": probing, "classic": classic} {
			t.Run(name+", "+policyName, func(t *testing.T) {
				r := newRig(rules)
				r.tripBy(t, c.result)
				p := r.granted(t, 10*time.Second)
				require.Equal(t, c.stale, p.Stale())
				p.Return(epoch.Add(10 * time.Second))
				p = r.granted(t, 10*time.Second)
				require.Equal(t, c.stale, p.Stale(), "no call was made with it")
				p.Done(epoch.Add(10*time.Second), timedOut)
				if rules == classic {
					p = r.granted(t, 20*time.Second)
					require.True(t, p.Stale(), "it has opened anew")
					return
				}
				p = r.granted(t, 20*time.Second)
				require.False(t, p.Stale(), "silence over a new connection is the upstream's")
				p.Reused(epoch.Add(20*time.Second), true, time.Time{}, 128)
				p.Done(epoch.Add(20*time.Second), timedOut)
				require.True(t, r.granted(t, 20*time.Second).Stale())
			})
		}
	}
}

func TestACallOfARampIsNoScout(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, timedOut)
	r.granted(t, 10*time.Second).Done(epoch.Add(10*time.Second), succeeded)
	p, _ := r.Acquire(epoch.Add(10*time.Second), time.Time{}, ToProbe)
	require.True(t, p.Probing())
	require.False(t, p.Scout())
	require.False(t, p.Stale())
	p.Reused(epoch.Add(10*time.Second), true, time.Time{}, 128)
	p.Done(epoch.Add(10*time.Second), timedOut)
	require.Equal(t, policy.Open, r.machine.state)
	require.Equal(t, 1, r.machine.failedProbes)
}

func TestARampTrustsConnections(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, timedOut)
	p := r.stale(t, 10*time.Second)
	r.do(11*time.Second, "noprobe a")
	p.Done(epoch.Add(11*time.Second), succeeded) // late
	require.Equal(t, policy.HalfOpen, r.machine.state)
	next, _ := r.Acquire(epoch.Add(11*time.Second), time.Time{}, ToProbe)
	require.True(t, next.Granted())
	require.False(t, next.Stale())
}

func TestWhatWasReusedInAnotherGenerationChangesNothing(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, timedOut)
	p := r.granted(t, 10*time.Second)
	r.do(11*time.Second, "set half-open")
	p.Reused(epoch.Add(11*time.Second), true, time.Time{}, 128)
	require.False(t, p.place.reused)
	r.do(11*time.Second, "set closed")
}

func TestAScoutOfAHoldOfAnotherGenerationHastensNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fallenSilent(t)
		old := ask(c)
		c.Set(policy.Closed, time.Now())
		canary, _ := c.AcquireClosed()
		require.True(t, isCanary(canary))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		for range 20 {
			ask(c)
		}
		time.Sleep(time.Second)
		require.True(t, ask(c).Scout())
		old.Reused(time.Now(), true, time.Time{}, 128)
		time.Sleep(time.Second - 1)
		require.False(t, ask(c).Granted())
	})
}

func TestLeasesAreShorterOnlyIfThereWasSilence(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, with500)
	r.stale(t, 10*time.Second)
	r.refused(t, 12*time.Second-1)
	r.stale(t, 12*time.Second)
	r.refused(t, 12500*time.Millisecond-1)
	r.stale(t, 12500*time.Millisecond)
}

func TestAHastenedProbeThatSaysNothingLeavesTheNextHastened(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, timedOut)
	r.do(0, "hasten")
	p := r.stale(t, time.Second)
	p.Done(epoch.Add(time.Second), timedOut)
	r.granted(t, time.Second)
}

func TestAConnectionThatIsToldOfLateLeavesTheLeaseOfABodyAlone(t *testing.T) {
	r := newRig(probing)
	r.tripBy(t, timedOut)
	p := r.granted(t, 10*time.Second)
	p.Headers(epoch.Add(10*time.Second), 0)
	p.Reused(epoch.Add(10*time.Second), false, time.Time{}, 128)
	r.refused(t, 11*time.Second-1)
	r.Acquire(epoch.Add(11*time.Second), time.Time{}, ToProbe)
	require.Equal(t, policy.HalfOpen, r.machine.state)
}

// fallenSilent is a circuit that is closed and holds what comes, but for one call that comes now.
func fallenSilent(t *testing.T) *Circuit {
	c := held(holding)
	late(t, c)
	for range 20 {
		p := ask(c)
		require.True(t, p.Granted())
		p.Reused(time.Now(), true, time.Time{}, 128) // of which no notice is taken
	}
	time.Sleep(time.Second)
	return c
}

func TestOnlyTheFirstCallThroughAHoldTrustsNoConnectionFromBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		late(t, c)
		for range 20 {
			p := ask(c)
			require.False(t, p.Scout())
			require.False(t, p.Stale())
		}
		time.Sleep(time.Second)
		p := ask(c)
		require.True(t, p.Scout())
		require.True(t, p.Stale())
		for range 3 {
			require.False(t, ask(c).Granted())
			time.Sleep(time.Second)
			p = ask(c)
			require.True(t, p.Scout())
			require.False(t, p.Stale())
		}
		p.Reused(time.Now(), true, time.Now(), 128) // of use since
		require.False(t, ask(c).Granted())
		time.Sleep(time.Second)
		p = ask(c)
		require.False(t, p.Stale())
		p.Reused(time.Now(), true, time.Time{}, 128)
		time.Sleep(time.Second)
		require.True(t, ask(c).Stale())
	})
}

func TestCallsThroughAHoldFollowSoonerAfterConnectionsFromBefore(t *testing.T) {
	for _, most := range []int{0, 4, 128} {
		synctest.Test(t, func(t *testing.T) {
			c := fallenSilent(t)
			p := ask(c)
			for n := range most {
				p.Reused(time.Now(), true, time.Time{}, most)
				step := max(250*time.Millisecond>>n, time.Millisecond)
				time.Sleep(step - 1)
				require.False(t, ask(c).Granted())
				time.Sleep(time.Nanosecond)
				p = ask(c)
				require.True(t, p.Scout())
			}
			p.Reused(time.Now(), true, time.Time{}, most)
			time.Sleep(time.Second - 1)
			require.False(t, ask(c).Granted(), "after %d there is the usual second", most)
			time.Sleep(time.Nanosecond)
			require.True(t, ask(c).Granted())
		})
	}
}

func TestAnAnswerOverANewConnectionEndsTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fallenSilent(t)
		p := ask(c)
		p.Reused(time.Now(), false, time.Time{}, 128)
		p.Done(time.Now(), succeeded)
		for range 100 {
			require.True(t, ask(c).Granted())
		}
	})
}

func TestACallThroughAHoldForAQueueIsNoScout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fallenSilent(t)
		c.machine.canary.call.vigil.heard = true
		require.False(t, ask(c).Scout())
	})
}
