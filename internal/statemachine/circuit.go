// Package statemachine is the circuit: three states, permits and generations. It asks the rules of a policy and
// knows none of them, knows no HTTP, and reads no clock: its methods take now.
package statemachine

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

const (
	// bodyLease is how long a call whose headers came well waits for its body before the headers have the say: a body that
	// streams for hours does not hold a probe for hours, nor the success of a call that is weighed.
	bodyLease = time.Second
	// mostWeighed is how many calls of a closed circuit wait for that at a time. The success of further ones counts at their end.
	mostWeighed = 64

	// What calls say of a failure whose callers could not know. See hint.
	hintHasty   = 1  // a deadline that passed before half of the time that calls usually take
	hintGaveUp  = 8  // a caller that went away after many times as long
	hintsEnough = 32 // of them are one
	manyTimes   = 8
	leastGone   = time.Second // and at the soonest
)

// Config is what circuits of one policy have in common.
type Config struct {
	Rules  policy.Rules   // validated
	Random func() float64 // uniform in [0,1), for jitter; called under a circuit's lock

	Timed    bool // a rule looks at the time that a call took
	Attended bool // the user of the circuit looks at every call
	Measured bool // calls are timed now and then, also if there is no Hold
	Fleet    bool // circuits of other processes are told what this one knows
}

// Observer is told what happened to a circuit: in order, by one goroutine at a time, and outside every lock, so that
// it can call anything, the circuit included.
type Observer interface {
	Changed(Change)
	Refused(Refusal)
	// Share takes what the circuits of other processes are to be told. The key is missing; of Evidence, only that there is
	// some, to be had by TakeEvidence.
	Share(fleet.Message)
	// WantsRefusals reports whether Refused does anything. It is called under a lock.
	WantsRefusals() bool
}

// Change is a change of state.
type Change struct {
	From, To            policy.State
	At                  time.Time
	Reason              Reason
	Cause               policy.Cause    // of the failure that changed the state, if one did
	Failures, Successes int             // what the rule of the state From had in view
	Due                 time.Time       // the earliest time of the next probe, if To is Open
	Samples             []policy.Sample // if To is Open; not to be changed
}

// Refusal is what there is to say of a request that was refused.
type Refusal struct {
	Gone      bool // nothing was decided: the circuit was forgotten, ask the one that took its place
	Reason    policy.Refusal
	State     policy.State
	At        time.Time
	Since     time.Time       // when the circuit took this state
	Due       time.Time       // the earliest time of the next probe; not after At if that is not known
	SafeUntil time.Time       // a probe is due and waits for a safe call, until then; zero if none does
	Cause     policy.Cause    // of the last failure
	Samples   []policy.Sample // not to be changed
}

// Reason says why a circuit changed its state.
type Reason string

// The reasons for which a circuit changes its state.
const (
	Tripped        Reason = "tripped"
	TrippedByFleet Reason = "tripped by fleet"
	FleetAnswered  Reason = "answered in fleet"
	OpenTimePassed Reason = "open time passed"
	ProbeSucceeded Reason = "probe succeeded"
	Recovered      Reason = "recovered"
	RecoveryFailed Reason = "recovery failed"
	ByHand         Reason = "by hand"
	Forced         Reason = "forced"
	Released       Reason = "released"
	Reset          Reason = "reset"
	Restored       Reason = "restored"
)

