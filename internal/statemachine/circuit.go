// Package statemachine is the circuit. A machine decides and remembers: three states, permits, generations. It asks the
// rules of a policy and knows none of them, and it has no lock, no clock and no HTTP: its methods take now. A Circuit
// is a machine behind one lock, and the word by which a healthy call needs neither.
//
// One file has one matter: what calls are let through (machine.go), how a state changes (change.go), what the calls
// have that are out in trouble (leases.go), what a call's end says (result.go), how long calls take (canary.go) and
// what to do if one is late (vigil.go), callers that leave early (hints.go), connections that may be dead
// (connections.go). What circuits of other processes say is in package peers, which most circuits do without.
package statemachine

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

// Config is what circuits of one policy have in common.
type Config struct {
	Rules  policy.Rules   // validated
	Part   *Config        // of the circuits of parts that are cut out; nil if none are
	Random func() float64 // uniform in [0,1), for jitter; called under a circuit's lock

	Timed    bool // a rule looks at the time that a call took
	Attended bool // the user of the circuit looks at every call
	Measured bool // calls are timed now and then, also if there is no Hold
}

// hold returns the rule by which calls are held. One that holds nothing has no Silence.
func (c *Config) hold() policy.Hold {
	if c.Rules.Hold == nil {
		return policy.Hold{}
	}
	return *c.Rules.Hold
}

// Observer is told what happened to a circuit: in order, by one goroutine at a time, and outside every lock, so that
// it can call anything, the circuit included.
type Observer interface {
	Changed(Change)
	Refused(Refusal)
	Throttled(Throttle)
	// WantsRefusals reports whether Refused does anything. It is called under a lock, and without.
	WantsRefusals() bool
	// InShadow reports whether calls that are refused are made all the same. It is called under a lock.
	InShadow() bool
}

// A Circuit is closed at first. Its methods may be called by many goroutines at once.
//
// The lock protocol: word, config, well and standing are read without the lock and written with it, but for word's
// touched bit, which is a hint, and what a Standing counts. All else is under mu, which is taken by lock: that takes
// the standing refusal back. Whoever releases mu publishes what has changed (publish), sets the timer that the machine
// wants, and tells the observer what has happened, unless another goroutine is at it; where that is not to be, mu is
// released by quietly.
type Circuit struct {
	word     atomic.Uint64
	config   atomic.Pointer[Config]
	well     atomic.Int64             // machine.well, by began; 0 if none
	standing atomic.Pointer[Standing] // nil if there is something to decide about the next request

	mu      sync.Mutex
	machine machine
	timer   *time.Timer // nil if it is not set
}

// New makes a closed circuit. A nil observer is told nothing; without newPeers it has none.
func New(config *Config, observer Observer, newPeers func(peers.Machine) peers.Peers) *Circuit {
	c := &Circuit{}
	c.Init(config, observer, newPeers)
	return c
}

// Init is New for a Circuit that is part of something else, and has not been used.
func (c *Circuit) Init(config *Config, observer Observer, newPeers func(peers.Machine) peers.Peers) {
	c.config.Store(config)
	c.machine = machine{
		config: config, innocent: config.Rules.Trip.NewTrip().Quiet(), observer: observer, past: &unharmed,
	}
	if newPeers != nil {
		if have := newPeers(&c.machine); have != peers.Peers(peers.Alone{}) {
			c.machine.remember()
			c.machine.peers = have
		}
	}
	c.word.Store(c.machine.word())
}

// lock takes mu, and what was refused without it since.
func (c *Circuit) lock() {
	c.mu.Lock()
	c.takeBack()
}

func (c *Circuit) takeBack() {
	if s := c.standing.Load(); s != nil {
		c.standing.Store(nil)
		c.machine.takeBack(s)
	}
}

// unlock releases mu.
func (c *Circuit) unlock() {
	settled := false
	defer func() {
		if !settled { // a rule panicked
			c.mu.Unlock()
		}
	}()
	c.settle()
	settled = true
	c.machine.unlockAndTell(&c.mu)
}

// quietly is unlock for where nobody could bear with the observer: it is told by whoever is next.
func (c *Circuit) quietly() {
	defer c.mu.Unlock()
	c.settle()
}

// settle makes known outside the lock what has come of the machine.
func (c *Circuit) settle() {
	c.publish()
	if well := c.machine.well; c.well.Load() != int64(well) {
		c.well.Store(int64(well))
	}
	if s := c.machine.stands(); s != nil {
		c.standing.Store(s)
	}
	if c.machine.canary.moved {
		c.machine.canary.moved = false
		c.setTimer(c.machine.canary.wake)
	}
}

// setTimer has timeIsUp run at a time; 0 for never. A circuit that nobody asks has no timer.
func (c *Circuit) setTimer(at moment) {
	switch {
	case c.machine.canary.stepped:
	case at != 0 && c.timer == nil:
		c.timer = time.AfterFunc(time.Until(at.time()), c.timeIsUp)
	case at != 0:
		c.timer.Reset(time.Until(at.time()))
	case c.timer != nil:
		c.timer.Stop()
		c.timer = nil
	}
}

