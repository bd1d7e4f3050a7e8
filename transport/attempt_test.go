package transport_test

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
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

type base = testkit.RoundTripper

var answer = testkit.Answer

// fading is a base that answers within 20 ms, and once it is silent not until it is released.
type fading struct {
	silent  atomic.Bool
	release chan struct{}
}

func newFading() *fading { return &fading{release: make(chan struct{})} }

func (f *fading) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(20 * time.Millisecond)
	if f.silent.Load() {
		<-f.release
	}
	return answer(204, "")(req)
}

var here = transport.Key{Scheme: "http", Host: "upstream.test"}

func newRequest(t *testing.T, method string, ctx context.Context) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, "http://upstream.test/", nil)
	require.NoError(t, err)
	return req
}

// call makes a GET and reads the response to its end.
func call(t *testing.T, rt http.RoundTripper) (*http.Response, error) {
	t.Helper()
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	if resp != nil {
		_, readErr := io.Copy(io.Discard, resp.Body)
		require.NoError(t, readErr)
		require.NoError(t, resp.Body.Close())
	}
	return resp, err
}

// because is the reason for which a GET is refused, if it is.
func because(t *testing.T, rt http.RoundTripper) policy.RefusalReason {
	t.Helper()
	resp, _ := call(t, rt)
	return transport.RefusedBecause(resp)
}

func circuit(t *testing.T, rt *transport.Transport, k transport.Key) transport.Snapshot {
	t.Helper()
	c, ok := rt.Circuit(k)
	require.True(t, ok, "no circuit of %v", k)
	return c
}

func limited(limits policy.Limits) transport.Option {
	return transport.WithPolicy(policy.Classic{Failures: 1000, Limits: limits})
}

// countedBody counts how often it is closed.
type countedBody struct {
	io.Reader
	closes atomic.Int32
}

func (b *countedBody) Close() error { b.closes.Add(1); return nil }

// gauged is a base that counts the calls in flight, to the end of their bodies.
type gauged struct {
	now, most, calls atomic.Int64
	hold             chan struct{} // calls wait for it, if it is there
	status           int
}

func (g *gauged) RoundTrip(req *http.Request) (*http.Response, error) {
	g.calls.Add(1)
	now := g.now.Add(1)
	for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
	}
	if g.hold != nil {
		<-g.hold
	}
	runtime.Gosched()
	resp, err := answer(g.status, "hello")(req)
	resp.Body = &gaugedBody{ReadCloser: resp.Body, over: sync.OnceFunc(func() { g.now.Add(-1) })}
	return resp, err
}

type gaugedBody struct {
	io.ReadCloser
	over func()
}

func (b *gaugedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.over()
	}
	return n, err
}

func (b *gaugedBody) Close() error { b.over(); return b.ReadCloser.Close() }

// requireFree makes sure that n more calls may be in flight, and not one more.
func requireFree(t *testing.T, rt http.RoundTripper, n int) {
	t.Helper()
	for range n {
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, context.Background()))
		require.NoError(t, err)
		require.Equal(t, policy.NotRefused, transport.RefusedBecause(resp))
		defer resp.Body.Close()
	}
	require.Equal(t, policy.RefusedLimit, because(t, rt))
}

func TestTheLimitOfCallsInFlightIsExact(t *testing.T) {
	const limit, callers, calls = 5, 32, 200
	for _, status := range []int{200, 500} { // the body of a failure takes its place, too
		upstream := &gauged{hold: make(chan struct{}), status: status}
		rt := transport.New(upstream, transport.WithPolicy(policy.Classic{
			Failures: callers*calls + 1, Limits: policy.Limits{InFlight: limit},
		}))
		var refused atomic.Int64
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				for range calls {
					resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
					if err != nil {
						t.Error(err)
						return
					}
					switch transport.RefusedBecause(resp) {
					case policy.RefusedLimit:
						refused.Add(1)
					case policy.NotRefused:
						if i%2 == 0 {
							io.Copy(io.Discard, resp.Body)
						}
					default:
						t.Error(transport.RefusedBecause(resp))
					}
					runtime.Gosched()
					resp.Body.Close()
				}
			})
		}
		for refused.Load() == 0 { // as many as may be are held by then
			runtime.Gosched()
		}
		require.EqualValues(t, limit, upstream.now.Load())
		close(upstream.hold)
		all.Wait()
		require.EqualValues(t, limit, upstream.most.Load())
		require.EqualValues(t, callers*calls, upstream.calls.Load()+refused.Load())
		require.EqualValues(t, refused.Load(), circuit(t, rt, here).Refusals)
		requireFree(t, rt, limit)
	}
}

func TestEachCircuitHasALimitOfItsOwn(t *testing.T) {
	rt := transport.New(answer(200, "hello"), limited(policy.Limits{InFlight: 1}))
	for _, host := range []string{"a.test", "b.test"} {
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
		require.NoError(t, err)
		require.False(t, transport.Refused(resp))
		defer resp.Body.Close()
	}
	resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://a.test/", nil))
	require.NoError(t, err)
	require.Equal(t, policy.RefusedLimit, transport.RefusedBecause(resp))
}

func TestTheLimitHoldsThoughACircuitIsForgotten(t *testing.T) {
	rt := transport.New(answer(200, "hello"), limited(policy.Limits{InFlight: 1}), transport.WithMaxCircuits(2))
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	defer resp.Body.Close()
	for i := range 10 {
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", i), nil))
		require.NoError(t, err)
		resp.Body.Close()
	}
	require.Equal(t, policy.RefusedLimit, because(t, rt), "the first call is still in flight")
}

// parent is a context that counts the contexts that depend on it.
type parent struct {
	context.Context
	children atomic.Int64
}

func (p *parent) Value(any) any { return nil }

func (p *parent) Done() <-chan struct{} { return p.Context.Done() }

// AfterFunc is what package context asks a parent of another type for.
func (p *parent) AfterFunc(f func()) (stop func() bool) {
	p.children.Add(1)
	leave := sync.OnceFunc(func() { p.children.Add(-1) })
	cancel := context.AfterFunc(p.Context, func() { leave(); f() })
	return func() bool { leave(); return cancel() }
}

