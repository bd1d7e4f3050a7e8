package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// send sends a request made by a function, and returns why it was refused, if it was.
func send(t *testing.T, rt http.RoundTripper, change func(*http.Request)) policy.RefusalReason {
	t.Helper()
	req := newRequest(t, http.MethodGet, t.Context())
	change(req)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	io.Copy(io.Discard, resp.Body)
	require.NoError(t, resp.Body.Close())
	return transport.RefusedBecause(resp)
}

func post(req *http.Request) {
	req.Method, req.Body, req.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("payload")), 7
}

func TestOnlyRequestsThatCanBeLostAreSafeProbes(t *testing.T) {
	with := func(method, name string) func(*http.Request) {
		return func(req *http.Request) {
			req.Method = method
			if name != "" {
				req.Header.Set(name, "1")
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		safe   bool
	}{
		{"GET", with("GET", ""), true},
		{"no method", with("", ""), true},
		{"HEAD", with("HEAD", ""), true},
		{"OPTIONS", with("OPTIONS", ""), true},
		{"TRACE", with("TRACE", ""), true},
		{"GET in early data", with("GET_0RTT", ""), true},
		{"HEAD in early data", with("HEAD_0RTT", ""), true},
		{"POST in early data, which there is not", with("POST_0RTT", ""), false},
		{"GET with no body", func(req *http.Request) { req.Body = http.NoBody }, true},
		{"GET with a body", func(req *http.Request) { post(req); req.Method = "GET" }, false},
		{"POST with a body", post, false},
		{"POST", with("POST", ""), false},
		{"PUT", with("PUT", ""), false},
		{"DELETE", with("DELETE", ""), false},
		{"PATCH", with("PATCH", ""), false},
		{"POST with a key", with("POST", "Idempotency-Key"), true},
		{"POST with another key", with("POST", "X-Idempotency-Key"), true},
		{"POST with a key and a body", func(req *http.Request) { post(req); req.Header.Set("Idempotency-Key", "1") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{OpenFor: time.Second, Probes: 2}} {
					rt := transport.New(answer(200, ""), transport.WithPolicy(p), transport.WithSafeProbes())
					rt.SetState(here, policy.Open)
					time.Sleep(time.Second)
					want := policy.NotRefused
					if !c.safe {
						want = policy.RefusedOpen
					}
					for range 3 {
						require.Equal(t, want, send(t, rt, c.change), name)
					}
					if !c.safe {
						require.Equal(t, policy.Open, circuit(t, rt, here).State)
						require.Zero(t, circuit(t, rt, here).Probes)
						require.Equal(t, policy.NotRefused, send(t, rt, with("GET", "")), "%s: the probe is there for the next one", name)
					}

					// Without the option any request is a probe.
					rt = transport.New(answer(200, ""), transport.WithPolicy(p))
					rt.SetState(here, policy.Open)
					time.Sleep(time.Second)
					require.Equal(t, policy.NotRefused, send(t, rt, c.change))
				}
			})
		})
	}
}

func TestARampLetsThroughWhatIsNoSafeProbeAndATrialDoesNot(t *testing.T) {
	rt := transport.New(answer(200, ""), transport.WithSafeProbes())
	rt.SetState(here, policy.HalfOpen)
	require.Equal(t, policy.NotRefused, send(t, rt, post))

	rt = transport.New(answer(200, ""), transport.WithSafeProbes(), transport.WithPolicy(policy.Classic{Probes: 3}))
	rt.SetState(here, policy.HalfOpen)
	for range 3 {
		require.Equal(t, policy.RefusedRamp, send(t, rt, post))
	}
	for range 3 {
		require.Equal(t, policy.NotRefused, because(t, rt))
	}
	require.Equal(t, policy.NotRefused, send(t, rt, post), "it is closed")
}

