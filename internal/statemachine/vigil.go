package statemachine

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/internal/smoothed"
	"github.com/fusebox-go/fusebox/policy"
)

// A vigil is what is known since a canary was found late: whether the upstream has fallen silent or behind
// (policy.Hold).
type vigil struct {
	*pace
	first   *watched    // the canary
	since   time.Time   // it was found late
	heard   bool        // the upstream has answered any call since
	overdue []time.Time // when those that wait are, until it has: the soonest, Hold.InFlight at most
	number  int         // of the last call let through since; the canary is 0
	newest  int         // the highest number of a call that was answered
	held    time.Time   // a call was held last; zero if none was
	next    time.Time   // while holding, a call is let through
	lost    bool        // a caller's deadline has passed that was no shorter than calls take
	trusted bool        // a call was let through the silence that was to use a new connection
	nothing uint8       // and those that used one that may be dead

	from  time.Time // answers are counted; zero until a call started since is back
	back  int       // answers since from
	timed int       // answers in smooth
	// the time that calls take, a moving mean, and its least, the canary's first; 0 if not known
	smooth, least time.Duration
}

const (
	patience  = 3                // silence lasts this many times the usual time at least
	holdStep  = time.Second      // between calls let through while holding
	paceSpan  = 2 * time.Second  // the pace of answers is taken of the last second or two
	paceLeast = 20               // answers, or there is no pace yet
	growth    = 2                // of the time that calls take, which tells a queue from an upstream that is slow
	calm      = 10 * time.Second // without a call held, before the usual time follows one that is longer
	// until a call without a deadline is overdue: so long wait common proxies, unless told otherwise
	bearable = time.Minute
)

// admit counts a call that wants to start, or says that it is held. One call a second is let through all the same, so
// that nothing holds for good.
func (v *vigil) admit(now, deadline time.Time, hold policy.Hold) (call *watched, held bool) {
	silent := hold.Silence > 0 && v.silent(now, hold)
	if silent || hold.Silence > 0 && v.hopeless(now, deadline, hold) {
		v.held = now
		if now.Before(v.next) {
			return nil, true
		}
		v.next = now.Add(holdStep)
	}
	stale := !v.trusted && (silent || v.suspicious(now, hold))
	v.trusted = v.trusted || stale
	if v.ahead() == 0 {
		v.from, v.back = time.Time{}, 0 // the pace of an upstream without work says nothing
	}
	v.number++
	call = &watched{number: v.number, started: now, scout: silent || stale, stale: stale}
	if !v.heard {
		due := v.dueIn(bears(now, deadline), hold)
		if len(v.overdue) == 0 {
			v.expect(v.first.started.Add(due), hold) // whose caller is taken to bear as much
		}
		call.overdue = now.Add(due)
		v.expect(call.overdue, hold)
	}
	return call, false
}

// answered counts an answer, and reports whether it is of a call that started since and took no longer than a canary
// may.
func (v *vigil) answered(now time.Time, call *watched, well bool) (inTime bool) {
	v.heard, v.overdue = true, nil
	switch span := now.Sub(v.from); {
	case v.from.IsZero():
		if call != nil {
			v.from = now
		}
	case span < paceSpan:
		v.back++
	default:
		v.from, v.back = now.Add(-span/2), v.back/2+1
	}
	if call == nil {
		return false
	}
	took := now.Sub(call.started)
	if well {
		v.remember(now, took)
	}
	v.timed++
	v.smooth = smoothed.Among(v.smooth, took, v.timed)
	if (call == v.first || v.timed >= smoothed.Of) && (v.least == 0 || v.smooth < v.least) {
		v.least = v.smooth
	}
	v.newest = max(v.newest, call.number)
	if v.usual == 0 && well {
		v.usual = min(took, maxTaken)
	}
	if well && v.level() && now.Sub(v.held) > calm && (v.steady() || now.Sub(v.since) > calm) {
		v.usual = max(v.usual, min(took, v.usual+v.usual/64)) // slow from now on, it seems
	}
	return call != v.first && took <= v.late()
}

