package main

import (
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
)

// mode is how the server is.
type mode int32

const (
	works mode = iota
	fails
	hangs
)

func (m mode) String() string {
	return [...]string{"works", "answers 500 to everything", "hangs: takes every request and answers none"}[m]
}

// server is the upstream: a real one, with a mode.
type server struct {
	http.Server
	url     string
	mode    atomic.Int32
	arrived [hangs + 1]atomic.Int64 // requests, by the mode that they met
}

func startServer() (*server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &server{url: "http://" + listener.Addr().String()}
	s.Handler = s
	go s.Serve(listener) // until Close
	return s, nil
}

func (s *server) set(m mode) { s.mode.Store(int32(m)) }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := mode(s.mode.Load())
	s.arrived[m].Add(1)
	switch m {
	case fails:
		http.Error(w, "out of order", http.StatusInternalServerError)
	case hangs:
		<-r.Context().Done() // the caller gave up
	default:
		fmt.Fprintln(w, "hello")
	}
}
