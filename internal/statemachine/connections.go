package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// An instance of an upstream can vanish without a word, and another take its place. Then every connection from before
// is dead, and a probe over one of them comes to nothing, whatever the upstream does. So a probe is to go over a new
// connection, and of one that could not, silence says nothing: the next request is a probe, and since each of them
// costs a dead connection and a lease, the leases become shorter and shorter, until the connections are used up about
// as fast as without a circuit.

const (
	staleLease = time.Second      // at most, of a probe over a connection that may be dead
	leastStale = time.Millisecond // however many there were
)

// connections are those to the upstream that were made before it fell silent.
type connections struct {
	stale   bool  // they may be dead, and the next probe is not to trust them
	nothing uint8 // probes of which nothing came over one of them, since the circuit opened
}

// reuses takes notice of whether a scout goes over a connection that was there before.
func (m *machine) reuses(now time.Time, p *Permit, reused bool, since time.Time, most int) {
	if p.generation() != m.generation {
		return
	}
	if place := p.place; place != nil && place.probe && !place.headers {
		place.reused = reused && !since.After(m.since) && int(m.connections.nothing) < most
		place.expiry = place.lease
		if place.reused && place.stale {
			place.expiry = earlier(
				place.lease, now.Add(halved(min(place.lease.Sub(now), staleLease), m.connections.nothing)),
			)
			m.leases.endsAt(place.expiry)
		}
	}
	if p.watched != nil && p.watched.scout && reused && m.canary.phase == watching {
		m.canary.reuses(now, since, most)
	}
}

// cameToNothing reports whether a result says nothing because of the connection, and has the next request be a probe.
func (m *machine) cameToNothing(p *place, r policy.Result) bool {
	if !p.reused || !silent(r) {
		return false
	}
	m.connections.nothing++
	m.connections.stale = true
	m.hastened = m.state == policy.Open // also if the rule has not asked for this one
	return true
}

// silent reports whether a call failed as it does if the other end of its connection is not there any more.
func silent(r policy.Result) bool {
	switch r.Cause.Kind {
	case policy.KindTimeout, policy.KindLease, policy.KindReset, policy.KindNoAnswer:
		return r.Outcome == policy.Failure
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// halved is a time halved n times.
func halved(d time.Duration, n uint8) time.Duration { return max(leastStale, d>>min(n, 16)) }
