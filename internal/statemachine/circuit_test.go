package statemachine

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// afterProbe is policy.Trial for a circuit that stays open until a probe succeeds.
type afterProbe struct{ policy.Trial }

func (afterProbe) AfterProbe() bool { return true }

var (
	// classic trips at two failures, waits for 10 s, and closes by two successes.
	classic = policy.Classic{Failures: 2, OpenFor: 10 * time.Second, Probes: 2}.Rules()
	// probing is the same, but a probe must succeed first, and it has a lease of 2 s.
	probing = policy.Rules{
		Trip:    policy.Consecutive{Failures: 2},
		Probe:   policy.OpenTime{For: 10 * time.Second, Lease: 2 * time.Second},
		Recover: afterProbe{policy.Trial{Probes: 2}},
	}
)

// told is an Observer that writes down.
type told struct {
	changes  []Change
	refusals []Refusal
	lines    []string
}

func (o *told) Changed(c Change) {
	o.changes = append(o.changes, c)
	o.lines = append(o.lines, fmt.Sprintf("%v→%v %s", c.From, c.To, c.Reason))
}

func (o *told) Refused(r Refusal) {
	o.refusals = append(o.refusals, r)
	o.lines = append(o.lines, "refused, "+r.State.String())
}

// rig is a circuit with its permits by name.
type rig struct {
	*Circuit
	told    *told
	permits map[string]Permit
}

func newRig(rules policy.Rules) *rig {
	o := &told{}
	return &rig{New(&Config{Rules: rules, Random: func() float64 { return 0 }}, o, nil), o, map[string]Permit{}}
}

var statusOf = policy.Cause{Kind: policy.KindStatus, Status: 500}

// do carries out one operation and returns what came of it and the state after it.
func (r *rig) do(at time.Duration, operation string) string {
	now := epoch.Add(at)
	words := strings.Fields(operation + " - -")
	permit := r.permits[words[1]]
	came := ""
	switch words[0] {
	case "ask", "noprobe":
		good := ToProbe
		if words[0] == "noprobe" {
			good = NotToProbe
		}
		p, refusal := r.Acquire(now, time.Time{}, good)
		r.permits[words[1]] = p
		switch {
		case refusal.Gone:
			came = "gone"
		case p.Probing():
			came = "probe"
		case p.Granted():
			came = "granted"
		case refusal.Due.After(now):
			came = fmt.Sprintf("refused for %v", refusal.Due.Sub(now))
		default:
			came = "refused"
		}
	case "quick":
		came = "no"
		if p, ok := r.AcquireClosed(); ok {
			r.permits[words[1]], came = p, "granted"
		}
	case "ok":
		came = done(permit.Done(now, policy.Result{Outcome: policy.Success}))
	case "fail":
		came = done(permit.Done(now, policy.Result{Outcome: policy.Failure, Cause: statusOf}))
	case "ignore":
		came = done(permit.Done(now, policy.Result{Outcome: policy.Ignored, Cause: policy.Cause{Kind: policy.KindCanceled}}))
	case "headers":
		permit.Headers(now, 0)
	case "look":
		s := lookAt(r, now)
		came = fmt.Sprintf("%d failed %d ok, %d of %d", s.Failures, s.Successes, s.InFlight, s.Limit)
	case "set":
		var to policy.State
		if err := to.UnmarshalText([]byte(words[1])); err != nil {
			panic(err)
		}
		if r.Set(to, now) {
			came = "gone"
		}
	case "restore":
		due, _ := time.ParseDuration(words[1])
		r.Restore(now, epoch.Add(due), time.Time{}, true)
	case "forget":
		spare := map[string]Spare{"unknown": Unknown, "quiet": Quiet, "any": AnyClosed, "idle": Idle}[words[1]]
		idle, _ := time.ParseDuration(words[2])
		came = fmt.Sprint(r.Forget(now, spare, idle))
	case "return":
		permit.Return(now)
	case "refuse":
		came = r.Refuse(now, policy.RefusedLimit).Reason.String()
	case "force":
		var to policy.State
		if err := to.UnmarshalText([]byte(words[1])); err != nil {
			panic(err)
		}
		if r.Force(to, now) {
			came = "gone"
		}
	case "release":
		r.Release(now)
	case "reset":
		if !r.Reset(now) {
			came = "no"
		}
	case "hasten":
		r.Hasten()
	default:
		panic(operation)
	}
	return strings.TrimPrefix(came+", ", ", ") + r.machine.state.String()
}

func done(opened, gone bool) string {
	switch {
	case opened:
		return "opened"
	case gone:
		return "gone"
	}
	return ""
}

type step struct {
	at        time.Duration
	operation string
	want      string
}

func (r *rig) run(t *testing.T, steps ...step) {
	t.Helper()
	for i, step := range steps {
		require.Equal(t, step.want, r.do(step.at, step.operation), "step %d: %v %s", i, step.at, step.operation)
	}
}

