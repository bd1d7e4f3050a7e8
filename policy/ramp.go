package policy

import (
	"fmt"
	"math"
	"time"
)

// Ramp is a RecoverRule that finds out how much a recovering upstream can carry, as TCP does for a network. It limits
// the calls in flight, beginning with two after a probe that succeeded.
//
//   - Each success allows one more, which doubles the limit each round trip: slow start (Jacobson, Congestion Avoidance
//     and Control, 1988). An upstream that is well carries all traffic after a few round trips, and one that is not is
//     never sent more than twice what it has just carried.
//   - Where answers take long by nature, doubling would take minutes: a quarter of a second and more, and no more than
//     three times what calls took before the trouble. There the limit begins at the square root of the requests that
//     came while the probe was out, which are as many as full traffic has in flight (Little's law), and gets to what is
//     asked for within one round trip more. So it does where calls come in bursts, a quarter of a second and more
//     apart: a burst is a round trip, and after one of which two calls went well, all of the next one may go.
//   - The limit stops growing while latency, smoothed, is beyond three times its least since the probe, and past six
//     times it shrinks by one a round trip (Brakmo and Peterson, TCP Vegas, 1995): a queue is seen before it overflows.
//     So it does past 35 % and past 70 % of the time that the caller waits, as with a Throttle, if an answer took a
//     quarter longer than calls did before the trouble: many clients fill a queue of which none has seen the beginning.
//     After 128 slow round trips, and then at growing intervals, sixteen go with a single call in flight (as BBR's
//     ProbeRTT; Cardwell and others, 2016): if that is as slow, it was no queue, and the least is learnt anew. Sixteen
//     slow ones at a limit of one are as good.
//   - A score runs as in Evidence, but below 0 too, down to -Health. At Reopen the limit is halved and then grows by
//     one a round trip, unless it was among the first dozen calls; only calls that start after the halving count. Below
//     one the circuit opens again.
//   - The circuit closes when the score is at -Health, calls queue by neither of these measures, and a round trip
//     has needed no more than half of the limit; ten round trips after a halving or such a look. An upstream that is
//     offered more than it can carry keeps a limit that suits it.
//   - An upstream that fails again in its recovery, or within two seconds after it, may have got too much while it was
//     still warming up, and would each time. For twice as long as it lasted the limit is no more than half of what was
//     in flight. If it outlives that and then fails, the same limit is held for twice as long again; if it fails sooner
//     than before, half of it is. If it fails as soon as before, the load is not the reason, and nothing is held again
//     in that trouble. No limit that is held is below two.
//   - In a fleet the limit is that of all members together (Joint).
type Ramp struct {
	Reopen int // score of failures at which the limit is halved; 0 means 2
	Worth  int // what a success lowers the score by; 0 means 3
	Health int // how far below 0 the score has to be for the circuit to close; 0 means 6
	// Lease is how long a call that has not come back keeps others from going; 0 means 10 s. Four times what calls
	// usually take is enough if that is less, but not less than a second, and twice the longest answer of the last ten
	// minutes is allowed if that is more. It has failed when it comes back so, or if nothing comes back for a minute.
	Lease time.Duration
}

// NewRecover makes the memory of a circuit. It panics if a parameter makes no sense.
func (r Ramp) NewRecover() Recover {
	r.Reopen = positiveOr(r.Reopen, 2, "Ramp.Reopen")
	r.Worth = min(positiveOr(r.Worth, 3, "Ramp.Worth"), math.MaxInt/2) // their sum does not overflow
	r.Health = min(positiveOr(r.Health, 6, "Ramp.Health"), math.MaxInt/2)
	r.Lease = positiveOr(r.Lease, 10*time.Second, "Ramp.Lease")
	return &ramp{rule: r}
}

// AfterProbe reports true: a probe that succeeds begins the ramp.
func (Ramp) AfterProbe() bool { return true }

// A round is the time from when a call starts until the first call that started since comes back. Its number is the
// mark of the calls that start in it.
type ramp struct {
	rule    Ramp
	limit   int
	score   int
	others  int // the same of other members of a fleet
	round   int
	counted int // marks below it are of before the last halving
	calm    int // rounds that needed half of the limit at most
	slow    int // crowded rounds in a row
	alone   int // the same at a limit of one

	look      int           // rounds to go at a limit of one, to see what makes calls slow
	before    int           // the limit then
	patience  int           // rounds until the next look
	peak      int           // calls in flight, in this round
	asked     int           // requests since Start
	stride    int           // by which each success raises the limit
	ended     time.Time     // a call last succeeded, that of the probe at first
	askedThen int           // asked then
	burst     int           // the mark of its calls, if what comes is in bursts
	joint     bool          // others call as well, and their pauses are not known
	usual     time.Duration // calls took before the trouble, or since it was found that there is no queue
	queued    float64       // of its caller's time the last success took so much, and more than usual; 0 if not
	natural   bool          // answers are slow, and it is no queue
	halved    bool
	held      bool // the limit is to be no more than limited
	vain      bool // it was held before, and the load is not the reason

	most    int           // calls in flight at most, since Start
	limited int           // what the limit may be while it is held
	holds   time.Duration // for so long, from Start on; 0 if it was not held then
	until   time.Time     // that is over
	lasted  time.Duration // the recovery before

	smooth              time.Duration // moving mean of the time that calls took since Start
	least               time.Duration // the least that smooth has been; 0 while it is of too few calls to tell
	timed               int           // calls in smooth
	failures, successes int
}

