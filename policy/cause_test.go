package policy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// scene is one call by a real http.Client and http.Transport to a server that does something to it.
type scene struct {
	t       *testing.T
	base    *http.Transport
	client  *http.Client
	headers func() // called when the headers have come
}

// serve answers connections on a real socket and returns their URL.
func (s *scene) serve(handle func(net.Conn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()
	return "http://" + listener.Addr().String()
}

// pipe answers all connections in memory, so that time can be virtual.
func (s *scene) pipe(handle func(net.Conn)) {
	s.base.DialContext = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go handle(server)
		return client, nil
	}
}

// server starts an httptest.Server that keeps what it thinks of its clients to itself.
func (s *scene) server(start func(*httptest.Server), handler http.HandlerFunc) *httptest.Server {
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(server)
	s.t.Cleanup(server.Close)
	return server
}

func (s *scene) dialFails(err error) {
	s.base.DialContext = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, Err: err}
	}
}

// resolve looks names up by a resolver that asks a server in memory. A nil answer says nothing.
func (s *scene) resolve(answer func(*dnsmessage.Message)) {
	s.resolveBy(func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer server.Close()
			for {
				var size [2]byte
				if _, err := io.ReadFull(server, size[:]); err != nil {
					return
				}
				question := make([]byte, int(size[0])<<8|int(size[1]))
				if _, err := io.ReadFull(server, question); err != nil {
					return
				}
				var m dnsmessage.Message
				if m.Unpack(question) != nil || answer == nil {
					continue
				}
				m.Response, m.Additionals = true, nil
				answer(&m)
				packed, _ := m.Pack()
				server.Write(append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...))
			}
		}()
		return client, nil
	})
}

func (s *scene) resolveBy(dial func(context.Context, string, string) (net.Conn, error)) {
	s.base.DialContext = (&net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: dial}}).DialContext
}

func (s *scene) proxy(proxyURL string) {
	parsed, err := url.Parse(proxyURL)
	require.NoError(s.t, err)
	s.base.Proxy = http.ProxyURL(parsed)
}

// run makes the call, reads its response to the end, and returns what the transport made of it.
func (s *scene) run(req *http.Request) transport.CallEnd {
	ends := make(chan transport.CallEnd, 10)
	s.client.Transport = transport.New(s.base, transport.WithObserver(transport.Observer{
		OnOutcome: func(end transport.CallEnd) { ends <- end },
	}))
	defer s.base.CloseIdleConnections()
	resp, err := s.client.Do(req)
	if err == nil {
		s.headers()
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	require.Len(s.t, ends, 1, "outcomes; the call's error: %v", err)
	end := <-ends
	require.Equal(s.t, end.Cause.Kind == policy.KindNone || end.Cause.Kind == policy.KindStatus, err == nil, "%v: %v", end.Cause, err)
	return end
}

func get(t *testing.T, url string) *http.Request {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(t, err)
	return req
}

func post(t *testing.T, url string, body io.Reader) *http.Request {
	req, err := http.NewRequest(http.MethodPost, url, body)
	require.NoError(t, err)
	return req
}

// refusing returns the address of a port at which nobody listens.
func refusing(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func readRequest(conn net.Conn) *http.Request {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		conn.Close()
	}
	return req
}

// says reads a request, answers with the text as it stands, and closes.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, text)
		conn.Close()
	}
}

