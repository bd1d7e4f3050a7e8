package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// A watch looks for an upstream that has fallen silent or behind (policy.Hold), in a way that costs a healthy call
// nothing: one call at a time is a canary, and only that one is timed. If it is late, all calls are counted until
// one that started since is back in time. Like the rest of a circuit, a watch is under mu.
type watch struct {
	phase   phase
	timer   *time.Timer
	started time.Time     // of the canary
	usual   time.Duration // a canary's time, a slowly decaying maximum; 0 if none has come back yet

	// While watching:
	since time.Time // the canary was found late
	out   int       // calls started since and not come back, and the canary
	heard bool      // the upstream has answered any call since
	from  time.Time // answers are counted; zero until the canary or a call started since is back
	back  int       // calls answered since from
	next  time.Time // while holding, a call is let through
}

type phase uint8

const (
	wanting  phase = iota // the next call is a canary
	canaryUp              // it is out; the timer runs until it is late
	resting               // the timer runs until the next one is wanted
	watching              // the canary is late
)

const (
	leastLate = 250 * time.Millisecond // no canary is late before
	rest      = 100 * time.Millisecond // between canaries
	patience  = 3                      // silence lasts this many times the usual time at least
	holdStep  = time.Second            // between calls let through while holding
	paceSpan  = 2 * time.Second        // the pace of answers is taken of the last second or two
	paceLeast = 20                     // answers, or there is no pace yet
)

// takeCanary makes the call of a new permit the canary, unless another one was faster.
func (c *Circuit) takeCanary(gen uint64) bool {
	if c.word.And(^uint64(canaryBit))&canaryBit == 0 {
		return false
	}
	c.mu.Lock()
	defer c.unlock()
	w := &c.watch
	if c.generation() != gen || c.state() != policy.Closed || w.phase != wanting {
		return false
	}
	w.phase, w.started = canaryUp, time.Now()
	w.wait(w.late(), c.timeIsUp)
	return true
}

// late is how long a canary may take. Twice the usual time is nothing unusual.
func (w *watch) late() time.Duration { return max(leastLate, 2*w.usual) }

func (w *watch) wait(d time.Duration, then func()) {
	if w.timer == nil {
		w.timer = time.AfterFunc(d, then)
		return
	}
	w.timer.Reset(d)
}

// timeIsUp runs on the timer's goroutine. A timer that was reset too late finds another phase, and at worst ends a
// rest early.
func (c *Circuit) timeIsUp() {
	c.mu.Lock()
	defer c.unlock()
	if c.state() != policy.Closed || c.gone() {
		return
	}
	switch w := &c.watch; w.phase {
	case canaryUp:
		w.phase, w.since, w.out, w.heard = watching, time.Now(), 1, false
		w.from, w.back, w.next = time.Time{}, 0, time.Time{}
	case resting:
		w.phase = wanting
	}
	c.store(policy.Closed, c.generation())
}

// cameBack takes notice of a call that started while the circuit was closed and has now ended or has its headers.
// Heard says that the upstream was heard of, which it was not if the caller gave up.
func (c *Circuit) cameBack(now time.Time, p Permit, heard bool) {
	w := &c.watch
	switch {
	case w.phase == canaryUp && p.canary:
		if heard {
			w.usual = max(now.Sub(w.started), w.usual-w.usual/8)
		}
	case w.phase == watching:
		if inTime := w.watched(now, p, heard); !inTime {
			return
		}
	default:
		return
	}
	w.phase = resting
	w.wait(rest, c.timeIsUp)
	c.store(policy.Closed, c.generation())
}

// watched counts a call that came back while watching, and reports whether it started since and took no longer than a
// canary may.
func (w *watch) watched(now time.Time, p Permit, heard bool) (inTime bool) {
	since := !p.started.IsZero() && !p.started.Before(w.since)
	if p.canary || since {
		w.out = max(0, w.out-1)
	}
	if !heard {
		return false
	}
	w.heard = true
	switch span := now.Sub(w.from); {
	case !w.from.IsZero() && span < paceSpan:
		w.back++
	case !w.from.IsZero():
		w.from, w.back = now.Add(-span/2), w.back/2+1
	case p.canary || since:
		w.from = now
	}
	if p.canary {
		// If answers have become slow for good, the usual time follows by steps.
		took := now.Sub(w.started)
		w.usual = min(took, w.usual+w.usual/4)
		if w.usual == 0 {
			w.usual = took
		}
	}
	return since && now.Sub(p.started) <= w.late()
}

// holds reports whether a call that wants to start is held, and counts it if not. One call a second is let through
// all the same, so that nothing holds for good.
func (w *watch) holds(now, deadline time.Time, hold policy.Hold) bool {
	if w.phase != watching {
		return false
	}
	if w.silent(now, hold) || w.hopeless(now, deadline, hold) {
		if now.Before(w.next) {
			return true
		}
		w.next = now.Add(holdStep)
	}
	w.out++
	return false
}

// silent reports whether nothing has been heard for too long, of enough calls, by an upstream that is known to answer.
func (w *watch) silent(now time.Time, hold policy.Hold) bool {
	silence := max(hold.Silence, patience*w.usual)
	return !w.heard && w.usual > 0 && w.out >= hold.InFlight &&
		now.Sub(w.started) >= silence && now.Sub(w.since) >= silence-leastLate
}

// hopeless reports whether the calls that are out, at the pace at which they are answered, take so long that a new one
// would be answered too late for its caller (Little's law).
func (w *watch) hopeless(now, deadline time.Time, hold policy.Hold) bool {
	if deadline.IsZero() || w.back < paceLeast || w.out < hold.InFlight {
		return false
	}
	ahead := float64(now.Sub(w.from)) / float64(w.back) * float64(w.out)
	return ahead > 0.9*float64(deadline.Sub(now))
}

func (w *watch) stop() {
	w.phase = wanting
	if w.timer != nil {
		w.timer.Stop()
	}
}

// bits is the watch's part of the word of a closed circuit.
func (w *watch) bits(hold policy.Hold) uint64 {
	switch {
	case hold.Silence == 0:
		return 0
	case w.phase == wanting:
		return canaryBit
	case w.phase == watching:
		return watchBit
	}
	return 0
}
