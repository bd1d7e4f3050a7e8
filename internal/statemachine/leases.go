package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

const (
	// bodyLease is how long a call whose headers came well waits for its body before the headers have the say: a body
	// that streams for hours does not hold a probe for hours, nor the success of a call that is weighed.
	bodyLease = time.Second
	// hollowFor is how long it is remembered that good headers had settled a call whose body then stalled. A stream may
	// say nothing for long and be well; but where calls have ended that way, others may, and only bytes that come after
	// a time are a sign of life.
	hollowFor = 10 * time.Minute
	// maxWeighed is how many calls of a closed circuit wait for that at a time. The success of further ones counts at
	// their end.
	maxWeighed = 64

	// maxSolid is how old a body is at most that counts though others have stalled: streams that live for an hour and
	// then stall say well of the upstream before.
	maxSolid = time.Minute
	// maxProbed is the same of a probe.
	maxProbed = 10 * time.Second

	// leastPlace is how long a call of a recovery that has not come back keeps others from going, at least.
	leastPlace = time.Second
	// silentFor is how long nothing has come back in a recovery until calls whose leases have ended count as failed.
	silentFor = time.Minute

	forEver = 100 * 365 * 24 * time.Hour
)

// leases are what the calls take up that were let through in this generation and are not given back.
type leases struct {
	places []*place
	next   time.Time // not after the first of them ends; zero if there is none
	// until then good headers say nothing by themselves: of a call that they had settled the body stalled
	hollow moment
	// solid is how old a body is that counts while that is so, if bytes still come: twice what those were that stalled.
	solid time.Duration
}

// place is what a call let through while open or half-open takes up; and one of a closed circuit whose headers came
// well, while its body may still break.
type place struct {
	index     int // in leases.places; -1 when given back
	started   time.Time
	trouble   *trouble // machine.trouble then
	requests  int      // trouble.requests then
	expiry    time.Time
	mark      int
	waits     time.Duration // its caller; 0 for any time
	withheld  time.Time     // trouble.withheld when it got its place
	probe     bool          // it goes to see how the upstream does
	overdue   bool          // and waited for a safe call for so long that any could be it
	hastened  bool          // it is a probe for that reason
	weighed   bool          // the circuit is closed
	part      uint64        // and the call is for this part of the upstream; 0 if nobody asked
	headers   bool          // they came well
	bytes     bool          // and some of the body, when it was oldEnough
	took      time.Duration // until they did
	lease     time.Time     // that expiry was at first
	stale     bool          // connections.stale was set when it was let through
	reused    bool          // it goes over a connection that may be dead
	expired   bool          // its lease ended before the call did, and it was settled then
	unsettled bool          // but for that
	opened    uint64        // machine.opened when it expired
	slow      bool          // the call succeeded, and too slowly for a rule; set as it is given back, by who does that
}

func (l *leases) take(p *place) {
	p.index = len(l.places)
	l.places = append(l.places, p)
	l.endsAt(p.expiry)
}

// endsAt takes notice of when a lease ends.
func (l *leases) endsAt(expiry time.Time) {
	if l.next.IsZero() || expiry.Before(l.next) {
		l.next = expiry
	}
}

// giveBack reports whether the place was taken.
func (l *leases) giveBack(p *place) bool {
	if p.index < 0 {
		return false
	}
	last := len(l.places) - 1
	l.places[p.index] = l.places[last]
	l.places[p.index].index = p.index
	l.places[last] = nil
	l.places = l.places[:last]
	p.index = -1
	return true
}

// end gives all of them back.
func (l *leases) end() {
	for _, p := range l.places {
		p.index = -1
	}
	l.places, l.next = nil, time.Time{} // what is hollow stays so
}

// over returns the place whose lease ended first, or nil if none has.
func (l *leases) over(now time.Time) *place {
	if l.next.IsZero() || now.Before(l.next) {
		return nil
	}
	var first *place
	for _, p := range l.places {
		if first == nil || p.expiry.Before(first.expiry) {
			first = p
		}
	}
	if first != nil && !first.expiry.After(now) {
		return first
	}
	if l.next = (time.Time{}); first != nil {
		l.next = first.expiry
	}
	return nil
}

// free gives a place back.
func (m *machine) free(p *place) {
	if m.leases.giveBack(p) && m.state == policy.HalfOpen {
		m.peers.Freed()
	}
}

// expire settles the calls whose leases have ended, in the order in which they ended: well if their headers came
// well, as failed otherwise, unless they may still come.
func (m *machine) expire(now time.Time) {
	for p := m.leases.over(now); p != nil; p = m.leases.over(now) {
		p.expired, p.opened = true, m.opened
		m.free(p)
		switch {
		case p.weighed:
			m.record(now, policy.Result{Outcome: policy.Success, Part: p.part})
		case m.good(now, p):
			m.settle(now, p, policy.Result{Outcome: policy.Success, Elapsed: p.took})
		case m.mayCome(now):
			p.unsettled = true
		default:
			r := policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindLease}}
			m.failed(now, r)
			if !m.cameToNothing(p, r) {
				m.settle(now, p, r)
			}
		}
	}
}

