package statemachine

import (
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

var (
	away = policy.Result{
		Outcome: policy.Failure, Cause: policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindStatus, Status: 503},
	}
	fine = policy.Result{Outcome: policy.Success, Cause: policy.Cause{Status: 200}}
)

// crowd makes calls of 10 ms, two at a time, of which every other one is turned away, until one is refused. It returns
// when that was.
func (r *rig) crowd(t *testing.T, at time.Duration) time.Duration {
	t.Helper()
	for range 100 {
		a, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		b, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		if refusal.Reason == policy.RefusedThrottled {
			return at
		}
		at += 10 * time.Millisecond
		a.Done(epoch.Add(at), fine)
		if b.Granted() {
			b.Done(epoch.Add(at), away)
		}
	}
	t.Fatal("nothing is refused")
	return 0
}

func (r *rig) because(at time.Duration) policy.RefusalReason {
	p, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
	if p.Granted() {
		p.Done(epoch.Add(at), fine)
	}
	return refusal.Reason
}

func TestAThrottleIsThereWhileAnUpstreamGetsTooMuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which no canary is late meanwhile
		r := newRig(policy.Adaptive{}.Rules())
		_, quick := r.AcquireClosed()
		require.True(t, quick)
		at := r.crowd(t, 0)
		require.Equal(t, policy.RefusedThrottled, r.because(at))
		require.Equal(t, policy.Closed, lookAt(r, epoch.Add(at)).State)
		require.NotZero(t, lookAt(r, epoch.Add(at)).Throttle)
		_, quick = r.AcquireClosed()
		require.False(t, quick, "each call is counted")

		at += 31 * time.Second
		require.Equal(t, policy.NotRefused, r.because(at))
		require.Zero(t, lookAt(r, epoch.Add(at)).Throttle)
		_, quick = r.AcquireClosed()
		require.True(t, quick, "and none any more")
		require.Nil(t, r.machine.throttle)
	})
}

func TestAWordOf429IsNoFailureAndThrottles(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	at, refused := time.Duration(0), false
	for range 200 {
		p, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		if refused = refusal.Reason == policy.RefusedThrottled; refused {
			break
		}
		at += 50 * time.Millisecond
		p.Done(epoch.Add(at), policy.Result{Outcome: policy.Success, Cause: policy.Cause{Status: 429}})
	}
	require.True(t, refused)
	require.Zero(t, lookAt(r, epoch.Add(at)).Counts.Failures)
}

func TestWhatIsForcedOrSetByHandIsNotThrottled(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	at := r.crowd(t, 0)
	r.Force(policy.Closed, epoch.Add(at))
	for range 100 {
		require.Equal(t, policy.NotRefused, r.because(at))
		p, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		p.Done(epoch.Add(at), away)
	}
	require.Zero(t, lookAt(r, epoch.Add(at)).Throttle)
	r.Release(epoch.Add(at))
	require.Equal(t, policy.NotRefused, r.because(at))

	for name, renew := range map[string]func(r *rig, at time.Duration){
		"set":   func(r *rig, at time.Duration) { r.Set(policy.Closed, epoch.Add(at)) },
		"reset": func(r *rig, at time.Duration) { r.Reset(epoch.Add(at)) },
		"other rules": func(r *rig, at time.Duration) {
			r.configure(at, policy.Adaptive{Throttle: policy.Throttle{Off: true}}.Rules())
		},
		"no rule": func(r *rig, at time.Duration) { r.configure(at, classic) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(policy.Adaptive{}.Rules())
			at := r.crowd(t, 0)
			renew(r, at)
			require.Equal(t, policy.NotRefused, r.because(at))
			require.Nil(t, r.machine.throttle)
			_, quick := r.AcquireClosed()
			require.True(t, quick)
		})
	}
}

func TestNoThrottleWithoutARule(t *testing.T) {
	for _, rules := range []policy.Rules{classic, policy.Adaptive{Throttle: policy.Throttle{Off: true}}.Rules()} {
		rules.Trip = policy.Evidence{}
		r := newRig(rules)
		for at := range 200 {
			now := epoch.Add(time.Duration(at) * 10 * time.Millisecond)
			p, refusal := r.Acquire(now, time.Time{}, ToProbe)
			require.Equal(t, policy.NotRefused, refusal.Reason)
			p.Done(now, []policy.Result{away, fine}[at%2])
		}
		require.Nil(t, r.machine.throttle)
	}
}

