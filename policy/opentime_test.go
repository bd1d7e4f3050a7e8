package policy_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestWaitsOfOpenTime(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	cases := []struct {
		name       string
		rule       policy.OpenTime
		random     float64
		retryAfter time.Duration
		waits      []time.Duration // of the trip, then of the failed recoveries one after the other
	}{
		{"default", policy.OpenTime{}, 0, 0, []time.Duration{m, m, m}},
		{"fixed", policy.OpenTime{For: 5 * s}, 0, 0, []time.Duration{5 * s, 5 * s, 5 * s}},
		{"factor 1 is fixed", policy.OpenTime{For: 5 * s, Factor: 1}, 0, 0, []time.Duration{5 * s, 5 * s}},
		{"growing to the default maximum", policy.OpenTime{Factor: 2}, 0, 0, []time.Duration{m, 2 * m, 4 * m, 8 * m, 10 * m, 10 * m}},
		{"growing to Max", policy.OpenTime{For: s, Factor: 3, Max: 10 * s}, 0, 0, []time.Duration{s, 3 * s, 9 * s, 10 * s, 10 * s}},
		{"Max that is a power of Factor", policy.OpenTime{For: s, Factor: 2, Max: 4 * s}, 0, 0, []time.Duration{s, 2 * s, 4 * s, 4 * s}},
		{"For beyond the default maximum", policy.OpenTime{For: h, Factor: 2}, 0, 0, []time.Duration{h, h}},
		{"Max equal to For", policy.OpenTime{For: s, Factor: 9, Max: s}, 0, 0, []time.Duration{s, s}},

		{"jitter shortens", policy.OpenTime{For: 10 * s, JitterPercent: 20}, 0.5, 0, []time.Duration{9 * s, 9 * s}},
		{"jitter of nothing", policy.OpenTime{For: 10 * s, JitterPercent: 20}, 0, 0, []time.Duration{10 * s}},
		{"no jitter by default", policy.OpenTime{For: 10 * s}, 0.9, 0, []time.Duration{10 * s}},
		{"jitter does not add up", policy.OpenTime{For: 8 * s, Factor: 2, JitterPercent: 50}, 0.5, 0, []time.Duration{6 * s, 12 * s, 24 * s}},

		{"Retry-After makes it longer", policy.OpenTime{For: 10 * s}, 0, 90 * s, []time.Duration{90 * s, 90 * s}},
		{"but never shorter", policy.OpenTime{For: 10 * s}, 0, 9 * s, []time.Duration{10 * s}},
		{"nor if it is negative", policy.OpenTime{For: 10 * s}, 0, -h, []time.Duration{10 * s}},
		{"up to the default cap", policy.OpenTime{For: 10 * s}, 0, h, []time.Duration{5 * m}},
		{"up to a cap", policy.OpenTime{For: 10 * s, RetryAfterMax: 20 * s}, 0, h, []time.Duration{20 * s}},
		{"a cap below the wait", policy.OpenTime{For: 10 * s, RetryAfterMax: s}, 0, h, []time.Duration{10 * s}},
		{"Retry-After is not jittered", policy.OpenTime{For: 10 * s, JitterPercent: 100}, 0.99, 60 * s, []time.Duration{60 * s}},
		{"Retry-After does not grow", policy.OpenTime{For: s, Factor: 2}, 0, 3 * s, []time.Duration{3 * s, 3 * s, 4 * s}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			probe := c.rule.NewProbe()
			result := policy.Result{Outcome: policy.Failure, RetryAfter: c.retryAfter}
			var waits []time.Duration
			for i := range c.waits {
				if i == 0 {
					probe.Trip(epoch, result, c.random)
				} else {
					probe.Fail(epoch, result, c.random)
				}
				due := probe.Due()
				require.False(t, probe.Ask(due.Add(-1)), "asked a moment too early")
				require.True(t, probe.Ask(due))
				require.True(t, probe.Ask(due.Add(time.Hour)))
				waits = append(waits, due.Sub(epoch))
			}
			require.Equal(t, c.waits, waits)
		})
	}
}

