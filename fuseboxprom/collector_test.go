package fuseboxprom_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fuseboxprom"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

var classic = transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute})

// site is a Transport with a Collector, and upstreams that answer unless their hosts are down.
type site struct {
	testing.TB
	testkit.Hosts
	rt        *transport.Transport
	collector *fuseboxprom.Collector
	registry  *prometheus.Registry
}

func newSite(tb testing.TB, opts []transport.Option, collectorOpts ...fuseboxprom.Option) *site {
	s := &site{TB: tb, registry: prometheus.NewPedanticRegistry()}
	s.rt = transport.New(s, append([]transport.Option{classic}, opts...)...)
	s.collect(collectorOpts...)
	return s
}

// collect has a new Collector look at the Transport.
func (s *site) collect(opts ...fuseboxprom.Option) {
	s.collector = fuseboxprom.NewCollector(s.rt, opts...)
	s.registry.MustRegister(s.collector)
}

func (s *site) call(host string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	require.NoError(s, err)
	s.rt.RoundTrip(req)
}

func (s *site) trip(host string) {
	s.Break(host)
	for range 3 {
		s.call(host)
	}
}

// scrape returns all series as they are written in text, without the prefix that all have.
func (s *site) scrape() map[string]float64 {
	s.Helper()
	families, err := s.registry.Gather()
	require.NoError(s, err)
	series := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.Metric {
			name := strings.TrimPrefix(family.GetName(), "fusebox_")
			if labels := labelsOf(m); labels != "" {
				name += "{" + labels + "}"
			}
			series[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return series
}

func labelsOf(m *dto.Metric) string {
	var labels []string
	for _, l := range m.Label {
		labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	return strings.Join(labels, ",")
}

// keysOf returns the values of the label key, sorted.
func keysOf(series map[string]float64) (keys []string) {
	for name := range series {
		if _, rest, ok := strings.Cut(name, `key="`); ok {
			key, _, _ := strings.Cut(rest, `"`)
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

func TestACircuitIsCountedFromTripToRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.call("well.test")
		s.trip("sick.test")
		s.call("sick.test")
		s.call("sick.test")
		time.Sleep(90 * time.Second) // half of it beyond the open time
		require.Equal(t, 1.0, s.scrape()[`circuit_state{key="http://sick.test",state="open"}`])
		s.call("sick.test") // a probe that fails
		s.Mend("sick.test")
		time.Sleep(70 * time.Second)
		s.call("sick.test")
		time.Sleep(time.Hour)

		// Everything there is, so that nothing is there unseen.
		require.NoError(t, testutil.CollectAndCompare(s.collector, strings.NewReader(`
# HELP fusebox_circuit_forced 1 if somebody forced the circuit's state, 0 otherwise.
# TYPE fusebox_circuit_forced gauge
fusebox_circuit_forced{key="http://sick.test"} 0
fusebox_circuit_forced{key="http://well.test"} 0
# HELP fusebox_circuit_shadow 1 if the circuit is in shadow: it decides, but refuses nothing.
# TYPE fusebox_circuit_shadow gauge
fusebox_circuit_shadow{key="http://sick.test"} 0
fusebox_circuit_shadow{key="http://well.test"} 0
# HELP fusebox_circuit_state 1 for the state in which the circuit is (closed, open, half-open), 0 for the others.
# TYPE fusebox_circuit_state gauge
fusebox_circuit_state{key="http://sick.test",state="closed"} 1
fusebox_circuit_state{key="http://sick.test",state="half-open"} 0
fusebox_circuit_state{key="http://sick.test",state="open"} 0
fusebox_circuit_state{key="http://well.test",state="closed"} 1
fusebox_circuit_state{key="http://well.test",state="half-open"} 0
fusebox_circuit_state{key="http://well.test",state="open"} 0
# HELP fusebox_circuit_transitions_total Changes of state.
# TYPE fusebox_circuit_transitions_total counter
fusebox_circuit_transitions_total{from="closed",key="http://sick.test",reason="tripped",to="open"} 1
fusebox_circuit_transitions_total{from="closed",key="http://sick.test",reason="tripped by fleet",to="open"} 0
fusebox_circuit_transitions_total{from="closed",key="http://well.test",reason="tripped",to="open"} 0
fusebox_circuit_transitions_total{from="half-open",key="http://sick.test",reason="recovered",to="closed"} 1
fusebox_circuit_transitions_total{from="half-open",key="http://sick.test",reason="recovery failed",to="open"} 1
fusebox_circuit_transitions_total{from="open",key="http://sick.test",reason="answered in fleet",to="half-open"} 0
fusebox_circuit_transitions_total{from="open",key="http://sick.test",reason="open time passed",to="half-open"} 2
fusebox_circuit_transitions_total{from="open",key="http://sick.test",reason="probe succeeded",to="half-open"} 0
# HELP fusebox_circuit_trouble_seconds_total Time that circuits were not closed, and asked for: up to five minutes after each request.
# TYPE fusebox_circuit_trouble_seconds_total counter
fusebox_circuit_trouble_seconds_total{key="http://sick.test"} 160
fusebox_circuit_trouble_seconds_total{key="http://well.test"} 0
fusebox_circuit_trouble_seconds_total{key="other"} 0
# HELP fusebox_circuits Circuits that are kept, whether or not their keys have series of their own.
# TYPE fusebox_circuits gauge
fusebox_circuits{state="closed"} 2
fusebox_circuits{state="half-open"} 0
fusebox_circuits{state="open"} 0
# HELP fusebox_failures_total Calls that failed, by the class of their cause, and by the reason that a classifier gave.
# TYPE fusebox_failures_total counter
fusebox_failures_total{class="reset",key="http://sick.test",reason=""} 4
# HELP fusebox_local_trouble 1 while most of the upstreams in use began to fail together, so that the cause is most likely on this side.
# TYPE fusebox_local_trouble gauge
fusebox_local_trouble 0
# HELP fusebox_local_troubles_total How many times most of the upstreams in use began to fail together.
# TYPE fusebox_local_troubles_total counter
fusebox_local_troubles_total 0
# HELP fusebox_overrides States that somebody forced and that are in force, by the state. Each can match any number of circuits, or none.
# TYPE fusebox_overrides gauge
fusebox_overrides{state="closed"} 0
fusebox_overrides{state="open"} 0
# HELP fusebox_probes_total Calls that decided about an open or half-open circuit.
# TYPE fusebox_probes_total counter
fusebox_probes_total{key="http://sick.test",outcome="failure"} 1
fusebox_probes_total{key="http://sick.test",outcome="success"} 1
# HELP fusebox_refusals_total Requests that were refused.
# TYPE fusebox_refusals_total counter
fusebox_refusals_total{key="http://sick.test",reason="open"} 2
# HELP fusebox_unasked_circuits Circuits that nobody has asked for for five minutes, of those that are not closed.
# TYPE fusebox_unasked_circuits gauge
fusebox_unasked_circuits{state="half-open"} 0
fusebox_unasked_circuits{state="open"} 0
`)))
	})
}

func TestWhatACircuitInTroubleShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.trip("sick.test")
		tripped := time.Now()
		time.Sleep(1500 * time.Millisecond)
		got := s.scrape()
		require.Equal(t, float64(tripped.Unix()), got[`circuit_trouble_timestamp_seconds{key="http://sick.test"}`])
		require.Equal(t, 1.5, got[`circuit_trouble_seconds_total{key="http://sick.test"}`], "it goes up meanwhile")
		require.Equal(t, 0.0, got[`circuit_in_flight_calls{key="http://sick.test"}`])
		require.Equal(t, 1.0, got[`circuit_in_flight_limit_calls{key="http://sick.test"}`])

		s.rt.SetState(transport.Key{Scheme: "http", Host: "sick.test"}, policy.Closed)
		got = s.scrape()
		require.NotContains(t, got, `circuit_trouble_timestamp_seconds{key="http://sick.test"}`)
		require.NotContains(t, got, `circuit_asked_timestamp_seconds{key="http://sick.test"}`)
	})
}

