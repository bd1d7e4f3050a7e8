package statemachine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// byHandWays are what somebody does with a circuit, of the policy classic unless there is another.
var byHandWays = []struct {
	name   string
	rules  policy.Rules
	steps  []step
	events []string // but for refusals
	counts Counts
}{
	{"forced open refuses for ever and probes nothing", classic, []step{
		{0, "ask a", "granted, closed"}, {0, "force open", "open"}, {0, "quick b", "no, open"},
		{time.Second, "ask b", "refused, open"}, {10 * time.Second, "ask b", "refused, open"}, {1e5 * time.Hour, "ask b", "refused, open"},
		{1e5 * time.Hour, "fail a", "open"}, {1e5 * time.Hour, "look", "0 failed 0 ok, 0 of 0, open"},
	}, []string{"closed→open forced"}, Counts{Failures: 1, Refusals: 3, Trips: 1, LateCalls: 1}},
	{"even if the next request was to be a probe", classic, []step{
		{0, "force open", "open"}, {0, "hasten", "open"}, {time.Hour, "ask a", "refused, open"},
	}, []string{"closed→open forced"}, Counts{Refusals: 1, Trips: 1}},
	{"and its waits are over for the probe that is out", probing, []step{
		{0, "set open", "open"}, {10 * time.Second, "ask p", "probe, open"}, {11 * time.Second, "force open", "open"},
		{11 * time.Second, "ok p", "open"}, {time.Minute, "ask q", "refused, open"},
	}, []string{"closed→open by hand", "open→open forced"}, Counts{Refusals: 1, Probes: 1, Trips: 2, LateCalls: 1}},
	{"forced closed never trips", classic, []step{
		{0, "force closed", "closed"},
		{0, "ask a", "granted, closed"}, {0, "quick b", "granted, closed"}, {0, "ask c", "granted, closed"}, {0, "ask d", "granted, closed"},
		{0, "fail a", "closed"}, {0, "fail b", "closed"}, {0, "fail c", "closed"}, {0, "look", "0 failed 0 ok, 0 of 0, closed"},
		{0, "ok d", "closed"},
	}, []string{"closed→closed forced"}, Counts{Failures: 3}},
	{"nor by the calls that were out", classic, []step{
		{0, "set half-open", "half-open"}, {0, "ask p", "probe, half-open"}, {0, "headers p", "half-open"}, {0, "ask q", "probe, half-open"},
		{0, "ok q", "half-open"}, {2 * time.Second, "look", "0 failed 0 ok, 0 of 0, closed"}, {2 * time.Second, "force closed", "closed"},
		{2 * time.Second, "ask a", "granted, closed"}, {2 * time.Second, "fail a", "closed"}, {3 * time.Second, "fail p", "closed"},
		{3 * time.Second, "look", "0 failed 0 ok, 0 of 0, closed"},
	}, []string{"closed→half-open by hand", "half-open→closed recovered", "closed→closed forced"}, Counts{Failures: 2, Probes: 2}},
	{"forced open from half-open, and released", classic, []step{
		{0, "set half-open", "half-open"}, {0, "ask p", "probe, half-open"}, {0, "force open", "open"}, {0, "ok p", "open"},
		{time.Hour, "release", "open"}, {time.Hour, "ask q", "probe, half-open"},
	}, []string{"closed→half-open by hand", "half-open→open forced", "open→open released", "open→half-open open time passed"},
		Counts{Probes: 2, Trips: 1, LateCalls: 1}},
	{"released from open it is due at once", classic, []step{
		{0, "force open", "open"}, {time.Second, "release", "open"}, {time.Second, "look", "0 failed 0 ok, 0 of 1, open"},
		{time.Second, "ask p", "probe, half-open"},
	}, []string{"closed→open forced", "open→open released", "open→half-open open time passed"}, Counts{Probes: 1, Trips: 1}},
	{"by a probe first if its rule wants one", probing, []step{
		{0, "force open", "open"}, {time.Second, "release", "open"}, {time.Second, "ask p", "probe, open"}, {time.Second, "ask q", "refused, open"},
		{2 * time.Second, "fail p", "open"}, {2 * time.Second, "ask q", "refused for 10s, open"},
	}, []string{"closed→open forced", "open→open released"}, Counts{Failures: 1, Probes: 1, Refusals: 2, Trips: 1}},
	{"released from closed it weighs afresh", classic, []step{
		{0, "ask a", "granted, closed"}, {0, "fail a", "closed"}, {0, "force closed", "closed"}, {0, "ask a", "granted, closed"},
		{0, "release", "closed"}, {0, "fail a", "closed"},
		{0, "ask a", "granted, closed"}, {0, "ask b", "granted, closed"}, {0, "fail a", "closed"}, {0, "fail b", "opened, open"},
	}, []string{"closed→closed forced", "closed→closed released", "closed→open tripped"}, Counts{Failures: 4, LateCalls: 1, Trips: 1}},
	{"released without being forced is nothing", classic, []step{
		{0, "release", "closed"}, {0, "set open", "open"}, {0, "release", "open"}, {0, "ask a", "refused for 10s, open"},
		{0, "set half-open", "half-open"}, {0, "release", "half-open"},
	}, []string{"closed→open by hand", "open→half-open by hand"}, Counts{Refusals: 1, Trips: 1}},
	{"set does nothing to a forced one", classic, []step{
		{0, "force open", "open"}, {0, "set closed", "open"}, {0, "set half-open", "open"}, {0, "set open", "open"},
		{0, "force closed", "closed"}, {0, "set open", "closed"}, {0, "set closed", "closed"},
	}, []string{"closed→open forced", "open→closed forced"}, Counts{Trips: 1}},
	{"nor does reset", classic, []step{
		{0, "force open", "open"}, {0, "ask a", "refused, open"}, {0, "reset", "no, open"}, {0, "ask a", "refused, open"},
	}, []string{"closed→open forced"}, Counts{Refusals: 2, Trips: 1}},
	{"nor to force it again", classic, []step{
		{0, "force open", "open"}, {0, "force open", "open"}, {0, "force closed", "closed"}, {0, "force closed", "closed"},
	}, []string{"closed→open forced", "open→closed forced"}, Counts{Trips: 1}},
	{"to force the state that it has is a change, so that it is kept", classic, []step{
		{0, "set open", "open"}, {9 * time.Second, "force open", "open"}, {time.Minute, "ask a", "refused, open"},
	}, []string{"closed→open by hand", "open→open forced"}, Counts{Refusals: 1, Trips: 2}},
	{"reset forgets all", classic, []step{
		{0, "ask a", "granted, closed"}, {0, "ask b", "granted, closed"}, {0, "ask c", "granted, closed"}, {0, "fail a", "closed"}, {0, "fail b", "opened, open"},
		{0, "ask d", "refused for 10s, open"}, {time.Second, "reset", "closed"}, {time.Second, "look", "0 failed 0 ok, 0 of 0, closed"},
		{time.Second, "fail c", "closed"}, {time.Second, "look", "0 failed 0 ok, 0 of 0, closed"},
	}, []string{"closed→open tripped", "open→closed reset"}, Counts{Failures: 1, LateCalls: 1}},
	{"hastened, the next request is a probe", classic, []step{
		{0, "set open", "open"}, {time.Second, "ask a", "refused for 9s, open"}, {time.Second, "hasten", "open"}, {time.Second, "ask a", "probe, half-open"},
	}, []string{"closed→open by hand", "open→half-open open time passed"}, Counts{Refusals: 1, Probes: 1, Trips: 1}},
	{"and only that one", probing, []step{
		{0, "set open", "open"}, {0, "hasten", "open"}, {time.Second, "ask a", "probe, open"}, {time.Second, "ask b", "refused for 9s, open"},
		{time.Second, "ignore a", "open"}, {time.Second, "ask b", "refused for 9s, open"},
	}, []string{"closed→open by hand"}, Counts{Ignored: 1, Refusals: 2, Probes: 1, Trips: 1}},
	{"not if another is out, and then the one after it", probing, []step{
		{0, "set open", "open"}, {10 * time.Second, "ask a", "probe, open"}, {10 * time.Second, "hasten", "open"}, {10 * time.Second, "ask b", "refused, open"},
		{11 * time.Second, "fail a", "open"}, {11 * time.Second, "ask b", "probe, open"},
	}, []string{"closed→open by hand"}, Counts{Failures: 1, Refusals: 1, Probes: 2, Trips: 1}},
	{"a change clears it", classic, []step{
		{0, "set open", "open"}, {0, "hasten", "open"}, {0, "set open", "open"}, {time.Second, "ask a", "refused for 9s, open"},
	}, []string{"closed→open by hand", "open→open by hand"}, Counts{Refusals: 1, Trips: 2}},
	{"nothing is hastened while it is not open", classic, []step{
		{0, "hasten", "closed"}, {0, "set open", "open"}, {0, "ask a", "refused for 10s, open"},
		{0, "set half-open", "half-open"}, {0, "hasten", "half-open"}, {0, "set open", "open"}, {0, "ask a", "refused for 10s, open"},
	}, []string{"closed→open by hand", "open→half-open by hand", "half-open→open by hand"}, Counts{Refusals: 2, Trips: 2}},
}

