package transport_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// played is what a script made of a transport.
type played struct {
	changes  []transport.StateChange
	refusals []transport.RefusalEvent
	statuses map[int]uint64
	refused  uint64
	end      transport.Snapshot
}

// play makes a call every 20 ms of an upstream that is down, flaky and well in turn, as the clock says and whoever calls.
func play(t *testing.T, p policy.Policy, opts ...transport.Option) (got played) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		got.statuses = map[int]uint64{}
		seeded := rand.New(rand.NewPCG(1, 2))
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			since := time.Since(began)
			down := since > 2*time.Second && since < 20*time.Second ||
				since > 30*time.Second && since < 45*time.Second && since/(20*time.Millisecond)%10 != 0 ||
				since > 50*time.Second && since < 51*time.Second
			if down {
				return answer(500, "down")(req)
			}
			return answer(200, "well")(req)
		}), append(opts, transport.WithPolicy(p), withRandom(seeded.Float64), transport.WithObserver(transport.Observer{
			OnStateChange: func(c transport.StateChange) { got.changes = append(got.changes, c) },
			OnRefusal:     func(r transport.RefusalEvent) { got.refusals = append(got.refusals, r) },
		}))...)
		for range 4000 {
			resp, err := call(t, rt)
			require.NoError(t, err)
			if transport.Refused(resp) {
				got.refused++
			} else {
				got.statuses[resp.StatusCode]++
			}
			time.Sleep(20 * time.Millisecond)
		}
		got.end = circuit(t, rt, here)
	})
	return got
}

func TestShadowDecidesAsTheRealOneAndRefusesNothing(t *testing.T) {
	for name, p := range map[string]policy.Policy{
		"adaptive": policy.Adaptive{},
		"classic":  policy.Classic{OpenFor: 3 * time.Second, Probes: 3},
		"share": policy.Rules{
			Trip: policy.FailureShare{Window: 5 * time.Second}, Probe: policy.OpenTime{For: time.Second, Factor: 2, JitterPercent: 50},
			Recover: policy.Ramp{},
		},
	} {
		real, shadow := play(t, p), play(t, p, transport.WithShadow())
		require.Greater(t, len(real.changes), 6, name)
		require.Len(t, shadow.changes, len(real.changes), name)
		for i := range shadow.changes {
			require.False(t, real.changes[i].Shadow)
			require.True(t, shadow.changes[i].Shadow)
			shadow.changes[i].Shadow = false
			require.Equal(t, real.changes[i], shadow.changes[i], name)
		}
		require.Equal(t, len(real.refusals), len(shadow.refusals))
		for i := range shadow.refusals {
			require.True(t, shadow.refusals[i].Shadow)
			require.True(t, shadow.refusals[i].Error.Shadow)
			shadow.refusals[i].Shadow, shadow.refusals[i].Error.Shadow = false, false
			require.Equal(t, real.refusals[i], shadow.refusals[i], name)
		}

		require.Nil(t, real.end.Shadow)
		require.Zero(t, shadow.refused, "nothing is refused")
		require.EqualValues(t, 4000, shadow.statuses[200]+shadow.statuses[500])
		require.Equal(t, &transport.Shadow{
			On: true, Refused: real.refused,
			Succeeded: shadow.statuses[200] - real.statuses[200], Failed: shadow.statuses[500] - real.statuses[500],
		}, shadow.end.Shadow, name)
		require.Equal(t, real.refused, shadow.end.Shadow.Succeeded+shadow.end.Shadow.Failed)
		shadow.end.Shadow = nil
		require.Equal(t, real.end, shadow.end, name)
	}
}

func TestShadowIsPutOnAndTakenOffByKeyAtRunTime(t *testing.T) {
	a, b := transport.Key{Scheme: "http", Host: "a.test"}, transport.Key{Scheme: "http", Host: "b.test"}
	rt := transport.New(answer(200, "hello"))
	refused := func(k transport.Key) bool {
		req, err := http.NewRequest(http.MethodGet, k.String(), nil)
		require.NoError(t, err)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		io.Copy(io.Discard, resp.Body)
		return transport.Refused(resp)
	}
	policyOfAnHour := policy.Classic{OpenFor: time.Hour}
	rt.SetPolicy(policyOfAnHour)
	rt.SetState(a, policy.Open)
	require.True(t, refused(a))
	rt.SetShadow(func(k transport.Key) bool { return k.Host != "c.test" })
	rt.SetState(b, policy.Open) // a circuit that is made later
	require.False(t, refused(a))
	require.False(t, refused(b))
	rt.SetState(transport.Key{Scheme: "http", Host: "c.test"}, policy.Open)
	require.True(t, refused(transport.Key{Scheme: "http", Host: "c.test"}))
	rt.SetShadow(func(k transport.Key) bool { return k == b })
	require.True(t, refused(a))
	require.False(t, refused(b))
	require.Equal(t, &transport.Shadow{Refused: 1, Succeeded: 1}, circuit(t, rt, a).Shadow, "what was counted stays")
	require.Equal(t, &transport.Shadow{On: true, Refused: 2, Succeeded: 2}, circuit(t, rt, b).Shadow)
	rt.SetShadow(nil)
	require.True(t, refused(b))
	rt.Reset("*")
	require.Nil(t, circuit(t, rt, b).Shadow)
}

