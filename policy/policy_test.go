package policy_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func TestStatesAsText(t *testing.T) {
	for state, text := range map[policy.State]string{
		policy.Closed: "closed", policy.Open: "open", policy.HalfOpen: "half-open",
	} {
		written, err := json.Marshal(map[string]policy.State{"state": state})
		require.NoError(t, err)
		require.Equal(t, `{"state":"`+text+`"}`, string(written))
		read := map[string]policy.State{}
		require.NoError(t, json.Unmarshal(written, &read))
		require.Equal(t, state, read["state"])
	}
}

func TestNoOtherTextIsAState(t *testing.T) {
	for _, text := range []string{"", "Closed", "OPEN", "half open", "halfopen", "invalid state", "0", " open"} {
		state := policy.HalfOpen
		require.ErrorContains(t, state.UnmarshalText([]byte(text)), "closed, open and half-open", "%q", text)
		require.Equal(t, policy.HalfOpen, state, "the state was changed by %q", text)
	}
	require.Equal(t, "invalid state", policy.State(3).String())
}

func TestOutcomesAsText(t *testing.T) {
	for outcome, text := range map[policy.Outcome]string{
		policy.Undecided: "undecided", policy.Success: "success", policy.Failure: "failure", policy.Ignored: "ignored",
		policy.Outcome(9): "invalid outcome",
	} {
		require.Equal(t, text, outcome.String())
	}
}

func TestCausesAsText(t *testing.T) {
	for text, cause := range map[string]policy.Cause{
		"ok":                        {},
		"status 503":                {Kind: policy.KindStatus, Status: 503},
		"connect: refused":          {Phase: policy.PhaseConnect, Kind: policy.KindRefused},
		"headers: timeout (client)": {Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineClient},
		"body: reset":               {Phase: policy.PhaseBody, Kind: policy.KindReset, Status: 200},
		"dns: host not found":       {Phase: policy.PhaseDNS, Kind: policy.KindNotFound},
		"tls: certificate":          {Phase: policy.PhaseTLS, Kind: policy.KindCertificate},
		"lease expired":             {Kind: policy.KindLease},
		"panic":                     {Kind: policy.KindPanic},
	} {
		require.Equal(t, text, cause.String())
	}
}

func TestEveryKindHasAnOutcome(t *testing.T) {
	want := map[policy.Kind]policy.Outcome{
		policy.KindNone:   policy.Success,
		policy.KindStatus: policy.Failure, policy.KindRefused: policy.Failure, policy.KindReset: policy.Failure, policy.KindTimeout: policy.Failure,
		policy.KindCertificate: policy.Failure, policy.KindNotFound: policy.Failure, policy.KindLease: policy.Failure,
		policy.KindJudged: policy.Failure, policy.KindOther: policy.Failure,
		policy.KindCanceled: policy.Ignored, policy.KindBadRequest: policy.Ignored, policy.KindLocal: policy.Ignored, policy.KindPanic: policy.Ignored,
	}
	for kind := policy.KindNone; kind <= policy.KindPanic; kind++ {
		require.Equal(t, want[kind], policy.Cause{Kind: kind}.Outcome(), "%v", kind)
	}
}

