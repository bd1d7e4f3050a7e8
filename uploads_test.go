package fusebox_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const upload = 8 << 20

// upstreamOf answers connections on a real socket, and returns its URL.
func upstreamOf(t *testing.T, handle func(*net.TCPConn)) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// readSome reads a part of the request, so that its sender is in the middle of it.
func readSome(conn net.Conn) { io.CopyN(io.Discard, conn, 1<<20) }

// uploads posts until the circuit refuses, and returns how many calls it took; most if it did not. The cause is that of the last
// call that was no success.
func uploads(t *testing.T, url string, most int, body func() io.Reader, change func(*http.Request)) (calls int, cause policy.Cause) {
	base := new(http.Transport)
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) {
		if e.Outcome != policy.Success {
			cause = e.Cause
		}
	}}))}
	for range most {
		req, err := http.NewRequest(http.MethodPost, url, body())
		require.NoError(t, err)
		change(req)
		resp, err := client.Do(req)
		if transport.Refused(resp) {
			return calls, cause
		}
		calls++
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	return calls, cause
}

var payload = make([]byte, upload)

// What bodies are made of decides how net/http sends them, and whether a Transport looks at them.
var uploadBodies = map[string]func() io.Reader{
	"in memory": func() io.Reader { return bytes.NewReader(payload) },
	"a stream":  func() io.Reader { return io.MultiReader(bytes.NewReader(payload)) },
}

func asMade(*http.Request) {}

func TestAnUpstreamThatEndsUploadsIsToBlame(t *testing.T) {
	for name, handle := range map[string]func(*net.TCPConn){
		"closes at once":       func(*net.TCPConn) {},
		"closes in the middle": func(conn *net.TCPConn) { readSome(conn) },
		"resets in the middle": func(conn *net.TCPConn) { readSome(conn); conn.SetLinger(0) },
		"speaks no HTTP": func(conn *net.TCPConn) {
			io.WriteString(conn, "220 mail.example ESMTP\r\n")
			io.Copy(io.Discard, conn)
		},
		"hangs up in the middle": func(conn *net.TCPConn) { readSome(conn); conn.CloseWrite(); io.Copy(io.Discard, conn) },
	} {
		for of, body := range uploadBodies {
			t.Run(name+", body "+of, func(t *testing.T) {
				calls, cause := uploads(t, upstreamOf(t, handle), 40, body, asMade)
				require.Equal(t, 6, calls, "calls until it opened")
				require.NotEqual(t, policy.KindLocal, cause.Kind)
			})
		}
	}
}

// net/http closes the connection if it cannot go on with a request, and then says at times that it is closed, and not why.
func TestARequestThatCannotBeSentIsItsCallersFaultWhateverNetHTTPSaysOfTheConnection(t *testing.T) {
	url := upstreamOf(t, func(conn *net.TCPConn) { io.Copy(io.Discard, conn) })
	length := func(n int64) func(*http.Request) { return func(r *http.Request) { r.ContentLength = n } }
	most := 100
	if testkit.Brief() {
		most = 20
	}
	for name, change := range map[string]func(*http.Request){
		"a body shorter than its length": length(upload + 1),
		"a body longer than its length":  length(upload - 1),
		"a trailer that must not be": func(r *http.Request) {
			r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": nil}
		},
		"a control character in the URL": func(r *http.Request) { r.URL.Opaque = "http://a\n" },
	} {
		for of, body := range uploadBodies {
			t.Run(name+", body "+of, func(t *testing.T) {
				calls, cause := uploads(t, url, most, body, change)
				require.Equal(t, most, calls)
				require.Equal(t, policy.KindBadRequest, cause.Kind, "%v", cause)
			})
		}
	}
}

func TestAnUpstreamThatIsWellGetsItsUploads(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer server.Close()
	most := 40
	if testkit.Brief() {
		most = 10
	}
	for of, body := range uploadBodies {
		t.Run(of, func(t *testing.T) {
			calls, cause := uploads(t, server.URL, most, body, asMade)
			require.Equal(t, most, calls)
			require.Zero(t, cause)
		})
	}
}

// patient is a connection that sends no more than some before its caller has the answer: sending to a closed connection can lose one
// that has come.
type patient struct {
	net.Conn
	sent     int
	answered chan struct{}
}

func (c *patient) Write(p []byte) (int, error) {
	if c.sent += len(p); c.sent > 2<<20 {
		<-c.answered
	}
	return c.Conn.Write(p)
}

