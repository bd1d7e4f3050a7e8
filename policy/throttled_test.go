package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestAThrottleThatGivesUpSaysByWhat(t *testing.T) {
	// a half is turned away, whatever is sent
	m, n := policy.Throttle{}.NewThrottle(), 0
	offer(m, 100, 0, 2*time.Second, 2*time.Second, func(time.Duration) (time.Duration, bool) {
		n++
		return 30 * time.Millisecond, n%2 == 0
	})
	require.Zero(t, m.Limit())
	require.Zero(t, m.Until())
	at, reason, why := m.Ended(began.Add(time.Minute))
	require.Equal(t, began.Add(time.Minute), at, "when it is found out")
	require.Equal(t, policy.ThrottleNoUse, reason)
	require.Regexp(t, `^(at half of the limit \d+ % of calls are turned away still, of \d+ % before|only \d+ good answers came in .*) \(bound \d+ %.*\)$`, why)

	// answers get slow whatever is sent
	m = policy.Throttle{}.NewThrottle()
	m.Measure()
	why = ""
	offer(m, 20, 0, 5*time.Minute, 2*time.Second, func(at time.Duration) (time.Duration, bool) {
		if _, reason, now := m.Ended(began.Add(at)); reason == policy.ThrottleNoUse && why == "" {
			why = now
		}
		return 10*time.Millisecond + min(1490*time.Millisecond, at/2), false
	})
	require.Regexp(t, `^at half of the limit calls take \d+ms still, of \d+ms before \(bound 90 %\)$`, why)
}

func TestAThrottleInShadowKeepsItsLimitUntilThereIsCalm(t *testing.T) {
	m, n := policy.Throttle{}.NewThrottle(), 0
	m.InShadow(true)
	half := func(time.Duration) (time.Duration, bool) {
		n++
		return 30 * time.Millisecond, n%2 == 0
	}
	offer(m, 100, 0, 2*time.Second, 2*time.Second, half)
	limit := m.Limit()
	require.NotZero(t, limit)
	offer(m, 100, 2*time.Second, time.Hour, 2*time.Second, half)
	require.Equal(t, limit, m.Limit(), "neither of use nor of none")

	m.InShadow(false)
	require.Zero(t, m.Limit())
	_, reason, _ := m.Ended(began.Add(time.Hour))
	require.Equal(t, policy.ThrottleByHand, reason)
	offer(m, 100, time.Hour, time.Hour+2*time.Second, 2*time.Second, half)
	_, reason, _ = m.Ended(began.Add(2 * time.Hour))
	require.Equal(t, policy.ThrottleNoUse, reason, "and it finds out for real")

	m = policy.Throttle{}.NewThrottle()
	m.InShadow(true)
	offer(m, 100, 0, 2*time.Second, 2*time.Second, half)
	require.NotZero(t, m.Limit())
	offer(m, 100, 2*time.Second, time.Minute, 2*time.Second, func(time.Duration) (time.Duration, bool) {
		return 30 * time.Millisecond, false
	})
	require.Zero(t, m.Limit())
	at, reason, why := m.Ended(began.Add(time.Minute))
	require.Equal(t, policy.ThrottleCalm, reason)
	require.WithinRange(t, at, began.Add(30*time.Second), began.Add(33*time.Second))
	require.Equal(t, "none turned away or late for 30s", why)
}

func TestAThrottleForLateAnswersInShadowKeepsItsLimitToo(t *testing.T) {
	m, limits := policy.Throttle{}.NewThrottle(), map[float64]bool{}
	m.InShadow(true)
	m.Measure()
	offer(m, 20, 0, time.Minute, 2*time.Second, func(at time.Duration) (time.Duration, bool) {
		if limit := m.Limit(); limit > 0 {
			limits[limit] = true
		}
		return 10*time.Millisecond + min(1490*time.Millisecond, at/2), false
	})
	require.NotZero(t, m.Limit(), "it does not give up")
	require.Len(t, limits, 1)
}

func TestHowMuchAThrottleLetsGoIsSaidForPeople(t *testing.T) {
	for want, is := range map[string]policy.Throttled{
		"12 in flight, about 118 a second may go": {InFlight: 12, PerSecond: 118},
		"1 in flight, about 0.25 a second may go": {InFlight: 1, PerSecond: 0.25},
		"1 in flight may go":                      {InFlight: 1},
		"what would not be late goes":             {},
	} {
		require.Equal(t, want, string(is.AppendLimit(nil)))
	}
	m := policy.Throttle{}.NewThrottle()
	offer(m, 200, 0, 5*time.Second, 2*time.Second, queued(10*time.Millisecond, 100*time.Millisecond))
	is := m.Throttled()
	require.GreaterOrEqual(t, float64(is.InFlight), m.Limit())
	require.Less(t, float64(is.InFlight), m.Limit()+1)
	require.InDelta(t, 100, is.PerSecond, 50)
	require.Positive(t, m.Wait())
	require.LessOrEqual(t, m.Wait(), time.Second)
}

// A rate limit of ten a second, of calls that take 5 ms: less than one may go in a round trip.
func TestAThrottleSaysWhenThePaceLetsTheNextCallGo(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	tokens, last := 10.0, time.Duration(0)
	limited := func(at time.Duration) (time.Duration, bool) {
		tokens, last = min(10, tokens+(at-last).Seconds()*10), at
		if tokens < 1 {
			return time.Millisecond, true
		}
		tokens--
		return 5 * time.Millisecond, false
	}
	offerTo(m, true, 50, 0, 20*time.Second, 2*time.Second, limited)
	require.Less(t, m.Limit(), 1.0)
	is := m.Throttled()
	require.Equal(t, 1, is.InFlight)
	require.InDelta(t, 10, is.PerSecond, 15)
	now := began.Add(30 * time.Second)
	for range 5 { // those that were saved up are gone
		m.Admit(now, time.Time{})
	}
	wait := m.Wait()
	require.Greater(t, wait, 10*time.Millisecond)
	require.Less(t, wait, 300*time.Millisecond)
}
