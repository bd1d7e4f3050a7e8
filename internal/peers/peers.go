// Package peers is what the circuits of one key in other processes say, as the circuit of this one asks and tells them.
// A circuit that has none has Alone, which says nothing; Member is the one of a fleet.
package peers

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Peers are asked and told by a circuit's machine, under the circuit's lock.
type Peers interface {
	// Quiet reports whether an own success would change nothing here.
	Quiet() bool
	// Ended takes the result of an own call of the closed circuit, and reports whether it trips together with what
	// others have said.
	Ended(now time.Time, r policy.Result) (trips bool)
	// Requested takes notice of an own request while the circuit is open.
	Requested(now time.Time)
	// MayProbe reports whether an own probe that is due may go, since no other member's is out.
	MayProbe(now time.Time) bool
	// Probes says that an own probe goes, with its lease; 0 if that is the first call of a trial.
	Probes(lease time.Duration)
	// ProbeFailed says that it failed.
	ProbeFailed()
	// StillOpen says that the circuit is open, now and then.
	StillOpen(now time.Time)
	// Join reports whether to begin the recovery of an upstream that has answered another member.
	Join() bool
	// InFlight returns how many calls of a recovery all members have in flight, of which that many are own ones.
	InFlight(now time.Time, own int) int
	// Admitted says that an own call of a recovery goes, Freed that one has ended, and Recovering with what result.
	Admitted(now time.Time)
	Freed()
	Recovering(r policy.Result)
	// Changed says that the own circuit changes its state, with that many failures of its own in view. It returns when
	// a probe is due at the latest, for one that opens by the word of others; zero if that is as the rule says.
	Changed(to policy.State, at time.Time, reason policy.ChangeReason, failures int) (soon time.Time)
}

// Machine is what Peers can ask of the machine of their circuit, and have it do.
type Machine interface {
	State() policy.State
	Forced() bool
	Rules() *policy.Rules
	Random() float64 // uniform in [0,1)
	// Memories returns what the rules remember of this circuit. The last two are nil before the first trip.
	Memories() (policy.Trip, policy.Probe, policy.Recover)
	// RecoversAfterProbe reports whether the recovery that is under way, or was last, began after a probe.
	RecoversAfterProbe() bool
	InFlight() int                              // own calls let through while not closed
	FailedProbes() int                          // since the trip
	TroubleSince() time.Time                    // while not closed
	Usual() time.Duration                       // that calls take; 0 if that is not known
	Shortened(most time.Duration) time.Duration // a lease, by how long calls usually take
	Term() time.Duration                        // the lease of a half-open call
	Trip(now time.Time)                         // opens by what others say
	FailProbe(now time.Time)                    // by what another member's probe found out
	Hasten()                                    // makes the next request a probe
	// Later has something done outside the circuit's lock, in order with what the circuit's observer is told.
	Later(func())
}

// Alone is what a circuit has that has no peers.
type Alone struct{}

// The methods of Peers.
func (Alone) Quiet() bool                                                                { return true }
func (Alone) Ended(time.Time, policy.Result) bool                                        { return false }
func (Alone) Requested(time.Time)                                                        {}
func (Alone) MayProbe(time.Time) bool                                                    { return true }
func (Alone) Probes(time.Duration)                                                       {}
func (Alone) ProbeFailed()                                                               {}
func (Alone) StillOpen(time.Time)                                                        {}
func (Alone) Join() bool                                                                 { return false }
func (Alone) InFlight(_ time.Time, own int) int                                          { return own }
func (Alone) Admitted(time.Time)                                                         {}
func (Alone) Freed()                                                                     {}
func (Alone) Recovering(policy.Result)                                                   {}
func (Alone) Changed(policy.State, time.Time, policy.ChangeReason, int) (soon time.Time) { return soon }
