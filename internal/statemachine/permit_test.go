package statemachine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestACallThatIsToBeNoProbeLeavesItToTheNext(t *testing.T) {
	for name, c := range map[string]struct {
		rules policy.Rules
		want  string
	}{"classic": {classic, "probe, half-open"}, "probing": {probing, "probe, open"}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(c.rules)
			r.do(0, "set open")
			for range 3 {
				r.run(t, step{10 * time.Second, "noprobe a", "refused, open"})
			}
			r.run(t, step{10 * time.Second, "ask p", c.want})
			require.Equal(t, policy.RefusedOpen, r.told.refusals[0].Reason)
			require.EqualValues(t, 3, r.machine.counts.Refusals)
			require.EqualValues(t, 1, r.machine.counts.Probes)
		})
	}
}

func TestItIsARequestThatProbesAreCountedBy(t *testing.T) {
	rules := policy.Adaptive{Probe: policy.Squares{Spacing: 5}}.Rules() // the fifth request is a probe
	r := newRig(rules)
	r.do(0, "set open")
	for range 4 {
		r.run(t, step{time.Second, "noprobe a", "refused, open"})
	}
	r.run(t, step{time.Second, "ask p", "probe, open"})
}

func TestAHastenedProbeWaitsForACallThatMayBeOne(t *testing.T) {
	r := newRig(classic)
	r.do(0, "set open")
	r.do(0, "hasten")
	r.run(t, step{0, "noprobe a", "refused, open"}, step{0, "ask p", "probe, half-open"})
}

func TestAProbeThatIsReturnedIsDueAsItWas(t *testing.T) {
	r := newRig(probing)
	r.do(0, "set open")
	r.do(0, "hasten")
	r.run(t, step{0, "ask p", "probe, open"}, step{0, "ask b", "refused for 10s, open"}, step{0, "return p", "open"}, step{0, "ask c", "probe, open"})
}

func TestTheCallsOfATrialAreProbesAndThoseOfARampAreNot(t *testing.T) {
	r := newRig(classic)
	r.do(0, "set half-open")
	r.run(t, step{0, "noprobe a", "refused, half-open"}, step{0, "look", "0 failed 0 ok, 0 of 2, half-open"}, step{0, "ask p", "probe, half-open"})
	require.Equal(t, policy.RefusedRamp, r.told.refusals[0].Reason)
	require.True(t, r.permits["p"].Probe())

	r = newRig(probing)
	r.do(0, "set half-open")
	r.run(t, step{0, "noprobe a", "probe, half-open"}, step{0, "ask b", "probe, half-open"}, step{0, "noprobe c", "refused, half-open"})
	require.True(t, r.permits["a"].Probing())
	require.False(t, r.permits["a"].Probe(), "the upstream has answered a probe already")
	require.False(t, r.permits["b"].Probe())

	r = newRig(probing)
	r.do(0, "set open")
	r.do(10*time.Second, "ask p")
	require.True(t, r.permits["p"].Probe())

	r = newRig(classic)
	r.run(t, step{0, "noprobe a", "granted, closed"})
	require.False(t, r.permits["a"].Probe())
	require.False(t, r.permits["a"].Probing())
}

func TestAReturnedPermitLeavesNoTrace(t *testing.T) {
	for name, c := range map[string]struct {
		rules policy.Rules
		steps []string // before
		at    time.Duration
	}{
		"closed":                    {classic, []string{"ask z", "fail z"}, 0},
		"open, one probe at a time": {probing, []string{"set open"}, 10 * time.Second},
		"half-open, by a trial":     {classic, []string{"set half-open", "ask z"}, 0},
		"half-open, after a probe":  {probing, []string{"set half-open", "ask z", "ok z"}, 0},
		"half-open, a ramp":         {policy.Adaptive{}.Rules(), []string{"set half-open", "ask z"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(c.rules)
			for _, operation := range c.steps {
				r.do(0, operation)
			}
			before, events := lookAt(r, epoch.Add(c.at)), len(r.told.lines)
			for range 100 {
				p, refusal := r.Acquire(epoch.Add(c.at), time.Time{}, ToProbe)
				require.True(t, p.Granted(), "%+v", refusal)
				p.Return(epoch.Add(c.at))
			}
			if before.State != policy.Closed {
				before.Asked = epoch.Add(c.at) // which it was
			}
			require.Equal(t, before, lookAt(r, epoch.Add(c.at)))
			require.Len(t, r.told.lines, events)
			require.Equal(t, before, lookAt(r, epoch.Add(c.at)), "nor a lease that ends later")
		})
	}
}