func TestACircuitThatNobodyAsksForIsNoTroubleAnyMore(t *testing.T) {
	const trouble, asked = `circuit_trouble_timestamp_seconds{key="http://sick.test"}`, `circuit_asked_timestamp_seconds{key="http://sick.test"}`
	const spent, unasked = `circuit_trouble_seconds_total{key="http://sick.test"}`, `unasked_circuits{state="open"}`
	for _, scrapes := range []bool{true, false} { // what is counted does not depend on them
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, nil)
			s.trip("sick.test")
			s.Break("sick.test")
			tripped := time.Now()
			for range 20 {
				time.Sleep(3 * time.Minute)
				s.call("sick.test")
				if scrapes {
					s.scrape()
				}
			}
			last := time.Now()
			time.Sleep(5 * time.Minute)
			got := s.scrape()
			require.Equal(t, float64(tripped.Unix()), got[trouble])
			require.Equal(t, float64(last.Unix()), got[asked])
			require.Equal(t, 0.0, got[unasked])
			require.Equal(t, 65*60.0, got[spent])
			for range 24 {
				time.Sleep(time.Hour)
				if scrapes {
					s.scrape()
				}
			}
			got = s.scrape()
			require.NotContains(t, got, trouble)
			require.Equal(t, float64(last.Unix()), got[asked])
			require.Equal(t, 1.0, got[unasked])
			require.Equal(t, 1.0, got[`circuit_state{key="http://sick.test",state="open"}`], "which it is")
			require.Equal(t, 65*60.0, got[spent])

			s.call("sick.test")
			got = s.scrape()
			require.Equal(t, float64(tripped.Unix()), got[trouble], "it was never seen to be well")
			require.Equal(t, 0.0, got[unasked])
			time.Sleep(time.Minute)
			require.Equal(t, 66*60.0, s.scrape()[spent])
			s.Mend("sick.test")
			s.call("sick.test")
			require.Equal(t, 1.0, s.scrape()[`circuit_state{key="http://sick.test",state="closed"}`])
			time.Sleep(time.Hour)
			require.Equal(t, 66*60.0, s.scrape()[spent])
		})
	}
}