func newParent(t *testing.T) *parent {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &parent{Context: ctx}
}

type duplexBody struct{ *countedBody }

func (duplexBody) Write(p []byte) (int, error) { return len(p), nil }

type writerToBody struct{ *strings.Reader }

func (writerToBody) Close() error { return nil }

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func withBody(status int, body io.ReadCloser) base {
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: -1, Body: body, Request: req}, nil
	}
}

// upgraded is a base that asks for another protocol on its own, and gets it.
func upgraded(body io.ReadCloser) base {
	return func(req *http.Request) (*http.Response, error) {
		req = req.Clone(req.Context())
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "echo")
		return withBody(http.StatusSwitchingProtocols, body)(req)
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

func TestAPlaceAndAContextAreGivenBackHoweverACallEnds(t *testing.T) {
	read := func(resp *http.Response) { io.Copy(io.Discard, resp.Body) }
	closed := func(resp *http.Response) { resp.Body.Close() }
	none := func(*http.Response) {}
	bad := func(*policy.Call) policy.Outcome { panic("classifier") }
	badInBody := func(c *policy.Call) policy.Outcome {
		if c.InBody {
			panic("classifier")
		}
		return policy.Undecided
	}
	observe := func(o transport.Observer) transport.Option { return transport.WithObserver(o) }
	for _, c := range []struct {
		name   string
		method string
		base   base
		option transport.Option
		held   bool                 // once RoundTrip has returned
		end    func(*http.Response) // of what RoundTrip returned
		die    bool                 // by a panic
		exit   bool                 // by Goexit
	}{
		{name: "body read", base: answer(200, "hello"), held: true, end: read},
		{name: "body closed early", base: answer(200, "hello"), held: true, end: func(resp *http.Response) {
			resp.Body.Read(make([]byte, 1))
			resp.Body.Close()
		}},
		{name: "body closed and never read", base: answer(200, "hello"), held: true, end: closed},
		{name: "body closed twice", base: answer(200, "hello"), held: true, end: func(resp *http.Response) {
			resp.Body.Close()
			resp.Body.Close()
		}},
		{name: "body of a failure", base: answer(503, "hello"), held: true, end: closed},
		{name: "body of a failure read", base: answer(503, "hello"), held: true, end: read},
		{name: "body that breaks", base: withBody(200, io.NopCloser(brokenReader{})), held: true, end: read},
		{name: "body that writes itself", base: withBody(200, writerToBody{strings.NewReader("hello")}), held: true, end: read},
		{name: "HEAD", method: http.MethodHead, base: withBody(200, http.NoBody), end: none},
		{name: "204", base: withBody(204, http.NoBody), end: none},
		{name: "no body at all", base: withBody(200, nil), end: none},
		{name: "upgrade", base: upgraded(duplexBody{&countedBody{Reader: strings.NewReader("")}}), end: closed},
		{name: "upgrade that nobody asked for", base: withBody(101, duplexBody{&countedBody{Reader: strings.NewReader("")}}), held: true, end: closed},
		{name: "error", base: func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, end: none},
		{name: "a base that breaks the contract", base: func(*http.Request) (*http.Response, error) { return nil, nil }, end: none},
		{name: "panic of the base", base: func(*http.Request) (*http.Response, error) { panic("base") }, die: true},
		{name: "Goexit in the base", base: func(*http.Request) (*http.Response, error) { runtime.Goexit(); return nil, nil }, exit: true},
		{name: "panic of a classifier", base: answer(200, "hello"), die: true, option: transport.WithClassifier(bad)},
		{name: "panic of a classifier in the body", base: withBody(200, io.NopCloser(brokenReader{})), held: true,
			option: transport.WithClassifier(badInBody), end: func(resp *http.Response) { panics(func() { read(resp) }) }},
		{name: "panic of an observer before", base: answer(200, "hello"), die: true,
			option: observe(transport.Observer{OnCall: func(transport.CallStart) { panic("observer") }})},
		{name: "panic of an observer after", base: answer(500, "hello"), die: true,
			option: observe(transport.Observer{OnOutcome: func(transport.CallEnd) { panic("observer") }})},
		{name: "refusal of the call that trips", base: answer(500, "hello"), option: transport.WithRefusalOnTrip(), end: none},
	} {
		for _, limits := range []policy.Limits{{InFlight: 1}, {InFlight: 1, Timeout: time.Hour}} {
			t.Run(fmt.Sprint(c.name, " ", limits), func(t *testing.T) {
				ctx := newParent(t)
				ended := make(chan struct{}) // the context of the request that was sent
				upstream := c.base
				rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
					if limits.Timeout > 0 && ended != nil {
						context.AfterFunc(req.Context(), sync.OnceFunc(func() { close(ended) }))
					}
					return upstream(req)
				}), transport.WithPolicy(policy.Classic{Failures: 1, Limits: limits}))
				if c.option != nil {
					c.option(rt)
				}
				var resp *http.Response
				do := func() { resp, _ = rt.RoundTrip(newRequest(t, cmp.Or(c.method, http.MethodGet), ctx)) }
				switch {
				case c.die:
					panics(do)
				case c.exit:
					done := make(chan struct{})
					go func() { defer close(done); do() }()
					<-done
				default:
					do()
					if c.held {
						require.EqualValues(t, 1, ctx.children.Load())
						rt.Force("*", policy.Closed)
						require.Equal(t, policy.RefusedLimit, because(t, rt))
						rt.Release("*")
					}
					c.end(resp)
				}
				require.Zero(t, ctx.children.Load(), "a context is left")
				if limits.Timeout > 0 && c.name != "panic of an observer before" {
					<-ended
				}

				if strings.Contains(c.name, "observer") {
					return // it would panic again; see below
				}
				rt.SetClassifier()
				rt.Force("*", policy.Closed)
				upstream, ended = answer(200, "hello"), nil
				requireFree(t, rt, 1)
			})
		}
	}
}

