package statemachine

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// Every kind of rule, with small values, so that a short program of operations gets to all that they do.
var (
	tripRules = []policy.TripRule{
		policy.Consecutive{Failures: 2},
		policy.Evidence{},
		policy.Evidence{Threshold: 2, Worth: 1},
		policy.FailureShare{Calls: 4, Percent: 50, Minimum: 2},
		policy.FailureShare{Window: 10 * time.Second, Percent: 30, Minimum: 3},
		policy.FailureShare{Window: 1, Minimum: 1},
		policy.SlowShare{Slower: time.Second, Calls: 3, Minimum: 2},
		policy.AnyOf(policy.SlowShare{Slower: 20 * time.Millisecond, Window: time.Minute, Minimum: 4}, policy.Consecutive{Failures: 3}),
	}
	probeRules = []policy.ProbeRule{
		policy.OpenTime{For: 10 * time.Second},
		policy.OpenTime{For: time.Second, Factor: 3, Max: time.Minute, JitterPercent: 100, Lease: 2 * time.Second},
		policy.OpenTime{For: 1, Lease: 1, RetryAfterMax: 1},
		policy.Squares{},
		policy.Squares{Spacing: 3, Wait: 2 * time.Second, Lease: 10 * time.Second},
		policy.Squares{Spacing: 0.01, Wait: 1, Lease: 1},
		policy.OpenTime{For: math.MaxInt64, Lease: math.MaxInt64},
		policy.Squares{Wait: math.MaxInt64, Lease: math.MaxInt64, RetryAfterMax: math.MaxInt64},
	}
	recoverRules = []policy.RecoverRule{
		policy.Trial{},
		policy.Trial{Probes: 3, Successes: 5, Lease: 2 * time.Second},
		policy.Trial{Probes: 2, Successes: 1, Lease: 1},
		afterProbe{policy.Trial{Probes: 2, Lease: 10 * time.Second}},
		policy.Ramp{},
		policy.Ramp{Reopen: 1, Worth: 1, Health: 2, Lease: 2 * time.Second},
		policy.Ramp{Reopen: 5, Health: 1, Lease: 1},
		afterProbe{policy.Trial{Lease: math.MaxInt64}},
	}
	elapsedTimes = []time.Duration{0, 1, time.Millisecond, 3 * time.Millisecond, 7 * time.Millisecond, time.Second, time.Minute, -time.Second, math.MaxInt64, math.MinInt64}
	retryAfters  = []time.Duration{0, 0, 0, 0, 1, time.Second, time.Minute, -time.Hour, math.MaxInt64, math.MinInt64}
)

func someRules(trip, probe, recovery byte) policy.Rules {
	return policy.Rules{
		Trip:    tripRules[int(trip)%len(tripRules)],
		Probe:   probeRules[int(probe)%len(probeRules)],
		Recover: recoverRules[int(recovery)%len(recoverRules)],

		SafeWait: []time.Duration{time.Minute, 1, 3 * time.Second, math.MaxInt64}[int(trip)%4],
	}
}

// someNumbers is a source that gives the same numbers each time it is made.
func someNumbers() func() float64 {
	n := 0.
	return func() float64 {
		n++
		return math.Mod(n*math.Phi, 1)
	}
}

func modelOf(rules policy.Rules) *modelRules {
	return &modelRules{
		trip: rules.Trip.NewTrip, probe: rules.Probe.NewProbe, recover: rules.Recover.NewRecover, probeFirst: rules.Recover.AfterProbe(), safeWait: rules.SafeWait,
	}
}

// newRulesDuel is a duel over policies of all kinds, and Configure takes those that stand beside them. Circuit and model
// have rules of package policy, but each its own memory of them: they differ if one of them asks too often, too seldom, at
// another time or with another result.
func newRulesDuel(trip, probe, recovery byte, fail func(string, ...any)) *duel {
	l, random := &listener{}, someNumbers()
	var configs []config
	for i := range byte(3) {
		rules := someRules(trip+i, probe+i, recovery+3*i)
		configs = append(configs, config{&Config{Rules: rules, Random: random}, modelOf(rules)})
	}
	return &duel{
		fail: fail, model: newModel(configs[0].model, someNumbers()), listener: l, now: epoch, configs: configs,
		circuit: New(configs[0].circuit, l, nil),
		more: func(r policy.Result, arg byte) policy.Result {
			r.Elapsed = elapsedTimes[int(arg)%len(elapsedTimes)]
			if r.Outcome == policy.Failure {
				r.RetryAfter = retryAfters[int(arg)/8%len(retryAfters)]
				r.Trace = []string{"", "a", "b"}[int(arg)%3]
			}
			if r.Cause.Status%16 == 15 {
				r.Cause = policy.Cause{Kind: policy.KindTimeout} // an upstream that has not answered
			}
			if r.Outcome == policy.Ignored && arg%2 == 0 {
				r.Cause = policy.Cause{Kind: policy.KindCanceled}
			}
			return r
		},
	}
}

func run(d *duel, program []byte) {
	for ; len(program) >= 2; program = program[2:] {
		d.step(operation{program[0], program[1]})
	}
	d.end()
}

// FuzzCircuit is of the policies of the textbook, which the model knows by heart.
func FuzzCircuit(f *testing.F) {
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 0 {
			run(newDuel(program[0], t.Fatalf), program[1:])
		}
	})
}

// FuzzPolicies is of all others, and of all mixtures.
func FuzzPolicies(f *testing.F) {
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) > 2 {
			run(newRulesDuel(program[0], program[1], program[2], t.Fatalf), program[3:])
		}
	})
}

func TestTheCircuitDoesWhatItsModelDoesByAllPolicies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 400).Draw(t, "n")
		program := rapid.SliceOfN(rapid.Byte(), 3+2*n, 3+2*n).Draw(t, "program")
		run(newRulesDuel(program[0], program[1], program[2], t.Fatalf), program[3:])
	})
}
