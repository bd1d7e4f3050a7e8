package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// pool is a base that says, as http.Transport does, over what connection each call goes.
type pool struct {
	conn   func() httptrace.GotConnInfo
	answer func(*http.Request) (*http.Response, error)
	major  int
	calls  int
	closed int // times that its idle connections were
	seen   []*http.Request
}

func (p *pool) RoundTrip(req *http.Request) (*http.Response, error) {
	p.calls++
	p.seen = append(p.seen, req)
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && p.conn != nil {
		trace.GotConn(p.conn())
	}
	resp, err := p.answer(req)
	if resp != nil {
		resp.ProtoMajor = p.major
	}
	return resp, err
}

func (p *pool) CloseIdleConnections() { p.closed++ }

func mute(req *http.Request) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

func gone(*http.Request) (*http.Response, error) { return nil, context.DeadlineExceeded }

// before is a connection that was of use a minute ago for the last time; fresh one that was made for the call; busy one
// over which another call has just been answered, or over HTTP/2 is still out.
func before() httptrace.GotConnInfo {
	return httptrace.GotConnInfo{Reused: true, WasIdle: true, IdleTime: time.Minute}
}
func fresh() httptrace.GotConnInfo { return httptrace.GotConnInfo{} }
func busy() httptrace.GotConnInfo  { return httptrace.GotConnInfo{Reused: true} }

// silenced is a Transport, one answer of whose base has been seen, and whose circuit has then opened by silence.
func silenced(t *testing.T, p *pool, opts ...transport.Option) *transport.Transport {
	rt := transport.New(p, opts...)
	call(t, rt)
	p.answer = gone
	for i := 0; circuit(t, rt, here).State != policy.Open; i++ {
		require.Less(t, i, 100)
		call(t, rt)
	}
	time.Sleep(time.Second)
	p.calls, p.seen = 0, nil
	return rt
}

var both = map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{OpenFor: time.Second}}

func TestIdleConnectionsAreClosedOnceAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{conn: fresh, answer: answer(200, ""), major: 1}
		rt := silenced(t, p)
		require.Zero(t, p.closed)
		for range 200 {
			call(t, rt)
			time.Sleep(200 * time.Millisecond)
		}
		require.Greater(t, p.calls, 5)
		require.Equal(t, 1, p.closed, "probes have gone over new connections since: others are not to pay for it")

		p.conn = before
		for p.calls = 0; p.calls == 0; {
			call(t, rt)
		}
		require.Equal(t, 1, p.closed)
		call(t, rt)
		require.Equal(t, 2, p.closed, "there was one left")
	})
}

func TestIdleConnectionsAreLeftAloneByWhatIsNoSilence(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(*http.Request) (*http.Response, error)
		closed int
	}{
		"a status":   {answer(503, ""), 0},
		"some error": {func(*http.Request) (*http.Response, error) { return nil, errors.New("something else") }, 0},
		"a deadline": {gone, 1},
		"a reset":    {func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 1},
	} {
		for policyName, of := range both {
			t.Run(name+", "+policyName, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &pool{conn: fresh, answer: answer(200, ""), major: 1}
					rt := transport.New(p, transport.WithPolicy(of))
					p.answer = c.answer
					for range 6 {
						call(t, rt)
					}
					time.Sleep(time.Second)
					p.answer = answer(200, "")
					for range 100 {
						call(t, rt)
					}
					require.Equal(t, c.closed, p.closed)
				})
			})
		}
	}
}

func TestABaseThatAnswersByHTTP3IsNeverAskedToClose(t *testing.T) {
	for name, of := range both {
		for _, body := range []string{"", "hello"} {
			t.Run(name+body, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &pool{conn: before, answer: answer(200, body), major: 3}
					rt := silenced(t, p, transport.WithPolicy(of))
					for range 200 {
						call(t, rt)
						time.Sleep(200 * time.Millisecond)
					}
					require.NotZero(t, p.calls)
					require.Zero(t, p.closed)
					for _, req := range p.seen {
						require.False(t, req.Close)
					}
					require.Less(t, p.calls, 50, "and of its connections nothing is known")
				})
			})
		}
	}
}

func TestOneUpstreamByHTTP3IsReasonEnoughNotToClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{conn: before, answer: answer(200, "")}
		rt := transport.New(p)
		other := newRequest(t, http.MethodGet, t.Context())
		other.URL.Host = "other.test"
		for _, p.major = range []int{1, 1, 3, 1} { // as after an Alt-Svc
			rt.RoundTrip(other)
		}
		p.answer = gone
		for range 100 {
			call(t, rt)
			time.Sleep(100 * time.Millisecond)
		}
		require.Zero(t, p.closed)
	})
}