// An hour of requests that cannot be lost, one a second, after a second in which the upstream failed.
func TestNobodyIsRefusedForEverForWantOfASafeProbe(t *testing.T) {
	rules := policy.Rules{
		Trip: policy.FailureShare{Calls: 10}, Probe: policy.OpenTime{For: 10 * time.Second, Factor: 2}, Recover: policy.Ramp{}, SafeWait: 20 * time.Second,
	}
	trial := rules
	trial.Recover = policy.Trial{Probes: 2, Successes: 4}
	withKey := func(req *http.Request) { post(req); req.Header.Set("Idempotency-Key", "1") } // and a body, which could be lost
	try := testkit.OneIn(5)
	for _, c := range []struct {
		name   string
		policy policy.Policy
		change func(*http.Request)
		safe   int // every which request is one that can be lost; 0 if none is
		want   int // refusals, about
		opts   []transport.Option
	}{
		{"adaptive", policy.Adaptive{}, post, 0, 60, nil},
		{"adaptive, and a wait of its own", policy.Adaptive{SafeWait: 5 * time.Second}, post, 0, 5, nil},
		{"adaptive, keys with bodies", policy.Adaptive{}, withKey, 0, 60, nil},
		{"adaptive, keys", policy.Adaptive{}, func(req *http.Request) { req.Method = "POST"; req.Header.Set("Idempotency-Key", "1") }, 0, 7, nil},
		{"adaptive, one in a thousand is safe", policy.Adaptive{}, post, 1000, 60, nil},
		{"adaptive, one in thirty is safe", policy.Adaptive{}, post, 30, 29, nil},
		{"classic", policy.Classic{}, post, 0, 60 + 60, nil},
		{"classic, three probes", policy.Classic{Probes: 3}, post, 0, 60 + 3*60, nil},
		{"classic, three probes, one in thirty is safe", policy.Classic{Probes: 3}, post, 30, 60 + 3*29, nil},
		{"classic, three probes, and a wait of its own", policy.Classic{Probes: 3, SafeWait: time.Second}, post, 0, 60 + 3, nil},
		{"rules", rules, post, 0, 10 + 20, nil},
		{"rules with a trial", trial, post, 0, 10 + 4*20, nil},
		{"rules with a trial, keys with bodies", trial, withKey, 0, 10 + 4*20, nil},
		{"a health check that is none for this key", policy.Adaptive{}, post, 0, 60, []transport.Option{transport.WithHealthCheck(func(transport.Key) *http.Request { return nil })}},
		{"a health check that is none for this key, three probes", policy.Classic{Probes: 3}, post, 0, 60 + 3*60, []transport.Option{transport.WithHealthCheck(func(transport.Key) *http.Request { return nil })}},
	} {
		if !try() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status := http.StatusInternalServerError
				rt := transport.New(base(func(req *http.Request) (*http.Response, error) { return answer(status, "")(req) }),
					append([]transport.Option{transport.WithPolicy(c.policy), transport.WithSafeProbes(), withRandom(func() float64 { return 0 })}, c.opts...)...)
				for range 20 {
					send(t, rt, c.change)
					time.Sleep(50 * time.Millisecond)
				}
				require.Equal(t, policy.Open, circuit(t, rt, here).State)
				status = http.StatusOK
				refused := 0
				for i := range 3600 {
					change := c.change
					if c.safe > 0 && (i+1)%c.safe == 0 {
						change = func(*http.Request) {}
					}
					if send(t, rt, change) != policy.NotRefused {
						refused++
					}
					time.Sleep(time.Second)
				}
				require.Equal(t, policy.Closed, circuit(t, rt, here).State)
				require.InDelta(t, c.want, refused, 3)
			})
		})
	}
}

func TestWhoIsRefusedIsToldThatTheCircuitWaitsForARequestThatCanBeLost(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy policy.Policy
		state  policy.State
	}{
		{"adaptive", policy.Adaptive{SafeWait: 90 * time.Second}, policy.Open},
		{"classic", policy.Classic{OpenFor: time.Second, SafeWait: 90 * time.Second}, policy.Open},
		{"a trial under way", policy.Classic{Probes: 3, SafeWait: 90 * time.Second}, policy.HalfOpen},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []transport.RefusalEvent
				rt := transport.New(answer(200, ""), transport.WithPolicy(c.policy), transport.WithSafeProbes(),
					transport.WithObserver(transport.Observer{OnRefusal: func(r transport.RefusalEvent) { told = append(told, r) }}))
				rt.SetState(here, c.state)
				require.Zero(t, circuit(t, rt, here).SafeProbeUntil)
				time.Sleep(time.Second)
				send(t, rt, post)
				until := time.Now().Add(90 * time.Second)
				time.Sleep(30*time.Second + time.Millisecond)
				resp, err := rt.RoundTrip(func() *http.Request { req := newRequest(t, http.MethodPost, t.Context()); post(req); return req }())
				require.NoError(t, err)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Equal(t, "fusebox: circuit "+c.state.String()+" for "+here.String()+", waits for a request that can be lost, at most 59.999s\n", string(text))
				require.Equal(t, "1", resp.Header.Get("Retry-After"), "one that can be lost is welcome at once")
				require.Equal(t, until, circuit(t, rt, here).SafeProbeUntil)
				require.Len(t, told, 2)
				require.Equal(t, 90*time.Second, told[0].Error.SafeWait)
				require.Equal(t, until, told[1].At.Add(told[1].Error.SafeWait))
				require.Zero(t, told[1].Error.RetryAfter)

				time.Sleep(time.Until(until))
				require.Equal(t, policy.NotRefused, send(t, rt, post))
				require.Zero(t, circuit(t, rt, here).SafeProbeUntil)
			})
		})
	}
}

