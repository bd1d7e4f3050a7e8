package statemachine

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

// A joint is a recovery of all members of a fleet. Each has the whole of it: its rule is told of the calls of all, so that
// the limits of all are about the same, and that limit is of the calls of all. What others say neither closes a circuit nor
// opens one, and a few who lie take from no member its even share of the limit, once there is one for each. Like the rest of
// a circuit it is under mu.
type joint struct {
	others   map[string]report
	inFlight int           // calls of the others, as far as they are believed
	believed int           // calls of one of them at most
	took     time.Duration // a call, at most members; 0 if that is not known
	swept    time.Time     // these were found out last

	requests int // of all members since counting
	counting time.Time

	heard     time.Time     // the last word of anybody
	admitted  time.Time     // the last own call
	own       time.Duration // what own successes take: a moving mean
	successes int           // own ones, of all recoveries
}

// report is what a member said last.
type report struct {
	inFlight int
	took     time.Duration
	until    time.Time
	failures int // that counted since the last own success
	since    int // which one that was, by joint.successes
}

const (
	lag       = 25 * time.Millisecond // until all know of what one does
	requestIn = 2 * time.Second       // requests are counted over the last second or two
	silence   = time.Second           // after which there are no others any more, as far as one can tell
	leastEach = time.Second           // a member lets a call through in so long, or four times the usual time; in a fleet larger than the limit in as many times so long

	mostBlame   = 2 // failures of a member count between two own successes: half of what halves a limit by others' failures
	mostOfUsual = 4 // times the calls of most members are believed of one, and one more
)

func (j *joint) begin(now time.Time) {
	j.heard, j.admitted, j.own, j.successes = now, now, 0, j.successes+1
}

func (j *joint) leave(member string) {
	j.inFlight -= min(j.others[member].inFlight, j.believed)
	delete(j.others, member)
}

// take takes what a member says, and returns how many of its failures count.
func (j *joint) take(member string, r report, failures int) (counted int) {
	if before := j.others[member]; before.since == j.successes {
		r.failures = before.failures
	}
	counted = min(failures, mostBlame-r.failures)
	r.failures, r.since = r.failures+counted, j.successes
	j.leave(member)
	if j.others == nil {
		j.others = make(map[string]report)
	}
	if len(j.others) < mostOthers {
		j.others[member] = r
		j.inFlight += min(r.inFlight, j.believed)
	}
	return counted
}

// sweep leaves out what does not hold any more, and finds out how many calls of a member are believed, and what a call takes.
// Both go by medians, which a few who lie do not move much. And what a call takes is neither less than half of what it took
// when all was well, or what is true would look slow; nor more than three times what own ones take, at which a Ramp still grows.
func (c *Circuit) sweep(now time.Time) {
	j := &c.share.joint
	if now.Sub(j.swept) < lag {
		return
	}
	j.swept = now
	inFlight, took := []int{len(c.places)}, []time.Duration{j.own}
	for member, r := range j.others {
		if !now.Before(r.until) {
			delete(j.others, member)
			continue
		}
		inFlight, took = append(inFlight, r.inFlight), append(took, r.took)
	}
	slices.Sort(inFlight)
	j.believed, j.inFlight = mostOfUsual*inFlight[len(inFlight)/2]+1, 0
	for _, r := range j.others {
		j.inFlight += min(r.inFlight, j.believed)
	}
	took = slices.DeleteFunc(took, func(d time.Duration) bool { return d == 0 })
	least := c.watch.usual / 2
	if least == 0 {
		least = j.own / 2
	}
	if j.took = 0; least == 0 || len(took) < min(3, c.members(now)) {
		return
	}
	slices.Sort(took)
	j.took = max(took[len(took)/2], least)
	if j.own > 0 {
		j.took = min(j.took, 3*j.own)
	}
}

// countRequests counts requests of any member while the circuit is not closed.
func (j *joint) countRequests(now time.Time, n int) {
	switch span := now.Sub(j.counting); {
	case span >= 2*requestIn:
		j.counting, j.requests = now, 0
	case span >= requestIn:
		j.counting, j.requests = now.Add(-span/2), j.requests/2
	}
	j.requests += max(0, min(n, mostAsked))
}

// hearRecovering takes what a half-open member says of its calls.
func (c *Circuit) hearRecovering(now time.Time, m fleet.Message) {
	if c.state() == policy.Closed {
		return
	}
	s := c.share
	s.counted = 0
	s.others = remember(s.others, m.From, now.Add(openedFor))
	r := report{inFlight: max(0, min(m.InFlight, mostAsked)), took: max(0, m.Took), until: now.Add(c.watch.term(c.recover.Lease()))}
	failures := s.joint.take(m.From, r, max(0, m.Failures))
	s.joint.countRequests(now, m.Requests)
	if c.state() == policy.Open {
		if m.Successes > 0 { // that the upstream answered was not heard
			c.answeredInFleet(now)
		}
		return
	}
	rule, ok := c.recover.(policy.Joint)
	if !ok {
		return
	}
	c.sweep(now)
	if c.recover.Limit() < 2*c.members(now) {
		failures = 0 // or half of the limit would be less than one for each
	}
	rule.Others(len(c.places)+s.joint.inFlight, max(0, m.Successes), failures, s.joint.took)
}

// joins reports whether to take up an upstream that has answered another member: yes, but after a recovery that failed not
// without a probe of its own, or whoever says so again and again has it hammered.
func (c *Circuit) joins() bool {
	s := c.share
	return s != nil && s.answered && !s.wary
}

// inFlightOfAll returns how many calls all members have in flight, for a rule that limits them; at least as many as the limit
// for a request that is to wait its turn. Places that are free are shared out by chance among the requests that come
// before all know who has taken them.
func (c *Circuit) inFlightOfAll(now time.Time) int {
	c.shareRequest(now)
	c.sweep(now)
	j, limit, members := &c.share.joint, c.recover.Limit(), c.members(now)
	own := len(c.places)
	if now.Sub(j.heard) >= silence {
		return own
	}
	all := own + j.inFlight
	turn := c.watch.lease(leastEach) * time.Duration(max(1, members/max(1, limit)))
	if (own+1)*members <= limit || own == 0 && now.Sub(j.admitted) >= turn {
		return max(own, min(all, limit-1))
	}
	soon := float64(j.requests) * float64(lag) / float64(max(lag, now.Sub(j.counting)))
	if free := float64(limit - all); free < soon && c.config.Load().Random()*soon >= free {
		return max(all, limit)
	}
	return all
}

// shareRecovery takes the result of an own call of a half-open circuit to the others.
func (c *Circuit) shareRecovery(r policy.Result) {
	s := c.share
	if r.Outcome == policy.Failure {
		s.waiting.Failures++
		return
	}
	s.waiting.Successes++
	s.joint.successes++
	s.joint.own = smoothed(s.joint.own, r.Elapsed)
}
