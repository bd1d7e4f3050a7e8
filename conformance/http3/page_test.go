package http3_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

const page = "../../docs/http3.md"

var write = flag.Bool("write", false, "write docs/http3.md and do not compare it")

const (
	mostCalls = 8 // of a circuit that stays closed
	mostBack  = 10 * time.Second
)

// trouble is a call that fails, or one that looks as if it did.
type trouble struct {
	name string
	// make prepares it, and returns what ends it; nil if it is the call's own.
	make func(*scene) (end func())
	// request makes a call of it other than a GET that reads all of its body.
	request func(*scene) *http.Request
	want    policy.Outcome
}

// patient is how long a caller waits where nothing but its own deadline ends a call.
const patient = 300 * time.Millisecond

func withDeadline(s *scene) *http.Request {
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	s.Cleanup(cancel)
	return s.request(nil).WithContext(ctx)
}

// here is a socket where the upstream was before.
func (s *scene) here() *net.UDPConn {
	address, err := net.ResolveUDPAddr("udp4", strings.TrimPrefix(s.url, "https://"))
	require.NoError(s, err)
	conn, err := net.ListenUDP("udp4", address)
	require.NoError(s, err)
	s.Cleanup(func() { conn.Close() })
	return conn
}

// comesBack ends a trouble for which its socket was closed, or now is.
func (s *scene) comesBack(stop func()) func() {
	return func() { stop(); s.serve(s.here(), fine) }
}

// until serves a handler up to the end of the trouble, and one that is well from then on.
func (s *scene) until(handler http.HandlerFunc) func() {
	var over atomic.Bool
	s.serve(s.listen(), func(w http.ResponseWriter, r *http.Request) {
		if over.Load() {
			fine(w, r)
			return
		}
		handler(w, r)
	})
	return func() { over.Store(true) }
}

// begin sends the headers and the beginning of a body.
func begin(w http.ResponseWriter) {
	io.WriteString(w, "some of it")
	w.(http.Flusher).Flush()
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func atFault(change func(*http.Request)) trouble {
	return trouble{
		make:    func(s *scene) func() { s.serve(s.listen(), fine); return nil },
		request: func(s *scene) *http.Request { req := s.request(nil); change(req); return req },
		want:    policy.Ignored,
	}
}

func (t trouble) called(name string) trouble { t.name = name; return t }

// accepting serves QUIC with these settings, and nothing on top.
func (s *scene) accepting(protocol string, config *quic.Config) (stop func()) {
	conn := s.listen()
	q := &quic.Transport{Conn: conn}
	stop = func() { q.Close(); conn.Close() }
	s.Cleanup(stop)
	listener, err := q.Listen(&tls.Config{Certificates: []tls.Certificate{s.certificate}, NextProtos: []string{protocol}}, config)
	require.NoError(s, err)
	go func() {
		for {
			if _, err := listener.Accept(context.Background()); err != nil {
				return
			}
		}
	}()
	return stop
}

// forgetful is an upstream that can lose its memory: it answers packets of connections that it does not know by a stateless reset.
func (s *scene) forgetful() (forget func()) {
	key := &quic.StatelessResetKey{1}
	relay := s.listen() // what clients see; behind it, each instance has a socket of its own
	var behind atomic.Pointer[net.UDPAddr]
	var client atomic.Pointer[net.Addr]
	inner, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(s, err)
	s.Cleanup(func() { inner.Close() })
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
	forget = func() {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(s, err)
		q := &quic.Transport{Conn: conn, StatelessResetKey: key}
		server := &http3.Server{Handler: http.HandlerFunc(fine), Logger: slog.New(slog.DiscardHandler)}
		listener, err := q.ListenEarly(http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{s.certificate}}), nil)
		require.NoError(s, err)
		go server.ServeListener(listener)
		s.Cleanup(func() { server.Close(); q.Close(); conn.Close() })
		behind.Store(conn.LocalAddr().(*net.UDPAddr))
	}
	forget()
	return forget
}