func TestAThrottleHoldsNothingOfCallsThatComeToNothing(t *testing.T) {
	for name, end := range map[string]func(Permit, time.Time){
		"returned": func(p Permit, now time.Time) { p.Return(now) },
		"ignored":  func(p Permit, now time.Time) { p.Done(now, policy.Result{Outcome: policy.Ignored}) },
		"lost":     func(Permit, time.Time) {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(policy.Adaptive{}.Rules())
			at, sent := r.crowd(t, 0), 0
			for range 1000 {
				at += 20 * time.Millisecond
				if p, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe); refusal.Reason == policy.NotRefused {
					sent++
					end(p, epoch.Add(at+time.Millisecond))
				}
			}
			require.Greater(t, sent, 20)
		})
	}
}

func TestAThrottleOfACrowdTakesNoMoreMemory(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	at := r.crowd(t, 0)
	for range 10_000 { // none of which comes back
		at += time.Second
		r.Acquire(epoch.Add(at), epoch.Add(at+time.Hour), ToProbe)
		r.Acquire(epoch.Add(at), epoch.Add(at+time.Hour), ToProbe)
	}
	require.LessOrEqual(t, unsafe.Sizeof(policy.Throttling{}), uintptr(512), "and it has nothing that grows")
}

// BenchmarkAThrottledCall is what a call costs while there is a limit: a lock, and memory to know it by.
func BenchmarkAThrottledCall(b *testing.B) {
	r := newRig(policy.Adaptive{}.Rules())
	out := make([]Permit, 64)
	first, _ := r.Acquire(epoch, time.Time{}, ToProbe)
	first.Done(epoch, away) // and from now on calls are counted
	for i := range out {
		out[i], _ = r.Acquire(epoch, time.Time{}, ToProbe)
	}
	for i, p := range out {
		p.Done(epoch.Add(time.Millisecond), []policy.Result{away, fine}[i%2])
	}
	require.NotZero(b, lookAt(r, epoch).Throttle)
	b.ReportAllocs()
	for b.Loop() {
		p, refusal := r.Acquire(epoch.Add(2*time.Millisecond), time.Time{}, ToProbe)
		if refusal.Reason != policy.NotRefused {
			b.Fatal(refusal.Reason)
		}
		p.Done(epoch.Add(3*time.Millisecond), fine)
	}
}

// recovering opens a circuit whose calls took 10 ms, and has a probe succeed, of a caller who waits for a second.
func (r *rig) recovering(t *testing.T, at time.Duration) time.Duration {
	t.Helper()
	r.machine.canary.usual = 10 * time.Millisecond
	for r.machine.state == policy.Closed {
		p, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		p.Done(epoch.Add(at), policy.Result{Outcome: policy.Failure})
	}
	for r.machine.state == policy.Open {
		at += time.Second
		p, _ := r.Acquire(epoch.Add(at), epoch.Add(at+time.Second), ToProbe)
		if p.Granted() {
			p.Done(epoch.Add(at+10*time.Millisecond), policy.Result{Outcome: policy.Success, Elapsed: 10 * time.Millisecond})
		}
	}
	return at + 10*time.Millisecond
}

// round has as many calls as may be out succeed after a time, of callers who wait for a second.
func (r *rig) round(at, took time.Duration) time.Duration {
	var out []Permit
	for range r.machine.recover.Limit() {
		p, _ := r.Acquire(epoch.Add(at), epoch.Add(at+time.Second), ToProbe)
		out = append(out, p)
	}
	at += took
	for _, p := range out {
		p.Done(epoch.Add(at), policy.Result{Outcome: policy.Success, Elapsed: took})
	}
	return at
}

func TestARecoveryIsToldHowLongCallersWait(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	at := r.recovering(t, 0)
	limit := r.machine.recover.Limit()
	r.round(at, 500*time.Millisecond)
	require.Equal(t, limit, r.machine.recover.Limit(), "half of what callers wait, and fifty times as long as before")

	r = newRig(policy.Adaptive{}.Rules())
	at = r.recovering(t, 0)
	r.round(at, 100*time.Millisecond)
	require.Greater(t, r.machine.recover.Limit(), limit)
}

