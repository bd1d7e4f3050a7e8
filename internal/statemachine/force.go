package statemachine

import (
	"math"
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Set puts the circuit into a state by hand; its rules go on from there. One that is forced stays as it is.
func (c *Circuit) Set(to policy.State, now time.Time) (gone bool) { return c.byHand(to, now, ByHand) }

// Force puts the circuit into a state, Closed or Open, and keeps it there whatever happens.
func (c *Circuit) Force(to policy.State, now time.Time) (gone bool) { return c.byHand(to, now, Forced) }

// Reset makes the circuit what it was when it was new, and reports whether it did: one that is forced stays as it is.
func (c *Circuit) Reset(now time.Time) bool {
	c.mu.Lock()
	defer c.unlock()
	if c.gone() || c.forced {
		return false
	}
	c.watch.usual, c.watch.longest, c.watch.slowest = 0, 0, time.Time{}
	c.change(policy.Closed, now, Reset, policy.Result{})
	return true
}

func (c *Circuit) byHand(to policy.State, now time.Time, reason Reason) (gone bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.gone() {
		return true
	}
	if !c.forced || reason == Forced && c.state() != to {
		c.word.Or(knownBit)
		c.change(to, now, reason, policy.Result{})
	}
	return false
}

// Release gives a circuit that was forced back to its rules, in the state in which it is. One that is open is due for a
// probe.
func (c *Circuit) Release(now time.Time) {
	c.mu.Lock()
	defer c.unlock()
	if c.forced && !c.gone() {
		c.change(c.state(), now, Released, policy.Result{})
	}
}

// Hasten makes the next request a probe if the circuit is open.
func (c *Circuit) Hasten() {
	c.mu.Lock()
	defer c.unlock()
	c.hastened = c.state() == policy.Open
}

// Config returns what the circuit goes by.
func (c *Circuit) Config() *Config { return c.config.Load() }

// Configure makes the circuit go by other rules, in the state in which it is and with the calls that are out. A recovery
// under way goes on by the rule that it began with. Observers are told nothing: the caller may hold a lock of its own.
func (c *Circuit) Configure(config *Config, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone() || c.config.Load() == config {
		return
	}
	c.config.Store(config)
	c.trip = config.Rules.Trip.NewTrip()
	c.trip.Start(now, math.MaxInt/2)
	if c.state() == policy.Closed {
		c.watch.stop()
	}
	if c.probe != nil {
		due := c.probe.Due()
		c.probe = config.Rules.Probe.NewProbe()
		c.probe.Trip(now, policy.Result{}, config.Random())
		if due.Before(c.probe.Due()) {
			c.probe.Resume(now, due)
		}
	}
	c.store(c.state(), c.generation())
}

// Restore opens a circuit that has changed nothing yet, as it was elsewhere: until due, in trouble since then; zero if
// that is not known.
func (c *Circuit) Restore(now, due, since time.Time) (opened bool) {
	c.mu.Lock()
	defer c.unlock()
	if c.generation() > 0 || c.gone() {
		return false
	}
	if !since.IsZero() {
		c.trouble = &trouble{since: since}
	}
	c.word.Or(knownBit)
	c.change(policy.Open, now, Restored, policy.Result{RetryAfter: due.Sub(now)})
	return true
}

// Recall gives a circuit that has seen no failure and no change yet the samples of what failed elsewhere, the latest first.
func (c *Circuit) Recall(seen []policy.Sample) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(seen) > 0 && c.failedAt.IsZero() && c.generation() == 0 {
		c.cause, c.failedAt = seen[0].Cause, seen[0].At
		c.samples = samples{kept: slices.Clone(seen[:min(len(seen), mostSamples)])}
	}
}
