package fuseboxotel_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/fusebox-go/fusebox/fuseboxotel"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// site is a Transport that is observed, and upstreams that answer unless their hosts are down.
type site struct {
	testing.TB
	testkit.Hosts
	rt     *transport.Transport
	reader *metric.ManualReader
	stop   func() error
}

func newSite(tb testing.TB, opts []transport.Option, observeOpts ...fuseboxotel.Option) *site {
	s := &site{TB: tb, reader: metric.NewManualReader()}
	s.rt = transport.New(s, append([]transport.Option{transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute})}, opts...)...)
	provider := metric.NewMeterProvider(metric.WithReader(s.reader))
	stop, err := fuseboxotel.Observe(s.rt, append(observeOpts, fuseboxotel.WithMeterProvider(provider))...)
	require.NoError(tb, err)
	s.stop = stop
	return s
}

func (s *site) call(url string) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	require.NoError(s, err)
	s.rt.RoundTrip(req)
}

func (s *site) trip(host string) {
	s.Break(host)
	for range 3 {
		s.call("http://" + host + "/")
	}
}

// collect returns what is collected: values by metric and attributes.
func (s *site) collect() map[string]float64 {
	s.Helper()
	values := make(map[string]float64)
	for name, m := range s.metrics() {
		put := func(set attribute.Set, value float64) {
			if labels := set.Encoded(attribute.DefaultEncoder()); labels != "" {
				values[name+" "+labels] = value
			} else {
				values[name] = value
			}
		}
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				put(p.Attributes, float64(p.Value))
			}
		case metricdata.Sum[float64]:
			for _, p := range data.DataPoints {
				put(p.Attributes, p.Value)
			}
		case metricdata.Gauge[float64]:
			for _, p := range data.DataPoints {
				put(p.Attributes, p.Value)
			}
		default:
			require.Fail(s, "unexpected data", "%s: %T", name, data)
		}
	}
	return values
}

func (s *site) metrics() map[string]metricdata.Metrics {
	s.Helper()
	var got metricdata.ResourceMetrics
	require.NoError(s, s.reader.Collect(context.Background(), &got))
	all := make(map[string]metricdata.Metrics)
	for _, scope := range got.ScopeMetrics {
		require.Equal(s, "github.com/fusebox-go/fusebox/fuseboxotel", scope.Scope.Name)
		require.Equal(s, semconv.SchemaURL, scope.Scope.SchemaURL)
		for _, m := range scope.Metrics {
			all[m.Name] = m
		}
	}
	return all
}

func TestACircuitIsCountedFromTripToRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.trip("sick.test")
		s.call("http://sick.test/")
		time.Sleep(90 * time.Second)
		got := s.collect()
		const sick = "server.address=sick.test,server.port=80,url.scheme=http"
		require.Equal(t, 90.0, got["fusebox.circuit.trouble.duration "+sick])
		require.Equal(t, 90.0, got["fusebox.circuit.unasked.duration "+sick])
		require.Equal(t, 1.0, got["fusebox.circuit.call.limit "+sick])
		require.Equal(t, 0.0, got["fusebox.circuit.call.active "+sick])
		require.Equal(t, 1.0, got["fusebox.circuit.status fusebox.circuit.state=open,"+sick])
		s.Mend("sick.test")
		s.call("http://sick.test/")
		time.Sleep(time.Hour)

		// Everything there is, so that nothing is there unseen.
		change := "fusebox.circuit.transitions fusebox.circuit.previous=%s,fusebox.circuit.state=%s,fusebox.reason=%s," + sick
		require.Equal(t, map[string]float64{
			"fusebox.circuit.count fusebox.circuit.state=closed":             1,
			"fusebox.circuit.count fusebox.circuit.state=open":               0,
			"fusebox.circuit.count fusebox.circuit.state=half-open":          0,
			"fusebox.circuit.forced " + sick:                                 0,
			"fusebox.circuit.shadow " + sick:                                 0,
			"fusebox.circuit.status fusebox.circuit.state=closed," + sick:    1,
			"fusebox.circuit.status fusebox.circuit.state=open," + sick:      0,
			"fusebox.circuit.status fusebox.circuit.state=half-open," + sick: 0,
			"fusebox.circuit.trouble.time " + sick:                           90,
			"fusebox.circuit.trouble.time server.address=_OTHER":             0,
			"fusebox.circuit.unasked.count fusebox.circuit.state=open":       0,
			"fusebox.circuit.unasked.count fusebox.circuit.state=half-open":  0,
			"fusebox.failures error.type=reset," + sick:                      3,
			"fusebox.local_trouble.active":                                   0,
			"fusebox.local_trouble.occurrences":                              0,
			"fusebox.override.count fusebox.circuit.state=closed":            0,
			"fusebox.override.count fusebox.circuit.state=open":              0,
			"fusebox.probes fusebox.outcome=success," + sick:                 1,
			"fusebox.refusals fusebox.reason=open," + sick:                   1,
			fmt.Sprintf(change, "closed", "open", "tripped"):                 1,
			fmt.Sprintf(change, "closed", "open", "tripped by fleet"):        0,
			fmt.Sprintf(change, "open", "half-open", "answered in fleet"):    0,
			fmt.Sprintf(change, "open", "half-open", "open time passed"):     1,
			fmt.Sprintf(change, "open", "half-open", "probe succeeded"):      0,
			fmt.Sprintf(change, "half-open", "open", "recovery failed"):      0,
			fmt.Sprintf(change, "half-open", "closed", "recovered"):          1,
		}, s.collect())
	})
}

func TestTheTroubleOfWhatNobodyAsksForIsNotShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil)
		s.trip("sick.test")
		time.Sleep(24 * time.Hour)
		got := s.collect()
		const sick = "server.address=sick.test,server.port=80,url.scheme=http"
		require.NotContains(t, got, "fusebox.circuit.trouble.duration "+sick)
		require.Equal(t, 24*3600.0, got["fusebox.circuit.unasked.duration "+sick])
		require.Equal(t, 1.0, got["fusebox.circuit.unasked.count fusebox.circuit.state=open"])
		require.Equal(t, 300.0, got["fusebox.circuit.trouble.time "+sick])

		s.call("http://sick.test/")
		got = s.collect()
		require.Equal(t, 24*3600.0, got["fusebox.circuit.trouble.duration "+sick])
		require.Equal(t, 0.0, got["fusebox.circuit.unasked.duration "+sick])
		require.Equal(t, 0.0, got["fusebox.circuit.unasked.count fusebox.circuit.state=open"])
	})
}

func TestWhatIsForcedIsCountedWhateverItMatches(t *testing.T) {
	s := newSite(t, nil)
	s.rt.Force("http://not-yet.test", policy.Open)
	require.Equal(t, 1.0, s.collect()["fusebox.override.count fusebox.circuit.state=open"])
}

func TestAThrottleIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const busy = "server.address=busy.test,server.port=80,url.scheme=http"
		s := newSite(t, []transport.Option{transport.WithPolicy(policy.Adaptive{})})
		s.Fill(http.StatusServiceUnavailable, "busy.test")
		for range 20 {
			s.call("http://busy.test/")
		}
		got := s.collect()
		require.Equal(t, 1.0, got["fusebox.throttles fusebox.reason=503,"+busy], "%v", got)
		require.Equal(t, 1.0, got["fusebox.circuit.throttle.limit "+busy])
		require.Positive(t, got["fusebox.circuit.throttle.rate "+busy])
		time.Sleep(25 * time.Second)
		require.InDelta(t, 25, s.collect()["fusebox.circuit.throttle.duration "+busy], 1)
		time.Sleep(25 * time.Second)
		s.call("http://busy.test/")
		got = s.collect()
		require.Equal(t, 1.0, got["fusebox.throttles.ended fusebox.reason=calm,"+busy])
		require.NotContains(t, got, "fusebox.circuit.throttle.duration "+busy)
	})
}