func TestTheWayOfACircuit(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	// tripped is a circuit opened at 0 by two failures, of calls a and b; c is still out.
	tripped := []step{
		{0, "ask a", "granted, closed"},
		{0, "quick b", "granted, closed"},
		{0, "quick c", "granted, closed"},
		{0, "fail a", "closed"},
		{0, "fail b", "opened, open"},
	}
	after := func(first []step, then ...step) []step { return append(first[:len(first):len(first)], then...) }
	// halved is a half-open circuit with one probe, p, in flight of two.
	halved := after(tripped, step{10 * s, "ask p", "probe, half-open"})
	// halfOpenAfterProbe is a half-open circuit of the policy probing, nothing in flight.
	probed := after(tripped, step{10 * s, "ask p", "probe, open"})
	halfOpenAfterProbe := after(probed, step{11 * s, "ok p", "half-open"})

	cases := []struct {
		name   string
		rules  policy.Rules
		steps  []step
		events []string // but for the first change and refusals
		counts Counts
	}{
		{"a trip", classic, after(tripped,
			step{0, "quick d", "no, open"},
			step{s, "ask d", "refused for 9s, open"},
			step{10*s - 1, "ask d", "refused for 1ns, open"},
		), nil, Counts{Failures: 2, Refusals: 2, Trips: 1}},
		{"successes between failures", classic, []step{
			{0, "ask a", "granted, closed"}, {0, "ask b", "granted, closed"}, {0, "ask c", "granted, closed"}, {0, "ask d", "granted, closed"},
			{0, "fail a", "closed"}, {0, "look", "1 failed 0 ok, 0 of 0, closed"},
			{0, "ok b", "closed"}, {0, "look", "0 failed 0 ok, 0 of 0, closed"},
			{0, "fail c", "closed"}, {0, "ignore d", "closed"}, {0, "look", "1 failed 0 ok, 0 of 0, closed"},
		}, nil, Counts{Failures: 2, Ignored: 1}},

		{"a recovery", classic, after(halved,
			step{10 * s, "ask q", "probe, half-open"},
			step{10 * s, "look", "0 failed 0 ok, 2 of 2, half-open"},
			step{10 * s, "ask r", "refused, half-open"},
			step{11 * s, "ok p", "half-open"},
			step{11 * s, "look", "0 failed 1 ok, 1 of 1, half-open"},
			step{11 * s, "ask r", "refused, half-open"},
			step{12 * s, "ok q", "closed"},
			step{12 * s, "look", "0 failed 0 ok, 0 of 0, closed"},
			step{12 * s, "quick r", "granted, closed"},
		), []string{"open→half-open open time passed", "half-open→closed recovered"}, Counts{Failures: 2, Refusals: 2, Trips: 1, Probes: 2}},
		{"a recovery that fails", classic, after(halved,
			step{10 * s, "ask q", "probe, half-open"},
			step{11 * s, "fail p", "opened, open"},
			step{11 * s, "ask r", "refused for 10s, open"},
			step{12 * s, "ok q", "open"},
			step{21 * s, "ask r", "probe, half-open"},
		), []string{"open→half-open open time passed", "half-open→open recovery failed", "open→half-open open time passed"},
			Counts{Failures: 3, Refusals: 1, Trips: 1, Probes: 3, LateCalls: 1}},
		{"a recovery of a circuit that probes first", probing, after(halfOpenAfterProbe,
			step{11 * s, "look", "0 failed 0 ok, 0 of 2, half-open"},
			step{11 * s, "ask q", "probe, half-open"},
			step{11 * s, "ask r", "probe, half-open"},
			step{11 * s, "ask s", "refused, half-open"},
			step{12 * s, "ok q", "half-open"},
			step{12 * s, "ok r", "closed"},
		), []string{"open→half-open probe succeeded", "half-open→closed recovered"}, Counts{Failures: 2, Refusals: 1, Trips: 1, Probes: 3}},
		{"a probe that fails starts the wait again", probing, after(probed,
			step{11 * s, "fail p", "open"},
			step{11 * s, "look", "0 failed 0 ok, 0 of 1, open"},
			step{12 * s, "ask q", "refused for 9s, open"},
			step{21 * s, "ask q", "probe, open"},
		), nil, Counts{Failures: 3, Refusals: 1, Trips: 1, Probes: 2}},

		{"outcomes of before the trip change nothing", classic, after(tripped,
			step{0, "ask d", "refused for 10s, open"},
			step{0, "ok c", "open"},
		), nil, Counts{Failures: 2, Refusals: 1, Trips: 1, LateCalls: 1}},
		{"nor do they decide a recovery", classic, after(halved, step{10 * s, "fail c", "half-open"}, step{10 * s, "look", "0 failed 0 ok, 1 of 2, half-open"}),
			[]string{"open→half-open open time passed"}, Counts{Failures: 3, Trips: 1, Probes: 1, LateCalls: 1}},
		{"nor successes", classic, after(halved, step{10 * s, "ok c", "half-open"}, step{10 * s, "look", "0 failed 0 ok, 1 of 2, half-open"}),
			[]string{"open→half-open open time passed"}, Counts{Failures: 2, Trips: 1, Probes: 1, LateCalls: 1}},
		{"nor do they touch a circuit that closed again", classic, after(halved,
			step{10 * s, "ask q", "probe, half-open"}, step{10 * s, "ok p", "half-open"}, step{10 * s, "ok q", "closed"},
			step{10 * s, "fail c", "closed"}, step{10 * s, "look", "0 failed 0 ok, 0 of 0, closed"},
		), []string{"open→half-open open time passed", "half-open→closed recovered"}, Counts{Failures: 3, Trips: 1, Probes: 2, LateCalls: 1}},
		{"the probe of an older generation does not close", probing, after(probed,
			step{11 * s, "set open", "open"}, step{12 * s, "ok p", "open"},
		), []string{"open→open by hand"}, Counts{Failures: 2, Trips: 2, Probes: 1, LateCalls: 1}},

		{"Ignored gives its place back at once, half-open", classic, after(halved,
			step{10 * s, "ask q", "probe, half-open"},
			step{10 * s, "ask r", "refused, half-open"},
			step{10 * s, "ignore q", "half-open"},
			step{10 * s, "look", "0 failed 0 ok, 1 of 2, half-open"},
			step{10 * s, "ask r", "probe, half-open"},
		), []string{"open→half-open open time passed"}, Counts{Failures: 2, Ignored: 1, Refusals: 1, Trips: 1, Probes: 3}},
		{"Ignored lets the next probe go, open", probing, after(probed,
			step{10 * s, "ask q", "refused, open"},
			step{10 * s, "ignore p", "open"},
			step{10 * s, "ask q", "probe, open"},
		), nil, Counts{Failures: 2, Ignored: 1, Refusals: 1, Trips: 1, Probes: 2}},

		{"one probe at a time while open", probing, after(probed,
			step{10 * s, "look", "0 failed 0 ok, 1 of 1, open"},
			step{10 * s, "ask q", "refused, open"},
			step{12*s - 1, "ask q", "refused, open"},
		), nil, Counts{Failures: 2, Refusals: 2, Trips: 1, Probes: 1}},
		{"the lease of a probe ends, and that is a failure", probing, after(probed,
			step{12 * s, "ask q", "refused for 10s, open"},
			step{12 * s, "look", "0 failed 0 ok, 0 of 1, open"},
			step{22 * s, "ask q", "probe, open"},
			step{22 * s, "ask r", "refused, open"},
		), nil, Counts{Failures: 2, Refusals: 2, Trips: 1, Probes: 2}},
		{"its success is still welcome later", probing, after(probed,
			step{12 * s, "ask q", "refused for 10s, open"}, step{13 * s, "ok p", "half-open"},
		), []string{"open→half-open probe succeeded"}, Counts{Failures: 2, Refusals: 1, Trips: 1, Probes: 1}},
		{"and ends the probe that went meanwhile", probing, after(probed,
			step{12 * s, "look", "0 failed 0 ok, 0 of 1, open"},
			step{22 * s, "ask q", "probe, open"}, step{23 * s, "ok p", "half-open"},
			step{23 * s, "look", "0 failed 0 ok, 0 of 2, half-open"},
			step{23 * s, "fail q", "half-open"}, step{23 * s, "look", "0 failed 0 ok, 0 of 2, half-open"},
		), []string{"open→half-open probe succeeded"}, Counts{Failures: 3, Trips: 1, Probes: 2, LateCalls: 1}},
		{"its failure is not counted twice", probing, after(probed,
			step{12 * s, "ask q", "refused for 10s, open"}, step{13 * s, "fail p", "open"}, step{22 * s, "ask q", "probe, open"},
		), nil, Counts{Failures: 3, Refusals: 1, Trips: 1, Probes: 2, LateCalls: 1}},
		{"a lease that ends unnoticed is none", probing, after(probed, step{15 * s, "ok p", "half-open"}),
			[]string{"open→half-open probe succeeded"}, Counts{Failures: 2, Trips: 1, Probes: 1}},

		{"the lease of a half-open call ends, and that is a failure", classic, after(halved,
			step{70*s - 1, "look", "0 failed 0 ok, 1 of 2, half-open"},
			step{70 * s, "look", "0 failed 0 ok, 0 of 1, open"},
			step{71 * s, "ask r", "refused for 9s, open"},
			step{71 * s, "fail p", "open"},
		), []string{"open→half-open open time passed", "half-open→open recovery failed"}, Counts{Failures: 3, Refusals: 1, Trips: 1, Probes: 1, LateCalls: 1}},
		{"but a success that comes later says that the upstream lives", classic, after(halved,
			step{70 * s, "ask r", "refused for 10s, open"},
			step{71 * s, "ok p", "half-open"},
			step{71 * s, "look", "0 failed 1 ok, 0 of 1, half-open"},
		), []string{"open→half-open open time passed", "half-open→open recovery failed", "open→half-open probe succeeded"}, Counts{Failures: 2, Refusals: 1, Trips: 1, Probes: 1}},

		{"headers settle a probe after 1 s", probing, after(probed,
			step{10 * s, "headers p", "open"},
			step{11*s - 1, "ask q", "refused, open"},
			step{11 * s, "ask q", "probe, half-open"},
		), []string{"open→half-open probe succeeded"}, Counts{Failures: 2, Refusals: 1, Trips: 1, Probes: 2}},
		{"not later than its lease", probing, after(probed,
			step{11*s + 500*ms, "headers p", "open"},
			step{12*s - 1, "ask q", "refused, open"},
			step{12 * s, "look", "0 failed 0 ok, 0 of 2, half-open"},
		), []string{"open→half-open probe succeeded"}, Counts{Failures: 2, Refusals: 1, Trips: 1, Probes: 1}},
		{"headers settle a half-open call after 1 s", classic, after(halved,
			step{11 * s, "headers p", "half-open"},
			step{12*s - 1, "look", "0 failed 0 ok, 1 of 2, half-open"},
			step{12 * s, "look", "0 failed 1 ok, 0 of 1, half-open"},
			step{13 * s, "ok p", "half-open"},
			step{13 * s, "look", "0 failed 1 ok, 0 of 1, half-open"},
		), []string{"open→half-open open time passed"}, Counts{Failures: 2, Trips: 1, Probes: 1, LateCalls: 1}},
		{"a body that ends before is the call's success", classic, after(halved,
			step{11 * s, "headers p", "half-open"}, step{11 * s, "ok p", "half-open"},
			step{13 * s, "look", "0 failed 1 ok, 0 of 1, half-open"},
		), []string{"open→half-open open time passed"}, Counts{Failures: 2, Trips: 1, Probes: 1}},
		{"a body that breaks before is the call's failure", classic, after(halved,
			step{11 * s, "headers p", "half-open"}, step{11 * s, "fail p", "opened, open"},
		), []string{"open→half-open open time passed", "half-open→open recovery failed"}, Counts{Failures: 3, Trips: 1, Probes: 1}},
		{"a break later is one failure, half-open", classic, after(halved,
			step{11 * s, "headers p", "half-open"},
			step{12 * s, "look", "0 failed 1 ok, 0 of 1, half-open"},
			step{13 * s, "fail p", "opened, open"},
		), []string{"open→half-open open time passed", "half-open→open recovery failed"}, Counts{Failures: 3, Trips: 1, Probes: 1}},
		{"a break later is one failure, closed", classic, after(halved,
			step{10 * s, "headers p", "half-open"}, step{10 * s, "ask q", "probe, half-open"}, step{10 * s, "ok q", "half-open"},
			step{11 * s, "look", "0 failed 0 ok, 0 of 0, closed"},
			step{12 * s, "fail p", "closed"},
			step{12 * s, "look", "1 failed 0 ok, 0 of 0, closed"},
		), []string{"open→half-open open time passed", "half-open→closed recovered"}, Counts{Failures: 3, Trips: 1, Probes: 2}},
		{"and can be the one that trips", classic, after(halved,
			step{10 * s, "headers p", "half-open"}, step{10 * s, "ask q", "probe, half-open"}, step{10 * s, "ok q", "half-open"},
			step{11 * s, "ask d", "granted, closed"}, step{11 * s, "fail d", "closed"},
			step{12 * s, "fail p", "opened, open"},
		), []string{"open→half-open open time passed", "half-open→closed recovered", "closed→open tripped"}, Counts{Failures: 4, Trips: 2, Probes: 2}},
		{"a success later is not counted twice", classic, after(halved,
			step{10 * s, "headers p", "half-open"}, step{11 * s, "look", "0 failed 1 ok, 0 of 1, half-open"}, step{12 * s, "ok p", "half-open"},
		), []string{"open→half-open open time passed"}, Counts{Failures: 2, Trips: 1, Probes: 1, LateCalls: 1}},
		{"headers of an older generation change nothing", classic, after(halved,
			step{11 * s, "set half-open", "half-open"}, step{11 * s, "headers p", "half-open"},
			step{13 * s, "look", "0 failed 0 ok, 0 of 2, half-open"},
		), []string{"open→half-open open time passed", "half-open→half-open by hand"}, Counts{Failures: 2, Trips: 1, Probes: 1}},
		{"headers of a call of a closed circuit mean nothing", classic, []step{
			{0, "ask a", "granted, closed"}, {0, "headers a", "closed"}, {5 * s, "look", "0 failed 0 ok, 0 of 0, closed"}, {5 * s, "fail a", "closed"},
			{5 * s, "look", "1 failed 0 ok, 0 of 0, closed"},
		}, nil, Counts{Failures: 1}},

		{"set open by hand", classic, []step{
			{0, "ask a", "granted, closed"}, {0, "set open", "open"}, {s, "ask b", "refused for 9s, open"}, {s, "fail a", "open"},
			{10 * s, "ask b", "probe, half-open"},
		}, []string{"open→half-open open time passed"}, Counts{Failures: 1, Refusals: 1, Trips: 1, Probes: 1, LateCalls: 1}},
		{"set open by hand again starts the wait again", classic, []step{
			{0, "set open", "open"}, {5 * s, "set open", "open"}, {5 * s, "ask a", "refused for 10s, open"},
		}, []string{"open→open by hand"}, Counts{Refusals: 1, Trips: 2}},
		{"set half-open by hand", classic, []step{
			{0, "set half-open", "half-open"}, {0, "ask a", "probe, half-open"}, {0, "ask b", "probe, half-open"}, {0, "ask c", "refused, half-open"},
			{0, "ok a", "half-open"}, {0, "ok b", "closed"},
		}, []string{"half-open→closed recovered"}, Counts{Refusals: 1, Probes: 2}},
		{"set half-open by hand, and it fails", classic, []step{
			{0, "set half-open", "half-open"}, {0, "ask a", "probe, half-open"}, {s, "fail a", "opened, open"}, {s, "ask b", "refused for 10s, open"},
		}, []string{"half-open→open recovery failed"}, Counts{Failures: 1, Refusals: 1, Probes: 1}},
		{"set closed by hand", classic, after(halved,
			step{10 * s, "set closed", "closed"}, step{10 * s, "fail p", "closed"}, step{10 * s, "look", "0 failed 0 ok, 0 of 0, closed"},
		), []string{"open→half-open open time passed", "half-open→closed by hand"}, Counts{Failures: 3, Trips: 1, Probes: 1, LateCalls: 1}},
		{"set closed by hand forgets the failures in view", classic, []step{
			{0, "ask a", "granted, closed"}, {0, "fail a", "closed"}, {0, "set closed", "closed"}, {0, "look", "0 failed 0 ok, 0 of 0, closed"},
		}, nil, Counts{Failures: 1}},

		{"restored", classic, []step{{0, "restore 4s", "open"}, {s, "ask a", "refused for 3s, open"}, {4 * s, "ask a", "probe, half-open"}},
			[]string{"open→half-open open time passed"}, Counts{Refusals: 1, Probes: 1}},
		{"restored when due already", classic, []step{{0, "restore -4s", "open"}, {0, "ask a", "probe, half-open"}},
			[]string{"open→half-open open time passed"}, Counts{Probes: 1}},
		{"restored with failures in view but no change", classic, []step{{0, "ask a", "granted, closed"}, {0, "fail a", "closed"}, {0, "restore 4s", "open"}},
			nil, Counts{Failures: 1}},
		{"not restored after a change", classic, []step{{0, "set closed", "closed"}, {0, "restore 4s", "closed"}}, nil, Counts{}},
		{"not restored while open", classic, after(tripped, step{0, "restore 4s", "open"}, step{0, "ask d", "refused for 10s, open"}),
			nil, Counts{Failures: 2, Refusals: 1, Trips: 1}},

		{"time runs backwards", classic, after(tripped,
			step{-5 * s, "ask d", "refused for 15s, open"},
			step{10 * s, "ask p", "probe, half-open"},
			step{-time.Hour, "look", "0 failed 0 ok, 1 of 2, half-open"},
			step{-time.Hour, "ask q", "probe, half-open"},
			step{-time.Hour + 59*s, "ok p", "half-open"},
			step{-time.Hour + 59*s, "ok q", "closed"},
		), []string{"open→half-open open time passed", "half-open→closed recovered"}, Counts{Failures: 2, Refusals: 1, Trips: 1, Probes: 2}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(c.rules)
			r.run(t, c.steps...)
			var events []string
			for _, line := range r.told.lines {
				if !strings.HasPrefix(line, "refused") {
					events = append(events, line)
				}
			}
			if len(events) > 0 {
				events = events[1:]
			}
			require.ElementsMatch(t, c.events, events)
			require.Equal(t, len(c.events), len(events))
			for i := range c.events {
				require.Equal(t, c.events[i], events[i])
			}
			require.Equal(t, c.counts, r.machine.counts)
			require.Equal(t, int(c.counts.Refusals), len(r.told.refusals))
		})
	}
}

