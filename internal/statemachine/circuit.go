// Package statemachine is the circuit: three states, permits and generations. It asks the rules of a policy and
// knows none of them, knows no HTTP, and reads no clock: its methods take now.
package statemachine

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// bodyLease is how long a half-open call whose headers came well keeps its place for the sake of its body. After
// it the headers have the say: a body that streams for hours does not hold a probe for hours.
const bodyLease = time.Second

// Config is what circuits of one policy have in common.
type Config struct {
	Rules  policy.Rules
	Hold   policy.Hold    // Rules.Hold, validated
	Random func() float64 // uniform in [0,1), for jitter; called under a circuit's lock
}

// Observer is told what happened to a circuit: in order, by one goroutine at a time, and outside every lock, so that
// it can call anything, the circuit included.
type Observer interface {
	Changed(Change)
	Refused(Refusal)
}

// Change is a change of state.
type Change struct {
	From, To            policy.State
	At                  time.Time
	Reason              Reason
	Cause               policy.Cause // of the failure that changed the state, if one did
	Failures, Successes int          // what the rule of the state From had in view
	Due                 time.Time    // the earliest time of the next probe, if To is Open
}

// Refusal is what there is to say of a request that was refused.
type Refusal struct {
	Gone  bool         // nothing was decided: the circuit was forgotten, ask the one that took its place
	State policy.State // Closed if calls are held because the upstream is silent
	At    time.Time
	Since time.Time    // when the circuit took this state
	Due   time.Time    // the earliest time of the next probe; not after At if that is not known
	Cause policy.Cause // of the last failure
}

// Reason says why a circuit changed its state.
type Reason string

// The reasons for which a circuit changes its state.
const (
	Tripped        Reason = "tripped"
	OpenTimePassed Reason = "open time passed"
	ProbeSucceeded Reason = "probe succeeded"
	Recovered      Reason = "recovered"
	RecoveryFailed Reason = "recovery failed"
	ByHand         Reason = "by hand"
	Restored       Reason = "restored"
)

// Counts are totals since the circuit was made.
type Counts struct {
	Failures  uint64 // calls that failed
	Ignored   uint64 // calls that said nothing
	Refusals  uint64 // requests that were refused
	Probes    uint64 // calls let through while open or half-open
	Trips     uint64 // changes from closed to open, and those to open by hand
	LateCalls uint64 // calls whose outcome came after a change of state and changed nothing
}

// Snapshot is a circuit at one moment.
type Snapshot struct {
	State               policy.State
	Since               time.Time // zero if the circuit never changed its state
	Due                 time.Time // as Change.Due; zero unless Open
	Generation          uint64
	Failures, Successes int // what the rule of the state has in view
	InFlight, Limit     int // half-open calls in flight, and how many may be
	Counts              Counts
	Cause               policy.Cause // of the last failure
	FailedAt            time.Time    // when that was; zero if never
}

// A Circuit is closed at first. Its methods may be called by many goroutines at once.
//
// The lock protocol: word is read without the lock and written with it, but for its touched bit, which is a hint. All else
// is under mu. Observers are told by unlock, after mu is released, by whichever goroutine finds events waiting and no
// other one delivering.
type Circuit struct {
	word   atomic.Uint64
	config *Config

	mu           sync.Mutex
	trip         policy.Trip
	probe        policy.Probe   // nil before the first trip
	recover      policy.Recover // nil before the first trip
	places       []*place       // of the calls let through in this generation that are not given back
	nextExpiry   time.Time      // not after the first lease of places ends; zero if there is none
	failedProbes int            // and recoveries, since the trip
	opened       uint64         // how often the circuit has opened
	since        time.Time
	failedAt     time.Time
	cause        policy.Cause
	counts       Counts
	watch        watch
	observer     Observer
	events       []func(Observer)
	delivering   bool
}

// The word: the generation, and below it these bits.
const (
	stateBits  = 0b0000011 // a policy.State
	quietBit   = 0b0000100 // closed, and a success would change nothing
	touchedBit = 0b0001000 // used since the last Forget
	goneBit    = 0b0010000 // forgotten: no longer the circuit of its key
	canaryBit  = 0b0100000 // closed, and the next call is to be a canary
	watchBit   = 0b1000000 // closed, and every call is counted, because a canary is late
	generation = 8         // bits below the generation
)