func TestTroubleThatNobodyHasAskedAboutYetIsNotCounted(t *testing.T) {
	const spent = `circuit_trouble_seconds_total{key="http://sick.test"}`
	sick := transport.Key{Scheme: "http", Host: "sick.test"}
	for name, open := range map[string]func(*site){
		"restored": func(s *site) {
			saved := `{"version":1,"at":"` + time.Now().Format(time.RFC3339) + `","circuits":[{"scheme":"http","host":"sick.test","state":"open","trouble":"1999-01-01T00:00:00Z"}]}`
			opened, err := s.rt.RestoreFrom(strings.NewReader(saved), 0)
			require.NoError(s, err)
			require.Equal(s, 1, opened)
		},
		"by hand":            func(s *site) { s.rt.SetState(sick, policy.Open) },
		"half-open, by hand": func(s *site) { s.rt.SetState(sick, policy.HalfOpen) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, nil)
				s.Break("sick.test")
				open(s)
				time.Sleep(time.Minute)
				got := s.scrape()
				require.NotContains(t, got, `circuit_trouble_timestamp_seconds{key="http://sick.test"}`)
				require.NotContains(t, got, `circuit_asked_timestamp_seconds{key="http://sick.test"}`)
				require.Equal(t, 0.0, got[spent])
				s.call("sick.test")
				time.Sleep(time.Minute)
				got = s.scrape()
				require.Contains(t, got, `circuit_trouble_timestamp_seconds{key="http://sick.test"}`)
				require.Equal(t, 60.0, got[spent])
			})
		})
	}
}

// Nothing has failed where somebody forced a circuit open, or has released it since.
func TestWhatIsForcedIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.call("well.test")
		s.rt.Force("*", policy.Open)
		look := func() {
			t.Helper()
			for range 3 {
				time.Sleep(time.Minute)
				got := s.scrape()
				require.NotContains(t, got, `circuit_trouble_timestamp_seconds{key="http://well.test"}`)
				require.Equal(t, 0.0, got[`circuit_trouble_seconds_total{key="http://well.test"}`])
			}
		}
		s.call("well.test")
		look()
		s.rt.Release("*")
		look()
	})
}