// A Circuit is closed at first. Its methods may be called by many goroutines at once.
//
// The lock protocol: word and well are read without the lock and written with it, but for word's touched bit, which is a
// hint. All else is under mu. Observers are told by unlock, after mu is released, by whichever goroutine finds events waiting and no
// other one delivering.
type Circuit struct {
	word   atomic.Uint64
	config atomic.Pointer[Config] // written under mu
	well   atomic.Int64           // when a call is known to have gone well, by began; 0 if none has since the last failure or change of state

	mu           sync.Mutex
	trip         policy.Trip
	probe        policy.Probe   // nil before the first trip
	recover      policy.Recover // nil before the first trip
	recoverOf    *Config        // whose rule recover is of
	forced       bool           // the state is one that somebody wants, and the rules have no say
	hastened     bool           // the next request is a probe, whatever the rule says
	stale        bool           // connections made before may be dead, and the next probe is not to trust them
	nothing      uint8          // probes of which nothing came over such a connection, since the circuit opened
	places       []*place       // of the calls let through in this generation that are not given back
	nextExpiry   time.Time      // not after the first lease of places ends; zero if there is none
	failedProbes int            // and recoveries, since the trip
	opened       uint64         // how often the circuit has opened
	since        time.Time
	trouble      *trouble // nil while closed
	failedAt     time.Time
	cause        policy.Cause
	samples      samples
	hints        uint8  // of failures, since the last success
	failing      bool   // no success since the last failure, or hint of one
	share        *share // nil without a fleet
	counts       Counts
	watch        watch
	observer     Observer
	events       []func(Observer)
	delivering   bool
	hushed       bool // nobody is delivering, and nobody is to
}

// trouble is what there is to say of a circuit that is not closed. It is apart, since most are.
type trouble struct {
	since    time.Time
	asked    time.Time // the last request came; zero if none has
	requests int       // that have come

	withheld time.Time // since when a probe is due and waits for a safe call, and others have come; zero if none does
}

// The word: the generation, and below it these bits.
const (
	stateBits  = 0b000000011 // a policy.State
	quietBit   = 0b000000100 // closed, and a success would change nothing
	touchedBit = 0b000001000 // used since the last Forget
	goneBit    = 0b000010000 // forgotten: no longer the circuit of its key
	canaryBit  = 0b000100000 // closed, and the next call is to be a canary
	watchBit   = 0b001000000 // closed, and every call is counted, because a canary is late
	knownBit   = 0b010000000 // the upstream has answered a call, or somebody set the state by hand (Set)
	failingBit = 0b100000000 // closed, and the last call that said something did not succeed
	generation = 9           // bits below the generation
)

// New makes a closed circuit. A nil observer is told nothing.
func New(config *Config, observer Observer) *Circuit {
	c := &Circuit{observer: observer, trip: config.Rules.Trip.NewTrip()}
	c.config.Store(config)
	if config.Fleet {
		c.share = new(share)
	}
	c.store(policy.Closed, 0)
	c.word.And(^uint64(touchedBit))
	return c
}

// place is what a call let through while open or half-open takes up; and one of a closed circuit whose headers came well, while
// its body may still break.
type place struct {
	index    int // in Circuit.places; -1 when given back
	started  time.Time
	trouble  *trouble // Circuit.trouble then
	requests int      // trouble.requests then
	expiry   time.Time
	mark     int
	withheld time.Time     // trouble.withheld when it got its place
	probe    bool          // it goes to see how the upstream does
	overdue  bool          // and waited for a safe call for so long that any could be it
	hastened bool          // it is a probe for that reason
	weighed  bool          // the circuit is closed
	headers  bool          // they came well
	took     time.Duration // until they did
	lease    time.Time     // that expiry was at first
	stale    bool          // Circuit.stale was set when it was let through
	reused   bool          // it goes over a connection that may be dead
	expired  bool          // its lease ended before the call did, and it was settled then
	opened   uint64        // Circuit.opened when it expired
}

// AcquireClosed gives a permit if the circuit is closed. It takes no lock and needs no clock, and writes nothing but
// that the circuit is in use, if that was not known.
func (c *Circuit) AcquireClosed() (Permit, bool) {
	word := c.word.Load()
	if word&(stateBits|goneBit|watchBit|canaryBit|touchedBit|failingBit) == uint64(policy.Closed)|touchedBit {
		return Permit{circuit: c, generation: word >> generation}, true
	}
	return c.acquireClosed(word)
}

func (c *Circuit) acquireClosed(word uint64) (Permit, bool) {
	if word&touchedBit == 0 {
		c.word.Or(touchedBit)
	}
	if word&(stateBits|goneBit|watchBit) != uint64(policy.Closed) {
		return Permit{}, false
	}
	permit := Permit{circuit: c, generation: word >> generation, timed: word&failingBit != 0}
	if word&(touchedBit|canaryBit) == touchedBit|canaryBit {
		// Not the first call, so that a host that is called once has no timer.
		permit.watched = c.takeCanary(permit.generation)
	}
	return permit, true
}

