package main

import (
	"io"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func familyNamed(t *testing.T, name string) family {
	t.Helper()
	for _, f := range families() {
		if f.name == name {
			return f
		}
	}
	t.Fatalf("no family %q", name)
	return family{}
}

func (d draw) play() (world, []arrival) {
	w := d.world(d.seed, 1)
	return w, w.arrivals()
}

func TestADrawIsItsSeed(t *testing.T) {
	for _, f := range families() {
		one, again, other := f.drawn(1), f.drawn(1), f.drawn(2)
		w, arrivals := one.play()
		_, same := again.play()
		_, another := other.play()
		if one.about != again.about || !reflect.DeepEqual(arrivals, same) {
			t.Errorf("%s: seed 1 makes two scenarios", f.name)
		}
		if one.about == other.about || reflect.DeepEqual(arrivals, another) {
			t.Errorf("%s: seeds 1 and 2 make one scenario", f.name)
		}
		none := subjects()[1]
		if a, b := simulate(t, w, arrivals, none), simulate(t, w, same, none); !reflect.DeepEqual(a.results, b.results) {
			t.Errorf("%s: results differ between two runs of one draw", f.name)
		}
	}
}

func TestADrawIsNeitherSoSmallThatOneRequestTellsNorSoLargeThatItTakesLong(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 5
	}
	for _, f := range families() {
		for seed := range seeds {
			d := f.drawn(seed)
			w, arrivals := d.play()
			if n := len(arrivals); n < 80 || n > 12_000 {
				t.Errorf("%s %d has %d requests: %s", f.name, seed, n, d.about)
			}
			if w.lead <= 0 || w.begin >= w.end || w.end >= w.over {
				t.Errorf("%s %d: trouble from %v to %v of %v", f.name, seed, w.begin, w.end, w.over)
			}
			if queue := slices.Contains([]string{"overload", "stall", "cold", "crash"}, f.name); queue != (d.suits > 0) {
				t.Errorf("%s %d: %d calls in flight suit it", f.name, seed, d.suits)
			}
			if strings.Contains(d.about, "!") || strings.Contains(d.about, "e+") {
				t.Errorf("%s %d is described as %q", f.name, seed, d.about)
			}
		}
	}
}

func TestWhereNothingIsWrongNobodyRegretsToHaveNoBreaker(t *testing.T) {
	for _, name := range []string{"healthy", "long", "seconds"} {
		f := familyNamed(t, name)
		for seed := range uint64(3) {
			r := run{draw: f.drawn(seed)}
			r.play(t, subjects()[:2])
			if none := r.measures[1]; none.Regret > 0 {
				t.Errorf("%s %d: without a breaker the regret is %.2f: %s", name, seed, none.Regret, r.about)
			}
		}
	}
}

func TestRefusingEverythingIsWrongWhereverTheOracleCalls(t *testing.T) {
	r := run{draw: familyNamed(t, "healthy").drawn(1)}
	r.play(t, []subject{subjects()[0], {new: refuseAll}})
	if m := r.measures[1]; m.Wrongly < 99.9 || m.Wrongly > 100.1 {
		t.Errorf("%.1f %% of refusals were wrong, want all", m.Wrongly)
	}
	r = run{draw: familyNamed(t, "outage").drawn(1)}
	r.play(t, subjects()[:1])
	if m := r.measures[0]; m.Refused == 0 || m.Wrongly > 0 {
		t.Errorf("in an outage the oracle refused %.1f %%, and %.1f %% wrongly", m.Refused, m.Wrongly)
	}
}

func TestOnlyTheDeadPartFails(t *testing.T) {
	for _, name := range []string{"paths", "urls"} {
		for seed := range uint64(8) {
			d := familyNamed(t, name).drawn(seed)
			w, arrivals := d.play()
			s := w.upstream(w).(*script)
			if s.part == nil {
				continue // all of it fails, or nothing does
			}
			now := (w.begin + w.end) / 2
			dead, paths := 0, map[string]bool{}
			for _, a := range arrivals {
				share := s.part(now, a.route)
				if share >= 0.7 {
					dead++
					paths[a.route.path] = true
				} else if share > 0.01 {
					t.Errorf("%s %d: %.2f of calls to %s fail", name, seed, share, a.route.path)
				}
				if name == "urls" && share >= 0.7 != (a.route.part == deadPart) {
					t.Errorf("urls %d: %.2f of calls to part %d fail, %s", seed, share, a.route.part, a.route.path)
				}
				if got := s.part(0, a.route); got > 0.01 {
					t.Errorf("%s %d: %.2f of calls to %s fail before the trouble", name, seed, got, a.route.path)
				}
			}
			if name == "paths" && len(paths) > 4 {
				t.Errorf("paths %d: %d of ten paths are dead", seed, len(paths))
			}
			if dead == 0 || dead == len(arrivals) {
				t.Errorf("%s %d: %d of %d requests are to what is dead: %s", name, seed, dead, len(arrivals), d.about)
			}
		}
	}
}

func TestURLsAreOfTheirTemplates(t *testing.T) {
	for seed := range uint64(50) {
		u := newURLs(newDice(seed, "urls"))
		for n := range uint64(100) {
			r := u.route(newCoin(seed, "urls").with(n))
			if !strings.HasPrefix(r.path, "/") || strings.Contains(r.path, "//") || r.method == "" {
				t.Errorf("seed %d: %s %q", seed, r.method, r.path)
			}
			if again := u.route(newCoin(seed, "urls").with(n)); again != r {
				t.Errorf("seed %d: one coin gives %q and %q", seed, r.path, again.path)
			}
		}
	}
}

