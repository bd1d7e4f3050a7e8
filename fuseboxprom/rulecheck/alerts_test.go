package rulecheck

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fuseboxprom"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// shop is a process that calls upstreams, a Prometheus server that scrapes it, and an hour or so of virtual time.
type shop struct {
	testing.TB
	testkit.Hosts
	*scrapes
	registry *prometheus.Registry
	rt       *transport.Transport
}

func newShop(tb testing.TB, opts ...fuseboxprom.Option) *shop {
	s := &shop{TB: tb, scrapes: newScrapes(), registry: prometheus.NewPedanticRegistry()}
	rules := policy.Classic{Failures: 3, OpenFor: 10 * time.Second}.Rules()
	rules.Throttle = &policy.Throttle{}
	s.rt = transport.New(s, transport.WithPolicy(rules))
	s.registry.MustRegister(fuseboxprom.NewCollector(s.rt, opts...))
	return s
}

// run calls each host once a second, and scrapes.
func (s *shop) run(d time.Duration, hosts ...string) {
	for i := range int(d / time.Second) {
		if i%int(scrapeEvery/time.Second) == 0 {
			s.scrape(s, s.registry)
		}
		for _, host := range hosts {
			req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
			require.NoError(s, err)
			s.rt.RoundTrip(req)
		}
		time.Sleep(time.Second)
	}
}

func rules(t *testing.T) map[string]rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile("../alerts.yml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
	require.Empty(t, errs)
	all := make(map[string]rulefmt.Rule)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			all[rule.Alert] = rule
		}
	}
	return all
}

// firing returns for how long each alert fires, by its name and the key or state.
func (s *shop) firing(t *testing.T) map[string]time.Duration {
	t.Helper()
	s.done()
	firing := make(map[string]time.Duration)
	for name, rule := range rules(t) {
		for _, series := range s.at(t, rule.Expr) {
			var since, last int64
			for _, p := range series.Floats {
				if p.T-last > scrapeEvery.Milliseconds() {
					since = p.T
				}
				last = p.T
				if p.T-since >= time.Duration(rule.For).Milliseconds() {
					firing[strings.TrimSpace(name+" "+series.Metric.Get("key")+series.Metric.Get("state"))] += scrapeEvery
				}
			}
		}
	}
	return firing
}

func names(firing map[string]time.Duration) (names []string) {
	for name := range firing {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func simulate(t *testing.T, script func(*shop), opts ...fuseboxprom.Option) map[string]time.Duration {
	t.Helper()
	var s *shop
	synctest.Test(t, func(t *testing.T) {
		s = newShop(t, opts...)
		script(s)
		s.scrape(t, s.registry)
	})
	s.TB = t
	return s.firing(t)
}

func TestAllIsWellAndNothingFires(t *testing.T) {
	require.Empty(t, simulate(t, func(s *shop) {
		s.run(40*time.Minute, "a.test", "b.test", "c.test", "d.test")
	}))
}

func TestAShortOutageDoesNotFire(t *testing.T) {
	require.Empty(t, simulate(t, func(s *shop) {
		s.run(5*time.Minute, "a.test", "b.test")
		s.Break("a.test")
		s.run(4*time.Minute, "a.test", "b.test")
		s.Mend("a.test")
		s.run(30*time.Minute, "a.test", "b.test")
	}))
}

func TestAnOutageFiresAfterFiveMinutesThroughAllProbesUntilItIsOver(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.run(5*time.Minute, "a.test", "b.test")
		s.Break("a.test")
		s.run(20*time.Minute, "a.test", "b.test")
		s.Mend("a.test")
		s.run(20*time.Minute, "a.test", "b.test")
	})
	require.Equal(t, []string{"FuseboxCircuitOpen http://a.test"}, names(firing))
	require.InDelta(t, 15*time.Minute, firing["FuseboxCircuitOpen http://a.test"], float64(time.Minute))
}

// idle lets time go by in which nobody calls anything, but for one host that is well.
func (s *shop) idle(d time.Duration) {
	for range int(d / scrapeEvery) {
		s.scrape(s, s.registry)
		req, err := http.NewRequest(http.MethodGet, "http://b.test/", nil)
		require.NoError(s, err)
		s.rt.RoundTrip(req)
		time.Sleep(scrapeEvery)
	}
}

