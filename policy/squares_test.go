package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// probesOf returns the numbers of the requests that are probes, of n that come in an outage in which time is no
// constraint and every probe fails at once.
func probesOf(probe policy.Probe, n int) []int {
	var probes []int
	for i := 1; i <= n; i++ {
		if now := probe.Due(); probe.Ask(now) {
			probes = append(probes, i)
			probe.Fail(now, failure, 0)
		}
	}
	return probes
}

func TestProbesComeAtTheSquares(t *testing.T) {
	cases := []struct {
		name   string
		rule   policy.Squares
		probes []int
	}{
		{"default", policy.Squares{}, []int{1, 6, 13, 22, 33, 46, 61, 78, 97}},
		{"a half", policy.Squares{Spacing: 0.5}, []int{1, 3, 7, 11, 17, 23, 31, 39, 49, 59, 71, 83, 97}},
		{"ten", policy.Squares{Spacing: 10}, []int{10, 60}},
		{"a third", policy.Squares{Spacing: 1. / 3}, []int{1, 2, 5, 8, 11, 16, 21, 26, 33, 40, 47, 56, 65, 74, 85, 96}},
		{"one request is one probe at most", policy.Squares{Spacing: 0.25}, []int{1, 2, 4, 6, 9, 12, 16, 20, 25, 30, 36, 42, 49, 56, 64, 72, 81, 90, 100}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			probe := c.rule.NewProbe()
			probe.Trip(epoch, failure, 0)
			require.Equal(t, c.probes, probesOf(probe, 100))
		})
	}
}

func TestTheKthProbeIsTheRequestOfItsSquare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		spacing := rapid.Float64Range(0.01, 50).Draw(t, "spacing")
		probe := policy.Squares{Spacing: spacing}.NewProbe()
		probe.Trip(epoch, failure, rapid.Float64Range(0, 0.999).Draw(t, "random"))
		last := 0
		for i, request := range probesOf(probe, 1000) {
			k := float64(i + 1)
			require.Equal(t, max(last+1, int(math.Ceil(spacing*((k+1)*(k+1)-3)))), request, "probe %v", k)
			last = request
		}
	})
}

func TestTheShareOfProbesFallsWithTheRootOfTheOutage(t *testing.T) {
	for _, spacing := range []float64{0.5, 1, 3} {
		for _, n := range []int{10, 100, 10_000, 200_000} {
			probe := policy.Squares{Spacing: spacing}.NewProbe()
			probe.Trip(epoch, failure, 0)
			require.InDelta(t, math.Sqrt(float64(n)/spacing+3)-1, len(probesOf(probe, n)), 1, "%v requests, spacing %v", n, spacing)
		}
	}
}

// The requests that come during the wait count. Of those after it the first is let through.
func TestNoProbeBeforeTheWait(t *testing.T) {
	const ms = time.Millisecond
	probe := policy.Squares{Spacing: 2}.NewProbe()
	probe.Trip(epoch, failure, 0)
	require.Equal(t, epoch.Add(100*ms), probe.Due())
	require.False(t, probe.Ask(epoch))
	require.False(t, probe.Ask(epoch.Add(100*ms-1)), "due by its number, but too early")
	require.True(t, probe.Ask(epoch.Add(100*ms)))
	require.True(t, probe.Ask(epoch.Add(101*ms)), "and so is the next, if the first was not taken")
	probe.Fail(epoch.Add(150*ms), failure, 0)
	require.Equal(t, epoch.Add(250*ms), probe.Due())
	for request := 5; request <= 20; request++ {
		require.Equal(t, request >= 12, probe.Ask(epoch.Add(time.Second)), "request %d", request)
	}
}

func TestARequestSoLateAfterTheLastProbeIsOne(t *testing.T) {
	const s, m = time.Second, time.Minute
	for name, c := range map[string]struct {
		maxGap time.Duration
		gaps   []time.Duration
	}{
		"default":                      {0, []time.Duration{90 * s, 90 * s, 90 * s, 90 * s}},
		"another":                      {7 * s, []time.Duration{7 * s, 7 * s, 7 * s}},
		"an eighth of a longer outage": {m, []time.Duration{m, m, m, m, m, m, m, m, m, 9 * m / 8, 9 * m * 9 / 64}},
	} {
		t.Run(name, func(t *testing.T) {
			probe, now := policy.Squares{Spacing: 1000, MaxGap: c.maxGap}.NewProbe(), epoch
			for range 2 {
				probe.Trip(now, failure, 0)
				for i, gap := range c.gaps {
					require.False(t, probe.Ask(now.Add(gap-1)), "probe %d, too early", i)
					now = now.Add(gap)
					require.True(t, probe.Ask(now), "probe %d", i)
					require.True(t, probe.Ask(now), "and so is the next, if the first was not taken")
					probe.Fail(now, failure, 0)
				}
			}
		})
	}
}