// use is what a call may be used for.
type use uint8

const (
	mayProbe   use = iota // to probe
	lastResort            // to probe if no other call came for it in Rules.SafeWait
	noProbe               // not to probe
)

// Acquire gives a permit, or says why not. Deadline is when the caller will be gone; zero if never.
func (c *Circuit) Acquire(now, deadline time.Time) (Permit, Refusal) {
	return c.acquire(now, deadline, mayProbe)
}

// AcquireUnsafe is Acquire for a call that is to be a probe only if none that is safer came for Rules.SafeWait.
func (c *Circuit) AcquireUnsafe(now, deadline time.Time) (Permit, Refusal) {
	return c.acquire(now, deadline, lastResort)
}

// AcquireNoProbe is Acquire for a call that is not to be a probe.
func (c *Circuit) AcquireNoProbe(now, deadline time.Time) (Permit, Refusal) {
	return c.acquire(now, deadline, noProbe)
}

func (c *Circuit) acquire(now, deadline time.Time, by use) (permit Permit, refusal Refusal) {
	c.mu.Lock()
	decided, told := false, false
	defer func() {
		if told {
			return
		}
		if decided { // an observer panicked, and nobody gets the permit
			c.mu.Lock()
		} // else a rule did
		if permit.place != nil {
			c.giveBack(permit.place)
		}
		c.mu.Unlock()
	}()
	permit, refusal = c.decide(now, deadline, by)
	decided = true
	c.unlock()
	told = true
	return permit, refusal
}

func (c *Circuit) decide(now, deadline time.Time, by use) (Permit, Refusal) {
	if c.gone() {
		return Permit{}, Refusal{Gone: true}
	}
	c.expire(now)
	c.came(now)
	switch c.state() {
	case policy.Closed:
		hold := c.rules().Hold
		if c.forced {
			hold = policy.Hold{}
		}
		watched, held := c.watch.admit(now, deadline, hold)
		if held {
			return Permit{}, c.refuse(now, policy.RefusedHeld)
		}
		return Permit{circuit: c, generation: c.generation(), watched: watched}, Refusal{}
	case policy.Open:
		if c.forced {
			return Permit{}, c.refuse(now, policy.RefusedForced)
		}
		if c.joins() {
			c.change(policy.HalfOpen, now, FleetAnswered, policy.Result{})
			break
		}
		if due := c.ask(now); !due || len(c.places) > 0 || c.withholds(now, by) {
			c.tellOpened(now)
			return Permit{}, c.refuse(now, policy.RefusedOpen)
		}
		hastened := c.hastened
		c.hastened = false
		if c.share != nil {
			c.share.due, c.share.foreign = time.Time{}, 0
		}
		if c.rules().Recover.AfterProbe() {
			lease := c.probe.Lease()
			if c.rules().Hold.Silence > 0 {
				lease = c.watch.lease(lease)
			}
			c.tellFleet(fleet.ProbeStarted, lease)
			permit := c.admit(now, lease, 0, true)
			permit.place.hastened = hastened
			return permit, Refusal{}
		}
		withheld := c.trouble.withheld
		c.change(policy.HalfOpen, now, OpenTimePassed, policy.Result{})
		c.trouble.withheld = withheld // until it goes, which it does now
	}
	trial := !c.recoverOf.Rules.Recover.AfterProbe() // the half-open calls are the probes
	if trial && by != mayProbe && (len(c.places) >= c.recover.Limit() || c.withholds(now, by)) {
		return Permit{}, c.refuse(now, policy.RefusedRamp)
	}
	inFlight, together := len(c.places), c.share != nil && !trial
	if together {
		inFlight = c.inFlightOfAll(now)
	}
	mark, ok := c.recover.Admit(inFlight)
	if !ok {
		return Permit{}, c.refuse(now, policy.RefusedRamp)
	}
	if together {
		c.share.joint.admitted = now
		c.tellWaiting()
	}
	return c.admit(now, c.watch.term(c.recover.Lease()), mark, trial), Refusal{}
}

