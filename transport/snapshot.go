package transport

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Snapshot is a circuit as it was at one moment. As JSON, keys, states and causes are text, as their String methods
// write them.
type Snapshot struct {
	Key Key `json:"key"`
	// Part says that the circuit is of a part of an upstream, which is cut out (policy.Contrast). The Key's Detail is
	// the name of the part.
	Part     bool         `json:"part,omitempty"`
	State    policy.State `json:"state"`
	Forced   bool         `json:"forced,omitempty"`    // the state is one that somebody forced (Force)
	ForcedBy string       `json:"forced_by,omitempty"` // and the pattern by which
	Since    time.Time    `json:"since,omitzero"`      // when it took this state; zero if it was never in another
	// when the trouble began that it is in; zero if it is closed, or nothing has failed
	Trouble time.Time `json:"trouble,omitzero"`
	// when a request last came for it, or the call ended that tripped it; zero if it is closed, and if none has come
	// since it was restored or set by hand
	Asked     time.Time `json:"asked,omitzero"`
	NextProbe time.Time `json:"next_probe,omitzero"` // the earliest time of the next probe, if State is Open
	// ProbeRequests is how many requests are to come until one is a probe, itself among them, if State is Open and the
	// policy counts requests, as Adaptive does; 0 otherwise. It is not before NextProbe, and from ProbeLatest on a
	// request is a probe whatever its number.
	ProbeRequests int       `json:"probe_requests,omitempty"`
	ProbeLatest   time.Time `json:"probe_latest,omitzero"`
	// SafeProbeUntil is until when a circuit that is due for a probe waits for a request that can be lost
	// (WithSafeProbes): from then on any request is a probe. It is zero if it does not wait.
	SafeProbeUntil time.Time `json:"safe_probe_until,omitzero"`
	Generation     uint64    `json:"generation"` // how many times the state has changed
	// Known says that the upstream has answered a call, with whatever status, or that SetState has set the circuit.
	// Keys can be made up by who chooses the URLs of requests, but such an answer cannot: where there is no room for
	// all, others make room for those that are known.
	Known bool `json:"known"`

	Policy string `json:"policy"` // the type of its policy, such as "policy.Adaptive"
	// Own is which of its settings are its key's own: "policy", "classifier" and "refusal". It is empty if
	// WithSettingsFor has none for this key.
	Own []string `json:"own,omitempty"`

	// Failures and Successes are what the rule of the state has in view: failures in a row, calls in a window, calls
	// since it is half-open. A rule with nothing bad in view takes no notice of successes.
	Failures  int `json:"failures"`
	Successes int `json:"successes"`
	// Evidence is how near a closed circuit is to tripping, and Trip at how much it does; 0 if its rule does not tell.
	Evidence int `json:"evidence"`
	Trip     int `json:"trip"`
	InFlight int `json:"in_flight"` // calls let through while open or half-open; 0 if closed
	Limit    int `json:"limit"`     // how many of them may be
	// Throttle says how calls of a closed circuit are throttled, since its upstream gets more than it can carry
	// (policy.Throttle); nil if they are not.
	Throttle *policy.Throttled `json:"throttle,omitempty"`
	// Expired is how many more have been out for longer than their lease: they are in nobody's way, and the next
	// request or result takes notice of it.
	Expired int `json:"expired,omitempty"`

	// Since the circuit was made or reset:
	FailedCalls  uint64 `json:"failed_calls"`  // calls that failed
	IgnoredCalls uint64 `json:"ignored_calls"` // calls that said nothing
	// calls that ended after the state in which they started, and changed nothing
	LateCalls uint64 `json:"late_calls"`
	Refusals  uint64 `json:"refusals"` // requests that were refused, or would have been in shadow
	Probes    uint64 `json:"probes"`   // calls let through while open or half-open
	Trips     uint64 `json:"trips"`    // changes from closed to open, and those to open by hand

	Cause    policy.Cause `json:"cause,omitzero"`     // of the last failure
	FailedAt time.Time    `json:"failed_at,omitzero"` // when that was; zero if never
	// the latest causes of failures, the last first; not to be changed
	Samples []policy.Sample `json:"samples,omitempty"`
	Shadow  *Shadow         `json:"shadow,omitempty"` // nil if the circuit is not in shadow and never was
}