func TestMaxGapIsNoReasonToIgnoreARetryAfter(t *testing.T) {
	probe := policy.Squares{RetryAfterMax: time.Hour}.NewProbe()
	asked := failure
	asked.RetryAfter = 10 * time.Minute
	probe.Trip(epoch, asked, 0)
	require.False(t, probe.Ask(epoch.Add(10*time.Minute-1)))
	require.True(t, probe.Ask(epoch.Add(10*time.Minute)))
}

// One request a minute, and an outage of ten minutes.
func TestAnOutageOfThinTrafficIsProbedEveryNinetySeconds(t *testing.T) {
	probe := policy.Squares{}.NewProbe()
	probe.Trip(epoch, failure, 0)
	var probes []int
	for minute := 1; minute <= 10; minute++ {
		if now := epoch.Add(time.Duration(minute) * time.Minute); probe.Ask(now) {
			probes = append(probes, minute)
			probe.Fail(now, failure, 0)
		}
	}
	require.Equal(t, []int{1, 3, 5, 7, 9}, probes)
}

func TestResumeStartsMaxGapToo(t *testing.T) {
	probe := policy.Squares{Spacing: 100, MaxGap: time.Minute}.NewProbe()
	probe.Trip(epoch.Add(-time.Hour), failure, 0)
	probe.Resume(epoch, epoch)
	require.False(t, probe.Ask(epoch.Add(time.Minute-1)))
	require.True(t, probe.Ask(epoch.Add(time.Minute)))
}

func TestWaitsOfSquares(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	cases := []struct {
		name       string
		rule       policy.Squares
		random     float64
		retryAfter time.Duration
		want       time.Duration
	}{
		{"default", policy.Squares{}, 0, 0, 100 * ms},
		{"jitter shortens", policy.Squares{}, 0.5, 0, 75 * ms},
		{"by a half at most", policy.Squares{Wait: s}, math.Nextafter(1, 0), 0, 500 * ms},
		{"another wait", policy.Squares{Wait: 2 * s}, 0.25, 0, 1750 * ms},
		{"Retry-After replaces it", policy.Squares{}, 0, 3 * s, 3 * s},
		{"and is not jittered", policy.Squares{}, 0.9, 3 * s, 3 * s},
		{"but does not shorten it", policy.Squares{}, 0, 99 * ms, 100 * ms},
		{"nor is what is left by the jitter shortened", policy.Squares{}, 0.5, 10 * ms, 75 * ms},
		{"nor if it is negative", policy.Squares{}, 0, -time.Hour, 100 * ms},
		{"up to the default cap", policy.Squares{}, 0, time.Hour, 5 * s},
		{"up to another", policy.Squares{RetryAfterMax: time.Minute}, 0, time.Hour, time.Minute},
		{"a cap below the wait", policy.Squares{Wait: s, RetryAfterMax: ms}, 0, time.Hour, s},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			result := failure
			result.RetryAfter = c.retryAfter
			probe := c.rule.NewProbe()
			probe.Trip(epoch, result, c.random)
			require.InDelta(t, c.want, probe.Due().Sub(epoch), 1, "after a trip")
			now := epoch.Add(time.Hour)
			probe.Fail(now, result, c.random)
			require.InDelta(t, c.want, probe.Due().Sub(now), 1, "after a failed probe")
			for range 10 {
				require.False(t, probe.Ask(probe.Due().Add(-1)))
			}
			require.True(t, probe.Ask(probe.Due()))
		})
	}
}

func TestJitterOfSquaresStaysInItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wait := time.Duration(rapid.Int64Range(1, int64(24*time.Hour)).Draw(t, "wait"))
		random := rapid.Float64Range(0, math.Nextafter(1, 0)).Draw(t, "random")
		probe := policy.Squares{Wait: wait}.NewProbe()
		probe.Trip(epoch, failure, random)
		require.GreaterOrEqual(t, probe.Due().Sub(epoch), wait/2)
		require.LessOrEqual(t, probe.Due().Sub(epoch), wait)
	})
}

func TestFailGoesOnCountingAndTripStartsAnew(t *testing.T) {
	probe := policy.Squares{Spacing: 1}.NewProbe()
	for range 3 {
		probe.Trip(epoch, failure, 0)
		require.Equal(t, []int{1, 6, 13}, probesOf(probe, 20))
	}
	require.Equal(t, []int{22 - 20, 33 - 20}, probesOf(probe, 40-20), "a trip is what starts anew, and not the time")
}