// mayCome reports whether a call whose lease has ended is none that has failed: it may be meant to take long, as a long
// poll is, and its place is for others meanwhile. In a trial every call is a probe, and has to show how it ends.
func (m *machine) mayCome(now time.Time) bool {
	return m.state == policy.HalfOpen && m.RecoversAfterProbe() && now.Sub(m.trouble.heard) < silentFor
}

// weigh lets the success of a closed circuit's call count a while after its headers came, unless its body ends or
// breaks before. It returns nil if a success would change nothing, or if too many calls wait for that.
func (m *machine) weigh(now time.Time, part uint64) *place {
	m.expire(now)
	if m.state != policy.Closed || m.word()&(quietBit|partsBit) == quietBit || len(m.leases.places) >= maxWeighed {
		return nil
	}
	m.remember()
	p := &place{started: now, expiry: now.Add(bodyLease), weighed: true, headers: true, part: part}
	if m.leases.hollow.after(now) {
		p.expiry = now.Add(forEver) // until bytes come
	}
	m.leases.take(p)
	return p
}

// late takes the result of a call whose lease has ended. Two things can be new in it if that has settled the call: that
// the body broke after the headers came well, which is one more failure unless the circuit has opened since; and that
// the call succeeded after all, which says that the upstream lives, if it is the trouble still in which the call was
// let through.
func (m *machine) late(now time.Time, p *place, generation uint64, r policy.Result) (opened bool) {
	lives := m.lives(p, r)
	broke := p.headers && r.Outcome == policy.Failure && p.opened == m.opened
	if p.headers {
		m.stalledLate(now, p, r)
	}
	current := generation == m.generation
	unsettled := p.unsettled && current
	p.unsettled = false
	switch {
	case broke && m.state == policy.Closed:
		return m.record(now, r)
	case broke && m.state == policy.HalfOpen, lives && current:
		return m.settle(now, p, r)
	case unsettled:
		return !m.cameToNothing(p, r) && m.settle(now, p, r)
	case lives && m.state == policy.Open:
		return m.wakeUp(now, m.learn(now, p, r))
	// the probes of a trial are alike, and one of an earlier trial will do
	case lives && !m.recoverOf.Rules.Recover.AfterProbe():
		return m.settle(now, p, r)
	case lives:
		m.learn(now, p, r)
	case p.weighed && r.Outcome != policy.Failure:
		return false // it has counted
	}
	m.counts.LateCalls++
	return false
}

// good reports whether what has come of a call in trouble says that the upstream does what it is asked.
func (m *machine) good(now time.Time, p *place) bool {
	return p.headers && (p.bytes || !m.leases.hollow.after(now))
}

// bytesCame takes notice that bytes of a body came no less than bodyLease after its good headers. It returns in how
// long that is worth another look; 0 if it is not.
func (m *machine) bytesCame(now time.Time, p *Permit) (again time.Duration) {
	place := p.place
	if m.gone || place == nil || place.index < 0 || !place.headers || p.generation() != m.generation {
		return 0
	}
	if age, need := now.Sub(place.headersAt()), m.oldEnough(now, place); age < need {
		return need - age
	}
	place.bytes = true
	if now.Before(place.expiry) {
		place.expiry = now
		m.leases.endsAt(now)
	}
	m.expire(now)
	return 0
}

// oldEnough is how old a body has to be until bytes of it count. A probe is not to take forever.
func (m *machine) oldEnough(now time.Time, p *place) time.Duration {
	switch {
	case !m.leases.hollow.after(now):
		return bodyLease
	case p.weighed:
		return m.leases.solid
	}
	return min(m.leases.solid, maxProbed)
}

// stalledLate takes notice of a body that came to a stop, so that its caller's time was up, after headers or bytes had
// said that all is well. One that was cut says nothing of others.
func (m *machine) stalledLate(now time.Time, p *place, r policy.Result) {
	if r.Outcome != policy.Failure || r.Cause.Kind != policy.KindTimeout {
		return
	}
	if !m.leases.hollow.after(now) {
		m.leases.solid = 0
	}
	m.leases.hollow = momentOf(now.Add(hollowFor))
	m.leases.solid = min(max(m.leases.solid, 2*now.Sub(p.headersAt())), maxSolid)
}

// headersAt is when good headers came.
func (p *place) headersAt() time.Time { return p.started.Add(p.took) }

// lives reports whether a call whose lease has ended says that the upstream lives: it was let through in this trouble,
// and its answer has come.
func (m *machine) lives(p *place, r policy.Result) bool {
	return !p.headers && r.Outcome == policy.Success && !m.forced && m.trouble != nil && m.trouble == p.trouble
}