func TestAPlaceIsGivenBackAfterAnObserverPanicked(t *testing.T) {
	var bad atomic.Bool
	bad.Store(true)
	boom := func() {
		if bad.Load() {
			panic("observer")
		}
	}
	for _, o := range []transport.Observer{
		{OnCall: func(transport.CallStart) { boom() }},
		{OnOutcome: func(transport.CallEnd) { boom() }},
	} {
		bad.Store(true)
		rt := transport.New(answer(500, "hello"), limited(policy.Limits{InFlight: 1}), transport.WithObserver(o))
		panics(func() { rt.RoundTrip(newRequest(t, http.MethodGet, t.Context())) })
		bad.Store(false)
		requireFree(t, rt, 1)
	}
}

func TestAWriterThatFailsDoesNotEndTheCall(t *testing.T) {
	var sent context.Context
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		sent = req.Context()
		return withBody(200, writerToBody{strings.NewReader("hello")})(req)
	}), limited(policy.Limits{InFlight: 1, Timeout: time.Hour}))
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	_, err = io.Copy(brokenWriter{}, resp.Body)
	require.ErrorContains(t, err, "the disk is full")
	require.NoError(t, sent.Err(), "the body can still be read")
	require.Equal(t, policy.RefusedLimit, because(t, rt), "and takes its place")
	require.NoError(t, resp.Body.Close())
	require.Error(t, sent.Err())
}

func TestACanceledCallerGivesItsPlaceBack(t *testing.T) {
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if req.Method == http.MethodPost {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
		return answer(200, "hello")(req)
	}), limited(policy.Limits{InFlight: 1, Timeout: time.Hour}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for { // until it is in flight
			if resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, context.Background())); err == nil {
				resp.Body.Close()
				if transport.Refused(resp) {
					cancel()
					return
				}
			}
		}
	}()
	for {
		resp, err := rt.RoundTrip(newRequest(t, http.MethodPost, ctx))
		if err != nil {
			require.Equal(t, context.Canceled, err)
			break
		}
		require.True(t, transport.Refused(resp)) // a GET was there first
	}
	requireFree(t, rt, 1)
	require.Zero(t, circuit(t, rt, here).FailedCalls)
}

// TestAPlaceIsGivenBackWhenTheContextEnds makes calls whose caller does nothing more with what it got.
func TestAPlaceIsGivenBackWhenTheContextEnds(t *testing.T) {
	byCancel := func(ctx context.Context) (context.Context, func()) {
		ctx, cancel := context.WithCancel(ctx)
		return ctx, cancel
	}
	byDeadline := func(ctx context.Context) (context.Context, func()) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		return ctx, func() { time.Sleep(time.Minute); cancel() }
	}
	byAnother := func(ctx context.Context) (context.Context, func()) { // package context needs a goroutine for it
		ctx, cancel := context.WithCancel(ctx)
		return struct{ context.Context }{ctx}, cancel
	}
	read := func(resp *http.Response) { resp.Body.Read(make([]byte, 1)) }
	none := func(*http.Response) {}
	for name, limits := range map[string]policy.Limits{
		"alone":                     {InFlight: 1},
		"with a Timeout":            {InFlight: 1, Timeout: time.Hour},
		"with the body's, too":      {InFlight: 1, Timeout: time.Hour, TimeoutBody: true},
		"with one that is up first": {InFlight: 1, Timeout: time.Second, TimeoutBody: true},
	} {
		for _, c := range []struct {
			name   string
			base   base
			with   func(context.Context) (context.Context, func())
			use    func(*http.Response)
			option transport.Option
		}{
			{name: "canceled, never read", base: answer(200, "hello"), with: byCancel, use: none},
			{name: "canceled, read in part", base: answer(200, "hello"), with: byCancel, use: read},
			{name: "deadline, never read", base: answer(200, "hello"), with: byDeadline, use: none},
			{name: "a context of another type", base: answer(200, "hello"), with: byAnother, use: none},
			{name: "a failure", base: answer(503, "hello"), with: byCancel, use: none},
			{name: "a body that writes itself", base: withBody(200, writerToBody{strings.NewReader("hello")}), with: byCancel, use: none},
			{name: "a body of unknown length", base: withBody(200, io.NopCloser(strings.NewReader(""))), with: byCancel, use: none},
			{name: "in shadow", base: answer(200, "hello"), with: byCancel, use: none, option: transport.WithShadow()},
			{name: "gone before the headers", base: func(req *http.Request) (*http.Response, error) {
				<-req.Context().Done()
				return answer(200, "hello")(req) // an answer that crossed it
			}, with: func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
				return ctx, cancel
			}, use: none},
		} {
			t.Run(c.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					opts := []transport.Option{limited(limits)}
					if c.option != nil {
						opts = append(opts, c.option)
					}
					rt := transport.New(base(func(req *http.Request) (*http.Response, error) { return c.base(req) }), opts...)
					ctx, end := c.with(t.Context())
					resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
					require.NoError(t, err)
					c.use(resp)
					end()
					synctest.Wait()
					c.base = answer(200, "hello")
					rt.SetShadow(nil)
					requireFree(t, rt, 1)
					resp.Body.Close()
					resp.Body.Close()
					requireFree(t, rt, 1)
				})
			})
		}
	}
}

// TestNothingIsLeftOfACallWhoseContextEnds is the same for what a call holds beside its place.
func TestNothingIsLeftOfACallWhoseContextEnds(t *testing.T) {
	duplex := duplexBody{&countedBody{Reader: strings.NewReader("")}}
	for _, timeout := range []bool{false, true} {
		limits := policy.Limits{InFlight: 1}
		if timeout {
			limits = policy.Limits{InFlight: 1, Timeout: time.Hour, TimeoutBody: true}
		}
		for name, upstream := range map[string]base{
			"body never read": answer(200, "hello"), "failure never read": answer(500, "hello"), "upgrade never closed": upgraded(duplex),
			"upgrade that nobody asked for": withBody(101, duplex),
		} {
			for _, shadow := range []bool{false, true} { // a call that would have been refused
				ended := make(chan struct{})
				func() {
					rt := transport.New(upstream, limited(limits))
					if shadow {
						rt.SetShadow(func(transport.Key) bool { return true })
						rt.SetState(here, policy.Open)
					}
					type name struct{}
					held := new(int)
					runtime.AddCleanup(held, func(struct{}) { close(ended) }, struct{}{})
					outer, cancel := context.WithCancel(context.WithValue(context.Background(), name{}, held))
					ctx := &parent{Context: outer}
					_, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
					require.NoError(t, err)
					cancel()
					for ctx.children.Load() != 0 {
						runtime.Gosched()
					}
				}()
				requireCollected(t, ended, fmt.Sprintf("%s, %+v, shadow %v", name, limits, shadow))
			}
		}
	}
}

