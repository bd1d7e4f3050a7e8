package statemachine

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// A watch finds out how long calls take, and looks for an upstream that has fallen silent or behind (policy.Hold), in a way that
// costs a healthy call nothing: one call at a time is a canary, and only that one is timed. If it is late, all calls are counted
// until one that started since is back in time. Like the rest of a circuit, a watch is under mu.
type watch struct {
	phase  phase
	timer  *time.Timer
	canary *watched
	usual  time.Duration // that calls take, a moving mean of those that are timed; 0 if none has come back yet

	longest time.Duration // that one of them took, of the last mindful
	slowest time.Time     // when that one came back

	*vigil // while watching
}

// A vigil is what is known since a canary was found late.
type vigil struct {
	since   time.Time   // it was
	heard   bool        // the upstream has answered any call since
	overdue []time.Time // when those that wait are, until it has: the soonest, Hold.InFlight at most
	number  int         // of the last call let through since; the canary is 0
	newest  int         // the highest number of a call that was answered
	held    time.Time   // a call was held last; zero if none was
	next    time.Time   // while holding, a call is let through
	lost    bool        // a caller's deadline has passed that was no shorter than calls take
	trusted bool        // a call was let through the silence that was to use a new connection
	nothing uint8       // and those that used one that may be dead

	from          time.Time     // answers are counted; zero until a call started since is back
	back          int           // answers since from
	timed         int           // answers in smooth
	smooth, least time.Duration // the time that calls take, a moving mean, and its least, the canary's first; 0 if not known
}

// watched is what is known of a call that is a canary, or started while all were counted.
type watched struct {
	number  int // 0 is a canary
	started time.Time
	overdue time.Time // zero for a canary, and for what nobody waits for
	back    bool
	scout   bool // let through while the upstream was silent
	stale   bool // connections made before may be dead
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
	mindful   = 10 * time.Minute       // the longest call is remembered
	mostTaken = 5 * time.Minute        // by a call, as far as others are concerned, or one that hangs could hold them up for as long
	bearable  = time.Minute            // until a call without a deadline is overdue: so long wait common proxies, unless told otherwise
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
		w.phase, w.vigil = watching, &vigil{since: time.Now()}
	case resting:
		w.phase = wanting
	}
	c.store(policy.Closed, c.generation())
}

// cameBack takes notice of a call that started while the circuit was closed and has now ended or has its headers,
// whichever is first. Heard says that the upstream was heard of, which it was not if the caller gave up; well that it did what
// it was asked, and took as long as that takes.
func (c *Circuit) cameBack(now time.Time, call *watched, heard, well bool) {
	w := &c.watch
	if call != nil {
		if call.back {
			return
		}
		call.back = true
		if w.phase == watching && call != w.canary && call.started.Before(w.since) {
			call = nil // counted by an earlier watch
		}
	}
	switch {
	case w.phase == canaryUp && call == w.canary:
		if well {
			w.learn(now, now.Sub(call.started))
		}
	case w.phase == watching && heard:
		if inTime := w.answered(now, call, well); !inTime {
			return
		}
	case w.phase == watching && call != nil:
		w.gaveUp(now, call, c.rules().Hold)
		return
	default:
		return
	}
	w.phase, w.vigil = resting, nil
	w.wait(rest, c.timeIsUp)
	c.store(policy.Closed, c.generation())
}

// learn takes notice of how long a call took that is one like the others.
func (w *watch) learn(now time.Time, took time.Duration) {
	took = min(took, mostTaken)
	w.usual = smoothed(w.usual, took)
	w.remember(now, took)
}

func (w *watch) remember(now time.Time, took time.Duration) {
	took = min(took, mostTaken)
	if took >= w.longest || now.Sub(w.slowest) > mindful {
		w.longest, w.slowest = took, now
	}
}

// smoothed is the moving mean of the times that calls take, with one more in it. A mean of 0 is of none yet.
func smoothed(mean, took time.Duration) time.Duration {
	if mean == 0 {
		return took
	}
	return mean + (took-mean)/smoothOf
}

// answered counts an answer while watching, and reports whether it is of a call that started since and took no
// longer than a canary may.
func (w *watch) answered(now time.Time, call *watched, well bool) (inTime bool) {
	w.heard, w.overdue = true, nil
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
	if well {
		w.remember(now, took)
	}
	w.timed++
	w.smooth += (took - w.smooth) / time.Duration(min(w.timed, smoothOf))
	if (call == w.canary || w.timed >= smoothOf) && (w.least == 0 || w.smooth < w.least) {
		w.least = w.smooth
	}
	w.newest = max(w.newest, call.number)
	if w.usual == 0 && well {
		w.usual = min(took, mostTaken)
	}
	if well && w.level() && now.Sub(w.held) > calm && (w.steady() || now.Sub(w.since) > calm) {
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
	silent := hold.Silence > 0 && w.silent(now, hold)
	if silent || hold.Silence > 0 && w.hopeless(now, deadline, hold) {
		w.held = now
		if now.Before(w.next) {
			return nil, true
		}
		w.next = now.Add(holdStep)
	}
	stale := !w.trusted && (silent || w.suspicious(now, hold))
	w.trusted = w.trusted || stale
	if w.ahead() == 0 {
		w.from, w.back = time.Time{}, 0 // the pace of an upstream without work says nothing
	}
	w.number++
	call = &watched{number: w.number, started: now, scout: silent || stale, stale: stale}
	if !w.heard {
		due := w.dueIn(bears(now, deadline), hold)
		if len(w.overdue) == 0 {
			w.expect(w.canary.started.Add(due), hold) // whose caller is taken to bear as much
		}
		call.overdue = now.Add(due)
		w.expect(call.overdue, hold)
	}
	return call, false
}

// bears is how long the caller of a call waits before it is a pity: half of its time, or it could as well wait for the rest.
func bears(now, deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return bearable
	}
	return deadline.Sub(now) / 2
}

