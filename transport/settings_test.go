package transport_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// get makes a request of a host and reads what comes to its end.
func get(t *testing.T, rt *transport.Transport, host string) (resp *http.Response, body string) {
	t.Helper()
	resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(text)
}

// only gives settings to one key.
func only(host string, own transport.Settings) func(transport.Key) transport.Settings {
	return func(k transport.Key) transport.Settings {
		if k != hostKey(host) {
			return transport.Settings{}
		}
		return own
	}
}

func failed(t *testing.T, rt *transport.Transport, host string) uint64 {
	t.Helper()
	return circuit(t, rt, hostKey(host)).FailedCalls
}

func TestAKeysClassifierIsAskedAtHeadersAndAtTheEndOfBodies(t *testing.T) {
	for name, classify := range map[string]policy.Classifier{
		"headers":      policy.OnStatus(policy.Failure, 200),
		"first bytes":  policy.OnBody(5, func(*http.Response, []byte) policy.Outcome { return policy.Failure }),
		"end":          policy.AtEnd(5, func(*policy.Call) policy.Outcome { return policy.Failure }),
		"GraphQL":      policy.GraphQL(),
		"end of calls": policy.FirstOf(policy.OnSlow(1<<40), policy.AtEnd(0, func(*policy.Call) policy.Outcome { return policy.Failure })),
	} {
		for _, all := range []transport.Option{transport.WithPolicy(policy.Adaptive{}), transport.WithClassifier(policy.OnStatus(policy.Ignored, 418))} {
			rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
				resp, err := answer(200, `{"data":null,"errors":[{"extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`)(req)
				resp.Header = http.Header{"Content-Type": {"application/graphql-response+json"}}
				return resp, err
			}), all, transport.WithSettingsFor(only("own.test", transport.Settings{Classifier: classify})))
			for range 2 {
				get(t, rt, "own.test")
				get(t, rt, "other.test")
			}
			require.EqualValues(t, 2, failed(t, rt, "own.test"), name)
			require.Zero(t, failed(t, rt, "other.test"), name)
		}
	}
}

func TestWhereAKeysClassifierIsUndecidedThatOfTheTransportIsAsked(t *testing.T) {
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		return answer(map[string]int{"/": 429, "/404": 404}[req.URL.Path], "")(req)
	}), transport.WithClassifier(policy.OnStatus(policy.Failure, 429)), transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		switch k.Host {
		case "adds.test":
			return transport.Settings{Classifier: policy.OnStatus(policy.Failure, 404)}
		case "alone.test":
			return transport.Settings{Classifier: policy.FirstOf(policy.OnStatus(policy.Failure, 404), policy.DefaultClassifier)}
		}
		return transport.Settings{}
	}))
	for _, c := range []struct {
		host, path string
		want       uint64
	}{
		{"adds.test", "/", 1}, {"adds.test", "/404", 1}, {"alone.test", "/", 0}, {"alone.test", "/404", 1},
		{"all.test", "/", 1}, {"all.test", "/404", 0},
	} {
		rt.Reset("*")
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+c.host+c.path, nil))
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, c.want, failed(t, rt, c.host), "%s%s", c.host, c.path)
	}
}

func TestSetClassifierLeavesAKeysOwnAndReachesCircuitsThatAreThere(t *testing.T) {
	rt := transport.New(answer(429, ""), transport.WithSettingsFor(only("own.test", transport.Settings{Classifier: policy.OnStatus(policy.Failure, 429)})))
	both := func() (own, other uint64) {
		rt.Reset("*")
		get(t, rt, "own.test")
		get(t, rt, "other.test")
		return failed(t, rt, "own.test"), failed(t, rt, "other.test")
	}
	check := func(wantOwn, wantOther uint64, why string) {
		own, other := both()
		require.Equal(t, [2]uint64{wantOwn, wantOther}, [2]uint64{own, other}, why)
	}
	check(1, 0, "at first")
	rt.SetClassifier(policy.OnStatus(policy.Failure, 429))
	check(1, 1, "for all")
	rt.SetSettingsFor(only("own.test", transport.Settings{Classifier: policy.OnStatus(policy.Ignored, 429)}))
	check(0, 1, "the key's own says otherwise")
	require.Panics(t, func() { rt.SetClassifier(nil) })
	check(0, 1, "what panics changes nothing")
	rt.SetClassifier()
	check(0, 0, "none for all")
	rt.SetSettingsFor(nil)
	rt.SetClassifier(policy.OnStatus(policy.Failure, 429))
	check(1, 1, "none of the key's own")
}

