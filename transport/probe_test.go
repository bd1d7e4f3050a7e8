package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// send sends a request made by a function, and returns why it was refused, if it was.
func send(t *testing.T, rt http.RoundTripper, change func(*http.Request)) policy.Refusal {
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
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{Spacing: 0.5}, "classic": policy.Classic{OpenFor: time.Second}} {
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
