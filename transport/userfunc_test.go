package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What users bring along can panic, be slow, or ask for more than there is. The circuits go on.

// dies panics the first time.
type dies struct{ times atomic.Int64 }

func (d *dies) once() {
	if d.times.Add(1) == 1 {
		panic(errDeath)
	}
}

type dyingProbe struct {
	policy.OpenTime
	asked *dies
}

func (d dyingProbe) NewProbe() policy.Probe { return &dyingAsk{d.OpenTime.NewProbe(), d.asked} }

type dyingAsk struct {
	policy.Probe
	asked *dies
}

func (d *dyingAsk) Ask(now time.Time) bool {
	d.asked.once()
	return d.Probe.Ask(now)
}

func TestACircuitGoesOnAfterARulePanicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Rules{
			Trip: policy.Consecutive{Failures: 1}, Probe: dyingProbe{policy.OpenTime{For: time.Second}, new(dies)}, Recover: policy.Trial{},
		}))
		because(t, rt)
		require.PanicsWithValue(t, errDeath, func() { because(t, rt) })
		require.Equal(t, policy.RefusedOpen, because(t, rt))
		require.Len(t, rt.Circuits(), 1)
	})
}

func TestACircuitGoesOnAfterTheSourceOfJitterPanicked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var armed atomic.Bool
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPut {
				<-req.Context().Done()
			}
			return answer(500, "")(req)
		}), transport.WithPolicy(policy.Adaptive{Trip: policy.Evidence{Threshold: 1}}), withRandom(func() float64 {
			if armed.Swap(false) {
				panic(errDeath)
			}
			return 0.5
		}))
		because(t, rt)
		time.Sleep(time.Second)
		go rt.RoundTrip(newRequest(t, http.MethodPut, t.Context())) // a probe whose lease ends
		time.Sleep(5 * time.Second)
		armed.Store(true)
		require.PanicsWithValue(t, errDeath, func() { because(t, rt) })
		require.Equal(t, policy.NotRefused, because(t, rt), "a probe is due")
		require.Equal(t, policy.RefusedOpen, because(t, rt))
	})
}

func TestAPermitIsGivenBackThoughTheTraceCannotBeFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(500, "x"), transport.WithPolicy(policy.Classic{}), transport.WithTraceID(func(*http.Request) string { panic(errDeath) }))
		require.True(t, rt.SetState(here, policy.HalfOpen))
		require.PanicsWithValue(t, errDeath, func() { because(t, rt) })
		require.Zero(t, circuit(t, rt, here).InFlight)
	})
}

func TestPoliciesCanBeSetAfterOneCouldNotBeMade(t *testing.T) {
	var rt *transport.Transport
	var armed atomic.Bool
	rt = transport.New(answer(204, ""), transport.WithSettingsFor(func(k transport.Key) transport.Settings {
		if armed.Swap(false) {
			rt.SetSettingsFor(func(transport.Key) transport.Settings { panic(errDeath) }) // while a circuit is made
		}
		return transport.Settings{}
	}))
	armed.Store(true)
	require.PanicsWithValue(t, errDeath, func() { because(t, rt) })
	before := circuit(t, rt, here)
	require.PanicsWithValue(t, errDeath, func() { rt.SetPolicy(policy.Classic{Failures: 7}) })
	require.Equal(t, before, circuit(t, rt, here), "nothing is changed")
	rt.SetSettingsFor(nil)
	rt.SetPolicy(policy.Classic{Failures: 7})
	require.Equal(t, 7, circuit(t, rt, here).Trip)
}

func TestPoliciesCanBeSetAfterTheSourceOfJitterPanicked(t *testing.T) {
	var armed atomic.Bool
	rt := transport.New(answer(204, ""), withRandom(func() float64 {
		if armed.Swap(false) {
			panic(errDeath)
		}
		return 0.5
	}))
	require.True(t, rt.SetState(here, policy.Open))
	armed.Store(true)
	require.PanicsWithValue(t, errDeath, func() { rt.SetPolicy(policy.Classic{}) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		rt.SetPolicy(policy.Classic{Failures: 7})
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for good")
	}
	require.Equal(t, policy.Open, circuit(t, rt, here).State)
}

// What is asked about a key may be slow, and may set what it is asked about.
func TestFunctionsOfTheUserAreAskedOutsideLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(204, ""))
		require.True(t, rt.SetState(here, policy.Closed))
		asked := 0
		ask := func() {
			if asked++; asked == 1 {
				rt.SetSettingsFor(failures(3))
				rt.SetShadow(func(transport.Key) bool { return true })
				rt.Force("*", policy.Closed)
				rt.Release("*")
				rt.SetState(hostKey("new.test"), policy.Closed)
			}
		}
		rt.SetSettingsFor(func(k transport.Key) transport.Settings { ask(); return failures(7)(k) })
		require.Equal(t, 7, circuit(t, rt, here).Trip, "the outer one is set last")
		require.Equal(t, 7, circuit(t, rt, hostKey("new.test")).Trip)
		asked = 0
		rt.SetShadow(func(transport.Key) bool { ask(); return false })
		require.True(t, circuit(t, rt, here).Shadow.On, "the inner one was set last")
		require.Equal(t, 3, circuit(t, rt, here).Trip)
	})
}

