package logs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// site is a Transport whose log is read, and upstreams that answer unless they are down.
type site struct {
	testing.TB
	testkit.Hosts
	rt   *transport.Transport
	mu   sync.Mutex
	text bytes.Buffer
}

func newSite(tb testing.TB, opts ...transport.Option) *site {
	s := &site{TB: tb}
	logger := slog.New(slog.NewJSONHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.rt = transport.New(s, append([]transport.Option{
		transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute}),
		transport.WithObserver(logs.Observer(logger)),
	}, opts...)...)
	return s
}

func (s *site) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *site) call(host string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	require.NoError(s, err)
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	s.rt.RoundTrip(req)
}

func (s *site) trip(host string) {
	s.Break(host)
	for range 3 {
		s.call(host)
	}
}

// read returns the lines since the last time.
func (s *site) read() (lines []map[string]any) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for text := range strings.Lines(s.text.String()) {
		var line map[string]any
		require.NoError(s, json.Unmarshal([]byte(text), &line))
		delete(line, "time")
		lines = append(lines, line)
	}
	s.text.Reset()
	return lines
}

func TestChangesOfStateAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.call("a.test")
		require.Empty(t, s.read(), "what is well is not news")
		s.trip("a.test")
		require.Equal(t, []map[string]any{{
			"level": "WARN", "msg": "circuit open", "key": "http://a.test", "from": "closed", "to": "open", "reason": "tripped",
			"failures": 3.0, "successes": 0.0, "cause": "headers: reset", "trace_id": "0af7651916cd43dd8448eb211c80319c",
			"next_probe": "in 1m0s", "why": "3 failures in a row (bound 3)",
		}}, s.read())

		s.Mend("a.test")
		time.Sleep(time.Minute)
		s.call("a.test")
		require.Equal(t, []map[string]any{
			{
				"level": "INFO", "msg": "circuit half-open", "key": "http://a.test", "from": "open", "to": "half-open",
				"reason": "open time passed", "failures": 0.0, "successes": 0.0,
			},
			{
				"level": "INFO", "msg": "circuit closed", "key": "http://a.test", "from": "half-open", "to": "closed",
				"reason": "recovered", "failures": 0.0, "successes": 1.0,
			},
		}, s.read())
	})
}

func TestATripBySlownessHasATraceOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		takes, status, trace := time.Duration(0), 503, ""
		slow := testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
			time.Sleep(takes)
			return testkit.Answer(status, "")(req)
		})
		rules := policy.Classic{}.Rules()
		rules.Trip = policy.AnyOf(policy.Consecutive{Failures: 5}, policy.SlowShare{Slower: time.Second, Percent: 80, Calls: 5})
		rt := transport.New(slow, transport.WithPolicy(rules),
			transport.WithTraceID(func(*http.Request) string { return trace }),
			transport.WithObserver(logs.Observer(slog.New(slog.NewJSONHandler(s, nil)))))
		s.rt = rt

		trace = "of long ago"
		s.call("sick.test")
		takes, status, trace = 2*time.Second, 200, "of now"
		for range 5 {
			s.call("sick.test")
		}
		opened := s.read()
		require.NotEmpty(t, opened)
		require.Equal(t, "slow", opened[0]["cause"])
		require.Equal(t, "of now", opened[0]["trace_id"])
		c := rt.Circuits()[0]
		require.Equal(t, "slow", c.Cause.String(), "what is last is not what failed long ago")
		require.Equal(t, []string{"of now", "of long ago"}, []string{c.Samples[0].Trace, c.Samples[1].Trace})

		time.Sleep(time.Hour)
		trace = "of the probe"
		s.call("sick.test")
		require.Equal(t, "of the probe", rt.Circuits()[0].Samples[0].Trace, "of one that is too slow, too")
		require.EqualValues(t, 2, rt.Circuits()[0].FailedCalls, "that of long ago, and the probe")
		require.Contains(t, s.read(), map[string]any{
			"level": "INFO", "msg": "probes failed", "key": "http://sick.test", "failed": 1.0, "cause": "slow",
		})
		require.True(t, rt.SetState(c.Key, policy.Closed))
		require.True(t, rt.SetState(c.Key, policy.Open))
		require.NotContains(t, s.read()[1], "trace_id", "no call has opened it")
	})
}

func TestWhatIsRestoredSaysWhatHadFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := newSite(t), newSite(t)
		before.trip("sick.test")
		var saved bytes.Buffer
		require.NoError(t, before.rt.SaveTo(&saved))
		_, err := after.rt.RestoreFrom(&saved, time.Hour)
		require.NoError(t, err)
		lines := after.read()
		require.Len(t, lines, 1)
		require.Equal(t, "restored", lines[0]["reason"])
		require.Equal(t, before.rt.Circuits()[0].Cause.String(), lines[0]["cause"])
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", lines[0]["trace_id"])
	})
}

func TestWhatIsForcedHasNoNextProbe(t *testing.T) {
	s := newSite(t)
	s.rt.SetState(transport.Key{Scheme: "http", Host: "a.test"}, policy.Closed)
	s.read()
	s.rt.Force("*", policy.Open)
	require.Equal(t, []map[string]any{{
		"level": "WARN", "msg": "circuit open", "key": "http://a.test", "from": "closed", "to": "open", "reason": "forced",
		"failures": 0.0, "successes": 0.0,
	}}, s.read())
}

