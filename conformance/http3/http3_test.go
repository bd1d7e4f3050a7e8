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
	begun       chan struct{}     // the first byte of a body is here
	early       atomic.Bool       // the last request came by a connection that had early data
	forget      func()            // of an upstream that can lose its memory
	last        transport.CallEnd // of the last call
	err         error             // too
	status      string            // of the last that was answered
	refused     bool              // too
}

func newScene(t *testing.T, opts ...transport.Option) *scene {
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	borrowed.Close()
	roots := x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	s := &scene{T: t, certificate: borrowed.TLS.Certificates[0], begun: make(chan struct{}, 1)}
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

type connKey struct{}

// serve answers on the socket until the end or until stop is called, and then is gone without a word.
func (s *scene) serve(conn *net.UDPConn, handler http.HandlerFunc) (stop func()) {
	server := &http3.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.early.Store(r.Context().Value(connKey{}).(*quic.Conn).ConnectionState().Used0RTT)
			handler(w, r)
		}),
		ConnContext: func(ctx context.Context, c *quic.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Logger:      slog.New(slog.DiscardHandler),
		TLSConfig:   http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{s.certificate}}),
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
	if resp, s.err = s.rt.RoundTrip(req); s.err == nil {
		s.status = resp.Status
	}
	if s.refused = transport.Refused(resp); s.err == nil {
		_, s.err = io.ReadFull(resp.Body, make([]byte, 1))
		if s.err == nil {
			select {
			case s.begun <- struct{}{}:
			default:
			}
			_, s.err = io.Copy(io.Discard, resp.Body)
		} else if s.err == io.EOF {
			s.err = nil
		}
		resp.Body.Close()
	}
}

func fine(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	io.WriteString(w, "fine")
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
		require.Equal(t, policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindBadRequest, Status: 200}, s.last.Cause)
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
		"port that can be none":    func(r *http.Request) { r.URL.Host = "127.0.0.1:99999" },
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
				require.Equal(t, policy.KindBadRequest, s.last.Cause.Kind, "%v: %v", s.last.Cause, s.err)
			}
		})
	}
}

func body(text string) io.ReadCloser {
	return io.NopCloser(io.MultiReader(bytes.NewBufferString(text)))
}
