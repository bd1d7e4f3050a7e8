package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// An instance of an upstream can vanish without a word, and another take its place. Then every connection from before is
// dead, and a probe over one of them comes to nothing, whatever the upstream does. So a probe is to go over a new
// connection, and of one that could not, silence says nothing: the next request is a probe, and since each of them costs a
// dead connection and a lease, the leases become shorter and shorter, until the connections are used up about as fast as
// without a circuit.

const (
	staleLease = time.Second      // at most, of a probe over a connection that may be dead
	leastStale = time.Millisecond // however many there were
)

// Scout reports whether the call goes to see how the upstream does: it is a probe, or one of the calls that a Hold lets
// through.
func (p Permit) Scout() bool { return p.Probe() || p.watched != nil && p.watched.scout }

// Stale reports whether the upstream fell silent, so that connections made before may be dead and the call is not to go over
// one of them.
func (p Permit) Stale() bool {
	return p.place != nil && p.place.stale || p.watched != nil && p.watched.stale
}

// Reused says that a scout goes over a connection that was there before, unused since; zero if that is not known. If the
// connection may be dead, silence will say nothing of the upstream, for up to most such calls. It may be called again while
// the call is out, if it starts anew, and with false for a new connection. Of other calls it takes no notice.
func (p Permit) Reused(now time.Time, reused bool, since time.Time, most int) {
	c := p.circuit
	c.mu.Lock()
	defer c.unlock()
	if p.generation != c.generation() {
		return
	}
	if place := p.place; place != nil && place.probe && !place.headers {
		place.reused = reused && !since.After(c.since) && int(c.nothing) < most
		place.expiry = place.lease
		if place.reused && place.stale {
			place.expiry = earlier(place.lease, now.Add(halved(min(place.lease.Sub(now), staleLease), c.nothing)))
			c.expireBy(place.expiry)
		}
	}
	if w := &c.watch; w.phase == watching && p.watched != nil && p.watched.scout && reused && !since.After(w.since) && int(w.nothing) < most {
		w.trusted = false
		w.next = earlier(w.next, now.Add(halved(w.lease(holdStep), w.nothing)))
		w.nothing++
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// halved is a time halved n times.
func halved(d time.Duration, n uint8) time.Duration { return max(leastStale, d>>min(n, 16)) }

// silent reports whether a call failed as it does if the other end of its connection is not there any more.
func silent(r policy.Result) bool {
	switch r.Cause.Kind {
	case policy.Timeout, policy.Lease, policy.Reset, policy.NoAnswer:
		return r.Outcome == policy.Failure
	}
	return false
}

// cameToNothing reports whether a result says nothing because of the connection, and has the next request be a probe.
func (c *Circuit) cameToNothing(p *place, r policy.Result) bool {
	if !p.reused || !silent(r) {
		return false
	}
	c.nothing++
	c.stale = true
	c.hastened = c.state() == policy.Open // also if the rule has not asked for this one
	return true
}
