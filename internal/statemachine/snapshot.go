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
	State   policy.State
	Forced  bool      // by hand, and the rules have no say
	Since   time.Time // zero if the circuit never changed its state
	Trouble time.Time // when the trouble began that it is in; zero if it is closed, or nothing has failed
	// the last request while it is not closed, or the call that tripped it; zero if none has come, or it is closed
	Asked               time.Time
	Due                 time.Time // as Change.Due; zero unless Open
	Generation          uint64
	Failures, Successes int               // what the rule of the state has in view
	InFlight, Limit     int               // calls let through while open or half-open that are out, and how many may be
	Throttle            *policy.Throttled // nil while calls are not throttled
	Expired             int               // others, whose lease has ended and that the next request or result settles
	Counts              Counts
	Cause               policy.Cause    // of the last failure
	FailedAt            time.Time       // when that was; zero if never
	Samples             []policy.Sample // not to be changed
	Requests            int             // to come until one is a probe, if Open and the rule counts them; 0 otherwise
	Latest              time.Time       // from then on one is a probe whatever its number; zero if Requests is 0
	SafeUntil           time.Time       // as Refusal.SafeUntil
	// how near a closed circuit is to tripping, and at how much it does; 0 if its rule has no gauge
	Gauge, Trips int
}

// Snapshot returns the circuit as it is now. It changes nothing and tells observers nothing.
func (c *Circuit) Snapshot(now time.Time) Snapshot {
	c.lock()
	defer c.quietly()
	return c.machine.snapshot(now)
}

func (m *machine) snapshot(now time.Time) Snapshot {
	s := Snapshot{
		State: m.state, Forced: m.forced, Since: m.since, Generation: m.generation,
		Counts: m.counts, Cause: m.failures.cause, FailedAt: m.failures.at, Samples: m.failures.list(),
	}
	if m.trouble != nil {
		s.Trouble, s.Asked, s.SafeUntil = m.trouble.seen(), m.trouble.asked, m.safeUntil()
	}
	s.Failures, s.Successes = m.inView()
	switch m.state {
	case policy.Closed:
		if m.spell != nil && !now.After(m.throttle.Until()) {
			is := m.spelled()
			s.Throttle = &is
		}
		if gauge, ok := m.seenTrip().(policy.Gauge); ok {
			s.Gauge, s.Trips = gauge.Gauge(now)
		}
		return s
	case policy.Open:
		if m.forced {
			break
		}
		s.Due, s.Requests, s.Latest = m.next(now)
		s.Limit = 1
	case policy.HalfOpen:
		s.Limit = m.recover.Limit()
	}
	for _, p := range m.leases.places {
		if now.Before(p.expiry) {
			s.InFlight++
		} else {
			s.Expired++
		}
	}
	return s
}
