package transport_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// held is a base whose calls wait until they are told what to answer.
type held chan int

func (h held) RoundTrip(req *http.Request) (*http.Response, error) { return answer(<-h, "hello")(req) }

// start makes a call in the background and returns once it waits.
func (h held) start(t *testing.T, rt *transport.Transport) (refused <-chan bool) {
	done := make(chan bool, 1)
	go func() {
		resp, err := call(t, rt)
		done <- err == nil && transport.Refused(resp)
	}()
	synctest.Wait()
	return done
}

func TestAClosedCircuitWeighsCallsAfreshByTheNewPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := make(held)
		rt := transport.New(upstream, transport.WithPolicy(policy.Classic{Failures: 10}))
		fail := func() {
			done := upstream.start(t, rt)
			upstream <- 500
			require.False(t, <-done)
		}
		for range 9 {
			fail()
		}
		out := upstream.start(t, rt) // in flight at the swap
		rt.SetPolicy(policy.Classic{Failures: 3})
		c := circuit(t, rt, here)
		require.Equal(t, policy.Closed, c.State)
		require.Zero(t, c.Failures)
		require.Equal(t, 3, c.Trip)
		upstream <- 500
		<-out
		require.Equal(t, 1, circuit(t, rt, here).Failures, "a call from before counts")
		fail()
		require.Equal(t, policy.Closed, circuit(t, rt, here).State)
		fail()
		require.Equal(t, policy.Open, circuit(t, rt, here).State)
		require.EqualValues(t, 12, circuit(t, rt, here).FailedCalls)
	})
}

func TestFromAnHourOfClassicToAdaptive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(200, "hello"), transport.WithPolicy(policy.Classic{OpenFor: time.Hour}))
		rt.SetState(here, policy.Open)
		time.Sleep(time.Minute)
		require.Equal(t, policy.RefusedOpen, because(t, rt))
		rt.SetPolicy(policy.Adaptive{})
		require.Equal(t, policy.RefusedOpen, because(t, rt))
		began := time.Now()
		for because(t, rt) != policy.NotRefused {
			time.Sleep(100 * time.Millisecond)
		}
		require.LessOrEqual(t, time.Since(began), 5*time.Second)
		for range 50 {
			call(t, rt)
		}
		require.Equal(t, policy.Closed, circuit(t, rt, here).State)
	})
}

func TestAnOpenCircuitIsDueSoonerIfTheNewPolicyDoesNotWaitAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(200, "hello"), transport.WithPolicy(policy.Classic{OpenFor: time.Hour}))
		rt.SetState(here, policy.Open)
		rt.SetPolicy(policy.Classic{OpenFor: time.Second})
		time.Sleep(time.Second)
		require.Equal(t, policy.NotRefused, because(t, rt))
	})
}

func TestAnOpenCircuitIsDueWhenItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(200, "hello"), transport.WithPolicy(policy.Classic{OpenFor: 10 * time.Second}))
		rt.SetState(here, policy.Open)
		due := circuit(t, rt, here).NextProbe
		rt.SetPolicy(policy.Classic{OpenFor: time.Hour})
		require.Equal(t, due, circuit(t, rt, here).NextProbe)
		time.Sleep(10*time.Second - 1)
		require.Equal(t, policy.RefusedOpen, because(t, rt))
		time.Sleep(time.Nanosecond)
		require.Equal(t, policy.NotRefused, because(t, rt))
	})
}

