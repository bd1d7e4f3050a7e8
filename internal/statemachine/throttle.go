package statemachine

import (
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// A throttle limits the calls of a closed circuit whose upstream gets more than it can carry (policy.Throttle).
// machine.throttle is there from the first sign of that until nothing is left to remember, or somebody
// sets the state.

// throttled is what a throttle knows of a call that it has let through.
type throttled struct {
	by   *policy.Throttling // the memory that did; nil if none has
	pass policy.Pass
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
	pass, ok := memory.Admit(now, deadline)
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
	var pass policy.Pass
	var took time.Duration
	if call != nil && call.throttled.by == memory {
		pass, took = call.throttled.pass, now.Sub(call.started)
	}
	switch {
	case away:
		memory.TurnedAway(now, pass, r.Cause.Status == http.StatusTooManyRequests)
	case r.Outcome == policy.Success:
		memory.Answered(now, pass, took)
	case r.Outcome == policy.Failure && r.Cause.Kind == policy.KindTimeout:
		memory.TimedOut(now, pass, took)
	}
	if memory.Forgettable(now) && m.canary.phase != watching {
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
