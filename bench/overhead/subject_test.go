package main

import (
	"net/http"
	"testing"

	"github.com/fusebox-go/fusebox/transport"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// each runs a test for every subject, one at a time: the circuits of hystrix-go are global.
func each(t *testing.T, f func(*testing.T, subject)) {
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) { f(t, s) })
	}
}

func TestSubjectPassesGoodCalls(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		calls := 0
		rt := s.new(peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
			calls++
			return full(req)
		}))
		c := newCaller(upstream)
		defer c.cancel()
		for range 1000 {
			if err := c.read(rt); err != nil {
				t.Fatal(err)
			}
		}
		if calls != 1000 {
			t.Errorf("%d of 1000 calls reached the base", calls)
		}
	})
}

func TestSubjectHandsOnTheWholeBody(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		c := newCaller(upstream)
		defer c.cancel()
		resp, err := s.new(full).RoundTrip(c.req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, _ := resp.Body.Read(c.buf); n != len(page) {
			t.Errorf("read %d bytes of %d", n, len(page))
		}
	})
}

func TestTrippedSubjectRefuses(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		base := &failing{}
		rt := s.new(base)
		c := newCaller(upstream)
		defer c.cancel()
		if err := trip(c, rt, base); err != nil {
			t.Fatal(err)
		}
		before, refused := base.calls.Load(), int64(0)
		for range 1000 {
			resp, err := rt.RoundTrip(c.req)
			if err != nil || transport.Refused(resp) {
				refused++
			}
			if err == nil {
				resp.Body.Close()
			}
		}
		passed := base.calls.Load() - before
		if refused < 990 || passed > 10 || refused+passed != 1000 {
			t.Errorf("of 1000 calls, %d were refused and %d passed", refused, passed)
		}
	})
}

func TestTrippedSubjectStillServesOtherHosts(t *testing.T) {
	each(t, func(t *testing.T, s subject) {
		bad := &failing{}
		rt := s.new(peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == hotHost {
				return bad.RoundTrip(req)
			}
			return empty(req)
		}))
		c := newCaller(upstream)
		defer c.cancel()
		if err := trip(c, rt, bad); err != nil {
			t.Fatal(err)
		}
		other := newCaller("https://other.example")
		defer other.cancel()
		if err := other.call(rt); s.perHost != (err == nil) {
			t.Errorf("circuits per host: %v, but the call to another host ended with %v", s.perHost, err)
		}
	})
}

func TestTripFailsIfNobodyRefuses(t *testing.T) {
	base := &failing{}
	c := newCaller(upstream)
	defer c.cancel()
	if err := trip(c, bare.new(base), base); err == nil {
		t.Error("trip is content with a subject that is never open")
	}
}
