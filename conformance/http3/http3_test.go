package http3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// scene is an upstream that speaks HTTP/3, and a client that calls it.
type scene struct {
	*testing.T
	certificate tls.Certificate
	base        *http3.Transport
	rt          *transport.Transport
	url         string
	last        transport.CallEnd // of the last call
	err         error             // too
	refused     bool              // too
}

func newScene(t *testing.T, opts ...transport.Option) *scene {
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	borrowed.Close()
	roots := x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	s := &scene{T: t, certificate: borrowed.TLS.Certificates[0]}
	s.base = &http3.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"},
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 10 * time.Second, MaxIdleTimeout: 10 * time.Second},
	}
	t.Cleanup(func() { s.base.Close() })
	s.rt = transport.New(s.base, append(opts, transport.WithObserver(transport.Observer{
		OnOutcome: func(e transport.CallEnd) { s.last = e },
	}))...)
	return s
}

// impatient is for an upstream that is not there: nothing but a timeout says so, not even of a port at which nobody listens.
func (s *scene) impatient() {
	s.base.QUICConfig.HandshakeIdleTimeout, s.base.QUICConfig.MaxIdleTimeout = 100*time.Millisecond, 500*time.Millisecond
}

// listen returns a socket on which an upstream can be, and makes calls go there.
func (s *scene) listen() *net.UDPConn {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(s, err)
	s.Cleanup(func() { conn.Close() })
	s.url = "https://" + conn.LocalAddr().String()
	return conn
}

// serve answers on the socket until the end or until stop is called, and then is gone without a word.
func (s *scene) serve(conn *net.UDPConn, handler http.HandlerFunc) (stop func()) {
	server := &http3.Server{
		Handler: handler, Logger: slog.New(slog.DiscardHandler),
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{s.certificate}}),
	}
	s.Cleanup(func() { server.Close() })
	go server.Serve(conn)
	return func() { conn.Close() }
}

func (s *scene) request(body io.Reader) *http.Request {
	method := http.MethodGet
	if body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequest(method, s.url, body)
	require.NoError(s, err)
	return req
}

func (s *scene) call(req *http.Request) {
	var resp *http.Response
	resp, s.err = s.rt.RoundTrip(req)
	if s.refused = transport.Refused(resp); s.err == nil {
		_, s.err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// opensAfter6 calls until the circuit is open.
func (s *scene) opensAfter6(kinds ...policy.Kind) {
	for calls := range 6 {
		s.call(s.request(nil))
		require.False(s, s.refused, "open after %d calls", calls)
		require.Error(s, s.err)
		require.Equal(s, policy.Failure, s.last.Outcome, "%v: %v", s.last.Cause, s.err)
		require.Contains(s, kinds, s.last.Cause.Kind, "%v: %v", s.last.Cause, s.err)
	}
	s.call(s.request(nil))
	require.True(s, s.refused, "still closed after 6 calls that ended by %v", s.last.Cause)
}

func fine(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, "fine")
}

// accepting serves QUIC with these settings and nothing on top.
func (s *scene) accepting(protocol string, config *quic.Config) {
	q := &quic.Transport{Conn: s.listen()}
	s.Cleanup(func() { q.Close() })
	listener, err := q.Listen(&tls.Config{Certificates: []tls.Certificate{s.certificate}, NextProtos: []string{protocol}}, config)
	require.NoError(s, err)
	go func() {
		for {
			if _, err := listener.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
}

func TestAnUpstreamInTroubleIsToBlame(t *testing.T) {
	for name, fault := range map[string]func(*scene) []policy.Kind{
		"nobody listens": func(s *scene) []policy.Kind {
			s.impatient()
			s.listen().Close()
			return []policy.Kind{policy.Timeout}
		},
		"it answers nothing": func(s *scene) []policy.Kind {
			s.impatient()
			s.listen()
			return []policy.Kind{policy.Timeout}
		},
		"it is killed": func(s *scene) []policy.Kind {
			s.base.QUICConfig.HandshakeIdleTimeout, s.base.QUICConfig.MaxIdleTimeout = 500*time.Millisecond, time.Second
			stop := s.serve(s.listen(), fine)
			s.call(s.request(nil))
			require.NoError(s, s.err)
			stop()
			return []policy.Kind{policy.Timeout}
		},
		"it refuses connections": func(s *scene) []policy.Kind {
			s.accepting(http3.NextProtoH3, &quic.Config{
				GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) { return nil, errors.New("no") },
			})
			return []policy.Kind{policy.Reset}
		},
		"it speaks another protocol": func(s *scene) []policy.Kind {
			s.accepting("other", nil)
			return []policy.Kind{policy.Reset}
		},
		"it speaks another version": func(s *scene) []policy.Kind {
			s.accepting(http3.NextProtoH3, &quic.Config{Versions: []quic.Version{quic.Version2}})
			return []policy.Kind{policy.Reset}
		},
		"its certificate is of another name": func(s *scene) []policy.Kind {
			s.serve(s.listen(), fine)
			s.base.TLSClientConfig.ServerName = "another.example"
			return []policy.Kind{policy.Certificate}
		},
		"it aborts answers": func(s *scene) []policy.Kind {
			s.serve(s.listen(), func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
			return []policy.Kind{policy.Other}
		},
		"it aborts bodies": func(s *scene) []policy.Kind {
			s.serve(s.listen(), func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, "some of it")
				w.(http.Flusher).Flush()
				panic(http.ErrAbortHandler)
			})
			return []policy.Kind{policy.Other}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			kinds := fault(s)
			s.opensAfter6(kinds...)
		})
	}
}

