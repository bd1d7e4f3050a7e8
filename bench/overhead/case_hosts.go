package main

import (
	"fmt"
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