func TestCircuitsByHand(t *testing.T) {
	for _, c := range byHandWays {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(c.rules)
			r.run(t, c.steps...)
			var events []string
			for _, line := range r.told.lines {
				if line != "refused, open" && line != "refused, half-open" {
					events = append(events, line)
				}
			}
			require.Equal(t, c.events, events)
			require.Equal(t, c.counts, r.machine.counts)
		})
	}
}

func TestARefusalOfAForcedCircuitSaysSo(t *testing.T) {
	r := newRig(classic)
	r.do(0, "force open")
	_, refusal := r.Acquire(epoch.Add(time.Second), time.Time{}, ToProbe)
	require.Equal(t, Refusal{Reason: policy.RefusedForced, State: policy.Open, At: epoch.Add(time.Second), Since: epoch, Due: epoch.Add(time.Second)}, refusal)
	s := lookAt(r, epoch)
	require.True(t, s.Forced)
	require.Zero(t, s.Due)
	require.Zero(t, r.told.changes[0].Due)
	r.do(0, "release")
	require.False(t, lookAt(r, epoch).Forced)
}

// Reset makes a circuit like a new one: what both say and do is the same but for the generation and since when.
func TestResetIsLikeNew(t *testing.T) {
	for name, rules := range map[string]policy.Rules{"classic": classic, "probing": probing, "adaptive": policy.Adaptive{}.Rules()} {
		for _, state := range []string{"closed", "open", "half-open"} {
			t.Run(name+", "+state, func(t *testing.T) {
				r := newRig(rules)
				r.do(0, "set "+state)
				for range 5 { // a false alarm, evidence, samples, counts
					call(r.Circuit, epoch, failed)
				}
				at := time.Minute
				r.do(at, "reset")
				fresh := newRig(rules)
				want := lookAt(fresh, epoch.Add(at))
				want.Since, want.Generation = epoch.Add(at), lookAt(r, epoch).Generation
				require.Equal(t, want, lookAt(r, epoch.Add(at)))
				for i := range 40 {
					at += 50 * time.Millisecond
					require.Equal(t, fresh.do(at, "ask a"), r.do(at, "ask a"), "request %d", i)
					if r.permits["a"].Granted() {
						end := []string{"fail a", "ok a"}[i/30]
						require.Equal(t, fresh.do(at, end), r.do(at, end), "call %d", i)
					}
				}
			})
		}
	}
}

