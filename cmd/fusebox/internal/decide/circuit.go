package decide

import (
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// circuit is one of a key, in the run of a policy, with the calls that are out.
type circuit struct {
	*statemachine.Circuit
	run     *run
	key     uint32
	client  int
	number  int64 // of its last call, among those of the key
	seed    int   // 0 for the first run, of which the others are forks
	wake    int64 // when it wants to be woken; never if it does not
	out     ends
	state   policy.State
	since   int64 // of state
	tripped bool  // just now
	span    int   // in run.Spans, of the trouble it is in; -1 if none
	forks   []*circuit
}

const never = 1<<63 - 1

func at(ns int64) time.Time { return time.Unix(0, ns) }

// sync takes notice of what the circuit wants, after all that can change it.
func (c *circuit) sync() {
	c.wake = never
	if at, wants := c.WakeAt(); wants {
		c.wake = at.UnixNano()
	}
}

// advance does what happens until now, now included: calls come back, and what the circuit waits for is due.
func (c *circuit) advance(now int64) {
	for {
		end := int64(never)
		if len(c.out) > 0 {
			end = c.out[0].at
		}
		switch {
		case min(end, c.wake) > now:
			return
		case c.wake <= end:
			c.Wake(at(c.wake))
			c.sync()
		default:
			e := c.out.pop()
			c.ended(&e)
		}
	}
}

// ask has a call ask for its permit, and reports whether it is let through. Until is when its caller is gone; 0 if
// that is not known.
func (c *circuit) ask(call *record.Call, until int64) bool {
	now := at(call.Start)
	if limit := c.Config().Rules.Limits.InFlight; limit > 0 && len(c.out) >= limit {
		c.Refuse(now, policy.RefusedLimit)
		return false
	}
	permit, ok := c.AcquireClosedAt(now)
	if !ok {
		var deadline time.Time
		if until != 0 {
			deadline = at(until)
		}
		permit, _ = c.Acquire(now, deadline, statemachine.ToProbe)
		c.sync()
		if !permit.Granted() {
			return false
		}
	}
	e := end{at: call.End(), call: *call}
	var plain bool
	if e.generation, plain = permit.Plain(); !plain {
		kept := permit
		e.permit = &kept
		c.sync()
	}
	c.out.push(e)
	return true
}

// ended takes the end of a call.
func (c *circuit) ended(e *end) {
	permit := c.Permit(e.generation)
	if e.permit != nil {
		permit = *e.permit
	}
	outcome := e.call.Outcome()
	if e.call.Refused() || outcome == policy.Undecided {
		outcome = policy.Ignored // it is not known what would have become of it
	}
	if outcome == policy.Success && permit.Quiet() {
		return
	}
	r := policy.Result{Outcome: outcome, Cause: e.call.Cause(), Elapsed: max(0, e.call.Took())}
	now := at(e.at)
	permit.Done(now, r)
	c.sync()
	if c.tripped {
		c.tripped = false
		c.run.tripped(c, now, r)
	}
}

// Changed takes notice of a change of state.
func (c *circuit) Changed(change statemachine.Change) {
	now := change.At.UnixNano()
	c.tripped = change.From == policy.Closed && change.To == policy.Open
	c.run.changed(c, &change, now)
	c.state, c.since = change.To, now
}

// What follows makes it a statemachine.Observer. It is not in shadow, although what it refuses was made all the same
// when it was recorded: a throttle that never gives up would have a price that nobody would pay.
func (c *circuit) Refused(statemachine.Refusal)    {}
func (c *circuit) Throttled(statemachine.Throttle) {}
func (c *circuit) WantsRefusals() bool             { return false }
func (c *circuit) InShadow() bool                  { return false }
