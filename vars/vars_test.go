package vars_test

import (
	"crypto/rand"
	"encoding/json"
	"expvar"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
	"github.com/fusebox-go/fusebox/vars"
)

// unused is a name for one run of a test: expvar keeps what is published.
func unused() string { return rand.Text() }

// served returns what a server of http.DefaultServeMux has at /debug/vars under a name.
func served(t *testing.T, name string) map[string]map[string]any {
	t.Helper()
	server := httptest.NewServer(http.DefaultServeMux)
	defer server.Close()
	resp, err := http.Get(server.URL + "/debug/vars")
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "application/json; charset=utf-8", resp.Header.Get("Content-Type"))
	var all map[string]json.RawMessage
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&all))
	require.Contains(t, all, name)
	require.Contains(t, all, "memstats", "beside those of others")
	var circuits map[string]map[string]any
	require.NoError(t, json.Unmarshal(all[name], &circuits), "%s", all[name])
	return circuits
}

func TestCircuitsAreServedAsJSON(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer upstream.Close()
	breaker := transport.New(nil, transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute}))
	defer breaker.CloseIdleConnections()
	name := unused()
	vars.Publish(name, breaker)
	require.Empty(t, served(t, name))

	client := &http.Client{Transport: breaker}
	for range 5 {
		resp, err := client.Get(upstream.URL)
		require.NoError(t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	breaker.SetState(transport.Key{Scheme: "https", Host: "well.test", Detail: "GET /users/{id}"}, policy.Closed)

	circuits := served(t, name)
	require.Len(t, circuits, 2)
	sick := circuits[upstream.URL]
	for _, field := range []string{"since", "trouble", "asked", "next_probe", "failed_at"} {
		at, err := time.Parse(time.RFC3339Nano, sick[field].(string))
		require.NoError(t, err, field)
		require.WithinDuration(t, time.Now(), at, 2*time.Minute, field)
		delete(sick, field)
	}
	samples := sick["samples"].([]any)
	require.Len(t, samples, 1)
	sample := samples[0].(map[string]any)
	require.Equal(t, "status 502", sample["cause"])
	require.Equal(t, 3.0, sample["count"])
	delete(sick, "samples")
	require.Equal(t, map[string]any{
		"key": upstream.URL, "state": "open", "generation": 1.0, "failures": 0.0, "successes": 0.0, "evidence": 0.0, "trip": 0.0,
		"in_flight": 0.0, "limit": 1.0, "failed_calls": 3.0, "ignored_calls": 0.0, "late_calls": 0.0, "refusals": 2.0,
		"probes": 0.0, "trips": 1.0, "cause": "status 502", "known": true, "policy": "policy.Classic",
	}, sick)

	well := circuits["https://well.test GET /users/{id}"]
	require.Equal(t, "closed", well["state"])
	for _, field := range []string{"trouble", "asked", "next_probe", "failed_at", "cause", "samples", "shadow", "forced"} {
		require.NotContains(t, well, field, "what is not known is left out")
	}
}

func TestWhatIsServedIsOfNow(t *testing.T) {
	breaker := transport.New(nil)
	name := unused()
	vars.Publish(name, breaker)
	key := transport.Key{Scheme: "https", Host: "example.com"}
	for _, state := range []policy.State{policy.Open, policy.HalfOpen, policy.Closed} {
		breaker.SetState(key, state)
		require.Equal(t, state.String(), served(t, name)[key.String()]["state"])
	}
	breaker.Force("*", policy.Open)
	require.Equal(t, true, served(t, name)[key.String()]["forced"])
	breaker.SetShadow(func(transport.Key) bool { return true })
	require.Equal(t, map[string]any{"on": true, "refused": 0.0, "succeeded": 0.0, "failed": 0.0}, served(t, name)[key.String()]["shadow"])
}

func TestHostileKeysAreServedAsValidJSON(t *testing.T) {
	breaker := transport.New(nil)
	name := unused()
	vars.Publish(name, breaker)
	for _, detail := range []string{"\"}", "\n", "\xff", "<script>", "\u2028"} {
		breaker.SetState(transport.Key{Scheme: "https", Host: "example.com", Detail: detail}, policy.Open)
	}
	require.Len(t, served(t, name), 5)
}

func TestANameThatIsTakenPanics(t *testing.T) {
	name := unused()
	vars.Publish(name, transport.New(nil))
	require.Panics(t, func() { vars.Publish(name, transport.New(nil)) })
}

func TestANilTransportPanicsAndTakesNoName(t *testing.T) {
	require.PanicsWithValue(t, "fusebox/vars: Publish got a nil Transport; write the one that transport.New returned",
		func() { vars.Publish("nil", nil) })
	require.Nil(t, expvar.Get("nil"))
}
