package policy

import "time"

// A view is the set of recent calls that a share is taken of.
type view interface {
	add(now time.Time, bad bool)
	counts() (bad, total int)
	clear()
}

// callView holds the last len(ring) calls.
type callView struct {
	ring       []bool
	next       int
	bad, total int
}

func newCallView(calls int) *callView { return &callView{ring: make([]bool, calls)} }

func (v *callView) add(_ time.Time, bad bool) {
	if v.total == len(v.ring) {
		if v.ring[v.next] {
			v.bad--
		}
	} else {
		v.total++
	}
	v.ring[v.next] = bad
	if bad {
		v.bad++
	}
	v.next = (v.next + 1) % len(v.ring)
}

func (v *callView) counts() (int, int) { return v.bad, v.total }
func (v *callView) clear()             { v.next, v.bad, v.total = 0, 0, 0 }

const slots = 10

// timeView holds the calls of the last window of time in ten slots, each of which counts a tenth of it.
// Time that runs backwards counts in the newest slot.
type timeView struct {
	slot       time.Duration
	start      time.Time // of the newest slot; zero before the first call
	newest     int
	ring       [slots]struct{ bad, total int }
	bad, total int
}

func newTimeView(window time.Duration) *timeView {
	return &timeView{slot: max(window/slots, 1)}
}

func (v *timeView) add(now time.Time, bad bool) {
	v.advance(now)
	v.ring[v.newest].total++
	v.total++
	if bad {
		v.ring[v.newest].bad++
		v.bad++
	}
}

func (v *timeView) advance(now time.Time) {
	if v.start.IsZero() {
		v.start = now
		return
	}
	steps := now.Sub(v.start) / v.slot
	if steps <= 0 {
		return
	}
	if steps >= slots {
		v.clear()
		v.start = now
		return
	}
	v.start = v.start.Add(steps * v.slot)
	for range steps {
		v.newest = (v.newest + 1) % slots
		v.bad -= v.ring[v.newest].bad
		v.total -= v.ring[v.newest].total
		v.ring[v.newest] = struct{ bad, total int }{}
	}
}

func (v *timeView) counts() (int, int) { return v.bad, v.total }
func (v *timeView) clear()             { *v = timeView{slot: v.slot} }