func TestWhatIsReleasedIsNoWarning(t *testing.T) {
	s := newSite(t)
	s.rt.SetState(transport.Key{Scheme: "http", Host: "a.test"}, policy.Closed)
	s.rt.Force("*", policy.Open)
	s.read()
	s.rt.Release("*")
	lines := s.read()
	require.Len(t, lines, 1)
	require.Equal(t, "INFO circuit released open", fmt.Sprint(lines[0]["level"], " ", lines[0]["msg"], " ", lines[0]["to"]))
}

func TestShadowIsSaid(t *testing.T) {
	s := newSite(t, transport.WithShadow())
	s.trip("a.test")
	s.call("a.test")
	lines := s.read()
	require.Len(t, lines, 2)
	for i, text := range []string{"circuit would be open, and refuses nothing", "requests would have been refused"} {
		require.Equal(t, true, lines[i]["shadow"])
		require.Equal(t, text, lines[i]["msg"])
		require.Equal(t, "INFO", lines[i]["level"])
	}
}

func TestProbesThatFailAreLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithPolicy(policy.Rules{
			Trip: policy.Consecutive{Failures: 3}, Probe: policy.OpenTime{For: 10 * time.Second}, Recover: policy.Ramp{},
		}))
		s.trip("a.test")
		s.read()
		var probes []map[string]any
		for range 13 {
			time.Sleep(10 * time.Second)
			s.call("a.test")
			for _, line := range s.read() {
				if line["msg"] == "probes failed" {
					probes = append(probes, line)
				}
			}
		}
		line := func(failed int) map[string]any {
			return map[string]any{
				"level": "INFO", "msg": "probes failed", "key": "http://a.test", "failed": float64(failed), "cause": "headers: reset",
			}
		}
		require.Equal(t, []map[string]any{line(1), line(6), line(6)}, probes)
	})
}

func TestRefusalsAreLoggedOnceInTenSecondsForEachCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.trip("a.test")
		s.trip("b.test")
		s.read()
		wait := "in 1m0s"
		line := func(key string, refused int) map[string]any {
			return map[string]any{
				"level": "INFO", "msg": "requests refused", "key": key, "refused": float64(refused), "reason": "open",
				"next_probe": wait, "cause": "headers: reset", "shadow": false,
			}
		}
		for range 5 {
			s.call("a.test")
		}
		s.call("b.test")
		require.Equal(t, []map[string]any{line("http://a.test", 1), line("http://b.test", 1)}, s.read())

		time.Sleep(10*time.Second - 1)
		s.call("a.test")
		require.Empty(t, s.read())
		time.Sleep(time.Nanosecond)
		wait = "in 50s"
		s.call("a.test")
		s.call("a.test")
		require.Equal(t, []map[string]any{line("http://a.test", 6)}, s.read(), "with those in between")
	})
}

func TestALineAboutRefusalsSaysThatTheCircuitWaitsForARequestThatCanBeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		rt := transport.New(nil, transport.WithSafeProbes(), transport.WithObserver(logs.Observer(slog.New(slog.NewTextHandler(&out, nil)))))
		key := transport.Key{Scheme: "http", Host: "a.test"}
		rt.SetState(key, policy.Open)
		time.Sleep(time.Second)
		until := time.Now().Add(time.Minute)
		for range 2 {
			out.Reset()
			req, err := http.NewRequest(http.MethodPost, "http://a.test/", nil)
			require.NoError(t, err)
			_, err = rt.RoundTrip(req)
			require.NoError(t, err)
			require.Contains(t, out.String(), `waits_for="a request that can be lost" until=`+until.Format("2006-01-02T15:04:05.000Z07:00"))
			time.Sleep(20 * time.Second)
		}
	})
}

func TestManyCircuitsAreLoggedInBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const keys, apart = 5000, 1024
		s := newSite(t)
		refuse := func() {
			for i := range keys {
				s.call(fmt.Sprintf("host%d.test", i))
			}
		}
		refuse() // so that there are circuits
		s.rt.Force("*", policy.Open)
		s.read()
		refuse()
		require.Len(t, s.read(), apart+1, "the first ones apart, and all others together")

		// What the others did in between is on one line.
		time.Sleep(10 * time.Second)
		refuse()
		lines := s.read()
		total, others := 0.0, 0
		for _, line := range lines {
			total += line["refused"].(float64)
			require.NotContains(t, line, "cause", "no call has failed")
			if line["key"] == "others" {
				others++
				require.Equal(t, float64(keys-apart-1+1), line["refused"])
				require.Contains(t, line["latest"], "http://host", "which does not pass for the one that all are of")
			}
		}
		require.Equal(t, 1, others)
		require.Len(t, lines, apart+1)
		require.Equal(t, float64(apart+(keys-apart-1)+1), total)
	})
}