// What somebody does by hand is no false alarm, after which more evidence would be asked for.
func TestWhatIsClosedByHandTripsAsEasilyAsBefore(t *testing.T) {
	rules := policy.Adaptive{}.Rules()
	for name, close := range map[string]func(*rig){
		"set":                        func(r *rig) { r.do(0, "set closed") },
		"forced":                     func(r *rig) { r.do(0, "force closed") },
		"forced and released":        func(r *rig) { r.do(0, "force closed"); r.do(0, "release") },
		"reset":                      func(r *rig) { r.do(0, "reset") },
		"configured":                 func(r *rig) { r.Configure(&Config{Rules: rules, Random: func() float64 { return 0 }}, epoch) },
		"set, then set again":        func(r *rig) { r.do(0, "set closed"); r.do(0, "set closed") },
		"set, then forced, released": func(r *rig) { r.do(0, "set closed"); r.do(0, "force closed"); r.do(0, "release") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(rules)
			close(r)
			require.Equal(t, 6, lookAt(r, epoch).Trips)
		})
	}
}

func TestTroubleBeginsWhenItOpensAndEndsWhenItCloses(t *testing.T) {
	r := newRig(classic)
	trouble := func() time.Duration {
		at := lookAt(r, epoch).Trouble
		if at.IsZero() {
			return -1
		}
		return at.Sub(epoch)
	}
	require.EqualValues(t, -1, trouble())
	r.run(t, step{time.Second, "ask a", "granted, closed"}, step{time.Second, "ask b", "granted, closed"},
		step{time.Second, "fail a", "closed"}, step{2 * time.Second, "fail b", "opened, open"})
	require.Equal(t, 2*time.Second, trouble())
	for at := 12 * time.Second; at < time.Minute; at += 11 * time.Second { // across failed recoveries
		r.run(t, step{at, "ask p", "probe, half-open"})
		require.Equal(t, 2*time.Second, trouble())
		r.run(t, step{at + time.Second, "fail p", "opened, open"})
		require.Equal(t, 2*time.Second, trouble())
	}
	r.do(time.Minute, "set open")
	require.Equal(t, 2*time.Second, trouble())
	r.run(t, step{time.Hour, "ask p", "probe, half-open"}, step{time.Hour, "ask q", "probe, half-open"}, step{time.Hour, "ok p", "half-open"}, step{time.Hour, "ok q", "closed"})
	require.EqualValues(t, -1, trouble())
	r.do(2*time.Hour, "set half-open")
	require.Less(t, trouble(), time.Duration(0), "what is done by hand is none")
	r.run(t, step{2 * time.Hour, "ask p", "probe, half-open"})
	r.do(2*time.Hour, "fail p")
	require.Equal(t, 2*time.Hour, trouble(), "until something fails")
	r.do(3*time.Hour, "reset")
	require.EqualValues(t, -1, trouble())
	r.do(time.Hour, "set open")
	require.Equal(t, epoch.Add(3*time.Hour), lookAt(r, epoch).Since)
}

func TestRestoredTroubleBeganWhereItDid(t *testing.T) {
	r := newRig(classic)
	require.True(t, r.Restore(epoch, epoch.Add(time.Second), epoch.Add(-time.Hour), true))
	s := lookAt(r, epoch)
	require.Equal(t, epoch.Add(-time.Hour), s.Trouble)
	require.Equal(t, epoch, s.Since)
	require.Equal(t, epoch.Add(time.Second), s.Due)
	require.Zero(t, s.Counts.Trips)
	require.False(t, r.Restore(epoch, epoch.Add(time.Second), epoch.Add(-time.Hour), true), "it has changed")
	require.Equal(t, policy.ChangeRestored, r.told.changes[0].Reason)

	r = newRig(classic)
	require.True(t, r.Restore(epoch, epoch, time.Time{}, true))
	require.Zero(t, lookAt(r, epoch).Trouble, "it is not known that there was any")
}