// withholds reports whether a probe that is due is not for this call, and takes down since when it waits for a safe one.
func (c *Circuit) withholds(now time.Time, by use) bool {
	if by == lastResort && c.trouble.withheld.IsZero() {
		c.trouble.withheld = now
	}
	return by == noProbe || by == lastResort && !c.overdue(now)
}

// overdue reports whether a probe has waited for a safe call for so long that any may be it.
func (c *Circuit) overdue(now time.Time) bool {
	since := c.trouble.withheld
	return !since.IsZero() && now.Sub(since) >= c.rules().SafeWait
}

// safeUntil is when a probe that waits for a safe call will be overdue; zero if none waits.
func (c *Circuit) safeUntil() time.Time {
	if c.trouble == nil || c.trouble.withheld.IsZero() {
		return time.Time{}
	}
	return c.trouble.withheld.Add(c.rules().SafeWait)
}

func (c *Circuit) admit(now time.Time, lease time.Duration, mark int, probe bool) Permit {
	p := &place{started: now, trouble: c.trouble, expiry: now.Add(lease), lease: now.Add(lease), mark: mark, probe: probe}
	p.requests = c.trouble.requests
	if probe {
		p.stale, c.stale = c.stale, false
		p.withheld, p.overdue = c.trouble.withheld, c.overdue(now)
		c.trouble.withheld = time.Time{}
	}
	c.take(p)
	c.counts.Probes++
	return Permit{circuit: c, generation: c.generation(), place: p}
}

func (c *Circuit) take(p *place) {
	p.index = len(c.places)
	c.places = append(c.places, p)
	c.expireBy(p.expiry)
}

// Refuse counts a request that is refused for a reason that is not the circuit's.
func (c *Circuit) Refuse(now time.Time, reason policy.Refusal) Refusal {
	c.mu.Lock()
	defer c.unlock()
	c.came(now)
	return c.refuse(now, reason)
}

// came takes notice of a request.
func (c *Circuit) came(now time.Time) {
	if c.state() == policy.Closed {
		return
	}
	c.trouble.requests++
	if now.After(c.trouble.asked) {
		c.trouble.asked = now
	}
}

func (c *Circuit) refuse(now time.Time, reason policy.Refusal) Refusal {
	c.counts.Refusals++
	r := Refusal{
		Reason: reason, State: c.state(), At: now, Since: c.since, Due: now, Cause: c.cause, Samples: c.samples.list(),
	}
	if r.State == policy.Open && !c.forced {
		r.Due = c.probe.Due()
	}
	if reason == policy.RefusedOpen || reason == policy.RefusedRamp {
		r.SafeUntil = c.safeUntil()
	}
	if c.observer != nil && len(c.events) < mostWaiting && c.observer.WantsRefusals() {
		told := r // what the event keeps, so that without an observer nothing is kept
		c.tell(func(o Observer) { o.Refused(told) })
	}
	return r
}

// answered takes notice of whether there is such an upstream at all.
func (c *Circuit) answered(r policy.Result) {
	if (r.Outcome == policy.Success || r.Cause.Status != 0) && c.word.Load()&knownBit == 0 {
		c.word.Or(knownBit)
	}
}

// Blame takes a failure that a call of this key found out while the circuit was another one.
func (c *Circuit) Blame(now time.Time, r policy.Result) (opened bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.gone() {
		return false
	}
	c.answered(r)
	c.counts.Failures++
	c.failed(now, r)
	return c.state() == policy.Closed && c.record(now, r)
}

