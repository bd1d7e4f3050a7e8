package statemachine

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// forgets asks twice: the first one asks whether it was used.
func forgets(c *Circuit, now time.Time, spare Spare) bool {
	first := c.Forget(now, spare, time.Hour)
	return first || c.Forget(now, spare, time.Hour)
}

// A circuit is known by an answer of its upstream, or because somebody set its state; a failure without an answer leaves it
// unknown.
func TestUnknownCircuitsAreSparedInAnyStateAndKnownOnesNever(t *testing.T) {
	noAnswer := policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindNotFound}}
	for _, c := range []struct {
		name  string
		known bool
		do    func(r *rig)
	}{
		{"new", false, func(*rig) {}},
		{"called and out", false, func(r *rig) { r.do(0, "ask a") }},
		{"failed without an answer", false, func(r *rig) { call(r.Circuit, epoch, noAnswer) }},
		{"ignored", false, func(r *rig) { r.do(0, "ask a"); r.do(0, "ignore a") }},
		{"tripped without an answer", false, func(r *rig) { call(r.Circuit, epoch, noAnswer); call(r.Circuit, epoch, noAnswer) }},
		{"half-open without an answer", false, func(r *rig) {
			call(r.Circuit, epoch, noAnswer)
			call(r.Circuit, epoch, noAnswer)
			r.do(10*time.Second, "ask p")
		}},
		{"configured", false, func(r *rig) { r.configure(0, probing) }},
		{"hastened", false, func(r *rig) { r.do(0, "hasten") }},
		{"refused", false, func(r *rig) { r.do(0, "refuse") }},
		{"returned", false, func(r *rig) { r.do(0, "ask a"); r.do(0, "return a") }},
		{"a success", true, func(r *rig) { call(r.Circuit, epoch, well) }},
		{"a failure that is an answer", true, func(r *rig) { call(r.Circuit, epoch, failed) }},
		{"an ignored call with an answer", true, func(r *rig) {
			call(r.Circuit, epoch, policy.Result{Outcome: policy.Ignored, Cause: policy.Cause{Kind: policy.KindStatus, Status: 401}})
		}},
		{"tripped by answers", true, func(r *rig) { call(r.Circuit, epoch, failed); call(r.Circuit, epoch, failed) }},
		{"an answer, then trouble without one", true, func(r *rig) {
			call(r.Circuit, epoch, well)
			call(r.Circuit, epoch, noAnswer)
			call(r.Circuit, epoch, noAnswer)
		}},
		{"set closed", true, func(r *rig) { r.do(0, "set closed") }},
		{"set open", true, func(r *rig) { r.do(0, "set open") }},
		{"set half-open", true, func(r *rig) { r.do(0, "set half-open") }},
		{"forced, and so again if it comes back", false, func(r *rig) { r.do(0, "force closed") }},
		{"reset", false, func(r *rig) { r.do(0, "reset") }},
		{"an answer, then reset", true, func(r *rig) { call(r.Circuit, epoch, well); r.do(0, "reset") }},
		{"restored", true, func(r *rig) { r.do(0, "restore 1s") }},
		{"an answer that came late", true, func(r *rig) { r.do(0, "ask a"); r.do(0, "set open"); r.do(0, "ok a") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(classic)
			c.do(r)
			require.Equal(t, !c.known, forgets(r.Circuit, epoch, Unknown))
			require.Equal(t, !c.known, r.machine.gone)
			require.False(t, forgets(r.Circuit, epoch, Unknown), "it is forgotten once at most")
		})
	}
}

func TestAnUnknownCircuitIsNotQuiet(t *testing.T) {
	r := newRig(classic)
	r.do(0, "quick a")
	require.False(t, r.permits["a"].Quiet(), "a success would make it known")
	r.do(0, "ok a")
	r.do(0, "quick a")
	require.True(t, r.permits["a"].Quiet())
}

// Who is asked in vain whether it may be forgotten is as used as before, for when it may.
func TestACircuitThatIsNoneToSpareStaysUsed(t *testing.T) {
	r := newRig(classic)
	call(r.Circuit, epoch, well)
	r.do(0, "quick a")
	for range 3 {
		require.False(t, r.Forget(epoch, Unknown, 0))
	}
	require.False(t, r.Forget(epoch, Quiet, 0), "it was used")
	require.True(t, r.Forget(epoch, Quiet, 0))
}

