package transport_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// histories is what an observer was told, circuit by circuit.
type histories struct {
	mu sync.Mutex
	of map[transport.Key][]transport.StateChange
}

func (h *histories) add(c transport.StateChange) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of == nil {
		h.of = map[transport.Key][]transport.StateChange{}
	}
	h.of[c.Key] = append(h.of[c.Key], c)
}

// legal is a circuit as an observer knows it: what can follow what, and what each change has to say for itself.
type legal struct {
	probeFirst        bool
	late              bool          // leases end, and the probe of an ended one can still succeed, whatever is due
	failures          int           // at a trip, at least
	successes         int           // at a recovery, at least
	waitMin, waitMost time.Duration // from opening to the next probe
}

// judge finds the first thing that is wrong with a history.
func (l legal) judge(changes []transport.StateChange) error {
	state, at, due := policy.Closed, time.Time{}, time.Time{}
	for i, c := range changes {
		wrong := func(what string) error { return fmt.Errorf("change %d of %d, %+v: %s", i+1, len(changes), c, what) }
		switch {
		case c.From != state:
			return wrong("the state was " + state.String())
		case c.At.Before(at):
			return wrong("the one before was later, at " + at.String())
		case c.Reason == policy.ChangeByHand:
		case c.Reason == policy.ChangeRestored && i == 0 && c.To == policy.Open:
		case c.From == policy.Closed && c.To == policy.Open:
			if c.Reason != policy.ChangeTripped || c.Failures < l.failures || c.Cause.Kind == policy.KindNone {
				return wrong("no trip")
			}
		case c.From == policy.Open && c.To == policy.HalfOpen:
			if reason := map[bool]policy.ChangeReason{false: policy.ChangeOpenTimePassed, true: policy.ChangeProbeSucceeded}[l.probeFirst]; c.Reason != reason {
				return wrong("not " + string(reason))
			}
			if c.At.Before(due) && !l.late {
				return wrong("too early: due at " + due.String())
			}
		case c.From == policy.HalfOpen && c.To == policy.Open:
			if c.Reason != policy.ChangeRecoveryFailed || c.Cause.Kind == policy.KindNone {
				return wrong("no failed recovery")
			}
		case c.From == policy.HalfOpen && c.To == policy.Closed:
			if c.Reason != policy.ChangeRecovered || c.Successes < l.successes || c.Cause.Kind != policy.KindNone {
				return wrong("no recovery")
			}
		default:
			return wrong("no change that a circuit makes")
		}
		due = c.NextProbe
		if c.To != policy.Open && !due.IsZero() {
			return wrong("a next probe, and it is not open")
		}
		if wait := due.Sub(c.At); c.To == policy.Open && c.Reason != policy.ChangeRestored && (wait < l.waitMin || wait > l.waitMost) {
			return wrong(fmt.Sprintf("the wait is %v", wait))
		}
		state, at = c.To, c.At
	}
	return nil
}

func TestAJudgeOfHistories(t *testing.T) {
	const s = time.Second
	l := legal{failures: 3, successes: 2, waitMin: s, waitMost: 2 * s}
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	change := func(at time.Duration, from, to policy.State, reason policy.ChangeReason) transport.StateChange {
		c := transport.StateChange{From: from, To: to, At: start.Add(at), Reason: reason, Failures: 3, Successes: 2}
		if to == policy.Open {
			c.NextProbe = c.At.Add(s)
			c.Cause = policy.Cause{Kind: policy.KindStatus}
		}
		return c
	}
	const closed, open, halfOpen = policy.Closed, policy.Open, policy.HalfOpen
	good := []transport.StateChange{
		change(0, closed, open, policy.ChangeTripped),
		change(s, open, halfOpen, policy.ChangeOpenTimePassed),
		change(s, halfOpen, open, policy.ChangeRecoveryFailed),
		change(3*s, open, halfOpen, policy.ChangeOpenTimePassed),
		change(4*s, halfOpen, closed, policy.ChangeRecovered),
		change(4*s, closed, closed, policy.ChangeByHand),
		change(5*s, closed, halfOpen, policy.ChangeByHand),
	}
	require.NoError(t, l.judge(nil))
	require.NoError(t, l.judge(good))
	restored := change(0, closed, open, policy.ChangeRestored)
	require.NoError(t, l.judge([]transport.StateChange{restored}))

	for name, spoil := range map[string]func([]transport.StateChange) []transport.StateChange{
		"one missing":            func(h []transport.StateChange) []transport.StateChange { return slices.Delete(h, 1, 2) },
		"two swapped":            func(h []transport.StateChange) []transport.StateChange { h[2], h[4] = h[4], h[2]; return h },
		"one told twice":         func(h []transport.StateChange) []transport.StateChange { return slices.Insert(h, 1, h[0]) },
		"time runs backwards":    func(h []transport.StateChange) []transport.StateChange { h[6].At = h[5].At.Add(-1); return h },
		"too early":              func(h []transport.StateChange) []transport.StateChange { h[1].At = h[1].At.Add(-1); return h },
		"too few failures":       func(h []transport.StateChange) []transport.StateChange { h[0].Failures = 2; return h },
		"too few successes":      func(h []transport.StateChange) []transport.StateChange { h[4].Successes = 1; return h },
		"a trip without a cause": func(h []transport.StateChange) []transport.StateChange { h[0].Cause = policy.Cause{}; return h },
		"a reopen without one":   func(h []transport.StateChange) []transport.StateChange { h[2].Cause = policy.Cause{}; return h },
		"another reason": func(h []transport.StateChange) []transport.StateChange {
			h[3].Reason = policy.ChangeProbeSucceeded
			return h
		},
		"a wait too short": func(h []transport.StateChange) []transport.StateChange { h[0].NextProbe = h[0].At.Add(s - 1); return h },
		"a wait too long": func(h []transport.StateChange) []transport.StateChange {
			h[0].NextProbe = h[0].At.Add(2*s + 1)
			return h
		},
		"a wait and it is closed": func(h []transport.StateChange) []transport.StateChange { h[4].NextProbe = h[4].At; return h },
		"from closed to closed": func(h []transport.StateChange) []transport.StateChange {
			h[5].Reason = policy.ChangeRecovered
			return h
		},
		"from closed to half-open": func(h []transport.StateChange) []transport.StateChange {
			h[6].Reason = policy.ChangeOpenTimePassed
			return h
		},
		"restored later": func(h []transport.StateChange) []transport.StateChange {
			return append(h[:6], change(5*s, closed, open, policy.ChangeRestored))
		},
	} {
		t.Run(name, func(t *testing.T) { require.Error(t, l.judge(spoil(slices.Clone(good)))) })
	}
}
