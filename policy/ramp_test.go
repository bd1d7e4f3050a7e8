package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// started is a ramp that has just started, after a probe of which nobody knows how long it took.
func started(rule policy.Ramp) policy.Recover {
	ramp := rule.NewRecover()
	ramp.Start(epoch, success)
	return ramp
}

// admit starts n calls while none is out, and returns their marks.
func admit(t require.TestingT, ramp policy.Recover, n int) []int {
	marks := make([]int, 0, n)
	for inFlight := range n {
		mark, ok := ramp.Admit(inFlight)
		require.True(t, ok, "call %d of a limit of %d", inFlight+1, ramp.Limit())
		marks = append(marks, mark)
	}
	return marks
}

// took is a success that took that long.
func took(elapsed time.Duration) policy.Result {
	return policy.Result{Outcome: policy.Success, Elapsed: elapsed}
}

// rounds lets n rounds go by in which the ramp is full and all succeed after the same time.
func rounds(t require.TestingT, ramp policy.Recover, n int, elapsed time.Duration) {
	for range n {
		marks := admit(t, ramp, ramp.Limit())
		_, ok := ramp.Admit(len(marks))
		require.False(t, ok)
		for _, mark := range marks {
			require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, took(elapsed)))
		}
	}
}

// fail records failures of calls that start now.
func fail(ramp policy.Recover, n int) (last policy.Verdict) {
	for range n {
		mark, _ := ramp.Admit(0)
		last = ramp.Record(epoch, mark, failure)
	}
	return last
}

func TestARampBeginsWithTwo(t *testing.T) {
	ramp := started(policy.Ramp{})
	require.Equal(t, 2, ramp.Limit())
	admit(t, ramp, 2)
	for inFlight := 2; inFlight < 10; inFlight++ {
		_, ok := ramp.Admit(inFlight)
		require.False(t, ok, "%d others are out", inFlight)
	}
}

func TestASuccessAllowsOneMore(t *testing.T) {
	ramp := started(policy.Ramp{})
	marks := admit(t, ramp, 2)
	require.Equal(t, policy.VerdictStay, ramp.Record(epoch, marks[0], success))
	require.Equal(t, 3, ramp.Limit())
	require.Equal(t, policy.VerdictStay, ramp.Record(epoch, marks[1], success))
	require.Equal(t, 4, ramp.Limit())
	failures, successes := ramp.Counts()
	require.Equal(t, []int{0, 2}, []int{failures, successes})
}

func TestARampDoublesEachRoundTrip(t *testing.T) {
	ramp := started(policy.Ramp{})
	for _, want := range []int{2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} {
		require.Equal(t, want, ramp.Limit())
		rounds(t, ramp, 1, 10*time.Millisecond)
	}
}

// Calls come as they like and take one round trip each; what is let through is at any time no more than twice what was
// allowed a round trip before, and that had succeeded by then.
func TestARampNeverMoreThanDoublesInARoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const roundTrip = 20 // ticks
		offered := rapid.SliceOfN(rapid.IntRange(0, 50), 50, 200).Draw(t, "offered")
		ramp := started(policy.Ramp{})
		var out [][]int        // the marks of the calls that started at each tick
		var inFlight []int     // the most at each tick
		var limits, came []int // at the end of each tick; successes so far
		now, total := 0, 0
		for tick, n := range offered {
			if tick >= roundTrip {
				for _, mark := range out[tick-roundTrip] {
					now--
					total++
					if ramp.Record(epoch, mark, took(time.Second)) == policy.VerdictClose {
						return
					}
				}
			}
			var marks []int
			for range n {
				mark, ok := ramp.Admit(now)
				require.Equal(t, now < ramp.Limit(), ok)
				if ok {
					marks, now = append(marks, mark), now+1
				}
			}
			require.LessOrEqual(t, now, ramp.Limit())
			out, inFlight, limits, came = append(out, marks), append(inFlight, now), append(limits, ramp.Limit()), append(came, total)
			if tick >= roundTrip {
				before := tick - roundTrip
				require.LessOrEqual(t, limits[tick], 2*limits[before])
				require.LessOrEqual(t, came[tick]-came[before], inFlight[before], "the simulation is right")
				require.Equal(t, came[tick]-came[before], limits[tick]-limits[before], "only what came back allows more")
			}
		}
	})
}

func TestFailuresHalveALimit(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 4, time.Second) // 32, at the best score, -6
	require.Equal(t, policy.VerdictStay, fail(ramp, 7))
	require.Equal(t, 32, ramp.Limit(), "the score is 1")
	require.Equal(t, policy.VerdictStay, fail(ramp, 1))
	require.Equal(t, 16, ramp.Limit(), "the score was 2 and is 0")
	require.Equal(t, policy.VerdictStay, fail(ramp, 2))
	require.Equal(t, 8, ramp.Limit())

	ramp = started(policy.Ramp{})
	joint(ramp).Others(20, 20, 0, time.Millisecond)
	ramp.Start(epoch, again(10*time.Second))
	rounds(t, ramp, 6, time.Millisecond)
	require.Equal(t, 10, ramp.Limit(), "theirs are in flight, too")
}

