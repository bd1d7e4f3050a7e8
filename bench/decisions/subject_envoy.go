package main

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// These are models of Envoy, not Envoy, after the rules of source/common/upstream/outlier_detection_impl.cc,
// source/extensions/filters/http/adaptive_concurrency/controller/gradient_controller.cc and their configuration's
// reference. Each client has one as its sidecar. The upstream is one host, of whom Envoy ejects one whatever the
// percentage says, and the panic threshold is 0: by its default of 50 % an ejected host that is the only one gets all
// traffic nevertheless. What Envoy does on timers is done here before the next call that would notice.
func init() {
	register(
		subject{
			name: "envoy-outlier", apart: true,
			about: "a model of Envoy's outlier detection: 5 in a row, 30 s times the ejections, every 10 s; no panic",
			new: func(base http.RoundTripper) http.RoundTripper {
				o := &outlier{interval: 10 * time.Second, base: 30 * time.Second, longest: 300 * time.Second}
				return o.around(base)
			},
		},
		subject{
			name: "envoy-tuned", apart: true,
			about: "the same, 5 s times the ejections up to 30 s, looked at every second",
			new:   newTunedOutlier,
		},
		subject{
			name: "envoy-adaptive", apart: true,
			about: "a model of Envoy's adaptive concurrency: 100 ms, the median, " +
				"a minimum of 50 calls by three at a time every 60 s; around envoy-tuned",
			new: func(base http.RoundTripper) http.RoundTripper { return newGradient().around(newTunedOutlier(base)) },
		},
	)
}

func newTunedOutlier(base http.RoundTripper) http.RoundTripper {
	return (&outlier{interval: time.Second, base: 5 * time.Second, longest: 30 * time.Second}).around(base)
}

var errEjected = errors.New("envoy: no healthy upstream")

// An outlier is a host that is ejected for a time after failures in a row.
type outlier struct {
	interval, base, longest time.Duration

	mu        sync.Mutex
	swept     time.Time // when it was last looked whether the time is over
	inARow    int
	ejected   bool
	since     time.Time
	ejections int // less one for each interval without
}

// sweep does what Envoy's interval timer would have done by now. o.mu must be held.
func (o *outlier) sweep(now time.Time) {
	for ; !o.swept.Add(o.interval).After(now); o.swept = o.swept.Add(o.interval) {
		at := o.swept.Add(o.interval)
		switch {
		case !o.ejected:
			o.ejections = max(0, o.ejections-1)
		case at.Sub(o.since) >= min(o.base*time.Duration(o.ejections), o.longest):
			o.ejected, o.inARow = false, 0
		}
	}
}

func (o *outlier) around(next http.RoundTripper) http.RoundTripper {
	o.swept = time.Now()
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		o.mu.Lock()
		o.sweep(time.Now())
		ejected := o.ejected
		o.mu.Unlock()
		if ejected {
			return nil, errEjected
		}
		resp, err := next.RoundTrip(req)
		o.mu.Lock()
		defer o.mu.Unlock()
		now := time.Now()
		o.sweep(now)
		if !peer.Failed(resp, err) {
			if err == nil {
				o.inARow = 0
			}
			return resp, err
		}
		if o.inARow++; o.inARow >= 5 && !o.ejected {
			o.ejected, o.since = true, now
			o.ejections++
		}
		return resp, err
	})
}

// A gradient is a limit of calls in flight that follows how much longer answers take than they did by three calls at
// a time.
type gradient struct {
	mu      sync.Mutex
	limit   int
	out     int
	samples []time.Duration // since the last update, or since it began to measure the minimum
	least   time.Duration
	updated time.Time

	measuring bool // the minimum
	began     time.Time
	before    int       // the limit
	next      time.Time // when it is to be measured again
	atLeast   int       // updates in a row that left the limit at its least
}

// Envoy's defaults, and the intervals of its documentation.
const (
	gradientUpdate  = 100 * time.Millisecond
	gradientMeasure = time.Minute
	gradientLeast   = 3
	gradientMost    = 1000
	gradientSamples = 50
	gradientBuffer  = 0.25
)

func newGradient() *gradient {
	now := time.Now()
	return &gradient{limit: gradientLeast, before: gradientLeast, measuring: true, began: now, updated: now}
}

// median returns the samples' median and forgets them.
func (g *gradient) median() time.Duration {
	slices.Sort(g.samples)
	m := g.samples[len(g.samples)/2]
	g.samples = g.samples[:0]
	return m
}

// settle does what Envoy's timers would have done by now. g.mu must be held.
func (g *gradient) settle(now time.Time) {
	for !g.measuring && !g.updated.Add(gradientUpdate).After(now) {
		g.updated = g.updated.Add(gradientUpdate)
		if len(g.samples) > 0 {
			by := float64(g.least) * (1 + gradientBuffer) / float64(g.median())
			limit := float64(g.limit) * max(0.5, min(2, by))
			limit = max(gradientLeast, min(gradientMost, limit+math.Sqrt(limit)))
			if g.limit == gradientLeast && int(limit) == gradientLeast {
				g.atLeast++
			} else {
				g.atLeast = 0
			}
			g.limit = int(limit)
		}
		if g.atLeast >= 5 || !g.updated.Before(g.next) {
			g.measuring, g.began, g.before, g.atLeast = true, now, g.limit, 0
			g.limit, g.samples = gradientLeast, g.samples[:0]
		}
	}
}

func (g *gradient) around(next http.RoundTripper) http.RoundTripper {
	return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
		begun := time.Now()
		g.mu.Lock()
		g.settle(begun)
		full := g.out >= g.limit
		if !full {
			g.out++
		}
		g.mu.Unlock()
		if full {
			return nil, errLimit
		}
		resp, err := next.RoundTrip(req)
		g.mu.Lock()
		defer g.mu.Unlock()
		now := time.Now()
		g.settle(now)
		g.out--
		if err != nil || g.measuring && begun.Before(g.began) {
			return resp, err
		}
		g.samples = append(g.samples, max(1, now.Sub(begun)))
		if g.measuring && len(g.samples) >= gradientSamples {
			g.least, g.measuring, g.limit = g.median(), false, g.before
			g.updated, g.next = now, now.Add(gradientMeasure)
		}
		return resp, err
	})
}