// A programmer's error panics with the field and what to write in it.
func TestSenselessParametersPanic(t *testing.T) {
	trip := func(r policy.TripRule) func() { return func() { r.NewTrip() } }
	probe := func(r policy.ProbeRule) func() { return func() { r.NewProbe() } }
	recover := func(r policy.RecoverRule) func() { return func() { r.NewRecover() } }
	cases := []struct {
		make    func()
		message string
	}{
		{trip(policy.Consecutive{Failures: -1}), "Consecutive.Failures is -1; write a positive value, or 0 for the default of 5"},
		{trip(policy.FailureShare{Percent: 101}), "FailureShare.Percent is 101; write a share from 1 to 100 %"},
		{trip(policy.FailureShare{Percent: -1}), "FailureShare.Percent is -1; write"},
		{trip(policy.FailureShare{Calls: -1}), "FailureShare.Calls is -1; write"},
		{trip(policy.FailureShare{Minimum: -1}), "FailureShare.Minimum is -1; write"},
		{trip(policy.FailureShare{Window: -time.Second}), "FailureShare.Window is -1s; write"},
		{trip(policy.FailureShare{Calls: 5, Minimum: 6}), "FailureShare.Minimum is 6 but only the last 5 calls are in view; write a larger Calls"},
		{trip(policy.FailureShare{Calls: 5, Window: 1}), "FailureShare has both Calls and Window; write one of them"},
		{trip(policy.SlowShare{}), "SlowShare.Slower is 0s; write how long a good call may take"},
		{trip(policy.SlowShare{Slower: -1}), "SlowShare.Slower is -1ns; write"},
		{trip(policy.SlowShare{Slower: 1, Percent: 101}), "SlowShare.Percent is 101; write"},
		{trip(policy.SlowShare{Slower: 1, Calls: 5, Window: 1}), "SlowShare has both Calls and Window"},
		{trip(policy.AnyOf(policy.Consecutive{}, policy.Consecutive{Failures: -2})), "Consecutive.Failures is -2"},
		{func() { policy.AnyOf() }, "AnyOf got no rules; write at least one"},
		{probe(policy.OpenTime{For: -time.Second}), "OpenTime.For is -1s; write a positive value, or 0 for the default of 1m0s"},
		{probe(policy.OpenTime{Factor: -1}), "OpenTime.Factor is -1; write"},
		{probe(policy.OpenTime{Max: -1}), "OpenTime.Max is -1ns; write"},
		{probe(policy.OpenTime{For: time.Minute, Max: time.Second}), "OpenTime.Max is 1s and For is 1m0s; write a Max that is not less"},
		{probe(policy.OpenTime{Max: time.Second}), "OpenTime.Max is 1s and For is 1m0s"},
		{probe(policy.OpenTime{JitterPercent: 101}), "OpenTime.JitterPercent is 101; write"},
		{probe(policy.OpenTime{JitterPercent: -1}), "OpenTime.JitterPercent is -1; write"},
		{probe(policy.OpenTime{RetryAfterMax: -1}), "OpenTime.RetryAfterMax is -1ns; write"},
		{probe(policy.OpenTime{Lease: -1}), "OpenTime.Lease is -1ns; write"},
		{recover(policy.Trial{Probes: -1}), "Trial.Probes is -1; write a positive value, or 0 for the default of 1"},
		{recover(policy.Trial{Successes: -1}), "Trial.Successes is -1; write"},
		{recover(policy.Trial{Lease: -1}), "Trial.Lease is -1ns; write"},
		{func() { policy.Adaptive{SafeWait: -time.Second}.Rules().Validated() }, "Rules.SafeWait is -1s; write a positive value, or 0 for the default of 1m0s"},
		{func() { policy.Classic{SafeWait: -1}.Rules().Validated() }, "Rules.SafeWait is -1ns; write"},
		{func() { policy.Rules{Limits: policy.Limits{InFlight: -1}}.Validated() }, "Limits.InFlight is -1; write"},
		{func() { policy.Rules{Hold: &policy.Hold{InFlight: -1}}.Validated() }, "Hold.InFlight is -1; write"},
		{func() { policy.FirstOf(policy.DefaultClassifier, nil) }, "a classifier is nil; leave it out"},
		{func() { policy.When(policy.Failure, nil) }, "When got a nil function; write"},
		{func() { policy.When(policy.Undecided, isAlways) }, "outcome is undecided; write Success, Failure or Ignored"},
		{func() { policy.OnStatus(policy.Outcome(9), 500) }, "outcome is invalid outcome; write"},
		{func() { policy.OnSlow(0) }, "OnSlow's limit is 0s; write"},
		{func() { policy.OnBody(0, alwaysFails) }, "OnBody got n 0"},
		{func() { policy.OnBody(1, nil) }, "OnBody got n 1 and a judge that is nil: true"},
		{func() { policy.AtEnd(-1, policy.DefaultClassifier) }, "AtEnd got tail -1"},
		{func() { policy.AtEnd(0, nil) }, "AtEnd got tail 0 and a judge that is nil: true"},
	}
	for _, c := range cases {
		t.Run(c.message, func(t *testing.T) {
			require.Contains(t, messageOfPanic(t, c.make), c.message)
		})
	}
}

// There is no window that is the default: 0 means a view in calls.
func TestPanicOverAWindowOffersNoDefaultWindow(t *testing.T) {
	message := messageOfPanic(t, func() { policy.FailureShare{Window: -1}.NewTrip() })
	require.NotContains(t, message, "the default of 1s")
}

func TestAnyOfPanicsOverANilRule(t *testing.T) {
	message := messageOfPanic(t, func() { policy.AnyOf(policy.Consecutive{}, nil).NewTrip() })
	require.Contains(t, message, "AnyOf")
}

func messageOfPanic(t *testing.T, do func()) (message string) {
	t.Helper()
	defer func() {
		err, ok := recover().(error)
		require.True(t, ok, "no panic with an error")
		message = err.Error()
	}()
	do()
	return ""
}

func isAlways(*policy.Call) bool { return true }