// dueIn is how long a call has to be out until it is overdue by what is known of calls here, and what its caller bears. What
// its caller expects is known by its deadline alone: that calls were quick until now says little of one that is slow by nature.
func (w *watch) dueIn(bears time.Duration, hold policy.Hold) time.Duration {
	return max(hold.Silence, patience*w.usual, w.longest+w.longest/4, bears)
}

func (w *watch) expect(overdue time.Time, hold policy.Hold) {
	at, _ := slices.BinarySearchFunc(w.overdue, overdue, time.Time.Compare)
	w.overdue = slices.Insert(w.overdue, at, overdue)
	w.overdue = w.overdue[:min(len(w.overdue), hold.InFlight)]
}

// gaveUp takes notice of a caller that waits no longer. If that was for many times the usual time, its patience is known now;
// otherwise it says nothing.
func (w *watch) gaveUp(now time.Time, call *watched, hold policy.Hold) {
	if w.heard || call.overdue.IsZero() {
		return
	}
	if at, ok := slices.BinarySearchFunc(w.overdue, call.overdue, time.Time.Compare); ok {
		w.overdue = slices.Delete(w.overdue, at, at+1)
	}
	if waited := now.Sub(call.started); waited >= patience*w.usual {
		call.overdue = call.started.Add(w.dueIn(waited, hold))
		w.expect(call.overdue, hold)
	}
}

// ahead is how many calls were let through after the newest that was answered. Older ones that are still out are no
// queue: they are lost, or slow by themselves.
func (w *watch) ahead() int { return w.number - w.newest }

// level reports whether calls take no longer than they did at first, since the canary was late.
func (w *watch) level() bool { return w.least > 0 && w.smooth < growth*w.least }

// steady reports whether they are level and not so late that the canary may have been in a queue already: a slow upstream,
// and no growing queue.
func (w *watch) steady() bool { return w.level() && w.smooth < growth*2*w.late() }

// silent reports whether an upstream that is known to answer has not been heard for too long: a call is overdue, and so many are
// or will be soon that it is no matter of one.
func (w *watch) silent(now time.Time, hold policy.Hold) bool {
	return !w.heard && w.usual > 0 && len(w.overdue) >= hold.InFlight && !now.Before(w.overdue[0]) &&
		!now.Add(hold.Silence).Before(w.overdue[hold.InFlight-1]) && now.Sub(w.since) >= hold.Silence-leastLate
}

// suspicious reports whether nothing has been heard for longer than calls take, whatever callers bear. It may be that all
// connections are dead, and it costs nothing to have a call look for that.
func (w *watch) suspicious(now time.Time, hold policy.Hold) bool {
	silence := max(hold.Silence, time.Second, patience*w.usual)
	return !w.heard && w.usual > 0 && w.ahead()+1 >= hold.InFlight && now.Sub(w.since) >= silence-leastLate
}

// hopeless reports whether there is a queue that grows, or has grown too long for some, and the calls ahead, at the pace at which they are answered, take so
// long that a new one would be answered too late for its caller (Little's law).
func (w *watch) hopeless(now, deadline time.Time, hold policy.Hold) bool {
	if deadline.IsZero() || w.back < paceLeast || w.ahead() < hold.InFlight || w.least == 0 || w.steady() {
		return false
	}
	if w.level() && !w.lost && now.Sub(w.since) > calm { // as slow as that by nature, until somebody waits in vain
		return false
	}
	wait := float64(now.Sub(w.from)) / float64(w.back) * float64(w.ahead())
	return wait > 0.9*float64(deadline.Sub(now))
}

// began is what moments are counted from.
var began = time.Now()

// wentWell takes notice of a call that went well so far: a canary, or one of a circuit that is not quiet. The others write nothing.
func (c *Circuit) wentWell(now time.Time) { c.well.Store(int64(now.Sub(began))) }

// Well reports whether the upstream of a closed circuit is known to have answered a call well since then, to a tenth of a second,
// and nothing has failed after that. It takes no lock and writes nothing.
func (c *Circuit) Well(since time.Time) bool {
	at := c.well.Load()
	return at != 0 && at >= int64(since.Sub(began)) && !c.gone()
}

func (w *watch) stop() {
	w.phase, w.vigil = wanting, nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

// bits is the watch's part of the word of a closed circuit.
func (w *watch) bits(config *Config) uint64 {
	switch {
	case config.Rules.Hold.Silence == 0 && !config.Measured:
		return 0
	case w.phase == wanting:
		return canaryBit
	case w.phase == watching:
		return watchBit
	}
	return 0
}

// lease shortens a lease where it is known how long calls usually take.
func (w *watch) lease(most time.Duration) time.Duration {
	if w.usual == 0 {
		return most
	}
	return min(most, max(leastTerm, 4*w.usual))
}

// term makes the lease of a call of a recovery longer where calls take long: what has just been answered after a time may be again.
func (w *watch) term(least time.Duration) time.Duration { return max(least, 2*w.longest) }
