package main

import (
	"errors"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
	"github.com/fusebox-go/fusebox/internal/testkit"
)

func scenarioNamed(t *testing.T, name string) scenario {
	t.Helper()
	all := scenarios()
	i := slices.IndexFunc(all, func(sc scenario) bool { return sc.name == name })
	if i < 0 {
		t.Fatalf("no scenario %q", name)
	}
	return all[i]
}

func worldNamed(t *testing.T, name string) world {
	sc := scenarioNamed(t, name)
	return sc.world(1, 1)
}

func refuseAll(http.RoundTripper) http.RoundTripper {
	return peer.RoundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("refused") })
}

func TestSameSeedGivesSameResult(t *testing.T) {
	for _, name := range []string{"outage-10s", "black-hole-low", "cancel-black-hole", "cold-restart", "stuck-probe"} {
		for _, s := range subjects() {
			if s.dice {
				continue
			}
			t.Run(name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				w := worldNamed(t, name)
				one := simulate(t, w, w.arrivals(), s)
				two := simulate(t, w, w.arrivals(), s)
				if !reflect.DeepEqual(one.results, two.results) {
					t.Error("results differ between two runs of one seed")
				}
				if one.calls.wasted() != two.calls.wasted() {
					t.Errorf("wasted %d calls, then %d", one.calls.wasted(), two.calls.wasted())
				}
			})
		}
	}
}

func TestEverySubjectMeetsTheSameArrivalsAndCoins(t *testing.T) {
	w := worldNamed(t, "fleet-10m")
	w.trouble, w.end, w.over = 0, 0, time.Minute
	type meeting struct {
		at   time.Duration
		coin coin
	}
	meetings := func(then func(http.RoundTripper) http.RoundTripper) []meeting {
		var mu sync.Mutex
		var all []meeting
		simulate(t, w, w.arrivals(), subject{new: func(base http.RoundTripper) http.RoundTripper {
			next := then(base)
			return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
				mu.Lock()
				all = append(all, meeting{base.(*wire).clock.now(), tryOf(req.Context()).coin})
				mu.Unlock()
				return next.RoundTrip(req)
			})
		}})
		return all
	}
	through := meetings(func(base http.RoundTripper) http.RoundTripper { return base })
	refused := meetings(refuseAll)
	if len(through) == 0 || !slices.Equal(through, refused) {
		t.Errorf("%d meetings of a subject that lets all through, %d of one that refuses all, not the same", len(through), len(refused))
	}
}

func TestSeedsDiffer(t *testing.T) {
	sc := scenarioNamed(t, "outage-10s")
	if slices.Equal(sc.world(1, 1).arrivals(), sc.world(2, 1).arrivals()) {
		t.Error("seeds 1 and 2 make the same arrivals")
	}
}

// The oracle is optimal where upstreams fail by the clock. What is left is chance: a share of failures is not a promise.
func TestOracleIsNotBeatenByItsOwnMeasure(t *testing.T) {
	const noise = 0.5
	queues := []string{"metastable", "metastable-fleet", "overload", "overload-fleet", "cold-restart", "cold-restart-fleet"}
	all := subjects()
	try := testkit.OneIn(6)
	for _, sc := range scenarios() {
		if slices.Contains(queues, sc.name) || sc.name == "outage-10m" || sc.name == "fleet-10m" {
			continue
		}
		if !try() {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			t.Parallel()
			w := sc.world(1, 0.5)
			arrivals := w.arrivals()
			worth := func(s subject) float64 {
				tr := simulate(t, w, arrivals, s)
				return 100 * (float64(tr.count(outcomeGood)) - float64(tr.calls.wasted())/2) / float64(len(arrivals))
			}
			best := worth(all[0])
			for _, s := range all[1:] {
				if got := worth(s); got > best+noise {
					t.Errorf("%s is worth %.2f, the oracle %.2f", s.name, got, best)
				}
			}
		})
	}
}

func TestRegretOfRefusingEverythingIsAllThatTheOracleGot(t *testing.T) {
	w := worldNamed(t, "outage-10s")
	arrivals := w.arrivals()
	oracle := simulate(t, w, arrivals, subjects()[0])
	refusing := simulate(t, w, arrivals, subject{new: refuseAll})
	m := w.measure(refusing, oracle)

	share := 100 * float64(oracle.count(outcomeGood)) / float64(len(arrivals))
	if m.Regret != share || m.Lost != share || m.Wasted != 0 || m.Refused != 100 || m.Recover != -1 {
		t.Errorf("got %+v, want a regret of %.3f, all of it good answers lost", m, share)
	}
	up := 1 - float64(w.end-w.begin)/float64(w.over)
	if share < 100*up-3 || share > 100*up+3 {
		t.Errorf("the oracle got %.1f %%, the upstream was up for %.1f %%", share, 100*up)
	}
	if none := w.measure(oracle, oracle); none.Regret != 0 {
		t.Errorf("the oracle's regret is %.3f", none.Regret)
	}
}

func TestEveryBreakerOpensInAnOutage(t *testing.T) {
	w := worldNamed(t, "outage-1m")
	arrivals := w.arrivals()
	for _, s := range subjects() {
		if s.role == roleBound {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			tr := simulate(t, w, arrivals, s)
			if m := w.measure(tr, tr); m.Open < 0 || m.Open > 15 {
				t.Errorf("opened after %.1f s, want at most 15", m.Open)
			}
		})
	}
}

func TestNoSubjectOpensOnAHealthyUpstreamButByItsDefaults(t *testing.T) {
	w := worldNamed(t, "healthy-0.1-high")
	arrivals := w.arrivals()
	twitchy := []string{
		"failsafe", // opens at one failure
		"hystrix",  // allows ten calls at a time
		"limit-10",
		"envoy-adaptive", // allows three at a time to measure
		"vegas",          // takes the spread of latencies for a queue
	}
	for _, s := range subjects() {
		if slices.Contains(twitchy, s.name) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			tr := simulate(t, w, arrivals, s)
			if n := tr.count(outcomeRefused); n > 0 {
				t.Errorf("refused %d of %d", n, len(arrivals))
			}
		})
	}
}