func TestObserversAreNotToldWhilePoliciesAreSet(t *testing.T) {
	var rt *transport.Transport
	var armed atomic.Bool
	refusals := 0
	rt = transport.New(answer(204, ""), transport.WithObserver(transport.Observer{
		OnStateChange: func(transport.StateChange) {
			if armed.Swap(false) {
				because(t, rt) // leaves an event behind
				panic(errDeath)
			}
		},
		OnRefusal: func(transport.RefusalEvent) {
			refusals++
			rt.SetShadow(nil)
			rt.SetPolicy(policy.Classic{})
		},
	}))
	because(t, rt)
	armed.Store(true)
	require.PanicsWithValue(t, errDeath, func() { rt.SetState(here, policy.Open) })
	rt.SetPolicy(policy.Classic{Failures: 3})
	require.Len(t, rt.Circuits(), 1)
	require.Zero(t, refusals, "a look tells nobody anything")
	rt.SetState(here, policy.Closed)
	require.Equal(t, 1, refusals)
}

func TestAClassifiersOutcomeThatDoesNotExistIsUndecided(t *testing.T) {
	rt := transport.New(answer(200, ""), transport.WithPolicy(policy.Classic{Failures: 1}), transport.WithClassifier(func(*policy.Call) policy.Outcome { return 9 }))
	because(t, rt)
	require.Equal(t, policy.Closed, circuit(t, rt, here).State)
}

func TestANestedRefusalSaysNothingWhateverItsStatus(t *testing.T) {
	for _, status := range []int{200, 429, 503} {
		inner := transport.New(answer(204, ""), transport.WithRefusal(transport.Response(status, nil, "cached")))
		inner.Force("*", policy.Open)
		outer := transport.New(inner, transport.WithPolicy(policy.Classic{Probes: 2}))
		require.True(t, outer.SetState(here, policy.HalfOpen))
		call(t, outer)
		c := circuit(t, outer, here)
		require.Equal(t, policy.HalfOpen, c.State, "status %d", status)
		require.Zero(t, c.Successes)
		require.EqualValues(t, 1, c.IgnoredCalls)
	}
}

func TestManyFirstRequestsToAForcedHostAreOneEvent(t *testing.T) {
	var mu sync.Mutex
	told := map[transport.Key]int{}
	storage := new(countingStorage)
	rt := transport.New(answer(204, ""), transport.WithStorage(storage), transport.WithObserver(transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			mu.Lock()
			defer mu.Unlock()
			told[c.Key]++
		},
	}))
	rt.Force("*", policy.Open)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for host := range 200 {
				req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://host%d.test", host), nil)
				resp, err := rt.RoundTrip(req)
				if err != nil || !transport.Refused(resp) {
					t.Error("not refused", err)
				}
			}
		})
	}
	all.Wait()
	require.Len(t, told, 200)
	for key, times := range told {
		require.Equal(t, 1, times, "%v", key)
	}
	require.EqualValues(t, 200, storage.saves.Load())
}

func TestWhereThereIsNoRoomObserversHearOfRefusalsAndOfNoState(t *testing.T) {
	refusals := 0
	var changes []transport.Key
	rt := transport.New(answer(204, ""), transport.WithMaxCircuits(1), transport.WithObserver(transport.Observer{
		OnStateChange: func(c transport.StateChange) { changes = append(changes, c.Key) },
		OnRefusal:     func(transport.RefusalEvent) { refusals++ },
	}))
	require.True(t, rt.SetState(hostKey("kept.test"), policy.Open))
	rt.Force("http://upstream.test", policy.Open)
	for range 3 {
		require.Equal(t, policy.RefusedForced, because(t, rt))
	}
	require.Equal(t, 3, refusals)
	require.Equal(t, []transport.Key{hostKey("kept.test")}, slices.Compact(changes))
}

