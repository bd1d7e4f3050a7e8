package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Permit is the right to make one call. Its holder gives it back exactly once by Done. The zero value is no permit. It
// has four fields, since what has more is not kept in registers.
type Permit struct {
	circuit *Circuit
	word    uint64   // the circuit's, of which it tells the generation, and whether somebody looks at the call
	place   *place   // nil if the circuit was closed
	watched *watched // nil if nobody watched it then
}

func (p Permit) generation() uint64 { return p.word >> generation }

// Plain returns the generation of a permit that is nothing more: of a closed circuit, and nobody looks at its call.
// Circuit.Permit makes the permit of it again.
func (p Permit) Plain() (generation uint64, ok bool) {
	const looked = failingBit | attendedBit | partsBit
	return p.generation(), p.circuit != nil && p.place == nil && p.watched == nil && p.word&looked == 0
}

// Permit returns the permit again of which only the generation was kept (Permit.Plain).
func (c *Circuit) Permit(of uint64) Permit {
	return Permit{circuit: c, word: of << generation}
}

// Granted reports whether p is a permit at all.
func (p Permit) Granted() bool { return p.circuit != nil }

// Watched reports whether the call is one that is timed, because one is now and then and all are after a failure, or
// counted because an upstream may have fallen silent or behind.
func (p Permit) Watched() bool { return p.word&failingBit != 0 || p.watched != nil }

// WantsPart reports whether it matters what part of the upstream a call that succeeds is for: a throttle counts it, or
// parts are in trouble.
func (p Permit) WantsPart() bool { return p.watched != nil || p.circuit.word.Load()&partsBit != 0 }

// Probing reports whether the call is one of those that decide about an open or half-open circuit.
func (p Permit) Probing() bool { return p.place != nil && !p.place.weighed }

// Probe reports whether the call is a probe: let through while open, or as one of the few of a trial, and not as part
// of a ramp.
func (p Permit) Probe() bool { return p.place != nil && p.place.probe }

// Overdue reports whether the call is a probe that any call may be, since no safe one came for it in Rules.SafeWait.
func (p Permit) Overdue() bool { return p.place != nil && p.place.overdue }

// Scout reports whether the call goes to see how the upstream does: it is a probe, or one of the calls that a Hold lets
// through.
func (p Permit) Scout() bool { return p.Probe() || p.watched != nil && p.watched.scout }

// Stale reports whether the upstream fell silent, so that connections made before may be dead and the call is not to go
// over one of them.
func (p Permit) Stale() bool {
	return p.place != nil && p.place.stale || p.watched != nil && p.watched.stale
}

// Quiet reports whether giving the permit back with a success would change nothing. It takes no lock.
func (p Permit) Quiet() bool {
	return p.watched == nil && p.place == nil && p.circuit.Quiet(p.generation())
}

// Quiet is Permit.Quiet of a permit of which only the generation was kept (Permit.Plain).
func (c *Circuit) Quiet(of uint64) bool {
	word := c.word.Load()
	return word&(stateBits|quietBit|goneBit|watchBit|knownBit|partsBit) == uint64(policy.Closed)|quietBit|knownBit &&
		word>>generation == of
}

// WantsHeaders reports whether Headers would do anything. It takes no lock.
func (p Permit) WantsHeaders() bool {
	return p.place != nil || p.watched != nil || p.circuit.WantsHeaders()
}

// WantsHeaders is that of a permit that is plain (Permit.Plain).
func (c *Circuit) WantsHeaders() bool {
	word := c.word.Load()
	return word&(watchBit|partsBit) != 0 || word&(stateBits|quietBit) == uint64(policy.Closed)
}

// Headers says that the call's headers came well and its body is still to end. If that takes long, the headers
// settle the call, and the failure of a later Done counts as one more. Part is that of policy.Result.
func (p *Permit) Headers(now time.Time, part uint64) {
	p.circuit.lock()
	defer p.circuit.unlock()
	p.circuit.machine.headersCame(now, p, part)
}

// BytesAfter is for how long after Headers bytes of the body are worth a call of Bytes.
const BytesAfter = bodyLease

// Bytes says that bytes of the body came, no less than BytesAfter after Headers. It returns in how long those that come
// then are worth another call; 0 if none are.
func (p *Permit) Bytes(now time.Time) (again time.Duration) {
	p.circuit.lock()
	defer p.circuit.unlock()
	return p.circuit.machine.bytesCame(now, p)
}

// Reused says that a scout goes over a connection that was there before, unused since; zero if that is not known. If
// the connection may be dead, silence will say nothing of the upstream, for up to most such calls. It may be called
// again while the call is out, if it starts anew, and with false for a new connection. Of other calls it takes no
// notice.
func (p Permit) Reused(now time.Time, reused bool, since time.Time, most int) {
	p.circuit.lock()
	defer p.circuit.unlock()
	p.circuit.machine.reuses(now, &p, reused, since, most)
}

// Return gives the permit back as if it had not been asked for: no call was made with it.
func (p Permit) Return(now time.Time) {
	p.circuit.lock()
	defer p.circuit.unlock()
	p.circuit.machine.returned(now, &p)
}

// Done gives the permit back. The outcome is Success, Failure or Ignored. Opened reports that this call
// opened the circuit; gone that the circuit was forgotten meanwhile and a failure belongs to the one that took
// its place.
func (p Permit) Done(now time.Time, r policy.Result) (opened, gone bool) {
	return p.done(now, r, false)
}

// Slow reports, of a permit that was given back, whether its call was let through in trouble and succeeded too slowly
// for a rule, which makes a failure of it. Only the goroutine that has given it back may ask.
func (p Permit) Slow() bool { return p.place != nil && p.place.slow }

// DoneAgain is Done for a call that says no more of the upstream than is known: it failed by an event by which another
// has failed already, or its good headers are of long ago.
func (p Permit) DoneAgain(now time.Time, r policy.Result) (opened, gone bool) {
	return p.done(now, r, true)
}

func (p *Permit) done(now time.Time, r policy.Result, again bool) (opened, gone bool) {
	p.circuit.lock()
	defer p.circuit.unlock()
	if p.circuit.machine.gone {
		return false, true
	}
	return p.circuit.machine.ended(now, p, r, again), false
}
