package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// These are the families in which a part of the upstream's URLs fails, and the rest is well.

// popular returns how likely each of n things is, the first the most: Zipf's law with that exponent, as sums.
func popular(n int, exponent float64) []float64 {
	sums := make([]float64, n)
	sum := 0.0
	for i := range sums {
		sum += math.Pow(float64(i+1), -exponent)
		sums[i] = sum
	}
	for i := range sums {
		sums[i] /= sum
	}
	return sums
}

// choose returns which of the things u, from 0 to 1, falls on.
func choose(sums []float64, u float64) int {
	i, _ := slices.BinarySearch(sums, u)
	return min(i, len(sums)-1)
}

// partFault draws how a part fails: by a bug or a dependency, most of the time.
func (d dice) partFault() fault {
	return pick(d, fault500, fault500, fault500, fault500, fault503, fault503,
		faultHang, faultHang, faultReset, faultBody)
}

// partly returns an upstream of which a share of calls to the dead parts fails while the trouble lasts, and a
// background of all others.
func partly(l latencies, background, share float64, f fault, dead func(part int) bool) func(world) upstream {
	return func(w world) upstream {
		s := failing(l, background, f, steadily(background))(w).(*script)
		usual := s.kind
		s.part = func(t time.Duration, r route) float64 {
			if w.troubled(t) && dead(r.part) {
				return share
			}
			return background
		}
		// A failure of what is well is one of the usual kinds.
		s.kindOf = func(t time.Duration, try *try) fault {
			if dead(try.route.part) {
				return usual(t, try.coin)
			}
			return w.kindInTrouble(faultNone)(t, try.coin)
		}
		return s
	}
}

// Ten paths as popular as Zipf's law with exponents of 0 to 1.2 makes them, one to four of them dead for 10 s to 5
// min. 70 to 100 % of calls to those fail.
func drawPaths(d dice) scenario {
	sc := scenario{trouble: d.time(10*time.Second, 5*time.Minute), retries: d.retries()}
	sums := popular(10, d.between(0, 1.2))
	dead := map[int]bool{}
	for _, part := range d.Perm(10)[:d.whole(1, 4)] {
		dead[part] = true
	}
	l, f, share := d.latencies(), d.partFault(), d.between(0.7, 1)
	background := d.background()
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	sc.route = func(c coin) route {
		part := choose(sums, c.uniform(drawRoute))
		return route{front.method, "/" + words[part], part}
	}
	sc.upstream = partly(l, background, share, f, func(part int) bool { return dead[part] })
	weight, from := 0.0, 0.0
	for part, sum := range sums {
		if dead[part] {
			weight += sum - from
		}
		from = sum
	}
	sc.about = fmt.Sprintf("%.3g/s%s, %d of ten paths with %.0f %% of traffic, %.0f %% %v for %v, %d retries",
		sc.rate, season, len(dead), 100*weight, 100*share, f, short(sc.trouble), sc.retries)
	return sc
}

// An API of 2 to 80 templates. In a fifth of the draws all of it fails, in 40 to 100 % of calls, and nothing should
// be cut up; in a fifth nothing does but 0 to 5 % of all; otherwise 70 to 100 % of calls to one part of it: a
// template's one method, a template, a resource with all below it, or all that writes.
func drawURLs(d dice) scenario {
	sc := scenario{trouble: d.time(20*time.Second, 5*time.Minute), retries: d.retries()}
	space := newURLs(d)
	l, f, share := d.latencies(), d.partFault(), d.between(0.7, 1)
	background := d.background()
	d.traffic(&sc, 1, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	what := "all"
	switch d.IntN(5) {
	case 0:
		share = d.between(0.4, 1)
		sc.upstream = failing(l, background, f, steadily(share))
	case 1:
		share = d.between(0, 0.05)
		sc.upstream = failing(l, background, f, steadily(share))
	default:
		what = space.kill(d)
		sc.upstream = partly(l, background, share, f, func(part int) bool { return part == deadPart })
	}
	sc.route = space.route
	sc.about = fmt.Sprintf("%.3g/s%s, %d templates, %s: %.0f %% %v for %v, %d retries",
		sc.rate, season, len(space.templates), what, 100*share, f, short(sc.trouble), sc.retries)
	return sc
}
