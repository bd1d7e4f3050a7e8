package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

// A machine is what a circuit decides and remembers. It has no lock, no clock and no timer: whoever uses it calls one
// method at a time, and wake when canary.wake has come.
type machine struct {
	config     *Config
	state      policy.State
	forced     bool   // the state is one that somebody wants, and the rules have no say
	known      bool   // the upstream has answered a call, or somebody set the state by hand (Set)
	gone       bool   // forgotten: no longer the circuit of its key
	hastened   bool   // the next request is a probe, whatever the rule says
	innocent   bool   // a success would change nothing in a memory of the trip rule that is new
	delivering bool   // somebody is telling the observer
	hushed     bool   // nobody is, and nobody is to
	generation uint64 // how many times the state has changed

	canary canary
	// when a call is known to have gone well, by began; 0 if none has since the last failure or change of state
	well     moment
	observer Observer // nil if there is nobody to tell
	*past             // unharmed, to be read and not written, until remember makes one
}

// past is what a machine remembers of bad times. It is apart, since most have seen none: it is made at the first call
// that does not succeed, at the first change of state, and for a rule that wants to be told of successes.
type past struct {
	since time.Time // of the state; zero if it never changed

	trip         policy.Trip    // nil if it was told of nothing yet
	probe        policy.Probe   // nil before the first trip
	recover      policy.Recover // nil before the first trip
	recoverOf    *Config        // whose rule recover is of
	failedProbes int            // and recoveries, since the trip
	recovery     moment         // the last one began; 0 if there was none, or somebody has ended it
	opened       uint64         // how often the circuit has opened

	trouble     *trouble // nil while closed
	leases      leases
	hints       hints
	connections connections
	throttle    *policy.Throttling // nil while all is well
	spell       *spell             // nil while it refuses nothing; then there is a throttle
	failures    failures
	counts      Counts
	parts       *parts // nil while none is in trouble, nor suspected to be
	peers       peers.Peers
	waiting     []func() // to be told
}

// unharmed is the past of all machines that have none.
var unharmed = past{peers: peers.Alone{}}

// remember makes the past the machine's own, to be written.
func (m *machine) remember() {
	if m.past == &unharmed {
		m.past = &past{peers: peers.Alone{}}
	}
}

// tripRule returns what the trip rule remembers, which is made here.
func (m *machine) tripRule() policy.Trip {
	m.remember()
	if m.trip == nil {
		m.trip = m.config.Rules.Trip.NewTrip()
	}
	return m.trip
}

// seenTrip is tripRule for who only looks.
func (m *machine) seenTrip() policy.Trip {
	if m.trip == nil {
		return m.config.Rules.Trip.NewTrip()
	}
	return m.trip
}

// quiet reports whether a success would change nothing, as far as this circuit knows.
func (m *machine) quiet() bool {
	if m.trip == nil {
		return m.innocent && m.peers.Quiet() && m.hints.sum == 0
	}
	return m.trip.Quiet() && m.peers.Quiet() && m.hints.sum == 0
}

// trouble is what there is to say of a circuit that is not closed. It is apart, since most are.
type trouble struct {
	since    time.Time
	asked    time.Time // the last request came; zero if none has
	requests int       // that have come
	// from the beginning of the recovery before until the circuit opened; 0 if that was no relapse
	lasted time.Duration
	heard  time.Time // the recovery began, or one of its calls came back

	real  bool         // something has failed; what somebody does by hand is no trouble
	cause policy.Cause // of the last failure in it, or of what opened the circuit

	withheld time.Time // since when a probe is due and waits for a safe call, and others have come; zero if none does
}

// seen is since when there is trouble; zero if nothing has failed.
func (t *trouble) seen() time.Time {
	if !t.real {
		return time.Time{}
	}
	return t.since
}

// failures are what is remembered of calls that failed.
type failures struct {
	at    time.Time // the last one; zero if there was none
	cause policy.Cause
	samples
}

// Use is what a call is good for.
type Use uint8

