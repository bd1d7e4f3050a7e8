package transport_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestObserversComeAndGo(t *testing.T) {
	var told []string
	observer := func(name string) transport.Observer {
		return transport.Observer{
			OnCall:        func(transport.CallStart) { told = append(told, name+" call") },
			OnOutcome:     func(transport.CallEnd) { told = append(told, name+" outcome") },
			OnStateChange: func(transport.StateChange) { told = append(told, name+" change") },
			OnRefusal:     func(transport.RefusalEvent) { told = append(told, name+" refusal") },
		}
	}
	expect := func(want ...string) {
		t.Helper()
		require.Equal(t, want, told)
		told = nil
	}
	rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Hour}),
		transport.WithObserver(observer("a")))
	stopB := rt.Observe(observer("b"))
	stopC := rt.Observe(observer("c"))
	call(t, rt)
	expect("a call", "b call", "c call", "a change", "b change", "c change", "a outcome", "b outcome", "c outcome")
	call(t, rt)
	expect("a refusal", "b refusal", "c refusal")
	stopB()
	stopB() // twice is once
	call(t, rt)
	expect("a refusal", "c refusal")
	stopC()
	rt.SetState(here, policy.Closed)
	expect("a change")
	defer rt.Observe(observer("b"))()
	rt.SetState(here, policy.Open)
	expect("a change", "b change")
}

func TestTwoOfTheSameObserverAreTwo(t *testing.T) {
	n := 0
	o := transport.Observer{OnStateChange: func(transport.StateChange) { n++ }}
	rt := transport.New(answer(200, ""))
	stop := rt.Observe(o)
	rt.Observe(o)
	rt.SetState(here, policy.Open)
	require.Equal(t, 2, n)
	stop()
	rt.SetState(here, policy.Closed)
	require.Equal(t, 3, n)
}

func TestAnObserverCanStopItselfAndAddOthers(t *testing.T) {
	var rt *transport.Transport
	var stop func()
	first, second := 0, 0
	rt = transport.New(answer(200, ""))
	stop = rt.Observe(transport.Observer{OnStateChange: func(transport.StateChange) {
		first++
		stop()
		rt.Observe(transport.Observer{OnStateChange: func(transport.StateChange) { second++ }})
	}})
	rt.SetState(here, policy.Open)
	rt.SetState(here, policy.Closed)
	require.Equal(t, 1, first)
	require.Equal(t, 1, second)
}

func TestOneThatStopsAnotherDoesNotUpsetTheEventUnderWay(t *testing.T) {
	var told []string
	var stop func()
	rt := transport.New(answer(200, ""))
	rt.Observe(transport.Observer{OnStateChange: func(transport.StateChange) { told = append(told, "a"); stop() }})
	stop = rt.Observe(transport.Observer{OnStateChange: func(transport.StateChange) { told = append(told, "b") }})
	rt.Observe(transport.Observer{OnStateChange: func(transport.StateChange) { told = append(told, "c") }})
	rt.SetState(here, policy.Open)
	require.Equal(t, []string{"a", "b", "c"}, told)
	rt.SetState(here, policy.Closed)
	require.Equal(t, []string{"a", "b", "c", "a", "c"}, told)
}

