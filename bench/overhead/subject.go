package main

import "net/http"

// A subject is a set-up of a breaker.
type subject struct {
	name  string
	about string
	own   bool // Fusebox, and not a peer

	// perHost: it keeps circuits per host; native: by itself, and not by a sync.Map around it.
	perHost, native bool

	// only: the names of the cases that it is in; all if empty.
	only []string
	// probes is how many calls have to go well until an open circuit is half-open.
	probes int64

	new func(base http.RoundTripper) http.RoundTripper
}

// bare is no breaker at all: what the others are measured against.
var bare = subject{
	name: "base", about: "no breaker",
	new: func(base http.RoundTripper) http.RoundTripper { return base },
}

// subjects returns all of them but bare. Those that start goroutines which never end come last, hystrix-go at the very
// end: after 100,000 hosts whoever is measured next would pay for them.
func subjects() []subject {
	return append(fuseboxes(),
		gobreakerSingle, gobreakerPerHost, gobreakerQuick, failsafePerHost, rubyist, aegis, gozero, handy, hystrixGo)
}
