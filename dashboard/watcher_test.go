package dashboard

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// Refusals of thousands of circuits are told in few bytes, and what is more than a number at once all the same.
func TestWhatManyRefusalsCostAWatcher(t *testing.T) {
	circuits, seconds := 2000, 10
	if testkit.Brief() {
		circuits = 400
	}
	synctest.Test(t, func(t *testing.T) {
		breaker := transport.New(good{&http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}}, transport.WithoutLocalTrouble())
		d := Handler(breaker)
		defer d.Close()
		call := func(i int) {
			req, err := http.NewRequest(http.MethodGet, "http://"+keyOf(i).Host+"/", nil)
			require.NoError(t, err)
			req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			breaker.RoundTrip(req)
		}
		for i := range circuits {
			for n := range mostTransitions {
				breaker.SetState(keyOf(i), policy.State(n%2))
			}
			call(i)
		}
		require.True(t, d.join(&d.watchers, mostWatchers))
		in := watcher{d: d, r: httptest.NewRequest(http.MethodGet, "/events", nil), sent: make(map[uint32]sentRow)}
		look := func() (events string) {
			d.refresh()
			for more := true; more; {
				var event []byte
				event, more = in.next()
				events += string(event)
			}
			return events
		}
		second := func() {
			pass(time.Second)
			for i := range circuits {
				call(i)
			}
		}
		for range 50 { // so that probes are seldom
			second()
		}
		first, later := len(look()), 0
		for range seconds {
			second()
			later += len(look())
		}
		t.Logf("%d KB at first, then %d KB a second", first>>10, later/seconds>>10)
		require.Less(t, later/seconds, circuits*256)
		breaker.Force(breaker.Circuits()[0].Key.Pattern(), policy.Closed)
		pass(time.Second)
		require.Contains(t, look(), `"state":"closed","forced":true`, "a change of state is told at once")
	})
}

// What a watcher puts together from the parts that are sent is what the API tells.
func TestPartsOfACircuitMakeUpTheWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker := transport.New(good{&http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}})
		d := Handler(breaker)
		defer d.Close()
		req, err := http.NewRequest(http.MethodGet, "http://"+keyOf(0).Host+"/", nil)
		require.NoError(t, err)
		breaker.RoundTrip(req)
		ops := []func(){
			func() { breaker.RoundTrip(req) }, func() { breaker.Force("*", policy.Open) }, func() { breaker.Force("http://*", policy.Open) },
			func() { breaker.Release("*") }, func() { breaker.Release("http://*") }, func() { breaker.Reset("*") },
			func() { breaker.SetState(keyOf(0), policy.HalfOpen) }, func() { breaker.SetShadow(func(transport.Key) bool { return true }) },
			func() { breaker.SetShadow(nil) }, func() {},
		}
		random := rand.New(rand.NewPCG(1, 2))
		var r row
		var have map[string]any
		var version uint64
		for range 500 {
			pass(50 * time.Millisecond)
			if op := random.IntN(60); op < len(ops) {
				ops[op]()
			} else {
				breaker.RoundTrip(req)
			}
			if random.IntN(3) == 0 {
				continue // as for a watcher who is told less often
			}
			c, ok := breaker.Circuit(keyOf(0))
			require.True(t, ok)
			r.update(c, &d.store)
			if changed := r.changed(version); changed != nil {
				var parts map[string]any
				require.NoError(t, json.Unmarshal(changed, &parts))
				if _, all := parts["key"]; all {
					have = map[string]any{
						"refusals": have["refusals"], "probe_requests": have["probe_requests"], "shadow": have["shadow"], "throttle": have["throttle"],
						"asked": have["asked"], "samples": have["samples"], "transitions": have["transitions"],
					}
				}
				maps.Copy(have, parts)
				version = r.version
			}
			var fresh row
			var want map[string]any
			fresh.update(c, &d.store)
			require.NoError(t, json.Unmarshal(fresh.changed(0), &want))
			require.Equal(t, want, have)
		}
	})
}