// After it settled by its headers, a probe belongs to the generation that this led to, and to no later one.
func TestABreakAfterALaterTripAndRecoveryChangesNothing(t *testing.T) {
	r := newRig(classic)
	r.do(0, "set half-open")
	r.do(0, "ask p")
	r.do(0, "headers p")
	r.do(0, "ask q")
	r.do(0, "ok q")
	require.Equal(t, "0 failed 0 ok, 0 of 0, closed", r.do(time.Second, "look"), "closed by q and the headers of p")
	r.do(2*time.Second, "set open")
	r.do(3*time.Second, "set closed")
	r.do(4*time.Second, "fail p")
	require.Equal(t, "0 failed 0 ok, 0 of 0, closed", r.do(4*time.Second, "look"))
	require.EqualValues(t, 1, r.machine.counts.LateCalls)
}

// Nobody looked for a while. What happened first goes first.
func TestLeasesAreSettledInTheOrderInWhichTheyEnd(t *testing.T) {
	r := newRig(policy.Classic{Failures: 2, OpenFor: 10 * time.Second, Probes: 2, Successes: 1}.Rules())
	r.do(0, "set half-open")
	r.do(0, "ask slow")    // its lease ends at 60 s
	r.do(0, "ask healthy") // its headers settle it at 1 s, and one success closes
	r.do(0, "headers healthy")
	r.do(2*time.Minute, "look")
	require.Equal(t, policy.Closed, r.machine.state)
}