var troubles = []trouble{
	{name: "nobody listens", want: policy.Failure, make: func(s *scene) func() {
		s.impatient()
		s.listen().Close()
		return s.comesBack(func() {})
	}},
	{name: "it answers nothing", want: policy.Failure, make: func(s *scene) func() {
		s.impatient()
		conn := s.listen()
		return s.comesBack(func() { conn.Close() })
	}},
	{name: "it is killed", want: policy.Failure, make: func(s *scene) func() {
		s.base.QUICConfig.HandshakeIdleTimeout, s.base.QUICConfig.MaxIdleTimeout = 500*time.Millisecond, time.Second
		kill := s.serve(s.listen(), fine)
		s.call(s.request(nil))
		require.NoError(s, s.err)
		kill()
		return s.comesBack(func() {})
	}},
	{name: "it has lost its memory and resets the connection, a good call before each", want: policy.Failure,
		make: func(s *scene) func() { s.forget = s.forgetful(); return nil },
		request: func(s *scene) *http.Request {
			s.call(s.request(nil)) // on a new connection
			require.NoError(s, s.err)
			s.forget()
			return s.request(nil)
		}},
	{name: "it closes the connection under the call", want: policy.Failure, make: func(s *scene) func() {
		return s.until(func(_ http.ResponseWriter, r *http.Request) {
			r.Context().Value(connKey{}).(*quic.Conn).CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeInternalError), "out of order")
		})
	}},
	{name: "it refuses connections", want: policy.Failure, make: func(s *scene) func() {
		return s.comesBack(s.accepting(http3.NextProtoH3, &quic.Config{
			GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) { return nil, errors.New("no") },
		}))
	}},
	{name: "it speaks another protocol", want: policy.Failure, make: func(s *scene) func() { return s.comesBack(s.accepting("other", nil)) }},
	{name: "it speaks another version", want: policy.Failure, make: func(s *scene) func() {
		return s.comesBack(s.accepting(http3.NextProtoH3, &quic.Config{Versions: []quic.Version{quic.Version2}}))
	}},
	{name: "its certificate is of another name", want: policy.Failure, make: func(s *scene) func() {
		s.serve(s.listen(), fine)
		s.base.TLSClientConfig.ServerName = "another.example"
		return nil
	}},
	{name: "it answers 503", want: policy.Failure, make: func(s *scene) func() {
		return s.until(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	}},
	{name: "it aborts answers", want: policy.Failure, make: func(s *scene) func() {
		return s.until(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}},
	{name: "it cuts bodies", want: policy.Failure, make: func(s *scene) func() {
		return s.until(func(w http.ResponseWriter, _ *http.Request) {
			begin(w)
			<-s.begun
			panic(http.ErrAbortHandler)
		})
	}},
	{name: "it ends bodies before their length", want: policy.Failure, make: func(s *scene) func() {
		return s.until(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "some of it")
		})
	}},
	{name: "it is silent, until the caller's deadline", want: policy.Failure, request: withDeadline,
		make: func(s *scene) func() { return s.until(hang) }},
	{name: "it is silent in the body, until the caller's deadline", want: policy.Failure, request: withDeadline,
		make: func(s *scene) func() {
			return s.until(func(w http.ResponseWriter, r *http.Request) { begin(w); hang(w, r) })
		}},
	{name: "the caller cancels", want: policy.Ignored, make: func(s *scene) func() { s.until(hang); return nil },
		request: func(s *scene) *http.Request {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(patient, cancel)
			return s.request(nil).WithContext(ctx)
		}},
	{name: "it answers 413 before it has read the body", want: policy.Success,
		make: func(s *scene) func() {
			s.serve(s.listen(), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
			return nil
		},
		request: func(s *scene) *http.Request { return s.request(bytes.NewReader(make([]byte, 8<<20))) }},
	atFault(func(r *http.Request) {
		r.Method, r.Body = "POST", io.NopCloser(iotest.ErrReader(errors.New("the caller's disk is gone")))
	}).
		called("a body that fails to read"),
	{name: "a body that fails after the answer has begun", want: policy.Ignored,
		make: func(s *scene) func() {
			s.serve(s.listen(), func(w http.ResponseWriter, r *http.Request) { begin(w); fine(w, r) })
			return nil
		},
		request: func(s *scene) *http.Request {
			return s.request(io.MultiReader(strings.NewReader("some of it"), readerFunc(func([]byte) (int, error) {
				<-s.begun
				return 0, errors.New("the caller's disk is gone")
			})))
		}},
	atFault(func(r *http.Request) { r.Header["Bad Name"] = []string{"x"} }).called("the name of a header is none"),
	atFault(func(r *http.Request) { r.Header["Name"] = []string{"a\nb"} }).called("the value of a header is none"),
	atFault(func(r *http.Request) { r.Method = "B@D" }).called("the method is none"),
	atFault(func(r *http.Request) { r.URL.Scheme = "http" }).called("http://"),
	atFault(func(r *http.Request) { r.URL.Host = "" }).called("no host"),
	atFault(func(r *http.Request) { r.Header = nil }).called("no header"),
}

// chance has it which version that is none a server offers, and where, so that clients get used to that.
var chance = regexp.MustCompile(`(server offered \[).*(\])`)

