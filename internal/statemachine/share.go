package statemachine

import (
	"math"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

// A share is what a circuit knows of the circuits of its key in other processes (package fleet). Like the rest of a circuit
// it is under mu. What others say is trusted by half: their failures count half of one's own, no member by itself brings more
// than half of the evidence that it takes to trip, a circuit whose own calls succeed is not opened by
// what others say, and between two own probes no more of theirs that fail count than half as many as there are members. So
// neither a member that is cut off nor one that lies can open the circuits of those who reach the upstream, and what opens
// by mistake has the next probe within two leases, whoever claims to be probing.
type share struct {
	// While closed:
	score   int            // evidence of others, in halves of an own failure
	by      map[string]int // how much of it each has brought since it was 0
	heard   time.Time      // the last of it
	vouched time.Time      // own calls succeed: until then, the others have no say
	failed  time.Time      // the last own failure that was told
	told    bool           // that there is something to take
	waiting fleet.Message  // what is to be taken by TakeEvidence

	// While open or half-open:
	others   map[string]time.Time // that are open too, and until when that holds
	counted  int                  // as members; 0 if that is to be counted again
	recount  time.Time            // that holds until then
	silent   bool                 // it is open for a reason that is not the others'
	again    time.Time            // to tell that this one is still open
	listed   bool                 // the others count this one among those that are open
	claim    time.Time            // a probe of another member is out until then
	claimant string
	due      time.Time // a probe of its own has been due since then, and waits for the claim of another
	answered bool      // the upstream answered another member
	led      bool      // by the word of another, the next probe goes before it is due
	wary     bool      // a recovery failed since the trip; without a probe before it, one that began by the word of another
	failing  string    // a member whose recovery failed since
	foreign  int       // failed probes of others since the last own one

	joint joint // a recovery, from the trip on
}

const (
	remoteWorth = 3                // successes lower the evidence by this, as Evidence.Worth
	evidenceFor = 10 * time.Second // the evidence of others holds
	vouchFor    = 5 * time.Second  // an own success does, until an own failure
	seldom      = 5 * time.Second  // a failure that comes so long after the last one is told even if it is the first in a row
	openedFor   = 90 * time.Second // others take a circuit for open that has not said so again
	plainTrip   = 6                // failures at which a rule trips that has no gauge, as far as others are concerned
	trySoon     = time.Second      // after which a circuit without a failure of its own is due for a probe, whatever its rule
	mostOthers  = 1024             // members remembered
	mostTrips   = 1 << 20          // no overflow
	mostAsked   = 4096             // requests that one message tells of
	asksInGap   = 8                // messages of requests between two probes, about
)

// Hear takes what another member says.
func (c *Circuit) Hear(now time.Time, m fleet.Message) {
	c.mu.Lock()
	defer c.unlock()
	s := c.share
	if s == nil || c.gone() || c.forced {
		return
	}
	s.joint.heard = now
	switch m.Kind {
	case fleet.Evidence:
		c.hearEvidence(now, m.From, max(0, m.Failures), max(0, m.Successes))
	case fleet.Opened:
		s.counted = 0
		s.others = remember(s.others, m.From, now.Add(min(m.For, openedFor)))
		c.hearEvidence(now, m.From, math.MaxInt/4, 0)
	case fleet.Recovered, fleet.Withdrawn:
		delete(s.others, m.From)
		s.joint.leave(m.From)
		s.counted = 0
		if m.Kind == fleet.Recovered {
			c.answeredInFleet(now)
		}
	case fleet.Asked:
		if c.state() == policy.Open {
			for range min(m.Requests, mostAsked) {
				c.probe.Ask(now)
			}
		}
		s.joint.countRequests(now, m.Requests)
	case fleet.Recovering:
		c.hearRecovering(now, m)
	case fleet.ProbeStarted:
		if !c.waitedEnough(now) {
			s.claim, s.claimant = now.Add(min(m.For, c.probeLease())), m.From
		}
	case fleet.ProbeFailed:
		if c.state() == policy.Open && s.claimant == m.From && len(c.places) == 0 {
			s.claim, s.claimant = time.Time{}, ""
			if s.foreign >= c.members(now)/2 {
				break
			}
			s.foreign++
			c.failedProbes++
			c.trouble.withheld = time.Time{} // one has gone
			c.probe.Fail(now, policy.Result{Outcome: policy.Failure}, c.config.Load().Random())
		}
	case fleet.Answered:
		c.answeredInFleet(now)
	case fleet.RecoveryFailed:
		s.joint.leave(m.From)
		switch {
		case !s.answered:
		case s.failing == "" || s.failing == m.From:
			s.failing = m.From
		default:
			s.answered, s.failing = false, ""
		}
	}
}

// answeredInFleet makes an open circuit follow a member that has reached the upstream.
func (c *Circuit) answeredInFleet(now time.Time) {
	s := c.share
	if c.state() != policy.Open || s.answered {
		return
	}
	s.claim, s.failing = time.Time{}, ""
	switch {
	case c.rules().Recover.AfterProbe():
		s.answered = true
	case !s.wary && now.Before(c.probe.Due()): // or whoever says so again and again has it hammered
		c.hastened, s.led = true, true
	}
}

// waitedEnough reports whether a probe has been due for so long that no other's claim holds it any more.
func (c *Circuit) waitedEnough(now time.Time) bool {
	return !c.share.due.IsZero() && now.Sub(c.share.due) >= 2*c.probeLease()
}

func (c *Circuit) probeLease() time.Duration {
	if c.probe == nil {
		return time.Second
	}
	return c.probe.Lease()
}

func remember(members map[string]time.Time, name string, until time.Time) map[string]time.Time {
	if members == nil {
		members = make(map[string]time.Time)
	}
	if _, known := members[name]; known || len(members) < mostOthers {
		members[name] = until
	}
	return members
}

// members is how many circuits of this key are open, this one included.
func (c *Circuit) members(now time.Time) int {
	s := c.share
	if now.Before(s.recount) && s.counted > 0 {
		return s.counted
	}
	s.counted, s.recount = 1, now.Add(time.Second)
	for name, until := range s.others {
		if now.Before(until) {
			s.counted++
		} else {
			delete(s.others, name)
		}
	}
	return s.counted
}

// hearEvidence weighs what others have seen with what this circuit has.
func (c *Circuit) hearEvidence(now time.Time, from string, failures, successes int) {
	if c.state() != policy.Closed {
		return
	}
	s := c.share
	value, trips := c.gauge(now)
	if now.Sub(s.heard) > evidenceFor {
		s.score, s.by = 0, nil
	}
	if s.by == nil {
		s.by = make(map[string]int)
	}
	if _, known := s.by[from]; known || len(s.by) < mostOthers {
		counted := min(failures, max(0, trips-s.by[from]))
		s.by[from] += counted
		s.score += counted
	}
	s.lower(remoteWorth * min(successes, s.score))
	s.heard = now
	if s.score/2 >= trips-value && !now.Before(s.vouched) {
		c.change(policy.Open, now, TrippedByFleet, policy.Result{})
		return
	}
	c.store(policy.Closed, c.generation())
}

func (c *Circuit) gauge(now time.Time) (value, trips int) {
	if gauge, ok := c.trip.(policy.Gauge); ok {
		if value, trips = gauge.Gauge(now); trips > 0 {
			return value, min(trips, mostTrips)
		}
	}
	return 0, plainTrip
}

// shareResult takes the result of an own call of a closed circuit to the others, and reports whether it trips the circuit
// together with what they have said.
func (c *Circuit) shareResult(now time.Time, r policy.Result) (trips bool) {
	s := c.share
	if r.Outcome == policy.Success {
		if s.score > 0 || s.told {
			s.waiting.Successes++
		} else {
			s.waiting = fleet.Message{} // nobody suspects anything, and what has failed before is made up for
		}
		s.lower(2 * remoteWorth)
		s.vouched = now.Add(vouchFor)
		return false
	}
	value, most := c.gauge(now)
	s.vouched = time.Time{}
	s.waiting.Failures++
	if value >= 2 || s.score > 0 || now.Sub(s.failed) >= seldom {
		c.tellWaiting()
	}
	s.failed = now
	return now.Sub(s.heard) <= evidenceFor && s.score > 0 && s.score/2 >= most-value
}

// lower takes evidence of others away.
func (s *share) lower(by int) {
	s.score = max(0, s.score-by)
	if s.score == 0 {
		s.by = nil
	}
}

// tellWaiting says that there is something for TakeEvidence to take, unless that is said.
func (c *Circuit) tellWaiting() {
	if !c.share.told {
		c.share.told = true
		c.tellFleet(fleet.Evidence, 0)
	}
}

// TakeEvidence returns what the others do not know of: failures and successes of a closed circuit, requests of an open one, how
// the calls of a half-open one do. It returns false if that is not worth a message: there is nothing, or only successes while
// nobody suspects anything.
func (c *Circuit) TakeEvidence() (m fleet.Message, ok bool) {
	c.mu.Lock()
	defer c.unlock()
	s := c.share
	if s == nil {
		return m, false
	}
	m, s.waiting, s.told = s.waiting, fleet.Message{}, false
	switch c.state() {
	case policy.Open:
		return fleet.Message{Kind: fleet.Asked, Requests: m.Requests}, m.Requests > 0
	case policy.HalfOpen:
		m.Kind, m.InFlight, m.Took = fleet.Recovering, len(c.places), s.joint.own
		s.listed = true
		return m, true
	}
	m.Kind, m.Requests = fleet.Evidence, 0
	return m, c.state() == policy.Closed && (m.Failures > 0 || m.Successes > 0 && s.score > 0)
}

// ask asks the probe rule whether a probe is due, counting the requests of all members, and only if no other member's probe
// is out.
func (c *Circuit) ask(now time.Time) (due bool) {
	s := c.share
	if s == nil {
		return c.probe.Ask(now) || c.hastened
	}
	c.shareRequest(now)
	if due = c.probe.Ask(now) || c.hastened; !due {
		return false
	}
	if now.Before(s.claim) && !c.waitedEnough(now) {
		if s.due.IsZero() {
			s.due = now
		}
		return false
	}
	return true
}

// shareRequest tells the others of a request, or of many with a chance that makes up for it: the longer the gaps between
// probes, the less exact their count has to be. With Squares a gap is twice as many requests as probes have failed.
func (c *Circuit) shareRequest(now time.Time) {
	s := c.share
	s.joint.countRequests(now, 1)
	if c.members(now) == 1 {
		return
	}
	every := 1 + min(2*c.failedProbes, mostAsked)/asksInGap
	if every > 1 && c.config.Load().Random() >= 1/float64(every) {
		return
	}
	s.waiting.Requests += every
	c.tellWaiting()
}

func (c *Circuit) tellFleet(kind fleet.Kind, lease time.Duration) {
	if c.share == nil {
		return
	}
	if kind == fleet.ProbeFailed {
		c.share.silent = false
	}
	c.tell(func(o Observer) { o.Share(fleet.Message{Kind: kind, For: lease}) })
}

// tellOpened says that the circuit is open, now and every while.
func (c *Circuit) tellOpened(now time.Time) {
	if c.share == nil || c.share.silent || now.Before(c.share.again) {
		return
	}
	c.share.again, c.share.listed = now.Add(openedFor/3), true
	ago := now.Sub(c.trouble.since)
	c.tell(func(o Observer) { o.Share(fleet.Message{Kind: fleet.Opened, For: openedFor, Ago: ago}) })
}

// withdraw has the others forget that this circuit is open, if they know: what somebody does by hand is no evidence.
func (c *Circuit) withdraw() {
	if s := c.share; s.listed {
		s.again, s.listed = time.Time{}, false
		c.tellFleet(fleet.Withdrawn, 0)
	}
}

// LeaveFleet reports whether the others are still to be told that this circuit is not to be counted any more, with a
// fleet.Withdrawn.
func (c *Circuit) LeaveFleet() (withdraw bool) {
	c.mu.Lock()
	defer c.unlock()
	withdraw = c.share != nil && c.share.listed
	if withdraw {
		c.share.listed = false
	}
	return withdraw
}

// shareChange tells the others of a change of state.
func (c *Circuit) shareChange(change *Change) {
	s, led := c.share, c.share.led
	*s = share{others: s.others, failed: s.failed, again: s.again, listed: s.listed, vouched: s.vouched, joint: s.joint}
	s.wary = change.Reason == RecoveryFailed && (led || c.recoverOf.Rules.Recover.AfterProbe())
	s.led = led && change.To == policy.HalfOpen
	if latest := change.At.Add(trySoon); change.Reason == TrippedByFleet && change.Failures == 0 && latest.Before(c.probe.Due()) {
		c.probe.Resume(change.At, latest) // what others have seen is no reason to wait for long before having a look
		change.Due = c.probe.Due()
	}
	switch {
	case change.Reason == Restored:
	case change.To == policy.Closed && change.Reason == Recovered:
		c.tellFleet(fleet.Recovered, 0)
		s.again, s.listed, s.vouched = time.Time{}, false, change.At.Add(vouchFor)
	case change.To == policy.Closed, change.Reason == Forced:
		c.withdraw()
	case change.To == policy.Open && (change.Reason == ByHand || change.Reason == Released):
		s.silent = true // until it has tried the upstream itself
	case change.To == policy.HalfOpen:
		s.joint.begin(change.At)
		if change.Reason == ProbeSucceeded {
			c.tellFleet(fleet.Answered, 0)
		}
	case change.To == policy.Open && change.Reason == RecoveryFailed:
		c.tellFleet(fleet.RecoveryFailed, 0)
		c.tellOpened(change.At)
	case change.To == policy.Open:
		s.again = time.Time{}
		c.tellOpened(change.At)
	}
}
