package main

import (
	"bytes"
	"flag"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// setBenchtime makes measurements as short as they can be.
func setBenchtime(t *testing.T) {
	before := flag.Lookup("test.benchtime").Value.String()
	t.Cleanup(func() { flag.Set("test.benchtime", before) })
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		t.Fatal(err)
	}
}

func TestEveryCaseMeasuresEverySubject(t *testing.T) {
	setBenchtime(t)
	for _, c := range cases() {
		if strings.HasSuffix(c.name, "-100000") {
			continue // it takes seconds, and that of 1000 is the same
		}
		t.Run(c.name, func(t *testing.T) {
			o := options{rounds: 1, subjects: subjects()}
			results, err := o.measure(c, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			want := 1
			for _, s := range subjects() {
				if c.takes(s) {
					want++
				}
			}
			if len(results) != want || results[0].subject.name != bare.name {
				t.Errorf("%d results for %d subjects, the first being %s", len(results), want, results[0].subject.name)
			}
		})
	}
}

func TestCaseThatFailsSaysWhoAndWhy(t *testing.T) {
	setBenchtime(t)
	never := subject{name: "never", new: bare.new}
	o := options{rounds: 1, subjects: []subject{never}}
	for _, c := range cases() {
		if c.name != "refusal" {
			continue
		}
		if _, err := o.measure(c, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "never in case refusal: not open") {
			t.Errorf("got error %v", err)
		}
	}
}

func TestReport(t *testing.T) {
	results := []result{
		{subject: bare, ns: 5},
		{subject: subject{name: "fusebox", own: true, perHost: true}, ns: 55, over: 50, allocs: -0.2, bytes: 16},
		{subject: subject{name: "single"}, ns: 105, over: 100},
		{subject: subject{name: "peer", perHost: true}, ns: 205, over: 200, allocs: 2},
	}
	var out bytes.Buffer
	report(&out, testCase{name: "serial"}, results)
	for _, want := range []string{
		"takes 5.0 ns",
		"| fusebox | 50 | 0.25 | 0 | 16 |",
		"| single | 100 | 0.50 | 0 | 0 |",
		"| peer | 200 | 1.00 | 2 | 0 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
}

func TestTailsAndPairsAreMeasured(t *testing.T) {
	got := tailOf(bare, 10)
	if got.median <= 0 || got.median > got.p99 || got.p99 > got.p999 {
		t.Errorf("got %+v", got)
	}
	o := options{rounds: 1, benchtime: time.Millisecond}
	var out bytes.Buffer
	if err := o.reportPaired(&out); err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?s)\n\| HTTP/1.1 \| fusebox \| 50 \|.*\n\| HTTP/2 \| fusebox \| 50 \|`).MatchString(out.String()) {
		t.Errorf("got\n%s", &out)
	}
}

func TestTheIntervalOfAMedian(t *testing.T) {
	var values []float64
	for i := range 101 {
		values = append(values, float64(i))
	}
	if low, high := medianInterval(values); low != 40 || high != 61 { // 50.5 ± 1.96·√101/2
		t.Errorf("the median of 0 to 100 is between %v and %v", low, high)
	}
	if low, high := medianInterval([]float64{7}); low != 7 || high != 7 {
		t.Errorf("that of one value is between %v and %v", low, high)
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{9, 1, 2, 4}, 3},
	} {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}

func TestTheLeastOfTheRounds(t *testing.T) {
	setBenchtime(t)
	slow := false
	s := subject{name: "sometimes", new: func(base http.RoundTripper) http.RoundTripper {
		return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
			if slow = !slow; slow {
				for began := time.Now(); time.Since(began) < 20*time.Millisecond; {
				}
			}
			return base.RoundTrip(req)
		})
	}}
	o := options{rounds: 6, least: true, subjects: []subject{s}}
	results, err := o.measure(cases()[0], io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := results[1]; got.ns > 1e7 || got.over != got.ns-results[0].ns {
		t.Errorf("got %v ns, %v over the base's %v", got.ns, got.over, results[0].ns)
	}
}

func TestParse(t *testing.T) {
	o, err := parse([]string{"-rounds", "3", "-case", "^serial$", "-subject", "^fusebox$"}, flag.ContinueOnError)
	if err != nil {
		t.Fatal(err)
	}
	if o.rounds != 3 || len(o.cases) != 1 || len(o.subjects) != 1 || o.floors {
		t.Errorf("got %d rounds, %d cases, %d subjects, floors %v", o.rounds, len(o.cases), len(o.subjects), o.floors)
	}
	for args, want := range map[string]string{
		"-rounds=0":      "positive number",
		"-benchtime=-1s": "positive time",
		"-case=none":     "no case",
		"-subject=none":  "no subject",
	} {
		if _, err := parse([]string{args}, flag.ContinueOnError); err == nil || !regexp.MustCompile(want).MatchString(err.Error()) {
			t.Errorf("%s: got error %v", args, err)
		}
	}
}