// tolerant is a RecoverRule that stays half-open whatever happens.
type tolerant struct{ policy.Trial }

func (r tolerant) NewRecover() policy.Recover { return &tolerantTrial{Recover: r.Trial.NewRecover()} }

type tolerantTrial struct {
	policy.Recover
	failures int
}

func (r *tolerantTrial) Counts() (failures, successes int) { return r.failures, 0 }
func (r *tolerantTrial) Record(_ time.Time, _ int, result policy.Result) policy.Verdict {
	if result.Outcome == policy.Failure {
		r.failures++
	}
	return policy.VerdictStay
}

func TestALeaseThatEndedAndTheFailureAfterItAreOneFailure(t *testing.T) {
	rules := classic
	rules.Recover = tolerant{policy.Trial{Probes: 2}}
	r := newRig(rules)
	r.do(0, "set half-open")
	r.do(0, "ask p")
	require.Equal(t, "1 failed 0 ok, 0 of 2, half-open", r.do(time.Minute, "look"))
	r.do(time.Minute, "fail p")
	require.Equal(t, "1 failed 0 ok, 0 of 2, half-open", r.do(time.Minute, "look"))
}

func TestForgetRules(t *testing.T) {
	const hour = time.Hour
	failed := []string{"ask a", "fail a"}
	cases := []struct {
		name  string
		steps []string // at 0
		at    time.Duration
		op    string
		want  string
	}{
		{"a circuit in rest", nil, 0, "forget quiet", "true, closed"},
		{"one with failures in view stays", failed, 0, "forget quiet", "false, closed"},
		{"unless it must be", failed, 0, "forget any", "true, closed"},
		{"an open one stays", []string{"set open"}, 10*time.Second + hour - 1, "forget idle 1h", "false, open"},
		{"even with evidence", []string{"set open"}, 1000 * hour, "forget any", "false, open"},
		{"until nobody has asked for long", []string{"set open"}, 10*time.Second + hour, "forget idle 1h", "true, open"},
		{"a half-open one stays", []string{"set half-open"}, hour - 1, "forget idle 1h", "false, half-open"},
		{"until nobody has asked for long, half-open", []string{"set half-open"}, hour, "forget idle 1h", "true, half-open"},
		{"one with a probe in flight stays", []string{"set half-open", "ask p"}, 1000 * hour, "forget idle 1h", "false, half-open"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(classic)
			for _, step := range c.steps {
				r.do(0, step)
			}
			came := r.do(c.at, c.op)
			if strings.HasPrefix(came, "false") { // the first one asks whether it was used
				came = r.do(c.at, c.op)
			}
			require.Equal(t, c.want, came)
		})
	}
}

