package main

import (
	"bytes"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// answer returns the response that was made with the caller. A request carries it in a field that matters to redirects
// only, and copies of the request carry it too: nothing has to be looked up, and no two callers share a response, which
// some subjects change.
func answer(req *http.Request, status int, body io.ReadCloser, length int) *http.Response {
	resp := req.Response
	resp.StatusCode, resp.Body, resp.ContentLength = status, body, int64(length)
	return resp
}

// empty is a base whose answers have no body.
var empty = peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
	return answer(req, http.StatusOK, http.NoBody, 0), nil
})

// full is a base whose answers have a small body each.
var full = peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
	return answer(req, http.StatusOK, &body{rest: page}, len(page)), nil
})

// writing is a base whose answers have a body each that can write itself.
var writing = peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
	return answer(req, http.StatusOK, &writer{body{rest: page}}, len(page)), nil
})

// inMemory is a base whose answers have a body in memory each.
var inMemory = peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
	return answer(req, http.StatusOK, io.NopCloser(bytes.NewReader(page)), len(page)), nil
})

// failing is a base whose calls all fail. It counts them.
type failing struct{ calls atomic.Int64 }

// RoundTrip implements http.RoundTripper.
func (f *failing) RoundTrip(req *http.Request) (*http.Response, error) {
	f.calls.Add(1)
	return answer(req, http.StatusInternalServerError, http.NoBody, 0), nil
}

var page = bytes.Repeat([]byte("fuse"), 64)

// A body is page, once.
type body struct{ rest []byte }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }

// A writer is a body that can write itself.
type writer struct{ body }

// WriteTo implements io.WriterTo.
func (w *writer) WriteTo(to io.Writer) (int64, error) {
	n, err := to.Write(w.rest)
	w.rest = w.rest[n:]
	return int64(n), err
}
