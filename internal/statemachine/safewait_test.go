package statemachine

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// waiting is rules by which a probe waits for a safe call for 30 s.
func waiting(rules policy.Rules) policy.Rules {
	rules.SafeWait = 30 * time.Second
	return rules
}

// unsafely asks for a call that is better not lost, and says what came of it.
func unsafely(c *Circuit, at time.Duration) (Permit, string) {
	p, refusal := c.Acquire(epoch.Add(at), time.Time{}, LastResort)
	switch {
	case p.Overdue():
		return p, "overdue"
	case p.Probing():
		return p, "let through"
	case p.Granted():
		return p, "granted"
	case refusal.SafeUntil.IsZero():
		return p, "refused"
	}
	return p, fmt.Sprintf("waits until %v", refusal.SafeUntil.Sub(epoch))
}

func TestAProbeWaitsForASafeCallAndThenIsAny(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"probe first": probing, "trial": classic} {
		t.Run(name, func(t *testing.T) {
			r := newRig(waiting(rules))
			r.do(0, "set open")
			ask := func(at time.Duration, want string) Permit {
				t.Helper()
				p, got := unsafely(r.Circuit, at)
				require.Equal(t, want, got)
				return p
			}
			ask(10*time.Second-1, "refused") // nothing is due
			require.Zero(t, r.Snapshot(epoch).SafeUntil)
			ask(15*time.Second, "waits until 45s") // since somebody asks, and not since it was due
			ask(30*time.Second, "waits until 45s")
			require.Equal(t, epoch.Add(45*time.Second), r.Snapshot(epoch.Add(30*time.Second)).SafeUntil)
			ask(45*time.Second-1, "waits until 45s")
			p := ask(45*time.Second, "overdue")
			require.True(t, p.Probe())
			require.Zero(t, r.Snapshot(epoch.Add(45*time.Second)).SafeUntil, "it has gone")
			p.Done(epoch.Add(46*time.Second), policy.Result{Outcome: policy.Failure, Cause: statusOf})
			ask(50*time.Second, "refused")
			ask(56*time.Second, "waits until 1m26s") // anew
			r.do(60*time.Second, "ask safe")
			require.True(t, r.permits["safe"].Probe())
			require.False(t, r.permits["safe"].Overdue(), "any call can be safe")
			r.do(60*time.Second, "fail safe")
			ask(70*time.Second, "waits until 1m40s") // anew, since one has gone
			ask(100*time.Second, "overdue")
		})
	}
}

func TestWhatAProbeThatIsReturnedHadWaitedForIsNotLost(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"probe first": probing, "trial": classic} {
		t.Run(name, func(t *testing.T) {
			r := newRig(waiting(rules))
			r.do(0, "set open")
			for at := 10 * time.Second; at < 40*time.Second; at += time.Second { // as with a health check that is none for this key
				p, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
				require.True(t, p.Probe())
				require.False(t, p.Overdue())
				p.Return(epoch.Add(at))
				_, got := unsafely(r.Circuit, at)
				require.Equal(t, "waits until 40s", got)
			}
			p, _ := r.Acquire(epoch.Add(40*time.Second), time.Time{}, ToProbe)
			require.True(t, p.Overdue(), "and it need not be returned")
		})
	}
	t.Run("nor what others set meanwhile", func(t *testing.T) {
		r := newRig(waiting(classic))
		r.do(0, "set half-open")
		unsafely(r.Circuit, 0)
		p, _ := r.Acquire(epoch.Add(time.Second), time.Time{}, ToProbe)
		_, got := unsafely(r.Circuit, 2*time.Second) // there is another place
		require.Equal(t, "waits until 32s", got)
		p.Return(epoch.Add(2 * time.Second))
		_, got = unsafely(r.Circuit, 2*time.Second)
		require.Equal(t, "waits until 30s", got)
		p, _ = r.Acquire(epoch.Add(2*time.Second), time.Time{}, ToProbe)
		unsafely(r.Circuit, 2*time.Second)
		q, _ := r.Acquire(epoch.Add(2*time.Second), time.Time{}, ToProbe)
		p.Return(epoch.Add(3 * time.Second))
		_, got = unsafely(r.Circuit, 3*time.Second)
		require.Equal(t, "waits until 30s", got)
		q.Return(epoch.Add(3 * time.Second))
		_, got = unsafely(r.Circuit, 3*time.Second)
		require.Equal(t, "waits until 30s", got)
	})
}