func TestAQuickAcquireSavesACircuitFromBeingForgotten(t *testing.T) {
	r := newRig(classic)
	r.do(0, "quick a")
	require.Equal(t, "false, closed", r.do(0, "forget quiet"), "it was just used")
	require.Equal(t, "true, closed", r.do(0, "forget quiet"))
}

// Its calls said nothing, so it never left its state, but it was asked just now.
func TestACircuitInTroubleThatIsAskedForIsNotForgotten(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"half-open": classic, "open": probing} {
		t.Run(name, func(t *testing.T) {
			r := newRig(rules)
			r.do(0, "set "+name)
			for at := time.Minute; at <= 2*time.Hour; at += time.Minute {
				r.do(at, "quick p") // as transport asks
				require.Equal(t, "probe, "+name, r.do(at, "ask p"))
				require.Equal(t, name, r.do(at, "ignore p"))
				require.Equal(t, "false, "+name, r.do(at, "forget idle 1h"), "%v", at)
			}
		})
	}
}

func TestAForgottenCircuitDoesNothingMore(t *testing.T) {
	r := newRig(classic)
	r.do(0, "ask a")
	r.do(0, "ask b")
	require.True(t, forgets(r.Circuit, epoch, Quiet))
	require.Equal(t, "gone, closed", r.do(0, "ask c"))
	require.Equal(t, "no, closed", r.do(0, "quick c"))
	require.Equal(t, "gone, closed", r.do(0, "fail a"))
	require.Equal(t, "gone, closed", r.do(0, "fail b"))
	require.Equal(t, "gone, closed", r.do(0, "set open"))
	require.Equal(t, "closed", r.do(0, "restore 1h"))
	require.False(t, r.permits["a"].Quiet())
	require.Empty(t, r.told.lines)
	require.Zero(t, r.machine.counts)
}

