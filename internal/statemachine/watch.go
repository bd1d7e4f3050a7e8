package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// A watch looks for an upstream that has fallen silent or behind (policy.Hold), in a way that costs a healthy call
// nothing: one call at a time is a canary, and only that one is timed. If it is late, all calls are counted until
// one that started since is back in time. Like the rest of a circuit, a watch is under mu.
type watch struct {
	phase  phase
	timer  *time.Timer
	canary *watched
	usual  time.Duration // the time of canaries, a moving mean; 0 if none has come back yet

	// While watching:
	since  time.Time // the canary was found late
	heard  bool      // the upstream has answered any call since
	number int       // of the last call let through since; the canary is 0
	newest int       // the highest number of a call that was answered
	held   time.Time // a call was held last; zero if none was
	next   time.Time // while holding, a call is let through

	from          time.Time     // answers are counted; zero until a call started since is back
	back          int           // answers since from
	timed         int           // answers in smooth
	smooth, least time.Duration // the time that calls take, a moving mean, and its least, the canary's first; 0 if not known
}

// watched is what is known of a call that is a canary, or started while all were counted.
type watched struct {
	number  int // 0 is a canary
	started time.Time
	back    bool
}

type phase uint8

const (
	wanting  phase = iota // the next call is a canary
	canaryUp              // it is out; the timer runs until it is late
	resting               // the timer runs until the next one is wanted
	watching              // the canary is late
)

const (
	leastLate = 100 * time.Millisecond // no canary is late before
	rest      = 100 * time.Millisecond // between canaries
	leastTerm = 250 * time.Millisecond // of a probe's lease
	patience  = 3                      // silence lasts this many times the usual time at least
	holdStep  = time.Second            // between calls let through while holding
	paceSpan  = 2 * time.Second        // the pace of answers is taken of the last second or two
	paceLeast = 20                     // answers, or there is no pace yet
	smoothOf  = 8                      // calls, as TCP's smoothed round trip
	growth    = 2                      // of the time that calls take, which tells a queue from an upstream that is slow
	calm      = 10 * time.Second       // without a call held, before the usual time follows one that is longer
)

// takeCanary makes the call of a new permit the canary, unless another one was faster.
func (c *Circuit) takeCanary(gen uint64) *watched {
	c.mu.Lock()
	defer c.unlock()
	w := &c.watch
	if c.generation() != gen || c.state() != policy.Closed || c.gone() || w.phase != wanting {
		return nil
	}
	w.phase, w.canary = canaryUp, &watched{started: time.Now()}
	w.wait(w.late(), c.timeIsUp)
	c.store(policy.Closed, gen)
	return w.canary
}

// late is how long a canary may take. Half as long again as usual may be a queue that begins, and it costs little to look.
func (w *watch) late() time.Duration { return max(leastLate, w.usual+w.usual/2) }

func (w *watch) wait(d time.Duration, then func()) {
	if w.timer == nil {
		w.timer = time.AfterFunc(d, then)
		return
	}
	w.timer.Reset(d)
}

// timeIsUp runs on the timer's goroutine. A timer that was reset too late finds another phase, and at worst ends a
// rest early. It tells observers nothing: nobody could catch their panic.
func (c *Circuit) timeIsUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state() != policy.Closed || c.gone() {
		return
	}
	switch w := &c.watch; w.phase {
	case canaryUp:
		*w = watch{phase: watching, timer: w.timer, canary: w.canary, usual: w.usual, since: time.Now()}
	case resting:
		w.phase = wanting
	}
	c.store(policy.Closed, c.generation())
}

// cameBack takes notice of a call that started while the circuit was closed and has now ended or has its headers,
// whichever is first. Heard says that the upstream was heard of, which it was not if the caller gave up.
func (c *Circuit) cameBack(now time.Time, call *watched, heard bool) {
	w := &c.watch
	if call != nil {
		if call.back {
			return
		}
		call.back = true
	}
	switch {
	case w.phase == canaryUp && call == w.canary:
		if heard {
			w.learn(now.Sub(call.started))
		}
	case w.phase == watching && heard:
		if inTime := w.answered(now, call); !inTime {
			return
		}
	default:
		return
	}
	w.phase = resting
	w.wait(rest, c.timeIsUp)
	c.store(policy.Closed, c.generation())
}

