//go:build linux

package faults_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/http2"

	"github.com/fusebox-go/fusebox/policy"
)

// fault is something that goes wrong with a call, and who is to blame: the outcome must say the same.
type fault struct {
	name string
	want policy.Outcome
	set  func(*scene)
}

const (
	upstreams = policy.Failure   // the upstream, or whatever stands between
	nobodys   = policy.Success   // nobody: the upstream did its work
	ours      = policy.Ignored   // the caller, or this machine
	unwatched = policy.Undecided // the caller, and before the call: nobody is told
)

var errBody = errors.New("the disk of the caller is gone")

const (
	ok         = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
	halfHeader = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
	halfBody   = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it"
	halfChunk  = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n64\r\nsome of it"
)

func says(text string, end ending) func(*scene) { return func(s *scene) { s.says(text, end) } }
func answers(text string) func(*scene)          { return func(s *scene) { s.answers(text) } }
func status(line string, header ...string) func(*scene) {
	return answers("HTTP/1.1 " + line + "\r\n" + strings.Join(append(header, "Content-Length: 5", "", "hello"), "\r\n"))
}

// and combines what a fault is made of.
func and(parts ...func(*scene)) func(*scene) {
	return func(s *scene) {
		for _, part := range parts {
			part(s)
		}
	}
}

// Who gives up, and when.
func deadline(s *scene)      { s.deadline = true }
func clientTimeout(s *scene) { s.client.Timeout = s.wait }
func deaf(s *scene)          { s.deaf = true }
func inTheBody(s *scene)     { s.bodyTimeout = true }
func post(s *scene) {
	s.method, s.body = http.MethodPost, func(context.Context) io.Reader { return iotest.OneByteReader(strings.NewReader("payload")) }
}
func posts(body func(context.Context) io.Reader, length int64) func(*scene) {
	return func(s *scene) { s.method, s.body, s.length = http.MethodPost, body, length }
}
func mute(s *scene) { s.serve(hangs) }

// unanswered is a request that is read and gets no answer.
func unanswered(s *scene) { s.says("", hangs) }

// warmed is an upstream to which connections are kept alive: they got one answer each, and now the next request
// on them gets what then does.
func warmed(then ending) func(*scene) {
	return func(s *scene) {
		s.serve(func(c *conn) {
			if c.request() {
				io.WriteString(c, ok)
				then(c)
			}
		})
		s.before = func() {
			req, err := http.NewRequest(http.MethodGet, s.url, nil)
			require.NoError(s.t, err)
			resp, err := s.base.RoundTrip(req) // not by the client: it is no call of the circuit
			require.NoError(s.t, err)
			_, err = io.Copy(io.Discard, resp.Body)
			require.NoError(s.t, err)
			resp.Body.Close()
		}
	}
}

// dies is an ending with the next request.
func dies(c *conn) { c.request() }

// resolving looks names up by a server that answers as it is told, or not at all.
func resolving(answer func(*dnsmessage.Message)) func(*scene) {
	return func(s *scene) {
		server, err := net.ListenPacket("udp", "127.0.0.1:0")
		require.NoError(s.t, err)
		var serving sync.WaitGroup
		serving.Go(func() {
			var packet [1500]byte
			for {
				n, from, err := server.ReadFrom(packet[:])
				if err != nil {
					return
				}
				var m dnsmessage.Message
				if m.Unpack(packet[:n]) != nil || answer == nil {
					continue
				}
				m.Response, m.Additionals = true, nil
				answer(&m)
				packed, _ := m.Pack()
				server.WriteTo(packed, from)
			}
		})
		var mu sync.Mutex
		var asked []net.Conn
		over := false
		s.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			if over {
				return nil, net.ErrClosed
			}
			raw, err := new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
			if err == nil {
				asked = append(asked, raw)
			}
			return raw, err
		}}
		s.dialer.Timeout = generously
		s.url = "http://upstream.test./" // nothing that this machine could add to the name
		s.atEnd(func() {
			// The resolver of package net goes on waiting for an answer when nobody waits for it any more.
			mu.Lock()
			over = true
			for _, raw := range asked {
				raw.Close()
			}
			mu.Unlock()
			server.Close()
			serving.Wait()
		})
	}
}

func rcode(code dnsmessage.RCode) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) { m.RCode = code }
}

// gzipped is an answer with a compressed body that http.Transport takes apart by itself.
func gzipped(spoil func([]byte) []byte) func(*scene) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	for i := range 1000 {
		fmt.Fprintln(zip, i)
	}
	zip.Close()
	body := spoil(packed.Bytes())
	return answers(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
}

// stalled is a request's body of which nothing comes before its caller's deadline, as from a client of the caller's own.
type stalled struct{ ctx context.Context }

