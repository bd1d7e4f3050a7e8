package main

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/rules"
)

// The logs of real proxies and the spans of a real client, read right, come near to what callers saw: they are of the
// same calls, and the callers recorded theirs.
func TestALogComesNearToWhatCallersSaw(t *testing.T) {
	for _, of := range []struct {
		name, log, seen string
		keys            map[string]string // of the log, for those of the clients
	}{
		{"nginx", "sample/access.log.gz", "sample/nginx.calls.gz", map[string]string{
			"orders": "127.0.0.1:18391", "search": "127.0.0.1:18392", "pay": "127.0.0.1:18393",
		}},
		{"haproxy", "sample/haproxy.log.gz", "sample/haproxy.calls.gz", map[string]string{
			"orders": "orders", "search": "search", "pay": "pay",
		}},
		{"otelhttp", "testdata/outages/otel.json.gz", "testdata/outages/otel-callers.json.gz", map[string]string{
			"orders.example": "orders.example", "search.example": "search.example",
		}},
	} {
		for _, text := range []string{"default", "adaptive throttle=off", "adaptive throttle=off hold=off", "classic failures=5 openfor=1s"} {
			t.Run(of.name+" "+text, func(t *testing.T) {
				p, err := rules.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				log, logName := sampled(t, p, of.log)
				seen, seenName := sampled(t, p, of.seen)
				// HAProxy has a line for a connection over which nothing was asked, too.
				if d := log.Total.Calls - seen.Total.Calls; d < 0 || d > 5 || log.Total.Failure != seen.Total.Failure {
					t.Errorf("%+v in the log, %+v as clients saw it", log.Total, seen.Total)
				}
				a, b := log.Outcomes[0], seen.Outcomes[0]
				t.Logf("log: price %d, gain %d; clients: price %d, gain %d", a.Price, a.Gain, b.Price, b.Gain)
				const few = 5.0
				near := func(what string, a, b int64) {
					if math.Abs(float64(a-b)) > max(few, 0.1*float64(b)) {
						t.Errorf("%s %d by the log, %d by what clients saw", what, a, b)
					}
				}
				near("price", a.Price, b.Price)
				near("gain", a.Gain, b.Gain)
				for saw, key := range of.keys {
					opened := opens(&a, logName, key)
					wanted := opens(&b, seenName, saw)
					if len(opened) == 0 || len(opened) != len(wanted) {
						t.Errorf("%s: opened %d times by the log, %d by what clients saw", key, len(opened), len(wanted))
						continue
					}
					for i := range opened {
						if apart := time.Duration(opened[i] - wanted[i]).Abs(); apart > 300*time.Millisecond {
							t.Errorf("%s: opening %d is %v apart", key, i, apart)
						}
					}
				}
			})
		}
	}
}

func opens(o *decide.Outcome, name func(uint32) string, key string) (at []int64) {
	for i := range o.Spans {
		if name(o.Spans[i].Key) == key {
			at = append(at, o.Spans[i].Opened)
		}
	}
	slices.Sort(at)
	return at
}