// late takes the result of a call that its lease has settled already. Two things can be new in it: that the body broke after the
// headers came well, which is one more failure unless the circuit has opened since; and that the call succeeded after all, which
// says that the upstream lives, if it is the trouble still in which the call was let through.
func (c *Circuit) late(now time.Time, p Permit, r policy.Result) (opened bool) {
	state, lives := c.state(), c.lives(p.place, r)
	broke := p.place.headers && r.Outcome == policy.Failure && p.place.opened == c.opened
	switch {
	case broke && state == policy.Closed:
		return c.record(now, r)
	case broke && state == policy.HalfOpen, lives && p.generation == c.generation():
		return c.settle(now, p.place, r)
	case lives && state == policy.Open:
		r = c.learn(now, p.place, r)
		return c.wakeUp(now, r)
	case lives && !c.recoverOf.Rules.Recover.AfterProbe(): // the probes of a trial are alike, and one of an earlier trial will do
		return c.settle(now, p.place, r)
	case lives:
		c.learn(now, p.place, r)
	case p.place.weighed && r.Outcome != policy.Failure:
		return false // it has counted
	}
	c.counts.LateCalls++
	return false
}

// lives reports whether a call whose lease has ended says that the upstream lives: it was let through in this trouble, and its
// answer has come.
func (c *Circuit) lives(p *place, r policy.Result) bool {
	return !p.headers && r.Outcome == policy.Success && !c.forced && c.trouble != nil && c.trouble == p.trouble
}

// weigh lets the success of a closed circuit's call count a while after its headers came, unless its body ends or breaks before.
// It returns nil if a success would change nothing, or if too many calls wait for that.
func (c *Circuit) weigh(now time.Time) *place {
	c.expire(now)
	if c.state() != policy.Closed || c.word.Load()&quietBit != 0 || len(c.places) >= mostWeighed {
		return nil
	}
	p := &place{expiry: now.Add(bodyLease), weighed: true, headers: true}
	c.take(p)
	return p
}

// wakeUp begins a recovery because the upstream has answered. What answered is the first success of a trial.
func (c *Circuit) wakeUp(now time.Time, r policy.Result) (opened bool) {
	c.change(policy.HalfOpen, now, ProbeSucceeded, r)
	if c.recoverOf.Rules.Recover.AfterProbe() {
		return false
	}
	return c.conclude(now, 0, r)
}

// learn takes notice of how long a call took that was let through in trouble, and adds to its result what a recovery can start
// with.
func (c *Circuit) learn(now time.Time, p *place, r policy.Result) policy.Result {
	r.Usual = c.watch.usual
	if p.trouble == c.trouble {
		r.Asked = c.trouble.requests - p.requests
	}
	if r.Outcome == policy.Success && r.Elapsed > 0 {
		c.watch.learn(now, r.Elapsed)
	}
	return r
}

// hint turns what says nothing of the upstream by itself into a failure, if there has been enough of it since the last success. A
// caller whose deadline passes long before calls usually end could not have had an answer; one that goes away after many times as
// long as they take may be right to. Either is all that is heard of an upstream whose callers are all like that.
func (c *Circuit) hint(p Permit, now time.Time, r policy.Result) policy.Result {
	usual := c.watch.usual
	if usual == 0 || r.Cause.Phase == policy.PhaseBody {
		return r
	}
	waited, known := c.waited(p, now, r)
	switch kind, whose := r.Cause.Kind, r.Cause.Deadline; {
	case r.Outcome == policy.Failure && kind == policy.Timeout && waited < usual/2 && (known || c.failing) &&
		whose != policy.TransportDeadline && whose != policy.LimitDeadline: // which are for all calls, and somebody chose them
		if c.hints += hintHasty; c.state() != policy.Closed {
			c.hints += hintGaveUp - hintHasty // there is reason to believe it
		}
	case r.Outcome == policy.Ignored && kind == policy.Canceled && known && waited >= max(leastGone, manyTimes*usual, c.watch.longest) &&
		!c.Well(now.Add(-waited)): // others were answered while it waited, and it is of another kind
		c.hints += hintGaveUp
	default:
		return r
	}
	r.Outcome, c.failing = policy.Ignored, true
	if c.hints >= hintsEnough {
		c.hints -= hintsEnough
		r = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.NoAnswer}}
		c.failed(now, r)
	} else if c.state() == policy.Closed {
		c.store(policy.Closed, c.generation())
	}
	return r
}

// waited returns how long a call has been out that came to nothing, or at least how long, if it is not known when it began: then it
// was before any failed, and before a canary was late.
func (c *Circuit) waited(p Permit, now time.Time, r policy.Result) (waited time.Duration, known bool) {
	switch {
	case p.watched != nil:
		return now.Sub(p.watched.started), true
	case r.Elapsed > 0:
		return r.Elapsed, true
	case c.watch.phase == watching:
		return now.Sub(c.watch.since), false
	}
	return 0, false
}

