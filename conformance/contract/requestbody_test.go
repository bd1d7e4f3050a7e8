package contract

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

// kinds are the kinds of bodies whose closing can be counted.
var kinds = map[string]func(t *testing.T) io.Reader{
	"stream": func(*testing.T) io.Reader { return chunks("pay", "load") },
	"memory": func(*testing.T) io.Reader { return bytes.NewReader([]byte("payload")) },
	"file": func(t *testing.T) io.Reader {
		f, err := os.Open(filepath.Join("testdata", "body"))
		require.NoError(t, err)
		return f
	},
	"pipe": func(*testing.T) io.Reader {
		body, w := io.Pipe()
		go func() {
			io.WriteString(w, "payload")
			w.Close()
		}()
		return body
	},
}

// ways are the ways that a call can go, by a RoundTripper or a client in front of a base.
var ways = []struct {
	name string
	only func(*network) bool
	wrap func(http.RoundTripper) http.RoundTripper // nil for every wrapper
	// prepare changes the base or the request.
	prepare func(*http.Transport, *http.Request) *http.Request
	serve   http.HandlerFunc
	panics  bool
	closes  []int32 // of the first body and those of GetBody; nil for one body, closed once
}{
	{name: "answered"},
	{name: "failed", serve: answer(500, "sick")},
	{name: "aborted", serve: func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}},
	{name: "not read", serve: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }},
	{name: "refused", wrap: func(base http.RoundTripper) http.RoundTripper { return refusing(base) }},
	{name: "refused by an error", wrap: func(base http.RoundTripper) http.RoundTripper {
		rt := transport.New(base, oneCircuit, transport.WithRefusalError())
		rt.SetState(transport.Key{}, 1)
		return rt
	}},
	{name: "no connection", prepare: func(base *http.Transport, req *http.Request) *http.Request {
		base.DialContext = refused
		return req
	}},
	{name: "canceled before", prepare: func(_ *http.Transport, req *http.Request) *http.Request {
		ctx, cancel := context.WithCancel(req.Context())
		cancel()
		return req.WithContext(ctx)
	}},
	{name: "no URL", prepare: func(_ *http.Transport, req *http.Request) *http.Request { req.URL = nil; return req }},
	{name: "no Header", prepare: func(_ *http.Transport, req *http.Request) *http.Request { req.Header = nil; return req }},
	{name: "bad method", prepare: func(_ *http.Transport, req *http.Request) *http.Request { req.Method = "A B"; return req }},
	{name: "panic in the base", prepare: func(base *http.Transport, req *http.Request) *http.Request {
		base.Proxy = nil
		base.RegisterProtocol("panic", roundTripper(func(req *http.Request) (*http.Response, error) {
			req.Body.Close() // as a RoundTripper must
			panic("base")
		}))
		req.URL.Scheme = "panic"
		return req
	}, panics: true},
	// http.Client closes the first body once more by itself.
	{name: "redirected", serve: redirect(307), closes: []int32{2, 1}},
	{name: "stale connection", only: overHTTP1, serve: stale, prepare: func(_ *http.Transport, req *http.Request) *http.Request {
		req.URL.Path = "/stale"
		req.Header.Set("Idempotency-Key", "1")
		return req
	}, closes: []int32{1, 1}},
}

// Every wrapper is held to it, and the bare base too.
func TestEveryRequestBodyIsClosedExactlyOnce(t *testing.T) {
	noLeaks(t)
	for _, n := range networks()[:4] {
		t.Run(n.name, func(t *testing.T) {
			n.start(t)
			for _, way := range ways {
				for kind, open := range kinds {
					for _, w := range append(wrappers, bare) {
						if way.only != nil && !way.only(n) {
							continue
						}
						if way.wrap != nil {
							w.wrap = way.wrap
						}
						serve := way.serve
						if serve == nil {
							serve = echo
						}
						n.handler.Store(&serve)
						before := runtime.NumGoroutine()
						base := n.base()
						client := &http.Client{Transport: w.wrap(base)}
						var bodies []*counted
						make := func() (io.ReadCloser, error) {
							b := &counted{Reader: open(t)}
							bodies = append(bodies, b)
							return b, nil
						}
						if way.name == "stale connection" {
							resp, err := client.Get(n.scheme + "://a.example.com/")
							require.NoError(t, err)
							io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
						}
						req := newRequest(t, http.MethodPost, n.scheme+"://a.example.com/from")
						req.Body, _ = make()
						req.GetBody = make
						if way.prepare != nil {
							req = way.prepare(base, req)
						}
						call(t, client, req, way.panics)
						require.NoError(t, settle(base, before))
						closes := []int32{1}
						if way.closes != nil {
							closes = way.closes
						}
						var got []int32
						for _, b := range bodies {
							got = append(got, b.closes.Load())
						}
						require.Equal(t, closes, got, "%s, %s, %s", way.name, kind, w.name)
					}
				}
			}
		})
	}
}

// call makes a call as a client does, and without one where a client would not.
func call(t *testing.T, client *http.Client, req *http.Request, panics bool) {
	defer func() {
		if panics {
			require.Equal(t, "base", recover())
		}
	}()
	do := client.Do
	if req.URL == nil || req.Header == nil {
		do = client.Transport.RoundTrip
	}
	resp, err := do(req)
	if err != nil {
		return
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func TestARefusalClosesBodiesOfNetHTTPsOwnKinds(t *testing.T) {
	noLeaks(t)
	f, err := os.Open(filepath.Join("testdata", "body"))
	require.NoError(t, err)
	pipe, feed := io.Pipe()
	for _, body := range []io.ReadCloser{f, pipe, io.NopCloser(strings.NewReader("payload")), http.NoBody, nil} {
		req := newRequest(t, http.MethodPost, "http://upstream.test/")
		req.Body = body
		resp, err := refusing(http.DefaultTransport).RoundTrip(req)
		require.NoError(t, err)
		require.True(t, transport.Refused(resp))
		resp.Body.Close()
	}
	require.ErrorIs(t, f.Close(), os.ErrClosed)
	_, err = feed.Write([]byte("x"))
	require.ErrorIs(t, err, io.ErrClosedPipe, "who feeds the pipe is told")
}