func TestSetClassifierWeighsNothingAfresh(t *testing.T) {
	rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{Failures: 3}),
		transport.WithSettingsFor(only("own.test", transport.Settings{Policy: policy.Classic{Failures: 4}, Classifier: policy.OnSlow(1 << 40)})))
	get(t, rt, "own.test")
	get(t, rt, "other.test")
	rt.SetClassifier(policy.OnStatus(policy.Failure, 429))
	for _, host := range []string{"own.test", "other.test"} {
		require.Equal(t, 1, circuit(t, rt, hostKey(host)).Failures, host)
	}
}

func TestAKeysRefusalIsItsOwn(t *testing.T) {
	teapot := transport.Response(http.StatusTeapot, nil, "short and stout")
	asError := func(_ *http.Request, e *transport.RefusedError) (*http.Response, error) { return nil, e }
	for name, opts := range map[string][]transport.Option{
		"default": nil, "fixed": {transport.WithRefusal(transport.Response(429, nil, ""))}, "error": {transport.WithRefusalError()},
	} {
		rt := transport.New(answer(200, ""), append(opts, transport.WithSettingsFor(only("own.test", transport.Settings{Refusal: teapot})))...)
		force(t, rt, "*", policy.Open)
		resp, body := get(t, rt, "own.test")
		require.Equal(t, http.StatusTeapot, resp.StatusCode, name)
		require.Equal(t, "short and stout", body, name)
		require.Equal(t, policy.RefusedForced, transport.RefusedBecause(resp), name)
		_, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://other.test/", nil))
		require.Equal(t, name == "error", err != nil, name)

		rt.SetSettingsFor(only("own.test", transport.Settings{Refusal: asError}))
		_, err = rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://own.test/", nil))
		require.ErrorIs(t, err, transport.ErrOpen, name)
	}
}

func TestTheCallThatTripsGetsItsKeysRefusal(t *testing.T) {
	rt := transport.New(answer(500, ""), transport.WithRefusalOnTrip(), transport.WithSettingsFor(only("own.test", transport.Settings{
		Policy: policy.Classic{Failures: 1}, Refusal: transport.Response(http.StatusTeapot, nil, ""),
	})))
	resp, _ := get(t, rt, "own.test")
	require.Equal(t, http.StatusTeapot, resp.StatusCode)
}

func TestAHealthCheckIsJudgedByItsKeysClassifier(t *testing.T) {
	rt := transport.New(answer(429, ""), transport.WithPolicy(policy.Classic{OpenFor: 1}), transport.WithHealthCheck(func(k transport.Key) *http.Request {
		return httptest.NewRequest(http.MethodGet, "http://"+k.Host+"/health", nil)
	}), transport.WithSettingsFor(only("own.test", transport.Settings{Classifier: policy.OnStatus(policy.Failure, 429)})))
	for _, host := range []string{"own.test", "other.test"} {
		require.True(t, rt.SetState(hostKey(host), policy.Open))
		resp, _ := get(t, rt, host)
		require.Equal(t, host == "own.test", transport.Refused(resp), host)
	}
}

func TestLimitsOfAKeyAreInItsPolicy(t *testing.T) {
	rt := transport.New(answer(200, "hello"), transport.WithSettingsFor(only("own.test", transport.Settings{
		Policy: policy.Adaptive{Limits: policy.Limits{InFlight: 1}},
	})))
	for _, host := range []string{"own.test", "other.test"} {
		first, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
		require.NoError(t, err)
		second, _ := get(t, rt, host)
		require.Equal(t, host == "own.test", transport.RefusedBecause(second) == policy.RefusedLimit, host)
		first.Body.Close()
	}
}