func TestEveryKindOfIDIsOfItsForm(t *testing.T) {
	for k := range ids {
		one, other := k.of(newCoin(1, "id")), k.of(newCoin(2, "id"))
		if one == "" || one == other || one != k.of(newCoin(1, "id")) || strings.ContainsAny(one, "/ ") {
			t.Errorf("kind %d: %q and %q", k, one, other)
		}
	}
	if got := idUUID.of(0); len(got) != 36 || strings.Count(got, "-") != 4 {
		t.Errorf("a UUID is %q", got)
	}
}

func TestLatenciesAreAsLongAsTheySay(t *testing.T) {
	l := latencies{median: 100 * time.Millisecond, sigma: 0.5, tail: 0.01, alpha: 1.5}
	c := newCoin(1, "latency")
	const n = 20_000
	var above, beyond, far int
	for i := range uint64(n) {
		took := l.of(c.with(i))
		if took > l.median {
			above++
		}
		if took > 250*time.Millisecond {
			beyond++
		}
		if took > 2*time.Second {
			far++
		}
	}
	if share := float64(above) / n; math.Abs(share-0.5) > 0.02 {
		t.Errorf("%.3f are above the median", share)
	}
	if share, want := float64(beyond)/n, l.beyond(float64(250*time.Millisecond)); math.Abs(share-want) > 0.01 {
		t.Errorf("%.3f take more than 250 ms, the rule says %.3f", share, want)
	}
	if far == 0 || far > n/200 {
		t.Errorf("%d of %d take more than twenty times the median, by a tail of a percent", far, n)
	}
}

func TestARateLimitServesWhatItAllows(t *testing.T) {
	const s = time.Second
	for _, test := range []struct {
		name   string
		limits limits
		calls  []time.Duration
		served int
		wait   time.Duration // that the last call is told
	}{
		{"a bucket", limits{rate: 2, burst: 3, says: true}, []time.Duration{0, 0, 0, 0}, 3, s / 2},
		{"a bucket that fills", limits{rate: 2, burst: 3}, []time.Duration{0, 0, 0, s, s, s}, 5, 0},
		{"a window", limits{rate: 2, window: 10 * s, says: true}, []time.Duration{0, 0, 0, 0, 0, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, 2 * s}, 20, 8 * s},
		{"the next window", limits{rate: 0.2, window: 10 * s}, []time.Duration{0, s, 2 * s, 11 * s}, 3, 0},
	} {
		limit := newRateLimit(test.limits)
		served, wait := 0, time.Duration(0)
		for n, at := range test.calls {
			try := &try{coin: newCoin(1, "limit").with(uint64(n))}
			serves := limit.serves(at, try)
			f := limit.take(at, try)
			if f.fault == faultNone {
				served++
			}
			if serves != (f.fault == faultNone) || f.hopeless != (f.fault == fault429) {
				t.Errorf("%s, call %d: would be served: %v, was met by %v, hopeless: %v", test.name, n, serves, f.fault, f.hopeless)
			}
			wait = f.retryAfter
		}
		if served != test.served || wait != test.wait {
			t.Errorf("%s: served %d and said to wait %v, want %d and %v", test.name, served, wait, test.served, test.wait)
		}
	}
}

func TestAQueueThatStallsServesLaterWhatItServed(t *testing.T) {
	bubble(t, false, func() {
		q := (&queue{service: service{servers: 2, room: 10}}).warm()
		q.stall(time.Second, 5*time.Second)
		time.Sleep(2 * time.Second)
		f := q.take(2*time.Second, &try{coin: newCoin(1, "stall"), patience: 10 * time.Second})
		if f.fault != faultNone || f.hopeless || f.after < 4*time.Second || f.after > 5*time.Second {
			t.Errorf("a second after the beginning of a stall of five: %+v", f)
		}
	})
}

func TestAStreamLastsUntilItsEndOrItsCallers(t *testing.T) {
	bubble(t, false, func() {
		req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		resp, err := answer(req, faultNone, 0, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if took := time.Since(begun); err != nil || len(got) != len(page) || took != 20*time.Second {
			t.Errorf("%d bytes in %v, %v", len(got), took, err)
		}
	})
}

func TestNetHasNoStepWhereTwoOfThreeFail(t *testing.T) {
	for _, share := range []float64{0.64, 0.69} {
		sc := scenario{name: "net", clients: 1, rate: 50, lead: time.Second, trouble: time.Minute, tail: time.Second, patience: patience}
		sc.upstream = failing(latencies{}, background, fault503, steadily(share))
		r := run{draw: draw{"net", 1, sc}}
		r.play(t, subjects()[:2])
		none := r.measures[1]
		if step := none.Regret > 40; step != (share > 2.0/3) || none.Net > 6 {
			t.Errorf("at %.0f %%: regret %.1f, net %.1f", 100*share, none.Regret, none.Net)
		}
	}
}

// The oracle knows shares and not what they come to, and plans nothing before a queue. More than that nobody should find.
func TestInNoFamilyIsTheOracleBeatenByMuch(t *testing.T) {
	const noise = 2
	var some []subject
	for _, s := range subjects() {
		if slices.Contains([]string{"oracle", "none", "fusebox", "limit-fits", "failsafe-limiter"}, s.name) {
			some = append(some, s)
		}
	}
	worth := func(m measure) float64 { return m.Good - m.Wasted/2 }
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	for _, f := range families() {
		for seed := range seeds {
			r := run{draw: f.drawn(seed)}
			r.play(t, some)
			for i, m := range r.measures {
				if by := worth(m) - worth(r.measures[0]); by > noise {
					t.Errorf("%s %d: %s is worth %.1f more than the oracle: %s", f.name, seed, some[i].name, by, r.about)
				}
			}
		}
	}
}