const (
	firstLimit = 2
	calmRounds = 1  // before closing
	calmHalved = 10 // the same after a halving or a look: an upstream at its capacity keeps its limit
	fewCalls   = 12 // say nothing yet of how much the upstream carries
	growBelow  = 3  // times the least latency
	shrinkFrom = 6
	slowAnswer = 250 * time.Millisecond // from which on doubling takes too long, and so it does if so long nothing goes
	firstLook  = 128                    // slow rounds before the first look; each later one takes twice as many
	lookRounds = 16                     // until nothing is left in the mean of what was before
	mostJoint  = 1 << 20                // the limit grows no further by what others say
	heldFor    = 2                      // times as long as the recovery before has lasted
	heldSame   = 1.5                    // times less or more is as long as without
	mostLasted = time.Minute            // a recovery, as far as that is concerned
)

func (p *ramp) Start(now time.Time, probe Result) {
	before := *p
	*p = ramp{rule: p.rule, limit: firstLimit, ended: now, patience: firstLook, stride: 1, usual: probe.Usual}
	p.natural = probe.Elapsed >= slowAnswer && (probe.Usual == 0 || probe.Elapsed <= growBelow*probe.Usual)
	if p.natural {
		p.limit = max(firstLimit, ceilSqrt(float64(probe.Asked)))
	}
	p.latency(probe.Elapsed)
	if probe.Lasted > 0 {
		p.relapsed(now, &before, probe.Lasted)
	}
}

// relapsed takes notice that the upstream has failed again, for how long it was well, and in what recovery.
func (p *ramp) relapsed(now time.Time, before *ramp, lasted time.Duration) {
	p.lasted = min(lasted, mostLasted)
	limit, holds := before.most/2, heldFor*p.lasted
	if before.holds > 0 {
		switch {
		case p.lasted >= before.holds: // it bears that limit, and then got more too soon
			limit = before.limited
		case float64(before.lasted)/heldSame <= float64(p.lasted), before.limited <= firstLimit:
			p.vain = true
		default:
			limit, holds = before.limited/2, before.holds
		}
	}
	if p.vain = p.vain || before.vain; p.vain || before.most == 0 {
		return
	}
	p.held, p.limited, p.holds, p.until = true, max(firstLimit, limit), holds, now.Add(holds)
	p.limit = min(p.limit, p.limited)
}

// Held says that the recovery that has just started is held, and why; it is empty if that is not so.
func (p *ramp) Held() string {
	if !p.held {
		return ""
	}
	return fmt.Sprintf("it failed again, %v after the recovery before began: %s at a time at most for %v",
		rounded(p.lasted), counted(p.limited, "call"), rounded(p.holds))
}

// raise raises the limit, as far as it may be.
func (p *ramp) raise(by int) {
	p.limit += by
	if p.held {
		p.limit = min(p.limit, p.limited)
	}
}

func ceilSqrt(n float64) int { return int(math.Ceil(math.Sqrt(n))) }

func (p *ramp) Admit(inFlight int) (int, bool) {
	p.asked++
	p.peak = max(p.peak, inFlight+1)
	if inFlight >= p.limit {
		return 0, false
	}
	p.most = max(p.most, inFlight+1)
	return p.round, true
}

// InVain makes p an InVain: what else Admit does, more of the same do not do again.
func (p *ramp) InVain(n int) { p.asked += n }

