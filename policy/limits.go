package policy

import (
	"context"
	"time"
)

// Limits bound single calls and their number, whatever state the circuit is in. The zero value bounds nothing and costs
// nothing.
type Limits struct {
	// InFlight is how many calls of one circuit may be in flight, from their start to the end of their response's body
	// or, if nobody reads or closes that, of their request's context; further ones are refused, which says nothing of
	// the upstream. A protocol upgrade that the request asked for is in flight until its headers are there, and then
	// the caller's own. One that it did not ask for is a response with a body like any other, and so is the tunnel of a
	// CONNECT by net/http. 0 means any number.
	InFlight int
	// Timeout is how long a call may take until its headers are there, counted from its start in the base RoundTripper.
	// A call that takes longer ends with a *TimeoutError and is a failure. 0 means as long as its context lets it.
	Timeout time.Duration
	// TimeoutBody makes Timeout include the response's body. That of a protocol upgrade that the request asked for is
	// never included.
	TimeoutBody bool
}

// Validated returns l. It panics if the values make no sense.
func (l Limits) Validated() Limits {
	positiveOr(l.InFlight, 0, "Limits.InFlight")
	positiveOr(l.Timeout, 0, "Limits.Timeout")
	if l.TimeoutBody && l.Timeout == 0 {
		panic(invalid("Limits.TimeoutBody is set and Timeout is not; write a Timeout to include the body in"))
	}
	return l
}

// TimeoutError is the error of a call that took longer than Limits.Timeout. It is a net.Error whose Timeout is true,
// and context.DeadlineExceeded by errors.Is.
type TimeoutError struct {
	After time.Duration // the Timeout
	Body  bool          // the headers had come, and the body was cut off
}

// Error says what was waited for, and how long.
func (e *TimeoutError) Error() string {
	if e.Body {
		return "fusebox: response not complete after " + e.After.String()
	}
	return "fusebox: no answer within " + e.After.String()
}

// Timeout is true.
func (*TimeoutError) Timeout() bool { return true }

// Is reports whether target is context.DeadlineExceeded.
func (*TimeoutError) Is(target error) bool { return target == context.DeadlineExceeded }