func newStalled(ctx context.Context) io.Reader { return stalled{ctx} }
func (b stalled) Read([]byte) (int, error)     { <-b.ctx.Done(); return 0, b.ctx.Err() }

func http2With(answer func(*conn, stream) bool) func(*scene) {
	return func(s *scene) { s.http2(answer) }
}

// h2ok answers and goes on.
func h2ok(_ *conn, r stream) bool {
	r.headers("200", false)
	r.WriteData(r.id, true, []byte("hello"))
	return true
}

func reset(code http2.ErrCode) func(*conn, stream) bool {
	return func(_ *conn, r stream) bool { r.WriteRSTStream(r.id, code); return true }
}

// goesAway says that the connection ends, and that no request after last was looked at; and closes it.
func goesAway(last func(stream) uint32, code http2.ErrCode) func(*conn, stream) bool {
	return func(_ *conn, r stream) bool { r.WriteGoAway(last(r), code, nil); return false }
}

func beforeThis(stream) uint32 { return 0 }
func atThis(r stream) uint32   { return r.id }

// once does something at the first request only, and answers the others.
func once(first func(*conn, stream) bool) func(*conn, stream) bool {
	return func(c *conn, r stream) bool {
		if r.n == 1 {
			return first(c, r)
		}
		return h2ok(c, r)
	}
}

func inH2Body(then func(*conn, stream) bool) func(*conn, stream) bool {
	return func(c *conn, r stream) bool {
		r.headers("200", false)
		r.WriteData(r.id, false, []byte("some of it"))
		goOn := true
		inBody(func(c *conn) { goOn = then(c, r) })(c)
		return goOn
	}
}