func TestAProbeThatIsOutAtTheSwapStillDecides(t *testing.T) {
	for _, status := range []int{200, 500} {
		synctest.Test(t, func(t *testing.T) {
			upstream := make(held)
			rt := transport.New(upstream)
			rt.SetState(here, policy.Open)
			time.Sleep(200 * time.Millisecond)
			probe := upstream.start(t, rt)
			require.Equal(t, 1, circuit(t, rt, here).InFlight)
			rt.SetPolicy(policy.Classic{OpenFor: time.Minute, Probes: 3})
			require.Equal(t, 1, circuit(t, rt, here).InFlight)
			require.Equal(t, policy.RefusedOpen, because(t, rt), "one probe at a time")
			upstream <- status
			require.False(t, <-probe)
			c := circuit(t, rt, here)
			require.Zero(t, c.InFlight)
			if status == 500 {
				require.Equal(t, policy.Open, c.State)
				require.Equal(t, time.Minute, time.Until(c.NextProbe), "by the new rule")
				return
			}
			require.Equal(t, policy.HalfOpen, c.State)
			require.Equal(t, 2, c.Limit, "the recovery is the new rule's, and this was its first success")
			for range 2 {
				done := upstream.start(t, rt)
				upstream <- 200
				<-done
			}
			require.Equal(t, policy.Closed, circuit(t, rt, here).State)
		})
	}
}

func TestARecoveryUnderWayGoesOnByItsRule(t *testing.T) {
	for _, status := range []int{200, 500} {
		synctest.Test(t, func(t *testing.T) {
			upstream := make(held)
			rt := transport.New(upstream, transport.WithPolicy(policy.Classic{OpenFor: time.Minute, Probes: 3}))
			rt.SetState(here, policy.HalfOpen)
			first := upstream.start(t, rt)
			rt.SetPolicy(policy.Adaptive{})
			c := circuit(t, rt, here)
			require.Equal(t, policy.HalfOpen, c.State)
			require.Equal(t, 1, c.InFlight)
			require.Equal(t, 3, c.Limit)
			second, third := upstream.start(t, rt), upstream.start(t, rt)
			require.Equal(t, policy.RefusedRamp, because(t, rt), "three places, and all are taken")
			for range 3 {
				upstream <- status
			}
			<-first
			<-second
			<-third
			c = circuit(t, rt, here)
			require.Zero(t, c.InFlight)
			if status == 200 {
				require.Equal(t, policy.Closed, c.State)
				return
			}
			require.Equal(t, policy.Open, c.State)
			require.LessOrEqual(t, time.Until(c.NextProbe), 100*time.Millisecond, "what comes next is by the new policy")
			time.Sleep(200 * time.Millisecond)
			for range 5 {
				require.Equal(t, policy.RefusedOpen, because(t, rt), "the second probe is the sixth request")
			}
			probe := upstream.start(t, rt)
			require.Equal(t, policy.Open, circuit(t, rt, here).State, "open until a probe has succeeded")
			upstream <- 200
			<-probe
			require.Equal(t, policy.HalfOpen, circuit(t, rt, here).State)
			require.Equal(t, 2, circuit(t, rt, here).Limit, "a ramp")
		})
	}
}

func TestLimitsThatAreSetAtRunTimeHoldFromThenOn(t *testing.T) {
	rt := transport.New(answer(200, "hello"))
	var bodies []io.Closer
	open := func() *http.Response {
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.NoError(t, err)
		bodies = append(bodies, resp.Body)
		return resp
	}
	open()
	rt.SetPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 2}})
	open()
	open()
	require.Equal(t, policy.RefusedLimit, because(t, rt))
	rt.SetPolicy(policy.Adaptive{})
	require.Equal(t, policy.NotRefused, because(t, rt))
	for _, body := range bodies {
		body.Close()
	}
	rt.SetPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 2}})
	requireFree(t, rt, 2)
}