func TestAFailureAloneHalvesNothing(t *testing.T) {
	ramp := started(policy.Ramp{})
	require.Equal(t, policy.VerdictStay, fail(ramp, 1))
	require.Equal(t, 2, ramp.Limit())
	rounds(t, ramp, 1, time.Second) // the score is -5
	fail(ramp, 6)
	require.Equal(t, 4, ramp.Limit())
	fail(ramp, 1)
	require.Equal(t, 2, ramp.Limit())
}

func TestBelowOneItReopens(t *testing.T) {
	ramp := started(policy.Ramp{})
	require.Equal(t, policy.VerdictStay, fail(ramp, 3))
	require.Equal(t, 1, ramp.Limit())
	require.Equal(t, policy.VerdictReopen, fail(ramp, 1))

	ramp = started(policy.Ramp{Reopen: 1})
	require.Equal(t, policy.VerdictStay, fail(ramp, 1))
	require.Equal(t, policy.VerdictReopen, fail(ramp, 1))
	for range 3 { // something of the user's died before the circuit was open
		require.Equal(t, 1, ramp.Limit())
		require.Equal(t, policy.VerdictReopen, fail(ramp, 1))
	}
}

// What the calls that were out when the limit was halved have to say has been heard.
func TestCallsOfBeforeAHalvingDoNotCount(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 3, time.Second)
	old := admit(t, ramp, 16)
	failuresBefore, successesBefore := ramp.Counts()
	for i, mark := range old[:8] { // from -6 to 2
		require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, failure))
		require.Equal(t, i < 7, ramp.Limit() == 16)
	}
	require.Equal(t, 8, ramp.Limit())
	for i, mark := range old[8:] {
		result := failure
		if i%2 == 0 {
			result = took(time.Hour)
		}
		require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, result))
		require.Equal(t, 8, ramp.Limit())
	}
	failures, successes := ramp.Counts()
	require.Equal(t, []int{failuresBefore + 8, successesBefore}, []int{failures, successes})

	require.Equal(t, policy.VerdictStay, fail(ramp, 1))
	require.Equal(t, 8, ramp.Limit(), "the score is 1, of the one that started since")
	require.Equal(t, policy.VerdictStay, fail(ramp, 1))
	require.Equal(t, 4, ramp.Limit())
}

func TestAfterAHalvingItGrowsByOneARoundTrip(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 3, time.Second)
	fail(ramp, 8)
	for want := 8; want < 40; want++ {
		require.Equal(t, want, ramp.Limit())
		rounds(t, ramp, 1, time.Second)
	}
}

// A few calls say nothing of how much the upstream carries, however many of them failed. A dozen do.
func TestAHalvingAmongTheFirstDozenCallsEndsNoSlowStart(t *testing.T) {
	ramp := started(policy.Ramp{})
	fail(ramp, 2)
	for want := 1; want <= 16; want *= 2 {
		require.Equal(t, want, ramp.Limit())
		rounds(t, ramp, 1, time.Second)
	}
	for _, successes := range []int{8, 9} { // and three failures, of which the last halves the limit
		ramp := started(policy.Ramp{Worth: 1, Health: 1})
		for range successes {
			mark, _ := ramp.Admit(1)
			ramp.Record(epoch, mark, took(time.Second))
		}
		fail(ramp, 3)
		halved := ramp.Limit()
		require.Equal(t, (2+successes)/2, halved)
		marks := admit(t, ramp, 2)
		ramp.Record(epoch, marks[1], took(time.Second))
		ramp.Record(epoch, marks[0], took(time.Second))
		require.Equal(t, map[int]int{8: halved + 2, 9: halved + 1}[successes], ramp.Limit(), "slow start, or one a round trip")
	}
}

// calm lets rounds go by in which one call is out, and returns how many it took until it closed.
func calm(ramp policy.Recover, most int) int {
	for n := 1; n <= most; n++ {
		mark, _ := ramp.Admit(0)
		if ramp.Record(epoch, mark, took(time.Second)) == policy.VerdictClose {
			return n
		}
	}
	return 0
}

func TestWhenARampCloses(t *testing.T) {
	cases := []struct {
		name   string
		rule   policy.Ramp
		before func(policy.Recover)
		want   int // successes, one at a time
	}{
		{"health shown by two", policy.Ramp{}, func(policy.Recover) {}, 2},
		{"by one", policy.Ramp{Health: 1}, func(policy.Recover) {}, 1},
		{"by more", policy.Ramp{Health: 7}, func(policy.Recover) {}, 3},
		{"of another worth", policy.Ramp{Worth: 1}, func(policy.Recover) {}, 6},
		{"a failure sets it back", policy.Ramp{}, func(r policy.Recover) { fail(r, 1) }, 3},
		{"health shown, and a calm round", policy.Ramp{}, func(r policy.Recover) { rounds(t, r, 5, time.Second) }, 1},
		{"ten calm rounds after a halving", policy.Ramp{}, func(r policy.Recover) {
			rounds(t, r, 3, time.Second)
			fail(r, 8)
		}, 10},
		{"ten after the last halving", policy.Ramp{}, func(r policy.Recover) {
			rounds(t, r, 5, time.Second)
			fail(r, 8)
			require.Zero(t, calm(r, 9))
			fail(r, 8)
		}, 10},
		{"ten in a row", policy.Ramp{}, func(r policy.Recover) {
			rounds(t, r, 3, time.Second)
			fail(r, 8)
			require.Zero(t, calm(r, 9))
			rounds(t, r, 1, time.Second)
		}, 10},
		{"of a limit of one no round is calm, and of two one is", policy.Ramp{}, func(r policy.Recover) { fail(r, 2) }, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ramp := started(c.rule)
			c.before(ramp)
			require.Equal(t, c.want, calm(ramp, 100))
		})
	}
}

