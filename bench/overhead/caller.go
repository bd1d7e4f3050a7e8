package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// A caller is one goroutine's request, used again and again, and room for what comes back. It can be cancelled, as
// those of servers and of clients with a timeout can.
type caller struct {
	req    *http.Request
	buf    []byte
	cancel context.CancelFunc
}

// newCaller returns a caller of an upstream. The answer of the stub is made with it: see answer.
func newCaller(u string) *caller {
	ctx, cancel := context.WithCancel(context.Background())
	parsed, err := url.Parse(u)
	if err != nil {
		panic(err)
	}
	req := (&http.Request{
		Method: http.MethodGet, URL: parsed, Host: parsed.Host, Header: http.Header{},
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Response: newResponse(),
	}).WithContext(ctx)
	return &caller{req: req, buf: make([]byte, 512), cancel: cancel}
}

// newResponse returns a response that shares no cache line with that of another caller: the stub writes to it.
func newResponse() *http.Response {
	var apart struct {
		_    [128]byte
		resp http.Response
		_    [128]byte
	}
	apart.resp = http.Response{
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/plain"}},
	}
	return &apart.resp
}

// call makes a call that has to go well, and closes the answer's body.
func (c *caller) call(rt http.RoundTripper) error {
	resp, err := rt.RoundTrip(c.req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return resp.Body.Close()
}

// read is call with the answer's body read to its end.
func (c *caller) read(rt http.RoundTripper) error {
	resp, err := rt.RoundTrip(c.req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	for {
		if _, err := resp.Body.Read(c.buf); err == io.EOF {
			return resp.Body.Close()
		} else if err != nil {
			return err
		}
	}
}

// copy is read for a body that may write itself.
func (c *caller) copy(rt http.RoundTripper) error {
	resp, err := rt.RoundTrip(c.req)
	if err != nil {
		return err
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 {
		return fmt.Errorf("%d bytes and %w", n, err)
	}
	return resp.Body.Close()
}

// ask makes a call that goes as it goes.
func (c *caller) ask(rt http.RoundTripper) {
	if resp, err := rt.RoundTrip(c.req); err == nil {
		resp.Body.Close()
	}
}
