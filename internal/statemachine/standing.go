package statemachine

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

// A Standing is the refusal that stands while a circuit has nothing to decide about requests: the next probe is not due
// by number or by time, or one is out; or somebody has forced it open; or it is half-open, and as many calls are in
// flight as may be. It is made at the release of the circuit's lock, and whoever takes the lock next takes it back and
// learns how many it has refused: so a request that it refuses takes no lock, and none is missing anywhere.
//
// What it has in it does not change. Its methods may be called by many goroutines at once.
type Standing struct {
	Of      Observer // of the circuit, by which its user knows it; nil if it has none
	Reason  policy.RefusalReason
	State   policy.State
	Since   time.Time
	Cause   policy.Cause
	Samples []policy.Sample

	due, latest, safeUntil moment // as in Refusal; none if zero there
	requests               int    // as they were before the first request

	until moment       // from then on, there is something to decide
	most  int64        // of requests that it refuses
	left  atomic.Int64 // of these; negative if there are none, or it was taken back
	many  *countdowns  // in place of left, if requests have no numbers; otherwise nil
	asked atomic.Int64 // when the last of them came, a moment, to askedStep
}

// countdowns are several for one: a processor that writes to a line of memory takes that from all others, which is most
// of what a refusal costs where all count in one.
type countdowns [8]struct {
	left atomic.Int64
	_    [56]byte
}

// askedStep spares a write for each request.
const askedStep = int64(time.Millisecond)

// none is no moment, and before all.
const none = math.MinInt64

// all is as good as any number of requests, and ended so few that no request is left, however many ask.
const (
	all   = math.MaxInt64 / 2
	ended = math.MinInt64 / 2
)

// A Refused is a request that a Standing has refused.
type Refused struct {
	*Standing
	at     moment
	number int64 // of this request among those that it has refused
}

// RefuseAtOnce refuses a request without the lock, if there is nothing to decide about it and nobody is to be told. Of
// requests that come at the same time it is better if they are of different places, which can be any numbers.
func (c *Circuit) RefuseAtOnce(place uint) (Refused, bool) {
	return c.refuseAtOnce(moment(time.Since(began)), place)
}

func (c *Circuit) refuseAtOnce(now moment, place uint) (Refused, bool) {
	s := c.standing.Load()
	if s == nil || now >= s.until || c.machine.observed() {
		return Refused{}, false
	}
	if at := s.asked.Load(); int64(now)-askedStep >= at || at == none {
		s.asked.Store(int64(now)) // before it counts, or it could be lost
	}
	countdown := &s.left
	if s.many != nil {
		countdown = &s.many[place%uint(len(s.many))].left
	}
	left := countdown.Add(-1)
	return Refused{s, now, s.most - left}, left >= 0
}

// Next returns when the next probe is: the time until it may go, 0 if that is not known or does not depend on time
// alone; how many requests are to come until one is it, as Refusal.Requests; the time until any is, 0 if Requests is 0;
// and for how long at most it is due and waits for a safe call, 0 if it does not.
func (r Refused) Next() (soonest time.Duration, requests int, latest, safeWait time.Duration) {
	if r.requests > 0 {
		requests = int(max(1, int64(r.requests)-r.number))
	}
	return time.Duration(max(r.due, r.at) - r.at), requests, time.Duration(max(r.latest, r.at) - r.at),
		time.Duration(max(r.safeUntil, r.at) - r.at)
}

// refusal is what Acquire returns of it.
func (r Refused) refusal(now time.Time) Refusal {
	at := func(m moment) time.Time {
		if m == none {
			return time.Time{}
		}
		return now.Add(-time.Duration(r.at)).Add(time.Duration(m)) // of which the difference may be too much
	}
	_, requests, _, _ := r.Next()
	refusal := Refusal{
		Reason: r.Reason, State: r.State, At: now, Since: r.Since, Due: now, Requests: requests, Latest: at(r.latest),
		SafeUntil: at(r.safeUntil), Cause: r.Cause, Samples: r.Samples,
	}
	if r.due != none {
		refusal.Due = at(r.due)
	}
	return refusal
}

// stands returns the refusal that stands from now on; nil if there is something to decide about the next request, or
// the rule wants to be asked about each.
func (m *machine) stands() *Standing {
	if m.state == policy.Closed || m.gone || m.hastened || m.observed() {
		return nil
	}
	if _, alone := m.peers.(peers.Alone); !alone { // others are told of requests
		return nil
	}
	reason, most, until := m.refuses()
	if reason == policy.NotRefused {
		return nil
	}
	r := m.refusal(time.Time{}, reason)
	s := &Standing{
		Of: m.observer, Reason: reason, State: r.State, Since: r.Since, Cause: r.Cause, Samples: r.Samples,
		due: momentOrNone(r.Due), latest: momentOrNone(r.Latest), safeUntil: momentOrNone(r.SafeUntil),
		requests: r.Requests, until: until, most: most,
	}
	if max(s.due, s.latest, s.safeUntil) == math.MaxInt64 {
		return nil // in more years than a moment can have
	}
	s.left.Store(most)
	if r.Requests == 0 && most == all {
		s.many = new(countdowns)
		for i := range s.many {
			s.many[i].left.Store(most)
		}
	}
	s.asked.Store(none)
	return s
}

// refuses returns how many requests are refused from now on, whatever they are, and until when.
func (m *machine) refuses() (reason policy.RefusalReason, most int64, until moment) {
	taken := len(m.leases.places)
	if m.state == policy.HalfOpen {
		if _, told := m.recover.(policy.InVain); told && taken > 0 && taken >= m.recover.Limit() {
			return policy.RefusedRamp, all, momentOf(m.leases.next)
		}
		return policy.NotRefused, 0, 0
	}
	if m.forced {
		return policy.RefusedForced, all, math.MaxInt64
	}
	if _, told := m.probe.(policy.InVain); !told {
		return policy.NotRefused, 0, 0
	}
	if taken > 0 {
		return policy.RefusedOpen, all, momentOf(m.leases.next)
	}
	if due := m.probe.Due(); m.trouble.asked.Before(due) {
		return policy.RefusedOpen, all, momentOf(due)
	}
	if countdown, ok := m.probe.(policy.Countdown); ok {
		requests, latest := countdown.Countdown()
		if requests > 1 && requests < math.MaxInt32 { // which is what Squares says of more, too
			return policy.RefusedOpen, int64(requests) - 1, momentOf(latest)
		}
	}
	return policy.NotRefused, 0, 0
}

func momentOrNone(t time.Time) moment {
	if t.IsZero() {
		return none
	}
	return momentOf(t)
}

// takeBack ends a Standing and takes in what it has refused.
func (m *machine) takeBack(s *Standing) {
	n := s.most - max(0, s.left.Swap(ended))
	if s.many != nil {
		for i := range s.many {
			n += s.most - max(0, s.many[i].left.Swap(ended))
		}
	}
	if n == 0 {
		return
	}
	m.counts.Refusals += uint64(n)
	m.trouble.requests += int(n)
	asked := m.since.Add(-time.Duration(momentOf(m.since))).Add(time.Duration(s.asked.Load()))
	if asked.After(m.trouble.asked) {
		m.trouble.asked = asked
	}
	switch {
	case m.forced:
	case m.state == policy.Open:
		m.probe.(policy.InVain).InVain(int(n))
	default:
		m.recover.Admit(len(m.leases.places)) // one of them, and the others were like it
		m.recover.(policy.InVain).InVain(int(n) - 1)
	}
}