const (
	ToProbe    Use = iota // to probe
	LastResort            // to probe if no other call came for it in Rules.SafeWait
	NotToProbe            // not to probe
)

// Refusal is what there is to say of a request that was refused.
type Refusal struct {
	Gone   bool // nothing was decided: the circuit was forgotten, ask the one that took its place
	Reason policy.RefusalReason
	State  policy.State
	At     time.Time
	Since  time.Time // when the circuit took this state
	// the earliest time of the next probe; not after At if that is not known. If Reason is RefusedThrottled, about when
	// a call may go
	Due       time.Time
	Requests  int       // to come until one is a probe, itself among them; 0 if the rule does not count them
	Latest    time.Time // from then on one is a probe whatever its number; zero if Requests is 0
	SafeUntil time.Time // a probe is due and waits for a safe call, until then; zero if none does
	// of the last failure in this trouble, or of what opened the circuit; zero if it is closed
	Cause    policy.Cause
	Samples  []policy.Sample   // not to be changed
	Throttle *policy.Throttled // if Reason is RefusedThrottled, and a second old at most; not to be changed
}

// decide gives a call a permit, or says why not.
func (m *machine) decide(now, deadline time.Time, good Use) (Permit, Refusal) {
	if m.gone {
		return Permit{}, Refusal{Gone: true}
	}
	m.expire(now)
	m.came(now)
	switch m.state {
	case policy.Closed:
		return m.decideClosed(now, deadline)
	case policy.Open:
		return m.decideOpen(now, deadline, good)
	}
	return m.decideHalfOpen(now, deadline, good)
}

func (m *machine) decideClosed(now, deadline time.Time) (Permit, Refusal) {
	hold := m.config.hold()
	if m.forced {
		hold = policy.Hold{}
	}
	throttled, ok := m.passes(now, deadline)
	if !ok {
		return Permit{}, m.refuseThrottled(now)
	}
	call, held := m.canary.admit(now, deadline, hold)
	if held {
		throttled.withdraw()
		return Permit{}, m.refuse(now, policy.RefusedHeld)
	}
	if throttled.by != nil {
		if call == nil {
			call = m.takeCanary(now, m.generation) // they go on
		}
		if call == nil {
			call = &watched{started: now}
		}
		call.throttled = throttled
	}
	return Permit{watched: call}, Refusal{}
}

func (m *machine) decideOpen(now, deadline time.Time, good Use) (Permit, Refusal) {
	if m.forced {
		return Permit{}, m.refuse(now, policy.RefusedForced)
	}
	if m.peers.Join() {
		m.change(policy.HalfOpen, now, policy.ChangeAnsweredInFleet, policy.Result{})
		return m.decideHalfOpen(now, deadline, good)
	}
	m.peers.Requested(now)
	due := (m.probe.Ask(now) || m.hastened) && m.peers.MayProbe(now)
	if !due || len(m.leases.places) > 0 || m.withholds(now, good) {
		m.peers.StillOpen(now)
		return Permit{}, m.refuse(now, policy.RefusedOpen)
	}
	hastened := m.hastened
	m.hastened = false
	if !m.recoverRule().AfterProbe() { // the first of the calls of a trial
		m.peers.Probes(0)
		withheld := m.trouble.withheld
		m.change(policy.HalfOpen, now, policy.ChangeOpenTimePassed, policy.Result{})
		m.trouble.withheld = withheld // until it goes, which it does now
		return m.decideHalfOpen(now, deadline, good)
	}
	lease := m.probe.Lease()
	if m.config.hold().Silence > 0 {
		lease = m.Shortened(lease)
	}
	m.peers.Probes(lease)
	permit := m.admit(now, deadline, lease, 0, true)
	permit.place.hastened = hastened
	return permit, Refusal{}
}