func TestASpellOfAThrottleIsToldFromItsBeginToItsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(r *rig, at time.Duration) (ended time.Duration)
		reason policy.ThrottleReason
	}{
		"calm": {func(r *rig, at time.Duration) time.Duration {
			until := lookAt(r, epoch.Add(at)).Throttle.Until.Sub(epoch)
			require.NotNil(t, lookAt(r, epoch.Add(until)).Throttle)
			require.Nil(t, lookAt(r, epoch.Add(until+1)).Throttle, "whether or not somebody calls")
			r.because(at + time.Hour)
			return until
		}, policy.ThrottleCalm},
		"tripped": {func(r *rig, at time.Duration) time.Duration {
			for r.machine.state == policy.Closed {
				at += 10 * time.Millisecond
				if p, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe); p.Granted() {
					p.Done(epoch.Add(at), policy.Result{Outcome: policy.Failure})
				}
			}
			return at
		}, policy.ThrottleOpened},
		"forced": {func(r *rig, at time.Duration) time.Duration {
			r.Force(policy.Closed, epoch.Add(at))
			return at
		}, policy.ThrottleByHand},
		"reset": {func(r *rig, at time.Duration) time.Duration {
			r.Reset(epoch.Add(at))
			return at
		}, policy.ThrottleByHand},
		"other rules": {func(r *rig, at time.Duration) time.Duration {
			r.configure(at, classic)
			r.because(at)
			return at
		}, policy.ThrottleByHand},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(policy.Adaptive{}.Rules())
			var events []Throttle
			r.machine.observer = &toldThrottles{events: &events}
			at := r.crowd(t, 0)
			ended := c.end(r, at)
			require.GreaterOrEqual(t, len(events), 2)
			begin, end := events[0], events[1]
			require.False(t, begin.Over)
			require.Equal(t, policy.ThrottledBy503, begin.Reason)
			require.Equal(t, begin.At, begin.Since)
			require.NotZero(t, begin.InFlight)
			require.True(t, end.Over)
			require.Equal(t, c.reason, end.Reason)
			require.Equal(t, epoch.Add(ended), end.At)
			require.Equal(t, begin.Since, end.Since)
			require.NotZero(t, end.Refused)
		})
	}
}

// A queue that grows has no limit, and when it grows no more nothing is left to remember.
func TestASpellForAQueueLastsUntilAnswersComeInTime(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	for range 4 { // so that calls are counted for twenty good answers
		p, _ := r.Acquire(epoch, time.Time{}, ToProbe)
		p.Done(epoch, away)
	}
	var out []Permit
	for i := range 60 {
		now := epoch.Add(time.Duration(i) * time.Millisecond)
		p, _ := r.Acquire(now, now.Add(time.Minute), ToProbe)
		out = append(out, p)
	}
	at := 100 * time.Millisecond
	answer := func(n int) {
		for range n {
			at += 10 * time.Millisecond
			out[0].Done(epoch.Add(at), fine)
			out = out[1:]
		}
	}
	answer(15)
	_, refusal := r.Acquire(epoch.Add(at), epoch.Add(at+200*time.Millisecond), ToProbe)
	require.Equal(t, policy.RefusedThrottled, refusal.Reason)
	require.Equal(t, policy.ThrottledQueue, refusal.Throttle.Reason)
	require.Zero(t, refusal.Throttle.InFlight)
	require.Positive(t, refusal.Due.Sub(refusal.At))
	require.NotNil(t, lookAt(r, epoch.Add(at)).Throttle)
	r.machine.canary.stop() // so that no late one has calls counted
	answer(40)
	require.Nil(t, lookAt(r, epoch.Add(at)).Throttle)
	require.Nil(t, r.machine.spell)
	require.Nil(t, r.machine.throttle)
}

type toldThrottles struct {
	deaf
	events *[]Throttle
}

func (t *toldThrottles) Throttled(e Throttle) { *t.events = append(*t.events, e) }

// What is said of a spell is made once a second, and not for each refusal.
func TestARefusalOfAThrottleCostsNoMemoryForWhatItSays(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	r.machine.observer = &deaf{}
	at := r.crowd(t, 0)
	var said *policy.Throttled
	require.Zero(t, testing.AllocsPerRun(30, func() {
		if _, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe); refusal.Throttle != nil {
			said = refusal.Throttle
		}
	}))
	require.NotNil(t, said)
	at += 2 * time.Second
	for range 10 {
		if _, refusal := r.Acquire(epoch.Add(at), time.Time{}, ToProbe); refusal.Throttle != nil {
			said = refusal.Throttle
		}
	}
	require.Greater(t, said.Refused, uint64(30))
}

// What a throttle knew of an upstream's load is not forgotten because its circuit was open meanwhile.
func TestAThrottleThatLimitedGoesOnWhereTheRecoveryEnds(t *testing.T) {
	r := newRig(policy.Adaptive{}.Rules())
	at := r.crowd(t, 0)
	for r.machine.state == policy.Closed {
		p, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		if p.Granted() {
			p.Done(epoch.Add(at), policy.Result{Outcome: policy.Failure})
		}
		at += 10 * time.Millisecond
	}
	for limit := 0; ; at += 10 * time.Millisecond {
		p, _ := r.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		if p.Granted() {
			p.Done(epoch.Add(at), policy.Result{Outcome: policy.Success, Elapsed: time.Millisecond})
		}
		if r.machine.state == policy.Closed {
			require.GreaterOrEqual(t, lookAt(r, epoch.Add(at)).Throttle.InFlight, limit)
			require.NotZero(t, limit)
			return
		}
		if r.machine.state == policy.HalfOpen {
			limit = r.machine.recover.Limit()
		}
	}
}