func TestQuietIsWhenASuccessWouldChangeNothing(t *testing.T) {
	r := newRig(classic)
	r.do(0, "ask a")
	r.do(0, "ask b")
	r.do(0, "ask c")
	require.False(t, r.permits["a"].Quiet(), "nobody knows that there is such an upstream")
	r.do(0, "ok c")
	require.True(t, r.permits["a"].Quiet())
	r.do(0, "fail b")
	require.False(t, r.permits["a"].Quiet(), "a success would zero the count")
	r.do(0, "ask c")
	r.do(0, "ok c")
	require.True(t, r.permits["a"].Quiet())
	r.do(0, "set closed")
	require.False(t, r.permits["a"].Quiet(), "of an older generation")
	r.do(0, "set half-open")
	r.do(0, "ask p")
	require.False(t, r.permits["p"].Quiet(), "half-open")
}

func TestTheZeroPermitIsNone(t *testing.T) {
	require.False(t, Permit{}.Granted())
	require.False(t, Permit{}.Probing())
}

func samplesOf(count uint64, last time.Time) []policy.Sample {
	return []policy.Sample{{Cause: statusOf, Count: count, At: last}}
}

func TestWhatIsToldOfAChange(t *testing.T) {
	r := newRig(classic)
	r.do(0, "ask a")
	r.do(0, "ask b")
	r.do(time.Second, "fail a")
	r.do(2*time.Second, "fail b")
	r.do(12*time.Second, "ask p")
	r.do(12*time.Second, "ask q")
	r.do(13*time.Second, "ok p")
	r.do(14*time.Second, "fail q")
	r.do(15*time.Second, "set closed")
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	require.Equal(t, []Change{
		{From: policy.Closed, To: policy.Open, At: at(2 * time.Second), Reason: policy.ChangeTripped, Cause: statusOf, Failures: 2, Due: at(12 * time.Second), Samples: samplesOf(2, at(2*time.Second)),
			Why: "2 failures in a row (bound 2)", Trouble: at(2 * time.Second)},
		{From: policy.Open, To: policy.HalfOpen, At: at(12 * time.Second), Reason: policy.ChangeOpenTimePassed, Trouble: at(2 * time.Second)},
		{From: policy.HalfOpen, To: policy.Open, At: at(14 * time.Second), Reason: policy.ChangeRecoveryFailed, Cause: statusOf, Failures: 1, Successes: 1, Due: at(24 * time.Second), Samples: samplesOf(3, at(14*time.Second)),
			Why: "a probe failed after 1 of 2 successes", Trouble: at(2 * time.Second)},
		{From: policy.Open, To: policy.Closed, At: at(15 * time.Second), Reason: policy.ChangeByHand},
	}, r.told.changes)
}

