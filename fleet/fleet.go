// Package fleet lets the circuits of one upstream in many processes decide together: they share what fails, that they
// opened, who probes, when the upstream answers again, and the limit of calls in flight while it recovers.
//
//	transport.New(nil, transport.WithFleet(bus))
//
// A Bus carries their messages. Memory is the one for the Transports of one process; package fleet/fleetredis, a module
// of its own, is one for Redis and Valkey. The conformance suite for a Bus of your own is fleet/fleettest.
//
// Nothing here is on the path of a request. A member decides alone by what it knows, messages are sent and heard in the
// background, and one that is lost, late or twice does no more harm than that some members know less. Without a Bus
// that works, each circuit goes on by itself.
//
// Members can have different policies. Each trips by its own rule, where what others say weighs half of what it has
// seen: that a member has opened is as much evidence as its own rule takes to trip, halved, so two that open open the
// third that has no calls of its own that succeed, however patient it is. Without a failure of its own it is due for a
// probe within a second, whatever its rule for that, and goes on by what that probe finds; so hasty members do not
// decide for patient ones for longer than that. When the upstream answers one of them, those whose policy has a probe
// before its recovery join it, and those whose policy has not probe at their next request instead of when their time is
// over, once between two probes of their own. The limit of a recovery is shared by those with a Ramp. A state that is
// set or forced by hand is that member's alone, and no evidence.
//
// A member that opened is taken for open for a minute and a half, unless it says otherwise; while requests come, it
// says again every half minute that it still is. One that leaves says so. One that dies is counted until then, which
// can open the circuit of a member that joins, for as long as its first probe takes.
package fleet

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Kind is what a Message tells.
type Kind uint8

const (
	Evidence       Kind = iota + 1 // calls of a closed circuit failed and succeeded
	Opened                         // the circuit opened; and again every while it stays so, for those who join late
	ProbeStarted                   // a probe is out, and no other one is needed For that long
	ProbeFailed                    // it failed
	Answered                       // the upstream answered a probe
	RecoveryFailed                 // but not what came after it
	Recovered                      // the circuit is closed again
	Asked                          // requests came while the circuit was open
	// how a half-open circuit does: its calls in flight, and what came of those that ended
	Recovering
	// Opened holds no more, which says nothing of the upstream: somebody set the circuit by hand, or the member leaves
	Withdrawn
)

// Key is what circuits of several processes have in common: the parts of a transport.Key.
type Key struct {
	Scheme string `json:"s"`
	Host   string `json:"h"`
	Detail string `json:"d,omitempty"`
}

// Message is what one member tells the others of the circuit of one key. As JSON it is short; a reader ignores members
// that it does not know, and messages of kinds that it does not know, so that versions can differ.
type Message struct {
	From      string        `json:"f"` // the member
	Key       policy.Key    `json:"k"`
	Kind      Kind          `json:"t"`
	Failures  int           `json:"b,omitempty"` // with Evidence and Recovering: since the last one
	Successes int           `json:"g,omitempty"` // with Evidence and Recovering: since the last one
	Requests  int           `json:"r,omitempty"` // with Asked and Recovering: about how many came since the last one
	InFlight  int           `json:"i,omitempty"` // with Recovering: now
	Took      time.Duration `json:"e,omitempty"` // with Recovering: what a success took, on the mean
	// with ProbeStarted: the lease; with Opened: how long it holds unless it is told again
	For time.Duration `json:"l,omitempty"`
	Ago time.Duration `json:"a,omitempty"` // with Opened: how long the trouble has lasted
	// the upstream has answered this member (transport.Snapshot.Known); where there is no room for all, there is for
	// these first
	Known bool `json:"n,omitempty"`
}

// Bus carries messages between members. Its methods may be called by many goroutines at once.
type Bus interface {
	// Join makes a member of the caller, under a name that no other member has. Hear is called with the messages of all
	// other members, those of one member in the order in which it sent them, by one goroutine at a time and never from
	// within Send; it does not block. First come, as soon as they are known, those Opened messages whose time (For) is
	// not over, and which the same member has not taken back by Recovered or Withdrawn; For and Ago are what they are
	// now. Join returns at once, also if what carries the messages cannot be reached; it goes on trying.
	Join(member string, hear func(Message)) Link
}

// Link is a member's end of a Bus.
type Link interface {
	// Send sends a message to all other members. It does not block: what cannot be sent soon is dropped.
	Send(Message)
	// Close ends the membership. Hear is not called any more once it has returned. It must not be called from hear.
	// What was sent before is still on its way; Close may wait for a second or two until it is.
	Close()
}