func TestACircuitWaitsForNoRequestThatCanBeLostIfAnyMayProbe(t *testing.T) {
	for name, opts := range map[string][]transport.Option{
		"any request":                   nil,
		"a health check":                {transport.WithHealthCheck(func(k transport.Key) *http.Request { return httptest.NewRequest(http.MethodGet, k.String(), nil) })},
		"a health check, and safe ones": {transport.WithSafeProbes(), transport.WithHealthCheck(func(k transport.Key) *http.Request { return httptest.NewRequest(http.MethodGet, k.String(), nil) })},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
				cancel() // a probe that says nothing, and the next one is due at once
				return nil, context.Canceled
			}), append(opts, transport.WithPolicy(policy.Classic{OpenFor: time.Second}))...)
			rt.SetState(here, policy.Open)
			time.Sleep(time.Second)
			req := newRequest(t, http.MethodPost, ctx)
			post(req)
			rt.RoundTrip(req)
			require.Zero(t, circuit(t, rt, here).SafeProbeUntil, name)
			require.EqualValues(t, 1, circuit(t, rt, here).Probes, name)
		})
	}
}

func TestInShadowACircuitThatWaitedLongEnoughProbesByAnyRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(200, ""), transport.WithSafeProbes(), transport.WithShadow())
		rt.SetState(here, policy.Open)
		for range 120 {
			time.Sleep(time.Second)
			require.Equal(t, policy.NotRefused, send(t, rt, post))
		}
		require.Equal(t, policy.Closed, circuit(t, rt, here).State)
		require.InDelta(t, 60, circuit(t, rt, here).Shadow.Refused, 2)
	})
}

func TestNewPoliciesDoNotKeepACircuitWaitingForARequestThatCanBeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(200, ""), transport.WithSafeProbes())
		rt.SetState(here, policy.Open)
		refused := 0
		for range 120 {
			time.Sleep(time.Second)
			rt.SetPolicy(policy.Adaptive{})
			if send(t, rt, post) != policy.NotRefused {
				refused++
			}
		}
		require.InDelta(t, 60, refused, 2)
	})
}

func TestManyAtOnceOfWhichNoneCanBeLostDoNotKeepATrialWaiting(t *testing.T) {
	for name, check := range map[string][]transport.Option{
		"no health check": nil,
		"none for this key": {transport.WithHealthCheck(func(transport.Key) *http.Request {
			time.Sleep(time.Millisecond) // while which others ask
			return nil
		})},
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := transport.New(answer(200, ""), append(check, transport.WithSafeProbes(), transport.WithPolicy(policy.Classic{OpenFor: time.Second, Probes: 3}))...)
			rt.SetState(here, policy.Open)
			var callers sync.WaitGroup
			for i := range 20 {
				callers.Go(func() {
					time.Sleep(time.Second + time.Duration(i)*300*time.Microsecond)
					for range 4 * 60 * 10 {
						send(t, rt, post)
						time.Sleep(100 * time.Millisecond)
					}
				})
			}
			callers.Wait()
			require.Equal(t, policy.Closed, circuit(t, rt, here).State, name)
		})
	}
}

// checked is a transport with a health check, and what its upstream saw.
type checked struct {
	*transport.Transport
	health func(*http.Request) (*http.Response, error)
	paths  []string
	checks int
}

func newChecked(t *testing.T, opts ...transport.Option) *checked {
	c := &checked{health: answer(200, "fine")}
	c.Transport = transport.New(base(func(req *http.Request) (*http.Response, error) {
		c.paths = append(c.paths, req.Method+" "+req.URL.Path)
		if req.URL.Path == "/health" {
			return c.health(req)
		}
		return answer(200, "hello")(req)
	}), append([]transport.Option{transport.WithHealthCheck(func(k transport.Key) *http.Request {
		c.checks++
		req, err := http.NewRequest(http.MethodGet, k.String()+"/health", nil)
		require.NoError(t, err)
		return req
	})}, opts...)...)
	return c
}

func (c *checked) open() {
	c.SetState(here, policy.Open)
	time.Sleep(time.Second)
}