// New makes a closed circuit. A nil observer is told nothing.
func New(config *Config, observer Observer) *Circuit {
	c := &Circuit{config: config, observer: observer, trip: config.Rules.Trip.NewTrip()}
	c.store(policy.Closed, 0)
	c.word.And(^uint64(touchedBit))
	return c
}

// place is what a call let through while open or half-open takes up.
type place struct {
	index   int // in Circuit.places; -1 when given back
	expiry  time.Time
	mark    int
	headers bool   // they came well
	expired bool   // its lease ended before the call did, and it was settled then
	opened  uint64 // Circuit.opened when it expired
}

// Permit is the right to make one call. Its holder gives it back exactly once by Done. The zero value is no permit.
type Permit struct {
	circuit    *Circuit
	generation uint64
	place      *place   // nil if the circuit was closed
	watched    *watched // nil if nobody watched it then
}

// Granted reports whether p is a permit at all.
func (p Permit) Granted() bool { return p.circuit != nil }

// Watched reports whether the call is one that is timed, or counted because an upstream may have fallen silent or behind.
func (p Permit) Watched() bool { return p.watched != nil }

// Probing reports whether the call is one of those that decide about an open or half-open circuit.
func (p Permit) Probing() bool { return p.place != nil }

// AcquireClosed gives a permit if the circuit is closed. It takes no lock and needs no clock, and writes nothing but
// that the circuit is in use, if that was not known.
func (c *Circuit) AcquireClosed() (Permit, bool) {
	word := c.word.Load()
	if word&(stateBits|goneBit|watchBit|canaryBit|touchedBit) == uint64(policy.Closed)|touchedBit {
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
	permit := Permit{circuit: c, generation: word >> generation}
	if word&(touchedBit|canaryBit) == touchedBit|canaryBit {
		// Not the first call, so that a host that is called once has no timer.
		permit.watched = c.takeCanary(permit.generation)
	}
	return permit, true
}

// Acquire gives a permit, or says why not. Deadline is when the caller will be gone; zero if never.
func (c *Circuit) Acquire(now, deadline time.Time) (permit Permit, refusal Refusal) {
	c.mu.Lock()
	permit, refusal = c.decide(now, deadline)
	told := false
	defer func() {
		if !told && permit.place != nil { // an observer panicked, and nobody gets the permit
			c.mu.Lock()
			c.giveBack(permit.place)
			c.mu.Unlock()
		}
	}()
	c.unlock()
	told = true
	return permit, refusal
}

func (c *Circuit) decide(now, deadline time.Time) (Permit, Refusal) {
	if c.gone() {
		return Permit{}, Refusal{Gone: true}
	}
	c.expire(now)
	switch c.state() {
	case policy.Closed:
		watched, held := c.watch.admit(now, deadline, c.config.Hold)
		if held {
			return Permit{}, c.refuse(now)
		}
		return Permit{circuit: c, generation: c.generation(), watched: watched}, Refusal{}
	case policy.Open:
		if due := c.probe.Ask(now); !due || len(c.places) > 0 {
			return Permit{}, c.refuse(now)
		}
		if c.config.Rules.Recover.AfterProbe() {
			return c.admit(now.Add(c.watch.lease(c.probe.Lease())), 0), Refusal{}
		}
		c.change(policy.HalfOpen, now, OpenTimePassed, policy.Result{})
	}
	mark, ok := c.recover.Admit(len(c.places))
	if !ok {
		return Permit{}, c.refuse(now)
	}
	return c.admit(now.Add(c.recover.Lease()), mark), Refusal{}
}

func (c *Circuit) admit(expiry time.Time, mark int) Permit {
	p := &place{index: len(c.places), expiry: expiry, mark: mark}
	c.places = append(c.places, p)
	c.expireBy(expiry)
	c.counts.Probes++
	return Permit{circuit: c, generation: c.generation(), place: p}
}

func (c *Circuit) refuse(now time.Time) Refusal {
	c.counts.Refusals++
	r := Refusal{State: c.state(), At: now, Since: c.since, Due: now, Cause: c.cause}
	if r.State == policy.Open {
		r.Due = c.probe.Due()
	}
	if c.observer != nil && len(c.events) < mostWaiting {
		told := r // what the event keeps, so that without an observer nothing is kept
		c.tell(func(o Observer) { o.Refused(told) })
	}
	return r
}

// Quiet reports whether giving the permit back with a success would change nothing. It takes no lock.
func (p Permit) Quiet() bool {
	word := p.circuit.word.Load()
	return word&(stateBits|quietBit|goneBit|watchBit) == uint64(policy.Closed)|quietBit &&
		word>>generation == p.generation && p.watched == nil
}

// WantsHeaders reports whether Headers would do anything. It takes no lock.
func (p Permit) WantsHeaders() bool {
	return p.place != nil || p.watched != nil || p.circuit.word.Load()&watchBit != 0
}

// Headers says that the call's headers came well and its body is still to end. If that takes long, the headers
// settle a probe, and the failure of a later Done counts as one more call.
func (p Permit) Headers(now time.Time) {
	c := p.circuit
	c.mu.Lock()
	defer c.unlock()
	if p.generation != c.generation() || c.gone() {
		return
	}
	if p.place == nil && p.watched == nil {
		c.watch.heard = true // its end counts as the answer, but silence this is not
		return
	}
	if p.place == nil {
		c.cameBack(now, p.watched, true)
		return
	}
	if p.place.index < 0 {
		return
	}
	p.place.headers = true
	if expiry := now.Add(bodyLease); expiry.Before(p.place.expiry) {
		p.place.expiry = expiry
		c.expireBy(expiry)
	}
}

// Done gives the permit back. The outcome is Success, Failure or Ignored. Opened reports that this call
// opened the circuit; gone that the circuit was forgotten meanwhile and a failure belongs to the one that took
// its place.
func (p Permit) Done(now time.Time, r policy.Result) (opened, gone bool) {
	c := p.circuit
	c.mu.Lock()
	defer c.unlock()
	if c.gone() {
		return false, true
	}
	switch r.Outcome {
	case policy.Failure:
		c.counts.Failures++
		c.cause, c.failedAt = r.Cause, now
	case policy.Ignored:
		c.counts.Ignored++
	}
	switch {
	case p.place != nil && p.place.expired:
		return c.late(now, p, r), false
	case p.generation != c.generation():
		c.counts.LateCalls++
		return false, false
	case p.place == nil:
		c.cameBack(now, p.watched, r.Outcome == policy.Success || r.Outcome == policy.Failure && r.Cause.Kind != policy.Timeout)
		return c.record(now, r), false
	}
	c.giveBack(p.place)
	return c.settle(now, p.place, r), false
}

// late takes the result of a call that its lease has settled already. Two things are new in it: that the body broke
// after the headers came well, which is one more failure unless the circuit has opened since; and that a probe
// succeeded after all, if the circuit is still as open as it was.
func (c *Circuit) late(now time.Time, p Permit, r policy.Result) (opened bool) {
	broke := p.place.headers && r.Outcome == policy.Failure && p.place.opened == c.opened
	succeeded := !p.place.headers && r.Outcome == policy.Success && p.generation == c.generation()
	switch state := c.state(); {
	case broke && state == policy.Closed:
		return c.record(now, r)
	case broke && state == policy.HalfOpen, succeeded && state == policy.Open:
		return c.settle(now, p.place, r)
	}
	c.counts.LateCalls++
	return false
}

// record takes the result of a call that started while the circuit was closed.
func (c *Circuit) record(now time.Time, r policy.Result) (opened bool) {
	if r.Outcome == policy.Ignored {
		return false
	}
	if c.trip.Record(now, r) {
		c.change(policy.Open, now, Tripped, r)
		return true
	}
	c.store(policy.Closed, c.generation())
	return false
}

// settle takes the result of a call that was let through while the circuit was open or half-open.
func (c *Circuit) settle(now time.Time, p *place, r policy.Result) (opened bool) {
	if r.Outcome == policy.Ignored {
		return false
	}
	if c.state() == policy.Open {
		if r.Outcome == policy.Success {
			c.change(policy.HalfOpen, now, ProbeSucceeded, r)
		} else {
			c.failedProbes++
			c.probe.Fail(now, r, c.config.Random())
		}
		return false
	}
	switch c.recover.Record(now, p.mark, r) {
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
			c.settle(now, first, policy.Result{Outcome: policy.Success})
			continue
		}
		c.cause, c.failedAt = policy.Cause{Kind: policy.Lease}, now
		c.settle(now, first, policy.Result{Outcome: policy.Failure, Cause: c.cause})
	}
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
}