func TestWhatIsToldOfARefusal(t *testing.T) {
	r := newRig(policy.Classic{Failures: 1, OpenFor: 10 * time.Second}.Rules())
	r.do(0, "ask a")
	r.do(time.Second, "fail a")
	r.do(2*time.Second, "ask b")
	r.do(11*time.Second, "ask p")
	r.do(12*time.Second, "ask c")
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	require.Equal(t, []Refusal{
		{
			Reason: policy.RefusedOpen, State: policy.Open, At: at(2 * time.Second), Since: at(time.Second), Due: at(11 * time.Second),
			Cause: statusOf, Samples: samplesOf(1, at(time.Second)),
		},
		{
			Reason: policy.RefusedRamp, State: policy.HalfOpen, At: at(12 * time.Second), Since: at(11 * time.Second), Due: at(12 * time.Second),
			Cause: statusOf, Samples: samplesOf(1, at(time.Second)),
		},
	}, r.told.refusals)
}

func TestASnapshotShowsWhatIsKnown(t *testing.T) {
	r := newRig(classic)
	require.Equal(t, Snapshot{Trips: 2}, lookAt(r, epoch))
	r.do(0, "ask a")
	r.do(0, "ask b")
	r.do(time.Second, "fail a")
	require.Equal(t, Snapshot{
		Failures: 1, Gauge: 1, Trips: 2, Counts: Counts{Failures: 1}, Cause: statusOf, FailedAt: epoch.Add(time.Second),
		Samples: samplesOf(1, epoch.Add(time.Second)),
	}, lookAt(r, epoch.Add(time.Second)))
	r.do(2*time.Second, "fail b")
	require.Equal(t, Snapshot{
		State: policy.Open, Since: epoch.Add(2 * time.Second), Trouble: epoch.Add(2 * time.Second), Asked: epoch.Add(2 * time.Second),
		Due: epoch.Add(12 * time.Second), Generation: 1, Limit: 1, Counts: Counts{Failures: 2, Trips: 1}, Cause: statusOf, FailedAt: epoch.Add(2 * time.Second),
		Samples: samplesOf(2, epoch.Add(2*time.Second)),
	}, lookAt(r, epoch.Add(3*time.Second)))
}

