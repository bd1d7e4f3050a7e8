package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A floor is a step that a breaker may need.
type floor struct {
	name  string
	bench func(b *testing.B)
}

// sink keeps the compiler from leaving the steps out.
var sink struct {
	any  any
	int  int64
	time time.Time
	box  *[64]byte
	list *[88]*byte
}

var started = time.Now()

// parent is a context that can end, as those of servers and of clients with a timeout can.
var parent, _ = context.WithCancel(context.Background())

func floors() []floor {
	return []floor{
		{"sync.Map load, string, 1,000 keys", loads(func(i int) string {
			return fmt.Sprintf("host-%06d.example.com", i)
		})},
		{"sync.Map load, struct of 3 strings, 1,000 keys", loads(func(i int) [3]string {
			return [3]string{"https", fmt.Sprintf("host-%06d.example.com", i), ""}
		})},
		{"atomic load", func(b *testing.B) {
			var v atomic.Int64
			for b.Loop() {
				sink.int = v.Load()
			}
		}},
		{"atomic add", func(b *testing.B) {
			var v atomic.Int64
			for b.Loop() {
				v.Add(1)
			}
			sink.int = v.Load()
		}},
		{"time.Since", func(b *testing.B) {
			for b.Loop() {
				sink.int = int64(time.Since(started))
			}
		}},
		{"time.Now", func(b *testing.B) {
			for b.Loop() {
				sink.time = time.Now()
			}
		}},
		{"allocation of 64 bytes", func(b *testing.B) {
			for b.Loop() {
				sink.box = new([64]byte)
			}
		}},
		{"allocation of 704 bytes with pointers", func(b *testing.B) {
			for b.Loop() {
				sink.list = new([88]*byte)
			}
		}},
		{"http.Response and a header of 4", func(b *testing.B) {
			value := []string{"value"}
			for b.Loop() {
				sink.any = &http.Response{Header: http.Header{"A": value, "B": value, "C": value, "D": value}}
			}
		}},
		{"context.WithCancelCause and its end", func(b *testing.B) {
			for b.Loop() {
				ctx, cancel := context.WithCancelCause(parent)
				sink.any = ctx
				cancel(nil)
			}
		}},
		{"context.WithTimeout and its end", func(b *testing.B) {
			for b.Loop() {
				ctx, cancel := context.WithTimeout(parent, time.Minute)
				sink.any = ctx
				cancel()
			}
		}},
		{"time.AfterFunc and Stop", func(b *testing.B) {
			for b.Loop() {
				time.AfterFunc(time.Minute, func() {}).Stop()
			}
		}},
		{"Reset and Stop of a timer that is there", func(b *testing.B) {
			timer := time.AfterFunc(time.Minute, func() {})
			for b.Loop() {
				timer.Reset(time.Minute)
				timer.Stop()
			}
		}},
		{"shallow copy of a request", func(b *testing.B) {
			req := &http.Request{}
			for b.Loop() {
				sink.any = req.WithContext(parent)
			}
		}},
	}
}

func loads[K comparable](key func(int) K) func(*testing.B) {
	return func(b *testing.B) {
		const n = 1000
		var m sync.Map
		for i := range n {
			m.Store(key(i), i)
		}
		hot := key(n / 2)
		for b.Loop() {
			sink.any, _ = m.Load(hot)
		}
	}
}