func TestForcedOpenRefusesInShadowToo(t *testing.T) {
	var told []transport.RefusalEvent
	rt := transport.New(answer(200, "hello"), transport.WithShadow(), transport.WithObserver(transport.Observer{
		OnRefusal: func(r transport.RefusalEvent) { told = append(told, r) },
	}))
	rt.Force("*", policy.Open)
	require.Equal(t, policy.RefusedForced, because(t, rt))
	require.Len(t, told, 1)
	require.False(t, told[0].Shadow)
	require.Equal(t, &transport.Shadow{On: true}, circuit(t, rt, here).Shadow)
}

func TestTheLimitOfCallsInFlightRefusesNothingInShadow(t *testing.T) {
	upstream := &gauged{status: 500}
	rt := transport.New(upstream, limited(policy.Limits{InFlight: 1}), transport.WithShadow())
	var bodies []io.ReadCloser
	for range 3 {
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.NoError(t, err)
		require.False(t, transport.Refused(resp))
		bodies = append(bodies, resp.Body)
	}
	require.EqualValues(t, 3, upstream.now.Load())
	for _, body := range bodies {
		body.Close()
	}
	c := circuit(t, rt, here)
	require.Equal(t, &transport.Shadow{On: true, Refused: 2, Failed: 2}, c.Shadow)
	require.EqualValues(t, 1, c.FailedCalls, "what had been refused changes nothing")
	rt.SetShadow(nil)
	requireFree(t, rt, 1)
}

func TestTheCallThatTripsIsNotRefusedInShadow(t *testing.T) {
	rt := transport.New(answer(500, "hello"),
		transport.WithPolicy(policy.Classic{Failures: 1}), transport.WithShadow(), transport.WithRefusalOnTrip())
	require.Equal(t, policy.NotRefused, because(t, rt))
	require.Equal(t, policy.Open, circuit(t, rt, here).State)
}

func TestTheTimeoutHoldsForACallMadeInShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(slow(time.Hour, 0), limited(policy.Limits{Timeout: time.Second}), transport.WithShadow())
		rt.SetState(here, policy.Open)
		_, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.ErrorAs(t, err, new(*policy.TimeoutError), "as for every other call of the circuit")
		require.Equal(t, &transport.Shadow{On: true, Refused: 1, Failed: 1}, circuit(t, rt, here).Shadow)
	})
}

func TestACallMadeInShadowIsToldOfAtItsStartAndItsEnd(t *testing.T) {
	for name, upstream := range map[string]base{
		"success": answer(200, "hello"),
		"panic":   func(*http.Request) (*http.Response, error) { panic("base") },
	} {
		starts, ends := 0, 0
		rt := transport.New(upstream, transport.WithShadow(), transport.WithObserver(transport.Observer{
			OnCall:    func(transport.CallStart) { starts++ },
			OnOutcome: func(transport.CallEnd) { ends++ },
		}))
		rt.SetState(here, policy.Open)
		func() {
			defer func() { recover() }()
			call(t, rt)
		}()
		require.Equal(t, 1, starts, name)
		require.Equal(t, 1, ends, name)
	}
}

func TestShadowThatIsTakenOffWhileACircuitIsMadeIsOff(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	rt := transport.New(answer(200, "hello"))
	rt.SetShadow(func(transport.Key) bool {
		close(entered)
		<-leave
		return true
	})
	var made sync.WaitGroup
	made.Go(func() { rt.RoundTrip(newRequest(t, http.MethodGet, context.Background())) })
	<-entered
	rt.SetShadow(nil)
	close(leave)
	made.Wait()
	rt.SetState(here, policy.Open)
	require.Equal(t, policy.RefusedOpen, because(t, rt))
}

func TestShadowIsPutOnAndTakenOffWhileCallsAreUnderWay(t *testing.T) {
	rt := transport.New(answer(500, "hello"), transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Nanosecond}))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				call(t, rt)
			}
		})
	}
	all.Go(func() {
		for i := range 500 {
			rt.SetShadow(func(transport.Key) bool { return i%2 == 0 })
		}
	})
	all.Wait()
	rt.SetShadow(nil)
	rt.SetPolicy(policy.Classic{OpenFor: time.Hour})
	rt.Reset("*")
	rt.SetState(here, policy.Open)
	require.Equal(t, policy.RefusedOpen, because(t, rt))
}