func TestTripStartsFromTheFirstWaitAgain(t *testing.T) {
	probe := policy.OpenTime{For: time.Second, Factor: 10}.NewProbe()
	probe.Trip(epoch, failure, 0)
	probe.Fail(epoch, failure, 0)
	probe.Fail(epoch, failure, 0)
	require.Equal(t, 100*time.Second, probe.Due().Sub(epoch))
	probe.Trip(epoch, failure, 0)
	require.Equal(t, time.Second, probe.Due().Sub(epoch))
}

func TestJitterStaysInItsBounds(t *testing.T) {
	for _, percent := range []int{1, 10, 50, 99, 100} {
		probe := policy.OpenTime{For: time.Minute, JitterPercent: percent}.NewProbe()
		shortest := time.Minute - time.Minute*time.Duration(percent)/100
		for _, random := range []float64{0, 1e-9, 0.25, 0.5, 0.75, math.Nextafter(1, 0)} {
			probe.Trip(epoch, failure, random)
			wait := probe.Due().Sub(epoch)
			require.GreaterOrEqual(t, wait, shortest)
			require.LessOrEqual(t, wait, time.Minute)
		}
		require.InDelta(t, shortest, probe.Due().Sub(epoch), 2, "the jitter is that large")
	}
}

func TestWaitsNeverOverflow(t *testing.T) {
	rules := []policy.OpenTime{
		{For: time.Second, Factor: 1000},
		{For: time.Second, Factor: math.MaxInt},
		{For: time.Second, Factor: 1000, Max: math.MaxInt64},
		{For: math.MaxInt64, Factor: 1000},
		{For: math.MaxInt64/2 + 1, Factor: 2, Max: math.MaxInt64, JitterPercent: 100},
		{For: 1, Factor: 2, Max: math.MaxInt64},
	}
	for _, rule := range rules {
		probe := rule.NewProbe()
		probe.Trip(epoch, failure, 0)
		last := probe.Due()
		for range 1000 {
			probe.Fail(epoch, failure, 0)
			require.False(t, probe.Due().Before(last), "%+v: the wait shrank", rule)
			last = probe.Due()
		}
		require.Equal(t, max(rule.Max, 10*time.Minute, rule.For), last.Sub(epoch), "%+v", rule)
	}
}

func TestResumeTakesUpAWaitThatBeganElsewhere(t *testing.T) {
	cases := []struct {
		name string
		rule policy.OpenTime
		due  time.Duration
		want time.Duration
	}{
		{"as it was", policy.OpenTime{}, 42 * time.Second, 42 * time.Second},
		{"past already", policy.OpenTime{}, -time.Hour, -time.Hour},
		{"at most Max", policy.OpenTime{Max: 20 * time.Minute}, 24 * time.Hour, 20 * time.Minute},
		{"at most RetryAfterMax if that is longer", policy.OpenTime{RetryAfterMax: time.Hour}, 24 * time.Hour, time.Hour},
		{"absurd", policy.OpenTime{}, math.MaxInt64, 10 * time.Minute},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			probe := c.rule.NewProbe()
			probe.Resume(epoch, epoch.Add(c.due))
			require.Equal(t, c.want, probe.Due().Sub(epoch))
		})
	}
}

func TestFailAfterResumeGrowsFromTheFirstWait(t *testing.T) {
	probe := policy.OpenTime{For: time.Second, Factor: 3}.NewProbe()
	probe.Resume(epoch, epoch.Add(time.Minute))
	probe.Fail(epoch, failure, 0)
	require.Equal(t, 3*time.Second, probe.Due().Sub(epoch))
}

func TestLeaseOfAProbe(t *testing.T) {
	require.Equal(t, time.Minute, policy.OpenTime{}.NewProbe().Lease())
	require.Equal(t, time.Second, policy.OpenTime{Lease: time.Second}.NewProbe().Lease())
}