func TestAHealthCheckGoesInPlaceOfTheRequest(t *testing.T) {
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{Probe: policy.Squares{Spacing: 0.5}}, "classic": policy.Classic{OpenFor: time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			rt := newChecked(t, transport.WithPolicy(p))
			require.Equal(t, policy.NotRefused, send(t, rt, post))
			require.Equal(t, []string{"POST /"}, rt.paths, "a closed circuit checks nothing")
			rt.open()
			rt.paths = nil
			rt.health = answer(500, "sick")
			body := &countedBody{Reader: strings.NewReader("payload")}
			require.NotEqual(t, policy.NotRefused, send(t, rt, func(req *http.Request) { post(req); req.Body = body }), name)
			require.EqualValues(t, 1, body.closes.Load())
			require.Equal(t, []string{"GET /health"}, rt.paths)
			c := circuit(t, rt.Transport, here)
			require.Equal(t, policy.Open, c.State)
			require.EqualValues(t, 1, c.FailedCalls)
			require.EqualValues(t, 1, c.Refusals)
			require.Equal(t, policy.RefusedOpen, send(t, rt, post), "and the next probe waits")

			rt.health, rt.paths = answer(200, "fine"), nil
			time.Sleep(time.Second)
			body = &countedBody{Reader: strings.NewReader("payload")}
			require.Equal(t, policy.NotRefused, send(t, rt, func(req *http.Request) { post(req); req.Body = body }), name)
			require.Equal(t, []string{"GET /health", "POST /"}, rt.paths, "on the same call")
			require.Zero(t, body.closes.Load(), "the body is the base's, and this one closes none")
			require.NotEqual(t, policy.Open, circuit(t, rt.Transport, here).State)
		})
	}
}

func TestARampChecksNothing(t *testing.T) {
	rt := newChecked(t)
	rt.SetState(here, policy.HalfOpen)
	for range 10 {
		require.Equal(t, policy.NotRefused, send(t, rt, post))
	}
	require.Zero(t, rt.checks)
}

func TestARequestWaitsForAsManyHealthChecksAsTheTrialNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newChecked(t, transport.WithPolicy(policy.Classic{OpenFor: time.Second, Probes: 3}))
		rt.open()
		require.Equal(t, policy.NotRefused, send(t, rt, post), "the check succeeded")
	})
}

func TestATrialIsDecidedByHealthChecks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newChecked(t, transport.WithPolicy(policy.Classic{OpenFor: time.Second, Probes: 3}))
		rt.open()
		for circuit(t, rt.Transport, here).State != policy.Closed {
			require.Less(t, rt.checks, 3)
			send(t, rt, post)
		}
		require.Equal(t, 3, rt.checks)
		require.Equal(t, policy.NotRefused, send(t, rt, post))
		require.Equal(t, 3, rt.checks, "closed")

		rt.open()
		rt.health = answer(500, "sick")
		require.Equal(t, policy.RefusedOpen, send(t, rt, post))
		require.Equal(t, policy.Open, circuit(t, rt.Transport, here).State)
	})
}

func TestWithNoHealthCheckForAKeyTheRequestIsTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var paths []string
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			paths = append(paths, req.Method+" "+req.URL.Path)
			return answer(200, "")(req)
		}), transport.WithHealthCheck(func(transport.Key) *http.Request { return nil }))
		rt.SetState(here, policy.Open)
		time.Sleep(time.Second)
		require.Equal(t, policy.NotRefused, send(t, rt, post))
		require.Equal(t, []string{"POST /"}, paths)
		require.EqualValues(t, 1, circuit(t, rt, here).Probes)
	})
}

func TestACallerThatLeavesDuringTheHealthCheckSaysNothing(t *testing.T) {
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{OpenFor: time.Second, Probes: 3}} {
		synctest.Test(t, func(t *testing.T) {
			rt := newChecked(t, transport.WithPolicy(p))
			rt.open()
			ctx, cancel := context.WithCancel(t.Context())
			rt.health = func(req *http.Request) (*http.Response, error) {
				cancel()
				<-req.Context().Done()
				return nil, req.Context().Err()
			}
			body := &countedBody{Reader: strings.NewReader("payload")}
			req := newRequest(t, http.MethodPost, ctx)
			req.Body = body
			rt.RoundTrip(req)
			require.EqualValues(t, 1, body.closes.Load())
			c := circuit(t, rt.Transport, here)
			require.Zero(t, c.FailedCalls)
			require.Zero(t, c.InFlight)
			rt.health = answer(200, "fine")
			send(t, rt, post)
			require.NotEqual(t, policy.Open, circuit(t, rt.Transport, here).State, "the next check goes at once, %s", name)
		})
	}
}