// timeIsUp runs on the timer's goroutine. One that was set anew too late finds that it is not time yet. It tells
// observers nothing: nobody could catch their panic.
func (c *Circuit) timeIsUp() {
	c.lock()
	defer c.quietly()
	c.machine.wake(time.Now())
}

// AcquirePlain gives the permit of a call that nobody has to look at, by its generation (Circuit.Permit), if the
// circuit is closed and nothing is wanted of its calls. It is one read.
func (c *Circuit) AcquirePlain() (of uint64, ok bool) {
	const others = stateBits | goneBit | watchBit | canaryBit | failingBit | attendedBit | partsBit
	word := c.word.Load()
	return word >> generation, word&(others|touchedBit) == uint64(policy.Closed)|touchedBit
}

// AcquireClosed gives a permit if the circuit is closed. It takes no lock and needs no clock, and writes nothing but
// that the circuit is in use, if that was not known.
func (c *Circuit) AcquireClosed() (Permit, bool) {
	if of, ok := c.AcquirePlain(); ok {
		return c.Permit(of), true
	}
	word := c.word.Load()
	if word&stateBits != uint64(policy.Closed) && word&touchedBit != 0 {
		return Permit{}, false
	}
	return c.acquireClosed(word, time.Time{})
}

// acquireClosed reads the clock itself if now is zero and the time matters.
func (c *Circuit) acquireClosed(word uint64, now time.Time) (Permit, bool) {
	if word&touchedBit == 0 {
		c.word.Or(touchedBit)
	}
	if word&(stateBits|goneBit|watchBit) != uint64(policy.Closed) {
		return Permit{}, false
	}
	permit := Permit{circuit: c, word: word}
	if word&(touchedBit|canaryBit) == touchedBit|canaryBit {
		if now.IsZero() {
			now = time.Now()
		}
		// Not the first call, so that a host that is called once has no timer.
		c.lock()
		defer c.unlock()
		permit.watched = c.machine.takeCanary(now, permit.generation())
	}
	return permit, true
}

// Acquire gives a permit to a call that is good for a use, or says why not. Deadline is when its caller will be gone;
// zero if never.
func (c *Circuit) Acquire(now, deadline time.Time, good Use) (permit Permit, refusal Refusal) {
	if r, refused := c.refuseAtOnce(momentOf(now), 0); refused {
		return Permit{}, r.refusal(now)
	}
	c.mu.Lock()
	if r, refused := c.refuseAtOnce(momentOf(now), 0); refused { // by who had the lock: those behind need it no more
		c.mu.Unlock()
		return Permit{}, r.refusal(now)
	}
	c.takeBack()
	decided, told := false, false
	defer func() {
		if told {
			return
		}
		if decided { // an observer panicked, and nobody gets the permit
			c.lock()
		} // else a rule did
		if permit.place != nil {
			c.machine.free(permit.place)
		}
		c.quietly()
	}()
	permit, refusal = c.machine.decide(now, deadline, good)
	if permit.word = c.machine.generation << generation; refusal.Reason == policy.NotRefused && !refusal.Gone {
		permit.circuit = c
	}
	decided = true
	c.unlock()
	told = true
	return permit, refusal
}

// Refuse counts a request that is refused for a reason that is not the circuit's.
func (c *Circuit) Refuse(now time.Time, reason policy.RefusalReason) Refusal {
	c.lock()
	defer c.unlock()
	c.machine.came(now)
	return c.machine.refuse(now, reason)
}

// Blame takes a failure that a call of this key found out while the circuit was another one.
func (c *Circuit) Blame(now time.Time, r policy.Result) (opened bool) {
	c.lock()
	defer c.unlock()
	return c.machine.blame(now, r)
}

// WithPeers calls f with the circuit's peers, under its lock, unless it was forgotten: they hear what others say, and
// are asked what there is to say.
func (c *Circuit) WithPeers(f func(peers.Peers)) {
	c.lock()
	defer c.unlock()
	if !c.machine.gone {
		f(c.machine.peers)
	}
}

// Well reports whether the upstream of a closed circuit is known to have answered a call well since then, to a tenth of
// a second, and nothing has failed after that. It takes no lock and writes nothing.
func (c *Circuit) Well(since time.Time) bool {
	at := c.well.Load()
	return at != 0 && at >= int64(momentOf(since)) && c.word.Load()&goneBit == 0
}

// Known reports whether the upstream has ever answered, or somebody has set its state by hand (Set).
func (c *Circuit) Known() bool { return c.word.Load()&knownBit != 0 }

// Config returns what the circuit goes by.
func (c *Circuit) Config() *Config { return c.config.Load() }

// Hush keeps back what the observer would be told, until Tell. It is for a circuit that nobody else has yet.
func (c *Circuit) Hush() { c.machine.hushed, c.machine.delivering = true, true }

// Tell tells the observer what was kept back, and what an earlier one left over by a panic.
func (c *Circuit) Tell() {
	c.lock()
	if c.machine.hushed {
		c.machine.hushed, c.machine.delivering = false, false
	}
	c.unlock()
}
