package statemachine

import (
	"sync"
	"time"
)

// alarm is the timer of one circuit after another: to set one that is there takes half of what it takes to make one.
type alarm struct {
	timer *time.Timer
	of    *Circuit // nil while it is not set
	once  bool     // it is not to be used again
}

// alarms are some that are not set.
var alarms sync.Pool

// setAlarm has the circuit's timeIsUp run at a time.
func setAlarm(of *Circuit, at moment) *alarm {
	in := time.Until(at.time())
	if at.inBubble() {
		return newAlarm(of, in, true)
	}
	if a, ok := alarms.Get().(*alarm); ok {
		a.of = of
		a.timer.Reset(in)
		return a
	}
	return newAlarm(of, in, false)
}

func newAlarm(of *Circuit, in time.Duration, once bool) *alarm {
	a := &alarm{of: of, once: once}
	a.timer = time.AfterFunc(in, a.ring)
	return a
}

func (a *alarm) ring() { a.of.timeIsUp() }

// stop is called once for each time that the alarm was set. One that rings already is left to itself.
func (a *alarm) stop() {
	if a.timer.Stop() && !a.once {
		a.of = nil
		alarms.Put(a)
	}
}

// inBubble reports whether a moment is of a bubble of testing/synctest, which begins in the year 2000. A timer of one
// does nothing outside, and one of outside goes by real time inside, so that none must cross the border.
func (m moment) inBubble() bool { return m < 0 }