func TestACallerThatLeavesDuringTheHealthCheckGetsItsOwnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newChecked(t)
		rt.open()
		ctx, cancel := context.WithCancel(t.Context())
		rt.health = func(req *http.Request) (*http.Response, error) {
			cancel()
			return nil, req.Context().Err()
		}
		_, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestAHealthCheckThatDiesGivesItsPermitBack(t *testing.T) {
	for name, health := range map[string]func(*http.Request) (*http.Response, error){
		"panic": func(*http.Request) (*http.Response, error) { panic("base") },
	} {
		synctest.Test(t, func(t *testing.T) {
			rt := newChecked(t, transport.WithPolicy(policy.Classic{OpenFor: time.Second, Probes: 1, Limits: policy.Limits{InFlight: 1, Timeout: time.Hour}}))
			rt.open()
			rt.health = health
			body := &countedBody{Reader: strings.NewReader("payload")}
			panics(func() { send(t, rt, func(req *http.Request) { req.Body = body }) })
			require.EqualValues(t, 1, body.closes.Load(), name)
			require.Zero(t, circuit(t, rt.Transport, here).InFlight)
			rt.health = answer(200, "fine")
			require.Equal(t, policy.NotRefused, send(t, rt, post))
			requireFree(t, rt, 1)
		})
	}
}

func TestAPanicOfTheHealthCheckItselfGivesThePermitBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := true
		rt := transport.New(answer(200, ""), transport.WithHealthCheck(func(transport.Key) *http.Request {
			if bad {
				panic("check")
			}
			return nil
		}))
		rt.SetState(here, policy.Open)
		time.Sleep(time.Second)
		panics(func() { call(t, rt) })
		bad = false
		require.Equal(t, policy.NotRefused, because(t, rt))
	})
}

func TestTheBodyOfAHealthCheckIsClosed(t *testing.T) {
	for _, status := range []int{200, 500} {
		synctest.Test(t, func(t *testing.T) {
			rt := newChecked(t)
			rt.open()
			body := &countedBody{Reader: strings.NewReader(strings.Repeat("x", 1<<20))}
			rt.health = withBody(status, body)
			call(t, rt)
			require.EqualValues(t, 1, body.closes.Load())
			require.Equal(t, 1<<20-64<<10, body.Reader.(*strings.Reader).Len())
		})
	}
}

func TestAHealthCheckIsUnderTheLimits(t *testing.T) {
	limits := policy.Limits{InFlight: 1, Timeout: time.Second}
	hang := func(req *http.Request) (*http.Response, error) {
		select {
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		case <-time.After(time.Hour):
			return nil, errors.New("hung")
		}
	}
	t.Run("timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rt := newChecked(t, transport.WithPolicy(policy.Adaptive{Limits: limits}))
			rt.open()
			rt.health = hang
			began := time.Now()
			require.Equal(t, policy.RefusedOpen, because(t, rt))
			require.Equal(t, time.Second, time.Since(began))
			require.Equal(t, "headers: timeout (limit)", circuit(t, rt.Transport, here).Cause.String())
		})
	})
	t.Run("no place", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rt := newChecked(t, transport.WithPolicy(policy.Adaptive{Limits: limits}))
			held, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
			require.NoError(t, err)
			defer held.Body.Close()
			rt.open()
			rt.health = hang
			began := time.Now()
			require.Equal(t, policy.RefusedLimit, because(t, rt))
			require.Zero(t, rt.checks, "as many calls are in flight as may be")
			require.Zero(t, time.Since(began))
		})
	})
}

func TestAHealthCheckIsSentThoughTheRequestIsNoSafeProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := newChecked(t, transport.WithSafeProbes())
		rt.open()
		require.Equal(t, policy.NotRefused, send(t, rt, post), "what is lost is the check")
		require.Equal(t, 1, rt.checks)
	})
}

func TestOneHealthCheckAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		rt := newChecked(t)
		rt.open()
		rt.health = func(req *http.Request) (*http.Response, error) { <-release; return answer(200, "fine")(req) }
		var first sync.WaitGroup
		first.Go(func() { call(t, rt) })
		synctest.Wait()
		for range 10 {
			require.Equal(t, policy.RefusedOpen, because(t, rt))
		}
		close(release)
		first.Wait()
		require.Equal(t, 1, rt.checks)
		require.Equal(t, []string{"GET /health", "GET /"}, rt.paths)
	})
}
