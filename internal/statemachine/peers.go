package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// These make a machine the peers.Machine that its peers ask.

func (m *machine) State() policy.State      { return m.state }
func (m *machine) Forced() bool             { return m.forced }
func (m *machine) Rules() *policy.Rules     { return &m.config.Rules }
func (m *machine) Random() float64          { return m.config.Random() }
func (m *machine) RecoversAfterProbe() bool { return m.recoverOf.Rules.Recover.AfterProbe() }
func (m *machine) InFlight() int            { return len(m.leases.places) }
func (m *machine) FailedProbes() int        { return m.failedProbes }
func (m *machine) TroubleSince() time.Time  { return m.trouble.since }
func (m *machine) Usual() time.Duration     { return m.canary.usual }

func (m *machine) Shortened(most time.Duration) time.Duration {
	return m.canary.shortened(most, leastTerm)
}

// Term is the lease of a half-open call. What has just been answered after a time may be again. A call of a recovery
// after a probe has not failed when its lease ends (mayCome), so that it need not keep others from going for as long.
func (m *machine) Term() time.Duration {
	lease := m.recover.Lease()
	most := m.canary.lengthened(lease)
	if m.RecoversAfterProbe() {
		return m.canary.shortened(most, min(lease, leastPlace))
	}
	return most
}

func (m *machine) Memories() (policy.Trip, policy.Probe, policy.Recover) {
	return m.seenTrip(), m.probe, m.recover
}

func (m *machine) Trip(now time.Time) {
	m.change(policy.Open, now, policy.ChangeTrippedByFleet, policy.Result{})
}

func (m *machine) FailProbe(now time.Time) {
	m.failedProbes++
	m.trouble.withheld = time.Time{} // one has gone
	m.probe.Fail(now, policy.Result{Outcome: policy.Failure}, m.config.Random())
}

func (m *machine) Hasten() { m.hastened = m.state == policy.Open }

func (m *machine) Later(f func()) { m.later(f) }
