package policy_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

var began = time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)

// An offered is what came of requests that a Throttling decided about.
type offered struct{ refused, sent, good, away, late int }

type inFlight struct {
	pass       policy.Pass
	began, end time.Duration
	away       bool
}

// offer asks for requests at times that are even but for chance, and plays an upstream that says of each when it ends
// and whether it is turned away.
func offer(
	t *policy.Throttling, rate float64, from, to, bears time.Duration, upstream func(at time.Duration) (takes time.Duration, away bool),
) offered {
	return offerTo(t, false, rate, from, to, bears, upstream)
}

// offerTo is offer to an upstream that says whether it turns away by 429.
func offerTo(
	t *policy.Throttling, by429 bool, rate float64, from, to, bears time.Duration, upstream func(at time.Duration) (takes time.Duration, away bool),
) (o offered) {
	says := func(time.Duration) time.Duration { return 0 }
	return offerToWho(t, by429, says, rate, from, to, bears, upstream)
}

// offerToWho is offerTo to an upstream that says for how long it is to be let be.
func offerToWho(
	t *policy.Throttling, by429 bool, says func(at time.Duration) time.Duration, rate float64, from, to, bears time.Duration,
	upstream func(at time.Duration) (takes time.Duration, away bool),
) (o offered) {
	coin := rand.New(rand.NewPCG(1, 2))
	var out []inFlight
	back := func(until time.Duration) {
		slices.SortStableFunc(out, func(a, b inFlight) int { return cmp.Compare(a.end, b.end) })
		for ; len(out) > 0 && out[0].end <= until; out = out[1:] {
			c := out[0]
			switch took := c.end - c.began; {
			case c.away:
				o.away++
				t.TurnedAway(began.Add(c.end), c.pass, by429, says(c.end), 0)
			case took >= bears:
				o.late++
				t.TimedOut(began.Add(c.end), c.pass, took)
			default:
				o.good++
				t.Answered(began.Add(c.end), c.pass, took, 0)
			}
		}
	}
	for at := from; at < to; at += time.Duration(coin.ExpFloat64() / rate * float64(time.Second)) {
		back(at)
		pass, ok := t.Admit(began.Add(at), began.Add(at+bears))
		if !ok {
			o.refused++
			continue
		}
		o.sent++
		takes, away := upstream(at)
		out = append(out, inFlight{pass, at, at + min(takes, bears), away})
	}
	back(to + bears)
	return o
}

// queued is an upstream that serves one call after the other, and turns away who would have to wait for longer than room.
func queued(takes, room time.Duration) func(time.Duration) (time.Duration, bool) {
	var free time.Duration
	return func(at time.Duration) (time.Duration, bool) {
		if free = max(free, at); free-at > room {
			return time.Millisecond, true
		}
		free += takes
		return free - at, false
	}
}

func TestAThrottleFindsWhatAFullQueueCarries(t *testing.T) {
	for _, times := range []float64{1.5, 2, 4} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			m := policy.Throttle{}.NewThrottle()
			o := offer(m, 100*times, 0, time.Minute, 2*time.Second, queued(10*time.Millisecond, 200*time.Millisecond))
			require.Less(t, o.away, o.sent/7, "one in ten, and more at first: %+v", o)
			require.Greater(t, o.good, 5400, "of 6000 that can be served: %+v", o)
		})
	}
}

func TestAThrottleKeepsCallsFromWaitingInVain(t *testing.T) {
	for _, times := range []float64{1.5, 2, 4} {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			m := policy.Throttle{}.NewThrottle()
			m.Measure()
			o := offer(m, 100*times, 0, time.Minute, 2*time.Second, queued(10*time.Millisecond, time.Hour))
			require.Less(t, o.late, 600, "%+v", o)
			require.Greater(t, o.good, 5000, "of 6000 that can be served: %+v", o)
			require.Zero(t, offer(policy.Throttle{LateOff: true}.NewThrottle(), 100*times, 0, time.Minute, 2*time.Second,
				queued(10*time.Millisecond, time.Hour)).refused, "late answers are the reason")
		})
	}
}