// Shadow says what a circuit in shadow would have done.
type Shadow struct {
	On        bool   `json:"on"`        // it is in shadow now
	Refused   uint64 `json:"refused"`   // calls that were made though the circuit had refused them
	Succeeded uint64 `json:"succeeded"` // of these, those that succeeded
	Failed    uint64 `json:"failed"`    // and those that failed
	// and those that were answered 429 and did not fail by it: no answer is lost with them
	TurnedAway uint64 `json:"turned_away,omitempty"`
	// Throttled is how many of those refused are so by a Throttle. Nothing is refused in shadow, so that as much comes
	// as ever, and nobody can tell how many it would have had to refuse: a Throttle that does not help ends itself, one
	// in shadow goes on.
	Throttled uint64 `json:"throttled,omitempty"`
}

// Circuits returns all circuits that are kept, in the order of their keys.
func (t *Transport) Circuits() []Snapshot {
	now := time.Now()
	kept := t.all()
	slices.SortFunc(kept, func(a, b *circuit) int { return strings.Compare(a.text(), b.text()) })
	all := make([]Snapshot, len(kept))
	for i, c := range kept {
		all[i] = c.snapshot(now)
	}
	return all
}

// Circuit returns the circuit of a key, if there is one.
func (t *Transport) Circuit(k Key) (Snapshot, bool) {
	c := t.find(k)
	if c == nil {
		return Snapshot{}, false
	}
	return c.snapshot(time.Now()), true
}

// SetState puts a circuit into a state by hand, and makes the circuit if there is none. Its rules go on from there: one
// that is set open lets a probe through when its time has come, one that is set half-open decides by the next
// calls. One that is forced stays as it is. It reports false only if there is no room for the circuit.
func (t *Transport) SetState(k Key, state policy.State) bool {
	if state > policy.HalfOpen {
		panic("fusebox/transport: SetState got an invalid state; write policy.Closed, policy.Open or policy.HalfOpen")
	}
	c := t.find(k)
	if c == nil {
		c = t.circuits.get(k)
	}
	for ; c != nil; c = t.circuits.add(k) {
		if gone := c.Set(state, time.Now()); !gone {
			return true
		}
	}
	return false
}

// policyName returns the type of the circuit's policy.
func (c *circuit) policyName() string {
	if own := c.own.Load().Policy; own != nil {
		return fmt.Sprintf("%T", own)
	}
	return fmt.Sprintf("%T", c.by.Load().policy)
}

func (c *circuit) snapshot(now time.Time) Snapshot {
	s := c.Snapshot(now)
	shadow := &Shadow{On: c.shadow.Load()}
	if some := c.some.Load(); some != nil {
		of := &some.shadowed
		shadow.Refused, shadow.Succeeded, shadow.Failed = of.refused.Load(), of.succeeded.Load(), of.failed.Load()
		shadow.TurnedAway, shadow.Throttled = of.turnedAway.Load(), of.throttled.Load()
	}
	if *shadow == (Shadow{}) {
		shadow = nil
	}
	forcedBy := ""
	if s.Forced {
		forcedBy = c.t.overrides.now.Load().of(c.text()).Pattern
	}
	return Snapshot{
		Key: c.key, Part: c.isPart(), State: s.State, Since: s.Since, NextProbe: s.Due, Generation: s.Generation,
		Failures: s.Failures, Successes: s.Successes, InFlight: s.InFlight, Limit: s.Limit, Expired: s.Expired,
		Throttle:    s.Throttle,
		FailedCalls: s.Counts.Failures, IgnoredCalls: s.Counts.Ignored, LateCalls: s.Counts.LateCalls,
		Refusals: s.Counts.Refusals, Probes: s.Counts.Probes, Trips: s.Counts.Trips,
		Cause: s.Cause, FailedAt: s.FailedAt, Samples: s.Samples,
		Evidence: s.Gauge, Trip: s.Trips, Trouble: s.Trouble, Asked: s.Asked,
		ProbeRequests: s.Requests, ProbeLatest: s.Latest, SafeProbeUntil: s.SafeUntil,
		Forced: s.Forced, ForcedBy: forcedBy, Shadow: shadow,
		Known: c.Known(), Policy: c.policyName(), Own: c.own.Load().names(),
	}
}
