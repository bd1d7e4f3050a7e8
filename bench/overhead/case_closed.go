package main

import (
	"net/http"
	"sync/atomic"
	"testing"
)

// over returns a case's prepare: the subject over a base, measured by bench.
func over(base http.RoundTripper, bench func(*testing.B, http.RoundTripper, string) error) func(subject) *rig {
	return func(s subject) *rig {
		rt := s.new(base)
		return &rig{rt: rt, bench: func(b *testing.B) error { return bench(b, rt, upstream) }}
	}
}

func serial(b *testing.B, rt http.RoundTripper, url string) error {
	c := newCaller(url)
	defer c.cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.call(rt); err != nil {
			return err
		}
	}
	return nil
}

func reading(b *testing.B, rt http.RoundTripper, url string) error {
	c := newCaller(url)
	defer c.cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.read(rt); err != nil {
			return err
		}
	}
	return nil
}

// copying is reading by io.Copy.
func copying(b *testing.B, rt http.RoundTripper, url string) error {
	c := newCaller(url)
	defer c.cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.copy(rt); err != nil {
			return err
		}
	}
	return nil
}

func parallel(b *testing.B, rt http.RoundTripper, url string) error {
	var failed atomic.Pointer[error]
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		c := newCaller(url)
		defer c.cancel()
		for pb.Next() {
			if err := c.call(rt); err != nil {
				failed.Store(&err)
				return
			}
		}
	})
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}
