package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/internal/smoothed"
	"github.com/fusebox-go/fusebox/policy"
)

// A canary is how a closed circuit finds out how long calls take, and that one is late, in a way that costs a healthy
// call nothing: one call at a time is the canary, and only that one is timed. If it is late, all calls are counted
// (vigil) until one that started since is back in time.
type canary struct {
	pace
	call  *watched // the canary, while it is out
	wake  moment   // when machine.wake is to be called; 0 if it is not
	phase phase
	moved bool // wake is another one since the timer was set
	// there is no timer, and no clock (Stepped): it is here since eight bytes more are thirty-two for each circuit
	stepped bool
}

// watched is what is known of a call that is a canary, or started while all were counted.
type watched struct {
	number  int // 0 is a canary
	started time.Time
	overdue time.Time // zero for a canary, and for what nobody waits for
	back    bool
	scout   bool   // let through while the upstream was silent
	stale   bool   // connections made before may be dead
	vigil   *vigil // of a canary that is late

	throttled throttled
}

// vigil returns that of the canary, which is late: only while watching.
func (c *canary) vigil() *vigil { return c.call.vigil }

// wakeAt has machine.wake called at a time; 0 for never.
func (c *canary) wakeAt(at moment) { c.wake, c.moved = at, true }

type phase uint8

const (
	wanting  phase = iota // the next call is a canary
	canaryUp              // it is out, and not late yet
	resting               // the next one is not wanted yet
	watching              // the canary is late
)

const (
	leastLate = 100 * time.Millisecond // no canary is late before
	rest      = 100 * time.Millisecond // between canaries
	leastTerm = 250 * time.Millisecond // of a probe's lease
	mindful   = 10 * time.Minute       // the longest call is remembered
	// by a call, as far as others are concerned, or one that hangs could hold them up for as long
	maxTaken = 5 * time.Minute
)

// takeCanary makes the call of a new permit the canary, unless another one was faster.
func (m *machine) takeCanary(now time.Time, generation uint64) *watched {
	c := &m.canary
	if m.generation != generation || m.state != policy.Closed || m.gone || c.phase != wanting {
		return nil
	}
	c.phase, c.call = canaryUp, &watched{started: now}
	c.wakeAt(momentOf(now.Add(c.late())))
	return c.call
}

// wake ends what lasts until canary.wake.
func (m *machine) wake(now time.Time) {
	c := &m.canary
	if m.state != policy.Closed || m.gone || c.wake == 0 || c.wake.after(now) {
		return
	}
	c.wakeAt(0)
	switch c.phase {
	case canaryUp:
		c.phase, c.call.vigil = watching, &vigil{pace: &c.pace, first: c.call, since: now}
		m.measure()
	case resting:
		c.phase = wanting
	}
}

func (c *canary) stop() {
	c.phase, c.call = wanting, nil
	c.wakeAt(0)
}

// cameBack takes notice of a call that started while the circuit was closed and has now ended or has its headers,
// whichever is first. Heard says that the upstream was heard of, which it was not if the caller gave up; well that it
// did what it was asked, and took as long as that takes.
func (c *canary) cameBack(now time.Time, call *watched, heard, well bool, hold policy.Hold) {
	if call != nil {
		if call.back {
			return
		}
		call.back = true
		if c.phase == watching && call != c.call && call.started.Before(c.vigil().since) {
			call = nil // counted by an earlier vigil
		}
	}
	switch {
	case c.phase == canaryUp && call == c.call:
		if well {
			c.learn(now, now.Sub(call.started))
		}
	case c.phase == watching && heard:
		if inTime := c.vigil().answered(now, call, well); !inTime {
			return
		}
	case c.phase == watching && call != nil:
		c.vigil().gaveUp(now, call, hold)
		return
	default:
		return
	}
	c.phase, c.call = resting, nil
	c.wakeAt(momentOf(now.Add(rest)))
}

// headersCame takes notice of good headers whose body is still to end.
func (c *canary) headersCame(now time.Time, call *watched, hold policy.Hold) {
	switch {
	case call != nil:
		c.cameBack(now, call, true, true, hold)
	case c.phase == watching:
		c.vigil().heard = true // its end counts as the answer, but silence this is not
	}
}

// admit counts a call that wants to start while all are, or says that it is held.
func (c *canary) admit(now, deadline time.Time, hold policy.Hold) (call *watched, held bool) {
	if c.phase != watching {
		return nil, false
	}
	return c.vigil().admit(now, deadline, hold)
}

// lost takes notice of a call that ended by its caller's deadline.
func (c *canary) lost(r policy.Result) {
	if c.phase == watching && r.Outcome == policy.Failure && r.Cause.Kind == policy.KindTimeout {
		c.vigil().lost = true
	}
}

// reuses takes notice of a scout that goes over a connection from before.
func (c *canary) reuses(now, since time.Time, most int) {
	if v := c.vigil(); !since.After(v.since) && int(v.nothing) < most {
		v.trusted = false
		v.next = earlier(v.next, now.Add(halved(c.shortened(holdStep, leastTerm), v.nothing)))
		v.nothing++
	}
}

// pace is how long calls take.
type pace struct {
	usual   time.Duration // a moving mean of those that are timed; 0 if none has come back yet
	longest time.Duration // that one of them took, of the last mindful
	slowest moment        // when that one came back
}

// late is how long a canary may take. Half as long again as usual may be a queue that begins, and it costs little to
// look.
func (p *pace) late() time.Duration { return max(leastLate, p.usual+p.usual/2) }

// learn takes notice of how long a call took that is one like the others.
func (p *pace) learn(now time.Time, took time.Duration) {
	p.usual = smoothed.With(p.usual, min(took, maxTaken))
	p.remember(now, took)
}

func (p *pace) remember(now time.Time, took time.Duration) {
	took = min(took, maxTaken)
	if took >= p.longest || momentOf(now)-p.slowest > moment(mindful) {
		p.longest, p.slowest = took, momentOf(now)
	}
}

// shortened shortens a lease where it is known how long calls usually take, but not to less than that.
func (p *pace) shortened(most, least time.Duration) time.Duration {
	if p.usual == 0 {
		return most
	}
	return min(most, max(least, 4*p.usual))
}

// lengthened makes a lease longer where calls take long.
func (p *pace) lengthened(least time.Duration) time.Duration { return max(least, 2*p.longest) }
