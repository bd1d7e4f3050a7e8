package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestVerdictsOfTrial(t *testing.T) {
	cases := []struct {
		name     string
		rule     policy.Trial
		calls    string
		verdicts []policy.Verdict
		limits   []int // at the start and after each call
	}{
		{"default: one decides", policy.Trial{}, "S", []policy.Verdict{policy.VerdictClose}, []int{1, 0}},
		{"default: one failure reopens", policy.Trial{}, "F", []policy.Verdict{policy.VerdictReopen}, []int{1, 1}},
		{"all probes must succeed", policy.Trial{Probes: 3}, "SSS", []policy.Verdict{policy.VerdictStay, policy.VerdictStay, policy.VerdictClose}, []int{3, 2, 1, 0}},
		{"the last one fails", policy.Trial{Probes: 3}, "SSF", []policy.Verdict{policy.VerdictStay, policy.VerdictStay, policy.VerdictReopen}, []int{3, 2, 1, 1}},
		{"fewer successes than probes", policy.Trial{Probes: 3, Successes: 2}, "SS", []policy.Verdict{policy.VerdictStay, policy.VerdictClose}, []int{3, 2, 1}},
		{"more successes than probes", policy.Trial{Probes: 2, Successes: 4}, "SSSS", []policy.Verdict{policy.VerdictStay, policy.VerdictStay, policy.VerdictStay, policy.VerdictClose}, []int{2, 2, 2, 1, 0}},
		{"one at a time, three to close", policy.Trial{Successes: 3}, "SSS", []policy.Verdict{policy.VerdictStay, policy.VerdictStay, policy.VerdictClose}, []int{1, 1, 1, 0}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trial := c.rule.NewRecover()
			trial.Start(epoch, policy.Result{})
			limits := []int{trial.Limit()}
			var verdicts []policy.Verdict
			for _, r := range results(c.calls) {
				mark, ok := trial.Admit(trial.Limit() - 1)
				require.True(t, ok)
				_, ok = trial.Admit(trial.Limit())
				require.False(t, ok, "one more than the limit")
				verdicts = append(verdicts, trial.Record(epoch, mark, r))
				limits = append(limits, trial.Limit())
			}
			require.Equal(t, c.verdicts, verdicts)
			require.Equal(t, c.limits, limits)
		})
	}
}

func TestStartBeginsATrialAnew(t *testing.T) {
	trial := policy.Trial{Probes: 2}.NewRecover()
	for range 3 {
		trial.Start(epoch, policy.Result{})
		require.Equal(t, policy.VerdictStay, trial.Record(epoch, 0, success))
		failures, successes := trial.Counts()
		require.Equal(t, []int{0, 1}, []int{failures, successes})
	}
}

func TestLeaseOfATrial(t *testing.T) {
	require.Equal(t, time.Minute, policy.Trial{}.NewRecover().Lease())
	require.Equal(t, time.Second, policy.Trial{Lease: time.Second}.NewRecover().Lease())
}

func TestTrialNeedsNoProbeBeforeIt(t *testing.T) {
	require.False(t, policy.Trial{}.AfterProbe())
}

func TestClassicDefaultsArePybreakers(t *testing.T) {
	rules := policy.Classic{}.Rules()

	trip := rules.Trip.NewTrip()
	for i := 1; i <= 5; i++ {
		require.Equal(t, i == 5, trip.Record(epoch, failure), "failure %d", i)
	}
	probe := rules.Probe.NewProbe()
	probe.Trip(epoch, failure, 0.9)
	require.Equal(t, time.Minute, probe.Due().Sub(epoch))
	probe.Fail(epoch, failure, 0.9)
	require.Equal(t, time.Minute, probe.Due().Sub(epoch))

	trial := rules.Recover.NewRecover()
	trial.Start(epoch, policy.Result{})
	require.Equal(t, 1, trial.Limit())
	require.Equal(t, policy.VerdictClose, trial.Record(epoch, 0, success))
}

func TestClassicPassesItsFieldsOn(t *testing.T) {
	want := policy.Rules{
		Trip:    policy.Consecutive{Failures: 2},
		Probe:   policy.OpenTime{For: 3 * time.Second},
		Recover: policy.Trial{Probes: 4, Successes: 5},

		SafeWait: 6 * time.Second,
	}
	require.Equal(t, want, policy.Classic{Failures: 2, OpenFor: 3 * time.Second, Probes: 4, Successes: 5, SafeWait: 6 * time.Second}.Rules())
	require.Equal(t, want, want.Rules())
}
