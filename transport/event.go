package transport

import (
	"errors"
	"net"
	"reflect"
	"time"
)

// atOnce is how far apart the calls fail that one event takes with it: long enough for the goroutines of a process to
// learn of it.
const atOnce = 100 * time.Millisecond

// event is the last by which calls failed: a connection that broke with all that was under way on it, or an attempt to
// connect that many calls waited for. The base gives all of them one error. What a call fails with that began later is
// another event, and so is the same error when it comes later, or an error of its own for each call. So an outage is
// seen later only by the calls that were out when it began, which count as one.
type event struct {
	err error
	at  time.Time
}

// again reports whether a call failed by the same event as the one before it. Started is zero if it began before it was
// known that any fails. Over HTTP/1 each call has a connection of its own, and an event too.
func (c *circuit) again(err error, started, now time.Time) bool {
	if !c.http2.Load() && !c.t.http3.Load() {
		return false
	}
	err = innermost(err)
	last := c.also().broken.Load()
	if last != nil && same(err, last.err) && now.Sub(last.at) < atOnce && started.Before(last.at) {
		return true
	}
	// Of two that fail at once, the one that comes too late looks again.
	if !c.also().broken.CompareAndSwap(last, &event{err, now}) {
		return c.again(err, started, now)
	}
	return false
}

func same(a, b error) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// innermost returns what an error is about: what stands around it can be made anew for each call. What a *net.OpError
// has in it is a number, which is the same whenever it happens.
func innermost(err error) error {
	for {
		if _, ok := err.(*net.OpError); ok {
			return err
		}
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
