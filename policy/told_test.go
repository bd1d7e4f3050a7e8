package policy_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// What a Throttle makes of 429s that say when to come back.

// window is an upstream that serves so many calls in each window, turns away the others, and says when the next begins, in
// whole seconds as the header does.
func window(calls int, each time.Duration) (upstream func(time.Duration) (time.Duration, bool), says func(time.Duration) time.Duration) {
	left, last := 0, time.Duration(-1)
	upstream = func(at time.Duration) (time.Duration, bool) {
		if at/each != last {
			left, last = calls, at/each
		}
		if left == 0 {
			return 2 * time.Millisecond, true
		}
		left--
		return 5 * time.Millisecond, false
	}
	says = func(at time.Duration) time.Duration {
		return (each - at%each + time.Second - 1).Truncate(time.Second)
	}
	return upstream, says
}

func TestAThrottleComesBackWhenItIsTold(t *testing.T) {
	for _, each := range []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute} {
		t.Run(each.String(), func(t *testing.T) {
			const rate = 50.0
			calls := int(rate * each.Seconds() / 2)
			of, says := window(calls, each)
			o := offerToWho(policy.Throttle{}.NewThrottle(), true, says, rate, 0, 10*each, time.Second, of)
			require.GreaterOrEqual(t, o.good, 10*calls*98/100, "%+v", o)
			require.LessOrEqual(t, o.away, 10*(10+int(each.Seconds()/2)), "eight, and one a second: %+v", o)
			of, _ = window(calls, each)
			o = offerTo(policy.Throttle{}.NewThrottle(), true, rate, 0, 10*each, time.Second, of)
			require.Greater(t, o.away, 10*(10+int(each.Seconds())), "nobody says when: %+v", o)
		})
	}
}

// One of ten users is over a limit that says so. The other nine are well, and hardly ever wait for that one.
func TestAThrottleIsNotToldByOneUserForAll(t *testing.T) {
	says := func(time.Duration) time.Duration { return 30 * time.Second }
	for _, hot := range []float64{15, 30, 100, 300, 1000} {
		for seed := range uint64(3) {
			coin := rand.New(rand.NewPCG(seed, 1))
			user, others := hot/(hot+18), 0
			of := bucket(5, 5)
			upstream := func(at time.Duration) (time.Duration, bool) {
				if coin.Float64() < user {
					return of(at)
				}
				others++
				return 5 * time.Millisecond, false
			}
			m := policy.Throttle{}.NewThrottle()
			o := offerToWho(m, true, says, hot+18, 0, 5*time.Minute, time.Second, upstream)
			came := (1 - user) * float64(o.sent+o.refused)
			require.Greater(t, float64(others), 0.88*came, "%v a second, seed %d: %+v", hot, seed, o)
		}
	}
}

// An upstream that says an hour and is well again has to wait for a second, and is not believed for a minute.
func TestAThrottleBelievesNoTimeAgainstAGoodAnswer(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	says := func(time.Duration) time.Duration { return time.Hour }
	bad := func(time.Duration) (time.Duration, bool) { return 2 * time.Millisecond, true }
	well := func(time.Duration) (time.Duration, bool) { return 5 * time.Millisecond, false }
	now := began.Add(time.Minute)
	offerTo(m, true, 50, 0, 10*time.Second, time.Second, well)
	o := offerToWho(m, true, says, 50, 10*time.Second, time.Minute, time.Second, bad)
	require.LessOrEqual(t, o.away, 8+55, "%+v", o)
	is := m.Throttled()
	require.Equal(t, policy.ThrottledBy429, is.Reason)
	require.Equal(t, "8 calls in a row turned away by 429 (bound 8), the last was told to wait for 1h0m0s", is.Why)
	require.WithinRange(t, is.Until, now.Add(time.Hour-2*time.Second), now.Add(time.Hour))
	require.Equal(t, 1, is.InFlight)
	require.WithinRange(t, began.Add(m.Wait()), began.Add(time.Hour-2*time.Second), began.Add(time.Hour), "so callers are told")

	o = offer(m, 50, time.Minute, 70*time.Second, time.Second, well)
	require.Less(t, o.refused, 100, "of two seconds: %+v", o)
	_, reason, why := m.Ended(began.Add(70 * time.Second))
	require.Equal(t, policy.ThrottleNoUse, reason)
	require.Contains(t, why, "before the time that the upstream had named")

	o = offerToWho(m, true, says, 50, 80*time.Second, 110*time.Second, time.Second, bad)
	require.Zero(t, o.refused, "not believed for a minute")
	o = offerToWho(m, true, says, 50, 3*time.Minute, 4*time.Minute, time.Second, bad)
	require.Greater(t, o.refused, 2000, "and then again: %+v", o)
}

