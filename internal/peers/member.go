package peers

import (
	"math"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

// A Member is what a circuit knows of the circuits of its key in a fleet (package fleet), and tells them. Like the rest
// of a circuit it is under the circuit's lock. What others say is trusted by half: their failures count half of one's
// own, no member by itself brings more than half of the evidence that it takes to trip, a circuit whose own calls
// succeed is not opened by what others say, and between two own probes no more of theirs that fail count than half as
// many as there are members. So neither a member that is cut off nor one that lies can open the circuits of those who
// reach the upstream, and what opens by mistake has the next probe within two leases, whoever claims to be probing.
type Member struct {
	machine Machine
	send    func(fleet.Message)
	share
}

// NewMember makes the Peers of a circuit in a fleet. Send takes what the others are to be told, outside the circuit's
// lock: the key is missing, and of Evidence it is only said that there is some, to be had by TakeEvidence.
func NewMember(machine Machine, send func(fleet.Message)) *Member {
	return &Member{machine: machine, send: send}
}

// share is what others have said and what they are to be told.
type share struct {
	// While closed:
	Score   int            // evidence of others, in halves of an own failure
	By      map[string]int // how much of it each has brought since it was 0
	heard   time.Time      // the last of it
	vouched time.Time      // own calls succeed: until then, the others have no say
	failed  time.Time      // the last own failure that was told
	told    bool           // that there is something to take
	waiting fleet.Message  // what is to be taken by TakeEvidence

	// While open or half-open:
	Others   map[string]time.Time // that are open too, and until when that holds
	counted  int                  // as members; 0 if that is to be counted again
	recount  time.Time            // that holds until then
	silent   bool                 // it is open for a reason that is not the others'
	again    time.Time            // to tell that this one is still open
	listed   bool                 // the others count this one among those that are open
	Claim    time.Time            // a probe of another member is out until then
	claimant string
	due      time.Time // a probe of its own has been due since then, and waits for the claim of another
	answered bool      // the upstream answered another member
	led      bool      // by the word of another, the next probe goes before it is due
	// a recovery failed since the trip; without a probe before it, one that began by the word of another
	wary    bool
	Failing string // a member whose recovery failed since
	foreign int    // failed probes of others since the last own one

	Joint Joint // a recovery, from the trip on
}

const (
	remoteWorth = 3                // successes lower the evidence by this, as Evidence.Worth
	EvidenceFor = 10 * time.Second // the evidence of others holds
	VouchFor    = 5 * time.Second  // an own success does, until an own failure
	// a failure that comes so long after the last one is told even if it is the first in a row
	Seldom    = 5 * time.Second
	OpenedFor = 90 * time.Second // others take a circuit for open that has not said so again
	plainTrip = 6                // failures at which a rule trips that has no gauge, as far as others are concerned
	// after which a circuit without a failure of its own is due for a probe, whatever its rule
	TrySoon   = time.Second
	MaxOthers = 1024    // members remembered
	maxTrips  = 1 << 20 // no overflow
	MaxAsked  = 4096    // requests that one message tells of
	asksInGap = 8       // messages of requests between two probes, about
)

// Hear takes what another member says.
func (p *Member) Hear(now time.Time, m fleet.Message) {
	if p.machine.Forced() {
		return
	}
	s := &p.share
	s.Joint.heard = now
	switch m.Kind {
	case fleet.Evidence:
		p.hearEvidence(now, m.From, max(0, m.Failures), max(0, m.Successes))
	case fleet.Opened:
		s.counted = 0
		s.Others = remember(s.Others, m.From, now.Add(min(m.For, OpenedFor)))
		p.hearEvidence(now, m.From, math.MaxInt/4, 0)
	case fleet.Recovered, fleet.Withdrawn:
		delete(s.Others, m.From)
		s.Joint.leave(m.From)
		s.counted = 0
		if m.Kind == fleet.Recovered {
			p.answeredElsewhere(now)
		}
	case fleet.Asked:
		if p.machine.State() == policy.Open {
			_, probe, _ := p.machine.Memories()
			for range min(m.Requests, MaxAsked) {
				probe.Ask(now)
			}
		}
		s.Joint.CountRequests(now, m.Requests)
	case fleet.Recovering:
		p.hearRecovering(now, m)
	case fleet.ProbeStarted:
		if !p.waitedEnough(now) {
			s.Claim, s.claimant = now.Add(min(m.For, p.ProbeLease())), m.From
		}
	case fleet.ProbeFailed:
		if p.machine.State() == policy.Open && s.claimant == m.From && p.machine.InFlight() == 0 {
			s.Claim, s.claimant = time.Time{}, ""
			if s.foreign >= p.Members(now)/2 {
				break
			}
			s.foreign++
			p.machine.FailProbe(now)
		}
	case fleet.Answered:
		p.answeredElsewhere(now)
	case fleet.RecoveryFailed:
		s.Joint.leave(m.From)
		switch {
		case !s.answered:
		case s.Failing == "" || s.Failing == m.From:
			s.Failing = m.From
		default:
			s.answered, s.Failing = false, ""
		}
	}
}

// answeredElsewhere makes an open circuit follow a member that has reached the upstream.
func (p *Member) answeredElsewhere(now time.Time) {
	if p.machine.State() != policy.Open || p.answered {
		return
	}
	p.Claim, p.Failing = time.Time{}, ""
	_, probe, _ := p.machine.Memories()
	switch {
	case p.machine.Rules().Recover.AfterProbe():
		p.answered = true
	case !p.wary && now.Before(probe.Due()): // or whoever says so again and again has it hammered
		p.machine.Hasten()
		p.led = true
	}
}

// waitedEnough reports whether a probe has been due for so long that no other's claim holds it any more.
func (p *Member) waitedEnough(now time.Time) bool {
	return !p.due.IsZero() && now.Sub(p.due) >= 2*p.ProbeLease()
}

func (p *Member) ProbeLease() time.Duration {
	if _, probe, _ := p.machine.Memories(); probe != nil {
		return probe.Lease()
	}
	return time.Second
}

func remember(members map[string]time.Time, name string, until time.Time) map[string]time.Time {
	if members == nil {
		members = make(map[string]time.Time)
	}
	if _, known := members[name]; known || len(members) < MaxOthers {
		members[name] = until
	}
	return members
}

// Members is how many circuits of this key are open, this one included.
func (p *Member) Members(now time.Time) int {
	s := &p.share
	if now.Before(s.recount) && s.counted > 0 {
		return s.counted
	}
	s.counted, s.recount = 1, now.Add(time.Second)
	for name, until := range s.Others {
		if now.Before(until) {
			s.counted++
		} else {
			delete(s.Others, name)
		}
	}
	return s.counted
}

// hearEvidence weighs what others have seen with what this circuit has.
func (p *Member) hearEvidence(now time.Time, from string, failures, successes int) {
	if p.machine.State() != policy.Closed {
		return
	}
	s := &p.share
	value, trips := p.gauge(now)
	if now.Sub(s.heard) > EvidenceFor {
		s.Score, s.By = 0, nil
	}
	if s.By == nil {
		s.By = make(map[string]int)
	}
	if _, known := s.By[from]; known || len(s.By) < MaxOthers {
		counted := min(failures, max(0, trips-s.By[from]))
		s.By[from] += counted
		s.Score += counted
	}
	s.lower(remoteWorth * min(successes, s.Score))
	s.heard = now
	if s.Score/2 >= trips-value && !now.Before(s.vouched) {
		p.machine.Trip(now)
	}
}

func (p *Member) gauge(now time.Time) (value, trips int) {
	trip, _, _ := p.machine.Memories()
	if gauge, ok := trip.(policy.Gauge); ok {
		if value, trips = gauge.Gauge(now); trips > 0 {
			return value, min(trips, maxTrips)
		}
	}
	return 0, plainTrip
}

// Ended takes the result to the others.
func (p *Member) Ended(now time.Time, r policy.Result) (trips bool) {
	s := &p.share
	if r.Outcome == policy.Success {
		if s.Score > 0 || s.told {
			s.waiting.Successes++
		} else {
			s.waiting = fleet.Message{} // nobody suspects anything, and what has failed before is made up for
		}
		s.lower(2 * remoteWorth)
		s.vouched = now.Add(VouchFor)
		return false
	}
	value, most := p.gauge(now)
	s.vouched = time.Time{}
	s.waiting.Failures++
	if value >= 2 || s.Score > 0 || now.Sub(s.failed) >= Seldom {
		p.tellWaiting()
	}
	s.failed = now
	return now.Sub(s.heard) <= EvidenceFor && s.Score > 0 && s.Score/2 >= most-value
}

// lower takes evidence of others away.
func (s *share) lower(by int) {
	s.Score = max(0, s.Score-by)
	if s.Score == 0 {
		s.By = nil
	}
}

// tellWaiting says that there is something for TakeEvidence to take, unless that is said.
func (p *Member) tellWaiting() {
	if !p.told {
		p.told = true
		p.tell(fleet.Message{Kind: fleet.Evidence})
	}
}

// TakeEvidence returns what the others do not know of: failures and successes of a closed circuit, requests of an open
// one, how the calls of a half-open one do. It returns false if that is not worth a message: there is nothing, or only
// successes while nobody suspects anything.
func (p *Member) TakeEvidence() (m fleet.Message, ok bool) {
	m, p.waiting, p.told = p.waiting, fleet.Message{}, false
	switch p.machine.State() {
	case policy.Open:
		return fleet.Message{Kind: fleet.Asked, Requests: m.Requests}, m.Requests > 0
	case policy.HalfOpen:
		m.Kind, m.InFlight, m.Took = fleet.Recovering, p.machine.InFlight(), p.Joint.Own
		p.listed = true
		return m, true
	}
	m.Kind, m.Requests = fleet.Evidence, 0
	return m, m.Failures > 0 || m.Successes > 0 && p.Score > 0
}

// Quiet is so while nobody suspects anything.
func (p *Member) Quiet() bool { return p.Score == 0 }

// MayProbe takes notice that an own probe is due.
func (p *Member) MayProbe(now time.Time) bool {
	if now.Before(p.Claim) && !p.waitedEnough(now) {
		if p.due.IsZero() {
			p.due = now
		}
		return false
	}
	return true
}

// Probes claims the probe.
func (p *Member) Probes(lease time.Duration) {
	p.due, p.foreign = time.Time{}, 0
	if lease > 0 {
		p.tell(fleet.Message{Kind: fleet.ProbeStarted, For: lease})
	}
}

// ProbeFailed says so.
func (p *Member) ProbeFailed() {
	p.silent = false
	p.tell(fleet.Message{Kind: fleet.ProbeFailed})
}

// Requested tells the others of a request, or of many with a chance that makes up for it: the longer the gaps between
// probes, the less exact their count has to be. With Squares a gap is twice as many requests as probes have failed.
func (p *Member) Requested(now time.Time) {
	s := &p.share
	s.Joint.CountRequests(now, 1)
	if p.Members(now) == 1 {
		return
	}
	every := 1 + min(2*p.machine.FailedProbes(), MaxAsked)/asksInGap
	if every > 1 && p.machine.Random() >= 1/float64(every) {
		return
	}
	s.waiting.Requests += every
	p.tellWaiting()
}

func (p *Member) tell(m fleet.Message) { p.machine.Later(func() { p.send(m) }) }

// StillOpen says so now and every while.
func (p *Member) StillOpen(now time.Time) {
	if p.silent || now.Before(p.again) {
		return
	}
	p.again, p.listed = now.Add(OpenedFor/3), true
	p.tell(fleet.Message{Kind: fleet.Opened, For: OpenedFor, Ago: now.Sub(p.machine.TroubleSince())})
}

// withdraw has the others forget that this circuit is open, if they know: what somebody does by hand is no evidence.
func (p *Member) withdraw() {
	if p.listed {
		p.again, p.listed = time.Time{}, false
		p.tell(fleet.Message{Kind: fleet.Withdrawn})
	}
}

// Leave reports whether the others are still to be told that this circuit is not to be counted any more, with a
// fleet.Withdrawn.
func (p *Member) Leave() (withdraw bool) {
	withdraw, p.listed = p.listed, false
	return withdraw
}

// Changed tells the others. What they have seen is no reason to wait for long before having a look.
func (p *Member) Changed(to policy.State, at time.Time, reason policy.ChangeReason, failures int) (soon time.Time) {
	s, led := &p.share, p.led
	*s = share{Others: s.Others, failed: s.failed, again: s.again, listed: s.listed, vouched: s.vouched, Joint: s.Joint}
	s.wary = reason == policy.ChangeRecoveryFailed && (led || p.machine.RecoversAfterProbe())
	s.led = led && to == policy.HalfOpen
	if reason == policy.ChangeTrippedByFleet && failures == 0 {
		if _, probe, _ := p.machine.Memories(); at.Add(TrySoon).Before(probe.Due()) {
			soon = at.Add(TrySoon)
		}
	}
	switch {
	case reason == policy.ChangeRestored:
	case to == policy.Closed && reason == policy.ChangeRecovered:
		p.tell(fleet.Message{Kind: fleet.Recovered})
		s.again, s.listed, s.vouched = time.Time{}, false, at.Add(VouchFor)
	case to == policy.Closed, reason == policy.ChangeForced:
		p.withdraw()
	case to == policy.Open && (reason == policy.ChangeByHand || reason == policy.ChangeReleased):
		s.silent = true // until it has tried the upstream itself
	case to == policy.HalfOpen:
		s.Joint.begin(at)
		if reason == policy.ChangeProbeSucceeded {
			p.tell(fleet.Message{Kind: fleet.Answered})
		}
	case to == policy.Open && reason == policy.ChangeRecoveryFailed:
		p.tell(fleet.Message{Kind: fleet.RecoveryFailed})
		p.StillOpen(at)
	case to == policy.Open:
		s.again = time.Time{}
		p.StillOpen(at)
	}
	return soon
}