func TestAThrottleLetsASlowUpstreamBe(t *testing.T) {
	for seed := range uint64(20) {
		coin := rand.New(rand.NewPCG(seed, 1))
		m := policy.Throttle{}.NewThrottle()
		m.Measure()
		o := offer(m, 40, 0, 2*time.Minute, 8*time.Second, func(time.Duration) (time.Duration, bool) {
			return time.Duration((2 + 4*coin.Float64()) * float64(time.Second)), false
		})
		// the first to come back are the fast ones, so that answers seem to be far apart for a moment
		require.Less(t, o.refused, o.sent/200, "seed %d: %+v", seed, o)
	}
}

func TestAThrottleDoesNotHearWhatDoesNotCare(t *testing.T) {
	for _, share := range []float64{0.1, 0.3, 0.6} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			coin := rand.New(rand.NewPCG(3, 1))
			m := policy.Throttle{}.NewThrottle()
			o := offer(m, 100, 0, 20*time.Minute, 2*time.Second, func(time.Duration) (time.Duration, bool) {
				return 30 * time.Millisecond, coin.Float64() < share
			})
			require.Less(t, o.refused, (o.sent+o.refused)/100, "%+v", o)
		})
	}
}

func TestAThrottleRefusesNoneOfAMillionOfWhichFivePercentAreTurnedAway(t *testing.T) {
	for _, took := range []time.Duration{time.Millisecond, time.Second} { // a hundred in flight
		coin := rand.New(rand.NewPCG(4, 1))
		o := offer(policy.Throttle{}.NewThrottle(), 100, 0, 10_000*time.Second, 2*time.Second, func(time.Duration) (time.Duration, bool) {
			return took, coin.Float64() < 0.05
		})
		require.Zero(t, o.refused)
		require.Greater(t, o.sent, 990_000)
	}
}

// throttled returns a memory that limits, at an upstream that turns all away.
func throttled(t *testing.T, rule policy.Throttle) *policy.Throttling {
	m := rule.NewThrottle()
	offer(m, 200, 0, 5*time.Second, 2*time.Second, queued(10*time.Millisecond, 100*time.Millisecond))
	return m
}

func TestAThrottleForgetsAfterACalm(t *testing.T) {
	m := throttled(t, policy.Throttle{})
	require.NotZero(t, m.Limit())
	require.True(t, m.On())
	require.False(t, m.Forgettable(began))
	_, ok := m.Admit(began.Add(40*time.Second), time.Time{})
	require.True(t, ok)
	require.Zero(t, m.Limit())
	require.False(t, m.On())
	require.True(t, m.Forgettable(began.Add(40*time.Second)))

	require.Zero(t, throttled(t, policy.Throttle{FullOff: true}).Limit())
}

func TestAThrottleHoldsNothingForGoodWhateverNeverComesBack(t *testing.T) {
	m := throttled(t, policy.Throttle{})
	at, sent := began.Add(5*time.Second), 0
	for range 1000 {
		at = at.Add(20 * time.Millisecond)
		if _, ok := m.Admit(at, time.Time{}); ok {
			sent++
		}
	}
	require.Greater(t, sent, 20, "one each round trip at least, though none is answered")
	require.Less(t, sent, 1000)
}

func TestAThrottleBearsAClockThatJumps(t *testing.T) {
	for _, jump := range []time.Duration{-1000 * time.Hour, 1000 * time.Hour} {
		m := throttled(t, policy.Throttle{})
		_, ok := m.Admit(began.Add(jump), time.Time{})
		require.True(t, ok)
		require.Zero(t, m.Limit())
	}
}

// bucket is an upstream that serves so many calls a second, a few at once, and turns the others away at once.
func bucket(rate, burst float64) func(time.Duration) (time.Duration, bool) {
	tokens, last := burst, time.Duration(0)
	return func(at time.Duration) (time.Duration, bool) {
		tokens, last = min(burst, tokens+rate*(at-last).Seconds()), at
		if tokens < 1 {
			return 2 * time.Millisecond, true
		}
		tokens--
		return 5 * time.Millisecond, false
	}
}

