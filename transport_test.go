package fusebox_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newClient(t *testing.T, opts ...transport.Option) (*http.Client, *transport.Transport) {
	rt := transport.New(nil, opts...)
	t.Cleanup(rt.CloseIdleConnections)
	return &http.Client{Transport: rt}, rt
}

func get(t *testing.T, client *http.Client, url string) (resp *http.Response, body string) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp, string(read)
}

type roundTripper = testkit.RoundTripper

var answer = testkit.Answer

var here = transport.Key{Scheme: "http", Host: "upstream.test"}

func request(t *testing.T, rt http.RoundTripper, ctx context.Context) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test/", nil)
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

func stateOf(t *testing.T, rt *transport.Transport, k transport.Key) policy.State {
	t.Helper()
	c, ok := rt.Circuit(k)
	require.True(t, ok, "no circuit of %v", k)
	return c.State
}

func TestASickUpstreamIsRefusedAndTheOthersAreNot(t *testing.T) {
	sick, well := testkit.NewServer(t), testkit.NewServer(t)
	client, _ := newClient(t, transport.WithPolicy(policy.Classic{Failures: 3}))
	sick.Status.Store(http.StatusInternalServerError)
	for range 3 {
		resp, body := get(t, client, sick.URL)
		require.Equal(t, http.StatusInternalServerError, resp.StatusCode, "the upstream's own answer")
		require.Equal(t, "from the upstream", body)
		require.False(t, transport.Refused(resp))
	}
	for range 5 {
		resp, _ := get(t, client, sick.URL)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.True(t, transport.Refused(resp))
	}
	require.EqualValues(t, 3, sick.Calls.Load(), "the sick upstream is left in peace")
	resp, _ := get(t, client, well.URL)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestTheCircuitGoesClosedOpenHalfOpenClosed(t *testing.T) {
	var sick atomic.Bool
	handler := func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
		io.WriteString(w, "hello")
	}
	bubble.Serve(t, nil, handler, func(t *testing.T, base *http.Transport) {
		var path []string
		rt := transport.New(base,
			transport.WithPolicy(policy.Classic{Failures: 5, OpenFor: 30 * time.Second, Probes: 3}),
			transport.WithObserver(transport.Observer{OnStateChange: func(e transport.StateChange) {
				path = append(path, fmt.Sprint(e.From, " to ", e.To, ": ", e.Reason))
			}}))
		client := &http.Client{Transport: rt, Timeout: time.Minute}
		statuses := func(n int) (got []int) {
			for range n {
				resp, _ := get(t, client, "http://upstream.test/")
				got = append(got, resp.StatusCode)
			}
			return got
		}
		require.Equal(t, []int{200, 200}, statuses(2))
		sick.Store(true)
		require.Equal(t, []int{502, 502, 502, 502, 502, 503, 503}, statuses(7))

		time.Sleep(30*time.Second - 1)
		require.Equal(t, []int{503}, statuses(1))
		time.Sleep(time.Nanosecond)
		require.Equal(t, []int{502, 503}, statuses(2), "one failure opens again")

		sick.Store(false)
		time.Sleep(30 * time.Second)
		require.Equal(t, []int{200, 200}, statuses(2))
		require.Equal(t, policy.HalfOpen, stateOf(t, rt, here))
		require.Equal(t, []int{200}, statuses(1))
		require.Equal(t, policy.Closed, stateOf(t, rt, here))
		require.Equal(t, []string{
			"closed to open: tripped", "open to half-open: open time passed", "half-open to open: recovery failed",
			"open to half-open: open time passed", "half-open to closed: recovered",
		}, path)
	})
}

func openTransport(base http.RoundTripper, opts ...transport.Option) *transport.Transport {
	rt := transport.New(base, opts...)
	rt.SetState(here, policy.Open)
	return rt
}

