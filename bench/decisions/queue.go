package main

import (
	"slices"
	"sync"
	"time"
)

// usualWork is that of one call in a queueing upstream: 100 ms on the mean, so that a server does ten calls a second.
var usualWork = latencies{median: 92 * time.Millisecond, sigma: 0.4}

// A service is what a queue serves by.
type service struct {
	servers int
	room    int       // calls accepted and not done
	work    latencies // of one call; the zero value: 92 ms at the median

	warmUp   time.Duration // from the start of the first server to that of the last one
	flood    int           // calls in flight that make it crash while it warms up; 0: no number does
	downtime time.Duration // after a flood
}

// A queue is an upstream of finite capacity: first come, first served. Work once accepted is done, whether or not its
// caller still waits. When the queue is full, calls are answered 503.
//
// While it restarts its servers come up one by one, and a flood makes it crash: every call in flight is reset, it is
// down for a while, and restarts anew.
type queue struct {
	service

	mu     sync.Mutex
	upAt   time.Duration   // of the last start
	free   []time.Duration // when each server is free next
	done   []time.Duration // when each accepted call will be done
	killed chan struct{}   // closed by a crash
}

// crash ends all calls and starts the servers again after a while. q.mu must be held.
func (q *queue) crash(now, downtime time.Duration) {
	close(q.killed)
	q.start(now + downtime)
}

func (q *queue) start(at time.Duration) {
	q.upAt, q.done, q.killed = at, nil, make(chan struct{})
	q.free = make([]time.Duration, q.servers)
	for i := range q.free {
		q.free[i] = at + q.warmUp*time.Duration(i)/time.Duration(q.servers)
	}
}

// outage makes the queue, warm before, crash at begin and come back at end.
func (q *queue) outage(begin, end time.Duration) {
	time.AfterFunc(begin, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.crash(begin, end-begin)
	})
}

// stall makes the servers begin nothing from begin on, for a while.
func (q *queue) stall(begin, length time.Duration) {
	time.AfterFunc(begin, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		for i := range q.free {
			q.free[i] = max(begin, q.free[i]) + length
		}
	})
}

// warm returns a queue that has been up for long.
func (q *queue) warm() *queue {
	if q.work == (latencies{}) {
		q.work = usualWork
	}
	q.start(-q.warmUp)
	return q
}

// flooded says whether one more call would make it crash.
func (q *queue) flooded(now time.Duration) bool {
	q.done = slices.DeleteFunc(q.done, func(t time.Duration) bool { return t <= now })
	return q.flood > 0 && now-q.upAt < q.warmUp && len(q.done) >= q.flood
}

// plan returns the server that a call made now will get, and when it will be done.
func (q *queue) plan(now time.Duration, c coin) (server int, done time.Duration) {
	for i, t := range q.free {
		if t < q.free[server] {
			server = i
		}
	}
	return server, max(now, q.free[server]) + q.work.of(c)
}

func (q *queue) serves(now time.Duration, t *try) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now < q.upAt || q.flooded(now) || len(q.done) >= q.room {
		return false
	}
	_, done := q.plan(now, t.coin)
	return t.patience == 0 || done-now < t.patience
}

func (q *queue) take(now time.Duration, t *try) fate {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case now < q.upAt:
		return fate{after: time.Millisecond, fault: faultRefused, hopeless: true}
	case q.flooded(now):
		q.crash(now, q.downtime)
		return fate{after: time.Millisecond, fault: faultReset, hopeless: true}
	case len(q.done) >= q.room:
		return fate{after: time.Millisecond, fault: fault503, hopeless: true}
	}
	server, done := q.plan(now, t.coin)
	q.free[server] = done
	q.done = append(q.done, done)
	return fate{after: done - now, killed: q.killed, hopeless: t.patience > 0 && done-now >= t.patience}
}
