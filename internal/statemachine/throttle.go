package statemachine

import (
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// A throttle limits the calls of a closed circuit whose upstream gets more than it can carry (policy.Throttle).
// machine.throttle is there from the first sign of that until nothing is left to remember, or somebody
// sets the state; machine.spell while calls are refused by it, or could be.

// throttled is what a throttle knows of a call that it has let through.
type throttled struct {
	by   *policy.Throttling // the memory that did; nil if none has
	pass policy.Pass
}

// A spell is a time in which calls are throttled.
type spell struct {
	since   time.Time
	refused uint64
	said    *policy.Throttled // as it was when a request was refused, at told; not to be changed; nil before
	told    time.Time
}

// sayEvery is how long the same is said of a spell at most, while its limit in whole calls is the same.
const sayEvery = time.Second

// Throttle is the begin or the end of a time in which calls of a closed circuit are throttled.
type Throttle struct {
	Over             bool
	At               time.Time
	policy.Throttled // of one that is over its Reason and Why are of the end
}

// inShadow reports whether calls that are refused are made all the same.
func (m *machine) inShadow() bool { return m.observer != nil && m.observer.InShadow() }

// spelled says how calls are throttled, in a spell.
func (m *machine) spelled() policy.Throttled {
	is := m.throttle.Throttled()
	is.Since, is.Refused = m.spell.since, m.spell.refused
	if m.inShadow() {
		is.Why += "; in shadow nobody can tell whether that helps"
	}
	return is
}

// notice takes notice of whether calls are throttled, and tells of it if that has changed. It is called after all that
// can change it, and may be called at any time.
func (m *machine) notice(now time.Time) {
	on := m.throttle != nil && m.throttles() && !now.After(m.throttle.Until())
	switch {
	case on && m.spell == nil:
		m.spell = &spell{since: now}
		is := m.spelled()
		m.later(func() {
			m.observer.Throttled(Throttle{At: now, Throttled: is})
		})
	case !on && m.spell != nil && m.throttle != nil:
		m.unthrottled(m.throttle.Ended(now))
	}
}

// unthrottled ends the spell.
func (m *machine) unthrottled(at time.Time, reason policy.ThrottleReason, why string) {
	s := m.spell
	m.spell = nil
	if at.Before(s.since) { // the clock was set back
		at = s.since
	}
	was := policy.Throttled{Reason: reason, Why: why, Since: s.since, Until: at, Refused: s.refused}
	m.later(func() { m.observer.Throttled(Throttle{Over: true, At: at, Throttled: was}) })
}

// refuseThrottled refuses a call that the throttle does not let pass.
func (m *machine) refuseThrottled(now time.Time) Refusal {
	s := m.spell
	s.refused++
	inFlight := m.throttle.Throttled().InFlight
	if s.said == nil || s.said.InFlight != inFlight || now.Sub(s.told) >= sayEvery || now.Before(s.told) {
		is := m.spelled() // in memory of its own
		s.said, s.told = &is, now
	}
	return m.refuse(now, policy.RefusedThrottled)
}

// throttles reports whether the rules let a throttle refuse calls now.
func (m *machine) throttles() bool {
	rule := m.config.Rules.Throttle
	return rule != nil && !rule.Off && m.state == policy.Closed && !m.forced
}

// counting reports whether the throttle wants to know of each call.
func (m *machine) counting() bool {
	memory := m.throttle
	return memory != nil && m.throttles() && (memory.On() || m.canary.phase == watching)
}

func (m *machine) engage() {
	if m.throttle == nil && m.throttles() {
		m.remember()
		m.throttle = m.config.Rules.Throttle.NewThrottle()
	}
}

// measure has the throttle look how long calls take, because a canary is late.
func (m *machine) measure() {
	if m.engage(); m.throttle != nil {
		m.throttle.Measure()
	}
}

// passes asks the throttle whether a call may go.
func (m *machine) passes(now, deadline time.Time) (call throttled, ok bool) {
	if !m.counting() {
		return throttled{}, true
	}
	memory := m.throttle
	memory.InShadow(m.inShadow())
	pass, ok := memory.Admit(now, deadline)
	m.notice(now)
	return throttled{memory, pass}, ok
}

// withdraw tells the throttle that a call that may go does not.
func (t throttled) withdraw() {
	if t.by != nil {
		t.by.Withdraw()
	}
}

// weighLoad tells the throttle what came of a call, or that its headers came well, whichever is first.
func (m *machine) weighLoad(now time.Time, call *watched, r policy.Result) {
	if call != nil && call.back {
		return
	}
	away := turnedAway(r)
	if away {
		m.engage()
	}
	memory := m.throttle
	if memory == nil || !m.throttles() {
		return
	}
	memory.InShadow(m.inShadow())
	var pass policy.Pass
	var took time.Duration
	if call != nil && call.throttled.by == memory {
		pass, took = call.throttled.pass, now.Sub(call.started)
	}
	switch {
	case away:
		memory.TurnedAway(now, pass, r.Cause.Status == http.StatusTooManyRequests, r.RetryAfter, r.Part)
	case r.Outcome == policy.Success:
		memory.Answered(now, pass, took, r.Part)
	case r.Outcome == policy.Failure && r.Cause.Kind == policy.KindTimeout:
		memory.TimedOut(now, pass, took)
	}
	m.notice(now)
	if memory.Forgettable(now) && m.canary.phase != watching {
		if m.spell != nil { // there is no limit, and the queue is what was watched
			m.unthrottled(now, policy.ThrottleCalm, "answers come in time again")
		}
		m.throttle = nil
	}
}

// turnedAway reports whether an upstream says that it gets too much.
func turnedAway(r policy.Result) bool {
	switch r.Cause.Status {
	case http.StatusServiceUnavailable:
		return r.Outcome == policy.Failure && r.Cause.Kind == policy.KindStatus
	case http.StatusTooManyRequests:
		return r.Outcome != policy.Ignored
	}
	return false
}