func TestDefaultRefusalIsAWellFormedResponse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := openTransport(answer(200, ""), transport.WithPolicy(policy.Classic{OpenFor: 90 * time.Second}))
		time.Sleep(88*time.Second + 500*time.Millisecond)
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			req := httptest.NewRequest(method, "http://upstream.test/", nil)
			resp, err := rt.RoundTrip(req)
			require.NoError(t, err)
			require.Equal(t, "503 Service Unavailable", resp.Status)
			require.Equal(t, 503, resp.StatusCode)
			require.Same(t, req, resp.Request)
			require.Equal(t, "2", resp.Header.Get("Retry-After"), "1.5 s are 2 whole seconds")
			require.Equal(t, "text/plain; charset=utf-8", resp.Header.Get("Content-Type"))
			require.Equal(t, "nosniff", resp.Header.Get("X-Content-Type-Options"))

			dump, err := httputil.DumpResponse(resp, true)
			require.NoError(t, err)
			parsed, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(dump)), req)
			require.NoError(t, err)
			body, err := io.ReadAll(parsed.Body)
			require.NoError(t, err)
			if method == http.MethodHead {
				require.Empty(t, body)
			} else {
				require.Equal(t, "fusebox: circuit open for http://upstream.test, next probe in 1.5s\n", string(body))
			}
			require.NoError(t, resp.Body.Close())
			require.NoError(t, resp.Body.Close(), "closed twice")
		}
		time.Sleep(1499 * time.Millisecond)
		resp, _ := request(t, rt, t.Context())
		require.Equal(t, "1", resp.Header.Get("Retry-After"), "never 0")
	})
}

func TestOwnRefusals(t *testing.T) {
	cached := &http.Response{StatusCode: 200, Header: http.Header{"X-From": {"cache"}}}
	boom := errors.New("boom")
	cases := []struct {
		name   string
		option transport.Option
		check  func(*http.Response, error)
	}{
		{"fixed", transport.WithRefusal(transport.Response(429, http.Header{"Content-Type": {"application/json"}}, `{"down":true}`)),
			func(resp *http.Response, err error) {
				require.NoError(t, err)
				require.Equal(t, "429 Too Many Requests", resp.Status)
				require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
				require.NotEmpty(t, resp.Header.Get("Retry-After"))
				body, _ := io.ReadAll(resp.Body)
				require.Equal(t, `{"down":true}`, string(body))
				require.True(t, transport.Refused(resp))
			}},
		{"error", transport.WithRefusalError(), func(resp *http.Response, err error) {
			require.Nil(t, resp)
			require.ErrorIs(t, err, transport.ErrOpen)
			var open *transport.RefusedError
			require.ErrorAs(t, err, &open)
			require.Equal(t, here, open.Key)
			require.Equal(t, policy.Open, open.State)
			require.Positive(t, open.RetryAfter)
			require.Contains(t, err.Error(), "fusebox: circuit open for http://upstream.test, next probe in ")
		}},
		{"function", transport.WithRefusal(func(*http.Request, *transport.RefusedError) (*http.Response, error) {
			copied := *cached
			return &copied, nil
		}), func(resp *http.Response, err error) {
			require.NoError(t, err)
			require.Equal(t, "cache", resp.Header.Get("X-From"))
			require.NotNil(t, resp.Request)
			require.NotNil(t, resp.Body)
			require.True(t, transport.Refused(resp))
			require.Len(t, cached.Header, 1, "the function's header is not written to")
		}},
		{"function's error", transport.WithRefusal(func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, boom }),
			func(_ *http.Response, err error) { require.ErrorIs(t, err, boom); require.EqualError(t, err, "boom") }},
		{"function's nothing", transport.WithRefusal(func(*http.Request, *transport.RefusedError) (*http.Response, error) { return nil, nil }),
			func(_ *http.Response, err error) { require.ErrorIs(t, err, transport.ErrOpen) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			req := httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil)
			c.check(openTransport(answer(200, ""), c.option).RoundTrip(req))
		})
	}
}

func TestNoUpstreamCanForgeARefusal(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Fusebox", "refused")
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	client, rt := newClient(t)
	client.Timeout = time.Minute // http.Client then wraps the body
	resp, _ := get(t, client, server.URL)
	require.Equal(t, "refused", resp.Header.Get("X-Fusebox"))
	require.False(t, transport.Refused(resp))
	require.False(t, transport.Refused(nil))

	rt.SetState(rt.Circuits()[0].Key, policy.Open)
	resp, _ = get(t, client, server.URL)
	require.True(t, transport.Refused(resp))
	require.True(t, transport.Refused(&http.Response{Header: resp.Header.Clone()}))
}

// countedBody counts how often it is closed.
type countedBody struct {
	io.Reader
	closes atomic.Int32
}

func (b *countedBody) Close() error { b.closes.Add(1); return nil }

