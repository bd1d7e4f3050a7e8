package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
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
	Forced              bool      // by hand, and the rules have no say
	Since               time.Time // zero if the circuit never changed its state
	Trouble             time.Time // when the trouble began that it is in; zero if it is closed
	Asked               time.Time // the last request while it is not closed, or the call that tripped it; zero if none has come, or it is closed
	Due                 time.Time // as Change.Due; zero unless Open
	Generation          uint64
	Failures, Successes int // what the rule of the state has in view
	InFlight, Limit     int // calls let through while open or half-open that are in flight, and how many may be
	Expired             int // others of them, whose lease has ended and that the next request or result settles
	Counts              Counts
	Cause               policy.Cause    // of the last failure
	FailedAt            time.Time       // when that was; zero if never
	Samples             []policy.Sample // not to be changed
	Requests            int             // to come until one is a probe, if Open and the rule counts them; 0 otherwise
	Latest              time.Time       // from then on one is a probe whatever its number; zero if Requests is 0
	SafeUntil           time.Time       // as Refusal.SafeUntil
	Gauge, Trips        int             // how near a closed circuit is to tripping, and at how much it does; 0 if its rule has no gauge
}

// Snapshot returns the circuit as it is now. It changes nothing and tells observers nothing.
func (c *Circuit) Snapshot(now time.Time) Snapshot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Snapshot{
		State: c.state(), Forced: c.forced, Since: c.since, Generation: c.generation(),
		Counts: c.counts, Cause: c.cause, FailedAt: c.failedAt, Samples: c.samples.list(),
	}
	if c.trouble != nil {
		s.Trouble, s.Asked, s.SafeUntil = c.trouble.since, c.trouble.asked, c.safeUntil()
	}
	s.Failures, s.Successes = c.inView()
	switch s.State {
	case policy.Closed:
		if gauge, ok := c.trip.(policy.Gauge); ok {
			s.Gauge, s.Trips = gauge.Gauge(now)
		}
	case policy.Open:
		if c.forced {
			break
		}
		s.Due, s.Limit = c.probe.Due(), 1
		if countdown, ok := c.probe.(policy.Countdown); ok {
			s.Requests, s.Latest = countdown.Countdown()
		}
		if c.hastened {
			s.Due, s.Requests, s.Latest = now, 1, now
		}
	case policy.HalfOpen:
		s.Limit = c.recover.Limit()
	}
	if s.State == policy.Closed {
		return s
	}
	for _, p := range c.places {
		if now.Before(p.expiry) {
			s.InFlight++
		} else {
			s.Expired++
		}
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