// Where less than one call is in flight on the mean, a limit in flight alone is none.
func TestAThrottlePacesCallsThatAreShort(t *testing.T) {
	for _, rate := range []float64{3, 10, 30} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			const over = 10 * time.Minute
			o := offerTo(policy.Throttle{}.NewThrottle(), true, 2*rate, 0, over, time.Second, bucket(rate, 10))
			require.Less(t, o.away, o.sent/6, "half of what is offered, without a limit: %+v", o)
			require.Greater(t, float64(o.good), 0.85*rate*over.Seconds(), "%+v", o)
		})
	}
}

// A limit of a few users among many is not for the number of calls, whatever the status says.
func TestAThrottleDoesNotHearLimitsOfUsersForGood(t *testing.T) {
	for _, share := range []float64{0.2, 0.4, 0.8} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			coin := rand.New(rand.NewPCG(5, 1))
			o := offerTo(policy.Throttle{}.NewThrottle(), true, 100, 0, 20*time.Minute, 2*time.Second,
				func(time.Duration) (time.Duration, bool) { return 30 * time.Millisecond, coin.Float64() < share })
			require.NotZero(t, o.refused)
			require.Less(t, o.refused, (o.sent+o.refused)/25, "%+v", o)
		})
	}
}

// Three times what is served: when an answer is late, as many calls are out as will be late all together.
func TestAThrottleSeesAQueueThatGrowsBeforeItIsLate(t *testing.T) {
	flood := func(rule policy.Throttle) offered {
		m := rule.NewThrottle()
		m.Measure()
		return offer(m, 6, 0, 10*time.Second, 8*time.Second, queued(500*time.Millisecond, time.Hour))
	}
	o := flood(policy.Throttle{})
	require.Less(t, o.late, 8, "%+v", o)
	require.Greater(t, flood(policy.Throttle{LateOff: true}).late, 30)
}

func TestAThrottleGoesOnWithTheLimitOfTheRecovery(t *testing.T) {
	m := throttled(t, policy.Throttle{})
	m.Resume(began.Add(10*time.Second), 3)
	require.Equal(t, 3.0, m.Limit())
	at := began.Add(10*time.Second + time.Millisecond)
	for range 3 {
		_, ok := m.Admit(at, time.Time{})
		require.True(t, ok)
	}
	_, ok := m.Admit(at, time.Time{})
	require.False(t, ok)

	m = policy.Throttle{}.NewThrottle()
	m.Resume(began, 3)
	require.Zero(t, m.Limit(), "since there was none")
}

// A late answer is enough once there is a limit; before, it may be chance.
func TestAThrottleThatLimitsCutsAtTheFirstLateAnswer(t *testing.T) {
	late := func(m *policy.Throttling, at time.Time) {
		p, ok := m.Admit(at, at.Add(time.Second))
		require.True(t, ok)
		m.TimedOut(at.Add(time.Second), p, time.Second)
	}
	m := throttled(t, policy.Throttle{})
	m.Resume(began.Add(10*time.Second), 30)
	p, _ := m.Admit(began.Add(10*time.Second), time.Time{})
	m.Answered(began.Add(10*time.Second+time.Millisecond), p, time.Millisecond, 0)
	late(m, began.Add(11*time.Second))
	require.Less(t, m.Limit(), 2.0, "what was out, and seven tenths of it")

	m = policy.Throttle{}.NewThrottle()
	m.Measure()
	p, _ = m.Admit(began, time.Time{})
	m.Answered(began.Add(time.Millisecond), p, time.Millisecond, 0)
	for n := range 4 {
		late(m, began.Add(time.Duration(n+1)*2*time.Second))
		require.Zero(t, m.Limit())
	}
	late(m, began.Add(10*time.Second))
	require.NotZero(t, m.Limit())
}

// Half a second in which all are turned away is soon over for those who call.
func TestAThrottleIsSoonOverABlip(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	ok := func(time.Duration) (time.Duration, bool) { return 10 * time.Millisecond, false }
	offer(m, 50, 0, 10*time.Second, time.Second, ok)
	blip := offer(m, 50, 10*time.Second, 10500*time.Millisecond, time.Second, func(time.Duration) (time.Duration, bool) { return time.Millisecond, true })
	require.NotZero(t, blip.refused+blip.away)
	after := offer(m, 50, 10500*time.Millisecond, time.Minute, time.Second, ok)
	require.Less(t, after.refused, 500, "of ten seconds at most: %+v", after)
}