func TestRefusalClosesTheRequestBody(t *testing.T) {
	body := &countedBody{Reader: strings.NewReader("payload")}
	req := httptest.NewRequest(http.MethodPost, "http://upstream.test/", nil)
	req.Body = body
	_, err := openTransport(answer(200, "")).RoundTrip(req)
	require.NoError(t, err)
	require.EqualValues(t, 1, body.closes.Load())
}

func TestTheRequestReachesTheBaseUntouched(t *testing.T) {
	var got *http.Request
	rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		got = req
		return answer(200, "x")(req)
	}))
	inMemory, err := http.NewRequest(http.MethodPost, "http://upstream.test/", strings.NewReader("payload"))
	require.NoError(t, err)
	without, err := http.NewRequest(http.MethodGet, "http://upstream.test/", nil)
	require.NoError(t, err)
	for _, req := range []*http.Request{inMemory, without} {
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Same(t, req, got)
		require.Same(t, req, resp.Request)
		resp.Body.Close()
	}

	stream, err := http.NewRequest(http.MethodPost, "http://upstream.test/", io.MultiReader(strings.NewReader("payload")))
	require.NoError(t, err)
	before := *stream
	resp, err := rt.RoundTrip(stream)
	require.NoError(t, err)
	resp.Body.Close()
	require.Equal(t, before, *stream, "the caller's request is as it was")
	require.Same(t, stream, resp.Request)
	require.NotSame(t, stream, got)
	got.Body = stream.Body
	require.Equal(t, *stream, *got, "the copy differs in its body alone")
}

func TestTheResponseIsTheBasesOwn(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "part one, ")
		w.(http.Flusher).Flush()
		io.WriteString(w, "part two")
		w.Header().Set("X-Sum", "42")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	for _, proto := range []int{1, 2} {
		base := server.Client().Transport.(*http.Transport).Clone()
		base.ForceAttemptHTTP2 = proto == 2
		if proto == 1 {
			base.TLSClientConfig.NextProtos = []string{"http/1.1"}
		}
		rt := transport.New(base)
		resp, err := (&http.Client{Transport: rt}).Get(server.URL)
		require.NoError(t, err)
		require.Equal(t, proto, resp.ProtoMajor)
		require.NotNil(t, resp.TLS)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "part one, part two", string(body))
		require.Equal(t, "42", resp.Trailer.Get("X-Sum"))
		require.NoError(t, resp.Body.Close())
		rt.CloseIdleConnections()
	}
}

func TestSwitchedProtocolsStayDuplex(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		line, _ := rw.ReadString('\n')
		io.WriteString(conn, "echo "+line)
	}))
	defer server.Close()
	client, rt := newClient(t)
	req, err := http.NewRequest(http.MethodGet, server.URL, nil)
	require.NoError(t, err)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "echo")
	resp, err := client.Do(req)
	require.NoError(t, err)
	duplex, ok := resp.Body.(io.ReadWriteCloser)
	require.True(t, ok, "the body of a 101 can be written to")
	io.WriteString(duplex, "hello\n")
	line, err := bufio.NewReader(duplex).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "echo hello\n", line)
	require.NoError(t, duplex.Close())
	require.Equal(t, policy.Closed, rt.Circuits()[0].State)
}

type duplexBody struct{ io.ReadWriteCloser }

func TestABodyThatCanBeWrittenToIsTheCallersOwn(t *testing.T) {
	body := duplexBody{}
	rt := halfOpen(roundTripper(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: -1, Body: body}, nil
	}))
	resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil))
	require.NoError(t, err)
	require.Equal(t, body, resp.Body)
	require.Equal(t, policy.Closed, stateOf(t, rt, here), "its headers settle the call")
}

// writerToBody is a body that can write itself, and breaks if told to.
type writerToBody struct {
	*strings.Reader
	err error
}

func (b writerToBody) WriteTo(w io.Writer) (int64, error) {
	n, err := b.Reader.WriteTo(w)
	if err == nil {
		err = b.err
	}
	return n, err
}
func (writerToBody) Close() error { return nil }

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("the caller's disk is full") }

