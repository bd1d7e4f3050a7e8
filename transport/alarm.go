package transport

import (
	"sync"
	"time"
)

// alarm is a timer that ends one attempt after another. To set one that is there takes half of what it takes to make
// one.
type alarm struct {
	timer *time.Timer
	of    *attempt   // nil while it is not set
	home  *sync.Pool // nil if it is to be used once
}

// setAlarm has the attempt end when its time is up. It takes an alarm of those that others have stopped, if there is
// one.
func setAlarm(of *attempt, alarms *sync.Pool) *alarm {
	if inBubble() {
		alarms = nil
	} else if a, ok := alarms.Get().(*alarm); ok {
		a.of = of
		a.timer.Reset(of.limits.Timeout)
		return a
	}
	a := &alarm{of: of, home: alarms}
	a.timer = time.AfterFunc(of.limits.Timeout, a.ring)
	return a
}

func (a *alarm) ring() { a.of.cancel(timeIsUp{a.of}) }

// stop reports whether the alarm will not ring, and has not. It is called once.
func (a *alarm) stop() bool {
	if !a.timer.Stop() {
		return false
	}
	if a.of = nil; a.home != nil {
		a.home.Put(a)
	}
	return true
}

// inBubble reports whether the time is that of a bubble of testing/synctest. A timer of one does nothing outside, and
// one of outside goes by real time inside, so that a Transport that is used in both must not carry any across. A bubble
// begins in the year 2000, and outside no time is before begun.
func inBubble() bool { return time.Since(begun) < 0 }
