package statemachine

import (
	"math"
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Set puts the circuit into a state by hand; its rules go on from there. One that is forced stays as it is.
func (c *Circuit) Set(to policy.State, now time.Time) (gone bool) {
	return c.byHand(to, now, policy.ChangeByHand)
}

// Force puts the circuit into a state, Closed or Open, and keeps it there whatever happens.
func (c *Circuit) Force(to policy.State, now time.Time) (gone bool) {
	return c.byHand(to, now, policy.ChangeForced)
}

func (c *Circuit) byHand(to policy.State, now time.Time, reason policy.ChangeReason) (gone bool) {
	c.lock()
	defer c.unlock()
	m := &c.machine
	if !m.gone && (!m.forced || reason == policy.ChangeForced && m.state != to) {
		m.known = m.known || reason == policy.ChangeByHand // what is forced is forced again if it comes back
		m.change(to, now, reason, policy.Result{})
	}
	return m.gone
}

// Release gives a circuit that was forced back to its rules, in the state in which it is. One that is open is due for a
// probe.
func (c *Circuit) Release(now time.Time) {
	c.lock()
	defer c.unlock()
	if m := &c.machine; m.forced && !m.gone {
		m.change(m.state, now, policy.ChangeReleased, policy.Result{})
	}
}

// Reset makes the circuit what it was when it was new, and reports whether it did: one that is forced stays as it is.
func (c *Circuit) Reset(now time.Time) bool {
	c.lock()
	defer c.unlock()
	m := &c.machine
	if m.gone || m.forced {
		return false
	}
	m.canary.pace = pace{}
	m.change(policy.Closed, now, policy.ChangeReset, policy.Result{})
	return true
}

// Hasten makes the next request a probe if the circuit is open.
func (c *Circuit) Hasten() {
	c.lock()
	defer c.unlock()
	c.machine.Hasten()
}

// Configure makes the circuit go by other rules, in the state in which it is and with the calls that are out. A
// recovery under way goes on by the rule that it began with. Observers are told nothing: the caller may hold a lock of
// its own.
func (c *Circuit) Configure(config *Config, now time.Time) {
	c.lock()
	defer c.quietly()
	if !c.machine.gone && c.config.Load() != config {
		c.config.Store(config)
		c.machine.configure(config, now)
	}
}

func (m *machine) configure(config *Config, now time.Time) {
	m.config = config
	if m.parts != nil {
		m.suspectNone()
	}
	if config.Part == nil && m.parts != nil {
		m.parts = nil
	}
	trip := config.Rules.Trip.NewTrip()
	if m.innocent = trip.Quiet(); m.trip != nil {
		m.trip = trip
		m.trip.Start(now, math.MaxInt/2)
	}
	if m.throttle != nil {
		if m.spell != nil {
			m.unthrottled(now, policy.ThrottleByHand, "")
		}
		m.throttle = nil
	}
	if m.state == policy.Closed {
		m.canary.stop()
	}
	if m.probe != nil {
		due := m.probe.Due()
		m.probe = config.Rules.Probe.NewProbe()
		m.probe.Trip(now, policy.Result{}, config.Random())
		if due.Before(m.probe.Due()) {
			m.probe.Resume(now, due)
		}
	}
}

// Restore opens a circuit that has changed nothing yet, as it was elsewhere: until due, in trouble since then; zero if
// that is not known; and with what was Known of its upstream.
func (c *Circuit) Restore(now, due, since time.Time, known bool) (opened bool) {
	c.lock()
	defer c.unlock()
	m := &c.machine
	if m.generation > 0 || m.gone {
		return false
	}
	m.remember()
	if !since.IsZero() {
		m.trouble = &trouble{since: since, real: true}
	}
	m.known = m.known || known
	m.change(policy.Open, now, policy.ChangeRestored, policy.Result{RetryAfter: due.Sub(now)})
	return true
}

// Recall gives a circuit that has seen no failure and no change yet the samples of what failed elsewhere, the latest
// first.
func (c *Circuit) Recall(seen []policy.Sample) {
	c.lock()
	defer c.quietly()
	c.machine.remember()
	if f := &c.machine.failures; len(seen) > 0 && f.at.IsZero() && c.machine.generation == 0 {
		kept := slices.Clone(seen[:min(len(seen), maxSamples)])
		*f = failures{at: seen[0].At, cause: seen[0].Cause, samples: samples{kept: kept}}
	}
}
