package main

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// loopback is a server on this machine and a pool of connections to it, shared by all subjects.
var loopback = sync.OnceValue(func() *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) }))
})

func overLoopback(s subject) *rig {
	server := loopback()
	rt := s.new(server.Client().Transport)
	return &rig{rt: rt, bench: func(b *testing.B) error { return reading(b, rt, "http://"+hotHost) }}
}