func TestInstrumentsAreThoseOfTheConventions(t *testing.T) {
	synctest.Test(t, instrumentsAreThoseOfTheConventions)
}

func instrumentsAreThoseOfTheConventions(t *testing.T) {
	s := newSite(t, []transport.Option{transport.WithShadow()})
	s.rt.SetPolicy(policy.Rules{
		Trip: policy.Consecutive{Failures: 3}, Probe: policy.OpenTime{}, Recover: policy.Trial{}, Throttle: &policy.Throttle{},
	})
	s.trip("sick.test")
	s.call("http://sick.test/")
	s.collect()
	s.rt.SetShadow(nil)
	s.call("http://sick.test/")
	s.rt.SetState(transport.Key{Scheme: "http", Host: "sick.test"}, policy.HalfOpen)
	s.call("http://sick.test/")
	s.Fill(http.StatusServiceUnavailable, "busy.test")
	for _, last := range []bool{false, true} {
		for range 20 {
			s.call("http://busy.test/")
		}
		if !last { // so that one is over, and one is not
			s.rt.Reset("http://busy.test")
		}
	}
	kinds := make(map[string]string)
	for name, m := range s.metrics() {
		require.NotEmpty(t, m.Description, name)
		require.True(t, strings.HasSuffix(m.Description, "."), name)
		kind := "gauge"
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			kind = map[bool]string{true: "counter", false: "up-down counter"}[data.IsMonotonic]
		case metricdata.Sum[float64]:
			kind = map[bool]string{true: "counter", false: "up-down counter"}[data.IsMonotonic]
		}
		kinds[name] = kind + " " + m.Unit
	}
	require.Equal(t, map[string]string{
		"fusebox.circuit.status":            "up-down counter {circuit}",
		"fusebox.circuit.forced":            "up-down counter {circuit}",
		"fusebox.circuit.shadow":            "up-down counter {circuit}",
		"fusebox.circuit.count":             "up-down counter {circuit}",
		"fusebox.circuit.call.active":       "up-down counter {request}",
		"fusebox.circuit.call.limit":        "up-down counter {request}",
		"fusebox.circuit.trouble.duration":  "gauge s",
		"fusebox.circuit.trouble.time":      "counter s",
		"fusebox.circuit.unasked.duration":  "gauge s",
		"fusebox.circuit.unasked.count":     "up-down counter {circuit}",
		"fusebox.circuit.transitions":       "counter {transition}",
		"fusebox.local_trouble.active":      "up-down counter {process}",
		"fusebox.local_trouble.occurrences": "counter {occurrence}",
		"fusebox.override.count":            "up-down counter {override}",
		"fusebox.refusals":                  "counter {request}",
		"fusebox.failures":                  "counter {request}",
		"fusebox.probes":                    "counter {request}",
		"fusebox.shadow.refusals":           "counter {request}",
		"fusebox.shadow.calls":              "counter {request}",
		"fusebox.throttles":                 "counter {throttle}",
		"fusebox.throttles.ended":           "counter {throttle}",
		"fusebox.circuit.throttle.duration": "gauge s",
		"fusebox.circuit.throttle.limit":    "up-down counter {request}",
		"fusebox.circuit.throttle.rate":     "gauge {request}/s",
	}, kinds)
}

func TestAKeyIsToldByTheAttributesOfTheConventions(t *testing.T) {
	for key, want := range map[transport.Key]string{
		{Scheme: "https", Host: "example.com"}:                        "server.address=example.com,server.port=443,url.scheme=https",
		{Scheme: "http", Host: "example.com:8080"}:                    "server.address=example.com,server.port=8080,url.scheme=http",
		{Scheme: "https", Host: "[::1]"}:                              "server.address=::1,server.port=443,url.scheme=https",
		{Scheme: "https", Host: "[::1]:8443"}:                         "server.address=::1,server.port=8443,url.scheme=https",
		{Scheme: "grpc", Host: "example.com"}:                         "server.address=example.com,url.scheme=grpc",
		{Scheme: "http", Host: "example.com:web"}:                     "server.address=example.com,url.scheme=http",
		{Scheme: "https", Host: "example.com", Detail: "GET /u/{id}"}: "fusebox.detail=GET /u/{id},server.address=example.com,server.port=443,url.scheme=https",
		{Detail: "queue"}:                                             "fusebox.detail=queue",
	} {
		s := newSite(t, nil)
		s.rt.SetState(key, policy.Open)
		require.Contains(t, s.collect(), "fusebox.circuit.forced "+want)
	}
}

func TestKeysBeyondTheBoundAreCountedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, nil, fuseboxotel.WithMaxKeys(4))
		for i := range 20 {
			s.trip(fmt.Sprintf("host%d.test", i))
		}
		time.Sleep(time.Minute)
		var open, failures float64
		got := s.collect()
		for name, value := range got {
			if strings.HasPrefix(name, "fusebox.circuit.status fusebox.circuit.state=open") {
				open += value
			}
			if strings.HasPrefix(name, "fusebox.failures") {
				failures += value
			}
		}
		require.Equal(t, 4.0, open)
		require.Equal(t, 60.0, failures, "nothing is lost")
		require.Equal(t, 16*60.0, got["fusebox.circuit.trouble.time server.address=_OTHER"])
		require.Equal(t, 20.0, got["fusebox.circuit.count fusebox.circuit.state=open"])
	})
}

func TestAClassifiersReasonIsAnAttributeAndAFloodOfThemIsAFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, []transport.Option{
			transport.WithPolicy(policy.Classic{Failures: 1 << 30}),
			transport.WithClassifier(func(c *policy.Call) policy.Outcome {
				c.Reason = strings.TrimPrefix(c.Request.URL.Path, "/")
				return policy.Failure
			}),
		})
		s.call("http://shop.test/out-of-stock")
		s.call("http://shop.test/")
		for i := range 1000 {
			s.call(fmt.Sprintf("http://shop.test/made-up-%d", i))
		}
		const judged, shop = "fusebox.failures error.type=judged,", "server.address=shop.test,server.port=80,url.scheme=http"
		got, series := s.collect(), 0
		for name := range got {
			if strings.HasPrefix(name, "fusebox.failures") {
				series++
			}
		}
		require.Equal(t, 8+1, series)
		require.Equal(t, 1.0, got[judged+"fusebox.reason=out-of-stock,"+shop])
		require.Equal(t, 1000.0-6, got[judged+"fusebox.reason=other,"+shop])
		require.Equal(t, 1.0, got[judged+"fusebox.reason=status 204,"+shop], "judged without a word")
	})
}

func TestStopEndsTheObserving(t *testing.T) {
	s := newSite(t, nil)
	s.trip("sick.test")
	require.NotEmpty(t, s.collect())
	require.NoError(t, s.stop())
	require.Empty(t, s.collect())
}

func TestWhatMakesNoSensePanics(t *testing.T) {
	require.PanicsWithValue(t, "fusebox/fuseboxotel: Observe got a nil Transport; write the one that transport.New returned", func() { fuseboxotel.Observe(nil) })
	require.PanicsWithValue(t, "fusebox/fuseboxotel: WithMaxKeys got -1; write a positive number", func() { fuseboxotel.WithMaxKeys(-1) })
	require.PanicsWithValue(t, "fusebox/fuseboxotel: WithMeterProvider got nil; leave it out for the global one", func() { fuseboxotel.WithMeterProvider(nil) })
}

func TestAHealthyCallAllocatesNothing(t *testing.T) {
	s := newSite(t, []transport.Option{fuseboxotel.WithTracing()})
	req, err := http.NewRequest(http.MethodGet, "http://well.test/", nil)
	require.NoError(t, err)
	base := testing.AllocsPerRun(1000, func() { s.RoundTrip(req) })
	require.Equal(t, base, testing.AllocsPerRun(1000, func() { s.rt.RoundTrip(req) }))
}