// requireCollected waits until the collector has found something that nothing keeps any more.
func requireCollected(t *testing.T, collected chan struct{}, what string) {
	t.Helper()
	for tries := 0; ; tries++ {
		runtime.GC()
		select {
		case <-collected:
			return
		case <-time.After(time.Millisecond << min(tries, 10)):
			require.Less(t, tries, 13, "something keeps what the context holds: %s", what)
		}
	}
}

func TestAHalfOpenPlaceIsGivenBackThoughNobodyReadsTheBody(t *testing.T) {
	for name, p := range map[string]policy.Policy{
		"ramp":  policy.Adaptive{Limits: policy.Limits{InFlight: 5}},
		"trial": policy.Classic{OpenFor: time.Second, Probes: 2, Successes: 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := transport.New(answer(200, "hello"), transport.WithPolicy(p))
			rt.SetState(here, policy.Open)
			for range 10 {
				time.Sleep(time.Second)
				ctx, cancel := context.WithCancel(t.Context())
				resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
				require.NoError(t, err)
				require.False(t, transport.Refused(resp), name)
				cancel()
			}
			time.Sleep(time.Second)
			require.Zero(t, circuit(t, rt, here).InFlight, name)
			require.Zero(t, circuit(t, rt, here).FailedCalls, name)
		})
	}
}

func TestACallerThatLeavesDuringTheHealthCheckGivesItsPlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newChecked(t, transport.WithPolicy(policy.Classic{OpenFor: time.Second, Limits: policy.Limits{InFlight: 1}}))
		rt.open()
		for _, health := range []base{
			func(req *http.Request) (*http.Response, error) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			},
			func(req *http.Request) (*http.Response, error) {
				return withBody(200, io.NopCloser(&slowBody{req.Context(), time.Hour}))(req)
			},
		} {
			rt.health = health
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
			if err == nil {
				resp.Body.Close()
			}
			synctest.Wait()
			rt.Force("*", policy.Closed)
			requireFree(t, rt, 1)
			rt.Release("*")
			rt.open()
		}
	})
}

func TestARefusedCallTakesNoPlace(t *testing.T) {
	rt := transport.New(answer(200, "hello"), limited(policy.Limits{InFlight: 1}))
	rt.Force("*", policy.Open)
	for range 10 {
		require.Equal(t, policy.RefusedForced, because(t, rt))
	}
	rt.Force("*", policy.Closed)
	requireFree(t, rt, 1)
	for range 10 {
		requireFree(t, rt, 1)
	}
}

func TestARefusalByTheLimitIsToldApart(t *testing.T) {
	var told []transport.RefusalEvent
	observer := transport.WithObserver(transport.Observer{OnRefusal: func(r transport.RefusalEvent) { told = append(told, r) }})
	limit := transport.WithPolicy(policy.Classic{Failures: 3, Limits: policy.Limits{InFlight: 1}})
	var status atomic.Int32
	status.Store(500)
	upstream := base(func(req *http.Request) (*http.Response, error) { return answer(int(status.Load()), "hello")(req) })

	rt := transport.New(upstream, limit, observer)
	for range 2 {
		call(t, rt)
	}
	status.Store(200)
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	body := &countedBody{Reader: strings.NewReader("payload")}
	req := newRequest(t, http.MethodPost, t.Context())
	req.Body = body
	refused, err := rt.RoundTrip(req)
	require.NoError(t, err)
	require.EqualValues(t, 1, body.closes.Load())
	require.Equal(t, 503, refused.StatusCode)
	require.Equal(t, policy.RefusedLimit, transport.RefusedBecause(refused))
	text, err := io.ReadAll(refused.Body)
	require.NoError(t, err)
	require.Equal(t, "fusebox: too many calls in flight to http://upstream.test\n", string(text))
	require.Equal(t, "1", refused.Header.Get("Retry-After"))

	require.Len(t, told, 1)
	require.Equal(t, policy.RefusedLimit, told[0].Error.Reason)
	require.Equal(t, policy.Closed, told[0].Error.State)
	require.False(t, told[0].Shadow)
	require.ErrorIs(t, told[0].Error, transport.ErrLimit)
	require.NotErrorIs(t, told[0].Error, transport.ErrOpen)

	for range 100 {
		require.Equal(t, policy.RefusedLimit, because(t, rt))
	}
	c := circuit(t, rt, here)
	require.Equal(t, policy.Closed, c.State)
	require.Equal(t, 2, c.Failures, "it is neither a failure nor a success")
	require.EqualValues(t, 2, c.FailedCalls)
	require.Zero(t, c.IgnoredCalls)
	require.EqualValues(t, 101, c.Refusals)
	resp.Body.Close()

	byError := transport.New(answer(200, "hello"), limit, transport.WithRefusalError())
	resp, err = byError.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = byError.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.ErrorIs(t, err, transport.ErrLimit)
	require.NotErrorIs(t, err, transport.ErrOpen)
	var open *transport.RefusedError
	require.ErrorAs(t, err, &open)
	require.Equal(t, policy.RefusedLimit, open.Reason)
}

