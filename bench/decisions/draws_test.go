package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func parsed(t *testing.T, args ...string) *options {
	t.Helper()
	o, err := parse(append(args, "-looks", filepath.Join(t.TempDir(), "looks.txt")), flag.ContinueOnError)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDrawsArePrintedAndDrawn(t *testing.T) {
	folder := t.TempDir()
	o := parsed(t, "-families", "2", "-family", "^(outage|overload)$", "-subject", "^(fusebox|gobreaker-tuned|limit-10)$", "-out", folder)
	var out bytes.Buffer
	if err := o.run(t, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2 families, 2 draws of each, of the set to tune", "gobreaker-tuned", "overload 10001:", "of the best peer", "chosen afterwards"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if _, err := os.Stat(o.looks); !errors.Is(err, os.ErrNotExist) {
		t.Error("a run on the set to tune on is logged")
	}
	picture, err := os.ReadFile(filepath.Join(folder, "families.svg"))
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(bytes.NewReader(picture))
	for err == nil {
		_, err = d.Token()
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the picture: %v", err)
	}
	if n := bytes.Count(picture, []byte("<circle")); n != 4 {
		t.Errorf("%d points, want 4", n)
	}

	out.Reset()
	if err := o.draws.json(&out); err != nil {
		t.Fatal(err)
	}
	var all struct {
		Draws []struct {
			Seed    uint64
			Regrets map[string]float64
		}
	}
	if err := json.Unmarshal(out.Bytes(), &all); err != nil || len(all.Draws) != 4 || len(all.Draws[0].Regrets) != 4 {
		t.Errorf("JSON: %v, %+v", err, all)
	}

	file := filepath.Join(folder, "draws.json")
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	var again, before bytes.Buffer
	o.draws.report(&before, grid.text)
	if err := parsed(t, "-from", file, "-out", "").run(t, &again, io.Discard); err != nil || again.String() != before.String() {
		t.Errorf("read from its JSON, %v, the report is\n%s", err, again.String())
	}
}

func TestALookIsLogged(t *testing.T) {
	o := parsed(t, "-families", "1", "-family", "^outage$", "-subject", "^(fusebox|gobreaker)$", "-set", "look", "-out", "")
	for range 2 {
		if err := o.run(t, io.Discard, io.Discard); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.ReadFile(o.looks)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), " look: 1 families, 1 draws of each, fusebox "); n != 2 {
		t.Errorf("two looks are logged as\n%s", log)
	}
}

func TestParseRefusesNonsenseOfFamilies(t *testing.T) {
	for _, args := range [][]string{
		{"-families", "2", "-family", "nowhere"}, {"-families", "2", "-family", "("}, {"-families", "-1"},
		{"-families", "2", "-set", "mine"}, {"-draw", "x"},
	} {
		if _, err := parse(args, flag.ContinueOnError); err == nil {
			t.Errorf("no error for %q", args)
		}
	}
}

func TestSetsOfSeedsHaveNoneInCommon(t *testing.T) {
	seen := map[uint64]string{}
	for set := range sets {
		ds := draws{set: set}
		if err := ds.choose(1000, "^outage$", ""); err != nil {
			t.Fatal(err)
		}
		for _, seed := range ds.seeds {
			if other := seen[seed]; other != "" {
				t.Fatalf("%d is in %s and in %s", seed, other, set)
			}
			seen[seed] = set
		}
	}
}

// made returns draws of one family in which the first subject has certain regrets and the second twice these.
func made(regrets ...float64) *draws {
	ds := &draws{
		families: []family{{name: "made"}}, seeds: make([]uint64, len(regrets)),
		subjects: []subject{{name: "fusebox", role: roleOwn}, {name: "limit-10"}}, runs: [][]run{nil},
	}
	for _, r := range regrets {
		ds.runs[0] = append(ds.runs[0], run{measures: []measure{{Regret: r}, {Regret: 2 * r}}})
	}
	return ds
}

func TestWhatHasChangedIsToldByTheSameDraws(t *testing.T) {
	f := familyNamed(t, "outage")
	draws := func(subjects []subject, regrets ...float64) *draws {
		ds := made(regrets...)
		ds.families, ds.subjects = []family{f}, subjects
		for i := range ds.runs[0] {
			ds.seeds[i] = uint64(i)
			ds.runs[0][i].draw = draw{family: f.name, seed: uint64(i)}
			ds.runs[0][i].measures = ds.runs[0][i].measures[:1]
		}
		return ds
	}
	own := []subject{{name: "fusebox", role: roleOwn}}
	var was bytes.Buffer
	if err := draws(own, 5, 1, 30).json(&was); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "before.json")
	if err := os.WriteFile(file, was.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ds := draws(own, 3, -1, 28)
	if err := ds.compareWith(file); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ds.report(&out, grid.text)
	if want := "outage   12.00  10.00   -2.00  [-2.00, -2.00]"; !strings.Contains(out.String(), want) {
		t.Errorf("the report lacks %q:\n%s", want, out.String())
	}
	if err := draws(own, 1, 1, 1, 1).compareWith(file); err == nil {
		t.Error("no error for a draw that the earlier run has not")
	}
}