// What was turned away before a trip is no reason after the recovery.
func TestAThrottleForgetsItsScoreWithARecovery(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	for range 7 {
		p, _ := m.Admit(began, time.Time{})
		m.TurnedAway(began, p, false, 0, 0)
	}
	m.Resume(began.Add(time.Minute), 4)
	require.False(t, m.On())
	for range 7 {
		p, _ := m.Admit(began.Add(time.Minute), time.Time{})
		m.TurnedAway(began.Add(time.Minute), p, false, 0, 0)
	}
	require.Zero(t, m.Limit())
}

// A queue that has fallen silent is no longer known to grow.
func TestAThrottleKeepsNobodyOutOfAQueueThatSaysNothing(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	m.Measure()
	const bears = 8 * time.Second
	var out []policy.Pass
	for n := range 40 { // four a second are sent, and one a second comes back
		at := began.Add(time.Duration(n) * time.Second / 4)
		if p, ok := m.Admit(at, at.Add(time.Hour)); ok {
			out = append(out, p)
		}
		if n%4 == 3 {
			m.Answered(at, out[n/4], time.Duration(n-n/4)*time.Second/4, 0)
		}
	}
	last := began.Add(39 * time.Second / 4)
	for after, want := range map[time.Duration]bool{time.Second: false, bears - time.Second: false, bears: true} {
		p, ok := m.Admit(last.Add(after), last.Add(after+bears))
		require.Equal(t, want, ok, "%v after the last answer", after)
		if ok {
			m.Withdraw()
			require.NotZero(t, p)
		}
	}
}

// Calls are counted from the first that is turned away on, and of those none may be back.
func TestAThrottleThatKnowsNoRoundTripLeavesAQuarter(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	var last policy.Pass
	for range 8 {
		m.TurnedAway(began, last, false, 0, 0)
		last, _ = m.Admit(began, time.Time{})
	}
	require.GreaterOrEqual(t, m.Limit(), 1.0)
}

// Fewer calls are no sooner answered: it is no queue.
func TestAThrottleLetsBeWhatGetsSlowWhateverIsSent(t *testing.T) {
	for _, rate := range []float64{20, 60} {
		m := policy.Throttle{}.NewThrottle()
		m.Measure()
		o := offer(m, rate, 0, 5*time.Minute, 2*time.Second, func(at time.Duration) (time.Duration, bool) {
			return 10*time.Millisecond + min(1490*time.Millisecond, at/2), false
		})
		require.Less(t, o.refused, (o.sent+o.refused)/10, "%+v", o)
		require.Zero(t, m.Limit())
	}
}

// One of ten users is over a limit of each. The other nine are well, and the limit of all must not be for good.
func TestAThrottleOfALimitOfEachUserIsSoonOff(t *testing.T) {
	for _, hot := range []float64{15, 20, 30, 50, 100, 200} {
		for seed := range uint64(4) {
			coin := rand.New(rand.NewPCG(seed, 1))
			of, user := bucket(5, 5), hot/(hot+18)
			o := offerTo(policy.Throttle{}.NewThrottle(), true, hot+18, 0, 5*time.Minute, time.Second,
				func(at time.Duration) (time.Duration, bool) {
					if coin.Float64() < user {
						return of(at)
					}
					return 5 * time.Millisecond, false
				})
			require.Less(t, o.refused, (o.sent+o.refused)/12, "%v a second, seed %d: %+v", hot, seed, o)
		}
	}
}

// More requests than before are no good answers that a limit costs.
func TestAThrottleKeepsItsLimitHoweverManyMoreAsk(t *testing.T) {
	m, of := policy.Throttle{}.NewThrottle(), bucket(20, 10)
	offerTo(m, true, 40, 0, time.Minute, time.Second, of)
	o := offerTo(m, true, 400, time.Minute, 2*time.Minute, time.Second, of)
	require.Less(t, o.away, o.sent/3, "nineteen of twenty, without a limit: %+v", o)
}

