package peers_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// machine is what a Member asks of its circuit, as a test says.
type machine struct {
	state    policy.State
	failures int // own ones in view, of the 6 at which it trips
	limit    int // of a recovery
	inFlight int

	trips, failedProbes int // by the word of others
}

func (m *machine) State() policy.State                        { return m.state }
func (m *machine) Forced() bool                               { return false }
func (m *machine) Rules() *policy.Rules                       { return &policy.Rules{Recover: policy.Ramp{}} }
func (m *machine) Random() float64                            { return 0 }
func (m *machine) RecoversAfterProbe() bool                   { return true }
func (m *machine) InFlight() int                              { return m.inFlight }
func (m *machine) FailedProbes() int                          { return m.failedProbes }
func (m *machine) TroubleSince() time.Time                    { return epoch }
func (m *machine) Usual() time.Duration                       { return 0 }
func (m *machine) Shortened(most time.Duration) time.Duration { return most }
func (m *machine) Term() time.Duration                        { return 10 * time.Second }
func (m *machine) Trip(time.Time)                             { m.trips++ }
func (m *machine) FailProbe(time.Time)                        { m.failedProbes++ }
func (m *machine) Hasten()                                    {}
func (m *machine) Later(f func())                             { f() }

func (m *machine) Memories() (policy.Trip, policy.Probe, policy.Recover) {
	return trip{m: m}, probe{}, recovery{m: m}
}

type trip struct {
	policy.Trip
	m *machine
}

func (t trip) Gauge(time.Time) (value, trips int) { return t.m.failures, 6 }

type probe struct{ policy.Probe }

func (probe) Lease() time.Duration { return time.Second }

type recovery struct {
	policy.Recover
	m *machine
}

func (r recovery) Limit() int         { return r.m.limit }
func (recovery) Lease() time.Duration { return time.Second }

func memberOf(m *machine) *peers.Member { return peers.NewMember(m, func(fleet.Message) {}) }

// other is the name of the i-th of the other members.
func other(i int) string { return fmt.Sprint("other", i) }

func TestWhatOthersHaveSeenCountsHalf(t *testing.T) {
	for _, c := range []struct {
		own    int   // failures in view
		others []int // failures that each of them tells of
		trips  bool
	}{
		{0, []int{1000}, false}, // whatever one says is half of what it takes
		{0, []int{6, 5}, false},
		{0, []int{6, 6}, true},
		{0, []int{4, 4, 3}, false},
		{0, []int{4, 4, 4}, true},
		{2, []int{1000}, false},
		{3, []int{1000}, true},
		{3, []int{5}, false},
		{5, []int{1}, false},
		{5, []int{2}, true},
	} {
		m := &machine{state: policy.Closed, failures: c.own}
		p := memberOf(m)
		for i, failures := range c.others {
			require.Zero(t, m.trips, "%+v", c)
			p.Hear(epoch, fleet.Message{Kind: fleet.Evidence, From: other(i), Failures: failures})
		}
		require.Equal(t, c.trips, m.trips > 0, "%+v", c)
	}
}

func TestWhoseCallsSucceedIsNotOpenedByOthers(t *testing.T) {
	m := &machine{state: policy.Closed}
	p := memberOf(m)
	p.Ended(epoch, policy.Result{Outcome: policy.Success})
	for i := range 10 {
		p.Hear(epoch, fleet.Message{Kind: fleet.Opened, From: other(i), For: time.Minute})
	}
	require.Zero(t, m.trips)
	p.Hear(epoch.Add(peers.VouchFor), fleet.Message{Kind: fleet.Opened, From: "another", For: time.Minute})
	require.NotZero(t, m.trips, "that holds for so long")
}

func TestHalfAsManyFailedProbesOfOthersCountAsThereAreMembers(t *testing.T) {
	for others := 1; others < 10; others++ {
		m := &machine{state: policy.Open}
		p := memberOf(m)
		for i := range others {
			p.Hear(epoch, fleet.Message{Kind: fleet.Opened, From: other(i), For: time.Minute})
		}
		fail := func() {
			for i := range 3 * others {
				p.Hear(epoch, fleet.Message{Kind: fleet.ProbeStarted, From: other(i % others), For: time.Second})
				p.Hear(epoch, fleet.Message{Kind: fleet.ProbeFailed, From: other(i % others)})
			}
		}
		fail()
		require.Equal(t, (others+1)/2, m.failedProbes)
		p.Probes(time.Second)
		fail()
		require.Equal(t, 2*((others+1)/2), m.failedProbes, "and as many between its own next two")
	}
}

func TestEachMemberHasItsEvenShareOfARecovery(t *testing.T) {
	for _, limit := range []int{4, 5, 8, 12, 100} {
		m := &machine{state: policy.HalfOpen, limit: limit}
		p := memberOf(m)
		for i := range 3 {
			p.Hear(epoch, fleet.Message{Kind: fleet.Recovering, From: other(i), InFlight: 1000})
		}
		p.Admitted(epoch)
		for own := range limit {
			m.inFlight = own
			admitted := p.InFlight(epoch, own) < limit
			require.Equal(t, own < limit/4, admitted, "the limit of four members is %d, and %d are own ones", limit, own)
		}
	}
}

func TestInAFleetLargerThanTheLimitEachHasItsTurn(t *testing.T) {
	m := &machine{state: policy.HalfOpen, limit: 2}
	p := memberOf(m)
	p.Admitted(epoch)
	for _, at := range []time.Duration{0, 3900 * time.Millisecond, 4 * time.Second} {
		now := epoch.Add(at)
		for i := range 7 {
			p.Hear(now, fleet.Message{Kind: fleet.Recovering, From: other(i), InFlight: 1})
		}
		require.Equal(t, at >= 4*time.Second, p.InFlight(now, 0) < m.limit, "%v after the last", at)
	}
}