// change is the one place where a state changes.
func (c *Circuit) change(to policy.State, now time.Time, reason Reason, r policy.Result) {
	change := Change{From: c.state(), To: to, At: now, Reason: reason}
	change.Failures, change.Successes = c.inView()
	if r.Outcome == policy.Failure {
		change.Cause = r.Cause
	}
	if c.probe == nil {
		c.probe, c.recover = c.config.Rules.Probe.NewProbe(), c.config.Rules.Recover.NewRecover()
	}
	for _, p := range c.places {
		p.index = -1
	}
	c.places, c.nextExpiry = nil, time.Time{}
	c.watch.stop()
	switch to {
	case policy.Closed:
		if reason == ByHand {
			c.failedProbes = math.MaxInt // whoever closes it by hand does not say that the trip was a false alarm
		}
		c.trip.Start(now, c.failedProbes)
	case policy.Open:
		c.opened++
		switch {
		case reason == Restored:
			c.failedProbes = 0
			c.probe.Resume(now, now.Add(r.RetryAfter))
		case change.From == policy.Closed, reason == ByHand:
			c.failedProbes = 0
			c.counts.Trips++
			c.probe.Trip(now, r, c.config.Random())
		default:
			c.failedProbes++
			c.probe.Fail(now, r, c.config.Random())
		}
		change.Due = c.probe.Due()
	case policy.HalfOpen:
		c.recover.Start(now, r)
	}
	c.since = now
	c.store(to, c.generation()+1)
	c.tell(func(o Observer) { o.Changed(change) })
}

