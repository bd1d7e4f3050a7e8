package transport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func force(t *testing.T, rt *transport.Transport, pattern string, state policy.State) (matched int) {
	t.Helper()
	matched, err := rt.Force(pattern, state)
	require.NoError(t, err)
	return matched
}

func reset(t *testing.T, rt *transport.Transport, pattern string) (matched int) {
	t.Helper()
	matched, err := rt.Reset(pattern)
	require.NoError(t, err)
	return matched
}

func released(t *testing.T, rt *transport.Transport, pattern string) int {
	t.Helper()
	matched, err := rt.Release(pattern)
	require.NoError(t, err)
	return matched
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true},
		{"a", "aa", false},
		{"A", "a", false},
		{"*", "a", true},
		{"**", "a", true},
		{"***", "aaa", true},
		{"a*", "a", true},
		{"*a", "a", true},
		{"*a*", "a", true},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a**a", "aa", true},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{`a\\*`, `a\b`, true},
		{`a\\\`, `a\`, true}, // whose text is a\\
		{`a\`, `a`, false},
		{`a\.b`, `a.b`, true},
		{`a\nb`, "a\nb", true}, // as the key's text has it
		{`a\\nb`, "a\nb", true},
		{`a\nb`, `anb`, false},
		{`a\nb`, `a\\nb`, false},
		{`a\\\\nb`, `a\\nb`, true},
		{`a\n*`, "a\nb", true},
		{`a\u202eb`, "a\u202eb", true},
		{`a\x20`, "a ", true},
		{`a\x20`, "ax20", false},
		{"a*a", "aba", true},
		{"a*a", "abab", false},
		{"ab*ba", "aba", false},
		{"ab*ba", "abba", true},
		{"a*b*c", "abc", true},
		{"a*b*c", "acb", false},
		{"a*b*c", "axbxbxc", true},
		{"a*b*b", "ab", false},
		{"a*b*b", "abb", true},
		{"a*ab*b", "aab", false},
		{"a*ab*b", "aabb", true},
		{"*ab*ab*", "ab", false},
		{"*ab*ab*", "xabxabx", true},
		{"*abc", "ababc", true},
		{"*aab*", "aaab", true},
		{"a?", "ab", false},
		{"a.", "ab", false},
		{"[ab]", "a", false},
		{"é*", "éa", true},
		{"https://*.example.com*", "https://api.example.com", true},
		{"https://*.example.com*", "https://api.example.com:8443 GET /x", true},
		{"https://*.example.com*", "https://example.com", false},
		{"https://*.example.com*", "http://api.example.com", false},
		{"http://upstream.test", "http://upstream.test", true},
		{"http://upstream.test", "http://upstream.test GET", false},
		{"http://upstream.test*", "http://upstream.test.evil", true},
	} {
		rt := transport.New(answer(200, ""), transport.WithKey(func(*http.Request) transport.Key {
			k, err := keyOfText(c.text)
			if err != nil {
				k = transport.Key{Detail: c.text} // which is not written as it stands here
			}
			return k
		}))
		call(t, rt)
		n := force(t, rt, c.pattern, policy.Open)
		require.Equal(t, c.want, n == 1, "%q on %q", c.pattern, c.text)
		require.Equal(t, c.want, because(t, rt) == policy.RefusedForced, "%q on %q", c.pattern, c.text)
		require.Equal(t, n, reset(t, rt, c.pattern))
		require.Equal(t, n, released(t, rt, c.pattern))
		require.Zero(t, released(t, rt, c.pattern), "released already")
	}
}

func TestForcedOpenRefusesEverythingForGood(t *testing.T) {
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{OpenFor: time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			var changes []transport.StateChange
			var refused []transport.RefusalEvent
			rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
				calls++
				return answer(200, "")(req)
			}), transport.WithPolicy(p), transport.WithObserver(transport.Observer{
				OnStateChange: func(c transport.StateChange) { changes = append(changes, c) },
				OnRefusal:     func(r transport.RefusalEvent) { refused = append(refused, r) },
			}))
			call(t, rt)
			require.Equal(t, 1, force(t, rt, here.String(), policy.Open))
			for range 48 {
				for range 20 {
					require.Equal(t, policy.RefusedForced, because(t, rt), name)
				}
				time.Sleep(time.Hour)
			}
			require.Equal(t, 1, calls)
			c := circuit(t, rt, here)
			require.True(t, c.Forced)
			require.Equal(t, policy.Open, c.State)
			require.Zero(t, c.NextProbe)
			require.Zero(t, c.Probes)
			require.EqualValues(t, 960, c.Refusals)

			require.Len(t, changes, 1)
			require.Equal(t, policy.ChangeForced, changes[0].Reason)
			require.Zero(t, changes[0].NextProbe)
			facts := refused[0].Error
			require.Equal(t, policy.RefusedForced, facts.Reason)
			require.Zero(t, facts.RetryAfter)
			require.Equal(t, "fusebox: circuit forced open for http://upstream.test", facts.Error())
			require.ErrorIs(t, facts, transport.ErrOpen)
			require.NotErrorIs(t, facts, transport.ErrLimit)

			require.Equal(t, 1, released(t, rt, here.String()))
			require.Equal(t, policy.ChangeReleased, changes[1].Reason)
			require.False(t, circuit(t, rt, here).Forced)
			require.Equal(t, policy.NotRefused, because(t, rt), "the next request is a probe")
			require.EqualValues(t, 1, circuit(t, rt, here).Probes)
		})
	}
}

func TestAForcedOpenCircuitThatIsReleasedWaitsForItsProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{OpenFor: time.Minute}))
		rt.SetState(here, policy.Closed)
		rt.Force("*", policy.Open)
		rt.Release("*")
		require.Equal(t, policy.NotRefused, because(t, rt), "the probe, which fails")
		require.Equal(t, policy.RefusedOpen, because(t, rt))
		time.Sleep(time.Minute)
		require.Equal(t, policy.NotRefused, because(t, rt))
	})
}

func TestForcedClosedLetsEverythingThrough(t *testing.T) {
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{Failures: 2}} {
		rt := transport.New(answer(500, "down"), transport.WithPolicy(p))
		rt.SetState(here, policy.Open)
		rt.Force("*", policy.Closed)
		for range 1000 {
			require.Equal(t, policy.NotRefused, because(t, rt), name)
		}
		c := circuit(t, rt, here)
		require.True(t, c.Forced)
		require.Equal(t, policy.Closed, c.State)
		require.EqualValues(t, 1000, c.FailedCalls)
		rt.Release("*")
		require.Equal(t, policy.Closed, circuit(t, rt, here).State)
		require.Zero(t, circuit(t, rt, here).Failures, "what failed meanwhile is not held against it")
		for range 20 {
			call(t, rt)
		}
		require.Equal(t, policy.Open, circuit(t, rt, here).State, "its rules have the say again")
	}
}

func TestForcedClosedHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := newFading()
		rt := transport.New(upstream)
		run := func() (held int) {
			upstream.silent.Store(false)
			upstream.release = make(chan struct{})
			for range 10 {
				call(t, rt)
				time.Sleep(150 * time.Millisecond)
			}
			upstream.silent.Store(true)
			var out sync.WaitGroup
			var refused atomic.Int64
			for range 100 {
				out.Go(func() {
					patient, cancel := context.WithTimeout(context.Background(), 2*time.Second)
					defer cancel()
					resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, patient))
					if err == nil && transport.RefusedBecause(resp) == policy.RefusedHeld {
						refused.Add(1)
					}
				})
				time.Sleep(50 * time.Millisecond)
			}
			close(upstream.release)
			out.Wait()
			return int(refused.Load())
		}
		require.NotZero(t, run(), "the silence is one that is held")
		rt.Reset("*")
		rt.Force("*", policy.Closed)
		require.Zero(t, run())
	})
}

func TestWhatIsForcedHoldsForCircuitsThatAreForgottenAndMadeLater(t *testing.T) {
	var calls atomic.Int64
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		calls.Add(1)
		return answer(500, "")(req)
	}), transport.WithMaxCircuits(4), transport.WithPolicy(policy.Classic{Failures: 1}))
	require.Zero(t, force(t, rt, "http://open-*", policy.Open))
	require.Zero(t, force(t, rt, "http://closed-*", policy.Closed))
	get := func(host string) policy.RefusalReason {
		resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
		require.NoError(t, err)
		resp.Body.Close()
		return transport.RefusedBecause(resp)
	}
	for i := range 3 {
		require.Equal(t, policy.RefusedForced, get(fmt.Sprintf("open-%d.test", i)))
	}
	require.Zero(t, calls.Load())
	for range 3 {
		for i := range 20 {
			require.Equal(t, policy.NotRefused, get(fmt.Sprintf("closed-%d.test", i)))
		}
	}
	require.Len(t, rt.Circuits(), 4)
	require.Equal(t, policy.RefusedForced, get("open-0.test"))
	require.EqualValues(t, 60, calls.Load())
}

func TestForcedOpenRefusesThoughThereIsNoRoomForTheCircuit(t *testing.T) {
	rt := transport.New(answer(200, ""), transport.WithMaxCircuits(1))
	rt.SetState(transport.Key{Scheme: "http", Host: "sick.test"}, policy.Open)
	rt.Force(here.String(), policy.Open)
	require.Equal(t, policy.RefusedForced, because(t, rt))
}

// slowStorage holds up whoever makes the first circuit.
type slowStorage struct {
	once           sync.Once
	entered, leave chan struct{}
}

func (s *slowStorage) Load(transport.Key) (transport.Record, error) {
	s.once.Do(func() { close(s.entered); <-s.leave })
	return transport.Record{}, transport.ErrNoRecord
}

func (*slowStorage) Save(transport.Record) error { return nil }

func TestForcedOpenRefusesWhileTheCircuitIsMade(t *testing.T) {
	storage := &slowStorage{entered: make(chan struct{}), leave: make(chan struct{})}
	rt := transport.New(answer(200, ""), transport.WithStorage(storage))
	rt.Force("*", policy.Open)
	var made sync.WaitGroup
	made.Go(func() { rt.RoundTrip(newRequest(t, http.MethodGet, context.Background())) })
	<-storage.entered
	got := because(t, rt)
	close(storage.leave)
	made.Wait()
	require.Equal(t, policy.RefusedForced, got)
}

func TestTheLastOverrideThatMatchesHasTheSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Hour}))
		state := func() string {
			c := circuit(t, rt, here)
			return fmt.Sprint(c.State, " ", c.Forced)
		}
		call(t, rt)
		began := time.Now()
		require.Equal(t, 1, force(t, rt, "http://*", policy.Closed))
		require.Equal(t, "closed true", state())
		time.Sleep(time.Second)
		require.Equal(t, 1, force(t, rt, "*upstream*", policy.Open))
		require.Equal(t, "open true", state())
		require.Equal(t, 0, force(t, rt, "*nobody*", policy.Closed))
		require.Equal(t, "open true", state())
		require.Equal(t, []transport.Override{
			{Pattern: "http://*", State: policy.Closed, At: began},
			{Pattern: "*upstream*", State: policy.Open, At: began.Add(time.Second)},
			{Pattern: "*nobody*", State: policy.Closed, At: began.Add(time.Second)},
		}, rt.Overrides())
		text, err := json.Marshal(rt.Overrides()[:1])
		require.NoError(t, err)
		require.JSONEq(t, `[{"pattern": "http://*", "state": "closed", "at": "2000-01-01T00:00:00Z"}]`, string(text))

		require.Equal(t, 1, force(t, rt, "http://*", policy.Closed), "it moves to the end")
		require.Equal(t, "closed true", state())
		require.Equal(t, []string{"*upstream*", "*nobody*", "http://*"}, patterns(rt))
		require.Equal(t, 1, force(t, rt, "http://*", policy.Open), "and changes its mind")
		require.Equal(t, "open true", state())
		require.Len(t, rt.Overrides(), 3)
		rt.Force("http://*", policy.Closed)

		require.Zero(t, released(t, rt, "http://*nobody"), "a pattern that was not forced, though it overlaps")
		require.Equal(t, 1, released(t, rt, "http://*"))
		require.Equal(t, "open true", state(), "the one below shows")
		require.Equal(t, policy.RefusedForced, because(t, rt))
		require.Equal(t, 0, released(t, rt, "*nobody*"))
		require.Equal(t, 1, released(t, rt, "*upstream*"))
		require.Equal(t, "open false", state())
		require.Empty(t, rt.Overrides())

		rt.Force("http://*", policy.Open)
		kept := rt.Overrides()
		kept[0].Pattern = "scribble"
		require.Equal(t, []string{"http://*"}, patterns(rt))
	})
}

func patterns(rt *transport.Transport) (all []string) {
	for _, override := range rt.Overrides() {
		all = append(all, override.Pattern)
	}
	return all
}

func TestForceAndReleaseThatMeetEndAsOverridesSays(t *testing.T) {
	rt := transport.New(answer(200, ""))
	for i := range 64 {
		rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprintf("host-%d.test", i)}, policy.Closed)
	}
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for range rounds {
		var both sync.WaitGroup
		both.Go(func() { rt.Force("*", policy.Open) })
		both.Go(func() { rt.Release("*") })
		both.Wait()
		forced := len(rt.Overrides()) == 1
		for _, c := range rt.Circuits() {
			require.Equal(t, forced, c.Forced, "%v", c.Key)
		}
		rt.Release("*")
		for _, c := range rt.Circuits() {
			require.False(t, c.Forced, "%v", c.Key)
		}
	}
}

// Another may have forgotten a circuit, and tells its observers, before who made it does.
func TestCircuitsOfForcedHostsAreForgottenAsTheyAreMade(t *testing.T) {
	var told atomic.Int64
	rt := transport.New(answer(200, ""), transport.WithMaxCircuits(2), transport.WithObserver(transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			told.Add(1)
			assert.Equal(t, policy.ChangeForced, c.Reason)
		},
	}))
	rt.Force("*", policy.Closed)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 1000 {
				resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", (n*7+i)%40), nil))
				if assert.NoError(t, err) {
					resp.Body.Close()
				}
			}
		})
	}
	all.Wait()
	require.Greater(t, told.Load(), int64(40), "circuits came and went")
}

func TestForceAndReleaseMeetRequests(t *testing.T) {
	var leaked atomic.Int64
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("Started-While-Open") != "" {
			leaked.Add(1)
		}
		return answer(200, "hello")(req)
	}))
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				req := httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", (n+i)%16), nil)
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	for range 200 {
		rt.Force("http://host*", policy.Open)
		req := httptest.NewRequest(http.MethodGet, "http://host-0.test/", nil)
		req.Header.Set("Started-While-Open", "yes")
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		rt.Release("http://host*")
	}
	close(stop)
	all.Wait()
	require.Zero(t, leaked.Load())
	for _, c := range rt.Circuits() {
		require.False(t, c.Forced)
	}
}

func TestSetStateLeavesWhatIsForced(t *testing.T) {
	rt := transport.New(answer(200, ""))
	for _, forced := range []policy.State{policy.Open, policy.Closed} {
		rt.Force("*", forced)
		for _, state := range []policy.State{policy.Closed, policy.Open, policy.HalfOpen} {
			require.True(t, rt.SetState(here, state), "there is room for it")
			c := circuit(t, rt, here)
			require.Equal(t, forced, c.State)
			require.True(t, c.Forced)
		}
	}
}

func TestResetMakesACircuitNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes []transport.StateChange
		rt := transport.New(answer(500, ""), transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Hour}),
			transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) { changes = append(changes, c) }}))
		for range 5 {
			call(t, rt)
		}
		require.Equal(t, policy.Open, circuit(t, rt, here).State)
		require.Zero(t, reset(t, rt, "http://nobody*"))
		require.Equal(t, policy.Open, circuit(t, rt, here).State)
		require.Equal(t, 1, reset(t, rt, "http://up*"))
		require.Equal(t, policy.ChangeReset, changes[len(changes)-1].Reason)
		c := circuit(t, rt, here)
		require.Equal(t, transport.Snapshot{Key: here, Since: c.Since, Generation: 2, Trip: c.Trip, Known: true, Policy: "policy.Classic"}, c)
		for range 2 {
			require.Equal(t, policy.NotRefused, because(t, rt))
		}
		require.Equal(t, policy.Closed, circuit(t, rt, here).State)
		require.Equal(t, 1, reset(t, rt, "*"))
		for range 2 {
			require.Equal(t, policy.NotRefused, because(t, rt))
		}
		require.Equal(t, policy.Closed, circuit(t, rt, here).State, "its failures in a row begin at 0")

		rt.Force("*", policy.Open)
		require.Equal(t, 1, reset(t, rt, "*"))
		require.True(t, circuit(t, rt, here).Forced)
		require.Equal(t, policy.Open, circuit(t, rt, here).State)
	})
}

func TestAnEmptyPatternIsAnErrorWhateverTheKeysAre(t *testing.T) {
	ownKeys := transport.WithKey(func(*http.Request) transport.Key { return transport.Key{Detail: "all"} })
	for _, rt := range []*transport.Transport{transport.New(nil), transport.New(nil, ownKeys)} {
		for name, do := range map[string]func() (int, error){
			"Force": func() (int, error) { return rt.Force("", policy.Open) }, "Reset": func() (int, error) { return rt.Reset("") },
		} {
			_, err := do()
			require.EqualError(t, err, `fusebox: no circuit can match an empty pattern; write "*" for all circuits`, name)
		}
		require.Empty(t, rt.Overrides())
	}
}

func TestForcePanicsOverAStateThatCannotBeForced(t *testing.T) {
	rt := transport.New(nil)
	for _, state := range []policy.State{policy.HalfOpen, 7} {
		require.PanicsWithValue(t, "fusebox/transport: Force got a state that is neither policy.Open nor policy.Closed",
			func() { rt.Force("*", state) })
	}
	require.Empty(t, rt.Overrides())
}