// What came through in the few milliseconds before there was a limit says little of how much does.
func TestAThrottleOfARateIsKeptHoweverLuckyItsBeginning(t *testing.T) {
	for _, rate := range []float64{10, 20, 37, 60, 100} {
		for _, times := range []float64{1.5, 2, 4, 6} {
			o := offerTo(policy.Throttle{}.NewThrottle(), true, times*rate, 0, 4*time.Minute, 2*time.Second, bucket(rate, 5*rate))
			require.Less(t, o.away, o.sent/4, "%v times %v a second: %+v", times, rate, o)
			require.Greater(t, float64(o.good), 0.8*rate*240, "%v times %v a second: %+v", times, rate, o)
		}
	}
}

// Three false alarms in a row would leave hardly any limit for hours.
func TestAThrottleThatHelpedForAMinuteHearsAsSoonAsBefore(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	coin := rand.New(rand.NewPCG(7, 1))
	chance := func(time.Duration) (time.Duration, bool) { return 30 * time.Millisecond, coin.Float64() < 0.5 }
	offerTo(m, true, 100, 0, 10*time.Minute, time.Second, chance) // it does not hear for eight minutes after that
	offerTo(m, true, 40, 20*time.Minute, 22*time.Minute, time.Second, bucket(20, 10))
	o := offerTo(m, true, 100, 22*time.Minute, 23*time.Minute, time.Second, chance)
	require.NotZero(t, o.refused)
	o = offerTo(m, true, 40, 24*time.Minute+10*time.Second, 26*time.Minute, time.Second, bucket(20, 10))
	require.Less(t, o.away, o.sent/4, "%+v", o)
}

// Where a third is turned away before there is a limit, the tenth that is turned away in balance may be three tenths of
// that, and the limit helps all the same.
func TestAThrottleOfARateIsKeptIfLittleIsTooMuch(t *testing.T) {
	for _, rate := range []float64{5, 10, 20} {
		o := offerTo(policy.Throttle{}.NewThrottle(), true, 1.5*rate, 0, time.Hour, 2*time.Second, bucket(rate, 5*rate))
		require.Less(t, o.away, o.sent/6, "%v a second: %+v", rate, o)
	}
}

func TestAThrottleWaitsFiveSecondsForGoodAnswersBesides429s(t *testing.T) {
	of := func(time.Duration) (time.Duration, bool) { return 10 * time.Millisecond, true }
	m := policy.Throttle{}.NewThrottle()
	require.Zero(t, offerTo(m, true, 100, 0, 5*time.Second, time.Second, of).refused)
	require.NotZero(t, offerTo(m, true, 100, 5*time.Second, 6*time.Second, time.Second, of).refused)
}

// Where few are turned away there would be no limit, and nothing is left of the one that there was.
func TestAThrottleThatIsNeededNoMoreIsOverWithTheNextMinute(t *testing.T) {
	m, of := policy.Throttle{}.NewThrottle(), bucket(20, 10)
	offerTo(m, true, 40, 0, 50*time.Second, time.Second, of)
	require.NotZero(t, m.Limit())
	coin := rand.New(rand.NewPCG(8, 1))
	offerTo(m, true, 40, 50*time.Second, 100*time.Second, time.Second,
		func(time.Duration) (time.Duration, bool) { return 5 * time.Millisecond, coin.Float64() < 0.1 })
	require.Zero(t, m.Limit())
	_, reason, why := m.Ended(began.Add(100 * time.Second))
	require.Equal(t, policy.ThrottleCalm, reason)
	require.Contains(t, why, "few are turned away")
}

// What is for late answers is not taken off to see how many come without it, whatever was before.
func TestAThrottleForLateAnswersIsNotMeasuredAnew(t *testing.T) {
	m := policy.Throttle{}.NewThrottle()
	offerTo(m, true, 40, 0, 30*time.Second, time.Second, bucket(20, 10))
	from := 2 * time.Minute
	o := offer(m, 40, from, from+5*time.Minute, 2*time.Second, queued(50*time.Millisecond, time.Hour))
	require.Less(t, o.late, o.good/20, "%+v", o)
}