func (p *ramp) Record(now time.Time, mark int, r Result) Verdict {
	if left := p.until.Sub(now); left <= 0 || left > p.holds { // if the clock was set back
		p.held = false
	}
	if mark < p.counted {
		return VerdictStay
	}
	if r.Outcome == Failure {
		p.failures++
		p.score++
		if p.score < p.rule.Reopen {
			return VerdictStay
		}
		early := !p.halved && p.failures+p.successes < fewCalls
		below := p.halve()
		p.halved = !early
		if below {
			return VerdictReopen
		}
		return VerdictStay
	}
	p.successes++
	p.queued = 0
	if r.Wait > 0 && p.usual > 0 && float64(r.Elapsed) > lateGrowth*float64(p.usual) {
		p.queued = float64(r.Elapsed) / float64(r.Wait)
	}
	p.score -= min(p.rule.Worth, p.score+p.rule.Health)
	p.latency(r.Elapsed)
	switch quiet := now.Add(-r.Elapsed).Sub(p.ended); {
	case p.natural:
		if p.round == 0 && mark == 0 {
			p.strideTo(p.asked)
		}
	case quiet >= slowAnswer && r.Elapsed > 0 && !p.joint:
		p.burst = mark
		p.strideTo(p.asked - p.askedThen)
	case mark != p.burst:
		p.stride = 1
	}
	p.ended, p.askedThen = now, p.asked
	if p.growing() {
		p.raise(p.stride)
	}
	if mark == p.round {
		p.endRound()
	}
	need := calmRounds
	if p.halved || p.patience > firstLook {
		need = calmHalved
	}
	if p.score <= -p.rule.Health && p.calm >= need && !p.crowded() {
		return VerdictClose
	}
	return VerdictStay
}

// Others makes p a Joint. What others say counts as own calls do where the limit grows, by half where it is halved, and
// not where the circuit closes or opens.
func (p *ramp) Others(inFlight, successes, failures int, took time.Duration) {
	p.joint = true
	p.peak, p.most = max(p.peak, inFlight), max(p.most, inFlight)
	if p.halved && p.counted == p.round {
		return // those calls may have started before the halving
	}
	if p.others += failures; p.others/2 >= p.rule.Reopen {
		p.halve()
		return
	}
	successes = min(successes, p.limit) // slow start doubles, and no more
	if left := p.others + p.rule.Health; successes > left/p.rule.Worth {
		p.others = -p.rule.Health
	} else {
		p.others -= p.rule.Worth * successes
	}
	p.latency(took)
	if p.growing() {
		p.raise(min(successes, max(0, mostJoint-p.limit)))
	}
}

// growing reports whether each success allows more calls.
func (p *ramp) growing() bool { return !p.halved && p.look == 0 && !p.crowded() }

// halve halves the limit, to one at least, so that nobody is kept out for good who does not open the circuit. Below
// reports that it would be less.
func (p *ramp) halve() (below bool) {
	p.endLook()
	below = p.limit <= 1
	p.limit = max(1, p.limit/2)
	p.score, p.others, p.halved, p.calm = 0, 0, true, 0
	p.nextRound()
	p.counted = p.round
	return below
}

func (p *ramp) endRound() {
	if 2*p.peak > p.limit {
		p.calm = 0
	} else {
		p.calm++
	}
	p.slow++
	p.alone++
	if !p.crowded() {
		p.slow = 0
	}
	if p.slow == 0 || p.limit > 1 || p.look > 0 {
		p.alone = 0
	}
	switch {
	case p.look == 1:
		if p.slow > 0 {
			p.asUsual()
		} else {
			p.halved = true // it was a queue, and the limit is near what suits the upstream
		}
		p.endLook()
	case p.look > 1:
		p.look--
	case p.alone >= lookRounds: // that was a look
		p.asUsual()
	case p.slow >= p.patience:
		p.look, p.before, p.limit = lookRounds, p.limit, 1
		p.patience *= 2
	case p.slowness() > shrinkFrom || p.queued > lateRoom:
		p.limit = max(1, p.limit-1)
	case p.halved && p.slow == 0:
		p.raise(1)
	}
	p.nextRound()
}

// strideTo has the successes of a round raise the limit to so many calls.
func (p *ramp) strideTo(calls int) { p.stride = max(1, (calls+p.limit-1)/p.limit-1) }

// asUsual takes it that calls take so long now, since it is no queue of ours.
func (p *ramp) asUsual() {
	p.least, p.usual, p.queued = p.smooth, p.smooth, 0
	p.slow, p.alone = 0, 0
}

func (p *ramp) endLook() {
	if p.look > 0 {
		p.look, p.limit, p.slow, p.calm = 0, p.before, 0, 0
	}
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

// crowded reports whether calls queue, so that more of them would not come through sooner.
func (p *ramp) crowded() bool { return p.slowness() > growBelow || p.queued > lateShare }

func (p *ramp) Lease() time.Duration { return p.rule.Lease }
func (p *ramp) Limit() int           { return p.limit }
func (p *ramp) Counts() (int, int)   { return p.failures, p.successes }

func (p *ramp) Explain() string {
	calls := counted(p.failures+p.successes, "call")
	return fmt.Sprintf("%d of %s failed, and the limit fell below one", p.failures, calls)
}