func TestObserversComeAndGoWhileCallsAreUnderWay(t *testing.T) {
	var n atomic.Int64
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if n.Add(1)%2 == 0 {
			return answer(500, "down")(req)
		}
		return answer(200, "well")(req)
	}), transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Nanosecond}))
	var steady, starts, ends atomic.Int64
	stopSteady := rt.Observe(transport.Observer{
		OnCall:    func(transport.CallStart) { starts.Add(1) },
		OnOutcome: func(transport.CallEnd) { ends.Add(1) },
		OnRefusal: func(transport.RefusalEvent) { steady.Add(1) },
	})
	const callers, calls = 4, 500
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range calls {
				call(t, rt)
			}
		})
	}
	for range 2 {
		all.Go(func() {
			for range calls {
				var told atomic.Int64
				stop := rt.Observe(transport.Observer{
					OnStateChange: func(transport.StateChange) { told.Add(1) },
					OnCall:        func(transport.CallStart) { told.Add(1) },
					OnOutcome:     func(transport.CallEnd) { told.Add(1) },
					OnRefusal:     func(transport.RefusalEvent) { told.Add(1) },
				})
				stop()
			}
		})
	}
	all.Wait()
	require.EqualValues(t, callers*calls, starts.Load()+steady.Load(), "who stays is told of everything")
	require.Equal(t, starts.Load(), ends.Load())
	stopSteady()
	call(t, rt)
	require.Equal(t, starts.Load(), ends.Load())
	require.EqualValues(t, callers*calls, starts.Load()+steady.Load())
}

// TestOnlyWhoIsObservedPays compares what a healthy call costs before, while and after somebody looks at every one.
func TestOnlyWhoIsObservedPays(t *testing.T) {
	good := &http.Response{StatusCode: 200, Body: http.NoBody}
	rt := transport.New(stub(func() (*http.Response, error) { return good, nil }), transport.WithPolicy(policy.Classic{Limits: policy.Limits{}}))
	req := newRequest(t, http.MethodGet, t.Context())
	var elapsed time.Duration
	cost := func() float64 { return testing.AllocsPerRun(1000, func() { rt.RoundTrip(req) }) }
	require.Zero(t, cost())
	for name, o := range map[string]transport.Observer{
		"changes": {OnStateChange: func(transport.StateChange) {}}, "refusals": {OnRefusal: func(transport.RefusalEvent) {}},
		"storage errors": {OnStorageError: func(transport.StorageError) {}}, "local trouble": {OnLocalTrouble: func(transport.LocalTrouble) {}},
	} {
		stop := rt.Observe(o)
		require.Zero(t, cost(), name)
		stop()
	}
	ends := 0
	stop := rt.Observe(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends++; elapsed += e.Elapsed }})
	cost()
	require.Equal(t, 1001, ends)
	require.Positive(t, elapsed, "a clock is read for whoever asks")
	stop()
	require.Zero(t, cost())
	require.Equal(t, 1001, ends)

	rt.SetPolicy(policy.Classic{Limits: policy.Limits{InFlight: 1}})
	require.NotZero(t, cost(), "a limit is paid for")
	rt.SetPolicy(policy.Classic{})
	require.Zero(t, cost(), "and no limit is not")
}

// elapsed is a TripRule that notes how long the calls took that it is told of; it does not ask for it.
type elapsed struct{ took *[]time.Duration }

func (e elapsed) NewTrip() policy.Trip { return e }
func (elapsed) Start(time.Time, int)   {}
func (elapsed) Quiet() bool            { return true }
func (elapsed) Counts() (int, int)     { return 0, 0 }
func (e elapsed) Record(_ time.Time, r policy.Result) (_ bool) {
	*e.took = append(*e.took, r.Elapsed)
	return
}

func TestTheClockIsReadOnlyIfSomebodyLooksAtCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 10 * time.Millisecond
		var took []time.Duration
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			time.Sleep(takes)
			return answer(500, "")(req)
		}), transport.WithPolicy(policy.Rules{Trip: elapsed{&took}, Probe: policy.OpenTime{}, Recover: policy.Trial{}}))
		for _, o := range []transport.Observer{
			{}, {OnStateChange: func(transport.StateChange) {}, OnRefusal: func(transport.RefusalEvent) {}},
			{OnCall: func(transport.CallStart) {}}, {OnOutcome: func(transport.CallEnd) {}}, {},
		} {
			stop := rt.Observe(o)
			call(t, rt)
			stop()
		}
		// The second call is the one of many that is timed whoever looks.
		require.Equal(t, []time.Duration{0, takes, 0, takes, 0}, took)
	})
}