func TestARealUpstreamHasALineOfItsOwnHoweverManyAreMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		refused := func(host string, calls int) {
			s.Break(host)
			for range calls {
				s.call(host)
			}
		}
		for i := range 3000 {
			refused(fmt.Sprintf("made-up%d.test", i), 4)
		}
		s.call("real.test")
		s.read()
		refused("real.test", 4)
		lines := s.read()
		last := lines[len(lines)-1]
		require.Equal(t, "requests refused", last["msg"])
		require.Equal(t, "http://real.test", last["key"])
		tried.Row(t, "3,000 made-up hosts refused, and a real one after them", "no line of its own", "a line of its own", "a line of its own")
		refused("one-more-made-up.test", 4)
		require.NotContains(t, fmt.Sprint(s.read()), "requests refused", "or a flood of hosts were one of lines")
	})
}

func TestWhoIsNotRefusedAnyMoreMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for round := range 3 {
			for i := range 1000 {
				s.rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprintf("host%d-%d.test", round, i)}, policy.Open)
			}
			s.read()
			for i := range 1000 {
				s.call(fmt.Sprintf("host%d-%d.test", round, i))
			}
			require.Len(t, s.read(), 1000)
			time.Sleep(11 * time.Second)
		}
	})
}

func TestLocalTroubleIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		began := time.Now()
		for _, host := range []string{"a.test", "b.test", "c.test"} {
			s.trip(host)
		}
		s.read()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, []map[string]any{{
			"level": "WARN", "msg": "most upstreams in use began to fail together: the cause is most likely here",
			"tripped": 3.0, "well": 0.0, "since": began.Format(time.RFC3339Nano),
		}}, s.read())
		s.Mend()
		time.Sleep(time.Minute)
		s.call("a.test")
		var told bool
		for _, line := range s.read() {
			told = told || line["msg"] == "the upstreams that began to fail together are looked at one by one again"
		}
		require.True(t, told)
	})
}

// broken is a storage that has no way to work.
type broken struct{}

var errStorage = errors.New("disk full")

func (broken) Load(transport.Key) (transport.Record, error) {
	return transport.Record{}, transport.ErrNoRecord
}
func (broken) Save(transport.Record) error { return errStorage }

func TestErrorsOfTheStorageAreLogged(t *testing.T) {
	s := newSite(t, transport.WithStorage(broken{}))
	s.trip("a.test")
	require.Contains(t, s.read(), map[string]any{"level": "ERROR", "msg": "circuit storage", "key": "http://a.test", "err": "disk full"})
}

func TestManyAtOnceAreLogged(t *testing.T) {
	s := newSite(t)
	for i := range 50 {
		s.rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprintf("host%d.test", i)}, policy.Open)
	}
	s.read()
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for i := range 50 {
				s.call(fmt.Sprintf("host%d.test", i))
			}
		})
	}
	callers.Wait()
	lines := s.read()
	require.GreaterOrEqual(t, len(lines), 50)
	require.LessOrEqual(t, len(lines), 400)
}

func TestANilLoggerPanics(t *testing.T) {
	require.PanicsWithValue(t, "fusebox/logs: Observer got a nil logger; write slog.Default()", func() { logs.Observer(nil) })
}

func TestHostsThatAreMadeUpAreNoFloodOfLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithStorage(broken{}), transport.WithoutLocalTrouble())
		s.call("real.test")
		const most = 32
		for i := range 3000 {
			s.trip(fmt.Sprintf("made-up%d.test", i))
		}
		s.trip("real.test")
		made, errs, real := 0, 0, 0
		for _, line := range s.read() {
			switch {
			case line["msg"] == "circuit storage":
				errs++
			case line["key"] == "http://real.test":
				real++
			default:
				made++
			}
		}
		require.Equal(t, []int{most, most, 1}, []int{made, errs, real}, "lines of made-up hosts, of the storage, and of the real upstream")
		tried.Row(t, "3,000 made-up hosts whose circuits open", "3,000 lines", "32 in ten seconds, and one of the others", "%d lines", made)

		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.ElementsMatch(t, []map[string]any{
			{
				"level": "WARN", "msg": "circuits of upstreams that have never answered changed", "key": "others", "changes": 2968.0,
				"latest": "http://made-up2999.test", "to": "open",
			},
			{"level": "ERROR", "msg": "circuit storage", "key": "others", "errors": 2969.0, "latest": "http://real.test", "err": "disk full"},
		}, s.read())

		s.trip("late.test")
		require.Len(t, s.read(), 2, "each has lines again")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, s.read(), "and nothing more to tell")
	})
}

func TestWhatIsCountedIsToldOnceHoweverManyAreAtIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithoutLocalTrouble())
		host := func(caller, i int) string { return fmt.Sprintf("made-up%d-%d.test", caller, i) }
		for i := range 800 {
			s.Break(host(i%8, i/8))
		}
		var callers sync.WaitGroup
		for caller := range 8 {
			callers.Go(func() {
				for i := range 3 * 100 {
					s.call(host(caller, i/3))
				}
			})
		}
		callers.Wait()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		lines := s.read()
		require.Equal(t, 33, len(lines))
		require.Equal(t, 800.0-32, lines[32]["changes"])
	})
}
