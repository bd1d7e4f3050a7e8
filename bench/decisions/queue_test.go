package main

import (
	"testing"
	"time"
)

func TestQueueServesInOrderAndKeepsWorkOfCallersGone(t *testing.T) {
	q := (&queue{service: service{servers: 1, room: 3}}).warm()
	c := newCoin(1, "queue")
	var last time.Duration
	for n := range uint64(3) {
		f := q.take(0, &try{coin: c.with(n)})
		if f.fault != faultNone || f.after <= last {
			t.Errorf("call %d: %+v, the call before was done at %v", n, f, last)
		}
		last = f.after
	}
	if q.serves(0, &try{coin: c, patience: time.Second}) {
		t.Error("serves a call though there is no room")
	}
	if f := q.take(0, &try{coin: c}); f.fault != fault503 || !f.hopeless {
		t.Errorf("a call without room: %+v", f)
	}
	if !q.serves(last, &try{coin: c, patience: time.Second}) {
		t.Error("does not serve when all is done")
	}
}

func TestFloodCrashesAQueueThatWarmsUp(t *testing.T) {
	q := &queue{service: service{servers: 4, room: 100, warmUp: 40 * time.Second, flood: 2, downtime: 5 * time.Second}}
	q.warm().start(0)
	c := newCoin(1, "queue")
	first := q.take(0, &try{coin: c.with(0)})
	q.take(0, &try{coin: c.with(1)})
	if q.serves(0, &try{coin: c}) {
		t.Error("would serve the call that floods it")
	}
	if f := q.take(0, &try{coin: c.with(2)}); f.fault != faultReset || !f.hopeless {
		t.Errorf("the flooding call: %+v", f)
	}
	select {
	case <-first.killed:
	default:
		t.Error("the crash spares a call in flight")
	}
	if f := q.take(4*time.Second, &try{coin: c}); f.fault != faultRefused {
		t.Errorf("a call while it is down: %+v", f)
	}
	if f := q.take(6*time.Second, &try{coin: c}); f.fault != faultNone {
		t.Errorf("a call after it is back: %+v", f)
	}
}
