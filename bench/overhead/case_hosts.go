package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"testing"
)

// amongHosts returns a case's prepare: the subject has been asked for n hosts, once each, and is then asked for one of
// them only.
func amongHosts(n int) func(subject) *rig {
	return func(s subject) *rig {
		hosts := make([]string, n) // the caller's: no part of what a subject keeps
		for i := range hosts {
			hosts[i] = fmt.Sprintf("host-%06d.example.com", i)
		}
		hosts[n/2] = hotHost
		before := kept()
		rt := s.new(empty)
		if err := visit(rt, hosts); err != nil {
			panic(fmt.Sprintf("%s: %v", s.name, err))
		}
		bytes := float64(kept()-before) / float64(n)
		bench := func(b *testing.B) error { return serial(b, rt, upstream) }
		return &rig{rt: rt, bytesPerHost: max(0, bytes), bench: bench}
	}
}

// randomHosts returns a case's prepare: the subject has been asked for n hosts, twice each, and is then asked for all
// of them in one random order, again and again.
func randomHosts(n int) func(subject) *rig {
	return func(s subject) *rig {
		hosts := make([]string, n)
		for i := range hosts {
			hosts[i] = fmt.Sprintf("host-%06d.example.com", i)
		}
		before := kept()
		rt := s.new(empty)
		for range 2 {
			if err := visit(rt, hosts); err != nil {
				panic(fmt.Sprintf("%s: %v", s.name, err))
			}
		}
		bytes := float64(kept()-before) / float64(n)
		rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		next := 0
		return &rig{rt: rt, bytesPerHost: max(0, bytes), bench: func(b *testing.B) error {
			c := newCaller(upstream)
			defer c.cancel()
			b.ReportAllocs()
			for b.Loop() {
				if next++; next == n {
					next = 0
				}
				c.req.URL.Host = hosts[next]
				if err := c.call(rt); err != nil {
					return err
				}
			}
			return nil
		}}
	}
}

func visit(rt http.RoundTripper, hosts []string) error {
	c := newCaller(upstream)
	defer c.cancel()
	for _, host := range hosts {
		c.req.URL.Host, c.req.Host = host, host
		if err := c.call(rt); err != nil {
			return err
		}
	}
	return nil
}

// kept returns the bytes in use, the stacks of goroutines included.
func kept() int64 {
	runtime.GC()
	runtime.GC() // what the first one found dead is swept by now
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