func TestARoundIsCalmIfItNeededHalfOfTheLimit(t *testing.T) {
	for _, c := range []struct {
		inFlight int
		want     policy.Verdict
	}{{17, policy.VerdictClose}, {18, policy.VerdictStay}} { // of 34, with the success that ends the round
		ramp := started(policy.Ramp{})
		rounds(t, ramp, 4, time.Second)
		marks := admit(t, ramp, 31) // calls of the round that begins when the first of these is back
		require.Equal(t, policy.VerdictStay, ramp.Record(epoch, marks[0], took(time.Second)))
		require.Equal(t, 33, ramp.Limit())
		marks = admit(t, ramp, c.inFlight)
		require.Equal(t, c.want, ramp.Record(epoch, marks[0], took(time.Second)), "%d in flight", c.inFlight)
	}
}

func TestARefusalAtTheLimitIsNotCalm(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 3, time.Second)
	mark, _ := ramp.Admit(0)
	_, ok := ramp.Admit(16)
	require.False(t, ok)
	require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, took(time.Second)))
	require.Equal(t, 1, calm(ramp, 10))
}

// An upstream that succeeds now and then is not well: half of the calls fail.
func TestHealthIsNotShownByAMixture(t *testing.T) {
	ramp := started(policy.Ramp{Reopen: 5, Worth: 1})
	for range 1000 {
		fail(ramp, 1)
		mark, _ := ramp.Admit(0)
		require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, success))
	}
}

// known is a ramp whose least latency is known: ten milliseconds, of ten calls.
func known(t require.TestingT) policy.Recover {
	ramp := started(policy.Ramp{})
	marks := admit(t, ramp, 2)
	for range 5 {
		for _, mark := range marks {
			require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, took(10*time.Millisecond)))
		}
	}
	require.Equal(t, 12, ramp.Limit())
	return ramp
}

func TestGrowthStopsWhenCallsTakeThreeTimesAsLong(t *testing.T) {
	const ms = time.Millisecond
	// One call is an eighth of the mean: of 170 ms it brings 10 ms to 30 ms.
	for _, c := range []struct {
		elapsed time.Duration
		want    int
	}{{10 * ms, 13}, {100 * ms, 13}, {170 * ms, 13}, {171 * ms, 12}, {300 * ms, 12}} {
		ramp := known(t)
		old, _ := ramp.Admit(11) // a round that is not calm
		ramp.Record(epoch, old, took(c.elapsed))
		require.Equal(t, c.want, ramp.Limit(), "%v", c.elapsed)
	}
}

func TestGrowthGoesOnWhenCallsAreFastAgain(t *testing.T) {
	ramp := known(t)
	marks := admit(t, ramp, 12)
	ramp.Record(epoch, marks[0], took(200*time.Millisecond)) // 33.75 ms
	require.Equal(t, 12, ramp.Limit())
	ramp.Record(epoch, marks[1], took(10*time.Millisecond)) // 30.8
	require.Equal(t, 12, ramp.Limit())
	ramp.Record(epoch, marks[2], took(10*time.Millisecond)) // 28.2
	require.Equal(t, 13, ramp.Limit())
}

func TestItShrinksByOneARoundTripWhenCallsTakeSixTimesAsLong(t *testing.T) {
	ramp := known(t)
	rounds(t, ramp, 1, 60*time.Millisecond)
	limit := ramp.Limit()
	for range 50 { // six times is not beyond six times; the mean comes near to it from below
		rounds(t, ramp, 1, 60*time.Millisecond)
		require.Equal(t, limit, ramp.Limit())
	}
	for limit > 1 {
		rounds(t, ramp, 1, 100*time.Millisecond)
		limit--
		if ramp.Limit() > limit {
			require.Equal(t, limit+1, ramp.Limit()) // the first call of the round was not enough
			limit++
			rounds(t, ramp, 1, 100*time.Millisecond)
			limit--
		}
		require.Equal(t, limit, ramp.Limit())
	}
	rounds(t, ramp, 5, 100*time.Millisecond)
	require.Equal(t, 1, ramp.Limit(), "never below one")
}

func TestASlowUpstreamIsNotClosed(t *testing.T) {
	ramp := known(t)
	rounds(t, ramp, 2, 40*time.Millisecond)
	for range 100 {
		mark, _ := ramp.Admit(0)
		require.Equal(t, policy.VerdictStay, ramp.Record(epoch, mark, took(40*time.Millisecond)))
	}
	closed := false
	for range 10 { // fast again
		mark, _ := ramp.Admit(0)
		closed = closed || ramp.Record(epoch, mark, took(10*time.Millisecond)) == policy.VerdictClose
	}
	require.True(t, closed)
}