// thin calls a host once in a while, and scrapes.
func (s *shop) thin(d, every time.Duration, host string) {
	for range int(d / every) {
		s.run(time.Second, host)
		s.idle(every - scrapeEvery)
		time.Sleep(scrapeEvery - time.Second)
	}
}

func TestAnOutageThatNobodyAsksAboutAnyMoreEnds(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.run(5*time.Minute, "a.test", "b.test")
		s.Break("a.test")
		s.run(20*time.Minute, "a.test", "b.test")
		s.idle(3 * time.Hour)
	})
	require.Equal(t, []string{"FuseboxCircuitOpen http://a.test"}, names(firing))
	require.InDelta(t, 20*time.Minute, firing["FuseboxCircuitOpen http://a.test"], float64(time.Minute), "15 of them while it is asked for")
}

func TestAnOutageThatOneRequestAMinuteMeetsFiresAllTheTime(t *testing.T) {
	for _, every := range []time.Duration{time.Minute, 2 * time.Minute, 4*time.Minute + 45*time.Second} {
		firing := simulate(t, func(s *shop) {
			s.run(time.Minute, "a.test", "b.test")
			s.Break("a.test")
			s.thin(95*time.Minute, every, "a.test") // which take three to trip
		})
		require.Equal(t, []string{"FuseboxCircuitOpen http://a.test"}, names(firing), every)
		require.InDelta(t, 95*time.Minute-2*every-5*time.Minute, firing["FuseboxCircuitOpen http://a.test"], float64(2*every), every)
	}
}

func TestATripThatWasTheLastThatAnybodyAskedDoesNotFire(t *testing.T) {
	require.Empty(t, simulate(t, func(s *shop) {
		s.run(time.Minute, "a.test", "b.test")
		s.Break("a.test")
		s.run(5*time.Second, "a.test", "b.test")
		s.idle(3 * time.Hour)
	}))
}

func TestWhatWasRestoredFiresIfItIsAskedFor(t *testing.T) {
	var saved strings.Builder
	synctest.Test(t, func(t *testing.T) {
		s := newShop(t)
		s.Break("a.test")
		s.run(10*time.Minute, "a.test")
		require.NoError(t, s.rt.SaveTo(&saved))
	})
	restored := func(then func(*shop)) []string {
		return names(simulate(t, func(s *shop) {
			time.Sleep(10 * time.Minute) // each bubble begins at the same time
			opened, err := s.rt.RestoreFrom(strings.NewReader(saved.String()), 0)
			require.NoError(t, err)
			require.Equal(t, 1, opened)
			s.Break("a.test")
			then(s)
		}))
	}
	require.Empty(t, restored(func(s *shop) { s.idle(time.Hour) }))
	require.Equal(t, []string{"FuseboxCircuitOpen http://a.test"}, restored(func(s *shop) { s.run(5*time.Minute, "a.test", "b.test") }))
}

func TestAnUpstreamThatIsWellWhenItIsAskedForAgainDoesNotFire(t *testing.T) {
	require.Empty(t, simulate(t, func(s *shop) {
		s.run(time.Minute, "a.test", "b.test")
		s.Break("a.test")
		s.run(5*time.Second, "a.test", "b.test")
		s.idle(3 * time.Hour)
		s.Mend("a.test")
		s.rt.SetPolicy(policy.Classic{Failures: 3, OpenFor: 10 * time.Second, Probes: 40}) // a recovery that takes a while
		s.run(10*time.Minute, "a.test", "b.test")
	}))
}

func TestAnOutageInShadowThatNobodyAsksAboutAnyMoreEnds(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.rt.SetShadow(func(transport.Key) bool { return true })
		s.Break("a.test")
		s.run(15*time.Minute, "a.test", "b.test")
		s.idle(3 * time.Hour)
	})
	require.Equal(t, []string{"FuseboxCircuitOpenInShadow http://a.test"}, names(firing))
	require.InDelta(t, 15*time.Minute, firing["FuseboxCircuitOpenInShadow http://a.test"], float64(time.Minute))
}

func TestAnUpstreamThatDoesNotLastIsFlapping(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.run(5*time.Minute, "a.test", "b.test")
		for range 8 {
			s.Break("a.test")
			s.run(30*time.Second, "a.test", "b.test")
			s.Mend("a.test")
			s.run(90*time.Second, "a.test", "b.test")
		}
		s.run(40*time.Minute, "a.test", "b.test")
	})
	require.Equal(t, []string{"FuseboxCircuitFlapping http://a.test"}, names(firing))
	require.Less(t, firing["FuseboxCircuitFlapping http://a.test"], 35*time.Minute, "it ends")
}