// A proxy that takes no more than so much says so and closes the connection. What is sent meanwhile resets it, and the rest of the
// answer is lost.
func TestUploadsBeyondALimitAreTheirCallersFault(t *testing.T) {
	try := testkit.OneIn(4)
	for _, status := range []string{"413 Content Too Large", "400 Bad Request", "401 Unauthorized"} {
		for name, ends := range map[string]func(*net.TCPConn){
			"closes": func(*net.TCPConn) {},
			"resets": func(conn *net.TCPConn) { conn.SetLinger(0) },
		} {
			for of, body := range uploadBodies {
				if !try() {
					continue
				}
				t.Run(name+" after "+status+", body "+of, func(t *testing.T) {
					var answered atomic.Value // the channel of the call that is under way
					answered.Store(make(chan struct{}))
					url := upstreamOf(t, func(conn *net.TCPConn) {
						answered := answered.Load().(chan struct{})
						readSome(conn)
						io.WriteString(conn, "HTTP/1.1 "+status+"\r\nConnection: close\r\nContent-Length: 100000\r\n\r\nonly a part")
						<-answered
						ends(conn)
					})
					base := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
						conn, err := new(net.Dialer).DialContext(ctx, network, address)
						return &patient{Conn: conn, answered: answered.Load().(chan struct{})}, err
					}}
					var ends []transport.CallEnd
					rt := transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends = append(ends, e) }}))
					for range 20 {
						req, err := http.NewRequest(http.MethodPost, url, body())
						require.NoError(t, err)
						resp, err := rt.RoundTrip(req)
						require.NoError(t, err)
						require.False(t, transport.Refused(resp))
						close(answered.Load().(chan struct{}))
						_, err = io.Copy(io.Discard, resp.Body)
						require.Error(t, err)
						resp.Body.Close()
						answered.Store(make(chan struct{}))
					}
					require.Len(t, ends, 20)
					for _, e := range ends {
						require.Equal(t, policy.Ignored, e.Outcome)
						require.Equal(t, policy.KindBadRequest, e.Cause.Kind, "%v", e.Cause)
					}
				})
			}
		}
	}
}

func TestAnAnswerThatBreaksIsTheUpstreamsFaultThoughItSaysThatTheRequestIsAtFault(t *testing.T) {
	for name, c := range map[string]struct {
		status string
		change func(*http.Request)
	}{
		"nothing was sent":      {"404 Not Found", func(r *http.Request) { r.Body, r.ContentLength = nil, 0 }},
		"all of it was welcome": {"200 OK", asMade},
	} {
		t.Run(name, func(t *testing.T) {
			url := upstreamOf(t, func(conn *net.TCPConn) {
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					io.Copy(io.Discard, req.Body)
				}
				io.WriteString(conn, "HTTP/1.1 "+c.status+"\r\nContent-Length: 100000\r\n\r\nonly a part")
			})
			calls, cause := uploads(t, url, 20, func() io.Reader { return strings.NewReader("small") }, c.change)
			require.Equal(t, 6, calls)
			require.Equal(t, policy.KindReset, cause.Kind)
		})
	}
}

// breaks is a body that fails when its first bytes have been answered.
type breaks struct {
	first    io.Reader
	answered chan struct{}
}

func (b *breaks) Read(p []byte) (int, error) {
	if n, err := b.first.Read(p); err == nil {
		return n, nil
	}
	<-b.answered
	return 0, errDisk
}

var errDisk = errors.New("the caller's disk is gone")

func TestABodyThatFailsAfterTheAnswerBeganIsItsCallersFault(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){
		"HTTP/1.1": (*httptest.Server).Start,
		"HTTP/2":   func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
				io.Copy(w, r.Body)
				panic(http.ErrAbortHandler)
			}))
			start(server)
			defer server.Close()
			var ends []transport.CallEnd
			base := server.Client().Transport.(*http.Transport)
			defer base.CloseIdleConnections()
			rt := transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends = append(ends, e) }}))
			for range 10 {
				body := &breaks{strings.NewReader("some of it"), make(chan struct{})}
				req, err := http.NewRequest(http.MethodPost, server.URL, body)
				require.NoError(t, err)
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				close(body.answered)
				_, err = io.Copy(io.Discard, resp.Body)
				require.Error(t, err)
				resp.Body.Close()
			}
			require.Len(t, ends, 10)
			for _, e := range ends {
				require.Equal(t, policy.Ignored, e.Outcome)
				require.Equal(t, policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindBadRequest, Status: 200}, e.Cause)
			}
		})
	}
}
