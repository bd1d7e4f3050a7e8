package transport

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
)

// requestBody finds out whether a request's body failed to read: http.Transport returns that error as it is, and then
// it looks like one of the upstream's.
type requestBody struct {
	io.ReadCloser
	seen   *bodyErrors
	closed atomic.Bool
}

// bodyErrors is what the bodies of one call failed with; there is more than one if the base starts anew by GetBody.
type bodyErrors struct{ first atomic.Pointer[error] }

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && !b.closed.Load() { // after Close, failing is what is expected
		b.seen.first.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (b *requestBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

func (e *bodyErrors) get() error {
	if e == nil {
		return nil
	}
	if first := e.first.Load(); first != nil {
		return *first
	}
	return nil
}

// watchBody returns the request to send. It is the caller's own, unless it has a body that can fail to read: then
// it is a shallow copy with a body that remembers how.
func watchBody(req *http.Request) (*http.Request, *bodyErrors) {
	if !canFail(req.Body) {
		return req, nil
	}
	seen := new(bodyErrors)
	sent := new(http.Request)
	*sent = *req
	sent.Body = &requestBody{ReadCloser: req.Body, seen: seen}
	if req.GetBody != nil {
		sent.GetBody = func() (io.ReadCloser, error) {
			body, err := req.GetBody()
			if err != nil {
				seen.first.CompareAndSwap(nil, &err)
				return nil, err
			}
			return &requestBody{ReadCloser: body, seen: seen}, nil
		}
	}
	return sent, seen
}

var (
	nopCloser         = reflect.TypeOf(io.NopCloser(nil))
	nopCloserWriterTo = reflect.TypeOf(io.NopCloser(struct {
		io.Reader
		io.WriterTo
	}{}))
)

// canFail reports whether there is a body whose reading can fail without its error saying so. Those that http.NewRequest
// makes are in memory, and the error of a file is known by its type. net/http does better with these bodies if it sees
// what they are.
func canFail(body io.Reader) bool {
	if body == nil || body == http.NoBody {
		return false
	}
	switch body.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader, *os.File:
		return false
	}
	if t := reflect.TypeOf(body); t == nopCloser || t == nopCloserWriterTo {
		inner, ok := reflect.ValueOf(body).Field(0).Interface().(io.Reader)
		return !ok || canFail(inner)
	}
	return true
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