func TestWhatIsForcedIsShownAsForced(t *testing.T) {
	s := newSite(t, nil)
	s.rt.Force("http://forced.test", policy.Open)
	require.Equal(t, 1.0, s.scrape()[`overrides{state="open"}`], "before there is a circuit that it matches")
	s.call("forced.test")
	got := s.scrape()
	require.Equal(t, 1.0, got[`circuit_forced{key="http://forced.test"}`])
	require.Equal(t, 1.0, got[`refusals_total{key="http://forced.test",reason="forced open"}`])
	require.Equal(t, 1.0, got[`circuit_transitions_total{from="closed",key="http://forced.test",reason="forced",to="open"}`])

	s.rt.Release("http://forced.test")
	require.Equal(t, 0.0, s.scrape()[`circuit_forced{key="http://forced.test"}`])
}

func TestShadowCountsWhatWouldHaveBeenRefusedAndWhatBecameOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, []transport.Option{transport.WithShadow()})
		s.trip("sick.test")
		s.call("sick.test")
		s.Mend("sick.test")
		s.call("sick.test")
		s.call("sick.test")
		for range 2 { // what is read twice counts once
			got := s.scrape()
			require.Equal(t, 1.0, got[`circuit_shadow{key="http://sick.test"}`])
			require.Equal(t, 3.0, got[`shadow_refusals_total{key="http://sick.test",reason="open"}`])
			require.Equal(t, 2.0, got[`shadow_calls_total{key="http://sick.test",outcome="success"}`])
			require.Equal(t, 1.0, got[`shadow_calls_total{key="http://sick.test",outcome="failure"}`])
			require.NotContains(t, got, `refusals_total{key="http://sick.test",reason="open"}`)
		}
		s.rt.Reset("*") // the circuit forgets, the counters do not
		s.trip("sick.test")
		s.call("sick.test")
		require.Equal(t, 2.0, s.scrape()[`shadow_calls_total{key="http://sick.test",outcome="failure"}`])
		require.Equal(t, 2.0, s.scrape()[`shadow_calls_total{key="http://sick.test",outcome="success"}`])
	})
}

func TestAThrottleIsShownUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, []transport.Option{transport.WithPolicy(policy.Adaptive{})})
		s.Fill(http.StatusServiceUnavailable, "busy.test")
		for range 30 {
			s.call("busy.test")
		}
		began := time.Now()
		got := s.scrape()
		require.Equal(t, 1.0, got[`throttles_total{key="http://busy.test",reason="503"}`], "%v", got)
		require.InDelta(t, began.Unix(), got[`circuit_throttle_timestamp_seconds{key="http://busy.test"}`], 1)
		require.Equal(t, 1.0, got[`circuit_throttle_in_flight_limit_calls{key="http://busy.test"}`])
		require.Positive(t, got[`circuit_throttle_limit_calls_per_second{key="http://busy.test"}`])
		require.Positive(t, got[`refusals_total{key="http://busy.test",reason="throttled"}`])

		time.Sleep(time.Minute)
		s.call("busy.test")
		got = s.scrape()
		require.Equal(t, 1.0, got[`throttles_ended_total{key="http://busy.test",reason="calm"}`])
		require.NotContains(t, got, `circuit_throttle_timestamp_seconds{key="http://busy.test"}`)
		require.NotContains(t, got, `circuit_throttle_in_flight_limit_calls{key="http://busy.test"}`)
	})
}

func TestShadowCountsA429ApartFromGoodAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, []transport.Option{transport.WithPolicy(policy.Adaptive{}), transport.WithShadow()})
		s.Fill(http.StatusTooManyRequests, "busy.test")
		for range 100 {
			s.call("busy.test")
		}
		got := s.scrape()
		refused := got[`shadow_refusals_total{key="http://busy.test",reason="throttled"}`]
		require.Positive(t, refused)
		away := got[`shadow_calls_total{key="http://busy.test",outcome="turned away"}`]
		require.Positive(t, away)
		require.Equal(t, refused, away+got[`shadow_calls_total{key="http://busy.test",outcome="success"}`])
	})
}