// resets reads a request, writes the text, and resets the connection.
func resets(text string) func(net.Conn) {
	return func(conn net.Conn) {
		readRequest(conn)
		io.WriteString(conn, text)
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// hangs reads a request, writes the text, and then nothing until the client is gone.
func hangs(text string) func(net.Conn) {
	return func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		if _, err := http.ReadRequest(reader); err == nil {
			io.WriteString(conn, text)
		}
		io.Copy(io.Discard, reader)
		conn.Close()
	}
}

// isMute reads and says nothing.
func isMute(conn net.Conn) {
	io.Copy(io.Discard, conn)
	conn.Close()
}

func fine(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fine") }

const (
	partOfBody = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part"
	somewhere  = "http://upstream.example/"
	elsewhere  = "https://upstream.example/"
	untilEnd   = 3 * time.Second
)

type someKey struct{}

// The errors are those that net/http really makes, but where the comment says otherwise.
func TestCausesOfRealCalls(t *testing.T) {
	// Package net makes what all resolvers share at the first look-up; made in a bubble of synctest, it would be of no use outside.
	nobody := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }}
	_, err := nobody.LookupHost(t.Context(), "upstream.example")
	require.Error(t, err)

	errBody := errors.New("the request's body broke")
	certificateAt := func(base func(*httptest.Server) *http.Transport) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			server := s.server((*httptest.Server).StartTLS, fine)
			s.base = base(server)
			return get(s.t, server.URL)
		}
	}
	trusting := func(server *httptest.Server, change func(*tls.Config)) *http.Transport {
		base := server.Client().Transport.(*http.Transport).Clone()
		change(base.TLSClientConfig)
		return base
	}
	toServer := func(change func(*http.Request)) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			req := get(s.t, s.server((*httptest.Server).Start, fine).URL)
			change(req)
			return req
		}
	}
	toHost := func(host string) func(*scene) *http.Request { // as it stands, where url.Parse would not have it
		return func(s *scene) *http.Request {
			req := get(s.t, somewhere)
			req.URL.Host = host
			return req
		}
	}
	dialing := func(network, address string) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			s.base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			return get(s.t, somewhere)
		}
	}
	saying := func(handle func(net.Conn)) func(*scene) *http.Request {
		return func(s *scene) *http.Request { return get(s.t, s.serve(handle)) }
	}
	sending := func(length int64, body io.Reader) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			req := post(s.t, s.server((*httptest.Server).Start, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
			}).URL, body)
			req.ContentLength = length
			return req
		}
	}
	connect := func(answer string) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			s.proxy(s.serve(says(answer)))
			return get(s.t, elsewhere)
		}
	}
	within := func(ctx func() (context.Context, context.CancelFunc), handle func(net.Conn)) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			s.pipe(handle)
			c, cancel := ctx()
			s.t.Cleanup(cancel)
			return get(s.t, somewhere).WithContext(c)
		}
	}
	deadline := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), untilEnd)
	}
	deadlineWithCause := func() (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(context.Background(), untilEnd, errors.New("too slow for us"))
	}
	canceled := func() (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(untilEnd, func() { cancel(errors.New("no longer wanted")) })
		return ctx, func() { cancel(nil) }
	}
	watchdog := func(cause error) func() (context.Context, context.CancelFunc) {
		return func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(untilEnd, func() { cancel(cause) })
			return ctx, func() { cancel(nil) }
		}
	}
	clientTimeout := func(handle func(net.Conn)) func(*scene) *http.Request {
		return func(s *scene) *http.Request {
			s.pipe(handle)
			s.client.Timeout = untilEnd
			return get(s.t, somewhere)
		}
	}

	type cause = policy.Cause
	const success, failure, ignored = policy.Success, policy.Failure, policy.Ignored
	cases := []struct {
		name    string
		call    func(*scene) *http.Request
		cause   policy.Cause
		outcome policy.Outcome
		virtual bool // needs virtual time
	}{
		{"ok", toServer(func(*http.Request) {}), cause{Status: 200}, success, false},
		{"status 500", saying(says("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")), cause{Kind: policy.KindStatus, Status: 500}, failure, false},
		{"status 404", saying(says("HTTP/1.1 404 Oh\r\nContent-Length: 0\r\n\r\n")), cause{Status: 404}, success, false},

		// DNS
		{"no such host", func(s *scene) *http.Request {
			s.resolve(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError })
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseDNS, Kind: policy.KindNotFound}, failure, true},
		{"DNS server in trouble", func(s *scene) *http.Request {
			s.resolve(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure })
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseDNS, Kind: policy.KindOther}, failure, true},
		{"DNS server mute", func(s *scene) *http.Request {
			s.resolve(nil)
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseDNS, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}, failure, true},

		// connect
		{"connection refused", func(s *scene) *http.Request { return get(s.t, "http://"+refusing(s.t)) },
			cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}, failure, false},
		{"connection refused by a host with a name in Unicode", func(s *scene) *http.Request {
			address := refusing(s.t)
			s.base.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, address)
			}
			return get(s.t, "http://bücher.example/")
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}, failure, false},
		{"timeout of the dialer", func(s *scene) *http.Request {
			s.base.DialContext = (&net.Dialer{Timeout: 1}).DialContext
			return get(s.t, "http://127.0.0.1:9")
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}, failure, false},

		// TLS
		{"unknown authority", certificateAt(func(*httptest.Server) *http.Transport { return new(http.Transport) }),
			cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}, failure, false},
		{"certificate of another host", certificateAt(func(server *httptest.Server) *http.Transport {
			return trusting(server, func(c *tls.Config) { c.ServerName = "another.example.net" })
		}), cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}, failure, false},
		{"expired certificate", certificateAt(func(server *httptest.Server) *http.Transport {
			return trusting(server, func(c *tls.Config) { c.Time = func() time.Time { return epoch.AddDate(500, 0, 0) } })
		}), cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}, failure, false},
		{"no TLS version in common", func(s *scene) *http.Request {
			server := s.server(func(server *httptest.Server) {
				server.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
				server.StartTLS()
			}, fine)
			s.base = trusting(server, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
			return get(s.t, server.URL)
		}, cause{Phase: policy.PhaseTLS, Kind: policy.KindOther}, failure, false},
		{"no TLS at all", func(s *scene) *http.Request {
			s.pipe(func(conn net.Conn) {
				go io.WriteString(conn, "220 mail.example ESMTP\r\n")
				isMute(conn)
			})
			return get(s.t, elsewhere)
		}, cause{Phase: policy.PhaseTLS, Kind: policy.KindOther}, failure, true},
		{"plain HTTP where HTTPS was expected", func(s *scene) *http.Request {
			return get(s.t, strings.Replace(s.server((*httptest.Server).Start, fine).URL, "http:", "https:", 1))
		}, cause{Phase: policy.PhaseTLS, Kind: policy.KindOther}, failure, false},
		{"TLSHandshakeTimeout", func(s *scene) *http.Request {
			s.pipe(isMute)
			s.base.TLSHandshakeTimeout = untilEnd
			return get(s.t, elsewhere)
		}, cause{Phase: policy.PhaseTLS, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}, failure, true},

		// headers
		{"reset before the headers", saying(resets("")), cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}, failure, false},
		{"closed before the headers", saying(says("")), cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}, failure, false},
		{"closed within the headers", saying(says("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n")), cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}, failure, false},
		{"no HTTP", saying(says("SSH-2.0-OpenSSH\r\n\r\n")), cause{Phase: policy.PhaseHeaders, Kind: policy.KindOther}, failure, false},
		{"more headers than may be", func(s *scene) *http.Request {
			s.base.MaxResponseHeaderBytes = 100
			return get(s.t, s.serve(says("HTTP/1.1 200 OK\r\nX-Long: "+strings.Repeat("x", 200000)+"\r\n\r\n")))
		}, cause{Phase: policy.PhaseHeaders, Kind: policy.KindOther}, failure, false},
		{"ResponseHeaderTimeout", func(s *scene) *http.Request {
			s.pipe(hangs(""))
			s.base.ResponseHeaderTimeout = untilEnd
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}, failure, true},

		// body
		{"body closed too early", saying(says(partOfBody)), cause{Phase: policy.PhaseBody, Kind: policy.KindReset, Status: 200}, failure, false},
		{"body reset", func(s *scene) *http.Request {
			reset := make(chan struct{})
			s.headers = func() { close(reset) }
			return get(s.t, s.serve(func(conn net.Conn) {
				readRequest(conn)
				io.WriteString(conn, partOfBody)
				<-reset
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}))
		}, cause{Phase: policy.PhaseBody, Kind: policy.KindReset, Status: 200}, failure, false},
		{"body in chunks that are none", saying(says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n")),
			cause{Phase: policy.PhaseBody, Kind: policy.KindOther, Status: 200}, failure, false},
		{"body of a status that failed already", saying(says("HTTP/1.1 502 Oh\r\nContent-Length: 0\r\n\r\n")),
			cause{Kind: policy.KindStatus, Status: 502}, failure, false},

		// deadlines
		{"http.Client.Timeout before the headers", clientTimeout(hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineClient}, failure, true},
		{"http.Client.Timeout in the body", clientTimeout(hangs(partOfBody)),
			cause{Phase: policy.PhaseBody, Kind: policy.KindTimeout, Deadline: policy.DeadlineClient, Status: 200}, failure, true},
		{"deadline before the headers", within(deadline, hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"deadline with a cause of its own", within(deadlineWithCause, hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"deadline in the body", within(deadline, hangs(partOfBody)),
			cause{Phase: policy.PhaseBody, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller, Status: 200}, failure, true},
		{"deadline before http.Client.Timeout", func(s *scene) *http.Request {
			s.client.Timeout = untilEnd + time.Second
			return within(deadline, hangs(""))(s)
		}, cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout}, failure, true},

		// the caller
		{"canceled before the headers", within(canceled, hangs("")), cause{Kind: policy.KindCanceled}, ignored, true},
		{"canceled in the body", within(canceled, hangs(partOfBody)), cause{Phase: policy.PhaseBody, Kind: policy.KindCanceled, Status: 200}, ignored, true},
		{"canceled while connecting", func(s *scene) *http.Request {
			s.base.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			ctx, cancel := canceled()
			s.t.Cleanup(cancel)
			return get(s.t, somewhere).WithContext(ctx)
		}, cause{Kind: policy.KindCanceled}, ignored, true},
		{"canceled with http.Client.Timeout to spare", func(s *scene) *http.Request {
			s.client.Timeout = time.Hour
			return within(canceled, hangs(""))(s)
		}, cause{Kind: policy.KindCanceled}, ignored, true},

		// watchdogs: a cancel that says that it is a timeout
		{"a watchdog before the headers", within(watchdog(context.DeadlineExceeded), hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"a watchdog in the body", within(watchdog(context.DeadlineExceeded), hangs(partOfBody)),
			cause{Phase: policy.PhaseBody, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller, Status: 200}, failure, true},
		{"a watchdog with words of its own", within(watchdog(fmt.Errorf("no answer: %w", context.DeadlineExceeded)), hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"a watchdog of package os", within(watchdog(os.ErrDeadlineExceeded), hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"a watchdog with an error of its own type", within(watchdog(&net.DNSError{IsTimeout: true}), hangs("")),
			cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"a watchdog that is no timeout", within(watchdog(&net.DNSError{IsNotFound: true}), hangs("")), cause{Kind: policy.KindCanceled}, ignored, true},
		{"a watchdog outside of contexts that could have lasted longer", within(func() (context.Context, context.CancelFunc) {
			outer, cancel := watchdog(context.DeadlineExceeded)()
			ctx, cancelInner := context.WithTimeout(context.WithValue(outer, someKey{}, 1), time.Hour)
			ctx, cancelInmost := context.WithCancelCause(ctx)
			return ctx, func() { cancelInmost(nil); cancelInner(); cancel() }
		}, hangs("")), cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},
		{"canceled inside of a watchdog that would have waited longer", within(func() (context.Context, context.CancelFunc) {
			outer, cancel := context.WithCancelCause(context.Background())
			time.AfterFunc(2*untilEnd, func() { cancel(context.DeadlineExceeded) })
			ctx, cancelInner := context.WithCancel(outer)
			time.AfterFunc(untilEnd, cancelInner)
			return ctx, func() { cancel(nil) }
		}, hangs("")), cause{Kind: policy.KindCanceled}, ignored, true},
		{"a watchdog with http.Client.Timeout to spare", func(s *scene) *http.Request {
			s.client.Timeout = time.Hour
			return within(watchdog(context.DeadlineExceeded), hangs(""))(s)
		}, cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller}, failure, true},

		// the request
		{"malformed header name", toServer(func(r *http.Request) { r.Header["Bad Name"] = []string{"x"} }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"malformed header value", toServer(func(r *http.Request) { r.Header["Name"] = []string{"a\nb"} }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"malformed trailer", toServer(func(r *http.Request) { r.Trailer = http.Header{"Bad Name": nil} }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"missing scheme", toServer(func(r *http.Request) { r.URL.Scheme = "" }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"unknown scheme", toServer(func(r *http.Request) { r.URL.Scheme = "gopher" }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"bad method", toServer(func(r *http.Request) { r.Method = "B@D\n" }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"missing host", toServer(func(r *http.Request) { r.URL.Host = "" }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"port that can be none", toHost("127.0.0.1:99999"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"port that can be none, of a name", toHost("localhost:65536"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"port that can be none, over TLS", func(s *scene) *http.Request { return get(s.t, "https://127.0.0.1:99999") },
			cause{Kind: policy.KindBadRequest}, ignored, false},
		{"port that can be none, of a forward proxy", func(s *scene) *http.Request {
			s.proxy("http://127.0.0.1:99999")
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, false},
		{"port that can be none, of a SOCKS proxy", func(s *scene) *http.Request {
			s.proxy("socks5://127.0.0.1:99999")
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, false},
		{"port that can be none, by a SOCKS proxy", func(s *scene) *http.Request {
			s.proxy("socks5" + strings.TrimPrefix(s.serve(socks("\x05\x00", "")), "http"))
			return toHost("127.0.0.1:99999")(s)
		}, cause{Kind: policy.KindBadRequest}, ignored, false},
		{"bracket too few", toHost("[::1"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"bracket too many", toHost("[::1]]:80"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"address of which the base's own dial makes none", dialing("tcp", "127.0.0.1"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"address with too many colons", dialing("tcp", "::1:80"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"network that there is none of", dialing("tpc", "127.0.0.1:80"), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"address of another kind than the base dials", dialing("tcp4", "[::1]:80"), cause{Phase: policy.PhaseConnect, Kind: policy.KindOther}, failure, false},
		{"bad Host header to a proxy", func(s *scene) *http.Request {
			s.proxy(s.serve(hangs(""))) // one that closes the connection would race with what net/http says
			req := get(s.t, somewhere)
			req.Host = "a\nb"
			return req
		}, cause{Kind: policy.KindBadRequest}, ignored, false},
		{"bad Host header to an upstream, which net/http leaves out", func(s *scene) *http.Request {
			req := get(s.t, "http://"+refusing(s.t))
			req.Host = "a\nb"
			return req
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}, failure, false},
		{"control byte in the URL", toServer(func(r *http.Request) { r.URL.RawQuery = "a\nb" }), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"body shorter than ContentLength", sending(9, strings.NewReader("short")), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"body longer than ContentLength", sending(2, strings.NewReader("long")), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"body that fails to read", sending(-1, iotest.ErrReader(errBody)), cause{Kind: policy.KindBadRequest}, ignored, false},
		{"body that fails to read with an error that looks like the upstream's", sending(-1, iotest.ErrReader(io.ErrUnexpectedEOF)),
			cause{Kind: policy.KindBadRequest}, ignored, false},
		{"body that is a closed file", func(s *scene) *http.Request {
			file, err := os.Create(filepath.Join(s.t.TempDir(), "body"))
			require.NoError(s.t, err)
			file.Close()
			return sending(-1, file)(s)
		}, cause{Kind: policy.KindBadRequest}, ignored, false},

		// the forward proxy
		{"proxy refuses a connection, HTTP", func(s *scene) *http.Request {
			s.proxy("http://" + refusing(s.t))
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, false},
		{"proxy refuses a connection, HTTPS", func(s *scene) *http.Request {
			s.proxy("http://" + refusing(s.t))
			return get(s.t, elsewhere)
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, false},
		{"proxy's name does not exist", func(s *scene) *http.Request {
			s.resolve(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError })
			s.proxy("http://proxy.example")
			return get(s.t, somewhere)
		}, cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, true},
		{"proxy wants a password for CONNECT", connect("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"),
			cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, false},
		{"proxy forbids CONNECT", connect("HTTP/1.1 403 Forbidden\r\n\r\n"), cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, ignored, false},
		{"proxy cannot reach the upstream", connect("HTTP/1.1 502 Bad Gateway\r\n\r\n"), cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}, failure, false},
		{"proxy cannot reach the upstream in time", connect("HTTP/1.1 504 Gateway Timeout\r\n\r\n"), cause{Phase: policy.PhaseConnect, Kind: policy.KindTimeout, Deadline: policy.DeadlineTransport}, failure, false},
		{"upstream that says what a proxy would", func(s *scene) *http.Request {
			server := s.server((*httptest.Server).StartTLS, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(407) })
			s.base = server.Client().Transport.(*http.Transport)
			return get(s.t, server.URL)
		}, cause{Status: 407}, success, false},

		// HTTP/2
		{"HTTP/2 stream aborted before the headers", overHTTP2(func(http.ResponseWriter) {}), cause{Phase: policy.PhaseHeaders, Kind: policy.KindOther}, failure, false},
		{"HTTP/2 stream aborted in the body", overHTTP2(func(w http.ResponseWriter) {
			io.WriteString(w, "only a part")
			w.(http.Flusher).Flush()
		}), cause{Phase: policy.PhaseBody, Kind: policy.KindOther, Status: 200}, failure, false},
		{"HTTP/2 body longer than ContentLength", func(s *scene) *http.Request {
			req := overHTTP2With(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })(s)
			req.Method, req.Body, req.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("long")), 2
			return req
		}, cause{Kind: policy.KindBadRequest}, ignored, false},

		// not as real: a base that gives up by itself, though nobody asked it to
		{"canceled by the base", func(s *scene) *http.Request {
			s.dialFails(context.Canceled)
			return get(s.t, somewhere)
		}, cause{Kind: policy.KindCanceled}, ignored, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			test := func(t *testing.T) {
				s := &scene{t: t, base: new(http.Transport), client: new(http.Client), headers: func() {}}
				end := s.run(c.call(s))
				// And at times http.Client says too late that it was its Timeout.
				for try := 0; c.cause.Deadline == policy.DeadlineClient && end.Cause.Deadline == policy.DeadlineNone && try < 99; try++ {
					end = s.run(c.call(s))
				}
				require.Equal(t, c.cause, end.Cause, "%v", end.Cause)
				require.Equal(t, c.outcome, end.Outcome)
			}
			if c.virtual {
				synctest.Test(t, test)
				return
			}
			test(t)
		})
	}
}

// overHTTP2 answers over HTTP/2, begins an answer, and aborts the stream.
func overHTTP2(begin func(http.ResponseWriter)) func(*scene) *http.Request {
	return overHTTP2With(func(w http.ResponseWriter, _ *http.Request) {
		begin(w)
		panic(http.ErrAbortHandler)
	})
}

func overHTTP2With(handler http.HandlerFunc) func(*scene) *http.Request {
	return func(s *scene) *http.Request {
		server := s.server(func(server *httptest.Server) {
			server.EnableHTTP2 = true
			server.StartTLS()
		}, handler)
		s.base = server.Client().Transport.(*http.Transport)
		return get(s.t, server.URL)
	}
}

// A call whose caller is gone before it starts says nothing, whatever it comes back with.
// Names in a certificate are the upstream's own words, and stand in the error as they are.
func TestACertificateCannotSpeakAsNetHTTP(t *testing.T) {
	certificate := &x509.Certificate{DNSNames: []string{"invalid Host header"}}
	err := &tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: certificate, Host: "upstream.example"}}
	require.ErrorContains(t, err, "invalid Host header")
	got := policy.CauseOf(&policy.Call{Request: get(t, elsewhere), Err: err})
	require.Equal(t, policy.Cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}, got)
}

func TestACauseIsTheCallersIfTheCallerIsGone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancelLate := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancelLate()
	req := get(t, somewhere)
	for _, err := range []error{io.EOF, net.ErrClosed, &net.DNSError{IsNotFound: true}, errors.New("any")} {
		require.Equal(t, policy.Cause{Kind: policy.KindCanceled}, policy.CauseOf(&policy.Call{Request: req.WithContext(ctx), Err: err}))
		require.Equal(t, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller},
			policy.CauseOf(&policy.Call{Request: req.WithContext(late), Err: err}))
	}
}

// Both ends of a context look the same, and http.Client says by another goroutine that one was its own.
func TestADeadlineIsNobodysWhileItCannotBeTold(t *testing.T) {
	type name struct{}
	for text, wrap := range map[string]func(context.Context) (context.Context, func()){
		"as it is": func(ctx context.Context) (context.Context, func()) { return ctx, func() {} },
		"wrapped": func(ctx context.Context) (context.Context, func()) {
			return context.WithValue(ctx, name{}, 1), func() {}
		},
		"wrapped in a cancel": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancel(ctx)
			return ctx, cancel
		},
		"of another type": func(ctx context.Context) (context.Context, func()) { return struct{ context.Context }{ctx}, func() {} },
	} {
		ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
		defer cancel()
		ctx, cancelOuter := wrap(ctx)
		defer cancelOuter()
		closed := make(chan struct{})
		close(closed)
		for _, c := range []struct {
			cancel chan struct{}
			whose  policy.Deadline
		}{{nil, policy.DeadlineCaller}, {make(chan struct{}), policy.DeadlineNone}, {closed, policy.DeadlineClient}} {
			for _, inBody := range []bool{false, true} {
				req := get(t, somewhere).WithContext(ctx)
				//lint:ignore SA1019 it is what http.Client uses
				req.Cancel = c.cancel
				got := policy.CauseOf(&policy.Call{Request: req, Err: context.DeadlineExceeded, InBody: inBody})
				require.Equal(t, policy.KindTimeout, got.Kind)
				require.Equal(t, c.whose, got.Deadline, text)
				require.Equal(t, policy.Failure, got.Outcome())
			}
		}
	}
}

// http.Client closes Request.Cancel when its Timeout has passed, and sets the context's deadline to the same moment.
func TestAClosedCancelAtTheDeadlineIsTheClientsTimeout(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	at := time.Now().Add(time.Hour)
	ctx, cancel := context.WithDeadline(context.Background(), at)
	defer cancel()
	req := get(t, somewhere).WithContext(ctx)
	//lint:ignore SA1019 it is what http.Client uses
	req.Cancel = closed
	err := errors.New("net/http: request canceled")
	require.Equal(t, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineClient},
		policy.CauseOf(&policy.Call{Request: req, Err: err, Ended: at}))
	require.Equal(t, policy.Cause{Kind: policy.KindCanceled}, policy.CauseOf(&policy.Call{Request: req, Err: err, Ended: at.Add(-1)}))
}

// What net/http at times says of a request that it could not write: it closed the connection.
func TestAClosedConnectionIsTheUpstreamsUnlessTheRequestCannotBeSent(t *testing.T) {
	err := &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
	for name, c := range map[string]struct {
		change func(*http.Request)
		kind   policy.Kind
	}{
		"a sound request":                 {func(*http.Request) {}, policy.KindReset},
		"one with a trailer":              {func(r *http.Request) { r.Trailer = http.Header{"Checksum": nil} }, policy.KindReset},
		"a body that was read to its end": {func(r *http.Request) { io.Copy(io.Discard, r.Body) }, policy.KindReset},
		"a control character in the URL":  {func(r *http.Request) { r.URL.RawQuery = "a\nb" }, policy.KindBadRequest},
		"a bad Host header":               {func(r *http.Request) { r.Host = "a\nb" }, policy.KindBadRequest},
		"a trailer that must not be":      {func(r *http.Request) { r.Trailer = http.Header{"Content-Length": nil} }, policy.KindBadRequest},
	} {
		req := post(t, somewhere, strings.NewReader("payload"))
		c.change(req)
		got := policy.CauseOf(&policy.Call{Request: req, Err: err})
		require.Equal(t, c.kind, got.Kind, name)
	}
}