func (m *machine) decideHalfOpen(now, deadline time.Time, good Use) (Permit, Refusal) {
	trial := !m.recoverOf.Rules.Recover.AfterProbe() // the half-open calls are the probes
	inFlight := len(m.leases.places)
	if trial && good != ToProbe && (inFlight >= m.recover.Limit() || m.withholds(now, good)) {
		return Permit{}, m.refuse(now, policy.RefusedRamp)
	}
	if !trial {
		inFlight = m.peers.InFlight(now, inFlight)
	}
	mark, ok := m.recover.Admit(inFlight)
	if !ok {
		return Permit{}, m.refuse(now, policy.RefusedRamp)
	}
	if !trial {
		m.peers.Admitted(now)
	}
	return m.admit(now, deadline, m.Term(), mark, trial), Refusal{}
}

// withholds reports whether a probe that is due is not for this call, and takes down since when it waits for a safe
// one.
func (m *machine) withholds(now time.Time, good Use) bool {
	if good == LastResort && m.trouble.withheld.IsZero() {
		m.trouble.withheld = now
	}
	return good == NotToProbe || good == LastResort && !m.overdue(now)
}

// overdue reports whether a probe has waited for a safe call for so long that any may be it.
func (m *machine) overdue(now time.Time) bool {
	since := m.trouble.withheld
	return !since.IsZero() && now.Sub(since) >= m.config.Rules.SafeWait
}

// safeUntil is when a probe that waits for a safe call will be overdue; zero if none waits.
func (m *machine) safeUntil() time.Time {
	if m.trouble == nil || m.trouble.withheld.IsZero() {
		return time.Time{}
	}
	return m.trouble.withheld.Add(m.config.Rules.SafeWait)
}

// admit lets a call through in trouble.
func (m *machine) admit(now, deadline time.Time, lease time.Duration, mark int, probe bool) Permit {
	p := &place{
		started: now, trouble: m.trouble, expiry: now.Add(lease), lease: now.Add(lease), mark: mark, probe: probe,
	}
	p.requests = m.trouble.requests
	if !deadline.IsZero() {
		p.waits = deadline.Sub(now)
	}
	if probe {
		p.stale, m.connections.stale = m.connections.stale, false
		p.withheld, p.overdue = m.trouble.withheld, m.overdue(now)
		m.trouble.withheld = time.Time{}
	}
	m.leases.take(p)
	m.counts.Probes++
	return Permit{place: p}
}

// next is when the next probe of an open circuit is due: not before, with which request from now on, and from when on
// with any.
func (m *machine) next(now time.Time) (due time.Time, requests int, latest time.Time) {
	if m.hastened {
		return now, 1, now
	}
	if countdown, ok := m.probe.(policy.Countdown); ok {
		requests, latest = countdown.Countdown()
	}
	return m.probe.Due(), requests, latest
}

// came takes notice of a request.
func (m *machine) came(now time.Time) {
	if m.state == policy.Closed {
		return
	}
	m.trouble.requests++
	if now.After(m.trouble.asked) {
		m.trouble.asked = now
	}
}

func (m *machine) refuse(now time.Time, reason policy.RefusalReason) Refusal {
	m.remember()
	m.counts.Refusals++
	r := m.refusal(now, reason)
	if m.wantsRefusals() {
		told := r // what the event keeps, so that without an observer nothing is kept
		m.later(func() { m.observer.Refused(told) })
	}
	return r
}

// refusal is what there is to say of a request that is refused.
func (m *machine) refusal(now time.Time, reason policy.RefusalReason) Refusal {
	r := Refusal{
		Reason: reason, State: m.state, At: now, Since: m.since, Due: now, Samples: m.failures.list(),
	}
	if m.trouble != nil {
		r.Cause = m.trouble.cause
	}
	if r.State == policy.Open && !m.forced {
		r.Due, r.Requests, r.Latest = m.next(now)
	}
	if reason == policy.RefusedThrottled {
		r.Due, r.Throttle = now.Add(m.throttle.Wait()), m.spell.said
	}
	if reason == policy.RefusedOpen || reason == policy.RefusedRamp {
		r.SafeUntil = m.safeUntil()
	}
	return r
}

func (m *machine) recoverRule() policy.RecoverRule { return m.config.Rules.Recover }