func TestResumeOfSquares(t *testing.T) {
	cases := []struct {
		name string
		rule policy.Squares
		due  time.Duration
		want time.Duration
	}{
		{"as it was", policy.Squares{}, 4 * time.Second, 4 * time.Second},
		{"past already", policy.Squares{}, -time.Hour, -time.Hour},
		{"at most RetryAfterMax", policy.Squares{}, time.Hour, 5 * time.Second},
		{"at most another", policy.Squares{RetryAfterMax: time.Minute}, time.Hour, time.Minute},
		{"absurd", policy.Squares{}, math.MaxInt64, 5 * time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			probe := c.rule.NewProbe()
			probe.Trip(epoch.Add(-time.Hour), failure, 0)
			probesOf(probe, 100)
			probe.Resume(epoch, epoch.Add(c.due))
			require.Equal(t, c.want, probe.Due().Sub(epoch))
			require.False(t, probe.Ask(probe.Due().Add(-1)))
			probe.Resume(epoch, epoch.Add(c.due))
			require.True(t, probe.Ask(probe.Due()), "it counts from the start: the first request is a probe")
		})
	}
}

func TestSquaresOfExtremesStayNumbers(t *testing.T) {
	for _, rule := range []policy.Squares{
		{Spacing: math.SmallestNonzeroFloat64},
		{Spacing: math.MaxFloat64},
		{Wait: math.MaxInt64, RetryAfterMax: math.MaxInt64},
		{Wait: 1, RetryAfterMax: 1, Lease: 1},
	} {
		for _, random := range []float64{0, math.Nextafter(1, 0)} {
			probe := rule.NewProbe()
			result := policy.Result{Outcome: policy.Failure, RetryAfter: math.MaxInt64}
			probe.Trip(epoch, result, random)
			require.True(t, probe.Due().After(epoch), "%+v", rule)
			asked := 0
			for i := range 1000 {
				asked++
				granted := probe.Ask(probe.Due())
				switch rule.Spacing {
				case math.SmallestNonzeroFloat64:
					require.True(t, granted)
				case math.MaxFloat64:
					require.False(t, granted)
				}
				probe.Fail(epoch, result, random)
				require.True(t, probe.Due().After(epoch), "%+v, failed probe %d", rule, i)
			}
		}
	}
}

func TestSquaresCountDownToTheNextProbe(t *testing.T) {
	probe := policy.Squares{}.NewProbe()
	probe.Trip(epoch, failure, 0)
	for k := range 20 {
		requests, latest := probe.(policy.Countdown).Countdown()
		require.Equal(t, epoch.Add(90*time.Second), latest)
		for n := 1; n < requests; n++ {
			require.False(t, probe.Ask(epoch.Add(time.Second)), "probe %d, request %d of %d", k, n, requests)
		}
		require.True(t, probe.Ask(epoch.Add(time.Second)), "probe %d, the last of %d", k, requests)
		probe.Fail(epoch, failure, 0)
	}
	probe = policy.Squares{RetryAfterMax: time.Hour}.NewProbe()
	probe.Trip(epoch, policy.Result{Outcome: policy.Failure, RetryAfter: time.Hour}, 0)
	_, latest := probe.(policy.Countdown).Countdown()
	require.Equal(t, epoch.Add(time.Hour), latest)
}

func TestLeaseOfSquares(t *testing.T) {
	require.Equal(t, time.Second, policy.Squares{}.NewProbe().Lease())
	require.Equal(t, time.Minute, policy.Squares{Lease: time.Minute}.NewProbe().Lease())
}

func TestCircuitsOfOneSquaresShareNoMemory(t *testing.T) {
	rule := policy.Squares{Spacing: 1}
	one, other := rule.NewProbe(), rule.NewProbe()
	one.Trip(epoch, failure, 0)
	other.Trip(epoch, failure, 0)
	require.Equal(t, []int{1, 6}, probesOf(one, 10))
	require.Equal(t, []int{1, 6}, probesOf(other, 10))
}

func TestSenselessSquaresPanic(t *testing.T) {
	for _, c := range []struct {
		rule    policy.Squares
		message string
	}{
		{policy.Squares{Spacing: -1}, "Squares.Spacing is -1; write a positive number of requests, or 0 for 1"},
		{policy.Squares{Spacing: math.NaN()}, "Squares.Spacing is NaN; write"},
		{policy.Squares{Spacing: math.Inf(1)}, "Squares.Spacing is +Inf; write"},
		{policy.Squares{Spacing: math.Inf(-1)}, "Squares.Spacing is -Inf; write"},
		{policy.Squares{Wait: -1}, "Squares.Wait is -1ns; write a positive value, or 0 for the default of 100ms"},
		{policy.Squares{RetryAfterMax: -1}, "Squares.RetryAfterMax is -1ns; write a positive value, or 0 for the default of 5s"},
		{policy.Squares{Lease: -1}, "Squares.Lease is -1ns; write a positive value, or 0 for the default of 1s"},
		{policy.Squares{MaxGap: -1}, "Squares.MaxGap is -1ns; write a positive value, or 0 for the default of 1m30s"},
	} {
		require.Contains(t, messageOfPanic(t, func() { c.rule.NewProbe() }), c.message)
	}
}
