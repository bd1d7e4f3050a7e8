package policy

import "time"

// Ramp is a RecoverRule that finds out how much a recovering upstream can carry, as TCP does for a network. It limits the
// calls in flight, beginning with two after a probe that succeeded.
//
//   - Each success allows one more, which doubles the limit each round trip: slow start (Jacobson, Congestion Avoidance and
//     Control, 1988). An upstream that is well carries all traffic after a few round trips, and one that is not is never
//     sent more than twice what it has just carried.
//   - The limit stops growing while latency, smoothed, is beyond three times its least since the probe, and past six times it
//     shrinks by one a round trip (Brakmo and Peterson, TCP Vegas, 1995): a queue is seen before it overflows.
//   - A score runs as in Evidence, but below 0 too, down to -Health. At Reopen the limit is halved and then grows by
//     one a round trip, and only calls that start after the halving count. Below one the circuit opens again.
//   - The circuit closes when the score is at -Health, latency is not beyond three times its least, and a round trip
//     has needed no more than half of the limit; ten round trips after a halving. An upstream that is offered
//     more than it can carry keeps a limit that suits it.
type Ramp struct {
	Reopen int           // score of failures at which the limit is halved; 0 means 2
	Worth  int           // what a success lowers the score by; 0 means 3
	Health int           // how far below 0 the score has to be for the circuit to close; 0 means 6
	Lease  time.Duration // a call that has not come back by then counts as failed; 0 means 10 s
}

func (r Ramp) NewRecover() Recover {
	r.Reopen = positiveOr(r.Reopen, 2, "Ramp.Reopen")
	r.Worth = positiveOr(r.Worth, 3, "Ramp.Worth")
	r.Health = positiveOr(r.Health, 6, "Ramp.Health")
	r.Lease = positiveOr(r.Lease, 10*time.Second, "Ramp.Lease")
	return &ramp{rule: r}
}

func (Ramp) AfterProbe() bool { return true }

// A round is the time from when a call starts until the first call that started since comes back. Its number is the
// mark of the calls that start in it.
type ramp struct {
	rule    Ramp
	limit   int
	score   int
	round   int
	counted int // marks below it are of before the last halving
	calm    int // rounds that needed half of the limit at most
	peak    int // calls in flight, in this round
	halved  bool

	smooth              time.Duration // moving mean of the time that calls took since Start
	least               time.Duration // the least that smooth has been; 0 while it is of too few calls to tell
	timed               int           // calls in smooth
	failures, successes int
}

const (
	firstLimit = 2
	calmRounds = 1  // before closing
	calmHalved = 10 // the same after a halving: an upstream at its capacity keeps its limit
	growBelow  = 3  // times the least latency
	shrinkFrom = 6
)

func (p *ramp) Start(_ time.Time, probe Result) {
	*p = ramp{rule: p.rule, limit: firstLimit}
	p.latency(probe.Elapsed)
}

func (p *ramp) Admit(inFlight int) (int, bool) {
	p.peak = max(p.peak, inFlight+1)
	if inFlight >= p.limit {
		return 0, false
	}
	return p.round, true
}

func (p *ramp) Record(_ time.Time, mark int, r Result) Verdict {
	if mark < p.counted {
		return Stay
	}
	if r.Outcome == Failure {
		p.failures++
		p.score++
		if p.score < p.rule.Reopen {
			return Stay
		}
		p.limit /= 2
		p.score, p.halved, p.calm = 0, true, 0
		p.nextRound()
		p.counted = p.round
		if p.limit < 1 {
			return Reopen
		}
		return Stay
	}
	p.successes++
	p.score = max(p.score-p.rule.Worth, -p.rule.Health)
	p.latency(r.Elapsed)
	if !p.halved && p.slowness() <= growBelow {
		p.limit++
	}
	if mark == p.round {
		p.endRound()
	}
	need := calmRounds
	if p.halved {
		need = calmHalved
	}
	if p.score <= -p.rule.Health && p.calm >= need && p.slowness() <= growBelow {
		return Close
	}
	return Stay
}

func (p *ramp) endRound() {
	if 2*p.peak > p.limit {
		p.calm = 0
	} else {
		p.calm++
	}
	switch {
	case p.slowness() > shrinkFrom:
		p.limit = max(1, p.limit-1)
	case p.halved && p.slowness() <= growBelow:
		p.limit++
	}
	p.nextRound()
}

func (p *ramp) nextRound() { p.round, p.peak = p.round+1, 0 }

// latency takes in how long a call took: a moving mean of an eighth, as TCP's. It is compared with the least of itself;
// the least of single calls would be the luckiest of them, and every usual call slow beside it.
func (p *ramp) latency(elapsed time.Duration) {
	if elapsed <= 0 {
		return
	}
	p.timed++
	p.smooth += (elapsed - p.smooth) / time.Duration(min(p.timed, 8))
	if p.timed >= 8 && (p.least == 0 || p.smooth < p.least) {
		p.least = p.smooth
	}
}

// slowness is the latency in units of its least.
func (p *ramp) slowness() float64 {
	if p.least == 0 {
		return 1
	}
	return float64(p.smooth) / float64(p.least)
}

func (p *ramp) Lease() time.Duration { return p.rule.Lease }
func (p *ramp) Limit() int           { return p.limit }
func (p *ramp) Counts() (int, int)   { return p.failures, p.successes }