// A server that lost its memory answers packets of connections that it does not know by a stateless reset.
func TestAnUpstreamThatResetsConnectionsThatItForgotIsToBlame(t *testing.T) {
	s := newScene(t)
	key := &quic.StatelessResetKey{1}
	relay := s.listen() // what clients see; behind it, each instance has a socket of its own
	var behind atomic.Pointer[net.UDPAddr]
	var client atomic.Pointer[net.Addr]
	inner, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { inner.Close() })
	go func() {
		var packet [2048]byte
		for {
			n, from, err := relay.ReadFrom(packet[:])
			if err != nil {
				return
			}
			client.Store(&from)
			inner.WriteTo(packet[:n], behind.Load())
		}
	}()
	go func() {
		var packet [2048]byte
		for {
			n, _, err := inner.ReadFrom(packet[:])
			if err != nil {
				return
			}
			relay.WriteTo(packet[:n], *client.Load())
		}
	}()
	start := func() {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		q := &quic.Transport{Conn: conn, StatelessResetKey: key}
		server := &http3.Server{Handler: http.HandlerFunc(fine), Logger: slog.New(slog.DiscardHandler)}
		listener, err := q.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{s.certificate}}), nil)
		require.NoError(t, err)
		go server.ServeListener(listener)
		t.Cleanup(func() { server.Close(); q.Close(); conn.Close() })
		behind.Store(conn.LocalAddr().(*net.UDPAddr))
	}
	start()
	for range 6 {
		s.call(s.request(nil)) // on a new connection
		require.NoError(t, s.err)
		start()
		s.call(s.request(nil))
		var reset *quic.StatelessResetError
		require.ErrorAs(t, s.err, &reset)
		require.Equal(t, policy.Failure, s.last.Outcome)
		require.Equal(t, policy.Reset, s.last.Cause.Kind)
	}
}

func TestAnUpstreamThatIsWellIsNotBlamed(t *testing.T) {
	s := newScene(t)
	s.serve(s.listen(), fine)
	for range 20 {
		s.call(s.request(nil))
		require.NoError(t, s.err)
		s.call(s.request(bytes.NewReader(make([]byte, 1<<20))))
		require.NoError(t, s.err)
		require.Equal(t, policy.Success, s.last.Outcome)
	}
}

func TestABodyThatFailsAfterTheAnswerBeganIsItsCallersFault(t *testing.T) {
	s := newScene(t)
	s.serve(s.listen(), func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		if _, err := io.Copy(w, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	})
	for range 10 {
		reader, writer := io.Pipe()
		req := s.request(reader)
		go io.WriteString(writer, "some of it")
		resp, err := s.rt.RoundTrip(req)
		require.NoError(t, err)
		writer.CloseWithError(errors.New("the caller's disk is gone"))
		_, err = io.Copy(io.Discard, resp.Body)
		require.Error(t, err)
		resp.Body.Close()
		require.Equal(t, policy.Ignored, s.last.Outcome, "%v: %v", s.last.Cause, err)
		require.Equal(t, policy.Cause{Phase: policy.PhaseBody, Kind: policy.BadRequest, Status: 200}, s.last.Cause)
	}
}

func TestARequestAtFaultIsItsCallersFault(t *testing.T) {
	errDisk := errors.New("the caller's disk is gone")
	for name, change := range map[string]func(*http.Request){
		"malformed header name":    func(r *http.Request) { r.Header["Bad Name"] = []string{"x"} },
		"malformed header value":   func(r *http.Request) { r.Header["Name"] = []string{"a\nb"} },
		"bad method":               func(r *http.Request) { r.Method = "B@D\n" },
		"unknown scheme":           func(r *http.Request) { r.URL.Scheme = "gopher" },
		"plain scheme":             func(r *http.Request) { r.URL.Scheme = "http" },
		"no host":                  func(r *http.Request) { r.URL.Host = "" },
		"no header":                func(r *http.Request) { r.Header = nil },
		"body that fails to read":  func(r *http.Request) { r.Method, r.Body = "POST", io.NopCloser(iotest.ErrReader(errDisk)) },
		"body longer than it says": func(r *http.Request) { r.Method, r.Body, r.ContentLength = "POST", body("long"), 2 },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.serve(s.listen(), fine)
			for range 8 {
				req := s.request(nil)
				change(req)
				s.call(req)
				require.False(t, s.refused)
				if s.err == nil && req.Body != nil {
					continue // the answer was here before the body was found to be at fault
				}
				require.Error(t, s.err)
				require.Equal(t, policy.Ignored, s.last.Outcome, "%v: %v", s.last.Cause, s.err)
				require.Equal(t, policy.BadRequest, s.last.Cause.Kind, "%v: %v", s.last.Cause, s.err)
			}
		})
	}
}

func body(text string) io.ReadCloser {
	return io.NopCloser(io.MultiReader(bytes.NewBufferString(text)))
}