func TestTimesThatNobodyMeasuredAreIgnored(t *testing.T) {
	for _, elapsed := range []time.Duration{0, -time.Second} {
		ramp := known(t)
		for range 30 {
			old, _ := ramp.Admit(ramp.Limit() - 1)
			require.Equal(t, policy.VerdictStay, ramp.Record(epoch, old, took(elapsed)))
		}
		require.Equal(t, 42, ramp.Limit(), "not slow")
		old, _ := ramp.Admit(41)
		ramp.Record(epoch, old, took(171*time.Millisecond))
		require.Equal(t, 42, ramp.Limit(), "and the mean is what it was: this is beyond three times")
	}
}

func TestAFailuresTimeDoesNotCount(t *testing.T) {
	ramp := known(t)
	mark, _ := ramp.Admit(11)
	ramp.Record(epoch, mark, policy.Result{Outcome: policy.Failure, Elapsed: time.Hour})
	ramp.Record(epoch, mark, took(10*time.Millisecond))
	require.Equal(t, 13, ramp.Limit())
}

// Of the first few calls one is lucky: the rest is not slow for that.
func TestALuckyCallDoesNotMakeTheOthersSlow(t *testing.T) {
	ramp := policy.Ramp{}.NewRecover()
	ramp.Start(epoch, took(time.Millisecond))
	rounds(t, ramp, 8, 100*time.Millisecond)
	require.Equal(t, 512, ramp.Limit())
}

func TestTheProbeCountsAsTheFirstCall(t *testing.T) {
	limits := []int{}
	for _, probe := range []time.Duration{0, 10 * time.Millisecond} {
		ramp := policy.Ramp{}.NewRecover()
		ramp.Start(epoch, took(probe))
		mark, _ := ramp.Admit(1)
		for range 7 {
			ramp.Record(epoch, mark, took(10*time.Millisecond))
		}
		ramp.Record(epoch, mark, took(time.Second))
		limits = append(limits, ramp.Limit())
	}
	require.Equal(t, []int{10, 9}, limits, "with the probe's, eight times are known before the slow one")
}

func TestStartBeginsARampAnew(t *testing.T) {
	ramp := known(t)
	rounds(t, ramp, 2, time.Second)
	fail(ramp, 8)
	for range 2 {
		ramp.Start(epoch, success)
		require.Equal(t, 2, ramp.Limit())
		failures, successes := ramp.Counts()
		require.Zero(t, failures+successes)
		rounds(t, ramp, 3, time.Second)
		require.Equal(t, 16, ramp.Limit(), "neither slow nor halved")
	}
}

// queue is an upstream of servers that take one call at a time each, and of a queue before them.
type queue struct {
	servers []time.Duration // when each is free
	service time.Duration
}

// serve returns when a call that comes now is answered.
func (q *queue) serve(now time.Duration) time.Duration {
	first := 0
	for i, free := range q.servers {
		if free < q.servers[first] {
			first = i
		}
	}
	q.servers[first] = max(now, q.servers[first]) + q.service
	return q.servers[first]
}

// Twice what the upstream can carry is offered, for ten minutes. What is let through keeps its servers busy and its
// queue short, and the circuit stays half-open.
func TestAnOverloadedUpstreamKeepsALimitThatSuitsIt(t *testing.T) {
	const service = 50 * time.Millisecond
	for _, servers := range []int{1, 5, 50} {
		ramp := started(policy.Ramp{})
		upstream := &queue{make([]time.Duration, servers), service}
		gap := service / time.Duration(2*servers)
		type call struct {
			start, end time.Duration
			mark       int
		}
		var out []call // in the order in which they end
		let := 0
		const warm, end = time.Minute, 3 * time.Minute
		most, least := 0, 1<<30
		for now := time.Duration(0); now < end; now += gap {
			for len(out) > 0 && out[0].end <= now {
				verdict := ramp.Record(epoch.Add(out[0].end), out[0].mark, took(out[0].end-out[0].start))
				require.Equal(t, policy.VerdictStay, verdict, "%d servers: %v", servers, now)
				out = out[1:]
			}
			if mark, ok := ramp.Admit(len(out)); ok {
				out = append(out, call{now, upstream.serve(now), mark})
				if now >= warm {
					let++
				}
			}
			if limit := ramp.Limit(); now >= warm && limit > 1 { // but for when it looks what makes calls slow
				most, least = max(most, limit), min(least, limit)
			}
		}
		require.GreaterOrEqual(t, least, servers, "%d servers", servers)
		require.LessOrEqual(t, most, 6*servers+14, "%d servers: six times the least latency, which a single one shows late", servers)
		require.LessOrEqual(t, most-least, 8, "%d servers: it settles", servers)
		carried := int((end-warm)/service) * servers
		require.InDelta(t, carried, let, 0.05*float64(carried), "%d servers are busy", servers)
	}
}

func TestRampComesAfterAProbe(t *testing.T) { require.True(t, policy.Ramp{}.AfterProbe()) }