func TestSetPolicyByKey(t *testing.T) {
	rt := transport.New(answer(500, ""), transport.WithSettingsFor(failures(1)))
	get := func(host string) bool {
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
		require.NoError(t, err)
		return transport.Refused(resp)
	}
	get("a.test")
	require.True(t, get("a.test"))
	rt.SetPolicy(policy.Classic{Failures: 3})
	rt.SetSettingsFor(func(k transport.Key) transport.Settings {
		if k.Host == "b.test" {
			return transport.Settings{Policy: policy.Classic{Failures: 2}}
		}
		return transport.Settings{}
	})
	rt.Reset("*")
	for host, failures := range map[string]int{"a.test": 3, "b.test": 2, "c.test": 3} {
		for range failures {
			require.False(t, get(host), host)
		}
		require.True(t, get(host), host)
	}
	rt.SetPolicy(policy.Classic{Failures: 4})
	rt.Reset("*")
	for range 2 {
		require.False(t, get("b.test"))
	}
	require.True(t, get("b.test"), "it keeps its own")
	rt.SetSettingsFor(nil)
	rt.Reset("*")
	for range 4 {
		require.False(t, get("b.test"), "no policy of its own any more")
	}
	require.True(t, get("b.test"))
}

func TestSetPolicyPanicsOverNonsenseAndChangesNothing(t *testing.T) {
	rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{Failures: 3}))
	call(t, rt)
	rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://other.test/", nil))
	before := rt.Circuits()
	for want, bad := range map[string]func(){
		"nil rule":                     func() { rt.SetPolicy(policy.Rules{}) },
		"Consecutive.Failures is -1":   func() { rt.SetPolicy(policy.Classic{Failures: -1}) },
		"OpenTime.For is -1":           func() { rt.SetPolicy(policy.Classic{OpenFor: -1}) },
		"Trial.Probes is -1":           func() { rt.SetPolicy(policy.Classic{Probes: -1}) },
		"Limits.InFlight is -1":        func() { rt.SetPolicy(policy.Classic{Limits: policy.Limits{InFlight: -1}}) },
		"Hold.InFlight is -1":          func() { rt.SetPolicy(policy.Adaptive{Hold: policy.Hold{InFlight: -1}}) },
		"Evidence.Threshold is -1":     func() { rt.SetPolicy(policy.Adaptive{Trip: policy.Evidence{Threshold: -1}}) },
		"Ramp.Health is -1":            func() { rt.SetPolicy(policy.Adaptive{Recover: policy.Ramp{Health: -1}}) },
		"Limits.TimeoutBody is set":    func() { rt.SetPolicy(policy.Adaptive{Limits: policy.Limits{TimeoutBody: true}}) },
		"Consecutive.Failures is -100": func() { rt.SetSettingsFor(badForOther) },
	} {
		func() {
			defer func() { require.Contains(t, fmt.Sprint(recover()), want) }()
			bad()
		}()
		require.Equal(t, before, rt.Circuits(), want)
	}
	rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://new.test/", nil))
	require.Equal(t, 3, circuit(t, rt, transport.Key{Scheme: "http", Host: "new.test"}).Trip)
	for range 2 {
		require.Equal(t, policy.NotRefused, because(t, rt))
	}
	require.Equal(t, policy.RefusedOpen, because(t, rt), "three failures as before, and what had failed counts")
	require.NotPanics(t, func() { rt.SetPolicy(policy.Classic{Failures: 3}) }, "nothing of what made no sense is left")
}

// failures has all keys trip by so many failures.
func failures(n int) func(transport.Key) transport.Settings {
	return func(transport.Key) transport.Settings {
		return transport.Settings{Policy: policy.Classic{Failures: n}}
	}
}

func badForOther(k transport.Key) transport.Settings {
	if k.Host == "other.test" {
		return transport.Settings{Policy: policy.Classic{Failures: -100}}
	}
	return transport.Settings{}
}

