package peers

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/smoothed"
	"github.com/fusebox-go/fusebox/policy"
)

// A Joint is a recovery of all members of a fleet. Each has the whole of it: its rule is told of the calls of all, so
// that the limits of all are about the same, and that limit is of the calls of all. What others say neither closes a
// circuit nor opens one, and a few who lie take from no member its even share of the limit, once there is one for each.
// Like the rest of a circuit it is under mu.
type Joint struct {
	Others   map[string]Report
	InFlight int           // calls of the others, as far as they are believed
	Believed int           // calls of one of them at most
	Took     time.Duration // a call, at most members; 0 if that is not known
	swept    time.Time     // these were found out last

	Requests int // of all members since counting
	Counting time.Time

	heard     time.Time     // the last word of anybody
	Admitted  time.Time     // the last own call
	Own       time.Duration // what own successes take: a moving mean
	Successes int           // own ones, of all recoveries
}

// Report is what a member said last.
type Report struct {
	InFlight int
	Took     time.Duration
	Until    time.Time
	failures int // that counted since the last own success
	since    int // which one that was, by joint.successes
}

const (
	Lag       = 25 * time.Millisecond // until all know of what one does
	requestIn = 2 * time.Second       // requests are counted over the last second or two
	silence   = time.Second           // after which there are no others any more, as far as one can tell
	// a member lets a call through in so long, or four times the usual time; in a fleet larger than the limit in as
	// many times so long
	leastEach = time.Second

	// failures of a member count between two own successes: half of what halves a limit by others' failures
	maxBlame   = 2
	maxOfUsual = 4 // times the calls of most members are believed of one, and one more
)

func (j *Joint) begin(now time.Time) {
	j.heard, j.Admitted, j.Own, j.Successes = now, now, 0, j.Successes+1
}

func (j *Joint) leave(member string) {
	j.InFlight -= min(j.Others[member].InFlight, j.Believed)
	delete(j.Others, member)
}

// Take takes what a member says, and returns how many of its failures count.
func (j *Joint) Take(member string, r Report, failures int) (counted int) {
	if before := j.Others[member]; before.since == j.Successes {
		r.failures = before.failures
	}
	counted = min(failures, maxBlame-r.failures)
	r.failures, r.since = r.failures+counted, j.Successes
	j.leave(member)
	if j.Others == nil {
		j.Others = make(map[string]Report)
	}
	if len(j.Others) < MaxOthers {
		j.Others[member] = r
		j.InFlight += min(r.InFlight, j.Believed)
	}
	return counted
}

// Sweep leaves out what does not hold any more, and finds out how many calls of a member are believed, and what a call
// takes. Both go by medians, which a few who lie do not move much. And what a call takes is neither less than half of
// what it took when all was well, or what is true would look slow; nor more than three times what own ones take, at
// which a Ramp still grows.
func (p *Member) Sweep(now time.Time) {
	j := &p.Joint
	if now.Sub(j.swept) < Lag {
		return
	}
	j.swept = now
	inFlight, took := []int{p.machine.InFlight()}, []time.Duration{j.Own}
	for member, r := range j.Others {
		if !now.Before(r.Until) {
			delete(j.Others, member)
			continue
		}
		inFlight, took = append(inFlight, r.InFlight), append(took, r.Took)
	}
	slices.Sort(inFlight)
	j.Believed, j.InFlight = maxOfUsual*inFlight[len(inFlight)/2]+1, 0
	for _, r := range j.Others {
		j.InFlight += min(r.InFlight, j.Believed)
	}
	took = slices.DeleteFunc(took, func(d time.Duration) bool { return d == 0 })
	least := p.machine.Usual() / 2
	if least == 0 {
		least = j.Own / 2
	}
	if j.Took = 0; least == 0 || len(took) < min(3, p.Members(now)) {
		return
	}
	slices.Sort(took)
	j.Took = max(took[len(took)/2], least)
	if j.Own > 0 {
		j.Took = min(j.Took, 3*j.Own)
	}
}

// CountRequests counts requests of any member while the circuit is not closed.
func (j *Joint) CountRequests(now time.Time, n int) {
	switch span := now.Sub(j.Counting); {
	case span >= 2*requestIn:
		j.Counting, j.Requests = now, 0
	case span >= requestIn:
		j.Counting, j.Requests = now.Add(-span/2), j.Requests/2
	}
	j.Requests += max(0, min(n, MaxAsked))
}

// hearRecovering takes what a half-open member says of its calls.
func (p *Member) hearRecovering(now time.Time, m fleet.Message) {
	if p.machine.State() == policy.Closed {
		return
	}
	s := &p.share
	s.counted = 0
	s.Others = remember(s.Others, m.From, now.Add(OpenedFor))
	_, _, recover := p.machine.Memories()
	r := Report{InFlight: max(0, min(m.InFlight, MaxAsked)), Took: max(0, m.Took), Until: now.Add(
		p.machine.Term(),
	)}
	failures := s.Joint.Take(m.From, r, max(0, m.Failures))
	s.Joint.CountRequests(now, m.Requests)
	if p.machine.State() == policy.Open {
		if m.Successes > 0 { // that the upstream answered was not heard
			p.answeredElsewhere(now)
		}
		return
	}
	rule, ok := recover.(policy.Joint)
	if !ok {
		return
	}
	p.Sweep(now)
	if recover.Limit() < 2*p.Members(now) {
		failures = 0 // or half of the limit would be less than one for each
	}
	rule.Others(p.machine.InFlight()+s.Joint.InFlight, max(0, m.Successes), failures, s.Joint.Took)
}

// Join reports whether to take up an upstream that has answered another member: yes, but after a recovery that failed
// not without a probe of its own, or whoever says so again and again has it hammered.
func (p *Member) Join() bool { return p.answered && !p.wary }

// Admitted takes notice of an own call.
func (p *Member) Admitted(now time.Time) {
	p.Joint.Admitted = now
	p.tellWaiting()
}

// Freed says that there is news.
func (p *Member) Freed() { p.tellWaiting() }

// InFlight returns how many calls all members have in flight, for a rule that limits them; at least as many as the
// limit for a request that is to wait its turn. Places that are free are shared out by chance among the requests that
// come before all know who has taken them.
func (p *Member) InFlight(now time.Time, own int) int {
	p.Requested(now)
	p.Sweep(now)
	_, _, recover := p.machine.Memories()
	j, limit, members := &p.Joint, recover.Limit(), p.Members(now)
	if now.Sub(j.heard) >= silence {
		return own
	}
	all := own + j.InFlight
	turn := p.machine.Shortened(leastEach) * time.Duration(max(1, members/max(1, limit)))
	if (own+1)*members <= limit || own == 0 && now.Sub(j.Admitted) >= turn {
		return max(own, min(all, limit-1))
	}
	soon := float64(j.Requests) * float64(Lag) / float64(max(Lag, now.Sub(j.Counting)))
	if free := float64(limit - all); free < soon && p.machine.Random()*soon >= free {
		return max(all, limit)
	}
	return all
}

// Recovering takes the result to the others.
func (p *Member) Recovering(r policy.Result) {
	s := &p.share
	if r.Outcome == policy.Failure {
		s.waiting.Failures++
		return
	}
	s.waiting.Successes++
	s.Joint.Successes++
	s.Joint.Own = smoothed.With(s.Joint.Own, r.Elapsed)
}