func TestLeaseOfARamp(t *testing.T) {
	require.Equal(t, 10*time.Second, policy.Ramp{}.NewRecover().Lease())
	require.Equal(t, time.Second, policy.Ramp{Lease: time.Second}.NewRecover().Lease())
}

func TestSenselessRampsPanic(t *testing.T) {
	for _, c := range []struct {
		rule    policy.Ramp
		message string
	}{
		{policy.Ramp{Reopen: -1}, "Ramp.Reopen is -1; write a positive value, or 0 for the default of 2"},
		{policy.Ramp{Worth: -1}, "Ramp.Worth is -1; write a positive value, or 0 for the default of 3"},
		{policy.Ramp{Health: -1}, "Ramp.Health is -1; write a positive value, or 0 for the default of 6"},
		{policy.Ramp{Lease: -1}, "Ramp.Lease is -1ns; write a positive value, or 0 for the default of 10s"},
	} {
		require.Contains(t, messageOfPanic(t, func() { c.rule.NewRecover() }), c.message)
	}
}

func TestHoldValidated(t *testing.T) {
	require.Equal(t, policy.Hold{Silence: time.Second, InFlight: 10}, policy.Hold{}.Validated(), "which is the default")
	require.Equal(t, policy.Hold{Off: true, InFlight: 10}, policy.Hold{Off: true, Silence: time.Hour}.Validated(), "which holds nothing")
	require.Equal(t, policy.Hold{Silence: time.Minute, InFlight: 3}, policy.Hold{Silence: time.Minute, InFlight: 3}.Validated())
	require.Contains(t, messageOfPanic(t, func() { policy.Hold{Silence: -1}.Validated() }), "Hold.Silence is -1ns; write")
	require.Contains(t, messageOfPanic(t, func() { policy.Hold{InFlight: -1}.Validated() }), "Hold.InFlight is -1; write a positive value, or 0 for the default of 10")
}

func TestAdaptivePassesItsFieldsOn(t *testing.T) {
	require.Equal(t, policy.Rules{
		Trip:    policy.Evidence{Threshold: 1, Worth: 2},
		Probe:   policy.Squares{Spacing: 3},
		Recover: policy.Ramp{Reopen: 7},
		Hold:    &policy.Hold{Silence: 10, InFlight: 11},
		Parts:   &policy.Contrast{Failures: 14, Worth: 15, Parts: 17},
		Limits:  policy.Limits{InFlight: 13},

		Throttle: &policy.Throttle{LateOff: true},
		SafeWait: 12,
	}, policy.Adaptive{
		Trip: policy.Evidence{Threshold: 1, Worth: 2}, Probe: policy.Squares{Spacing: 3}, Recover: policy.Ramp{Reopen: 7},
		Hold: policy.Hold{Silence: 10, InFlight: 11}, Limits: policy.Limits{InFlight: 13}, SafeWait: 12,
		Throttle: policy.Throttle{LateOff: true}, Parts: policy.Contrast{Failures: 14, Worth: 15, Parts: 17},
	}.Rules())
	require.Equal(t, policy.Rules{
		Trip: policy.Evidence{}, Probe: policy.Squares{}, Recover: policy.Ramp{}, Hold: &policy.Hold{Silence: time.Second, InFlight: 10},
		Throttle: &policy.Throttle{}, Parts: &policy.Contrast{Failures: 4, Worth: 3, Parts: 16},
	}, policy.Adaptive{}.Rules())
	require.Contains(t, messageOfPanic(t, func() { policy.Adaptive{Hold: policy.Hold{Silence: -1}}.Rules() }), "Hold.Silence is -1ns; write")
}

func TestAZeroHoldIsTheSameWhereverItStands(t *testing.T) {
	rules := func(hold *policy.Hold) policy.Hold {
		return *policy.Rules{Trip: policy.Evidence{}, Probe: policy.Squares{}, Recover: policy.Ramp{}, Hold: hold}.Validated().Hold
	}
	adaptive := func(hold policy.Hold) policy.Hold { return *policy.Adaptive{Hold: hold}.Rules().Validated().Hold }
	require.Equal(t, adaptive(policy.Hold{}), rules(&policy.Hold{}))
	require.Equal(t, adaptive(policy.Hold{Off: true}), rules(&policy.Hold{Off: true}))
	require.Equal(t, adaptive(policy.Hold{Off: true}), rules(nil), "which is what classic rules have")
	require.Equal(t, rules(nil), *policy.Classic{}.Rules().Validated().Hold)
}

func joint(ramp policy.Recover) policy.Joint { return ramp.(policy.Joint) }

func TestSuccessesOfOthersDoubleALimitAtMost(t *testing.T) {
	ramp := started(policy.Ramp{})
	joint(ramp).Others(0, 1, 0, 0)
	require.Equal(t, 3, ramp.Limit())
	joint(ramp).Others(0, 100, 0, 0)
	require.Equal(t, 6, ramp.Limit())
	for range 100 {
		joint(ramp).Others(0, math.MaxInt, 0, 0)
	}
	require.Equal(t, 1<<20, ramp.Limit())
}