func TestLocalTroubleIsShownUntilItIsOver(t *testing.T) {
	for name, end := range map[string]func(*site){
		"an upstream answers": func(s *site) {
			s.Mend("a.test")
			time.Sleep(time.Minute)
			s.call("a.test")
		},
		"by hand": func(s *site) { s.rt.Reset("*") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, nil)
				for _, host := range []string{"a.test", "b.test", "c.test"} {
					s.trip(host)
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				got := s.scrape()
				require.Equal(t, 1.0, got["local_trouble"])
				require.Equal(t, 1.0, got["local_troubles_total"])
				require.Equal(t, 3.0, got[`circuits{state="open"}`])
				end(s)
				got = s.scrape()
				require.Equal(t, 0.0, got["local_trouble"])
				require.Equal(t, 1.0, got["local_troubles_total"])
			})
		})
	}
}

func TestKeysBeyondTheBoundAreCountedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil, fuseboxprom.WithMaxKeys(10))
		for i := range 1000 { // none of which trips
			host := fmt.Sprintf("host%d.test", i)
			s.Break(host)
			s.call(host)
		}
		first := keysOf(s.scrape())
		require.Len(t, first, 5+1, "half of the places are kept, and %q is one more", "other")
		require.Contains(t, first, "other")
		for i := range 20 {
			s.trip(fmt.Sprintf("sick%d.test", i))
			time.Sleep(10 * time.Second)
		}
		got := s.scrape()
		keys := keysOf(got)
		require.Len(t, keys, 10+1)
		require.Subset(t, keys, first, "who has a place keeps it")
		for i := range 5 {
			require.Equal(t, 1.0, got[fmt.Sprintf(`circuit_state{key="http://sick%d.test",state="open"}`, i)])
		}
		require.Equal(t, 20.0, got[`circuits{state="open"}`])
		require.Equal(t, 15.0, got[`circuit_transitions_total{from="closed",key="other",reason="tripped",to="open"}`])
		require.Equal(t, 15*14.0/2*10+15*10, got[`circuit_trouble_seconds_total{key="other"}`])
		failures := 0.0
		for name, value := range got {
			if strings.HasPrefix(name, "failures_total") {
				failures += value
			}
		}
		require.Equal(t, 1000+20*3.0, failures, "nothing is lost")
		require.NotContains(t, got, `circuit_state{key="other",state="open"}`, "it is no circuit")
	})
}

func TestAFloodOfMadeUpHostsTakesNoSeriesFromRealOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil, fuseboxprom.WithMaxKeys(10))
		s.call("early.test")
		for i := range 100 {
			s.trip(fmt.Sprintf("made-up%d.test", i))
		}
		require.Len(t, keysOf(s.scrape()), 10+1)
		tried.Row(t, "100 made-up hosts that fail, with room for 10 keys, and real ones after them", "no series of their own", "series of their own", "series of their own")
		for i := range 4 {
			s.call(fmt.Sprintf("real%d.test", i))
		}
		got := s.scrape()
		for i := range 4 {
			require.Equal(t, 1.0, got[fmt.Sprintf(`circuit_state{key="http://real%d.test",state="closed"}`, i)], "with nothing told of it")
		}
		for i := range 100 {
			s.trip(fmt.Sprintf("made-up-later%d.test", i))
		}
		for i := range 10 {
			s.call(fmt.Sprintf("sick%d.test", i))
			s.trip(fmt.Sprintf("sick%d.test", i))
		}
		keys := keysOf(s.scrape())
		require.Len(t, keys, 10+1)
		for i := range 10 {
			require.Contains(t, keys, fmt.Sprintf("http://sick%d.test", i))
		}
		time.Sleep(10 * time.Second)
		require.Equal(t, 200*10.0, s.scrape()[`circuit_trouble_seconds_total{key="other"}`], "of those without a place, and those that gave theirs away")
	})
}

func TestAKeyThatWasQuietForAnHourGivesWayToOneInTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil, fuseboxprom.WithMaxKeys(2))
		s.call("sick.test") // it has answered
		s.trip("sick.test")
		s.call("well.test")
		time.Sleep(time.Second) // the one in trouble is quiet for longer
		s.trip("brief.test")
		s.rt.SetState(transport.Key{Scheme: "http", Host: "brief.test"}, policy.Closed)
		time.Sleep(59 * time.Minute)
		s.trip("early.test")
		require.Equal(t, []string{"http://brief.test", "http://sick.test", "other"}, keysOf(s.scrape()))
		time.Sleep(time.Minute)
		s.trip("late.test")
		got := s.scrape()
		require.Equal(t, []string{"http://late.test", "http://sick.test", "other"}, keysOf(got), "one in trouble never gives way")
		require.Equal(t, 3.0, got[`failures_total{class="reset",key="http://sick.test",reason=""}`], "and did not for a moment")
		require.Equal(t, 60.0, got[`circuit_trouble_seconds_total{key="other"}`], "what began there stays there")
		require.Equal(t, 1.0, got[`failures_total{class="reset",key="http://late.test",reason=""}`])
		require.Equal(t, 3.0+2+2, got[`failures_total{class="reset",key="other",reason=""}`], "before they had their places")
	})
}