// Set puts the circuit into a state by hand; its rules go on from there.
func (c *Circuit) Set(to policy.State, now time.Time) (gone bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.gone() {
		return true
	}
	c.change(to, now, ByHand, policy.Result{})
	return false
}

// Restore opens a circuit that has changed nothing yet, as it was elsewhere, until due.
func (c *Circuit) Restore(now, due time.Time) {
	c.mu.Lock()
	defer c.unlock()
	if c.generation() == 0 && !c.gone() {
		c.change(policy.Open, now, Restored, policy.Result{RetryAfter: due.Sub(now)})
	}
}

// Forget tells the circuit that it is no longer that of its key, if it can be spared: it is closed, it was not used
// since the last time it was asked, and, unless evidence is true, its rule has nothing in view. With idle, one
// that has been due for a probe that long, with no request to make one, can be spared too.
func (c *Circuit) Forget(now time.Time, evidence bool, idle time.Duration) bool {
	if c.word.And(^uint64(touchedBit))&touchedBit != 0 {
		return false
	}
	c.mu.Lock()
	defer c.unlock()
	word := c.word.Load()
	spare := word&stateBits == uint64(policy.Closed) && (evidence || word&quietBit != 0)
	if idle > 0 && c.state() != policy.Closed && len(c.places) == 0 {
		asked := c.since
		if c.state() == policy.Open {
			asked = c.probe.Due()
		}
		spare = now.Sub(asked) >= idle
	}
	if word&touchedBit != 0 || !spare {
		return false
	}
	c.word.Or(goneBit)
	return true
}

// Snapshot returns the circuit as it is now.
func (c *Circuit) Snapshot(now time.Time) Snapshot {
	c.mu.Lock()
	defer c.unlock()
	c.expire(now)
	s := Snapshot{
		State: c.state(), Since: c.since, Generation: c.generation(),
		Counts: c.counts, Cause: c.cause, FailedAt: c.failedAt,
	}
	s.Failures, s.Successes = c.inView()
	switch s.State {
	case policy.Open:
		s.Due, s.InFlight, s.Limit = c.probe.Due(), len(c.places), 1
	case policy.HalfOpen:
		s.InFlight, s.Limit = len(c.places), c.recover.Limit()
	}
	return s
}

func (c *Circuit) inView() (failures, successes int) {
	switch c.state() {
	case policy.Closed:
		return c.trip.Counts()
	case policy.HalfOpen:
		return c.recover.Counts()
	}
	return 0, 0
}

func (c *Circuit) gone() bool          { return c.word.Load()&goneBit != 0 }
func (c *Circuit) state() policy.State { return policy.State(c.word.Load() & stateBits) }
func (c *Circuit) generation() uint64  { return c.word.Load() >> generation }

func (c *Circuit) store(state policy.State, gen uint64) {
	word := gen<<generation | uint64(state) | touchedBit | c.word.Load()&goneBit
	if state == policy.Closed {
		word |= c.watch.bits(c.config.Hold)
		if c.trip.Quiet() {
			word |= quietBit
		}
	}
	if c.word.Load() != word {
		c.word.Store(word)
	}
}