func (w *watch) learn(took time.Duration) { w.usual = smoothed(w.usual, took) }

// smoothed is the moving mean of the times that calls take, with one more in it. A mean of 0 is of none yet.
func smoothed(mean, took time.Duration) time.Duration {
	if mean == 0 {
		return took
	}
	return mean + (took-mean)/smoothOf
}

// answered counts an answer while watching, and reports whether it is of a call that started since and took no
// longer than a canary may.
func (w *watch) answered(now time.Time, call *watched) (inTime bool) {
	w.heard = true
	switch span := now.Sub(w.from); {
	case w.from.IsZero():
		if call != nil {
			w.from = now
		}
	case span < paceSpan:
		w.back++
	default:
		w.from, w.back = now.Add(-span/2), w.back/2+1
	}
	if call == nil {
		return false
	}
	took := now.Sub(call.started)
	w.timed++
	w.smooth += (took - w.smooth) / time.Duration(min(w.timed, smoothOf))
	if (call == w.canary || w.timed >= smoothOf) && (w.least == 0 || w.smooth < w.least) {
		w.least = w.smooth
	}
	w.newest = max(w.newest, call.number)
	if w.usual == 0 {
		w.usual = took
	}
	if w.level() && now.Sub(w.held) > calm && (w.steady() || now.Sub(w.since) > calm) {
		w.usual = max(w.usual, min(took, w.usual+w.usual/64)) // slow from now on, it seems
	}
	return call != w.canary && took <= w.late()
}

// admit counts a call that wants to start, or says that it is held. One call a second is let through all the same, so
// that nothing holds for good.
func (w *watch) admit(now, deadline time.Time, hold policy.Hold) (call *watched, held bool) {
	if w.phase != watching {
		return nil, false
	}
	if w.silent(now, hold) || w.hopeless(now, deadline, hold) {
		w.held = now
		if now.Before(w.next) {
			return nil, true
		}
		w.next = now.Add(holdStep)
	}
	if w.ahead() == 0 {
		w.from, w.back = time.Time{}, 0 // the pace of an upstream without work says nothing
	}
	w.number++
	return &watched{number: w.number, started: now}, false
}

// ahead is how many calls were let through after the newest that was answered. Older ones that are still out are no
// queue: they are lost, or slow by themselves.
func (w *watch) ahead() int { return w.number - w.newest }

// level reports whether calls take no longer than they did at first, since the canary was late.
func (w *watch) level() bool { return w.least > 0 && w.smooth < growth*w.least }

// steady reports whether they are level and not so late that the canary may have been in a queue already: a slow upstream,
// and no growing queue.
func (w *watch) steady() bool { return w.level() && w.smooth < growth*2*w.late() }

// silent reports whether nothing has been heard for too long, of enough calls, by an upstream that is known to answer.
func (w *watch) silent(now time.Time, hold policy.Hold) bool {
	silence := max(hold.Silence, patience*w.usual)
	return !w.heard && w.usual > 0 && w.ahead()+1 >= hold.InFlight &&
		now.Sub(w.canary.started) >= silence && now.Sub(w.since) >= silence-leastLate
}

// hopeless reports whether there is a growing queue, and the calls ahead, at the pace at which they are answered, take so
// long that a new one would be answered too late for its caller (Little's law).
func (w *watch) hopeless(now, deadline time.Time, hold policy.Hold) bool {
	if deadline.IsZero() || w.back < paceLeast || w.ahead() < hold.InFlight || w.least == 0 || w.steady() {
		return false
	}
	wait := float64(now.Sub(w.from)) / float64(w.back) * float64(w.ahead())
	return wait > 0.9*float64(deadline.Sub(now))
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

// lease shortens a probe's lease where it is known how long calls usually take.
func (w *watch) lease(most time.Duration) time.Duration {
	if w.usual == 0 {
		return most
	}
	return min(most, max(leastTerm, 4*w.usual))
}