func TestTheSpreadIsThatOfTheDraws(t *testing.T) {
	if in := made(3, 3, 3).spread(0, 0, first); in != (interval{3, 3}) {
		t.Errorf("equal draws are spread over %v", in)
	}
	ds := made(0, 0, 0, 0, 0, 0, 0, 0, 0, 10)
	if in := ds.spread(0, 0, first); in.low != 0 || in.high < 2 || in.high > 4 {
		t.Errorf("one draw of ten is 10, the rest 0: %v", in)
	}
	if in := made(1, 2, 3, 4).spread(0, 1, ratio); in != (interval{0.5, 0.5}) {
		t.Errorf("the ratio of what is always half is spread over %v, so that the two do not meet the same draws", in)
	}
	if best := ds.bestPeer(0); best != 1 {
		t.Errorf("the best peer is number %d, want the only one", best)
	}
	if mean := made(1, 2, 6).afterwards(0); mean != 6 {
		t.Errorf("the only peer, chosen for each draw, has %v, want its mean", mean)
	}
	ds = made(2, 2, 10) // a peer has twice as much
	ds.subjects = append(ds.subjects, subject{name: "other", role: rolePeer})
	for i, regret := range []float64{0, 5, 12} {
		r := &ds.runs[0][i]
		r.measures = append(r.measures[:2:2], measure{Regret: regret})
	}
	if mean := ds.afterwards(0); mean != (0+4+12)/3.0 {
		t.Errorf("of two peers the better one of each draw has %v in the mean", mean)
	}
}

// answering is an upstream that takes a while, and fails if told so.
type answering struct {
	takes time.Duration
	fault fault
}

func (a *answering) serves(time.Duration, *try) bool { return true }
func (a *answering) take(time.Duration, *try) fate   { return fate{after: a.takes, fault: a.fault} }

// calls makes calls one after the other, each some time after the last has ended, and returns how many reached the upstream.
func (w *wire) calls(t *testing.T, n int, apart time.Duration, next func(*try) bool) int {
	t.Helper()
	before := len(w.log.calls)
	for range n {
		next(&try{route: front, reached: make(chan struct{}, 1)})
		time.Sleep(apart)
	}
	return len(w.log.calls) - before
}

func TestTheModelOfOutlierDetectionEjectsForLongerEachTime(t *testing.T) {
	bubble(t, false, func() {
		up := &answering{takes: time.Millisecond, fault: fault503}
		w := &wire{upstream: up, clock: &clock{time.Now()}, log: &callLog{}}
		o := (&outlier{interval: time.Second, base: 5 * time.Second, longest: 30 * time.Second}).around(w)
		call := func(try *try) bool { return world{}.try(context.Background(), try, o) }
		if n := w.calls(t, 8, time.Millisecond, call); n != 5 {
			t.Errorf("%d calls until it is ejected, want 5", n)
		}
		time.Sleep(4 * time.Second)
		if n := w.calls(t, 1, 0, call); n != 0 {
			t.Error("called after four seconds of five")
		}
		time.Sleep(2200 * time.Millisecond)
		if n := w.calls(t, 8, time.Millisecond, call); n != 5 {
			t.Errorf("%d calls until it is ejected again, want 5", n)
		}
		time.Sleep(8 * time.Second)
		if n := w.calls(t, 1, 0, call); n != 0 {
			t.Error("called after eight seconds of the second ejection's ten")
		}
		up.fault = faultNone
		time.Sleep(4 * time.Second)
		if n := w.calls(t, 8, time.Millisecond, call); n != 8 {
			t.Errorf("%d of 8 calls came through when all is well", n)
		}
		time.Sleep(time.Minute)
		up.fault = fault503
		w.calls(t, 5, time.Millisecond, call)
		time.Sleep(7 * time.Second)
		if n := w.calls(t, 1, 0, call); n != 1 {
			t.Error("a minute without does not forgive two ejections")
		}
	})
}

func TestTheModelOfAdaptiveConcurrencyFollowsLatency(t *testing.T) {
	bubble(t, false, func() {
		up := &answering{takes: 10 * time.Millisecond}
		w := &wire{upstream: up, clock: &clock{time.Now()}, log: &callLog{}}
		g := newGradient()
		rt := g.around(w)
		call := func(try *try) bool { return world{}.try(context.Background(), try, rt) }
		w.calls(t, gradientSamples, 0, call)
		if g.measuring || g.least != 10*time.Millisecond {
			t.Fatalf("after %d calls the minimum is %v, measuring: %v", gradientSamples, g.least, g.measuring)
		}
		w.calls(t, 100, 0, call)
		grown := g.limit
		if grown <= 10*gradientLeast {
			t.Errorf("the limit is %d after a second of quick answers", grown)
		}
		up.takes = 100 * time.Millisecond
		w.calls(t, 20, 0, call)
		if g.limit >= grown/10 {
			t.Errorf("the limit is %d of %d after two seconds of answers that take ten times as long", g.limit, grown)
		}
		time.Sleep(gradientMeasure)
		w.calls(t, 2, 0, call)
		if !g.measuring || g.limit != gradientLeast {
			t.Errorf("after a minute it does not measure the minimum: limit %d", g.limit)
		}
	})
}

func TestALimitLetsThatManyThroughAtATime(t *testing.T) {
	bubble(t, false, func() {
		w := &wire{upstream: &answering{takes: time.Second}, clock: &clock{time.Now()}, log: &callLog{}}
		rt := limited(w, 3)
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() {
				world{}.try(context.Background(), &try{route: front, reached: make(chan struct{}, 1)}, rt)
			})
		}
		calls.Wait()
		if n := len(w.log.calls); n != 3 {
			t.Errorf("%d of 5 calls at once came through a limit of 3", n)
		}
		call := func(try *try) bool { return world{}.try(context.Background(), try, rt) }
		if n := w.calls(t, 2, 0, call); n != 2 {
			t.Errorf("%d of 2 calls one after the other came through", n)
		}
	})
}
