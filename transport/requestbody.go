package transport

import (
	"bytes"
	"errors"
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
	length int64 // that the request says; 0 or less if it does not
	read   int64
	closed atomic.Bool
}

var errLength = errors.New("fusebox: the request's body is of another length than its ContentLength")

// bodyErrors is what the bodies of one call failed with; there is more than one if the base starts anew by GetBody.
type bodyErrors struct{ first atomic.Pointer[error] }

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read += int64(n)
	switch {
	case b.closed.Load(): // then failing is what is expected
	case err != nil && err != io.EOF:
		b.seen.first.CompareAndSwap(nil, &err)
	case b.length > 0 && (b.read > b.length || err == io.EOF && b.read < b.length):
		b.seen.first.CompareAndSwap(nil, &errLength)
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

// watchBody returns the request to send. It is the caller's own, unless it has a body that can fail to read in any way:
// then it is a shallow copy with a body that remembers how.
func watchBody(req *http.Request) (*http.Request, *bodyErrors) {
	kind := bodyOf(req)
	if kind == plain {
		return req, nil
	}
	seen := new(bodyErrors)
	if kind == misfit {
		seen.first.Store(&errLength)
		return req, seen
	}
	sent := new(http.Request)
	*sent = *req
	sent.Body = &requestBody{ReadCloser: req.Body, seen: seen, length: req.ContentLength}
	if req.GetBody != nil {
		sent.GetBody = func() (io.ReadCloser, error) {
			body, err := req.GetBody()
			if err != nil {
				seen.first.CompareAndSwap(nil, &err)
				return nil, err
			}
			return &requestBody{ReadCloser: body, seen: seen, length: req.ContentLength}, nil
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

// bodyKind is what can go wrong with the reading of a request's body.
type bodyKind uint8

const (
	plain  bodyKind = iota // nothing of which the error does not say so; or there is no body
	misfit                 // it is in memory, and of another length than the request says
	stream                 // anything
)

// bodyOf knows bodies that http.NewRequest makes, which are in memory, and files, whose errors have a type of their
// own. net/http does better with these if it sees what they are.
func bodyOf(req *http.Request) bodyKind {
	if req.Body == nil || req.Body == http.NoBody {
		return plain
	}
	body := io.Reader(req.Body)
	for {
		switch b := body.(type) {
		case *os.File:
			return plain
		case *bytes.Reader, *bytes.Buffer, *strings.Reader:
			if length := b.(interface{ Len() int }).Len(); req.ContentLength > 0 && req.ContentLength != int64(length) {
				return misfit
			}
			return plain
		}
		if t := reflect.TypeOf(body); t != nopCloser && t != nopCloserWriterTo {
			return stream
		}
		var ok bool
		if body, ok = reflect.ValueOf(body).Field(0).Interface().(io.Reader); !ok {
			return stream
		}
	}
}

// inMemory knows bodies of responses that are read without anybody having to wait, and cannot break.
func inMemory(body io.ReadCloser) bool {
	t := reflect.TypeOf(body)
	if t != nopCloser && t != nopCloserWriterTo {
		return false
	}
	switch reflect.ValueOf(body).Field(0).Interface().(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}