func TestKeysThatLookAlikeHaveSeriesOfTheirOwn(t *testing.T) {
	keys := []transport.Key{
		{Scheme: "http", Host: "a", Detail: "x\ny"}, {Scheme: "http", Host: "a", Detail: `x\ny`},
		{Detail: "\xff"}, {Detail: `\xff`}, {}, {Detail: "other"},
	}
	s := newSite(t, nil)
	for _, k := range keys {
		s.rt.SetState(k, policy.Open)
	}
	got := s.scrape()
	for _, k := range keys[:5] {
		require.Equal(t, 1.0, got[fmt.Sprintf(`circuit_state{key=%q,state="open"}`, k.String())], "%v", k)
	}
	require.Len(t, keysOf(got), 6)
	require.Equal(t, 1.0, got[`circuit_transitions_total{from="closed",key="other",reason="by hand",to="open"}`], "which is what they are called that have none")
}

func TestTroubleOfBeforeCountsFromTheStartAndThatOfForgottenCircuitsEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, []transport.Option{transport.WithMaxCircuits(1)})
		s.registry.Unregister(s.collector)
		s.trip("sick.test")
		time.Sleep(time.Minute)
		s.collect()
		s.scrape()
		time.Sleep(time.Minute)
		require.Equal(t, 60.0, s.scrape()[`circuit_trouble_seconds_total{key="http://sick.test"}`])

		time.Sleep(2 * time.Hour) // nobody asks for it: it makes room
		s.call("well.test")
		s.call("well.test")
		_, kept := s.rt.Circuit(transport.Key{Scheme: "http", Host: "sick.test"})
		require.False(t, kept)
		until := s.scrape()[`circuit_trouble_seconds_total{key="http://sick.test"}`]
		time.Sleep(time.Hour)
		got := s.scrape()
		require.Equal(t, until, got[`circuit_trouble_seconds_total{key="http://sick.test"}`])
		require.NotContains(t, got, `circuit_state{key="http://sick.test",state="open"}`)
	})
}

// TestCountersNeverGoBackwards does what can be done to circuits, at random, with few places for them.
func TestCountersNeverGoBackwards(t *testing.T) {
	for seed := range uint64(5) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			s := newSite(t, []transport.Option{transport.WithMaxCircuits(4)}, fuseboxprom.WithMaxKeys(4))
			before := s.scrape()
			for range 100 {
				host := fmt.Sprintf("host%d.test", random.IntN(8))
				key := transport.Key{Scheme: "http", Host: host}
				if c, ok := s.rt.Circuit(key); !ok || !c.Known { // those that have never answered can lose their places
					s.Mend(host)
					s.call(host)
				}
				switch random.IntN(12) {
				case 0:
					s.trip(host)
				case 1:
					s.Mend(host)
				case 2:
					s.rt.SetState(key, policy.State(random.IntN(3)))
				case 3:
					s.rt.Force(key.String(), policy.State(random.IntN(2)))
				case 4:
					s.rt.Release(key.String())
				case 5:
					s.rt.Reset("*")
				case 6:
					s.rt.SetShadow(func(k transport.Key) bool { return len(k.Host)%2 == int(seed%2) })
				case 7:
					s.rt.SetShadow(nil)
				case 8:
					time.Sleep(time.Duration(random.Int64N(int64(2 * time.Minute))))
				default:
					s.call(host)
				}
				after := s.scrape()
				for name, value := range before {
					if strings.Contains(name, "_total") && value > 0 {
						require.Contains(t, after, name)
						require.GreaterOrEqual(t, after[name], value, name)
					}
				}
				require.LessOrEqual(t, len(keysOf(after)), 5)
				before = after
			}
		})
	}
}