func TestSuccessesOfOthersDoNotCloseARamp(t *testing.T) {
	ramp := started(policy.Ramp{})
	joint(ramp).Others(0, 100, 0, 0)
	require.Equal(t, policy.VerdictStay, ramp.Record(epoch, admit(t, ramp, 1)[0], success))
	require.Equal(t, policy.VerdictClose, ramp.Record(epoch, admit(t, ramp, 1)[0], success))
}

func TestCallsOfOthersArePartOfARound(t *testing.T) {
	ramp := started(policy.Ramp{})
	joint(ramp).Others(0, 2, 0, 0)
	joint(ramp).Others(0, 4, 0, 0) // a limit of 8
	one := func(inFlight int) policy.Verdict {
		mark, _ := ramp.Admit(0)
		joint(ramp).Others(inFlight, 0, 0, 0)
		return ramp.Record(epoch, mark, success)
	}
	require.Equal(t, policy.VerdictStay, one(9))
	require.Equal(t, policy.VerdictStay, one(9))
	require.Equal(t, policy.VerdictStay, one(9))
	require.Equal(t, policy.VerdictClose, one(4))
}

func TestFailuresOfOthersHalveALimitByHalf(t *testing.T) {
	for _, reopen := range []int{0, 1, 5, math.MaxInt} {
		ramp := started(policy.Ramp{Reopen: reopen})
		rounds(t, ramp, 3, time.Millisecond)
		before := ramp.Limit()
		need := 2 * reopen
		switch reopen {
		case 0:
			need = 4
		case math.MaxInt:
			joint(ramp).Others(0, 0, math.MaxInt, 0)
			require.Equal(t, before, ramp.Limit())
			continue
		}
		joint(ramp).Others(0, 0, need-1, 0)
		require.Equal(t, before, ramp.Limit())
		joint(ramp).Others(0, 0, 1, 0)
		require.Equal(t, before/2, ramp.Limit())
		joint(ramp).Others(0, 0, math.MaxInt, 0)
		require.Equal(t, before/2, ramp.Limit(), "they may have started before")
		require.Equal(t, policy.VerdictStay, ramp.Record(epoch, admit(t, ramp, 1)[0], success))
		for range 20 {
			joint(ramp).Others(0, 0, math.MaxInt, 0)
			ramp.Record(epoch, admit(t, ramp, 1)[0], success)
		}
		require.LessOrEqual(t, ramp.Limit(), 2, "and grows by one a round of its own")
		require.GreaterOrEqual(t, ramp.Limit(), 1, "what others say opens nothing")
	}
}

func TestSuccessesOfOthersMakeUpForFailuresOfOthers(t *testing.T) {
	for _, extreme := range []policy.Ramp{{}, {Worth: math.MaxInt, Health: math.MaxInt}} {
		ramp := started(extreme)
		for range 10 {
			joint(ramp).Others(0, 2, 3, 0)
		}
		require.Greater(t, ramp.Limit(), 20)
	}
	ramp := started(policy.Ramp{})
	joint(ramp).Others(0, math.MaxInt, 0, 0)
	joint(ramp).Others(0, 0, 9, 0) // six to 0, three to go
	require.Equal(t, 4, ramp.Limit())
	joint(ramp).Others(0, 0, 1, 0)
	require.Equal(t, 2, ramp.Limit())
}

func TestTheLatencyOfOthersCountsAsOwnOne(t *testing.T) {
	ramp := started(policy.Ramp{})
	for range 20 {
		joint(ramp).Others(0, 1, 0, time.Millisecond)
	}
	limit := ramp.Limit()
	for range 50 {
		joint(ramp).Others(0, 1, 0, 10*time.Millisecond)
	}
	require.InDelta(t, limit, ramp.Limit(), 4)
	for range 100 {
		joint(ramp).Others(0, 1, 0, time.Millisecond)
	}
	require.Greater(t, ramp.Limit(), limit+50)
}

// waiting is a recovery of an upstream whose calls took 10 ms before, and whose callers wait for a second.
func waiting(t *testing.T) (ramp policy.Recover, round func(time.Duration)) {
	ramp = policy.Ramp{}.NewRecover()
	ramp.Start(epoch, policy.Result{Outcome: policy.Success, Elapsed: 10 * time.Millisecond, Usual: 10 * time.Millisecond})
	return ramp, func(elapsed time.Duration) {
		for _, mark := range admit(t, ramp, ramp.Limit()) {
			r := took(elapsed)
			r.Wait = time.Second
			ramp.Record(epoch, mark, r)
		}
	}
}

// A queue that others fill is as long at the first answer as it is later, so that its least says nothing.
func TestItGrowsNoFurtherWhereAnswersTakeAThirdOfWhatCallersWait(t *testing.T) {
	ramp, round := waiting(t)
	round(300 * time.Millisecond)
	require.Equal(t, 4, ramp.Limit())
	for range 5 {
		round(400 * time.Millisecond)
		require.Equal(t, 4, ramp.Limit())
	}
	round(750 * time.Millisecond)
	require.Equal(t, 3, ramp.Limit())
	for range 5 {
		round(750 * time.Millisecond)
	}
	require.Equal(t, 1, ramp.Limit())
	round(20 * time.Millisecond)
	require.Equal(t, 2, ramp.Limit())
}

