// Package record is a call as a record of it says that it was, and the keys that calls are told apart by.
package record

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Call is one finished call, in 24 bytes. The zero Call is none: it has no outcome.
type Call struct {
	Start    int64 // when it began, in nanoseconds since 1970
	tookLow  uint32
	Key      uint32 // of Keys
	tookHigh uint16
	Status   uint16 // of the answer; 0 if there was none, or the record does not say
	facts    uint16
	Client   uint16 // a hash of who called, by which calls are dealt out; 0 if the record does not say
}

// longest is what fits into 47 bits: 39 hours.
const longest = time.Duration(1)<<47 - 1

const unknown = 1 << 15 // of tookHigh

// Took is how long the call took from its start to its end, no more than 39 hours; -1 if the record does not say.
func (c *Call) Took() time.Duration {
	if c.tookHigh&unknown != 0 {
		return -1
	}
	return time.Duration(c.tookHigh)<<32 | time.Duration(c.tookLow)
}

// SetTook sets how long the call took; less than 0 is that the record does not say.
func (c *Call) SetTook(took time.Duration) {
	if took < 0 {
		c.tookLow, c.tookHigh = 0, unknown
		return
	}
	took = min(took, longest)
	c.tookLow, c.tookHigh = uint32(took), uint16(took>>32)
}

// End is when the call ended, in nanoseconds since 1970; its start if the record does not say how long it took.
func (c *Call) End() int64 { return c.Start + int64(max(c.Took(), 0)) }

// The facts, from the lowest bit: 5 bits of kind, 3 of phase, 3 of deadline, 2 of outcome, and refused.
const (
	phaseAt, deadlineAt, outcomeAt = 5, 8, 11
	refused                        = 1 << 13
)

// Outcome is what the call tells of its upstream; Undecided of the zero Call.
func (c *Call) Outcome() policy.Outcome { return policy.Outcome(c.facts >> outcomeAt & 3) }

// SetOutcome sets it.
func (c *Call) SetOutcome(o policy.Outcome) {
	c.facts = c.facts&^(3<<outcomeAt) | uint16(o)&3<<outcomeAt
}

// Cause is why the call ended as it did, without a Reason.
func (c *Call) Cause() policy.Cause {
	return policy.Cause{
		Kind:     policy.Kind(c.facts & 31),
		Phase:    policy.Phase(c.facts >> phaseAt & 7),
		Deadline: policy.Deadline(c.facts >> deadlineAt & 7),
		Status:   int(c.Status),
	}
}

// SetCause sets it, and the status with it.
func (c *Call) SetCause(cause policy.Cause) {
	c.facts = c.facts&^(1<<outcomeAt-1) |
		uint16(cause.Kind)&31 | uint16(cause.Phase)&7<<phaseAt | uint16(cause.Deadline)&7<<deadlineAt
	c.Status = uint16(min(max(cause.Status, 0), 999))
}

// Refused reports whether a circuit refused the call when it was made, so that the upstream never met it.
func (c *Call) Refused() bool { return c.facts&refused != 0 }

// SetRefused sets it.
func (c *Call) SetRefused() { c.facts |= refused }