type countingStorage struct{ saves atomic.Int64 }

func (*countingStorage) Load(transport.Key) (transport.Record, error) {
	return transport.Record{}, transport.ErrNoRecord
}

func (s *countingStorage) Save(transport.Record) error {
	s.saves.Add(1)
	return nil
}

func TestNoCircuitIsKeptOfAKeyThatIsTooLong(t *testing.T) {
	rt := transport.New(answer(204, ""))
	for _, url := range []string{"http://" + strings.Repeat("x", 600) + ".test", strings.Repeat("x", 5000) + "://upstream.test"} {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, 204, resp.StatusCode)
	}
	require.Empty(t, rt.Circuits())
}

// Punycode takes time by the square of the length: this one would take half a minute.
func TestANameThatIsTooLongIsNotTranslated(t *testing.T) {
	req := newRequest(t, http.MethodGet, t.Context())
	req.URL.Host = strings.Repeat("語", 200_000)
	began := time.Now()
	require.Equal(t, req.URL.Host, transport.Upstream(req).Host)
	require.Less(t, time.Since(began), 5*time.Second)
	req.URL.Host = "語.test"
	require.Equal(t, "xn--i42a.test", transport.Upstream(req).Host)
}

func TestACallInShadowHasItsDeadlineBeyondTheLimitToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}), limited(policy.Limits{InFlight: 1, Timeout: time.Second}), transport.WithShadow())
		for range 3 {
			go func() {
				_, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
				var timeout *policy.TimeoutError
				if !errors.As(err, &timeout) {
					t.Error(err)
				}
			}()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.EqualValues(t, 2, circuit(t, rt, here).Shadow.Refused)
	})
}

func TestABodyThatNobodyReadsGivesItsPlaceBackWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(200, "hello"), limited(policy.Limits{InFlight: 1, Timeout: time.Second, TimeoutBody: true}))
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.NoError(t, err)
		require.Equal(t, policy.RefusedLimit, because(t, rt))
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, policy.NotRefused, because(t, rt))
		require.NoError(t, resp.Body.Close())
		require.Equal(t, policy.NotRefused, because(t, rt))
	})
}

func TestOfTwoLimitsTheOneThatPassedIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := transport.New(base(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}), limited(policy.Limits{Timeout: 10 * time.Second}))
		var timeout *policy.TimeoutError
		outer := transport.New(base(func(req *http.Request) (*http.Response, error) {
			resp, err := inner.RoundTrip(req)
			require.False(t, errors.As(err, &timeout), "it is not the inner one's time that is up")
			return resp, err
		}), limited(policy.Limits{Timeout: time.Second}))
		_, err := outer.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.ErrorAs(t, err, &timeout)
		require.Equal(t, time.Second, timeout.After)
	})
}

func TestANewCircuitIsWhatItShouldBeThoughFunctionsOfTheUserPanic(t *testing.T) {
	storage := new(transport.MemoryStorage)
	require.NoError(t, storage.Save(transport.Record{Key: here, State: policy.Open, NextProbe: time.Now().Add(time.Hour)}))
	rt := transport.New(answer(204, ""), transport.WithPolicy(policy.Classic{}), transport.WithStorage(storage))
	rt.SetShadow(func(transport.Key) bool { panic(errDeath) })
	require.PanicsWithValue(t, errDeath, func() { because(t, rt) })
	require.Equal(t, policy.Open, circuit(t, rt, here).State, "by its storage")
	require.Equal(t, policy.NotRefused, because(t, rt), "in shadow, since it cannot be told")
	require.EqualValues(t, 1, circuit(t, rt, here).Shadow.Refused)
}

// invalid is an error as validators have it: it cannot be compared.
type invalid []string

func (e invalid) Error() string { return strings.Join(e, ", ") }

func TestABodyThatFailsByAnErrorThatCannotBeComparedIsTheRequestsFault(t *testing.T) {
	for name, err := range map[string]error{
		"slice": invalid{"too young"}, "struct": struct{ error }{invalid{"too old"}}, "wrapped": fmt.Errorf("body: %w", invalid{"no name"}),
	} {
		t.Run(name, func(t *testing.T) {
			rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
				_, err := io.ReadAll(req.Body)
				return nil, fmt.Errorf("write: %w", err)
			}))
			req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://upstream.test", io.MultiReader(bytes.NewReader([]byte("x")), failing{err}))
			_, got := rt.RoundTrip(req)
			require.Error(t, got)
			require.EqualValues(t, 1, circuit(t, rt, here).IgnoredCalls)
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