func TestAPoolOfDeadConnectionsIsUsedUp(t *testing.T) {
	for name, of := range both {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dead := 0
				p := &pool{answer: answer(200, ""), major: 1}
				rt := silenced(t, p, transport.WithPolicy(of))
				dead = 50
				p.conn = func() httptrace.GotConnInfo {
					if dead == 0 {
						p.answer = answer(200, "")
						return fresh()
					}
					p.answer = mute
					dead--
					return before()
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				began := time.Now()
				for dead > 0 || circuit(t, rt, here).State == policy.Open {
					require.Less(t, time.Since(began), 3*time.Second)
					go rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
					synctest.Wait()
					time.Sleep(10 * time.Millisecond)
				}
				require.Less(t, time.Since(began), 3*time.Second)
				require.Equal(t, 200, status(t, rt))
			})
		})
	}
}

func status(t *testing.T, rt http.RoundTripper) int {
	resp, err := call(t, rt)
	require.NoError(t, err)
	return resp.StatusCode
}

func TestADeadUpstreamIsNotProbedWithoutEndForItsDeadConnections(t *testing.T) {
	try := testkit.OneIn(4)
	for _, c := range []struct {
		name  string
		conn  func() httptrace.GotConnInfo
		major int
		most  int // that went at once, of probes
	}{
		{"idle since before", before, 1, 128},
		{"idle since a moment ago", func() httptrace.GotConnInfo {
			return httptrace.GotConnInfo{Reused: true, WasIdle: true, IdleTime: time.Millisecond}
		}, 1, 0},
		{"over HTTP/2", busy, 2, 4},
		{"over HTTP/2, and idle", before, 2, 4},
		{"used by others", busy, 1, 0},
		{"new", fresh, 1, 0},
		{"new, HTTP/2", fresh, 2, 0},
		{"not told", nil, 1, 0},
	} {
		if !try() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{conn: c.conn, answer: answer(200, ""), major: c.major}
				rt := silenced(t, p)
				const requests = 10_000
				for range requests {
					call(t, rt)
					time.Sleep(50 * time.Millisecond)
				}
				require.Greater(t, p.calls, c.most+80)
				require.Less(t, p.calls, c.most+110, "at the squares there are 99 of %d", requests)
				require.LessOrEqual(t, p.closed, c.most+1)
			})
		})
	}
}

func TestOverHTTP2AProbeAfterSilenceHasItsConnectionTakeNoMore(t *testing.T) {
	upgrade := func(req *http.Request) {
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "websocket")
	}
	for name, c := range map[string]struct {
		major  int
		change func(*http.Request)
		close  bool
	}{
		"HTTP/2":     {2, func(*http.Request) {}, true},
		"HTTP/1":     {1, func(*http.Request) {}, false},
		"an upgrade": {2, upgrade, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{conn: fresh, answer: answer(200, ""), major: c.major}
				rt := silenced(t, p)
				p.answer = answer(200, "")
				req := newRequest(t, http.MethodGet, t.Context())
				c.change(req)
				sent := *req
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, c.close, p.seen[0].Close)
				require.Same(t, req, resp.Request)
				require.Equal(t, &sent, req, "the caller's request is left alone")
				require.Equal(t, req.Header, p.seen[0].Header)
				send(t, rt, c.change)
				require.False(t, p.seen[1].Close, "the ramp calls as its callers do")

				rt = silenced(t, p)
				call(t, rt)
				p.seen, p.answer = nil, answer(200, "")
				for i := 0; len(p.seen) == 0; i++ {
					require.Less(t, i, 100)
					send(t, rt, c.change)
					time.Sleep(100 * time.Millisecond)
				}
				require.False(t, p.seen[0].Close, "the one before went over a new connection")
			})
		})
	}
}

func TestACallersOwnTraceIsToldAsEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pool{conn: before, answer: answer(200, ""), major: 1}
		rt := silenced(t, p)
		p.answer = answer(200, "")
		got, looked := 0, 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { require.Equal(t, before(), info); got++ },
			GetConn: func(string) { looked++ },
		})
		req := newRequest(t, http.MethodGet, ctx)
		_, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 1, got)
		httptrace.ContextClientTrace(p.seen[0].Context()).GetConn("")
		require.Equal(t, 1, looked)
		require.NotSame(t, req, p.seen[0])
		req = newRequest(t, http.MethodGet, ctx)
		_, err = rt.RoundTrip(req)
		require.NoError(t, err)
		require.Same(t, req, p.seen[1], "only of a probe there is a copy")
	})
}