func TestWhatIsToldAfterAScrapeDoesNotTurnTimeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.trip("sick.test")
		s.Mend("sick.test")
		time.Sleep(time.Minute)
		var read, after float64
		const name = `circuit_trouble_seconds_total{key="http://sick.test"}`
		stop := make(chan struct{})
		// An observer before the collector's is slow to let go of the change that ends the trouble.
		slow := transport.New(s, classic, transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) {
			if c.To == policy.Closed {
				time.Sleep(time.Second)
				read = s.scrape()[name]
			}
		}}))
		s.registry.Unregister(s.collector)
		s.rt = slow
		s.collect()
		s.trip("sick.test")
		s.Mend("sick.test")
		time.Sleep(time.Minute)
		go func() { s.call("sick.test"); close(stop) }()
		time.Sleep(500 * time.Millisecond)
		s.scrape()
		<-stop
		after = s.scrape()[name]
		require.GreaterOrEqual(t, after, read)
		require.InDelta(t, 61, after, 1)
	})
}

func TestLint(t *testing.T) { synctest.Test(t, lint) }

func lint(t *testing.T) {
	rules := policy.Classic{Failures: 3, OpenFor: time.Minute}.Rules()
	rules.Throttle = &policy.Throttle{}
	s := newSite(t, []transport.Option{transport.WithShadow(), transport.WithPolicy(rules)})
	s.trip("sick.test")
	s.call("sick.test")
	s.scrape()
	s.rt.SetShadow(nil)
	s.call("sick.test")
	s.rt.SetState(transport.Key{Scheme: "http", Host: "sick.test"}, policy.HalfOpen)
	s.call("sick.test")
	s.Fill(http.StatusServiceUnavailable, "busy.test")
	for _, last := range []bool{false, true} {
		for range 30 {
			s.call("busy.test")
		}
		if !last { // so that one is over, and one is not
			s.rt.Reset("http://busy.test")
		}
	}
	problems, err := testutil.GatherAndLint(s.registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	for _, name := range names(t) {
		count, err := testutil.GatherAndCount(s.registry, name)
		require.NoError(t, err)
		require.Positive(t, count, "%s was not looked at", name)
	}
}

// names returns the names of all metrics, by their descriptions.
func names(t *testing.T) (names []string) {
	descs := make(chan *prometheus.Desc, 100)
	fuseboxprom.NewCollector(transport.New(nil)).Describe(descs)
	close(descs)
	for d := range descs {
		_, rest, ok := strings.Cut(d.String(), `fqName: "`)
		require.True(t, ok)
		name, _, _ := strings.Cut(rest, `"`)
		names = append(names, name)
	}
	require.Len(t, names, 24)
	return names
}

func TestStopEndsTheCounting(t *testing.T) {
	s := newSite(t, nil)
	s.trip("sick.test")
	s.collector.Stop()
	s.call("sick.test")
	got := s.scrape()
	require.Equal(t, 3.0, got[`failures_total{class="reset",key="http://sick.test",reason=""}`])
	require.NotContains(t, got, `refusals_total{key="http://sick.test",reason="open"}`)
	require.Equal(t, 1.0, got[`circuit_state{key="http://sick.test",state="open"}`])
}

func TestTwoTransportsInOneRegistryAreToldApartByALabel(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	for _, name := range []string{"payments", "search"} {
		prometheus.WrapRegistererWith(prometheus.Labels{"transport": name}, registry).
			MustRegister(fuseboxprom.NewCollector(transport.New(nil)))
	}
	count, err := testutil.GatherAndCount(registry, "fusebox_circuits")
	require.NoError(t, err)
	require.Equal(t, 6, count)
}

func TestObserversCanGather(t *testing.T) {
	s := newSite(t, nil)
	var seen []float64
	s.rt.Observe(transport.Observer{OnStateChange: func(c transport.StateChange) {
		seen = append(seen, s.scrape()[`circuit_state{key="http://sick.test",state="open"}`])
	}})
	s.trip("sick.test")
	require.Equal(t, []float64{1}, seen)
}

func TestManyAtOnce(t *testing.T) {
	s := newSite(t, []transport.Option{transport.WithMaxCircuits(8)}, fuseboxprom.WithMaxKeys(4))
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for n := range 100 {
				host := fmt.Sprintf("host%d.test", (n+i)%12)
				switch n % 10 {
				case 0:
					s.Break(host)
				case 5:
					s.Mend(host)
				case 7:
					s.rt.SetState(transport.Key{Scheme: "http", Host: host}, policy.State(n%3))
				case 9:
					_, err := s.registry.Gather()
					require.NoError(s, err)
				}
				s.call(host)
			}
		})
	}
	callers.Wait()
	require.LessOrEqual(t, len(keysOf(s.scrape())), 5)
}

