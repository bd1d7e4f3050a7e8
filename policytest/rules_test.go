package policytest_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/policytest"
)

func TestTripRulesOfPolicyKeepItsContract(t *testing.T) {
	for _, rule := range []policy.TripRule{
		policy.Consecutive{}, policy.Consecutive{Failures: 1}, policy.Consecutive{Failures: math.MaxInt},
		policy.Evidence{}, policy.Evidence{Threshold: 1, Worth: 1}, policy.Evidence{Threshold: math.MaxInt, Worth: math.MaxInt}, policy.Evidence{Threshold: math.MaxInt / 2},
		policy.FailureShare{}, policy.FailureShare{Calls: 1}, policy.FailureShare{Window: time.Second},
		policy.FailureShare{Window: 1, Percent: 100, Minimum: 1}, policy.FailureShare{Window: math.MaxInt64, Percent: 1},
		policy.SlowShare{Slower: time.Second}, policy.SlowShare{Slower: 1, Window: 10 * time.Second, Minimum: 2},
		policy.AnyOf(policy.Consecutive{}, policy.SlowShare{Slower: time.Second}), policy.AnyOf(policy.Evidence{}, policy.FailureShare{}),
	} {
		t.Run(fmt.Sprintf("%T%+v", rule, rule), func(t *testing.T) { policytest.TestTrip(t, rule) })
	}
	policytest.TestTrip(t, policy.Evidence{}, policy.Evidence{Threshold: -1}, policy.Consecutive{Failures: -1},
		policy.FailureShare{Percent: 101}, policy.SlowShare{}, policy.AnyOf(policy.Evidence{Worth: -1}))
}

func TestProbeRulesOfPolicyKeepItsContract(t *testing.T) {
	for _, rule := range []policy.ProbeRule{
		policy.OpenTime{}, policy.OpenTime{For: 1, Lease: 1}, policy.OpenTime{For: time.Second, Factor: 2, JitterPercent: 100},
		policy.OpenTime{Factor: math.MaxInt, Max: 50 * 365 * 24 * time.Hour, RetryAfterMax: time.Second},
		policy.Squares{}, policy.Squares{Spacing: 0.5, Wait: 1}, policy.Squares{Spacing: 1e300},
		policy.Squares{Spacing: 7.3, Wait: time.Minute, MaxGap: time.Second}, policy.Squares{Spacing: 0.01, RetryAfterMax: 1, MaxGap: time.Hour},
	} {
		t.Run(fmt.Sprintf("%T%+v", rule, rule), func(t *testing.T) { policytest.TestProbe(t, rule) })
	}
	policytest.TestProbe(t, policy.Squares{}, policy.Squares{Wait: -1}, policy.Squares{Spacing: math.NaN()}, policy.OpenTime{For: -1},
		policy.OpenTime{For: 2, Max: 1}, policy.OpenTime{JitterPercent: 101})
}

func TestRecoverRulesOfPolicyKeepItsContract(t *testing.T) {
	for _, rule := range []policy.RecoverRule{
		policy.Trial{}, policy.Trial{Probes: 3}, policy.Trial{Probes: 2, Successes: 10}, policy.Trial{Probes: 10, Successes: 2},
		policy.Trial{Probes: 1000, Lease: 1},
		policy.Ramp{}, policy.Ramp{Reopen: 1, Worth: 1, Health: 1}, policy.Ramp{Reopen: 10, Worth: 1, Health: 100},
		policy.Ramp{Worth: math.MaxInt, Lease: math.MaxInt64}, policy.Ramp{Worth: math.MaxInt, Health: math.MaxInt},
	} {
		t.Run(fmt.Sprintf("%T%+v", rule, rule), func(t *testing.T) { policytest.TestRecover(t, rule) })
	}
	policytest.TestRecover(t, policy.Ramp{}, policy.Ramp{Reopen: -1}, policy.Ramp{Lease: -1}, policy.Trial{Probes: -1}, policy.Trial{Successes: -1})
}

func TestPoliciesOfPolicyKeepItsContract(t *testing.T) {
	for _, p := range []policy.Policy{policy.Adaptive{}, policy.Classic{}, policy.Classic{Failures: 3, OpenFor: time.Second, Probes: 3}} {
		t.Run(fmt.Sprintf("%T", p), func(t *testing.T) { policytest.TestPolicy(t, p) })
	}
}

func TestTheRuleOfTheExampleKeepsTheContract(t *testing.T) {
	policytest.TestProbe(t, Every(10), Every(0), Every(-1))
}