func TestAProbeForWhichThereIsNoPlaceIsNoFailure(t *testing.T) {
	for name, p := range map[string]policy.Policy{
		"adaptive": policy.Adaptive{Limits: policy.Limits{InFlight: 1}},
		"classic":  policy.Classic{OpenFor: 100 * time.Millisecond, Limits: policy.Limits{InFlight: 1}},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := transport.New(answer(200, "hello"), transport.WithPolicy(p))
			held, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
			require.NoError(t, err)
			rt.SetState(here, policy.Open)
			time.Sleep(time.Second)
			for range 5 {
				require.Equal(t, policy.RefusedLimit, because(t, rt), name)
			}
			c := circuit(t, rt, here)
			require.Zero(t, c.FailedCalls)
			require.Zero(t, c.Probes)
			require.Zero(t, c.InFlight)
			require.NoError(t, held.Body.Close())
			require.Equal(t, policy.NotRefused, because(t, rt), "the next one can go, %s", name)
			c = circuit(t, rt, here)
			require.EqualValues(t, 1, c.Probes)
			require.NotEqual(t, policy.Open, c.State)
		})
	}
}

func TestARefusalByTheLimitUsesUpNoHaste(t *testing.T) {
	// Three upstreams fail together, and the first that answers again makes the next request to each a probe.
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		rules := policy.Rules{
			Trip: policy.Consecutive{Failures: 2}, Probe: policy.OpenTime{For: time.Hour}, Recover: policy.Ramp{},
			Limits: policy.Limits{InFlight: 2},
		}
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, io.ErrUnexpectedEOF
			}
			return answer(200, "hello")(req)
		}), transport.WithPolicy(rules))
		get := func(host string) *http.Response {
			resp, _ := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
			return resp
		}
		hosts := []string{"a.test", "b.test", "c.test"}
		held := get("a.test")
		down.Store(true)
		for _, host := range hosts {
			get(host)
			get(host)
		}
		time.Sleep(2 * time.Second) // local trouble is suspected
		down.Store(false)
		rules.Limits.InFlight = 1
		rt.SetPolicy(rules)
		rt.Release("http://b.test")
		rt.Force("http://b.test", policy.Open)
		rt.Release("http://b.test") // due at once
		probe := get("b.test")
		require.False(t, transport.Refused(probe))
		require.NoError(t, probe.Body.Close())
		require.Equal(t, policy.RefusedLimit, transport.RefusedBecause(get("a.test")), "hastened, and there is no place")
		held.Body.Close()
		require.Equal(t, policy.NotRefused, transport.RefusedBecause(get("a.test")))
		require.Equal(t, policy.NotRefused, transport.RefusedBecause(get("c.test")))
	})
}

func TestToHoldRefusalsByTheLimitAreNoQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := newFading()
		rt := transport.New(upstream, transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 3}}))
		for range 10 {
			require.Equal(t, policy.NotRefused, because(t, rt))
			time.Sleep(150 * time.Millisecond)
		}
		upstream.silent.Store(true)
		var out sync.WaitGroup
		for range 3 {
			out.Go(func() { rt.RoundTrip(newRequest(t, http.MethodGet, context.Background())) })
		}
		synctest.Wait()
		var reasons []policy.RefusalReason
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			reasons = append(reasons, because(t, rt))
		}
		close(upstream.release)
		out.Wait()
		require.NotContains(t, reasons, policy.RefusedHeld, "three are in flight, and Hold needs ten")
	})
}

// silent is a server that never answers, over HTTP/1.1 and HTTP/2.
func silent(t *testing.T, proto int) (client func(...transport.Option) (*http.Client, *transport.Transport), url string) {
	return serve(t, proto, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
}

func overBoth(t *testing.T, test func(t *testing.T, proto int)) {
	for _, proto := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", proto), func(t *testing.T) { test(t, proto) })
	}
}

func serve(t *testing.T, proto int, handler http.HandlerFunc) (client func(...transport.Option) (*http.Client, *transport.Transport), url string) {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = proto == 2
	server.StartTLS()
	before := goleak.IgnoreCurrent()
	base := server.Client().Transport.(*http.Transport).Clone()
	base.ForceAttemptHTTP2 = proto == 2
	if proto == 1 {
		base.TLSClientConfig.NextProtos = []string{"http/1.1"}
		base.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		left := errors.New("not looked yet")
		for tries := 0; left != nil && tries < 10; tries++ {
			base.CloseIdleConnections() // a dial that its call did not wait for can end late
			left = goleak.Find(before)
		}
		require.NoError(t, left)
	})
	return func(opts ...transport.Option) (*http.Client, *transport.Transport) {
		rt := transport.New(base, opts...)
		return &http.Client{Transport: rt}, rt
	}, server.URL
}

func TestACallThatGetsNoAnswerInTimeIsAFailure(t *testing.T) {
	overBoth(t, func(t *testing.T, proto int) {
		newClient, url := silent(t, proto)
		client, rt := newClient(transport.WithPolicy(policy.Classic{Failures: 2, Limits: policy.Limits{Timeout: 50 * time.Millisecond}}))
		ctx := newParent(t)
		for range 2 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			require.NoError(t, err)
			_, err = client.Do(req)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			var timeout *policy.TimeoutError
			require.ErrorAs(t, err, &timeout)
			require.Equal(t, policy.TimeoutError{After: 50 * time.Millisecond}, *timeout)
			require.Equal(t, "fusebox: no answer within 50ms", timeout.Error())
			require.True(t, timeout.Timeout())
			var network net.Error
			require.ErrorAs(t, err, &network)
			require.True(t, network.Timeout(), "that of http.Client's error, too")
			require.NoError(t, ctx.Err())
		}
		c := rt.Circuits()[0]
		require.Equal(t, policy.Open, c.State)
		require.Equal(t, "headers: timeout (limit)", c.Cause.String())
		require.Equal(t, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout, Deadline: policy.DeadlineLimit}, c.Cause)
		for ctx.children.Load() != 0 { // the timer's goroutine ends the context, and then leaves its parent
			runtime.Gosched()
		}
	})
}

// protocols are HTTP/1.1 alone or HTTP/2 alone, without TLS.
func protocols(proto int) *http.Protocols {
	only := new(http.Protocols)
	only.SetHTTP1(proto == 1)
	only.SetUnencryptedHTTP2(proto == 2)
	return only
}

