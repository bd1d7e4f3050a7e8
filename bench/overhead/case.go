package main

import (
	"net/http"
	"slices"
	"testing"
)

// A testCase is a thing that is measured of every subject.
type testCase struct {
	name  string
	about string

	// whole: it is the whole time that counts, and not what is over the base's.
	whole bool
	// apart: subjects take so much memory that only one is kept at a time.
	apart bool
	// only: the names of the subjects that are in it; all if empty.
	only []string

	// prepare makes a subject ready.
	prepare func(s subject) *rig
}

// A rig is a subject that is ready to be measured in a case.
type rig struct {
	rt    http.RoundTripper
	bench func(b *testing.B) error

	// bytesPerHost is what it keeps for each host, if the case is about that.
	bytesPerHost float64
}

// hotHost is the host that is measured. The transport of an httptest.Server finds the server behind its name.
const (
	hotHost  = "upstream.example.com"
	upstream = "https://" + hotHost
)

func cases() []testCase {
	return []testCase{
		{name: "serial", about: "closed, one caller, no body", prepare: over(empty, serial)},
		{name: "parallel", about: "closed, all processors call one host, no body", prepare: over(empty, parallel)},
		{name: "body", about: "closed, one caller, body read to its end", prepare: over(full, reading)},
		{name: "body-writerto", about: "closed, one caller, a body that writes itself to an io.Writer",
			prepare: over(writing, copying)},
		{name: "body-memory", about: "closed, one caller, a body in memory, read to its end",
			prepare: over(inMemory, reading)},
		{name: "refusal", about: "open, one caller", whole: true, prepare: tripped},
		{name: "refusals", about: "open, 64 goroutines at once", whole: true, prepare: trippedForAll},
		{name: "refusals-half-open", about: "half-open, as many calls in flight as may be, 64 goroutines at once",
			whole: true, only: []string{"fusebox", "fusebox-error", "gobreaker-quick"}, prepare: halfOpenForAll},
		{name: "loopback", about: "closed, one caller, a real server and http.Transport, body read to its end",
			whole: true, prepare: overLoopback},
		{name: "hosts-1000", about: "closed, one hot host among 1,000", apart: true, prepare: amongHosts(1000)},
		{name: "hosts-100000", about: "closed, one hot host among 100,000", apart: true, prepare: amongHosts(100_000)},
		{name: "random-1000", about: "closed, 1,000 hosts in random order", apart: true, only: ofManyHosts,
			prepare: randomHosts(1000)},
		{name: "random-100000", about: "closed, 100,000 hosts in random order", apart: true, only: ofManyHosts,
			prepare: randomHosts(100_000)},
	}
}

// ofManyHosts are the subjects of random order: each forgets no host, and has circuits per host.
var ofManyHosts = []string{"fusebox-unbounded", "gobreaker", "failsafe"}

func (c *testCase) takes(s subject) bool {
	return (len(s.only) == 0 || slices.Contains(s.only, c.name)) &&
		(len(c.only) == 0 || slices.Contains(c.only, s.name))
}

// groups returns the subjects that are measured in turns, the bare base being one in each group.
func (c *testCase) groups(all []subject) [][]subject {
	together := []subject{bare}
	var groups [][]subject
	for _, s := range all {
		switch {
		case !c.takes(s):
		case c.apart:
			groups = append(groups, []subject{bare, s})
		default:
			together = append(together, s)
		}
	}
	if !c.apart {
		groups = append(groups, together)
	}
	return groups
}
