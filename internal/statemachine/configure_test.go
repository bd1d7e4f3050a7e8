package statemachine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func (r *rig) configure(at time.Duration, rules policy.Rules) {
	r.Configure(&Config{Rules: rules, Random: func() float64 { return 0 }}, epoch.Add(at))
}

func TestAClosedCircuitWeighsAfreshByNewRules(t *testing.T) {
	r := newRig(policy.Classic{Failures: 3, OpenFor: time.Hour}.Rules())
	r.run(t, step{0, "ask a", "granted, closed"}, step{0, "ask b", "granted, closed"}, step{0, "ask c", "granted, closed"},
		step{0, "ask d", "granted, closed"}, step{0, "fail a", "closed"}, step{0, "fail b", "closed"})
	r.configure(0, classic)
	r.run(t, step{0, "look", "0 failed 0 ok, 0 of 0, closed"},
		step{0, "fail c", "closed"}, // calls that were out at the swap still count
		step{0, "fail d", "opened, open"}, step{0, "ask e", "refused for 10s, open"})
	require.Len(t, r.told.changes, 1, "new rules are no change of state")
	require.EqualValues(t, 1, lookAt(r, epoch).Generation)
}

func TestAnOpenCircuitIsDueWhenItWasOrSooner(t *testing.T) {
	for _, c := range []struct {
		name string
		next policy.Rules
		want string
	}{
		{"the same wait", policy.Classic{OpenFor: time.Minute}.Rules(), "refused for 50s, open"},
		{"a shorter one begins now", policy.Classic{OpenFor: 20 * time.Second}.Rules(), "refused for 20s, open"},
		{"a longer one does not make it longer", policy.Classic{OpenFor: time.Hour}.Rules(), "refused for 50s, open"},
		{"adaptive", policy.Adaptive{}.Rules(), "refused for 100ms, open"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(policy.Classic{OpenFor: time.Minute}.Rules())
			r.do(0, "set open")
			r.configure(10*time.Second, c.next)
			r.run(t, step{10 * time.Second, "ask a", c.want})
		})
	}
}

func TestAnOpenCircuitWhoseTimeHasPassedIsStillDue(t *testing.T) {
	r := newRig(policy.Classic{OpenFor: time.Second}.Rules())
	r.do(0, "set open")
	r.configure(time.Minute, policy.Classic{OpenFor: time.Hour}.Rules())
	r.run(t, step{time.Minute, "ask a", "probe, half-open"})
}

func TestTheProbeThatIsOutDecidesByNewRules(t *testing.T) {
	r := newRig(probing)
	r.do(0, "set open")
	r.run(t, step{10 * time.Second, "ask p", "probe, open"})
	r.configure(10*time.Second, policy.Classic{Failures: 2, OpenFor: 20 * time.Second, Probes: 3}.Rules())
	r.run(t, step{10 * time.Second, "ask q", "refused, open"}, // still one at a time
		step{11 * time.Second, "fail p", "open"}, step{11 * time.Second, "ask q", "refused for 20s, open"},
		step{31 * time.Second, "ask q", "probe, half-open"}, step{31 * time.Second, "look", "0 failed 0 ok, 1 of 3, half-open"})

	r = newRig(probing)
	r.do(0, "set open")
	r.run(t, step{10 * time.Second, "ask p", "probe, open"})
	r.configure(10*time.Second, policy.Classic{Probes: 3}.Rules())
	r.run(t, step{11 * time.Second, "ok p", "half-open"}, step{11 * time.Second, "look", "0 failed 1 ok, 0 of 2, half-open"})
}

func TestARecoveryGoesOnByTheRuleThatItBeganWith(t *testing.T) {
	r := newRig(classic) // two successes close it
	r.do(0, "set half-open")
	r.run(t, step{0, "ask p", "probe, half-open"}, step{0, "ask q", "probe, half-open"}, step{0, "ok p", "half-open"})
	next := policy.Rules{
		Trip: policy.Consecutive{Failures: 2}, Probe: policy.OpenTime{For: time.Minute}, Recover: afterProbe{policy.Trial{Probes: 5}},
	}
	r.configure(0, next)
	r.run(t, step{0, "look", "0 failed 1 ok, 1 of 1, half-open"})
	p, refusal := r.Acquire(epoch, time.Time{}, NotToProbe)
	require.False(t, p.Granted(), "they are still the calls of a trial")
	require.Equal(t, policy.RefusedRamp, refusal.Reason)
	r.run(t, step{0, "ok q", "closed"}, step{0, "set open", "open"},
		step{time.Minute, "ask p", "probe, open"}, step{time.Minute, "ok p", "half-open"}, // the next one is of the new rule
		step{time.Minute, "look", "0 failed 0 ok, 0 of 5, half-open"})
	_, refusal = r.Acquire(epoch.Add(time.Minute), time.Time{}, NotToProbe)
	require.Equal(t, policy.NotRefused, refusal.Reason)
}

func TestARecoveryThatFailsWaitsByTheNewRule(t *testing.T) {
	r := newRig(classic)
	r.do(0, "set half-open")
	r.run(t, step{0, "ask p", "probe, half-open"})
	r.configure(0, policy.Classic{OpenFor: time.Minute, Probes: 4}.Rules())
	r.run(t, step{0, "fail p", "opened, open"}, step{0, "ask q", "refused for 1m0s, open"},
		step{time.Minute, "ask q", "probe, half-open"}, step{time.Minute, "look", "0 failed 0 ok, 1 of 4, half-open"})
}

func TestRulesOfAForcedCircuitHoldFromItsRelease(t *testing.T) {
	r := newRig(classic)
	r.do(0, "force closed")
	r.configure(0, policy.Classic{Failures: 1, OpenFor: time.Minute}.Rules())
	r.run(t, step{0, "ask a", "granted, closed"}, step{0, "fail a", "closed"}, step{0, "release", "closed"},
		step{0, "ask a", "granted, closed"}, step{0, "fail a", "opened, open"}, step{0, "ask a", "refused for 1m0s, open"})
	r.do(0, "force open")
	r.configure(0, classic)
	r.run(t, step{time.Hour, "ask a", "refused, open"}, step{time.Hour, "release", "open"}, step{time.Hour, "ask a", "probe, half-open"})
}

func TestTheSameConfigIsNoOther(t *testing.T) {
	config := &Config{Rules: classic, Random: func() float64 { return 0 }}
	c := New(config, nil, nil)
	p, _ := c.Acquire(epoch, time.Time{}, ToProbe)
	p.Done(epoch, failed)
	c.Configure(config, epoch)
	require.Equal(t, 1, lookAt(c, epoch).Failures)
	require.Same(t, config, c.Config())
}

func TestAForgottenCircuitTakesNoRules(t *testing.T) {
	config := &Config{Rules: classic}
	c := New(config, nil, nil)
	require.True(t, c.Forget(epoch, Quiet, 0))
	c.Configure(&Config{Rules: probing}, epoch)
	require.Same(t, config, c.Config())
	require.False(t, c.Well(epoch))
}
