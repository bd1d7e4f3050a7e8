package transport

import (
	"sync/atomic"
	"time"
)

// coarseClock is a clock that is read more often than a real one can be: by every Read of a body. A timer moves it on
// while it is read, one for the whole Transport, and none runs when nobody reads it.
type coarseClock struct {
	time atomic.Int64 // Unix nanoseconds; 0 while it stands still
	read atomic.Bool  // since it moved
}

// coarseTick is by how much a coarseClock can be behind.
const coarseTick = 250 * time.Millisecond

// now writes to memory that others share once a tick at most.
func (c *coarseClock) now() int64 {
	now := c.time.Load()
	if now == 0 {
		return c.start()
	}
	if !c.read.Load() {
		c.read.Store(true)
	}
	return now
}

func (c *coarseClock) start() int64 {
	now := time.Now().UnixNano()
	if c.time.CompareAndSwap(0, now) {
		time.AfterFunc(coarseTick, c.tick)
	}
	return now
}

func (c *coarseClock) tick() {
	if !c.read.Swap(false) {
		c.time.Store(0)
		return
	}
	c.time.Store(time.Now().UnixNano())
	time.AfterFunc(coarseTick, c.tick)
}

// A tick is a time in a third of the memory: in nanoseconds since begun. 0 is none.
type tick int64

// ticks is the time by a clock that is read in half the time of time.Now: not that on the wall.
func ticks() tick { return tick(time.Since(begun)) }

func tickOf(t time.Time) tick { return tick(t.Sub(begun)) }

// time is as far off as the wall clock was set since the process began.
func (t tick) time() time.Time {
	if t == 0 {
		return time.Time{}
	}
	return begun.Add(time.Duration(t))
}

var begun = time.Now()