func TestABodyThatWritesItselfStillDoes(t *testing.T) {
	var bodyErr error
	rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: -1, Body: writerToBody{strings.NewReader("hello"), bodyErr}}, nil
	}))
	failed := func(w io.Writer) uint64 {
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil))
		require.NoError(t, err)
		_, ok := resp.Body.(io.WriterTo)
		require.True(t, ok)
		io.Copy(w, resp.Body)
		resp.Body.Close()
		c, _ := rt.Circuit(here)
		return c.FailedCalls
	}
	var sb strings.Builder
	require.EqualValues(t, 0, failed(&sb))
	require.Equal(t, "hello", sb.String())
	require.EqualValues(t, 0, failed(brokenWriter{}), "the caller's writer is not the upstream's fault")
	bodyErr = io.ErrUnexpectedEOF
	require.EqualValues(t, 1, failed(io.Discard))
}

func TestABodyThatBreaksIsAFailure(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		io.WriteString(w, "and then nothing")
	}))
	defer server.Close()
	client, rt := newClient(t, transport.WithPolicy(policy.Classic{Failures: 2}))
	for range 2 {
		resp, err := client.Get(server.URL)
		require.NoError(t, err)
		require.Equal(t, policy.Closed, rt.Circuits()[0].State)
		_, err = io.ReadAll(resp.Body)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		resp.Body.Close()
		resp.Body.Close()
	}
	c := rt.Circuits()[0]
	require.Equal(t, policy.Open, c.State)
	require.EqualValues(t, 2, c.FailedCalls, "a body that breaks and is closed twice is one failure")
	require.Equal(t, policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindReset, Status: 200}, c.Cause)
}

var classic = transport.WithPolicy(policy.Classic{})

// halfOpen gives a transport whose circuit is half-open with one place.
func halfOpen(base http.RoundTripper, opts ...transport.Option) *transport.Transport {
	rt := transport.New(base, append([]transport.Option{classic}, opts...)...)
	rt.SetState(here, policy.HalfOpen)
	return rt
}

func TestAHalfOpenPlaceIsGivenBackWhateverHappens(t *testing.T) {
	errBase := errors.New("base failed")
	canceled, cancel := context.WithCancel(t.Context())
	cases := []struct {
		name   string
		ctx    context.Context
		base   roundTripper
		option transport.Option
		ends   func(do func()) // how the call's goroutine ends
		want   policy.State
	}{
		{name: "error", base: func(*http.Request) (*http.Response, error) { return nil, errBase }, want: policy.Open},
		{name: "failure", base: answer(500, "x"), want: policy.Open},
		{name: "success", base: answer(200, "x"), want: policy.Closed},
		{name: "canceled caller", ctx: canceled, base: func(req *http.Request) (*http.Response, error) {
			cancel()
			return nil, req.Context().Err()
		}, want: policy.HalfOpen},
		{name: "panic of the base", base: func(*http.Request) (*http.Response, error) { panic("base") }, ends: panics, want: policy.HalfOpen},
		{name: "Goexit in the base", base: func(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }, ends: exits, want: policy.HalfOpen},
		{name: "panic of a classifier", base: answer(200, "x"), ends: panics, want: policy.HalfOpen,
			option: transport.WithClassifier(func(*policy.Call) policy.Outcome { panic("classifier") })},
		{name: "panic of an observer before", base: answer(200, "x"), ends: panics, want: policy.HalfOpen,
			option: transport.WithObserver(transport.Observer{OnCall: func(transport.CallStart) { panic("observer") }})},
		{name: "panic of an observer after", base: answer(500, "x"), ends: panics, want: policy.Open,
			option: transport.WithObserver(transport.Observer{OnOutcome: func(transport.CallEnd) { panic("observer") }})},
		{name: "a base that breaks the contract", base: func(*http.Request) (*http.Response, error) { return nil, nil }, want: policy.HalfOpen},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			var opts []transport.Option
			if c.option != nil {
				opts = append(opts, c.option)
			}
			var body *countedBody
			rt := halfOpen(roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := c.base(req)
				if resp != nil {
					body = &countedBody{Reader: resp.Body}
					resp.Body = body
				}
				return resp, err
			}), opts...)
			do := func() {
				req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, "http://upstream.test/", nil)
				require.NoError(t, err)
				resp, err := rt.RoundTrip(req)
				if err == nil && resp != nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
			if c.ends == nil {
				do()
			} else {
				c.ends(do)
			}
			circuit, _ := rt.Circuit(here)
			require.Equal(t, c.want, circuit.State)
			require.Zero(t, circuit.InFlight)
			if body != nil {
				require.EqualValues(t, 1, body.closes.Load(), "the response's body is closed")
			}
			if c.want == policy.HalfOpen { // the place is free again
				rt.SetClassifier()
				c.base, c.ctx = answer(200, ""), t.Context()
				if c.option == nil {
					do()
					require.Equal(t, policy.Closed, stateOf(t, rt, here))
				}
			}
		})
	}
}