func TestAThrottleSaysThatTheTimeIsOver(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	of, says := window(100, 20*time.Second)
	offerToWho(m, true, says, 50, 0, 15*time.Second, time.Second, of)
	end := began.Add(20 * time.Second)
	require.WithinRange(t, m.Until(), end, end.Add(time.Second))
	at, reason, why := m.Ended(end.Add(time.Minute))
	require.Equal(t, m.Until(), at)
	require.Equal(t, policy.ThrottleCalm, reason)
	require.Equal(t, "the time is over for which the upstream said to wait", why)
	for range 10 { // none of which is back yet
		_, ok := m.Admit(end.Add(time.Second), time.Time{})
		require.True(t, ok)
	}
	require.Zero(t, m.Limit())
	_, reason, again := m.Ended(end.Add(2 * time.Second))
	require.Equal(t, policy.ThrottleCalm, reason)
	require.Equal(t, why, again)
}

// Less than a second is not worth it: that is as often as a call goes in any case. What a queue of 503s says is heard by
// the circuit, for which they are failures.
func TestAThrottleIsToldByNothingElse(t *testing.T) {
	bad := func(time.Duration) (time.Duration, bool) { return 2 * time.Millisecond, true }
	for name, c := range map[string]struct {
		by429 bool
		says  time.Duration
	}{"a second": {true, time.Second}, "503": {false, time.Minute}} {
		m := policy.Throttle{}.NewThrottle()
		says := func(time.Duration) time.Duration { return c.says }
		offerToWho(m, c.by429, says, 50, 0, time.Second, time.Second, bad)
		require.NotContains(t, m.Throttled().Why, "told", name)
	}
	m := policy.Throttle{}.NewThrottle()
	for n := range 100 { // seven in a row
		if n%8 == 7 {
			m.Answered(began, policy.Pass{}, time.Millisecond, 0)
		} else {
			m.TurnedAway(began, policy.Pass{}, true, time.Minute, 0)
		}
	}
	require.Empty(t, m.Throttled().Why)
}

func TestAThrottleThatIsToldBearsAClockThatIsSetBack(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	for range 8 {
		m.TurnedAway(began, policy.Pass{}, true, 1000*time.Hour, 0)
	}
	require.Equal(t, began.Add(time.Hour), m.Until(), "nobody is believed for longer")
	m.Admit(began, time.Time{})
	_, ok := m.Admit(began.Add(time.Millisecond), time.Time{})
	require.False(t, ok)
	_, ok = m.Admit(began.Add(-time.Hour), time.Time{})
	require.True(t, ok)
	require.Zero(t, m.Limit())
}

// What else comes back meanwhile says nothing of how long.
func TestAThrottleThatIsToldGoesByThatAlone(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	offer(m, 50, 0, time.Second, 10*time.Second, func(time.Duration) (time.Duration, bool) { return 5 * time.Millisecond, false })
	now := began.Add(time.Minute)
	for range 8 {
		m.TurnedAway(now, policy.Pass{}, true, time.Hour, 0)
	}
	until := m.Until()
	require.Equal(t, now.Add(time.Hour), until)
	pass, ok := m.Admit(now, now.Add(10*time.Second))
	require.True(t, ok)
	m.TurnedAway(now.Add(time.Second), pass, true, 0, 0)
	m.TimedOut(now.Add(9*time.Second), pass, 9*time.Second)
	require.Equal(t, until, m.Until())
	m.TurnedAway(now.Add(10*time.Second), pass, true, time.Minute, 0)
	require.Equal(t, now.Add(70*time.Second), m.Until(), "the last word counts")

	m.Resume(now, 20) // the circuit was open in between
	require.Equal(t, 20.0, m.Limit())
	require.Equal(t, now.Add(30*time.Second), m.Until())
}
