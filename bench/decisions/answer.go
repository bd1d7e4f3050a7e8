package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// A fault is a way for a call to fail.
type fault int

const (
	faultNone    fault = iota
	faultRefused       // nobody listens
	faultReset         // the connection breaks before the headers
	fault503           // an honest 503
	faultHang          // no answer for as long as the caller waits
	faultBody          // good headers, and a body that breaks
)

var page = bytes.Repeat([]byte("fuse"), 64)

// answer returns what a call with that fault gets from the network.
func answer(req *http.Request, f fault, retryAfter time.Duration) (*http.Response, error) {
	switch f {
	case faultRefused:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	case faultReset, faultHang:
		return nil, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	resp := &http.Response{
		StatusCode: http.StatusOK, Status: "200 OK",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, ContentLength: int64(len(page)), Request: req,
	}
	body := &body{rest: page}
	resp.Body = body
	switch f {
	case fault503:
		resp.StatusCode, resp.Status = http.StatusServiceUnavailable, "503 Service Unavailable"
		if retryAfter > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
		}
	case faultBody:
		body.rest, body.breaks = page[:len(page)/2], true
	}
	return resp, nil
}

// A body ends well, or breaks.
type body struct {
	rest   []byte
	breaks bool
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.breaks {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error { return nil }
