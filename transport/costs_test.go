package transport_test

import (
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What patterns, overrides and keys may cost. Bounds on times are ten times and more what a machine takes that does nothing
// else.

func circuitsOf(n int) *transport.Transport {
	rt := transport.New(everyHost(200))
	for i := range n {
		rt.SetState(hostKey(fmt.Sprintf("host-%d.test", i)), policy.Closed)
	}
	return rt
}

func TestAPatternCostsNoMoreThanItIsLong(t *testing.T) {
	before := map[string]string{"letters": "55 s", "stars": "4.2 s", "one letter each": "1 s", "backslashes": "39 s", "a prefix of all": "0.6 s"}
	for name, pattern := range map[string]string{
		"letters": strings.Repeat("a", 8192), "stars": strings.Repeat("*", 8192), "one letter each": strings.Repeat("*h", 4096),
		"backslashes": strings.Repeat(`\`, 8192), "a prefix of all": "http://host-" + strings.Repeat("*-", 4090),
	} {
		rt := circuitsOf(500)
		began := time.Now()
		rt.Force(pattern, policy.Open)
		rt.Reset(pattern)
		rt.Release(pattern)
		took := time.Since(began)
		tried.Row(t, "forced, reset and released by 8192 bytes of "+name+", 500 circuits", before[name], "1 s", "%v", took.Round(time.Microsecond))
		require.Less(t, took, time.Second)
	}
}

func TestAPatternThatIsTooLongIsAnError(t *testing.T) {
	rt := circuitsOf(1)
	for _, long := range []string{strings.Repeat("a", 8193), strings.Repeat("*", 8193), strings.Repeat("*", 1<<20)} {
		for _, take := range []func(string) (int, error){
			func(p string) (int, error) { return rt.Force(p, policy.Open) }, func(p string) (int, error) { return own.ForceUnsaved(rt, p, policy.Closed) },
			rt.Release, rt.Reset,
		} {
			matched, err := take(long)
			require.EqualError(t, err, fmt.Sprintf("fusebox: a pattern has 8192 bytes at most, and this one %d", len(long)))
			require.Zero(t, matched)
		}
	}
	require.Empty(t, rt.Overrides())
	matched, err := rt.Force(strings.Repeat("*", 8192), policy.Open)
	require.NoError(t, err)
	require.Equal(t, 1, matched)
}

func TestNoMorePatternsAreForcedThanTheBound(t *testing.T) {
	rt := transport.New(everyHost(200))
	for i := range 1024 {
		_, err := rt.Force(fmt.Sprintf("http://%d.*", i), policy.Open)
		require.NoError(t, err)
	}
	_, err := rt.Force("*", policy.Open)
	require.EqualError(t, err, "fusebox: no more than 1024 patterns can be forced; release some")
	require.Len(t, rt.Overrides(), 1024)
	require.Equal(t, policy.Open, rt.Overrides()[7].State, "nothing has changed")
	require.Equal(t, 200, callHost(t, rt, "a.test").StatusCode)
	_, err = rt.Force("http://7.*", policy.Closed)
	require.NoError(t, err, "which is no more of them")
	rt.Release("http://8.*")
	_, err = rt.Force("*", policy.Open)
	require.NoError(t, err)
}

// manyOverrides is as many as there can be, of each kind that operators write, with one that has the say on the hosts of real.test.
func manyOverrides(rt *transport.Transport, most int) {
	for i := range most {
		state := policy.Open
		if i%2 == 0 {
			state = policy.Closed
		}
		rt.Force([]string{
			fmt.Sprintf("http://%d.example.com", i), fmt.Sprintf("http://%d.example*", i), fmt.Sprintf("*.%d.example.com", i), fmt.Sprintf("http://*.%d.example.com*", i),
			fmt.Sprintf("*/%d.example.com:*", i), fmt.Sprintf("http*://%d.*.com*", i),
		}[i%6], state)
	}
}

func medianAndMost(times []time.Duration) (median, most time.Duration) {
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1]
}

// timesOf calls hosts, each once.
func timesOf(t *testing.T, rt http.RoundTripper, n int, host func(int) string) (times []time.Duration) {
	for i := range n {
		req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: host(i)}}
		began := time.Now()
		_, err := rt.RoundTrip(req)
		times = append(times, time.Since(began))
		require.NoError(t, err)
	}
	return times
}

func TestANewHostCostsLittleHoweverMuchIsForced(t *testing.T) {
	goodHost := func(i int) string { return fmt.Sprintf("good-%d.test", i) }
	plain, _ := medianAndMost(timesOf(t, transport.New(everyHost(200)), 500, goodHost))

	rt := transport.New(everyHost(200))
	manyOverrides(rt, 1024)
	forced, _ := medianAndMost(timesOf(t, rt, 500, goodHost))
	tried.Row(t, "a new host, 1024 patterns forced", "4.2 ms", "500 µs", "%v, and %v if nothing is", forced, plain)
	require.Less(t, forced, 500*time.Microsecond)

	full := transport.New(everyHost(200), transport.WithMaxCircuits(1))
	full.SetState(hostKey("sick.test"), policy.Open)
	manyOverrides(full, 1024)
	unwatched, _ := medianAndMost(timesOf(t, full, 500, func(int) string { return "unwatched.test" }))
	tried.Row(t, "a request that there is no room to watch, 1024 patterns forced", "4.2 ms", "500 µs", "%v", unwatched)
	require.Less(t, unwatched, 500*time.Microsecond)
	long := strings.Repeat("x", 1<<20)
	forced, _ = medianAndMost(timesOf(t, rt, 20, func(int) string { return long }))
	plain, _ = medianAndMost(timesOf(t, transport.New(everyHost(200)), 20, func(int) string { return long }))
	tried.Row(t, "a request to a host of 1 MiB, 1024 patterns forced", "48 ms", "50 ms", "%v, and %v if nothing is", forced, plain)
	require.Less(t, forced, 50*time.Millisecond)

	stop := make(chan struct{})
	var flood sync.WaitGroup
	for g := range 2 {
		flood.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					callHost(t, rt, fmt.Sprintf("made-up-%d-%d.test", g, i))
				}
			}
		})
	}
	flooded, worst := medianAndMost(timesOf(t, rt, 200, func(i int) string { return fmt.Sprintf("good-in-a-flood-%d.test", i) }))
	close(stop)
	flood.Wait()
	tried.Row(t, "a good new host in a flood of new hosts, 1024 patterns forced", "18 ms", "5 ms", "%v, the slowest of 200 %v", flooded, worst)
	require.Less(t, flooded, 5*time.Millisecond)
}

func TestAnUnwatchedRequestIsRefusedByWhatItsHostBeginsWith(t *testing.T) {
	rt := transport.New(everyHost(200))
	rt.Force("http://xxx*", policy.Open)
	require.True(t, transport.Refused(callHost(t, rt, strings.Repeat("x", 1<<20))))
	require.False(t, transport.Refused(callHost(t, rt, strings.Repeat("y", 1<<20))))
	require.Empty(t, rt.Circuits())
}

// naiveMatch is what a pattern says, one letter after another.
func naiveMatch(pattern, text string) bool {
	switch {
	case pattern == "":
		return text == ""
	case pattern[0] == '*':
		for i := range len(text) + 1 {
			if naiveMatch(pattern[1:], text[i:]) {
				return true
			}
		}
		return false
	case pattern[0] == '\\' && len(pattern) > 1 && !strings.Contains("abfnrtvxuU", pattern[1:2]):
		pattern = pattern[1:]
	}
	return text != "" && pattern[0] == text[0] && naiveMatch(pattern[1:], text[1:])
}

func FuzzPatterns(f *testing.F) {
	f.Add("a*ab*b", "*", `a\*b`, "aabb")
	f.Add("ab*ba", "ab*", "*ba", "aba")
	f.Add("**", `*\`, "a", "a")
	f.Add(`\n*`, `\\n*`, `\x`, "\nx")
	f.Add("http*//*.b", "*b", "h*", "a")
	f.Fuzz(func(t *testing.T, one, two, three, detail string) {
		if len(one)+len(two)+len(three) > 40 || len(detail) > 40 || one == "" || two == "" || three == "" {
			return // it takes too long by naiveMatch
		}
		k := transport.Key{Detail: detail}
		rt := transport.New(everyHost(200), transport.WithKey(func(*http.Request) transport.Key { return k }))
		rt.SetState(k, policy.Closed)
		for i, order := range [][]string{{one, two, three}, {three, two, one}, {two, one, three}} {
			want := ""
			for _, pattern := range order {
				matched, err := rt.Force(pattern, policy.Open)
				if matches := naiveMatch(pattern, k.String()); err != nil && matches || matches != (matched == 1) {
					t.Fatalf("%q on %q: %d circuits, %v", pattern, k.String(), matched, err)
				} else if matches {
					want = pattern
				}
			}
			if c, _ := rt.Circuit(k); c.ForcedBy != want || c.Forced != (want != "") {
				t.Fatalf("order %d: %q is forced by %q, and should by %q", i, k.String(), c.ForcedBy, want)
			}
		}
	})
}

func TestAKeyWeighsNoMoreThanItsBound(t *testing.T) {
	circuits := 2000
	if testkit.Brief() {
		circuits = 500
	}
	had := map[string]string{"letters": "9.7 KB", "what is escaped": "22 KB"}
	for name, filler := range map[string]string{"letters": "x", "what is escaped": "\x01", "what is no text": "\xff"} {
		rt := transport.New(everyHost(500), transport.WithKey(func(req *http.Request) transport.Key {
			k := transport.Upstream(req)
			k.Detail = req.URL.Path
			return k
		}))
		before := testkit.LiveHeap()
		for i := range circuits {
			req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "a.test", Path: strings.Repeat(filler, 3900) + fmt.Sprint(i)}}
			for range 8 { // until it is open and has refused
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				resp.Body.Close()
			}
		}
		rt.Force("nobody", policy.Open) // which asks for the text of all
		require.Len(t, rt.Circuits(), circuits)
		each := (testkit.LiveHeap() - before) / int64(circuits)
		tried.Row(t, "a circuit in trouble with a key of 4 KB, "+name, had[name], "6 KB", "%d bytes", each)
		require.Less(t, each, int64(6<<10))
		runtime.KeepAlive(rt)
	}
}
