package transport

import (
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// Observer is a set of functions that are told what happens. Each may be nil, and what nobody observes costs nothing.
//
// OnStateChange, OnRefusal and OnStorageError are told of one circuit in the order in which things happened, one at
// a time, outside every lock: they can call anything, the Transport included. They run on the goroutine of a
// request, which waits for them; meanwhile the circuit's other requests go on, and their events wait in turn. A
// thousand waiting events are kept; then refusals are left out, and changes of state never. OnCall and OnOutcome
// run on the goroutine of their own call, many at once; OnOutcome after the change of state that the outcome made.
type Observer struct {
	OnStateChange  func(StateChange)
	OnRefusal      func(Refusal)
	OnCall         func(CallStart) // before the base RoundTripper is called
	OnOutcome      func(CallEnd)   // when a call's outcome is known, at the end of its body if it has one
	OnStorageError func(StorageError)
}

// StateChange is a circuit's change from one state to another.
type StateChange struct {
	Key                 Key
	From, To            policy.State
	At                  time.Time
	Reason              string       // "tripped", "open time passed", "probe succeeded", "recovered", "recovery failed", "by hand" or "restored"
	Cause               policy.Cause // of the failure that changed the state, if one did
	Failures, Successes int          // what the rule of the state From had in view
	NextProbe           time.Time    // the earliest time of the next probe, if To is Open
}

// Refusal is a request that was refused.
type Refusal struct {
	Key   Key
	At    time.Time
	Error *OpenError
}

// CallStart is a call that is about to be made.
type CallStart struct {
	Key     Key
	Request *http.Request // not to be changed
	Probe   bool          // it is one that decides about an open or half-open circuit
}

// CallEnd is the outcome of a call.
type CallEnd struct {
	Key     Key
	Request *http.Request // not to be changed
	Probe   bool
	Outcome policy.Outcome
	Cause   policy.Cause
	Elapsed time.Duration // to the headers or the error
}

// StorageError is an error of a Storage. The circuit goes on with what it knows itself.
type StorageError struct {
	Key Key
	Err error
}

// told is the statemachine.Observer of one circuit.
type told struct {
	t *Transport
	c *circuit
}

func (o told) Changed(change statemachine.Change) {
	event := StateChange{
		Key: o.c.key, From: change.From, To: change.To, At: change.At, Reason: string(change.Reason),
		Cause: change.Cause, Failures: change.Failures, Successes: change.Successes, NextProbe: change.Due,
	}
	o.t.save(event)
	for _, observer := range o.t.observers {
		if observer.OnStateChange != nil {
			observer.OnStateChange(event)
		}
	}
}

func (o told) Refused(r statemachine.Refusal) {
	for _, observer := range o.t.observers {
		if observer.OnRefusal != nil {
			facts := openError(o.c, r)
			observer.OnRefusal(Refusal{Key: o.c.key, At: r.At, Error: &facts})
		}
	}
}
