package statemachine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// What becomes of the calls of a recovery whose leases end.

// onRamp are rules by which a circuit opens at the second failure, is probed ten seconds later, and reopens at the second
// failure of a recovery by a ramp.
var onRamp = policy.Rules{
	Trip:    policy.Consecutive{Failures: 2},
	Probe:   policy.OpenTime{For: 10 * time.Second},
	Recover: policy.Ramp{},
}

// ramped is a circuit whose recovery by onRamp begins after 10 s, of an upstream whose calls take that long.
func ramped(usual time.Duration) *rig {
	const s = time.Second
	r := newRig(onRamp)
	for _, name := range []string{"a", "b"} {
		r.do(0, "ask "+name)
		r.do(0, "fail "+name)
	}
	r.do(10*s, "ask p")
	r.machine.canary.usual = usual
	r.do(10*s, "ok p")
	return r
}

func TestACallThatTakesLongKeepsNobodyOutOfARecovery(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ usual, lease time.Duration }{
		{0, 10 * s}, {time.Millisecond, s}, {s / 2, 2 * s}, {time.Minute, 10 * s}, // of which none was so long lately
	} {
		t.Run(c.usual.String(), func(t *testing.T) {
			r := ramped(c.usual)
			r.run(t,
				step{10 * s, "ask poll", "probe, half-open"}, step{10 * s, "ask other", "probe, half-open"},
				step{10*s + c.lease - 1, "ask c", "refused, half-open"},
				step{10*s + c.lease, "ask c", "probe, half-open"}, step{10*s + c.lease, "ask d", "probe, half-open"},
				step{10*s + c.lease, "ask e", "refused, half-open"},
			)
			require.Zero(t, r.told.changes[len(r.told.changes)-1].Failures)
			require.Equal(t, policy.Cause{Kind: policy.KindStatus, Status: 500}, lookAt(r, epoch.Add(10*s+c.lease)).Cause, "nothing else has failed")
			r.do(10*s+c.lease, "ok c")
			r.run(t,
				step{10*s + c.lease, "ask e", "probe, half-open"}, step{10*s + c.lease, "ask f", "probe, half-open"},
				step{10*s + c.lease, "ask g", "refused, half-open"}, // it has raised the limit to three
				step{20*s + c.lease, "ok poll", "half-open"},        // and so does one that is late
			)
			require.Equal(t, 4, r.machine.recover.Limit())
		})
	}
}

func TestACallOfARecoveryThatFailsAfterItsLeaseHasFailed(t *testing.T) {
	const s = time.Second
	r := ramped(time.Millisecond)
	r.run(t,
		step{10 * s, "ask a", "probe, half-open"}, step{10 * s, "ask b", "probe, half-open"},
		step{13 * s, "ask c", "probe, half-open"}, step{13 * s, "ask d", "probe, half-open"},
		step{40 * s, "fail a", "half-open"}, step{40 * s, "fail b", "half-open"}, // the limit is one from now on
		step{41 * s, "ask e", "probe, half-open"}, step{41 * s, "fail e", "half-open"},
		step{42 * s, "ask f", "probe, half-open"}, step{44 * s, "ask g", "probe, half-open"},
	)
	require.Contains(t, r.do(45*s, "fail f"), "open")
	require.Equal(t, policy.Open, r.machine.state)
}

// Nobody may wait for ever for an upstream that swallows all, and whose callers have no deadlines.
func TestARecoveryThatIsSilentForAMinuteHasFailed(t *testing.T) {
	const s = time.Second
	r, at := ramped(time.Millisecond), 10*s
	for ; r.machine.state == policy.HalfOpen; at += s {
		require.Less(t, at, 80*s)
		r.do(at, "ask hangs")
	}
	require.Greater(t, at, 70*s)
	require.Equal(t, policy.KindLease, r.told.changes[len(r.told.changes)-1].Cause.Kind)
	require.Equal(t, policy.ChangeRecoveryFailed, r.told.changes[len(r.told.changes)-1].Reason)
}

// A recovery that somebody begins by hand, long after the last call came back, is not silent from the start.
func TestARecoveryByHandIsNotSilentFromTheStart(t *testing.T) {
	const s = time.Second
	r := newRig(onRamp)
	r.run(t, step{0, "set open", "open"}, step{600 * s, "set half-open", "half-open"})
	r.machine.canary.usual = time.Millisecond
	for at := 600 * s; at < 620*s; at += s {
		r.do(at, "ask hangs")
	}
	require.Equal(t, policy.HalfOpen, r.machine.state)
}

// Over a connection that has been dead since the trouble began, a call says nothing, however late it is known.
func TestACallOfARecoveryOverADeadConnectionSaysNothing(t *testing.T) {
	const s = time.Second
	for _, dead := range []bool{true, false} {
		r := ramped(time.Millisecond)
		for at := 12 * s; at < 60*s && r.machine.state == policy.HalfOpen; at += 3 * s {
			require.Equal(t, "probe, half-open", r.do(at, "ask a"))
			r.permits["a"].place.reused = dead
			r.do(at+2*s, "ask b") // a's lease is over
			r.do(at+2*s, "return b")
			r.permits["a"].Done(epoch.Add(at+2*s), policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindTimeout}})
		}
		require.Equal(t, map[bool]policy.State{true: policy.HalfOpen, false: policy.Open}[dead], r.machine.state)
	}
}