func panics(do func()) {
	defer func() {
		if recover() == nil {
			panic("the panic did not go on")
		}
	}()
	do()
}

func exits(do func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	<-done
}

func TestAProbeWhoseBodyIsNeverReadHoldsItsPlaceForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		rt := halfOpen(roundTripper(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(neverEnding{release})}, nil
		}))
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil))
		require.NoError(t, err)
		require.Equal(t, policy.HalfOpen, stateOf(t, rt, here))
		time.Sleep(time.Second)
		require.Equal(t, policy.HalfOpen, stateOf(t, rt, here), "a look changes nothing")
		next, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil))
		require.NoError(t, err)
		require.NoError(t, next.Body.Close())
		require.Equal(t, policy.Closed, stateOf(t, rt, here), "its headers came well, and they settle it")

		close(release) // hours later the stream breaks
		_, err = resp.Body.Read(make([]byte, 1))
		require.Error(t, err)
		c, _ := rt.Circuit(here)
		require.Equal(t, policy.Closed, c.State)
		require.EqualValues(t, 1, c.FailedCalls)
		require.Equal(t, 1, c.Failures, "a break later is a failure like any other")
	})
}

// neverEnding blocks until it is released, and breaks then.
type neverEnding struct{ released chan struct{} }

func (r neverEnding) Read([]byte) (int, error) { <-r.released; return 0, io.ErrUnexpectedEOF }

func TestAProbeThatHangsForGoodDoesNotKeepTheCircuitHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var hang atomic.Bool
		hang.Store(true)
		rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
			if hang.Load() {
				<-release
				return nil, errors.New("hung")
			}
			return answer(200, "")(req)
		}), transport.WithPolicy(policy.Rules{
			Trip: policy.Consecutive{}, Probe: policy.OpenTime{For: 10 * time.Second}, Recover: policy.Trial{Lease: 5 * time.Second},
		}))
		rt.SetState(here, policy.HalfOpen)
		done := make(chan struct{})
		go func() {
			defer close(done)
			request(t, rt, t.Context())
		}()
		synctest.Wait()
		resp, _ := request(t, rt, t.Context())
		require.True(t, transport.Refused(resp), "one place, and it is taken")
		time.Sleep(5 * time.Second)
		resp, _ = request(t, rt, t.Context())
		require.True(t, transport.Refused(resp))
		require.Equal(t, policy.Open, stateOf(t, rt, here), "silence is a failure")
		hang.Store(false)
		time.Sleep(10 * time.Second)
		resp, _ = request(t, rt, t.Context())
		require.Equal(t, 200, resp.StatusCode)
		require.Equal(t, policy.Closed, stateOf(t, rt, here))
		close(release)
		<-done
		c, _ := rt.Circuit(here)
		require.EqualValues(t, 1, c.LateCalls, "and what it says in the end changes nothing")
		require.Zero(t, c.Failures)
	})
}

func TestAnOutcomeOfAnOlderGenerationChangesNothing(t *testing.T) {
	for _, late := range []int{200, 500} {
		started, hold := make(chan struct{}), make(chan struct{})
		rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
			close(started)
			<-hold
			return answer(late, "")(req)
		}), transport.WithPolicy(policy.Classic{Failures: 1}))
		done := make(chan struct{})
		go func() {
			defer close(done)
			request(t, rt, t.Context())
		}()
		<-started
		rt.SetState(here, policy.HalfOpen)
		close(hold)
		<-done
		c, _ := rt.Circuit(here)
		require.Equal(t, policy.HalfOpen, c.State, "a call from before, answered %d", late)
	}
}