var cutUpload = regexp.MustCompile(`H3_(INCOMPLETE_REQUEST|INTERNAL_ERROR)`)

const intro = `# What calls over HTTP/3 come to

Each line is calls that were really made, on loopback, over the http3.Transport of quic-go %s, to a server of it, by a ` + "`transport.New(base)`" + ` with its
defaults, until the circuit opened or %d were made. Where nothing but a timeout ends a call, it is the connection's own, and short here. The time in brackets is
how long after the end of the trouble a call, of one every 10 ms, was answered well (it is measured, and not compared). The page is written by
` + "`cd conformance/http3 && go test . -run TestPage -write`" + ` and by no hand; without ` + "`-write`" + ` the test compares it with what it sees.

| trouble | what the caller gets | outcome | cause | opens |
|---|---|---|---|---|
%s
A port at which nobody listens does not refuse over QUIC, as far as quic-go looks: calls end by its timeouts (` + "`HandshakeIdleTimeout`" + `, 5 s by default, and
` + "`MaxIdleTimeout`" + `, 30 s), or by the caller's deadline.

Some requests that are at fault in ways that net/http finds at once, http3 sends all the same, and then the call hangs until ` + "`MaxIdleTimeout`" + ` ends it, or its
caller's deadline: check what callers hand in, and give calls a deadline.

Early data that an upstream does not take, as after a restart, fails its call at times with ` + "`0-RTT rejected`" + `, and so does at times the first call without early data
of a client that has a ` + "`ClientSessionCache`" + `. Both are ignored, as bad requests: the upstream is there, and the next call is as good as any.
`

func TestPageHasWhatWasSeen(t *testing.T) {
	troubles := slices.Concat(troubles, inEarlyData)
	lines := make([]string, len(troubles))
	t.Run("troubles", func(t *testing.T) {
		for n, trouble := range troubles {
			t.Run(trouble.name, func(t *testing.T) {
				t.Parallel()
				lines[n] = trouble.line(newScene(t))
			})
		}
	})
	if t.Failed() {
		return
	}
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`quic-go/quic-go (\S+)`).FindSubmatch(mod)
	require.NotNil(t, version)
	text := fmt.Sprintf(intro, version[1], mostCalls, strings.Join(lines, ""))
	if *write {
		require.NoError(t, os.WriteFile(page, []byte(text), 0o644))
		return
	}
	written, err := os.ReadFile(page)
	require.NoError(t, err)
	if inEarlyData == nil {
		written = regexp.MustCompile(`(?m)^\| .*_0RTT.*\n`).ReplaceAll(written, nil)
	}
	measured := regexp.MustCompile(`\([\d.]+ s\)`)
	require.Equal(t, measured.ReplaceAllString(string(written), "()"), measured.ReplaceAllString(text, "()"),
		"look at each difference, then: go test . -run TestPage -write")
}

// line makes calls in the trouble until the circuit opens, and then looks how long after its end it is closed.
func (t trouble) line(s *scene) string {
	end := t.make(s)
	opens := "stays closed"
	for call := 1; call <= mostCalls; call++ {
		req := s.request(nil)
		if t.request != nil {
			req = t.request(s)
		}
		s.status = ""
		s.early.Store(false)
		s.call(req)
		require.False(s, s.refused)
		require.Equal(s, t.want, s.last.Outcome, "%v: %v", s.last.Cause, s.err)
		if s.rt.Circuits()[0].State == policy.Open {
			opens = fmt.Sprintf("after %d calls", call)
			break
		}
	}
	got, cause := s.status, s.last.Cause
	if s.early.Load() {
		got += ", by early data"
	}
	if s.err != nil {
		text := chance.ReplaceAllString(s.err.Error(), "$1…$2")
		if cause.Kind == policy.KindBadRequest { // chance has it which is seen first, the client's end or what the server makes of it
			text = cutUpload.ReplaceAllString(text, "H3_INCOMPLETE_REQUEST or H3_INTERNAL_ERROR")
		}
		got = strings.TrimPrefix(got+", then `"+text+"`", ", then ")
	}
	if opens != "stays closed" && end != nil {
		end()
		since := time.Now()
		for tick := time.Tick(10 * time.Millisecond); ; <-tick {
			s.call(s.request(nil))
			if s.err == nil && !s.refused {
				break
			}
			require.Less(s, time.Since(since), mostBack, "%v: %v", s.last.Cause, s.err)
		}
		opens += fmt.Sprintf(", back (%.2f s)", time.Since(since).Seconds())
	}
	return fmt.Sprintf("| %s | %s | %v | %v | %s |\n", t.name, got, t.want, cause, opens)
}