// TestATimeoutGoesByTheTimeOfItsCaller uses one Transport in real time and in bubbles, for a host each: timers of one are of no use
// in the other.
func TestATimeoutGoesByTheTimeOfItsCaller(t *testing.T) {
	timeouts := map[string]time.Duration{"real.test": 50 * time.Millisecond, "virtual-1.test": time.Hour, "virtual-2.test": 2 * time.Hour}
	hangs := false
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if hangs {
			<-req.Context().Done()
			return nil, context.Cause(req.Context())
		}
		return answer(200, "hello")(req)
	}), transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		limits := policy.Limits{Timeout: timeouts[k.Host]}
		return transport.Settings{Policy: policy.Classic{Failures: 1000, Limits: limits}}
	}))
	within := func(host string) {
		ask := func() error {
			_, err := rt.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: host}})
			return err
		}
		for range 10 {
			require.NoError(t, ask(), "and in real time it leaves a timer to be used again")
		}
		hangs = true
		err := ask()
		hangs = false
		var timedOut *policy.TimeoutError
		require.ErrorAs(t, err, &timedOut)
		require.Equal(t, timeouts[host], timedOut.After)
		require.NoError(t, ask())
	}
	within("real.test")
	for _, host := range []string{"virtual-1.test", "virtual-2.test"} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			within(host)
			require.Equal(t, timeouts[host], time.Since(began))
		})
		within("real.test")
	}
}

func TestABodyIsCutOnlyByTimeoutBody(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun, ")
		w.(http.Flusher).Flush()
		select {
		case <-time.After(time.Minute):
			io.WriteString(w, "done")
		case <-r.Context().Done():
		}
	}
	for _, proto := range []int{1, 2} {
		for _, with := range []bool{false, true} {
			bubble.Serve(t, protocols(proto), handler, func(t *testing.T, base *http.Transport) {
				var ends []transport.CallEnd
				rt := transport.New(base, limited(policy.Limits{Timeout: time.Second, TimeoutBody: with}),
					transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends = append(ends, e) }}))
				began := time.Now()
				resp, err := (&http.Client{Transport: rt}).Get("http://upstream.test/")
				require.NoError(t, err)
				require.Equal(t, proto, resp.ProtoMajor)
				got, err := io.ReadAll(resp.Body)
				if !with {
					require.NoError(t, err)
					require.Equal(t, "begun, done", string(got))
					require.Equal(t, time.Minute, time.Since(began))
					resp.Body.Close()
					require.Zero(t, circuit(t, rt, here).FailedCalls)
					return
				}
				require.Equal(t, "begun, ", string(got))
				require.Equal(t, time.Second, time.Since(began))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				var timeout *policy.TimeoutError
				require.ErrorAs(t, err, &timeout)
				require.Equal(t, policy.TimeoutError{After: time.Second, Body: true}, *timeout)
				require.Equal(t, "fusebox: response not complete after 1s", err.Error())
				_, err = resp.Body.Read(make([]byte, 1))
				require.ErrorAs(t, err, &timeout, "and it stays so")
				resp.Body.Close()
				require.Len(t, ends, 1)
				require.Equal(t, policy.Failure, ends[0].Outcome)
				require.Equal(t, "body: timeout (limit)", circuit(t, rt, here).Cause.String())
			})
		}
	}
}

func circuitOfAll(t *testing.T, rt *transport.Transport) transport.Snapshot {
	t.Helper()
	all := rt.Circuits()
	require.Len(t, all, 1)
	return all[0]
}

// slow is a base that takes its time, in virtual time.
func slow(headers, body time.Duration) base {
	return func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(headers):
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
		return withBody(200, io.NopCloser(&slowBody{req.Context(), body}))(req)
	}
}

type slowBody struct {
	ctx  context.Context
	rest time.Duration
}

func (b *slowBody) Read([]byte) (int, error) {
	select {
	case <-time.After(b.rest):
		return 0, io.EOF
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
}

func TestTheTimeoutCountsToTheHeadersOrToTheEndOfTheBody(t *testing.T) {
	for _, c := range []struct {
		headers, body time.Duration
		with          bool
		err, bodyErr  string
		took          time.Duration
	}{
		{headers: time.Second - 1, body: time.Hour, took: time.Hour + time.Second - 1},
		{headers: time.Second + 1, err: "fusebox: no answer within 1s", took: time.Second},
		{headers: time.Second + 1, with: true, err: "fusebox: no answer within 1s", took: time.Second},
		{headers: time.Second / 2, body: time.Second/2 - 1, with: true, took: time.Second - 1},
		{headers: time.Second / 2, body: time.Hour, with: true, bodyErr: "fusebox: response not complete after 1s", took: time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := transport.New(slow(c.headers, c.body), limited(policy.Limits{Timeout: time.Second, TimeoutBody: c.with}))
			ctx := newParent(t)
			began := time.Now()
			resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
			if c.err != "" {
				require.EqualError(t, err, c.err)
			} else {
				require.NoError(t, err)
				_, err = io.ReadAll(resp.Body)
				if c.bodyErr != "" {
					require.EqualError(t, err, c.bodyErr)
				} else {
					require.NoError(t, err)
				}
			}
			require.Equal(t, c.took, time.Since(began))
			synctest.Wait()
			require.Zero(t, ctx.children.Load())
		})
	}
}