func TestObserversAreToldInOrderAndCanCallAnything(t *testing.T) {
	var rt *transport.Transport
	var mu sync.Mutex
	var path []policy.State
	rt = transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{Failures: 1}),
		transport.WithObserver(transport.Observer{
			OnStateChange: func(e transport.StateChange) {
				mu.Lock()
				path = append(path, e.From, e.To)
				first := len(path) == 2
				mu.Unlock()
				rt.Circuits()
				if first {
					rt.SetState(here, policy.HalfOpen) // tells this same observer
					request(t, rt, t.Context())        // fails, and opens the circuit again
				}
			},
			OnRefusal: func(e transport.RefusalEvent) { rt.Circuit(e.Key) },
		}))
	request(t, rt, t.Context())
	require.Equal(t, []policy.State{
		policy.Closed, policy.Open, policy.Open, policy.HalfOpen, policy.HalfOpen, policy.Open,
	}, path)
	resp, _ := request(t, rt, t.Context())
	require.True(t, transport.Refused(resp))
}

func TestMemoryIsBoundedAndTroubleIsNotForgotten(t *testing.T) {
	failing := map[string]bool{"sick.test": true}
	rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		if failing[req.URL.Host] {
			return answer(500, "")(req)
		}
		return answer(200, "")(req)
	}), classic, transport.WithMaxCircuits(100))
	call := func(host string) {
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
		require.NoError(t, err)
		resp.Body.Close()
	}
	for range 5 {
		call("sick.test")
	}
	for i := range 10_000 {
		call(fmt.Sprintf("host-%d.test", i))
	}
	require.Len(t, rt.Circuits(), 100)
	require.Equal(t, policy.Open, stateOf(t, rt, transport.Key{Scheme: "http", Host: "sick.test"}))

	// Even when there is nothing but trouble, memory is bounded and calls go through.
	for i := range 200 {
		rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprintf("down-%d.test", i)}, policy.Open)
	}
	require.Len(t, rt.Circuits(), 100)
	call("another.test")
	require.Len(t, rt.Circuits(), 100)
}

func TestAFailureOfAForgottenCircuitCountsForItsSuccessor(t *testing.T) {
	hold := make(chan struct{})
	rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/hold" {
			<-hold
			return answer(500, "")(req)
		}
		return answer(200, "")(req)
	}), transport.WithMaxCircuits(2), transport.WithPolicy(policy.Classic{Failures: 1}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/hold", nil))
	}()
	for len(rt.Circuits()) == 0 {
		runtime.Gosched()
	}
	for i := range 10 {
		rt.RoundTrip(httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", i), nil))
	}
	_, kept := rt.Circuit(here)
	require.False(t, kept)
	close(hold)
	<-done
	require.Equal(t, policy.Open, stateOf(t, rt, here))
}

func TestRetryAfterHoldsTheCircuitOpenUpToItsCap(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": time.Minute, "90": 90 * time.Second, "1": time.Minute, "999999999999": 5 * time.Minute, "-5": time.Minute, "soon": time.Minute,
		"Sat, 01 Jan 2000 00:02:00 GMT": 2 * time.Minute,
	} {
		synctest.Test(t, func(t *testing.T) { // a bubble's time starts at 2000-01-01
			rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := answer(503, "")(req)
				resp.Header.Set("Retry-After", value)
				return resp, err
			}), transport.WithPolicy(policy.Classic{Failures: 1}))
			request(t, rt, t.Context())
			c, _ := rt.Circuit(here)
			require.Equal(t, want, time.Until(c.NextProbe), "Retry-After: %s", value)
		})
	}
}

func TestRetryAfterOfAnUpstreamWhoseClockIsWrongIsByItsOwn(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour, "right": 0} {
		for _, status := range []int{503, 429} {
			synctest.Test(t, func(t *testing.T) {
				rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
					resp, err := answer(status, "")(req)
					there := time.Now().Add(off)
					resp.Header.Set("Date", there.Format(http.TimeFormat))
					resp.Header.Set("Retry-After", there.Add(2*time.Minute).Format(http.TimeFormat))
					return resp, err
				}), transport.WithPolicy(policy.Classic{Failures: 1}), transport.WithClassifier(policy.OnStatus(policy.Failure, 429)))
				request(t, rt, t.Context())
				c, _ := rt.Circuit(here)
				require.Equal(t, 2*time.Minute, time.Until(c.NextProbe), "%s, %d", name, status)
			})
		}
	}
}