// record takes the result of a call that started while the circuit was closed.
func (c *Circuit) record(now time.Time, r policy.Result) (opened bool) {
	if r.Outcome == policy.Ignored || c.forced {
		return false
	}
	if c.failing = r.Outcome == policy.Failure; !c.failing {
		c.hints = 0
	}
	if c.trip.Record(now, r) {
		c.change(policy.Open, now, Tripped, r)
		return true
	}
	if c.share != nil && c.shareResult(now, r) {
		c.change(policy.Open, now, TrippedByFleet, r)
		return true
	}
	c.store(policy.Closed, c.generation())
	return false
}

// settle takes the result of a call that was let through while the circuit was open or half-open.
func (c *Circuit) settle(now time.Time, p *place, r policy.Result) (opened bool) {
	switch r.Outcome {
	case policy.Ignored:
		c.stale = c.stale || p.stale
		return false
	case policy.Success:
		c.hints = 0
	}
	r = c.learn(now, p, r)
	if judge, ok := c.trip.(policy.Judge); ok && r.Outcome == policy.Success && judge.Bad(r) {
		r.Outcome, r.Cause = policy.Failure, policy.Cause{Kind: policy.Slow, Status: r.Cause.Status}
		c.failed(now, r)
	}
	if c.state() == policy.Open {
		if r.Outcome == policy.Success {
			return c.wakeUp(now, r)
		}
		c.failedProbes++
		c.probe.Fail(now, r, c.config.Load().Random())
		c.tellFleet(fleet.ProbeFailed, 0)
		return false
	}
	return c.conclude(now, p.mark, r)
}

// conclude has the recovery rule draw its conclusion.
func (c *Circuit) conclude(now time.Time, mark int, r policy.Result) (opened bool) {
	if c.share != nil {
		c.shareRecovery(r)
	}
	switch c.recover.Record(now, mark, r) {
	case policy.Close:
		c.change(policy.Closed, now, Recovered, r)
	case policy.Reopen:
		c.change(policy.Open, now, RecoveryFailed, r)
		return true
	}
	return false
}

// expire settles the calls whose leases have ended, in the order in which they ended: well if their headers came
// well, as failed otherwise.
func (c *Circuit) expire(now time.Time) {
	for !c.nextExpiry.IsZero() && !now.Before(c.nextExpiry) {
		var first *place
		for _, p := range c.places {
			if first == nil || p.expiry.Before(first.expiry) {
				first = p
			}
		}
		if first == nil || first.expiry.After(now) {
			c.nextExpiry = time.Time{}
			if first != nil {
				c.nextExpiry = first.expiry
			}
			return
		}
		first.expired, first.opened = true, c.opened
		c.giveBack(first)
		if first.headers {
			r := policy.Result{Outcome: policy.Success, Elapsed: first.took}
			if c.state() == policy.Closed {
				c.record(now, r)
			} else {
				c.settle(now, first, r)
			}
			continue
		}
		r := policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.Lease}}
		c.failed(now, r)
		if !c.cameToNothing(first, r) {
			c.settle(now, first, r)
		}
	}
}

func (c *Circuit) failed(now time.Time, r policy.Result) {
	c.cause, c.failedAt = r.Cause, now
	c.samples.add(now, r)
	c.well.Store(0)
}

func (c *Circuit) expireBy(expiry time.Time) {
	if c.nextExpiry.IsZero() || expiry.Before(c.nextExpiry) {
		c.nextExpiry = expiry
	}
}

func (c *Circuit) giveBack(p *place) {
	if p.index < 0 {
		return
	}
	last := len(c.places) - 1
	c.places[p.index] = c.places[last]
	c.places[p.index].index = p.index
	c.places[last] = nil
	c.places = c.places[:last]
	p.index = -1
	if c.share != nil && c.state() == policy.HalfOpen {
		c.tellWaiting()
	}
}

