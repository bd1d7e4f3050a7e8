package statemachine

import (
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// rests are circuits whose canary is back, and that rest until the next one. All rest for the same time, so that who
// came first is woken first, and one timer does for all. Where each has its own, setting it, and the goroutine that it
// runs on, are a third of what a call takes that is the only one of its host for a while.
type rests struct {
	mu    sync.Mutex // none is taken within
	queue []rested
	timer *time.Timer // nil until somebody rests
	set   bool        // the timer is, or whoever it has called is at it
}

type rested struct {
	circuit *Circuit
	until   moment
}

// resters are those of the process. In a bubble of testing/synctest nobody is among them: the time there is another.
var resters rests

// together is how long whoever wakes one waits for others.
const together = time.Millisecond

// add has a circuit woken when its rest is over, or up to together later.
func (r *rests) add(c *Circuit, until moment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, rested{c, until})
	if !r.set {
		r.set = true
		r.wakeIn(time.Until(until.time()))
	}
}

func (r *rests) wakeIn(d time.Duration) {
	if r.timer == nil {
		r.timer = time.AfterFunc(d, r.wake)
		return
	}
	r.timer.Reset(d)
}

// wake runs on the timer's goroutine.
func (r *rests) wake() {
	for _, over := range r.over(momentOf(time.Now())) {
		if over.circuit.word.Load()&stateBits == uint64(policy.Closed) { // others rest no more
			over.circuit.timeIsUp()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.queue, r.set = nil, false
		return
	}
	r.wakeIn(max(together, time.Until(r.queue[0].until.time())))
}

// over takes out those whose rest is over.
func (r *rests) over(now moment) []rested {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for n < len(r.queue) && r.queue[n].until <= now {
		n++
	}
	over := r.queue[:n]
	r.queue = r.queue[n:]
	return over
}