func TestAHealthCheckGoesOverANewConnectionToo(t *testing.T) {
	for name, of := range both {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &pool{conn: before, answer: answer(200, ""), major: 1}
				rt := silenced(t, p, transport.WithPolicy(of), transport.WithHealthCheck(func(k transport.Key) *http.Request {
					req, err := http.NewRequest(http.MethodGet, k.String()+"/health", nil)
					require.NoError(t, err)
					return req
				}))
				call(t, rt)
				call(t, rt)
				require.Equal(t, 2, p.closed)
				require.Equal(t, 2, p.calls, "the first says nothing")
				p.answer = answer(200, "")
				require.Equal(t, 200, status(t, rt))
			})
		})
	}
}

func TestABaseThatPanicsWhenItIsToCloseLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &panicking{pool{conn: fresh, answer: answer(200, ""), major: 1}, true}
		rt := transport.New(p)
		p.answer = gone
		for range 6 {
			call(t, rt)
		}
		time.Sleep(time.Second)
		body := &countedBody{Reader: strings.NewReader("payload")}
		req := newRequest(t, http.MethodPost, t.Context())
		req.Body = body
		panics(func() { rt.RoundTrip(req) })
		require.EqualValues(t, 1, body.closes.Load())
		require.Zero(t, circuit(t, rt, here).InFlight)
		p.bad, p.answer = false, answer(200, "")
		for range 10 {
			call(t, rt)
		}
		require.NotEqual(t, policy.Open, circuit(t, rt, here).State)
	})
}

type panicking struct {
	pool
	bad bool
}

func (p *panicking) CloseIdleConnections() {
	if p.bad {
		panic("close")
	}
}

// TestAProbeBreaksNoBodyThatIsBeingRead holds bodies open while connections are closed around them.
func TestAProbeBreaksNoBodyThatIsBeingRead(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", http2), func(t *testing.T) {
			here, there := newStreams(t, http2), newStreams(t, http2)
			base := &http.Transport{ForceAttemptHTTP2: http2, TLSClientConfig: here.Client().Transport.(*http.Transport).TLSClientConfig.Clone()}
			base.TLSClientConfig.RootCAs.AddCert(there.Certificate())
			defer base.CloseIdleConnections()
			if !http2 {
				base.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
			}
			closing := &counting{Transport: base}
			rt := transport.New(closing, transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Nanosecond}))
			client := &http.Client{Transport: rt}
			open := []*http.Response{}
			for _, s := range []*streams{here, there, here, there} {
				resp, err := client.Get(s.URL + "/stream")
				require.NoError(t, err)
				require.Equal(t, http2, resp.ProtoMajor == 2)
				defer resp.Body.Close()
				open = append(open, resp)
				s.next(t, resp)
			}
			for range 3 {
				ctx, cancel := context.WithCancel(t.Context())
				silence, err := http.NewRequestWithContext(ctx, http.MethodGet, here.URL+"/hang", nil)
				require.NoError(t, err)
				deadline, stop := context.WithTimeout(ctx, 300*time.Millisecond) // many times as long as calls take
				_, err = client.Do(silence.WithContext(deadline))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				stop()
				cancel()
				was := closing.closed
				resp, err := client.Get(here.URL)
				require.NoError(t, err)
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				require.Greater(t, closing.closed, was)
				for i, resp := range open {
					[]*streams{here, there, here, there}[i].next(t, resp)
				}
			}
		})
	}
}

type counting struct {
	*http.Transport
	closed int
}

func (c *counting) CloseIdleConnections() { c.closed++; c.Transport.CloseIdleConnections() }

// streams is a server of bodies that go on by one byte at a time.
type streams struct {
	*httptest.Server
	more chan struct{}
}

func newStreams(t *testing.T, http2 bool) *streams {
	s := &streams{more: make(chan struct{})}
	over := make(chan struct{})
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang": // whatever the connection does meanwhile, or it would be an answer now and then
			<-over
		case "/stream":
			for {
				w.(http.Flusher).Flush()
				select {
				case <-s.more:
					io.WriteString(w, "x")
				case <-r.Context().Done():
					return
				}
			}
		}
	}))
	s.EnableHTTP2 = http2
	s.StartTLS()
	t.Cleanup(func() { close(over); s.Close() })
	return s
}

// next has every body of the server go on until one byte of this one has come.
func (s *streams) next(t *testing.T, resp *http.Response) {
	t.Helper()
	read := make(chan error, 1)
	go func() { _, err := resp.Body.Read(make([]byte, 1)); read <- err }()
	for {
		select {
		case s.more <- struct{}{}:
		case err := <-read:
			require.NoError(t, err)
			return
		case <-time.After(10 * time.Second):
			t.Fatal("the body does not go on")
		}
	}
}