// change is the one place where a state changes.
func (c *Circuit) change(to policy.State, now time.Time, reason Reason, r policy.Result) {
	at := now
	if at.Before(c.since) { // whoever read the clock later was here first
		at = c.since
	}
	change := Change{From: c.state(), To: to, At: at, Reason: reason}
	change.Failures, change.Successes = c.inView()
	if r.Outcome == policy.Failure {
		change.Cause = r.Cause
	}
	if c.probe == nil {
		c.probe = c.rules().Probe.NewProbe()
	}
	if config := c.config.Load(); c.recoverOf != config {
		c.recover, c.recoverOf = config.Rules.Recover.NewRecover(), config
	}
	for _, p := range c.places {
		p.index = -1
	}
	c.places, c.nextExpiry = nil, time.Time{}
	c.forced, c.hastened = reason == Forced, false
	c.hints, c.failing = 0, false
	if to != policy.HalfOpen { // which a trial is, with the same doubts
		c.stale, c.nothing = to == policy.Open && silent(r), 0
	}
	c.watch.stop()
	c.well.Store(0)
	switch to {
	case policy.Closed:
		switch reason {
		case ByHand, Forced, Released:
			c.failedProbes = math.MaxInt / 2 // whoever closes it by hand does not say that the trip was a false alarm
		case Reset:
			c.trip, c.failedProbes = c.rules().Trip.NewTrip(), math.MaxInt/2
			c.counts, c.samples, c.cause, c.failedAt = Counts{}, samples{}, policy.Cause{}, time.Time{}
		}
		c.trip.Start(now, c.failedProbes)
		c.trouble = nil
	case policy.Open:
		c.opened++
		random := c.config.Load().Random
		switch {
		case reason == Restored:
			c.failedProbes = 0
			c.probe.Resume(now, now.Add(r.RetryAfter))
		case reason == Released:
			c.probe.Resume(now, now)
		case change.From == policy.Closed, reason == ByHand, reason == Forced:
			c.failedProbes = 0
			c.counts.Trips++
			c.probe.Trip(now, r, random())
		default:
			c.failedProbes++
			c.probe.Fail(now, r, random())
		}
		if !c.forced {
			change.Due = c.probe.Due()
		}
		change.Samples = c.samples.list()
	case policy.HalfOpen:
		c.recover.Start(now, r)
	}
	if to != policy.Closed && c.trouble == nil {
		c.trouble = &trouble{since: at}
	}
	if to != policy.Closed {
		c.trouble.withheld = time.Time{}
	}
	if change.From == policy.Closed && r.Outcome != policy.Undecided {
		c.trouble.asked = at // by the call that trips it, whose caller was there until now
	}
	c.since = at
	if c.share != nil {
		c.shareChange(&change)
	}
	c.store(to, c.generation()+1)
	c.tell(func(o Observer) { o.Changed(change) })
}

// Hush keeps back what the observer would be told, until Tell. It is for a circuit that nobody else has yet.
func (c *Circuit) Hush() { c.hushed, c.delivering = true, true }

// Tell tells the observer what was kept back, and what an earlier one left over by a panic.
func (c *Circuit) Tell() {
	c.mu.Lock()
	if c.hushed {
		c.hushed, c.delivering = false, false
	}
	c.unlock()
}

func (c *Circuit) rules() *policy.Rules { return &c.config.Load().Rules }

func (c *Circuit) gone() bool          { return c.word.Load()&goneBit != 0 }
func (c *Circuit) state() policy.State { return policy.State(c.word.Load() & stateBits) }
func (c *Circuit) generation() uint64  { return c.word.Load() >> generation }

func (c *Circuit) store(state policy.State, gen uint64) {
	word := gen<<generation | uint64(state) | touchedBit | c.word.Load()&(goneBit|knownBit)
	if state == policy.Closed {
		word |= c.watch.bits(c.config.Load())
		switch {
		case c.trip.Quiet() && (c.share == nil || c.share.score == 0) && c.hints == 0:
			word |= quietBit
		case c.failing:
			word |= failingBit
		}
	}
	if c.word.Load() != word {
		c.word.Store(word)
	}
}
