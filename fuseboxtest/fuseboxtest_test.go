package fuseboxtest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fuseboxtest"
	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// world is an upstream that answers with a status, and a client of it.
type world struct {
	status   int
	requests int
	breaker  *transport.Transport
	client   *http.Client
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.requests++
	return &http.Response{StatusCode: w.status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func newWorld(options ...transport.Option) *world {
	w := &world{status: http.StatusOK}
	w.breaker = transport.New(w, options...)
	w.client = &http.Client{Transport: w.breaker}
	return w
}

func (w *world) call(status int) func() {
	return func() {
		w.status = status
		w.send(http.MethodGet)
	}
}

func (w *world) send(method string) (*http.Response, error) {
	req, err := http.NewRequest(method, "https://rates.example.com/eur", nil)
	if err != nil {
		panic(err)
	}
	resp, err := w.client.Do(req)
	if err == nil {
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return resp, err
}

func (w *world) state() policy.State {
	c, _ := w.breaker.Circuit(upstream)
	return c.State
}

// told is a test of somebody, and what it was told.
type told struct {
	testing.TB
	text   strings.Builder
	failed bool
}

func (t *told) Helper()                        {}
func (t *told) Logf(format string, a ...any)   { fmt.Fprintf(&t.text, format+"\n", a...) }
func (t *told) Errorf(format string, a ...any) { t.Logf(format, a...); t.failed = true }
func (t *told) Error(a ...any)                 { t.Errorf("%s", fmt.Sprint(a...)) }
func (t *told) Fatalf(format string, a ...any) { t.Errorf(format, a...); runtime.Goexit() }
func (t *told) Fatal(a ...any)                 { t.Fatalf("%s", fmt.Sprint(a...)) }

// tells runs the test of somebody, and returns what it told them and whether it failed.
func tells(t *testing.T, test func(testing.TB)) (text string, failed bool) {
	of := &told{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(of)
	}()
	<-done
	return of.text.String(), of.failed
}

var policies = map[string]policy.Policy{
	"Adaptive":                 policy.Adaptive{},
	"Classic":                  policy.Classic{Failures: 5, OpenFor: time.Hour, Probes: 3},
	"Classic, at once":         policy.Classic{Failures: 1},
	"share of a window":        policy.Rules{Trip: policy.FailureShare{Percent: 50, Minimum: 20, Window: time.Minute}, Probe: policy.OpenTime{}, Recover: policy.Trial{}},
	"growing open times":       policy.Rules{Trip: policy.Consecutive{}, Probe: policy.OpenTime{Factor: 2}, Recover: policy.Ramp{}},
	"Adaptive, a gap of a day": policy.Adaptive{Probe: policy.Squares{MaxGap: 24 * time.Hour}},
}

func TestOneMoreFailureOpensACircuitThatAlmostTrips(t *testing.T) {
	for name, p := range policies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(transport.WithPolicy(p))
				calls := fuseboxtest.AlmostTrip(t, w.breaker, upstream, w.call(500))
				require.Equal(t, policy.Closed, w.state())
				w.call(500)()
				require.Equal(t, policy.Open, w.state())
				require.Equal(t, 2*calls+2, w.requests, "twice all but the last of them, and each time that")
			})
		})
	}
}

func TestACircuitThatTrippedRecovers(t *testing.T) {
	for name, p := range policies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(transport.WithPolicy(p))
				calls := fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
				require.Equal(t, calls, w.requests)
				for range 3 {
					w.call(500)() // a request that is refused makes the next probe no sooner
				}
				require.Equal(t, calls, w.requests)
				for range 4 {
					fuseboxtest.UntilProbe(t, w.breaker, upstream)
					before := w.requests
					w.call(500)()
					require.Equal(t, before+1, w.requests, "the request is a probe")
					require.Equal(t, policy.Open, w.state())
				}
				before := w.requests
				calls = fuseboxtest.Recover(t, w.breaker, upstream, w.call(200))
				require.Equal(t, policy.Closed, w.state())
				require.Equal(t, before+calls, w.requests, "each call is made")
				require.Zero(t, fuseboxtest.Recover(t, w.breaker, upstream, w.call(200)), "it is closed already")
			})
		})
	}
}

func TestNoRequestIsAProbeBeforeItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(transport.WithPolicy(policy.Classic{OpenFor: time.Minute}))
		fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
		time.Sleep(time.Second)
		require.Equal(t, 59*time.Second, fuseboxtest.UntilProbe(t, w.breaker, upstream))
		require.Zero(t, fuseboxtest.UntilProbe(t, w.breaker, upstream), "it is due")
		fuseboxtest.Put(t, w.breaker, upstream, policy.HalfOpen)
		require.Zero(t, fuseboxtest.UntilProbe(t, w.breaker, upstream), "it is half-open")
	})
}

