package main

import (
	"net/http"
	"sync"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// perHost keeps a RoundTripper for each host, as users of a breaker without circuits per host write it.
func perHost(make func() http.RoundTripper) http.RoundTripper {
	var hosts sync.Map
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		rt, ok := hosts.Load(req.URL.Host)
		if !ok {
			rt, _ = hosts.LoadOrStore(req.URL.Host, make())
		}
		return rt.(http.RoundTripper).RoundTrip(req)
	})
}