func TestATrialWaitsForASafeCallEachTimeItHasAPlace(t *testing.T) {
	r := newRig(waiting(classic)) // two places
	r.do(0, "set half-open")
	r.do(0, "ask a")
	r.do(0, "ask b")
	_, got := unsafely(r.Circuit, 10*time.Second)
	require.Equal(t, "refused", got, "nothing is due while all places are taken")
	r.do(20*time.Second, "ok a")
	_, got = unsafely(r.Circuit, 20*time.Second)
	require.Equal(t, "refused", got, "nor while one that is out may close the circuit")
	r.do(20*time.Second, "ignore b")
	_, got = unsafely(r.Circuit, 25*time.Second)
	require.Equal(t, "waits until 55s", got)
	p, got := unsafely(r.Circuit, 55*time.Second)
	require.Equal(t, "overdue", got)
	p.Done(epoch.Add(56*time.Second), policy.Result{Outcome: policy.Success})
	require.Equal(t, policy.Closed, r.machine.state)
}

func TestARampLetsAnyCallThrough(t *testing.T) {
	r := newRig(waiting(policy.Adaptive{}.Rules()))
	r.do(0, "set half-open")
	_, got := unsafely(r.Circuit, 0)
	require.Equal(t, "let through", got)
	r.do(0, "set closed")
	_, got = unsafely(r.Circuit, 0)
	require.Equal(t, "granted", got)
}

func TestWhatIsNotToBeAProbeIsNone(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"probe first": probing, "trial": classic} {
		r := newRig(waiting(rules))
		r.do(0, "set open")
		for at := 10 * time.Second; at < time.Hour; at += time.Minute {
			p, refusal := r.Acquire(epoch.Add(at), time.Time{}, NotToProbe)
			require.False(t, p.Granted(), name)
			require.Zero(t, refusal.SafeUntil)
		}
		unsafely(r.Circuit, time.Hour)
		p, _ := r.Acquire(epoch.Add(2*time.Hour), time.Time{}, NotToProbe)
		require.False(t, p.Granted(), name)
	}
}

func TestAChangeOfStateEndsTheWaitForASafeCall(t *testing.T) {
	for name, change := range map[string]func(*rig){
		"by hand":    func(r *rig) { r.do(20*time.Second, "set open") },
		"forced":     func(r *rig) { r.do(20*time.Second, "force open") },
		"closed":     func(r *rig) { r.do(20*time.Second, "set closed") },
		"reset":      func(r *rig) { r.do(20*time.Second, "reset") },
		"released":   func(r *rig) { r.do(20*time.Second, "force open"); r.do(20*time.Second, "release") },
		"a recovery": func(r *rig) { r.do(20*time.Second, "set half-open") },
	} {
		r := newRig(waiting(probing))
		r.do(0, "set open")
		unsafely(r.Circuit, 15*time.Second)
		require.NotZero(t, r.Snapshot(epoch).SafeUntil)
		change(r)
		require.Zero(t, r.Snapshot(epoch).SafeUntil, name)
	}
	r := newRig(waiting(probing))
	r.do(0, "force open")
	_, got := unsafely(r.Circuit, time.Hour)
	require.Equal(t, "refused", got, "forced")
	r.do(time.Hour, "release")
	_, got = unsafely(r.Circuit, time.Hour)
	require.Equal(t, "waits until 1h0m30s", got, "and then due")
}

