package transport

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/next"
	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// Observer is a set of functions that are told what happens. Each may be nil, and what nobody observes costs nothing.
//
// OnStateChange, OnRefusal, OnThrottle and OnStorageError are told of one circuit in the order in which things
// happened, one at a time, outside every lock: they can call anything, the Transport included. They run on the
// goroutine of a request, which waits for them; meanwhile the circuit's other requests go on, and their events wait in
// turn. A thousand waiting events are kept; then refusals are left out, and nothing else ever. OnRefuse, OnCall,
// OnOutcome, OnFailure and OnProbe run on the goroutine of their own call, many at once, and after the change of state
// that the outcome made.
type Observer struct {
	OnStateChange func(StateChange)
	OnRefusal     func(RefusalEvent)
	OnThrottle    func(ThrottleEvent) // calls of a closed circuit are throttled from now on, or not any more

	// OnRefuse is called for each request that is refused, on its own goroutine and before its answer is made, many at
	// once. It is for what has to know the request, such as its trace; it changes no answer. In shadow the error's
	// Shadow says that the call is made. It is called for the call that opens a circuit, too, if that gets the refusal
	// (WithRefusalOnTrip).
	OnRefuse func(*http.Request, *RefusedError)

	OnCall         func(CallStart) // before the base RoundTripper is called
	OnOutcome      func(CallEnd)   // when a call's outcome is known, at the end of its body if it has one
	OnFailure      func(CallEnd)   // the same for calls that failed alone; good ones cost nothing
	OnProbe        func(CallEnd)   // the same for calls that decide about an open or half-open circuit alone
	OnStorageError func(StorageError)
	OnLocalTrouble func(LocalTrouble) // on a goroutine of its own, where a panic ends the process, or that of a request

	// Untimed says that OnOutcome does not need CallEnd.Elapsed, which saves a call two readings of the clock.
	Untimed bool
}

// StateChange is a circuit's change from one state to another.
type StateChange struct {
	Key                 Key
	From, To            policy.State
	At                  time.Time
	Reason              policy.ChangeReason
	Cause               policy.Cause // of the failure that changed the state or, if it is restored, of the last
	Failures, Successes int          // what the rule of the state From had in view
	NextProbe           time.Time    // the earliest time of the next probe, if To is Open and not forced
	ProbeRequests       int          // as Snapshot.ProbeRequests
	ProbeLatest         time.Time    // as Snapshot.ProbeLatest
	// what a rule saw that opened the circuit, and against what bound, or why the recovery that begins is held; empty
	// if there is nothing of the kind
	Why     string
	Trouble time.Time       // as Snapshot.Trouble
	Part    bool            // as Snapshot.Part
	Shadow  bool            // the circuit refuses nothing (SetShadow)
	Known   bool            // as Snapshot.Known
	Samples []policy.Sample // the latest causes of failures, if To is Open; not to be changed
}

// String returns the change in one line: "https://example.com: closed to open, tripped: 6 failures in a row (bound 6),
// last: connect: refused".
func (c StateChange) String() string {
	text := fmt.Sprintf("%v: %v to %v, %s", c.Key, c.From, c.To, c.Reason)
	switch {
	case c.Why != "":
		text += ": " + c.Why
	case c.Failures+c.Successes > 0:
		text += fmt.Sprintf(": %d failures against %d successes", c.Failures, c.Successes)
	}
	if c.Cause != (policy.Cause{}) {
		text += ", last: " + c.Cause.String()
	}
	return text
}

// When says when the next probe goes, in the words of RefusedError.NextProbe; empty if To is not Open, or forced.
func (c StateChange) When() string {
	if c.NextProbe.IsZero() {
		return ""
	}
	p := next.Probe{Requests: c.ProbeRequests, Soonest: max(0, c.NextProbe.Sub(c.At))}
	if p.Requests > 0 {
		p.Latest = max(0, c.ProbeLatest.Sub(c.At))
	}
	return p.String()
}

// RefusalEvent is a request that was refused.
type RefusalEvent struct {
	Key    Key
	At     time.Time
	Error  *RefusedError
	Shadow bool // the call was made all the same (SetShadow)
	Known  bool // as Snapshot.Known
	Part   bool // as Snapshot.Part
}

// ThrottleEvent says that calls of a closed circuit are throttled from now on (policy.Throttle), or are not any more.
// It changes no state. The end is told when something next happens to the circuit, such as a call, with the time of
// when it was.
type ThrottleEvent struct {
	Key    Key
	At     time.Time
	Over   bool
	Reason policy.ThrottleReason // why, or why not any more
	Why    string                // what the rule saw, and against what bound; can be empty if Over
	Since  time.Time             // when they began to be; At if not Over
	// as in policy.Throttled, from now on; 0 if Over
	InFlight  int
	PerSecond float64
	Refused   uint64 // requests that were refused, or would have been in shadow; 0 if not Over
	Shadow    bool   // the circuit refuses nothing (SetShadow)
	Known     bool   // as Snapshot.Known
}