func TestASnapshotSaysWhichSettingsACircuitHas(t *testing.T) {
	rt := transport.New(answer(200, ""), transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		switch k.Host {
		case "all.test":
			return transport.Settings{Policy: policy.Classic{}, Classifier: policy.DefaultClassifier, Refusal: transport.RPCUnavailable}
		case "classifier.test":
			return transport.Settings{Classifier: policy.DefaultClassifier}
		}
		return transport.Settings{}
	}))
	check := func(host, wantPolicy string, want ...string) {
		t.Helper()
		get(t, rt, host)
		c := circuit(t, rt, hostKey(host))
		require.Equal(t, wantPolicy, c.Policy, host)
		require.Equal(t, want, c.Own, host)
	}
	check("all.test", "policy.Classic", "policy", "classifier", "refusal")
	check("classifier.test", "policy.Adaptive", "classifier")
	check("none.test", "policy.Adaptive")
	rt.SetPolicy(policy.Rules(policy.Classic{}.Rules()))
	check("all.test", "policy.Classic", "policy", "classifier", "refusal")
	check("none.test", "policy.Rules")
	rt.SetSettingsFor(nil)
	check("all.test", "policy.Rules")
}

func TestAKeyWithSettingsOfItsOwnCostsAHealthyCallNothing(t *testing.T) {
	rt := transport.New(reuse(200), transport.WithSettingsFor(func(transport.Key) transport.Settings {
		return transport.Settings{Policy: policy.Adaptive{}, Refusal: transport.RPCUnavailable}
	}))
	req := newRequest(t, http.MethodGet, t.Context())
	call := func() { rt.RoundTrip(req) }
	for range 100 {
		call()
	}
	require.Zero(t, testing.AllocsPerRun(1000, call))
}

// reuse answers by one response.
func reuse(status int) base {
	resp := &http.Response{StatusCode: status, ProtoMajor: 1, Header: http.Header{}, Body: http.NoBody}
	return func(*http.Request) (*http.Response, error) { return resp, nil }
}

func TestOfSettingsThatMeetTheLastHoldsForAll(t *testing.T) {
	failing := func(status int) policy.Classifier { return policy.OnStatus(policy.Failure, status) }
	for range 20 { // circuits made before, meanwhile and later
		rt := transport.New(answer(418, ""))
		var all sync.WaitGroup
		all.Go(func() { rt.SetClassifier(failing(418)) })
		all.Go(func() {
			rt.SetSettingsFor(func(transport.Key) transport.Settings { return transport.Settings{Classifier: failing(404)} })
		})
		all.Go(func() { rt.SetPolicy(policy.Classic{Failures: 1000}) })
		all.Go(func() {
			for i := range 50 {
				rt.RoundTrip(httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", i), nil))
			}
		})
		all.Wait()
		rt.Reset("*")
		for i := range 51 {
			host := fmt.Sprintf("host-%d.test", i)
			get(t, rt, host)
			c := circuit(t, rt, hostKey(host))
			require.EqualValues(t, 1, c.FailedCalls, "that for all is asked where the key's own is undecided")
			require.Equal(t, []string{"classifier"}, c.Own)
			require.Equal(t, 1000, c.Trip)
		}
	}
}

// meets does something when memory for a circuit is made.
type meets struct {
	policy.TripRule
	do func()
}

func (m meets) NewTrip() policy.Trip { m.do(); return m.TripRule.NewTrip() }

func TestACircuitThatIsMadeWhileClassifiersAreSetGetsTheNewOnes(t *testing.T) {
	do := func() {}
	rt := transport.New(answer(418, ""), transport.WithPolicy(policy.Rules{
		Trip: meets{policy.Consecutive{}, func() { do() }}, Probe: policy.OpenTime{}, Recover: policy.Trial{},
	}))
	do = func() { rt.SetClassifier(policy.OnStatus(policy.Failure, 418)) }
	get(t, rt, "new.test")
	require.EqualValues(t, 1, failed(t, rt, "new.test"))
}