func TestSixteenSlowCallsAloneAreNoQueue(t *testing.T) {
	ramp, round := waiting(t)
	round(750 * time.Millisecond)
	for range 16 {
		require.Equal(t, 1, ramp.Limit())
		round(750 * time.Millisecond)
	}
	round(750 * time.Millisecond)
	require.Equal(t, 2, ramp.Limit(), "they take so long now")
	round(750 * time.Millisecond)
	require.Equal(t, 4, ramp.Limit())
}

func TestCallsThatTakeAsLongAsBeforeAreNoQueue(t *testing.T) {
	ramp := policy.Ramp{}.NewRecover()
	usual := 700 * time.Millisecond
	ramp.Start(epoch, policy.Result{Outcome: policy.Success, Elapsed: usual, Usual: usual, Asked: 4})
	for _, mark := range admit(t, ramp, 2) {
		r := took(800 * time.Millisecond)
		r.Wait = time.Second
		ramp.Record(epoch, mark, r)
	}
	require.Greater(t, ramp.Limit(), 2)
}

// again is the probe of a recovery that follows one after which all was well for so long, from its beginning.
func again(lasted time.Duration) policy.Result {
	return policy.Result{Outcome: policy.Success, Lasted: lasted}
}

// fullAt lets a round go by in which the ramp is full.
func fullAt(t require.TestingT, ramp policy.Recover, at time.Duration) {
	for _, mark := range admit(t, ramp, ramp.Limit()) {
		ramp.Record(epoch.Add(at), mark, success)
	}
}

func TestARelapseHoldsALimitAtHalfForTwiceAsLong(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 4, time.Millisecond) // 2, 4, 8 and 16 calls at a time
	ramp.Start(epoch, again(10*time.Second))
	require.Equal(t, 2, ramp.Limit())
	for at := time.Duration(0); at < 20*time.Second; at += time.Second {
		fullAt(t, ramp, at)
		require.LessOrEqual(t, ramp.Limit(), 8, at)
	}
	require.Equal(t, 8, ramp.Limit())
	fullAt(t, ramp, 20*time.Second)
	require.Greater(t, ramp.Limit(), 8)

	ramp.Start(epoch.Add(time.Minute), again(30*time.Second)) // it bore that limit
	for at := time.Duration(0); at < time.Minute; at += time.Second {
		fullAt(t, ramp, time.Minute+at)
		require.LessOrEqual(t, ramp.Limit(), 8, at)
	}
	require.Equal(t, 8, ramp.Limit(), "the same, for longer")
	fullAt(t, ramp, 2*time.Minute)
	require.Greater(t, ramp.Limit(), 8)
}

func TestARelapseUnderALimitThatIsHeldHalvesIt(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 5, time.Millisecond) // up to 32 calls at a time
	lasted := 16 * time.Second
	for _, limit := range []int{16, 8, 4, 2} {
		ramp.Start(epoch, again(lasted))
		lasted /= 2 // sooner than before
		for at := time.Duration(0); at < 32*time.Second; at += time.Second {
			fullAt(t, ramp, at)
			require.LessOrEqual(t, ramp.Limit(), limit, "for as long as the first: %v", at)
		}
		require.Equal(t, limit, ramp.Limit())
	}
	ramp.Start(epoch, again(lasted))
	rounds(t, ramp, 6, time.Millisecond)
	require.Equal(t, 128, ramp.Limit(), "less than two is no use")
}

func TestNoLimitIsHeldBelowTwo(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 1, time.Millisecond)
	ramp.Start(epoch, again(10*time.Second))
	rounds(t, ramp, 3, time.Millisecond)
	require.Equal(t, 2, ramp.Limit())
}

func TestARampThatIsHeldSaysSoAtItsBeginning(t *testing.T) {
	held := func(ramp policy.Recover) string { return ramp.(interface{ Held() string }).Held() }
	ramp := started(policy.Ramp{})
	require.Empty(t, held(ramp))
	rounds(t, ramp, 4, time.Millisecond)
	ramp.Start(epoch, again(10*time.Second))
	require.Equal(t, "it failed again, 10s after the recovery before began: 8 calls at a time at most for 20s", held(ramp))
}

func TestARelapseOfAnotherTroubleIsNone(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 4, time.Millisecond)
	ramp.Start(epoch, again(0))
	rounds(t, ramp, 6, time.Millisecond)
	require.Greater(t, ramp.Limit(), 64)
}

func TestALimitThatWasHeldInVainIsHeldNoMore(t *testing.T) {
	for lasted, vain := range map[time.Duration]bool{6 * time.Second: false, 7 * time.Second: true, 19 * time.Second: true, 20 * time.Second: false} {
		ramp := started(policy.Ramp{})
		rounds(t, ramp, 4, time.Millisecond)
		ramp.Start(epoch, again(10*time.Second))
		rounds(t, ramp, 4, time.Millisecond)
		ramp.Start(epoch, again(lasted))
		rounds(t, ramp, 6, time.Millisecond)
		require.Equal(t, vain, ramp.Limit() == 128, lasted)
		if !vain {
			continue
		}
		for range 2 { // and it stays so
			ramp.Start(epoch, again(time.Second))
			rounds(t, ramp, 6, time.Millisecond)
			require.Equal(t, 128, ramp.Limit())
		}
		ramp.Start(epoch, again(0)) // other trouble
		rounds(t, ramp, 4, time.Millisecond)
		ramp.Start(epoch, again(10*time.Second))
		rounds(t, ramp, 6, time.Millisecond)
		require.Less(t, ramp.Limit(), 32)
	}
}