func TestOfTwoPoliciesThatMeetOneHoldsForAll(t *testing.T) {
	for range 50 { // circuits made before, meanwhile and later
		rt := transport.New(answer(500, ""))
		get := func(i int) {
			rt.RoundTrip(httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", i), nil))
		}
		for i := range 50 {
			get(i)
		}
		var both sync.WaitGroup
		both.Go(func() { rt.SetPolicy(policy.Classic{Failures: 100}) })
		both.Go(func() { rt.SetPolicy(policy.Classic{Failures: 200}) })
		both.Go(func() {
			for i := range 50 {
				get(50 + i)
			}
		})
		both.Wait()
		get(1000)
		all := rt.Circuits()
		require.Len(t, all, 101)
		for _, c := range all {
			require.Equal(t, all[1].Trip, c.Trip, "%v", c.Key)
		}
	}
}

func TestASlowSetPolicyDoesNotUndoALaterOne(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	rt := transport.New(answer(500, ""))
	call(t, rt)
	var asked atomic.Int32
	var slow sync.WaitGroup
	slow.Go(func() {
		rt.SetSettingsFor(func(transport.Key) transport.Settings {
			if asked.Add(1) == 2 { // the first time is to see whether the policies make sense
				close(entered)
				<-leave
			}
			return transport.Settings{Policy: policy.Classic{Failures: 100}}
		})
	})
	<-entered
	later := make(chan struct{})
	go func() { defer close(later); rt.SetSettingsFor(failures(200)) }()
	for range 1000 { // it may wait for the slow one, or go first
		runtime.Gosched()
	}
	close(leave)
	slow.Wait()
	<-later
	rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://other.test/", nil))
	all := rt.Circuits()
	require.Len(t, all, 2)
	require.Equal(t, all[0].Trip, all[1].Trip, "a circuit made later goes by the same policy as the others")
}

func TestCircuitsThatAreMadeDuringTheSwapGetTheNewPolicy(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	rt := transport.New(answer(500, ""), transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		once.Do(func() { close(entered); <-leave })
		return transport.Settings{Policy: policy.Classic{Failures: 100}}
	}))
	var made sync.WaitGroup
	made.Go(func() { rt.RoundTrip(newRequest(t, http.MethodGet, context.Background())) })
	<-entered // the circuit is being made by the old policy
	rt.SetSettingsFor(failures(200))
	close(leave)
	made.Wait()
	require.Equal(t, 200, circuit(t, rt, here).Trip)
}

func TestSetPolicyMeetsRequests(t *testing.T) {
	var n atomic.Int64
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if n.Add(1)%3 != 0 {
			return answer(500, "down")(req)
		}
		return answer(200, "well")(req)
	}), transport.WithMaxCircuits(8))
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 1000 {
				resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", (i+j)%12), nil))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	policies := []policy.Policy{
		policy.Adaptive{}, policy.Classic{Failures: 2, OpenFor: time.Nanosecond, Probes: 3},
		policy.Adaptive{Limits: policy.Limits{InFlight: 1, Timeout: time.Hour}},
		policy.Rules{Trip: policy.FailureShare{}, Probe: policy.Squares{Wait: time.Nanosecond}, Recover: policy.Ramp{}},
	}
	for i := range 500 {
		rt.SetPolicy(policies[i%len(policies)])
	}
	all.Wait()
	for _, c := range rt.Circuits() {
		if c.State != policy.Closed {
			require.Zero(t, c.InFlight, "%v", c.Key)
		}
	}
	rt.SetPolicy(policy.Classic{Failures: 1000, Limits: policy.Limits{InFlight: 2}})
	rt.Reset("*")
	requireFree(t, rt, 2)
}

func TestNilMeansTheDefaultWhateverIsSetWhileCallsAreUnderWay(t *testing.T) {
	rt := transport.New(answer(500, ""), transport.WithShadow(), transport.WithPolicy(policy.Classic{Failures: 1}),
		transport.WithSettingsFor(failures(1)),
		transport.WithClassifier(policy.OnStatus(policy.Ignored, 500)))
	rt.SetPolicy(nil)
	rt.SetSettingsFor(nil)
	rt.SetClassifier()
	rt.SetShadow(nil)
	for range 5 { // the sixth failure opens a circuit of policy.Adaptive
		call(t, rt)
	}
	require.Equal(t, policy.Closed, circuit(t, rt, here).State)
	require.EqualValues(t, 5, circuit(t, rt, here).FailedCalls)
	call(t, rt)
	require.Equal(t, policy.Open, circuit(t, rt, here).State)
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	require.True(t, transport.Refused(resp))
}
