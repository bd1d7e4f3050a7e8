// Package testkit is what the tests of several packages need.
package testkit

import (
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// RoundTripper is a function as a base.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip calls the function.
func (f RoundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Answer is a base that gives a status and a body.
func Answer(status int, body string) RoundTripper {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: http.Header{}, Request: req,
			Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	}
}

// Hosts are a base that answers for all hosts, with a 204, but for those that are broken or full. The zero value has
// none of those. Its methods may be called by many goroutines at once.
type Hosts struct {
	mu     sync.Mutex
	broken map[string]bool
	full   map[string]int // the status; 0 if a host is not full any more
	calls  int            // of those
}

// Break has calls of the hosts fail.
func (h *Hosts) Break(hosts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken = make(map[string]bool)
	}
	for _, host := range hosts {
		h.broken[host] = true
	}
}

// Mend has hosts answer again: all of them, if none is named.
func (h *Hosts) Mend(hosts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, host := range hosts {
		delete(h.broken, host)
	}
	if len(hosts) == 0 {
		clear(h.broken)
	}
}

// Fill has hosts turn every other call away, by that status; 0 for none any more. Their calls take 10 ms.
func (h *Hosts) Fill(status int, hosts ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.full == nil {
		h.full = make(map[string]int)
	}
	for _, host := range hosts {
		h.full[host] = status
	}
}

// RoundTrip answers, or fails.
func (h *Hosts) RoundTrip(req *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken[req.URL.Host] {
		return nil, io.ErrUnexpectedEOF
	}
	status := http.StatusNoContent
	if full, ok := h.full[req.URL.Host]; ok {
		if h.calls++; h.calls%2 == 0 && full != 0 {
			status = full
		}
		h.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		h.mu.Lock()
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: req}, nil
}

// Server is a real server on loopback whose status a test can change. It is 200 at first, and the body is "from the
// upstream".
type Server struct {
	*httptest.Server
	Status atomic.Int32
	Calls  atomic.Int32 // that have come
}

// NewServer starts a Server, which is closed when the test ends.
func NewServer(tb testing.TB) *Server {
	s := new(Server)
	s.Status.Store(http.StatusOK)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.Calls.Add(1)
		w.WriteHeader(int(s.Status.Load()))
		io.WriteString(w, "from the upstream")
	}))
	tb.Cleanup(s.Close)
	return s
}

// Brief says that a run makes fewer rounds: a short one does, and one under the race detector, which takes ten times as
// long for each. A test that is about many goroutines at once asks for testing.Short alone.
func Brief() bool { return testing.Short() || Race }

// OneIn returns a function that says of one case after the other whether to try it: all of them, but in a brief run one
// in n, and others each time.
func OneIn(n int) func() bool {
	i := rand.IntN(n)
	return func() bool {
		i++
		return !Brief() || i%n == 0
	}
}

// LiveHeap returns how many bytes of the heap are in use.
func LiveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what had a finalizer
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