func TestAHeldLimitIsNotForGood(t *testing.T) {
	for name, jump := range map[string]time.Duration{"set back": -24 * time.Hour, "set forward": 24 * time.Hour} {
		ramp := started(policy.Ramp{})
		rounds(t, ramp, 4, time.Millisecond)
		ramp.Start(epoch, again(100*time.Hour))
		fullAt(t, ramp, jump)
		for range 6 {
			fullAt(t, ramp, jump)
		}
		require.Greater(t, ramp.Limit(), 16, name)
	}
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 4, time.Millisecond)
	ramp.Start(epoch, again(100*time.Hour))
	for range 6 {
		fullAt(t, ramp, 2*time.Minute)
	}
	require.Greater(t, ramp.Limit(), 16, "two minutes at most")
}

func TestAHeldLimitThatIsNotNeededClosesAsUsual(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 4, time.Millisecond)
	ramp.Start(epoch, again(10*time.Second))
	last := policy.VerdictStay
	for range 10 {
		mark, _ := ramp.Admit(0)
		if last = ramp.Record(epoch, mark, success); last == policy.VerdictClose {
			break
		}
	}
	require.Equal(t, policy.VerdictClose, last)
}

func TestOthersDoNotRaiseALimitThatIsHeld(t *testing.T) {
	ramp := started(policy.Ramp{})
	rounds(t, ramp, 4, time.Millisecond)
	ramp.Start(epoch, again(10*time.Second))
	for range 10 {
		joint(ramp).Others(4, 20, 0, time.Millisecond)
	}
	require.Equal(t, 8, ramp.Limit())

	ramp = started(policy.Ramp{})
	joint(ramp).Others(20, 20, 0, time.Millisecond)
	ramp.Start(epoch, again(10*time.Second))
	rounds(t, ramp, 6, time.Millisecond)
	require.Equal(t, 10, ramp.Limit(), "theirs are in flight, too")
}

// A batch of forty once a minute, all at once: one goes as the probe, two in the next batch, and then all.
func TestARecoveryOfWhatComesInBurstsTakesThreeOfThem(t *testing.T) {
	for _, c := range []struct {
		gap  time.Duration
		want []int
	}{
		{time.Minute, []int{2, 40, 40}},
		{200 * time.Millisecond, []int{2, 4, 8}}, // that is a round trip
	} {
		m := policy.Ramp{}.NewRecover()
		now := began
		m.Start(now, policy.Result{Outcome: policy.Success, Elapsed: 50 * time.Millisecond, Asked: 39})
		for batch, want := range c.want {
			now = now.Add(c.gap)
			var marks []int
			for range 40 {
				if mark, ok := m.Admit(len(marks)); ok {
					marks = append(marks, mark)
				}
			}
			require.Len(t, marks, want, "batch %d, %v apart", batch, c.gap)
			now = now.Add(50 * time.Millisecond)
			for _, mark := range marks {
				m.Record(now, mark, policy.Result{Outcome: policy.Success, Elapsed: 50 * time.Millisecond})
			}
		}
	}
}

// A burst of which a call failed is no reason to send more at once.
func TestARecoveryThatWasHalvedDoesNotGoByBursts(t *testing.T) {
	m := policy.Ramp{}.NewRecover()
	now := began
	m.Start(now, policy.Result{Outcome: policy.Success, Elapsed: 50 * time.Millisecond})
	for _, failures := range []int{0, 0, 30, 0, 0} {
		now = now.Add(time.Minute)
		var marks []int
		for range 40 {
			if mark, ok := m.Admit(len(marks)); ok {
				marks = append(marks, mark)
			}
		}
		for i, mark := range marks {
			r := policy.Result{Outcome: policy.Success, Elapsed: 50 * time.Millisecond}
			if i < failures {
				r.Outcome = policy.Failure
			}
			m.Record(now.Add(50*time.Millisecond), mark, r)
		}
	}
	require.Less(t, m.Limit(), 45, "half of twice forty, and one for each burst")
}

// What goes on after a burst began doubles the limit in a round trip, and no more.
func TestARecoveryDoublesWithinABurst(t *testing.T) {
	m := policy.Ramp{}.NewRecover()
	ok := policy.Result{Outcome: policy.Success, Elapsed: 50 * time.Millisecond}
	now := began
	m.Start(now, ok)
	now = now.Add(time.Minute)
	for range 20 {
		m.Admit(0)
	}
	for _, at := range []time.Duration{0, 0, 50 * time.Millisecond, 100 * time.Millisecond} {
		mark, _ := m.Admit(1)
		m.Record(now.Add(at+50*time.Millisecond), mark, ok)
	}
	require.Less(t, m.Limit(), 30)
}