// bears is how long the caller of a call waits before it is a pity: half of its time, or it could as well wait for the
// rest.
func bears(now, deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return bearable
	}
	return deadline.Sub(now) / 2
}

// dueIn is how long a call has to be out until it is overdue by what is known of calls here, and what its caller bears.
// What its caller expects is known by its deadline alone: that calls were quick until now says little of one that is
// slow by nature.
func (v *vigil) dueIn(bears time.Duration, hold policy.Hold) time.Duration {
	return max(hold.Silence, patience*v.usual, v.longest+v.longest/4, bears)
}

func (v *vigil) expect(overdue time.Time, hold policy.Hold) {
	at, _ := slices.BinarySearchFunc(v.overdue, overdue, time.Time.Compare)
	v.overdue = slices.Insert(v.overdue, at, overdue)
	v.overdue = v.overdue[:min(len(v.overdue), hold.InFlight)]
}

// gaveUp takes notice of a caller that waits no longer. If that was for many times the usual time, its patience is
// known now; otherwise it says nothing.
func (v *vigil) gaveUp(now time.Time, call *watched, hold policy.Hold) {
	if v.heard || call.overdue.IsZero() {
		return
	}
	if at, ok := slices.BinarySearchFunc(v.overdue, call.overdue, time.Time.Compare); ok {
		v.overdue = slices.Delete(v.overdue, at, at+1)
	}
	if waited := now.Sub(call.started); waited >= patience*v.usual {
		call.overdue = call.started.Add(v.dueIn(waited, hold))
		v.expect(call.overdue, hold)
	}
}

// ahead is how many calls were let through after the newest that was answered. Older ones that are still out are no
// queue: they are lost, or slow by themselves.
func (v *vigil) ahead() int { return v.number - v.newest }

// level reports whether calls take no longer than they did at first, since the canary was late.
func (v *vigil) level() bool { return v.least > 0 && v.smooth < growth*v.least }

// steady reports whether they are level and not so late that the canary may have been in a queue already: a slow
// upstream, and no growing queue.
func (v *vigil) steady() bool { return v.level() && v.smooth < growth*2*v.late() }

// silent reports whether an upstream that is known to answer has not been heard for too long: a call is overdue, and so
// many are or will be soon that it is no matter of one.
func (v *vigil) silent(now time.Time, hold policy.Hold) bool {
	return !v.heard && v.usual > 0 && len(v.overdue) >= hold.InFlight && !now.Before(v.overdue[0]) &&
		!now.Add(hold.Silence).Before(v.overdue[hold.InFlight-1]) && now.Sub(v.since) >= hold.Silence-leastLate
}

// suspicious reports whether nothing has been heard for longer than calls take, whatever callers bear. It may be that
// all connections are dead, and it costs nothing to have a call look for that.
func (v *vigil) suspicious(now time.Time, hold policy.Hold) bool {
	silence := max(hold.Silence, time.Second, patience*v.usual)
	return !v.heard && v.usual > 0 && v.ahead()+1 >= hold.InFlight && now.Sub(v.since) >= silence-leastLate
}

// hopeless reports whether there is a queue that grows, or has grown too long for some, and the calls ahead, at the
// pace at which they are answered, take so long that a new one would be answered too late for its caller (Little's
// law).
func (v *vigil) hopeless(now, deadline time.Time, hold policy.Hold) bool {
	if deadline.IsZero() || v.back < paceLeast || v.ahead() < hold.InFlight || v.least == 0 || v.steady() {
		return false
	}
	if v.level() && !v.lost && now.Sub(v.since) > calm { // as slow as that by nature, until somebody waits in vain
		return false
	}
	wait := float64(now.Sub(v.from)) / float64(v.back) * float64(v.ahead())
	return wait > 0.9*float64(deadline.Sub(now))
}