func TestWhatIsForcedFiresAfterTwelveHoursAndNotAsOut(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.rt.Force("http://a.test", policy.Open)
		s.rt.Force("http://b.test", policy.Closed)
		for range 13 * 60 {
			s.run(time.Second, "a.test", "b.test", "c.test")
			time.Sleep(scrapeEvery - time.Second)
			for range 3 {
				s.scrape(s, s.registry)
				time.Sleep(scrapeEvery)
			}
		}
	})
	require.Equal(t, []string{"FuseboxCircuitForced closed", "FuseboxCircuitForced open"}, names(firing))
	require.InDelta(t, time.Hour, firing["FuseboxCircuitForced open"], float64(2*time.Minute))
}

func TestWhatIsForcedAndMatchesNothingFiresToo(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.rt.Force("http://not-yet.test", policy.Open)
		for range 13 * 60 * 60 / int(scrapeEvery/time.Second) {
			s.scrape(s, s.registry)
			time.Sleep(scrapeEvery)
		}
	})
	require.Equal(t, []string{"FuseboxCircuitForced open"}, names(firing))
}

func TestAnOutageInShadowIsNotOneOfCallersRefused(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.rt.SetShadow(func(transport.Key) bool { return true })
		s.Break("a.test")
		s.run(15*time.Minute, "a.test", "b.test")
		s.Mend("a.test")
		s.run(10*time.Minute, "a.test", "b.test")
	})
	require.Equal(t, []string{"FuseboxCircuitOpenInShadow http://a.test"}, names(firing))
}

func TestMostUpstreamsFailingTogetherFires(t *testing.T) {
	hosts := []string{"a.test", "b.test", "c.test", "d.test"}
	firing := simulate(t, func(s *shop) {
		s.run(5*time.Minute, hosts...)
		for _, host := range hosts {
			s.Break(host)
		}
		s.run(3*time.Minute, hosts...)
		s.Mend()
		s.run(10*time.Minute, hosts...)
	})
	require.Equal(t, []string{"FuseboxLocalTrouble"}, names(firing))
	require.InDelta(t, 2*time.Minute, firing["FuseboxLocalTrouble"], float64(30*time.Second))
}

func TestTroubleThatHasNoSeriesFires(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.Break("a.test", "b.test")
		s.run(30*time.Minute, "a.test", "b.test")
	}, fuseboxprom.WithMaxKeys(1))
	require.Equal(t, []string{"FuseboxCircuitOpen http://a.test", "FuseboxTroubleWithoutSeries other"}, names(firing))
}

func TestTroubleWithoutSeriesThatNobodyAsksAboutAnyMoreEnds(t *testing.T) {
	firing := simulate(t, func(s *shop) {
		s.Break("a.test", "c.test")
		s.run(30*time.Minute, "a.test", "c.test")
		s.idle(3 * time.Hour)
	}, fuseboxprom.WithMaxKeys(1))
	require.Less(t, firing["FuseboxTroubleWithoutSeries other"], 40*time.Minute)
	require.Greater(t, firing["FuseboxTroubleWithoutSeries other"], 10*time.Minute)
}

// TestCallsThatHoldRefusesFire has no upstream that falls silent, which takes many calls at once: it counts what the collector counts
// then.
func TestCallsThatHoldRefusesFire(t *testing.T) {
	for reason, want := range map[string][]string{
		"held": {"FuseboxCallsHeld http://a.test"}, "throttled": {"FuseboxCallsThrottled http://a.test"}, "open": nil,
	} {
		var s *shop
		synctest.Test(t, func(t *testing.T) {
			s = newShop(t)
			vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "fusebox_refusals_total"}, []string{"key", "reason"})
			registry := prometheus.NewRegistry()
			registry.MustRegister(vec)
			for range 4 * 20 {
				vec.WithLabelValues("http://a.test", reason).Inc()
				s.scrape(t, registry)
				time.Sleep(scrapeEvery)
			}
		})
		require.Equal(t, want, names(s.firing(t)))
	}
}

func TestEveryRuleFiresInATest(t *testing.T) {
	require.Len(t, rules(t), 8, "write a test for a new one")
}