var faults = []fault{
	// Names
	{"DNS: no such host", upstreams, resolving(rcode(dnsmessage.RCodeNameError))},
	{"DNS: the server fails", upstreams, resolving(rcode(dnsmessage.RCodeServerFailure))},
	{"DNS: the server does not answer, until the base's own dial timeout", upstreams, and(resolving(nil), func(s *scene) { s.dialer.Timeout = s.wait })},
	{"DNS: the server does not answer, until the caller's deadline", upstreams, and(resolving(nil), deadline)},

	// Connecting
	{"connection refused", upstreams, (*scene).refuses},
	{"connecting: black hole, until the base's own dial timeout", upstreams, and((*scene).swallows, func(s *scene) { s.dialer.Timeout = s.wait })},
	{"connecting: black hole, until the caller's deadline", upstreams, and((*scene).swallows, deadline)},
	{"connecting: black hole, until `http.Client.Timeout`", upstreams, and((*scene).swallows, clientTimeout)},
	{"connecting: black hole, until the caller cancels", ours, and((*scene).swallows, func(s *scene) { s.onDial = s.giveUp })},
	{"the forward proxy refuses the connection", ours, func(s *scene) {
		s.refuses()
		s.base.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: "proxy.test"})
	}},
	{"no file descriptor left", ours, func(s *scene) {
		s.answers(ok)
		var limit syscall.Rlimit
		s.before = func() {
			require.NoError(s.t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
			require.NoError(s.t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}))
		}
		s.after = func() { require.NoError(s.t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }
	}},
	{"the local port to connect from is taken", ours, func(s *scene) {
		s.answers(ok)
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(s.t, err)
		s.atEnd(func() { taken.Close() })
		s.dialer.LocalAddr = taken.Addr()
	}},

	// TLS
	{"TLS: the handshake hangs, until the base's own timeout", upstreams, and(https, mute, func(s *scene) { s.base.TLSHandshakeTimeout = s.wait })},
	{"TLS: the handshake hangs, until the caller's deadline", upstreams, and(https, mute, deadline)},
	{"TLS: reset in the handshake", upstreams, and(https, withServer(func(c *conn) { readHello(c); resets(c) }))},
	{"TLS: closed in the handshake", upstreams, and(https, withServer(func(c *conn) { readHello(c) }))},
	{"TLS: certificate of an unknown authority", upstreams, withTLS(certificate{unknown: true})},
	{"TLS: certificate that has expired", upstreams, withTLS(certificate{expired: true})},
	{"TLS: certificate of another name", upstreams, withTLS(certificate{name: "another.test"})},
	{"TLS: no version in common", upstreams, withTLS(certificate{oldClient: true})},
	{"TLS: the upstream wants a certificate of the caller", upstreams, withTLS(certificate{mutual: true})},
	{"TLS: plain HTTP on the TLS port", upstreams, and(https, withServer(func(c *conn) {
		readHello(c)
		io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
		hangs(c)
	}))},
	{"TLS on the plain port", upstreams, says("\x15\x03\x01\x00\x02\x02\x16", closes)},

	// Headers
	{"accepts and never answers, until the caller's deadline", upstreams, and(mute, deadline)},
	{"accepts and never answers, until `http.Client.Timeout`", upstreams, and(mute, clientTimeout)},
	{"accepts and never answers, until the base's own header timeout", upstreams, and(mute, func(s *scene) { s.base.ResponseHeaderTimeout = s.wait })},
	{"no answer, until the caller cancels", ours, func(s *scene) {
		s.serve(func(c *conn) { c.request(); s.giveUp(); hangs(c) })
	}},
	{"the caller has canceled before the call", unwatched, func(s *scene) { s.answers(ok); s.canceled = true }},
	{"closed before the headers", upstreams, says("", closes)},
	{"reset before the headers", upstreams, says("", resets)},
	{"closed in the middle of the headers", upstreams, says(halfHeader, closes)},
	{"reset in the middle of the headers", upstreams, says(halfHeader, resets)},
	{"closed in the middle of a header", upstreams, says("HTTP/1.1 200 OK\r\nContent-Le", closes)},
	{"headers a byte at a time, until the base's own header timeout", upstreams, func(s *scene) {
		s.drips("HTTP/1.1 200 OK\r\nX-Slow: ")
		s.base.ResponseHeaderTimeout = s.wait
	}},
	{"headers a byte at a time, until the caller's deadline", upstreams, func(s *scene) {
		s.drips("HTTP/1.1 200 OK\r\nX-Slow: ")
		s.deadline = true
	}},
	{"malformed status line", upstreams, says("HTTP/1.1 twohundred OK\r\n\r\n", closes)},
	{"no HTTP at all", upstreams, says("220 mail.test ESMTP ready\r\n", closes)},
	{"malformed header", upstreams, says("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", closes)},
	{"two lengths", upstreams, says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", closes)},
	{"headers too large", upstreams, func(s *scene) {
		s.base.MaxResponseHeaderBytes = 1000
		s.says("HTTP/1.1 200 OK\r\nX-Large: "+strings.Repeat("x", 100_000)+"\r\n\r\n", hangs)
	}},
	{"one interim answer after another", upstreams, func(s *scene) {
		s.base.MaxResponseHeaderBytes = 1000
		s.says(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n", 1000), hangs)
	}},

	// Between two calls
	{"the kept-alive connection is half-open: the peer is gone without a word, until the caller's deadline", upstreams,
		and(warmed(hangs), deadline)},
	{"the kept-alive connection is closed as the next GET comes", nobodys, warmed(dies)},
	{"the kept-alive connection is closed as the next POST comes", upstreams, and(warmed(dies), post)},
	{"the kept-alive connection is reset between two calls", nobodys, func(s *scene) {
		s.says(ok, inBody(resets))
		s.after = func() { s.await("the reset is not noticed", func() bool { return s.open.Load() == 0 }) }
	}},

	// Body
	{"body: closed before its Content-Length", upstreams, says(halfBody, inBody(closes))},
	{"body: reset", upstreams, says(halfBody, inBody(resets))},
	{"body: closed in the middle of a chunk", upstreams, says(halfChunk, inBody(closes))},
	{"body: closed before the last chunk", upstreams, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", inBody(closes))},
	{"body: malformed size of a chunk", upstreams, says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nhello\r\n", hangs)},
	{"body: gzip that is cut short", upstreams, gzipped(func(b []byte) []byte { return b[:len(b)/2] })},
	{"body: gzip that is damaged", upstreams, gzipped(func(b []byte) []byte { b[len(b)-8] ^= 1; return b })},
	{"body: gzip that is none", upstreams, gzipped(func([]byte) []byte { return []byte("this is no gzip at all") })},
	{"body: more than its Content-Length", nobodys, func(s *scene) {
		s.says(ok+" and more", hangs)
		s.after = func() { s.await("what is left over is not noticed", func() bool { return s.open.Load() == 0 }) }
	}},
	{"body: reset of a 502's", upstreams, says("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 100\r\n\r\nsome of it", inBody(resets))},
	{"body: hangs, until the caller's deadline", upstreams, and(says(halfBody, hangs), deadline, inTheBody)},
	{"body: hangs, until `http.Client.Timeout`", upstreams, and(says(halfBody, hangs), clientTimeout, inTheBody)},
	{"body: a byte at a time, until the caller's deadline", upstreams, func(s *scene) {
		s.drips("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		and(deadline, inTheBody)(s)
	}},
	{"body: a byte at a time, until `http.Client.Timeout`", upstreams, func(s *scene) {
		s.drips("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		and(clientTimeout, inTheBody)(s)
	}},
	{"body: hangs, until the caller cancels", ours, and(says(halfBody, hangs), func(s *scene) {
		s.onBody = func(context.Context) { s.giveUp() }
	})},
	{"body: hangs, and the caller closes it unread", nobodys, and(says(halfBody, hangs), func(s *scene) { s.unread = true })},

	// The request
	{"the request's body fails to read", ours, and(unanswered, posts(func(context.Context) io.Reader { return iotest.ErrReader(errBody) }, 0))},
	{"the request's body is shorter than its length", ours, and(unanswered, posts(func(context.Context) io.Reader { return strings.NewReader("short") }, 100), deaf)},
	{"the request's body is longer than its length", ours, and(unanswered, posts(func(context.Context) io.Reader { return strings.NewReader("long") }, 2), deaf)},
	{"the request is for a port that can be none", ours, func(s *scene) { s.address = "upstream.test:99999"; s.url = "http://upstream.test:99999/" }},
	{"the request has a malformed header", ours, func(s *scene) { s.answers(ok); s.header = http.Header{"Bad Name": {"x"}} }},

	// HTTP/2
	{"HTTP/2: GOAWAY before this request was looked at, once", nobodys, http2With(once(goesAway(beforeThis, http2.ErrCodeNo)))},
	{"HTTP/2: GOAWAY after this request was looked at, then closed", upstreams, http2With(goesAway(atThis, http2.ErrCodeInternal))},
	{"HTTP/2: GOAWAY and then the whole answer", nobodys, http2With(func(c *conn, r stream) bool {
		r.WriteGoAway(r.id, http2.ErrCodeNo, nil)
		return h2ok(c, r)
	})},
	{"HTTP/2: stream refused, once", nobodys, http2With(once(reset(http2.ErrCodeRefusedStream)))},
	{"HTTP/2: stream refused every time, until the caller's deadline", upstreams, and(http2With(reset(http2.ErrCodeRefusedStream)), deadline)},
	{"HTTP/2: stream reset by an internal error before the headers", upstreams, http2With(reset(http2.ErrCodeInternal))},
	{"HTTP/2: stream canceled by the upstream before the headers", upstreams, http2With(reset(http2.ErrCodeCancel))},
	{"HTTP/2: stream reset by an internal error in the body", upstreams, http2With(inH2Body(reset(http2.ErrCodeInternal)))},
	{"HTTP/2: connection closed before the headers", upstreams, http2With(func(*conn, stream) bool { return false })},
	{"HTTP/2: connection closed in the body", upstreams, http2With(inH2Body(func(*conn, stream) bool { return false }))},
	{"HTTP/2: no answer, until the caller's deadline", upstreams, and(http2With(func(*conn, stream) bool { return true }), deadline)},
	{"HTTP/2: hangs after the headers, until the caller's deadline", upstreams, and(http2With(inH2Body(func(*conn, stream) bool { return true })), deadline, inTheBody)},
	{"HTTP/2: a frame that breaks the protocol", upstreams, http2With(func(_ *conn, r stream) bool { r.WriteData(r.id+2, true, nil); return true })},
	{"HTTP/2: the upstream answers by HTTP/1", upstreams, http2With(func(c *conn, _ stream) bool {
		io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
		return true
	})},

	// Statuses
	{"400", nobodys, status("400 Bad Request")},
	{"401", nobodys, status("401 Unauthorized")},
	{"404", nobodys, status("404 Not Found")},
	{"408", nobodys, status("408 Request Timeout", "Connection: close")},
	{"429", nobodys, status("429 Too Many Requests")},
	{"429 with `Retry-After: 2`", nobodys, status("429 Too Many Requests", "Retry-After: 2")},
	{"500", upstreams, status("500 Internal Server Error")},
	{"501", upstreams, status("501 Not Implemented")},
	{"502", upstreams, status("502 Bad Gateway")},
	{"503", upstreams, status("503 Service Unavailable")},
	{"503 with `Retry-After: 2`", upstreams, status("503 Service Unavailable", "Retry-After: 2")},
	{"503 with `Retry-After: 3600`", upstreams, status("503 Service Unavailable", "Retry-After: 3600")},
	{"504", upstreams, status("504 Gateway Timeout")},

	// By the rule that a deadline that passes is a timeout; but who was slow here is the caller.
	{"the request's body stalls, until the caller's deadline", upstreams, and(unanswered, deadline, posts(newStalled, 0))},
	{"the caller does not read the body before its own deadline", upstreams, func(s *scene) {
		s.answers("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n" + strings.Repeat(drip, 10000))
		and(deadline, inTheBody)(s)
		s.onBody = func(ctx context.Context) {
			<-ctx.Done()
			s.await("the deadline ends no connection", func() bool { return s.open.Load() == 0 })
		}
	}},
}