func TestAReturnedPermitOfAnOlderGenerationChangesNothing(t *testing.T) {
	r := newRig(classic)
	r.run(t, step{0, "ask a", "granted, closed"}, step{0, "set half-open", "half-open"}, step{0, "ask p", "probe, half-open"},
		step{0, "set half-open", "half-open"}, step{0, "ask q", "probe, half-open"},
		step{0, "return a", "half-open"}, step{0, "return p", "half-open"}, step{0, "look", "0 failed 0 ok, 1 of 2, half-open"})
	require.EqualValues(t, 2, r.machine.counts.Probes)
	r.do(0, "return q")
	require.EqualValues(t, 1, r.machine.counts.Probes)

	r = newRig(classic)
	r.run(t, step{0, "ask a", "granted, closed"})
	require.True(t, forgets(r.Circuit, epoch, Quiet))
	r.run(t, step{0, "return a", "closed"})
}

// A canary that was never sent is not one that is late, nor does it say how long calls take.
func TestAReturnedCanaryIsNoCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := policy.Adaptive{}.Rules()
		c := New(&Config{Rules: validated(rules), Random: func() float64 { return 0 }}, nil, nil)
		c.AcquireClosed()
		p, _ := c.AcquireClosed()
		require.True(t, p.Watched())
		p.Return(time.Now())
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NotEqual(t, watching, c.machine.canary.phase)
		require.Zero(t, c.machine.canary.usual)
		p, _ = c.AcquireClosed()
		require.True(t, p.Watched(), "the next one is wanted")
		p.Done(time.Now(), policy.Result{Outcome: policy.Success})
	})
}

func TestWhatIsRefusedForAnotherReasonCounts(t *testing.T) {
	r := newRig(classic)
	r.do(time.Second, "ask a")
	r.do(time.Second, "fail a")
	want := Refusal{
		Reason: policy.RefusedLimit, State: policy.Closed, At: epoch.Add(time.Minute), Due: epoch.Add(time.Minute),
		Samples: samplesOf(1, epoch.Add(time.Second)),
	}
	require.Equal(t, want, r.Refuse(epoch.Add(time.Minute), policy.RefusedLimit))
	require.Equal(t, []Refusal{want}, r.told.refusals)
	require.EqualValues(t, 1, r.machine.counts.Refusals)
	require.Equal(t, 1, lookAt(r, epoch).Failures, "and is no failure")

	r.do(0, "set open")
	require.Equal(t, epoch.Add(10*time.Second), r.Refuse(epoch, policy.RefusedLimit).Due)
}

// deaf is an Observer that is told of changes alone.
type deaf struct{ told }

func (*deaf) WantsRefusals() bool { return false }
func (*deaf) InShadow() bool      { return false }
func (*deaf) Throttled(Throttle)  {}

func TestNobodyIsToldOfRefusalsWhoDoesNotWantThem(t *testing.T) {
	o := &deaf{}
	c := New(&Config{Rules: classic, Random: func() float64 { return 0 }}, o, nil)
	c.Set(policy.Open, epoch)
	for range 10 {
		c.Acquire(epoch, time.Time{}, ToProbe)
	}
	require.Len(t, o.changes, 1)
	require.Empty(t, o.refusals)
	require.EqualValues(t, 10, lookAt(c, epoch).Counts.Refusals)
}

func TestAFailureOfBeforeTheCircuitIsItsOwn(t *testing.T) {
	r := newRig(classic)
	blame := func(at time.Duration) bool {
		return r.Blame(epoch.Add(at), policy.Result{Outcome: policy.Failure, Cause: statusOf})
	}
	require.False(t, blame(0))
	require.Equal(t, 1, lookAt(r, epoch).Failures)
	require.True(t, blame(time.Second), "it opened the circuit")
	require.False(t, blame(2*time.Second))
	require.Equal(t, Counts{Failures: 3, Trips: 1}, r.machine.counts)
	require.Equal(t, samplesOf(3, epoch.Add(2*time.Second)), lookAt(r, epoch).Samples)
	r.do(3*time.Second, "set half-open")
	require.False(t, blame(3*time.Second))
	require.Equal(t, policy.HalfOpen, r.machine.state, "it decides no recovery")

	c := New(&Config{Rules: classic}, nil, nil)
	require.True(t, c.Forget(epoch, Quiet, 0))
	require.False(t, c.Blame(epoch, failed))
	require.Zero(t, c.machine.counts)
}