func TestRequestsThatCannotBeLostRecoverACircuitToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(transport.WithSafeProbes())
		fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
		w.status = 200
		calls := fuseboxtest.Recover(t, w.breaker, upstream, func() { w.send(http.MethodPost) })
		require.Less(t, calls, 20)
	})
}

func TestPutAndForceEndWithTheTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for _, state := range []policy.State{policy.Open, policy.HalfOpen, policy.Closed} {
			inner(t, func(t testing.TB) {
				fuseboxtest.Put(t, w.breaker, upstream, state)
				require.Equal(t, state, w.state())
			})
			require.Equal(t, policy.Closed, w.state())
		}
		inner(t, func(t testing.TB) {
			fuseboxtest.Force(t, w.breaker, upstream, policy.Open)
			time.Sleep(time.Hour)
			_, err := w.send(http.MethodGet)
			require.NoError(t, err)
			require.Zero(t, w.requests)
		})
		require.Empty(t, w.breaker.Overrides())
		inner(t, func(t testing.TB) {
			fuseboxtest.Force(t, w.breaker, upstream, policy.Closed)
			for range 50 {
				w.call(500)()
			}
			require.Equal(t, 50, w.requests)
		})
		inner(t, func(t testing.TB) { fuseboxtest.Trip(t, w.breaker, upstream, w.call(500)) })
		require.Equal(t, policy.Closed, w.state())
	})
}

// cleaned is a test whose end can be waited for.
type cleaned struct {
	testing.TB
	at []func()
}

func (c *cleaned) Cleanup(f func()) { c.at = append(c.at, f) }

func inner(t *testing.T, test func(testing.TB)) {
	c := &cleaned{TB: t}
	test(c)
	for len(c.at) > 0 {
		last := c.at[len(c.at)-1]
		c.at = c.at[:len(c.at)-1]
		last()
	}
}

func TestWhoAsksForWhatCannotBeIsToldWhy(t *testing.T) {
	other := transport.Key{Scheme: "https", Host: "other.example.com"}
	for name, c := range map[string]struct {
		test func(testing.TB, *world)
		want string
	}{
		"calls that do not fail": {
			func(t testing.TB, w *world) { fuseboxtest.Trip(t, w.breaker, upstream, w.call(404)) },
			"10000 calls did not open the circuit of https://rates.example.com: 0 failed and 0 said nothing, last failure: none",
		},
		"calls of another upstream": {
			func(t testing.TB, w *world) { fuseboxtest.Trip(t, w.breaker, other, w.call(500)) },
			"no request has the key https://other.example.com; there are circuits for [https://rates.example.com]",
		},
		"a key that nothing has": {
			func(t testing.TB, w *world) {
				fuseboxtest.Trip(t, w.breaker, transport.Key{Scheme: "https", Host: "Rates.example.com:443"}, w.call(500))
			},
			"no request has the key https://Rates.example.com:443; write https://rates.example.com",
		},
		"an upstream that is still down": {
			func(t testing.TB, w *world) {
				fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
				fuseboxtest.Recover(t, w.breaker, upstream, w.call(503))
			},
			"did not close the circuit of https://rates.example.com, which is open: ",
		},
		"a circuit that is open": {
			func(t testing.TB, w *world) {
				fuseboxtest.Put(t, w.breaker, upstream, policy.Open)
				fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
			},
			"the circuit of https://rates.example.com is open already",
		},
		"a circuit that is forced": {
			func(t testing.TB, w *world) {
				fuseboxtest.Force(t, w.breaker, upstream, policy.Open)
				w.call(500)()
				fuseboxtest.UntilProbe(t, w.breaker, upstream)
			},
			`the circuit of https://rates.example.com is forced open by "https://rates.example.com", and stays so`,
		},
		"a circuit that is forced before it is there": {
			func(t testing.TB, w *world) {
				fuseboxtest.Force(t, w.breaker, upstream, policy.Closed)
				fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
			},
			`is forced closed by "https://rates.example.com", and stays so`,
		},
		"a circuit that is put elsewhere and forced": {
			func(t testing.TB, w *world) {
				fuseboxtest.Force(t, w.breaker, upstream, policy.Closed)
				fuseboxtest.Put(t, w.breaker, upstream, policy.Open)
			},
			`is forced closed by "https://rates.example.com", and stays so`,
		},
		"a forced circuit that is to recover": {
			func(t testing.TB, w *world) {
				fuseboxtest.Force(t, w.breaker, upstream, policy.Open)
				w.call(200)()
				fuseboxtest.Recover(t, w.breaker, upstream, w.call(200))
			},
			`is forced open by "https://rates.example.com", and stays so`,
		},
		"a probe of a closed circuit": {
			func(t testing.TB, w *world) {
				w.call(200)()
				fuseboxtest.UntilProbe(t, w.breaker, upstream)
			},
			"the circuit of https://rates.example.com is closed, and has no probe to wait for",
		},
		"the recovery of a circuit that is not there": {
			func(t testing.TB, w *world) { fuseboxtest.Recover(t, w.breaker, upstream, w.call(200)) },
			"no request has the key https://rates.example.com; there are circuits for []",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				text, failed := tells(t, func(t testing.TB) { c.test(t, w) })
				require.True(t, failed)
				require.Contains(t, text, c.want)
			})
		})
	}
}