func TestTheCallersOwnEndComesAsWithoutALimit(t *testing.T) {
	whim := errors.New("a whim")
	for name, end := range map[string]func(context.Context) (context.Context, func()){
		"deadline": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			return ctx, cancel
		},
		"deadline with a cause": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithTimeoutCause(ctx, time.Second, whim)
			return ctx, cancel
		},
		"cancel": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
		"cancel with a cause": func(ctx context.Context) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(time.Second, func() { cancel(whim) })
			return ctx, func() { cancel(nil) }
		},
	} {
		for _, inBody := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				outcome := func(limits policy.Limits) (transport.Snapshot, error) {
					upstream := slow(time.Hour, 0)
					if inBody {
						upstream = slow(0, time.Hour)
					}
					rt := transport.New(upstream, limited(limits))
					ctx, cancel := end(t.Context())
					defer cancel()
					began := time.Now()
					resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
					if inBody {
						require.NoError(t, err)
						_, err = io.ReadAll(resp.Body)
					}
					require.Equal(t, time.Second, time.Since(began))
					c := circuit(t, rt, here)
					c.FailedAt, c.Samples = time.Time{}, nil
					return c, err
				}
				want, wantErr := outcome(policy.Limits{})
				got, gotErr := outcome(policy.Limits{Timeout: time.Minute, TimeoutBody: true})
				require.Error(t, wantErr)
				require.Equal(t, wantErr, gotErr, name)
				require.Equal(t, want, got, name)
			})
		}
	}
}

func TestTheLimitOfATransportOutsideIsADeadlineOfTheCallerInside(t *testing.T) {
	for _, inBody := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var ends []transport.CallEnd
			inner := transport.New(base(func(req *http.Request) (*http.Response, error) {
				if !inBody {
					<-req.Context().Done()
					return nil, context.Cause(req.Context())
				}
				reader, writer := io.Pipe()
				context.AfterFunc(req.Context(), func() { writer.CloseWithError(context.Cause(req.Context())) })
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: reader, ContentLength: -1, Request: req}, nil
			}), transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends = append(ends, e) }}))
			outer := transport.New(inner, transport.WithPolicy(policy.Adaptive{
				Limits: policy.Limits{Timeout: 500 * time.Millisecond, TimeoutBody: true},
			}))
			var limit *policy.TimeoutError
			for calls := range 6 {
				resp, err := outer.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
				}
				require.ErrorAs(t, err, &limit)
				require.Len(t, ends, calls+1)
				require.Equal(t, policy.Failure, ends[calls].Outcome)
				require.Equal(t, policy.KindTimeout, ends[calls].Cause.Kind)
				require.Equal(t, policy.DeadlineCaller, ends[calls].Cause.Deadline)
			}
			require.Equal(t, policy.Open, inner.Circuits()[0].State, "in the body: %v", inBody)
		})
	}
}

func TestTheClientsOwnTimeoutComesAsWithoutALimit(t *testing.T) {
	overBoth(t, func(t *testing.T, proto int) {
		newClient, url := silent(t, proto)
		for _, limits := range []policy.Limits{{}, {Timeout: time.Hour, TimeoutBody: true}} {
			client, rt := newClient(limited(limits))
			client.Timeout = 50 * time.Millisecond
			// http.Client tells by a goroutine of its own that it was its Timeout, which can be late.
			told, named := false, false
			for try := 0; !(told && named); try++ {
				require.Less(t, try, 30)
				_, err := client.Get(url)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.NotErrorAs(t, err, new(*policy.TimeoutError))
				cause := circuitOfAll(t, rt).Cause.String()
				require.Contains(t, []string{"headers: timeout (client)", "headers: timeout"}, cause, "%+v", limits)
				named = named || cause == "headers: timeout (client)"
				told = told || strings.Contains(err.Error(), "Client.Timeout exceeded")
			}
		}
		client, rt := newClient(limited(policy.Limits{Timeout: 50 * time.Millisecond}))
		client.Timeout = time.Hour
		_, err := client.Get(url)
		require.ErrorAs(t, err, new(*policy.TimeoutError))
		require.Equal(t, "headers: timeout (limit)", circuitOfAll(t, rt).Cause.String())
	})
}

func TestNoCallerWaitsForALabel(t *testing.T) {
	for name, inBody := range map[string]bool{"headers": false, "body": true} {
		synctest.Test(t, func(t *testing.T) {
			upstream := slow(time.Hour, 0)
			if inBody {
				upstream = slow(0, time.Hour)
			}
			rt := transport.New(upstream)
			client := &http.Client{Transport: rt, Timeout: time.Minute}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			resp, err := client.Do(newRequest(t, http.MethodGet, ctx))
			if inBody {
				require.NoError(t, err)
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Second, time.Since(began))
			require.Equal(t, name+": timeout", circuit(t, rt, here).Cause.String())
		})
	}
}

func TestTheRequestIsCopiedOnlyForATimeout(t *testing.T) {
	var got *http.Request
	upstream := base(func(req *http.Request) (*http.Response, error) {
		got = req
		return answer(200, "hello")(req)
	})
	for _, c := range []struct {
		limits policy.Limits
		copied bool
	}{{}, {limits: policy.Limits{InFlight: 1}}, {limits: policy.Limits{Timeout: time.Hour}, copied: true}} {
		type name struct{}
		req := newRequest(t, http.MethodGet, context.WithValue(t.Context(), name{}, "value"))
		before := *req
		resp, err := transport.New(upstream, limited(c.limits)).RoundTrip(req)
		require.NoError(t, err)
		require.Same(t, req, resp.Request)
		require.Equal(t, before, *req, "the caller's request is as it was")
		if !c.copied {
			require.Same(t, req, got)
		} else {
			require.NotSame(t, req, got)
			require.Equal(t, "value", got.Context().Value(name{}))
			got = got.WithContext(req.Context())
			require.Equal(t, *req, *got, "the copy differs in its context alone")
		}
		resp.Body.Close()
	}
}

