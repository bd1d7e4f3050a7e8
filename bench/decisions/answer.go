package main

import (
	"bytes"
	"context"
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
	fault500           // a 500
	fault429           // too many requests
	faultHang          // no answer for as long as the caller waits
	faultBody          // good headers, and a body that breaks
)

var statusOf = map[fault]int{
	fault503: http.StatusServiceUnavailable,
	fault500: http.StatusInternalServerError,
	fault429: http.StatusTooManyRequests,
}

var page = bytes.Repeat([]byte("fuse"), 64)

// answer returns what a call with that fault gets from the network. A whole body lasts for a while after its headers.
func answer(req *http.Request, f fault, retryAfter, lasts time.Duration) (*http.Response, error) {
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
	case faultNone:
		if lasts > 0 {
			body.ctx, body.end = req.Context(), time.Now().Add(lasts)
		}
	case faultBody:
		body.rest, body.breaks = page[:len(page)/2], true
	default:
		resp.StatusCode = statusOf[f]
		resp.Status = strconv.Itoa(resp.StatusCode) + " " + http.StatusText(resp.StatusCode)
		if retryAfter > 0 {
			resp.Header.Set("Retry-After", strconv.Itoa(int((retryAfter+time.Second-1)/time.Second)))
		}
	}
	return resp, nil
}

// A body ends well, or breaks. It comes in halves if it has a time to end at.
type body struct {
	rest   []byte
	breaks bool

	ctx context.Context
	end time.Time // when its second half comes; zero: at once
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.breaks {
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	}
	rest := b.rest
	switch {
	case b.end.IsZero():
	case len(rest) > len(page)/2:
		rest = rest[:len(rest)-len(page)/2]
	default:
		timer := time.NewTimer(time.Until(b.end))
		defer timer.Stop()
		select {
		case <-b.ctx.Done():
			return 0, b.ctx.Err()
		case <-timer.C:
		}
	}
	n := copy(p, rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *body) Close() error { return nil }