func TestNewRulesDoNotBeginTheWaitForASafeCallAnew(t *testing.T) {
	r := newRig(waiting(probing))
	r.do(0, "set open")
	unsafely(r.Circuit, 15*time.Second)
	for at := 16 * time.Second; at < 45*time.Second; at += time.Second { // or whoever sets them again and again is stuck
		r.configure(at, waiting(probing))
		_, got := unsafely(r.Circuit, at)
		require.Equal(t, "waits until 45s", got)
	}
	shorter := probing
	shorter.SafeWait = 20 * time.Second
	r.configure(44*time.Second, shorter)
	_, got := unsafely(r.Circuit, 44*time.Second)
	require.Equal(t, "overdue", got)
}

func TestARestoredCircuitThatIsDueWaitsForASafeCall(t *testing.T) {
	r := newRig(waiting(probing))
	r.do(0, "restore 5s")
	_, got := unsafely(r.Circuit, 5*time.Second)
	require.Equal(t, "waits until 35s", got)
	_, got = unsafely(r.Circuit, 35*time.Second)
	require.Equal(t, "overdue", got)
}

func TestAHastenedProbeWaitsForASafeCall(t *testing.T) {
	r := newRig(waiting(probing))
	r.do(0, "set open")
	r.do(1*time.Second, "hasten")
	_, got := unsafely(r.Circuit, time.Second)
	require.Equal(t, "waits until 31s", got)
	p, got := unsafely(r.Circuit, 31*time.Second)
	require.Equal(t, "overdue", got)
	p.Return(epoch.Add(31 * time.Second))
	_, got = unsafely(r.Circuit, 31*time.Second)
	require.Equal(t, "overdue", got)
}

// The wait is for a safe call of any member: it goes on while another one probes, and begins anew when that probe has failed,
// as often as such a failure counts.
func TestTheProbeOfAnotherIsAProbeForWhichNoUnsafeCallIsNeeded(t *testing.T) {
	f := openFellow(waiting(probingOften))
	f.hear(0, "a", fleet.Opened)
	_, got := unsafely(f.Circuit, time.Second)
	require.Equal(t, "waits until 31s", got)
	f.hear(2*time.Second, "a", fleet.ProbeStarted)
	_, got = unsafely(f.Circuit, 2*time.Second)
	require.Equal(t, "waits until 31s", got)
	f.hear(2*time.Second, "a", fleet.ProbeFailed)
	require.Zero(t, f.Snapshot(epoch.Add(2*time.Second)).SafeUntil)
	_, got = unsafely(f.Circuit, 3*time.Second)
	require.Equal(t, "waits until 33s", got)
	for at := 4 * time.Second; at < 33*time.Second; at += time.Second {
		f.hear(at, "a", fleet.ProbeStarted) // which does not count any more
		f.hear(at, "a", fleet.ProbeFailed)
		_, got = unsafely(f.Circuit, at)
		require.Equal(t, "waits until 33s", got)
	}
	_, got = unsafely(f.Circuit, 33*time.Second)
	require.Equal(t, "overdue", got)
}

// Liars hold it for as long as they hold any probe, and no longer.
func TestNobodyHoldsTheProbesOfUnsafeCallsForLong(t *testing.T) {
	every := time.Millisecond
	if testkit.Brief() {
		every *= 10
	}
	for lie, kinds := range map[string][]fleet.Kind{
		"claims":           {fleet.ProbeStarted},
		"claims and fails": {fleet.ProbeStarted, fleet.ProbeFailed},
		"fails and claims": {fleet.ProbeFailed, fleet.ProbeStarted},
		"openings":         {fleet.Opened, fleet.ProbeStarted, fleet.ProbeFailed},
	} {
		f := openFellow(waiting(probingOften))
		for i := range 3 {
			f.hear(0, fmt.Sprint("other", i), fleet.Opened)
		}
		for at := every; ; at += every {
			for i := range 4 {
				for _, kind := range kinds {
					f.hear(at, fmt.Sprint("liar", i), kind)
				}
			}
			if _, got := unsafely(f.Circuit, at); got == "overdue" {
				require.GreaterOrEqual(t, at, 30*time.Second)
				break
			}
			require.Less(t, at, 5*30*time.Second, lie)
		}
	}
}
