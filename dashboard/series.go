package dashboard

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	barFor          = 5 * time.Second
	mostBars        = 60 // five minutes
	mostTransitions = 16
	mostSeries      = 8192
	mostGoodSeries  = mostSeries * 3 / 4 // good calls leave room for circuits in trouble
	sweepEvery      = 12                 // slots, at the soonest
)

// series is what the dashboard itself counts of one circuit.
type series struct {
	made   uint32      // slot
	known  atomic.Bool // its upstream has answered
	bars   [mostBars]bar
	reason atomic.Uint32 // a policy.RefusalReason, of the last refusal

	mu          sync.Mutex
	transitions []transition // the latest last
	changes     uint64       // how many there were
}

// bar counts the calls that ended, and the refusals, in five seconds. Its place is that of its slot modulo mostBars.
type bar struct{ slot, good, failed, refused atomic.Uint32 }

// transition is a transport.StateChange as the page gets it, or a transport.ThrottleEvent, which changes no state.
type transition struct {
	throttle  bool
	At        time.Time           `json:"at"`
	From      policy.State        `json:"from"`
	To        policy.State        `json:"to"`
	Reason    policy.ChangeReason `json:"reason"`
	Why       string              `json:"why,omitempty"`
	Cause     policy.Cause        `json:"cause,omitzero"`
	Failures  int                 `json:"failures"`
	Successes int                 `json:"successes"`
	Shadow    bool                `json:"shadow,omitempty"`
}

// at returns the bar of a slot, emptied if it was that of an older one.
func (s *series) at(slot uint32) *bar {
	b := &s.bars[slot%mostBars]
	if b.slot.Load() != slot {
		s.mu.Lock()
		if b.slot.Load() != slot {
			b.good.Store(0)
			b.failed.Store(0)
			b.refused.Store(0)
			b.slot.Store(slot)
		}
		s.mu.Unlock()
	}
	return b
}

// store has the series of all circuits. What it counts is counted on the goroutines of calls: nothing here waits.
type store struct {
	kept  func() map[transport.Key]bool // the keys that have circuits
	clock clock
	all   sync.Map // transport.Key -> *series

	mu    sync.Mutex
	n     atomic.Int64  // written under mu
	spare atomic.Int64  // how many of them are not known, at most; written under mu
	swept atomic.Uint32 // slot of the last sweep because there were too many
}

// of finds or makes the series of a key. It returns nil if there are as many as may be, and the key is not known or all
// of them are.
func (s *store) of(k transport.Key, known bool, slot uint32, most int64) *series {
	if found, ok := s.all.Load(k); ok {
		in := found.(*series)
		if known && !in.known.Load() {
			in.known.Store(true)
		}
		return in
	}
	mayTake := known && s.spare.Load() > 0
	if s.n.Load() >= most && !mayTake {
		if swept := s.swept.Load(); slot-swept >= sweepEvery && s.swept.CompareAndSwap(swept, slot) {
			go func() { s.sweep(s.kept(), slot) }() // it takes a while, and a call is waiting
		}
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.all.Load(k); ok {
		return found.(*series)
	}
	if s.n.Load() >= most && (!mayTake || !s.dropUnknown()) {
		return nil
	}
	made := &series{made: slot}
	made.known.Store(known)
	s.all.Store(k, made)
	s.n.Add(1)
	if !known {
		s.spare.Add(1)
	}
	return made
}

// dropUnknown makes room for a known key, if there is another.
func (s *store) dropUnknown() (dropped bool) {
	s.all.Range(func(k, v any) bool {
		if dropped = !v.(*series).known.Load(); dropped {
			s.all.Delete(k)
			s.n.Add(-1)
			s.spare.Add(-1)
		}
		return !dropped
	})
	if !dropped {
		s.spare.Store(0) // they have all answered since
	}
	return dropped
}

// sweep drops the series of circuits that the transport has dropped.
func (s *store) sweep(kept map[transport.Key]bool, slot uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	spare := int64(0)
	s.all.Range(func(k, v any) bool {
		if v.(*series).made != slot && !kept[k.(transport.Key)] { // one of this slot may be newer than kept
			s.all.Delete(k)
			s.n.Add(-1)
		} else if !v.(*series).known.Load() {
			spare++
		}
		return true
	})
	s.spare.Store(spare)
}

func (s *store) ended(e transport.CallEnd) {
	slot := s.clock.slot()
	switch e.Outcome {
	case policy.Success:
		if in := s.of(e.Key, e.Known, slot, mostGoodSeries); in != nil {
			in.at(slot).good.Add(1)
		}
	case policy.Failure:
		if in := s.of(e.Key, e.Known, slot, mostSeries); in != nil {
			in.at(slot).failed.Add(1)
		}
	}
}

// refused leaves those in shadow out, whose callers got an answer.
func (s *store) refused(r transport.RefusalEvent) {
	slot := s.clock.slot()
	if in := s.of(r.Key, r.Known, slot, mostSeries); in != nil && !r.Shadow {
		in.at(slot).refused.Add(1)
		in.reason.Store(uint32(r.Error.Reason))
	}
}

func (s *store) changed(c transport.StateChange) {
	s.add(c.Key, c.Known, transition{
		At: c.At, From: c.From, To: c.To, Reason: c.Reason, Cause: c.Cause,
		Failures: c.Failures, Successes: c.Successes, Shadow: c.Shadow, Why: c.Why,
	})
}

func (s *store) throttled(e transport.ThrottleEvent) {
	made := transition{throttle: true, At: e.At, Reason: "throttled: " + policy.ChangeReason(e.Reason), Why: e.Why,
		Shadow: e.Shadow}
	if e.Over {
		made.Reason = "no longer throttled: " + policy.ChangeReason(e.Reason)
		why := fmt.Sprintf("%d refused in %v", e.Refused, e.At.Sub(e.Since).Round(time.Second))
		if made.Why = why; e.Why != "" {
			made.Why = e.Why + "; " + why
		}
	}
	s.add(e.Key, e.Known, made)
}

// add makes room by the oldest that is of a throttle, if half of them are: it may come and go often, and is not to hide
// what happened else.
func (s *store) add(k transport.Key, known bool, made transition) {
	in := s.of(k, known, s.clock.slot(), mostSeries)
	if in == nil {
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changes++
	if len(in.transitions) == mostTransitions {
		oldest, throttles := 0, 0
		for i, t := range slices.Backward(in.transitions) {
			if t.throttle {
				if throttles++; throttles >= mostTransitions/2 {
					oldest = i
				}
			}
		}
		in.transitions = slices.Delete(in.transitions, oldest, oldest+1)
	}
	in.transitions = append(in.transitions, made)
}

// clock tells the slot that it is, without a reading of the system's clock at every call.
type clock struct {
	now   atomic.Uint32
	known atomic.Bool // until a timer says that the slot is over
}

func (c *clock) slot() uint32 {
	if !c.known.Load() {
		now := time.Now()
		c.now.Store(slotOf(now))
		if c.known.CompareAndSwap(false, true) {
			time.AfterFunc(now.Truncate(barFor).Add(barFor).Sub(now), func() { c.known.Store(false) })
		}
	}
	return c.now.Load()
}

func slotOf(t time.Time) uint32 { return uint32(t.Unix() / int64(barFor/time.Second)) }

// in returns what the bar of a slot has counted: calls that were good, and those that failed or were refused.
func (s *series) in(slot uint32) (good, bad uint32) {
	b := &s.bars[slot%mostBars]
	if b.slot.Load() != slot {
		return 0, 0
	}
	return b.good.Load(), b.failed.Load() + b.refused.Load()
}