func TestAForcedCircuitIsForgottenWhenItHasBeenSoForLong(t *testing.T) {
	r := newRig(classic)
	call(r.Circuit, epoch, well)
	r.do(time.Minute, "force open")
	for _, spare := range []Spare{Unknown, Quiet, AnyClosed} {
		require.False(t, forgets(r.Circuit, epoch.Add(1000*time.Hour), spare))
	}
	require.False(t, forgets(r.Circuit, epoch.Add(time.Minute+time.Hour-1), Idle))
	require.True(t, forgets(r.Circuit, epoch.Add(time.Minute+time.Hour), Idle))
}

func TestWellIsAnsweredWellSinceAndNothingFailedAfter(t *testing.T) {
	share := classic
	share.Trip = policy.FailureShare{Minimum: 100}
	for name, rules := range map[string]policy.Rules{
		"in a row": classic, "a share, of which a success is part": share, "with a Hold": holding,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := New(&Config{Rules: validated(rules), Random: func() float64 { return 0 }, Measured: true}, nil, nil)
			began := time.Now()
			start := func() Permit {
				time.Sleep(time.Second)
				p, ok := c.AcquireClosed()
				require.True(t, ok)
				return p
			}
			ends := func(r policy.Result) { start().Done(time.Now(), r) }
			isWell := func(want bool, why string) {
				t.Helper()
				require.Equal(t, want, c.Well(began), "%s: %s", name, why)
				require.False(t, c.Well(time.Now().Add(1)), "since a moment to come")
			}
			isWell(false, "new")
			ends(well)
			isWell(true, "answered")
			began = time.Now().Add(1)
			isWell(false, "not since")
			for range 10 {
				time.Sleep(time.Second / 100)
				p, _ := c.AcquireClosed() // the first is a canary
				if !p.Quiet() {
					p.Done(time.Now(), well)
				}
			}
			isWell(true, "answered since")
			ends(policy.Result{Outcome: policy.Ignored})
			isWell(true, "a call that says nothing")
			ends(failed)
			isWell(false, "failed after that")
			ends(policy.Result{Outcome: policy.Ignored})
			isWell(false, "a call that says nothing")
			began = time.Now()
			ends(well)
			isWell(true, "answered after that")

			p := start()
			began = time.Now()
			isWell(false, "called, and not answered yet")
			p.Headers(time.Now(), 0)
			isWell(true, "the headers came")
			p.Done(time.Now(), failed)
			isWell(false, "and its body broke")

			ends(well)
			c.Set(policy.Open, time.Now())
			isWell(false, "open")
			c.Set(policy.Closed, time.Now())
			isWell(false, "closed again, and not called yet")
			ends(well)
			isWell(true, "and answered")
			c.Force(policy.Closed, time.Now())
			isWell(false, "forced, and not called yet")
			ends(well)
			isWell(true, "forced, and answered")
			ends(failed)
			isWell(false, "forced, and failed")
			c.Release(time.Now())
			ends(well)
			require.True(t, c.Reset(time.Now()))
			isWell(false, "reset")
			ends(well)
			isWell(true, "and answered")
			require.True(t, forgets(c, time.Now(), AnyClosed))
			require.False(t, c.Well(began), "forgotten")
		})
	}
}

func TestTellTellsWhatAPanicLeftOver(t *testing.T) {
	var c *Circuit
	var seen []policy.State
	c = observed(classic, &listening{changed: func(change Change) {
		if seen = append(seen, change.To); len(seen) == 1 {
			c.Set(policy.Closed, change.At)
			panic("ouch")
		}
	}})
	require.NotNil(t, dies(t, func() { c.Set(policy.Open, epoch) }))
	require.False(t, c.Forget(epoch, Quiet, 0))
	require.True(t, c.Forget(epoch, Quiet, 0))
	require.Len(t, seen, 1, "Forget is called under a lock of others, and tells nobody")
	inTime(t, c.Tell)
	require.Equal(t, []policy.State{policy.Open, policy.Closed}, seen)
}