func TestWhatMakesNoSensePanics(t *testing.T) {
	require.PanicsWithValue(t, "fusebox/fuseboxprom: NewCollector got a nil Transport; write the one that transport.New returned",
		func() { fuseboxprom.NewCollector(nil) })
	require.PanicsWithValue(t, "fusebox/fuseboxprom: WithMaxKeys got 0; write a positive number", func() { fuseboxprom.WithMaxKeys(0) })
}

// upstream is a base that answers well, with or without a body, and makes nothing new for it.
type upstream struct{ resp *http.Response }

func (u upstream) RoundTrip(*http.Request) (*http.Response, error) {
	if body, ok := u.resp.Body.(*reader); ok {
		body.Reset(body.text)
	}
	return u.resp, nil
}

type reader struct {
	bytes.Reader
	text []byte
}

func (*reader) Close() error { return nil }

func TestAHealthyCallAllocatesNoMoreWithACollector(t *testing.T) {
	for name, resp := range map[string]func() *http.Response{
		"no body": func() *http.Response { return &http.Response{StatusCode: 200, Body: http.NoBody} },
		"body": func() *http.Response {
			return &http.Response{StatusCode: 200, ContentLength: 5, Body: &reader{text: []byte("hello")}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			allocs := func(observed bool) float64 {
				call := caller(t, resp, observed)
				return testing.AllocsPerRun(1000, call)
			}
			require.Equal(t, allocs(false), allocs(true))
		})
	}
}

// caller returns a function that makes a call to a healthy upstream and reads what it answers.
func caller(tb testing.TB, newResp func() *http.Response, observed bool) func() {
	fresh := newResp()
	resp := *fresh
	base := upstream{&resp}
	rt := transport.New(testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
		resp.Body = fresh.Body // the one of the last call was watched
		return base.RoundTrip(req)
	}))
	if observed {
		fuseboxprom.NewCollector(rt)
	}
	req, err := http.NewRequest(http.MethodGet, "http://upstream.test/", nil)
	require.NoError(tb, err)
	buffer := make([]byte, 64)
	return func() {
		resp, err := rt.RoundTrip(req)
		for err == nil {
			_, err = resp.Body.Read(buffer)
		}
		if !errors.Is(err, io.EOF) {
			panic(err)
		}
	}
}

// BenchmarkHealthyCall takes turns of a call with and without a Collector, and reports the ratio of the least times.
func BenchmarkHealthyCall(b *testing.B) {
	for name, resp := range map[string]func() *http.Response{
		"no body": func() *http.Response { return &http.Response{StatusCode: 200, Body: http.NoBody} },
		"body": func() *http.Response {
			return &http.Response{StatusCode: 200, ContentLength: 5, Body: &reader{text: []byte("hello")}}
		},
	} {
		b.Run(name, func(b *testing.B) {
			const turn = 1000
			calls := [2]func(){caller(b, resp, false), caller(b, resp, true)}
			least := [2]time.Duration{time.Hour, time.Hour}
			for b.Loop() {
				for which, call := range calls {
					start := time.Now()
					for range turn {
						call()
					}
					least[which] = min(least[which], time.Since(start))
				}
			}
			b.ReportMetric(float64(least[0].Nanoseconds())/turn, "ns/bare")
			b.ReportMetric(float64(least[1].Nanoseconds())/turn, "ns/observed")
			b.ReportMetric(float64(least[1])/float64(least[0]), "ratio")
		})
	}
}

func BenchmarkScrape(b *testing.B) {
	s := newSite(b, nil)
	for i := range 1000 {
		s.trip(fmt.Sprintf("host%d.test", i))
	}
	for b.Loop() {
		s.scrape()
	}
}