func TestASnapshotTellsWhenACircuitInTroubleWasAskedFor(t *testing.T) {
	slow := policy.Rules{Trip: policy.SlowShare{Slower: 1, Calls: 1}, Probe: policy.OpenTime{}, Recover: policy.Ramp{}}
	const never = -1
	for _, c := range []struct {
		name  string
		rules policy.Rules
		steps []step // what comes of them is not looked at
		want  time.Duration
	}{
		{"closed, and used", classic, []step{{0, "ask a", ""}, {1, "fail a", ""}, {2, "ask b", ""}}, never},
		{"by the call that trips it, when its caller goes", classic, []step{{0, "ask a", ""}, {0, "ask b", ""}, {1, "fail a", ""}, {2, "fail b", ""}}, 2},
		{"not by what comes back later", classic, []step{{0, "ask a", ""}, {0, "ask b", ""}, {0, "ask c", ""}, {1, "fail a", ""}, {2, "fail b", ""}, {3, "fail c", ""}}, 2},
		{"by hand", classic, []step{{1, "set open", ""}}, never},
		{"forced", classic, []step{{1, "force open", ""}}, never},
		{"restored", classic, []step{{1, "restore 5s", ""}}, never},
		{"a refusal", classic, []step{{1, "set open", ""}, {2, "ask a", ""}}, 2},
		{"one of a request that is to be no probe", classic, []step{{1, "set open", ""}, {2, "noprobe a", ""}}, 2},
		{"one of a forced circuit", classic, []step{{1, "force open", ""}, {2, "ask a", ""}}, 2},
		{"one that is not the circuit's", classic, []step{{1, "set open", ""}, {2, "refuse", ""}}, 2},
		{"a probe", probing, []step{{0, "set open", ""}, {10 * time.Second, "ask a", ""}}, 10 * time.Second},
		{"a probe, and not its end", probing, []step{{0, "set open", ""}, {10 * time.Second, "ask a", ""}, {11 * time.Second, "ok a", ""}}, 10 * time.Second},
		{"half-open", classic, []step{{1, "set half-open", ""}, {2, "ask a", ""}}, 2},
		{"open again", classic, []step{{1, "set half-open", ""}, {2, "ask a", ""}, {3, "fail a", ""}}, 2},
		{"closed again", classic, []step{{1, "set open", ""}, {2, "ask a", ""}, {3, "set closed", ""}}, never},
		{"a look", classic, []step{{1, "set open", ""}, {2, "look", ""}, {2, "quick a", ""}, {2, "hasten", ""}}, never},
		{"the clock of who comes later is behind", classic, []step{{1, "set open", ""}, {3, "ask a", ""}, {2, "ask b", ""}}, 3},
		{"a success that trips, since it took long", slow, []step{{0, "ask a", ""}, {2, "slow a", ""}}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(c.rules)
			for _, s := range c.steps {
				if s.operation == "slow a" {
					r.permits["a"].Done(epoch.Add(s.at), policy.Result{Outcome: policy.Success, Elapsed: time.Minute})
					continue
				}
				r.do(s.at, s.operation)
			}
			want := epoch.Add(c.want)
			if c.want == never {
				want = time.Time{}
			}
			require.Equal(t, want, r.Snapshot(epoch.Add(time.Hour)).Asked)
		})
	}
}

func TestACircuitThatOthersTripIsNotAskedForHere(t *testing.T) {
	f := newFellow(probingOften)
	f.Set(policy.Open, epoch)
	f.hear(0, "a", fleet.Asked)
	require.Zero(t, f.Snapshot(epoch).Asked)

	f = newFellow(probingOften)
	f.hearFailures(0, "a", 100)
	f.hearFailures(0, "b", 100)
	require.Equal(t, policy.Open, f.machine.state)
	require.Zero(t, f.Snapshot(epoch).Asked)

	f = newFellow(probingOften)
	f.hear(0, "a", fleet.Opened)
	f.call(0, failed)
	f.call(0, failed)
	require.Equal(t, policy.ChangeTrippedByFleet, f.told.changes[0].Reason)
	require.Equal(t, epoch, f.Snapshot(epoch).Asked, "by an own call after all")
}

func TestAnExpiredLeaseIsTheCauseOfWhatFollows(t *testing.T) {
	r := newRig(classic)
	r.do(0, "set half-open")
	r.do(0, "ask p")
	s := lookAt(r, epoch.Add(time.Minute))
	require.Equal(t, policy.Cause{Kind: policy.KindLease}, s.Cause)
	require.Equal(t, epoch.Add(time.Minute), s.FailedAt)
	require.Equal(t, policy.Cause{Kind: policy.KindLease}, r.told.changes[1].Cause)
}

// The rule's random numbers, Retry-After and elapsed times get where they are used.
func TestResultsReachTheRules(t *testing.T) {
	rules := policy.Rules{
		Trip:    policy.SlowShare{Slower: time.Second, Calls: 1},
		Probe:   policy.OpenTime{For: 10 * time.Second, JitterPercent: 50},
		Recover: policy.Trial{},
	}
	c := New(&Config{Rules: rules, Random: func() float64 { return 0.5 }}, nil, nil)
	p, _ := c.Acquire(epoch, time.Time{}, ToProbe)
	tripped, _ := p.Done(epoch, policy.Result{Outcome: policy.Success, Elapsed: time.Minute})
	require.True(t, tripped)
	require.Equal(t, epoch.Add(7500*time.Millisecond), lookAt(c, epoch).Due)

	c = New(&Config{Rules: policy.Classic{Failures: 1}.Rules(), Random: func() float64 { return 0 }}, nil, nil)
	p, _ = c.Acquire(epoch, time.Time{}, ToProbe)
	p.Done(epoch, policy.Result{Outcome: policy.Failure, RetryAfter: 2 * time.Minute})
	require.Equal(t, epoch.Add(2*time.Minute), lookAt(c, epoch).Due)
}

func (*told) WantsRefusals() bool { return true }
func (*told) InShadow() bool      { return false }
func (*told) Throttled(Throttle)  {}

// settleExpired settles the leases that have ended, as the next request or result does.
func (c *Circuit) settleExpired(now time.Time) {
	c.lock()
	defer c.unlock()
	c.machine.expire(now)
}

// lookAt returns the circuit as it is when what is due by now is done.
func lookAt(c interface {
	settleExpired(time.Time)
	Snapshot(time.Time) Snapshot
}, now time.Time) Snapshot {
	c.settleExpired(now)
	return c.Snapshot(now)
}
