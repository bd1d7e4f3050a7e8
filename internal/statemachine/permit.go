package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Permit is the right to make one call. Its holder gives it back exactly once by Done. The zero value is no permit.
type Permit struct {
	circuit    *Circuit
	generation uint64
	place      *place   // nil if the circuit was closed
	watched    *watched // nil if nobody watched it then
	timed      bool     // the circuit has to know how long the call takes
}

// Granted reports whether p is a permit at all.
func (p Permit) Granted() bool { return p.circuit != nil }

// Watched reports whether the call is one that is timed, because one is now and then and all are after a failure, or counted
// because an upstream may have fallen silent or behind.
func (p Permit) Watched() bool { return p.timed || p.watched != nil }

// Probing reports whether the call is one of those that decide about an open or half-open circuit.
func (p Permit) Probing() bool { return p.place != nil && !p.place.weighed }

// Probe reports whether the call is a probe: let through while open, or as one of the few of a trial, and not as part of
// a ramp.
func (p Permit) Probe() bool { return p.place != nil && p.place.probe }

// Overdue reports whether the call is a probe that any call may be, since no safe one came for it in Rules.SafeWait.
func (p Permit) Overdue() bool { return p.place != nil && p.place.overdue }

// Quiet reports whether giving the permit back with a success would change nothing. It takes no lock.
func (p Permit) Quiet() bool {
	word := p.circuit.word.Load()
	return word&(stateBits|quietBit|goneBit|watchBit|knownBit) == uint64(policy.Closed)|quietBit|knownBit &&
		word>>generation == p.generation && p.watched == nil && p.place == nil
}

// WantsHeaders reports whether Headers would do anything. It takes no lock.
func (p Permit) WantsHeaders() bool {
	if p.place != nil || p.watched != nil {
		return true
	}
	word := p.circuit.word.Load()
	return word&watchBit != 0 || word&(stateBits|quietBit) == uint64(policy.Closed)
}

// Headers says that the call's headers came well and its body is still to end. If that takes long, the headers
// settle the call, and the failure of a later Done counts as one more.
func (p *Permit) Headers(now time.Time) {
	c := p.circuit
	c.mu.Lock()
	defer c.unlock()
	if c.gone() {
		return
	}
	if p.place != nil && p.place.expired {
		if r := (policy.Result{Outcome: policy.Success, Elapsed: now.Sub(p.place.started)}); c.lives(p.place, r) {
			c.answered(r)
			c.late(now, *p, r)
			p.place.headers, p.place.opened = true, c.opened
		}
		return
	}
	if p.generation != c.generation() {
		return
	}
	if p.place == nil {
		c.wentWell(now)
		if p.watched != nil {
			c.cameBack(now, p.watched, true, true)
		} else if c.watch.phase == watching {
			c.watch.heard = true // its end counts as the answer, but silence this is not
		}
		p.place = c.weigh(now)
		return
	}
	if p.place.index < 0 || p.place.weighed {
		return
	}
	p.place.headers, p.place.took = true, now.Sub(p.place.started)
	c.answered(policy.Result{Outcome: policy.Success})
	if expiry := now.Add(bodyLease); expiry.Before(p.place.expiry) {
		p.place.expiry = expiry
		c.expireBy(expiry)
	}
}

// Return gives the permit back as if it had not been asked for: no call was made with it.
func (p Permit) Return(now time.Time) {
	c := p.circuit
	c.mu.Lock()
	defer c.unlock()
	if p.generation != c.generation() || c.gone() {
		return
	}
	if p.place == nil || p.place.weighed {
		if p.place != nil {
			c.giveBack(p.place)
		}
		c.cameBack(now, p.watched, false, false)
		return
	}
	if p.place.index >= 0 {
		c.hastened = c.hastened || p.place.hastened
		if since, others := p.place.withheld, c.trouble.withheld; !since.IsZero() && (others.IsZero() || since.Before(others)) {
			c.trouble.withheld = since
		}
		c.stale = c.stale || p.place.stale
	}
	c.giveBack(p.place)
	c.counts.Probes--
}

// Done gives the permit back. The outcome is Success, Failure or Ignored. Opened reports that this call
// opened the circuit; gone that the circuit was forgotten meanwhile and a failure belongs to the one that took
// its place.
func (p Permit) Done(now time.Time, r policy.Result) (opened, gone bool) {
	return p.done(now, r, false)
}

// DoneAgain is Done for a call that says no more of the upstream than is known: it failed by an event by which another has failed
// already, or its good headers are of long ago.
func (p Permit) DoneAgain(now time.Time, r policy.Result) (opened, gone bool) {
	return p.done(now, r, true)
}

func (p Permit) done(now time.Time, r policy.Result, again bool) (opened, gone bool) {
	c := p.circuit
	c.mu.Lock()
	defer c.unlock()
	if c.gone() {
		return false, true
	}
	c.answered(r)
	switch r.Outcome {
	case policy.Failure:
		c.counts.Failures++
		c.failed(now, r)
	case policy.Ignored:
		c.counts.Ignored++
	}
	if c.state() == policy.Closed {
		c.expire(now)
	}
	well := r.Outcome == policy.Success
	heard := well || r.Outcome == policy.Failure && r.Cause.Kind != policy.Timeout
	switch expired := p.place != nil && p.place.expired; {
	case again && (!well || p.place == nil): // what holds a place has not counted
		r.Outcome = policy.Ignored
	case !expired && p.generation == c.generation():
		r = c.hint(p, now, r)
	}
	switch {
	case p.place != nil && p.place.expired:
		return c.late(now, p, r), false
	case p.generation != c.generation():
		c.counts.LateCalls++
		return false, false
	case p.place == nil:
		if well {
			c.wentWell(now)
		}
		if c.watch.phase == watching && r.Outcome == policy.Failure && r.Cause.Kind == policy.Timeout {
			c.watch.lost = true
		}
		c.cameBack(now, p.watched, heard, well)
		return c.record(now, r), false
	}
	c.giveBack(p.place)
	if p.place.weighed {
		c.cameBack(now, p.watched, heard, well)
		return c.record(now, r), false
	}
	if c.cameToNothing(p.place, r) {
		return false, false
	}
	return c.settle(now, p.place, r), false
}