func TestTimeDoesNotPassOutsideOfABubble(t *testing.T) {
	w := newWorld()
	fuseboxtest.Put(t, w.breaker, upstream, policy.Open)
	text, failed := tells(t, func(t testing.TB) { fuseboxtest.UntilProbe(t, w.breaker, upstream) })
	require.True(t, failed)
	require.Contains(t, text, "call this in the function given to synctest.Test")
}

func TestKeysOfAKeyFuncOfOnesOwnAreNoFailure(t *testing.T) {
	payments := transport.Key{Scheme: "team", Host: "Payments", Detail: "EU"}
	w := newWorld(transport.WithKey(func(*http.Request) transport.Key { return payments }))
	fuseboxtest.Trip(t, w.breaker, payments, w.call(500))
	reports := transport.Key{Detail: "reports"}
	fuseboxtest.Put(t, w.breaker, reports, policy.Open)
	c, _ := w.breaker.Circuit(reports)
	require.Equal(t, policy.Open, c.State)
}

func TestWhatIsARefusalAndWhatIsNot(t *testing.T) {
	other := transport.Key{Scheme: "https", Host: "other.example.com"}
	wraps := transport.WithRefusal(func(_ *http.Request, e *transport.RefusedError) (*http.Response, error) {
		return nil, fmt.Errorf("the rates are closed: %w", e)
	})
	cached := transport.WithRefusal(transport.Response(http.StatusOK, nil, "1.09"))
	broken := func(*http.Request) (*http.Response, error) { return nil, errors.New("broken") }
	for name, options := range map[string][]transport.Option{
		"503": nil, "error": {transport.WithRefusalError()}, "wrapped error": {wraps}, "200": {cached},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(options...)
			events := fuseboxtest.Record(t, w.breaker)
			fuseboxtest.Force(t, w.breaker, upstream, policy.Open)
			w.client.Timeout = time.Hour // by which http.Client makes a request of its own
			resp, err := w.send(http.MethodGet)
			assert.True(t, events.AssertRefused(resp, err, upstream))
			assert.True(t, events.AssertRefused(resp, err, upstream, policy.RefusedOpen, policy.RefusedForced))
			require.Len(t, events.Refusals(), 1)
			require.Equal(t, policy.RefusedForced, events.Refusals()[0].Reason)
		})
	}
	for name, c := range map[string]struct {
		base http.RoundTripper
		key  transport.Key
		want string
	}{
		"a 503 of the upstream": {answers(503), upstream, "not a refusal, but an answer of the upstream: 503 Service Unavailable"},
		"an error":              {roundTrip(broken), upstream, `not a refusal, but the error "Get \"https://rates.example.com/eur\": broken"`},
		"another upstream":      {nil, other, "refused by the circuit of https://rates.example.com, not of https://other.example.com"},
		"another reason":        {nil, upstream, `refused because of "forced open", not ["open" "limit"]`},
	} {
		t.Run(name, func(t *testing.T) {
			breaker := transport.New(c.base)
			if c.base == nil {
				fuseboxtest.Force(t, breaker, upstream, policy.Open)
			}
			refused := true
			text, failed := tells(t, func(t testing.TB) {
				events := fuseboxtest.Record(t, breaker)
				resp, err := (&http.Client{Transport: breaker}).Get("https://rates.example.com/eur")
				refused = events.AssertRefused(resp, err, c.key, policy.RefusedOpen, policy.RefusedLimit)
			})
			require.True(t, failed)
			require.False(t, refused)
			require.Contains(t, text, c.want)
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func answers(status int) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
			Header: http.Header{}, Body: http.NoBody, Request: req,
		}, nil
	})
}

