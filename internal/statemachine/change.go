package statemachine

import (
	"math"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Change is a change of state.
type Change struct {
	From, To            policy.State
	At                  time.Time
	Reason              policy.ChangeReason
	Cause               policy.Cause    // of the failure that changed the state or, if it is restored, of the last
	Failures, Successes int             // what the rule of the state From had in view
	Due                 time.Time       // the earliest time of the next probe, if To is Open
	Requests            int             // as Refusal.Requests, if To is Open
	Latest              time.Time       // as Refusal.Latest
	Samples             []policy.Sample // if To is Open; not to be changed
	// what the rule saw that opened the circuit, or why the recovery that begins is held; empty if it does not say
	Why     string
	Trouble time.Time // since when the upstream is in trouble; zero if nothing has failed
}

// change is the one place where a state changes.
func (m *machine) change(to policy.State, now time.Time, reason policy.ChangeReason, r policy.Result) {
	m.remember()
	if m.spell != nil {
		end := policy.ThrottleByHand
		if reason == policy.ChangeTripped || reason == policy.ChangeTrippedByFleet {
			end = policy.ThrottleOpened
		}
		m.unthrottled(now, end, "")
	}
	at := now
	if at.Before(m.since) { // somebody has read the clock later, and taken the lock sooner
		at = m.since
	}
	change := Change{From: m.state, To: to, At: at, Reason: reason}
	change.Failures, change.Successes = m.inView()
	change.Cause, change.Why = m.because(reason, r)
	if m.probe == nil {
		m.probe = m.config.Rules.Probe.NewProbe()
	}
	if m.recoverOf != m.config {
		m.recover, m.recoverOf = m.recoverRule().NewRecover(), m.config
	}
	m.leases.end()
	m.forced, m.hastened = reason == policy.ChangeForced, false
	m.hints = hints{}
	if to != policy.HalfOpen { // which a trial is, with the same doubts
		m.connections = connections{stale: to == policy.Open && silent(r)}
	}
	switch reason {
	case policy.ChangeByHand, policy.ChangeForced, policy.ChangeReleased, policy.ChangeReset:
		m.throttle = nil
	case policy.ChangeRecovered:
		if m.throttle != nil {
			m.throttle.Resume(now, m.recover.Limit())
		}
	}
	m.canary.stop()
	if m.parts != nil {
		m.suspectNone()
	}
	m.well = 0
	switch to {
	case policy.Closed:
		m.close(now, reason)
	case policy.Open:
		m.open(now, reason, r)
		if !m.forced {
			change.Due, change.Requests, change.Latest = m.next(at)
		}
		change.Samples = m.failures.list()
	case policy.HalfOpen:
		m.recover.Start(now, r)
		m.recovery = momentOf(now)
		if ramp, ok := m.recover.(interface{ Held() string }); ok && r.Lasted > 0 {
			change.Why = ramp.Held()
		}
	}
	if to != policy.Closed {
		if m.trouble == nil {
			m.trouble = &trouble{since: at}
		}
		m.trouble.heard = now
		m.trouble.withheld = time.Time{}
		if to == policy.Open {
			m.trouble.lasted = m.lastedUntil(now, reason)
		}
		if change.Cause != (policy.Cause{}) {
			m.trouble.cause = change.Cause
		}
		if reason == policy.ChangeTripped || reason == policy.ChangeTrippedByFleet ||
			reason == policy.ChangeRecoveryFailed {
			m.trouble.real = true
		}
		change.Trouble = m.trouble.seen()
	}
	if change.From == policy.Closed && r.Outcome != policy.Undecided {
		m.trouble.asked = at // by the call that trips it, whose caller was there until now
	}
	m.since = at
	if soon := m.peers.Changed(to, at, reason, change.Failures); !soon.IsZero() {
		m.probe.Resume(at, soon)
		change.Due, change.Requests, change.Latest = m.next(at)
	}
	m.state = to
	m.generation = (m.generation + 1) & generationMask
	m.later(func() { m.observer.Changed(change) })
	if m.throttle != nil {
		m.notice(now) // of a limit that the recovery goes on with
	}
}

// because returns what there is to say of why the state changes.
func (m *machine) because(reason policy.ChangeReason, r policy.Result) (cause policy.Cause, why string) {
	switch {
	case r.Outcome == policy.Failure:
		cause = r.Cause
	case reason == policy.ChangeTripped: // by a call that succeeded, and too slowly
		cause = slow(r).Cause
	case reason == policy.ChangeRestored:
		cause = m.failures.cause
	}
	var by any
	switch reason {
	case policy.ChangeTripped:
		by = m.seenTrip()
	case policy.ChangeRecoveryFailed:
		by = m.recover
	}
	if explainer, ok := by.(policy.Explainer); ok {
		why = explainer.Explain()
	}
	return cause, why
}

func (m *machine) close(now time.Time, reason policy.ChangeReason) {
	switch reason {
	case policy.ChangeByHand, policy.ChangeForced, policy.ChangeReleased:
		m.failedProbes = math.MaxInt / 2 // whoever closes it by hand does not say that the trip was a false alarm
	case policy.ChangeReset:
		m.trip, m.failedProbes = m.config.Rules.Trip.NewTrip(), math.MaxInt/2
		m.counts, m.failures, m.leases.hollow, m.parts = Counts{}, failures{}, 0, nil
	}
	m.tripRule().Start(now, m.failedProbes)
	m.trouble = nil
	if reason != policy.ChangeRecovered {
		m.recovery = 0
	}
}

// relapse is how soon after a recovery trouble is the same.
const relapse = 2 * time.Second

// lastedUntil is for how long all was well since the last recovery began, if that has now failed or the circuit trips
// soon after it.
func (m *machine) lastedUntil(now time.Time, reason policy.ChangeReason) time.Duration {
	tripped := reason == policy.ChangeTripped || reason == policy.ChangeTrippedByFleet
	soon := reason == policy.ChangeRecoveryFailed || tripped && now.Sub(m.since) < relapse
	if m.recovery == 0 || !soon {
		return 0
	}
	return now.Sub(m.recovery.time())
}

func (m *machine) open(now time.Time, reason policy.ChangeReason, r policy.Result) {
	m.opened++
	switch {
	case reason == policy.ChangeRestored:
		m.failedProbes = 0
		m.probe.Resume(now, now.Add(r.RetryAfter))
	case reason == policy.ChangeReleased:
		m.probe.Resume(now, now)
	case m.state == policy.Closed, reason == policy.ChangeByHand, reason == policy.ChangeForced:
		m.failedProbes = 0
		m.counts.Trips++
		m.probe.Trip(now, r, m.config.Random())
	default:
		m.failedProbes++
		m.probe.Fail(now, r, m.config.Random())
	}
}

// inView is what the rule of the state has in view.
func (m *machine) inView() (failures, successes int) {
	switch m.state {
	case policy.Closed:
		return m.seenTrip().Counts()
	case policy.HalfOpen:
		return m.recover.Counts()
	}
	return 0, 0
}