// String returns the event in one line: "https://example.com: calls no longer throttled, calm: none turned away or late
// for 30s; 118 refused in 1m12s".
func (e ThrottleEvent) String() string {
	text := e.Key.String() + ": calls throttled, "
	if e.Over {
		text = e.Key.String() + ": calls no longer throttled, "
	}
	text += string(e.Reason)
	if e.Why != "" {
		text += ": " + e.Why
	}
	if e.Over {
		return fmt.Sprintf("%s; %d refused in %v", text, e.Refused, e.At.Sub(e.Since).Round(time.Millisecond))
	}
	how := policy.Throttled{InFlight: e.InFlight, PerSecond: e.PerSecond}
	return string(how.AppendLimit(append([]byte(text), "; "...)))
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
	Shadow  bool // the circuit would have refused it (SetShadow)
	// Outcome is what the call says of its upstream: what the classifier said, or Failure of a probe that succeeded too
	// slowly for a rule of the policy.
	Outcome policy.Outcome
	Cause   policy.Cause
	Started time.Time     // before the base was called; zero if nobody asks for the time
	Elapsed time.Duration // to the headers or the error; 0 if nobody asks for the time
	// id of the trace of a call that failed, or that a rule of slowness looked at, if it is known
	Trace string
	Known bool // as Snapshot.Known, with this call
	Part  bool // as Snapshot.Part: the call is a probe of a part, or of its recovery
}

// StorageError is an error of a Storage. The circuit goes on with what it knows itself.
type StorageError struct {
	Key Key
	Err error
}

// observers are those who are told now.
type observers struct {
	mu       sync.Mutex
	list     atomic.Pointer[[]*Observer] // never changed once it is there
	refusals atomic.Bool                 // somebody is told of them
	refuse   atomic.Bool                 // somebody is told of them with their requests
	attend   atomic.Bool                 // somebody is told of every call
	timed    atomic.Bool                 // and of the time that it took
}

// Observe adds an observer while calls are under way, and returns a function that takes it away again. Events that are
// being delivered by then may still reach it.
func (t *Transport) Observe(o Observer) (stop func()) {
	added := &o
	t.observers.change(func(list []*Observer) []*Observer { return append(list, added) })
	return func() {
		t.observers.change(func(list []*Observer) []*Observer {
			return slices.DeleteFunc(list, func(have *Observer) bool { return have == added })
		})
	}
}

func (os *observers) change(change func([]*Observer) []*Observer) {
	os.mu.Lock()
	defer os.mu.Unlock()
	list := change(slices.Clone(os.all()))
	os.list.Store(&list)
	os.refusals.Store(slices.ContainsFunc(list, func(o *Observer) bool { return o.OnRefusal != nil }))
	os.refuse.Store(slices.ContainsFunc(list, func(o *Observer) bool { return o.OnRefuse != nil }))
	os.attend.Store(slices.ContainsFunc(list, func(o *Observer) bool { return o.OnCall != nil || o.OnOutcome != nil }))
	os.timed.Store(slices.ContainsFunc(list, func(o *Observer) bool { return o.OnOutcome != nil && !o.Untimed }))
}

func (os *observers) all() []*Observer {
	if list := os.list.Load(); list != nil {
		return *list
	}
	return nil
}

// tellRefuse has facts of its own, so that only who asks for them pays for the memory.
func (os *observers) tellRefuse(req *http.Request, facts RefusedError) {
	for _, o := range os.all() {
		if o.OnRefuse != nil {
			o.OnRefuse(req, &facts)
		}
	}
}

// What follows makes a circuit the statemachine.Observer of itself.

func (c *circuit) Changed(change statemachine.Change) {
	if !c.kept {
		return
	}
	event := StateChange{
		Key: c.key, Part: c.isPart(), From: change.From, To: change.To, At: change.At, Reason: change.Reason,
		Shadow: c.shadow.Load(),
		Cause:  change.Cause, Failures: change.Failures, Successes: change.Successes, Samples: change.Samples,
		NextProbe: change.Due, ProbeRequests: change.Requests, ProbeLatest: change.Latest,
		Known: c.Known(), Why: change.Why, Trouble: change.Trouble,
	}
	if c.isPart() {
		c.t.mended(c, change)
	} else {
		defer c.t.save(event) // last, since it is a user's too, and may panic
		c.t.local.observe(c.t, c, change)
	}
	for _, o := range c.t.observers.all() {
		if o.OnStateChange != nil {
			o.OnStateChange(event)
		}
	}
}

func (c *circuit) Refused(r statemachine.Refusal) {
	shadow := r.Reason != policy.RefusedForced && c.shadow.Load()
	for _, o := range c.t.observers.all() {
		if o.OnRefusal != nil {
			facts := refusedError(c, r)
			facts.Shadow = shadow
			o.OnRefusal(RefusalEvent{
				Key: c.key, At: r.At, Error: &facts, Shadow: shadow, Known: c.Known(), Part: c.isPart(),
			})
		}
	}
}

func (c *circuit) Throttled(t statemachine.Throttle) {
	event := ThrottleEvent{
		Key: c.key, At: t.At, Over: t.Over, Reason: t.Reason, Why: t.Why, Since: t.Since,
		InFlight: t.InFlight, PerSecond: t.PerSecond, Refused: t.Refused,
		Shadow: c.shadow.Load(), Known: c.Known(),
	}
	for _, o := range c.t.observers.all() {
		if o.OnThrottle != nil {
			o.OnThrottle(event)
		}
	}
}

func (c *circuit) WantsRefusals() bool { return c.t.observers.refusals.Load() }
func (c *circuit) InShadow() bool      { return c.shadow.Load() }