func TestARefusalOfAnotherTransportIsNotTakenForOne(t *testing.T) {
	recorded, other := newWorld(), newWorld()
	fuseboxtest.Force(t, other.breaker, upstream, policy.Open)
	resp, err := other.send(http.MethodGet)
	text, failed := tells(t, func(t testing.TB) {
		fuseboxtest.Record(t, recorded.breaker).AssertRefused(resp, err, upstream)
	})
	require.True(t, failed)
	require.Contains(t, text, "a refusal that was not recorded")
	text, failed = tells(t, func(t testing.TB) { fuseboxtest.Record(t, recorded.breaker).AssertRefused(nil, nil, upstream) })
	require.True(t, failed)
	require.Contains(t, text, "neither a response nor an error")
}

func TestEachResponseIsTheRefusalOfItsOwnCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(transport.WithKey(transport.PerRoute("GET /eur", "POST /eur")))
		get, post := upstream, upstream
		get.Detail, post.Detail = "GET /eur", "POST /eur"
		events := fuseboxtest.Record(t, w.breaker)
		var text string
		answers := make(map[transport.Key]*http.Response)
		for key, method := range map[transport.Key]string{get: http.MethodGet, post: http.MethodPost} {
			told, _ := tells(t, func(t testing.TB) { fuseboxtest.Put(t, w.breaker, key, policy.Open) })
			text += told
			resp, err := w.send(method)
			require.NoError(t, err)
			answers[key] = resp
		}
		require.Empty(t, text, "the keys are those of requests")
		for key, resp := range answers {
			events.AssertRefused(resp, nil, key, policy.RefusedOpen)
		}
		require.Len(t, events.Refusals(), 2)
	})
}

func TestARecorderHasWhatHappenedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(transport.WithPolicy(policy.Classic{Failures: 2}))
		var events *fuseboxtest.Recorder
		var changes []string
		inner(t, func(t testing.TB) {
			events = fuseboxtest.Record(t, w.breaker)
			fuseboxtest.Trip(t, w.breaker, upstream, w.call(500))
			w.call(200)()
			fuseboxtest.Recover(t, w.breaker, upstream, w.call(200))
			for _, c := range events.Changes() {
				changes = append(changes, fmt.Sprintf("%v to %v", c.From, c.To))
			}
		})
		w.call(200)() // after the end of the test
		require.Equal(t, []string{"closed to open", "open to half-open", "half-open to closed"}, changes)
		var outcomes []policy.Outcome
		for _, end := range events.Outcomes() {
			outcomes = append(outcomes, end.Outcome)
		}
		require.Equal(t, []policy.Outcome{policy.Failure, policy.Failure, policy.Success}, outcomes)
		require.Len(t, events.Refusals(), 1)
		require.Equal(t, upstream, events.Refusals()[0].Key)
	})
}

func TestCallsThatAreSlowOpenACircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		slow := roundTrip(func(req *http.Request) (*http.Response, error) {
			time.Sleep(3 * time.Second)
			return w.RoundTrip(req)
		})
		w.breaker = transport.New(slow, transport.WithPolicy(policy.Rules{
			Trip: policy.SlowShare{Slower: 2 * time.Second}, Probe: policy.OpenTime{}, Recover: policy.Trial{},
		}))
		w.client.Transport = w.breaker
		require.Equal(t, 9, fuseboxtest.AlmostTrip(t, w.breaker, upstream, w.call(200)))
		w.call(200)()
		require.Equal(t, policy.Open, w.state())
	})
}

// The kit in a bubble with a real server and net/http, as internal/bubble has them.
func TestARealServerInABubbleIsWaitedFor(t *testing.T) {
	status := http.StatusInternalServerError
	bubble.Serve(t, nil, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) },
		func(t *testing.T, base *http.Transport) {
			breaker := transport.New(base)
			client := &http.Client{Transport: breaker}
			key := transport.Key{Scheme: "http", Host: "rates.example.com"}
			call := func() {
				resp, err := client.Get("http://rates.example.com/")
				require.NoError(t, err)
				resp.Body.Close()
			}
			fuseboxtest.Trip(t, breaker, key, call)
			status = http.StatusOK
			fuseboxtest.Recover(t, breaker, key, call)
		})
}

func TestThePageShowsTheCodeThatRuns(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	marked := regexp.MustCompile(`(?ms)^// page: \w+\n(.*?)\n\n// end$`)
	for _, name := range []string{"httpmock_test.go", "synctest_test.go"} {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		found := marked.FindSubmatch(text)
		require.NotNil(t, found, name)
		require.Contains(t, string(page), "```go\n"+string(found[1])+"\n```", name)
	}
}
