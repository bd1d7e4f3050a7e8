package transport

import (
	"slices"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Circuit is a circuit as it was at one moment.
type Circuit struct {
	Key        Key
	State      policy.State
	Since      time.Time // when it took this state; zero if it was never in another
	NextProbe  time.Time // the earliest time of the next probe, if State is Open
	Generation uint64    // how many times the state has changed
	// Failures and Successes are what the rule of the state has in view: failures in a row, calls in a window, calls since
	// it is half-open. A rule with nothing bad in view takes no notice of successes.
	Failures, Successes int
	InFlight, Limit     int // calls let through while open or half-open, and how many of them may be; 0 if closed

	// Since the circuit was made:
	FailedCalls  uint64 // calls that failed
	IgnoredCalls uint64 // calls that said nothing
	LateCalls    uint64 // calls that ended after the state in which they started, and changed nothing
	Refusals     uint64 // requests that were refused
	Probes       uint64 // calls let through while open or half-open
	Trips        uint64 // changes from closed to open, and those to open by hand

	Cause    policy.Cause // of the last failure
	FailedAt time.Time    // when that was; zero if never
}

// Circuits returns all circuits that are kept, in the order of their keys.
func (t *Transport) Circuits() []Circuit {
	now := time.Now()
	kept := t.circuits.all()
	all := make([]Circuit, len(kept))
	for i, c := range kept {
		all[i] = c.snapshot(now)
	}
	slices.SortFunc(all, func(a, b Circuit) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return all
}

// Circuit returns the circuit of a key, if there is one.
func (t *Transport) Circuit(k Key) (Circuit, bool) {
	c := t.circuits.find(k)
	if c == nil {
		return Circuit{}, false
	}
	return c.snapshot(time.Now()), true
}

// SetState puts a circuit into a state by hand, and makes the circuit if there is none. Its rules go on from there: one
// that is set open lets a probe through when its time has come, one that is set half-open decides by the next
// calls. It reports false only if there is no room for the circuit.
func (t *Transport) SetState(k Key, state policy.State) bool {
	if state > policy.HalfOpen {
		panic("fusebox/transport: SetState got an invalid state; write policy.Closed, policy.Open or policy.HalfOpen")
	}
	for c := t.circuits.get(k); c != nil; c = t.circuits.add(k) {
		if gone := c.Set(state, time.Now()); !gone {
			return true
		}
	}
	return false
}

func (c *circuit) snapshot(now time.Time) Circuit {
	s := c.Snapshot(now)
	return Circuit{
		Key: c.key, State: s.State, Since: s.Since, NextProbe: s.Due, Generation: s.Generation,
		Failures: s.Failures, Successes: s.Successes, InFlight: s.InFlight, Limit: s.Limit,
		FailedCalls: s.Counts.Failures, IgnoredCalls: s.Counts.Ignored, LateCalls: s.Counts.LateCalls,
		Refusals: s.Counts.Refusals, Probes: s.Counts.Probes, Trips: s.Counts.Trips,
		Cause: s.Cause, FailedAt: s.FailedAt,
	}
}