func TestPoliciesAndCircuitsByKey(t *testing.T) {
	rt := transport.New(answer(500, ""), classic,
		transport.WithKey(transport.PerRoute("GET /users/{id}", "POST /pay")),
		transport.WithSettingsFor(func(k transport.Key) transport.Settings {
			if k.Detail == "POST /pay" {
				return transport.Settings{Policy: policy.Classic{Failures: 1}}
			}
			return transport.Settings{}
		}))
	call := func(method, path string) bool {
		resp, err := rt.RoundTrip(httptest.NewRequest(method, "http://upstream.test"+path, nil))
		require.NoError(t, err)
		return transport.Refused(resp)
	}
	require.False(t, call("POST", "/pay"))
	require.True(t, call("POST", "/pay"), "the strict policy")
	for i := range 5 {
		require.False(t, call("GET", fmt.Sprintf("/users/%d", i)))
	}
	require.True(t, call("GET", "/users/6"), "all users are one circuit")
	require.False(t, call("GET", "/health"), "the rest of the upstream is another")
	require.Len(t, rt.Circuits(), 3)
}

func TestProgrammersErrorsPanicAndSayWhatToWrite(t *testing.T) {
	for want, bad := range map[string]func(){
		"Consecutive.Failures is -1; write a positive value": func() { transport.New(nil, transport.WithPolicy(policy.Classic{Failures: -1})) },
		"OpenTime.For is -1s":                                func() { transport.New(nil, transport.WithPolicy(policy.Classic{OpenFor: -time.Second})) },
		"nil rule":                                           func() { transport.New(nil, transport.WithPolicy(policy.Rules{})) },
		"a classifier is nil":                                func() { transport.WithClassifier(nil) },
		"WithPolicy got nil":                                 func() { transport.WithPolicy(nil) },
		"WithKey got nil":                                    func() { transport.WithKey(nil) },
		"WithRefusal got nil":                                func() { transport.WithRefusal(nil) },
		"WithMaxCircuits got 0; write a positive number":     func() { transport.WithMaxCircuits(0) },
		"a refusal's status is 0; write a final one":         func() { transport.Response(0, nil, "") },
		"a classifier's outcome is undecided; write":         func() { policy.OnStatus(policy.Undecided, 429) },
		"SlowShare.Slower is 0s; write how long":             func() { policy.SlowShare{}.NewTrip() },
		"FailureShare has both Calls and Window; write one":  func() { policy.FailureShare{Calls: 1, Window: 1}.NewTrip() },
	} {
		func() {
			defer func() { require.Contains(t, fmt.Sprint(recover()), want) }()
			bad()
		}()
	}
}

func TestBadRequestsGetTheBasesErrorAndSayNothingOfTheUpstream(t *testing.T) {
	client, rt := newClient(t, transport.WithPolicy(policy.Classic{Failures: 1}))
	for _, url := range []string{"gopher://upstream.test/", "/no/host"} {
		_, err := client.Get(url)
		require.ErrorContains(t, err, "unsupported protocol scheme")
	}
	req, err := http.NewRequest(http.MethodGet, "http://upstream.test/", nil)
	require.NoError(t, err)
	req.Header["Bad Name"] = []string{"x"}
	_, err = client.Do(req)
	require.ErrorContains(t, err, "invalid header")
	for _, c := range rt.Circuits() {
		require.Equal(t, policy.Closed, c.State, "%v", c.Key)
		require.Zero(t, c.FailedCalls)
	}
}

func TestACallWhoseCallerIsGoneSaysNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rt := halfOpen(roundTripper(func(req *http.Request) (*http.Response, error) { return nil, req.Context().Err() }))
	_, err := request(t, rt, ctx)
	require.ErrorIs(t, err, context.Canceled)
	c, _ := rt.Circuit(here)
	require.Zero(t, c.Probes, "it does not even use up a probe")
}

func TestCloseIdleConnectionsReachesTheBase(t *testing.T) {
	closed := 0
	transport.New(closer{func() { closed++ }}).CloseIdleConnections()
	require.Equal(t, 1, closed)
	transport.New(answer(200, "")).CloseIdleConnections() // a base that cannot
}

type closer struct{ close func() }

func (closer) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("not called") }
func (c closer) CloseIdleConnections()                         { c.close() }

func TestACircuitBehindThisOneIsNotTheUpstream(t *testing.T) {
	inner := openTransport(answer(200, ""))
	outer := transport.New(inner, transport.WithPolicy(policy.Classic{Failures: 1}))
	resp, err := request(t, outer, t.Context())
	require.NoError(t, err)
	require.True(t, transport.Refused(resp))
	require.Equal(t, policy.Closed, stateOf(t, outer, here))
}
