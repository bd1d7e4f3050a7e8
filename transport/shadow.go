package transport

import (
	"net/http"
	"sync/atomic"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// SetShadow puts the circuits into shadow for which shadow is true, and takes all others out; nil means the default,
// which is none. In shadow a circuit decides and changes its state as ever, but refuses nothing: a call that it would
// have refused is made, changes nothing, and is counted with what became of it (Snapshot.Shadow). A circuit that
// somebody forced open refuses all the same. A policy.Throttle learns by what it refuses whether that helps, which it
// cannot in shadow: there it keeps the limit that it began with until there is calm, and Snapshot.Shadow counts apart
// what it would have refused; taken out of shadow, it begins anew. SetShadow can be called while calls are under way;
// shadow is called by many goroutines at once.
func (t *Transport) SetShadow(shadow func(Key) bool) {
	if shadow == nil {
		shadow = func(Key) bool { return false }
	}
	t.shadow.Store(&shadow)
	for _, c := range t.all() {
		t.shadeLatest(c)
	}
}

// shadeLatest looks again after it has done what was to be done then, as applyOverride does.
func (t *Transport) shadeLatest(c *circuit) {
	for {
		shadow := t.shadow.Load()
		c.shadow.Store((*shadow)(c.whose().key))
		if t.shadow.Load() == shadow {
			return
		}
	}
}

// shadowed counts the calls that were made though the circuit had refused them.
type shadowed struct{ refused, succeeded, failed, turnedAway, throttled atomic.Uint64 }

func (s *shadowed) reset() {
	s.refused.Store(0)
	s.succeeded.Store(0)
	s.failed.Store(0)
	s.turnedAway.Store(0)
	s.throttled.Store(0)
}

func (s *shadowed) count(outcome policy.Outcome, cause policy.Cause) {
	switch {
	case outcome == policy.Failure:
		s.failed.Add(1)
	case outcome == policy.Success && cause.Status == http.StatusTooManyRequests:
		s.turnedAway.Add(1)
	case outcome == policy.Success:
		s.succeeded.Add(1)
	}
}

// shadows reports whether a request is made although it was refused, and counts it.
func (c *circuit) shadows(r statemachine.Refusal) bool {
	if r.Reason == policy.RefusedForced || !c.shadow.Load() {
		return false
	}
	c.also().shadowed.refused.Add(1)
	if r.Reason == policy.RefusedThrottled {
		c.also().shadowed.throttled.Add(1)
	}
	return true
}