func TestConnectionsAreUsedAgainThoughTheCallsContextEnds(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/empty":
		case "/204":
			w.WriteHeader(204)
		case "/500":
			w.WriteHeader(500)
			io.WriteString(w, "hello")
		case "/chunked":
			for range 5 {
				io.WriteString(w, "hello")
				w.(http.Flusher).Flush()
			}
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			w.Header().Set("X-Sum", "42")
		default:
			io.WriteString(w, "hello")
		}
	}
	for _, proto := range []int{1, 2} {
		// Virtual time, since net/http waits for 50 ms at most before it gives up on a connection, and machines are busy.
		bubble.Serve(t, protocols(proto), handler, func(t *testing.T, base *http.Transport) {
			dials, dial := 0, base.DialContext
			base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
				dials++
				return dial(ctx, network, address)
			}
			rt := transport.New(base, limited(policy.Limits{InFlight: 1, Timeout: time.Hour, TimeoutBody: true}))
			client := &http.Client{Transport: rt}
			for range 20 {
				for _, path := range []string{"/empty", "/204", "/500", "/chunked", "/trailer", "/"} {
					resp, err := client.Get("http://upstream.test" + path)
					require.NoError(t, err)
					require.Equal(t, proto, resp.ProtoMajor)
					require.False(t, transport.Refused(resp))
					_, err = io.ReadAll(resp.Body)
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					if path == "/trailer" {
						require.Equal(t, "42", resp.Trailer.Get("X-Sum"))
					}
				}
				resp, err := client.Head("http://upstream.test/")
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
			}
			// Of 140 calls; net/http at times makes a second connection, and keeps that for the next.
			require.LessOrEqual(t, dials, 2, "HTTP/%d", proto)
			require.Zero(t, circuit(t, rt, here).IgnoredCalls)
		})
	}
}

func TestAnUpgradeOutlivesTheTimeout(t *testing.T) {
	handler := func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(conn, "echo "+line)
		}
	}
	for _, with := range []bool{false, true} {
		bubble.Serve(t, protocols(1), handler, func(t *testing.T, base *http.Transport) {
			rt := transport.New(base, limited(policy.Limits{InFlight: 1, Timeout: time.Second, TimeoutBody: with}))
			req := newRequest(t, http.MethodGet, t.Context())
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			resp, err := (&http.Client{Transport: rt}).Do(req)
			require.NoError(t, err)
			require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
			duplex, ok := resp.Body.(io.ReadWriteCloser)
			require.True(t, ok)
			lines := bufio.NewReader(duplex)
			for range 3 {
				time.Sleep(time.Minute)
				io.WriteString(duplex, "hello\n")
				line, err := lines.ReadString('\n')
				require.NoError(t, err)
				require.Equal(t, "echo hello\n", line)
			}
			require.NoError(t, duplex.Close())
			require.Zero(t, circuit(t, rt, here).FailedCalls)
		})
	}
}

func TestTheContextOfAnUpgradeOutlivesTheTimeout(t *testing.T) {
	for _, with := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var sent context.Context
			body := duplexBody{&countedBody{Reader: strings.NewReader("")}}
			rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
				sent = req.Context()
				return upgraded(body)(req)
			}), limited(policy.Limits{InFlight: 1, Timeout: time.Second, TimeoutBody: with}))
			resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
			require.NoError(t, err)
			duplex, ok := resp.Body.(io.ReadWriteCloser)
			require.True(t, ok)
			half, ok := resp.Body.(interface{ CloseWrite() error })
			require.True(t, ok, "as net/http's own")
			require.ErrorIs(t, half.CloseWrite(), http.ErrNotSupported)
			time.Sleep(time.Hour)
			require.NoError(t, sent.Err())
			require.NoError(t, duplex.Close())
			require.Error(t, sent.Err(), "it ends with the connection")
			require.EqualValues(t, 1, body.closes.Load())
		})
	}
}

func TestRedirectsWorkUnderLimits(t *testing.T) {
	overBoth(t, func(t *testing.T, proto int) {
		newClient, url := serve(t, proto, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/there", http.StatusTemporaryRedirect)
				return
			}
			body, _ := io.ReadAll(r.Body)
			fmt.Fprint(w, r.Method, " ", string(body))
		})
		client, _ := newClient(limited(policy.Limits{InFlight: 1, Timeout: time.Hour, TimeoutBody: true}))
		resp, err := client.Post(url, "text/plain", strings.NewReader("payload"))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "POST payload", string(body))
		require.Equal(t, "/there", resp.Request.URL.Path)
		resp.Body.Close()
	})
}

func TestTheBaseCanStartAnewByGetBodyUnderLimits(t *testing.T) {
	var calls atomic.Int32
	newClient, url := serve(t, 1, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if calls.Add(1) == 2 { // the connection is one that was used before: net/http tries again by GetBody
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			conn.Close()
			return
		}
		w.Write(body)
	})
	client, rt := newClient(limited(policy.Limits{InFlight: 1, Timeout: time.Hour}))
	for range 2 {
		// MultiReader is one that Fusebox watches.
		req, err := http.NewRequest(http.MethodPost, url, io.MultiReader(strings.NewReader("payload")))
		require.NoError(t, err)
		req.ContentLength = 7
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("payload")), nil }
		req.Header.Set("Idempotency-Key", "1")
		resp, err := client.Do(req)
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, "payload", string(body))
		resp.Body.Close()
	}
	require.EqualValues(t, 3, calls.Load())
	require.Zero(t, circuitOfAll(t, rt).FailedCalls)
}

func TestABodyThatFailsToReadIsTheRequestsFaultUnderLimitsToo(t *testing.T) {
	newClient, url := serve(t, 1, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	client, rt := newClient(limited(policy.Limits{InFlight: 1, Timeout: time.Hour}))
	_, err := client.Post(url, "text/plain", brokenReader{})
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	c := circuitOfAll(t, rt)
	require.Zero(t, c.FailedCalls)
	require.EqualValues(t, 1, c.IgnoredCalls)
}

func TestLimitsThatMakeNoSensePanic(t *testing.T) {
	for want, limits := range map[string]policy.Limits{
		"Limits.InFlight is -1":      {InFlight: -1},
		"Limits.Timeout is -1ns":     {Timeout: -1},
		"Limits.TimeoutBody is set":  {TimeoutBody: true},
		"write a Timeout to include": {TimeoutBody: true, InFlight: 1},
	} {
		require.PanicsWithError(t, func() (text string) {
			defer func() { text = fmt.Sprint(recover()) }()
			limits.Validated()
			return "no panic"
		}(), func() { transport.New(nil, limited(limits)) })
		func() {
			defer func() { require.Contains(t, fmt.Sprint(recover()), want) }()
			transport.New(nil, limited(limits))
		}()
	}
}
