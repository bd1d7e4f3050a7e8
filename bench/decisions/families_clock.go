package main

import (
	"fmt"
	"math"
	"time"
)

// These are the families whose upstreams fail by the clock, whatever traffic they get.

// swell makes the load go up and down like a sine.
func swell(depth float64, period time.Duration) func(world, time.Duration) float64 {
	return func(_ world, t time.Duration) float64 {
		return 1 + depth*math.Sin(2*math.Pi*t.Seconds()/period.Seconds())
	}
}

// bursts puts all load into a part of every period.
func bursts(part float64, period time.Duration) func(world, time.Duration) float64 {
	return func(_ world, t time.Duration) float64 {
		if t%period < scaled(period, part) {
			return 1 / part
		}
		return 0
	}
}

// failing returns an upstream of which a share fails by f while the trouble lasts, as time goes on in it, and a
// background at other times.
func failing(
	l latencies, background float64, f fault, share func(w world, t time.Duration) float64,
) func(world) upstream {
	return func(w world) upstream {
		return &script{
			latency: l,
			share: func(t time.Duration) float64 {
				if w.troubled(t) {
					return max(background, share(w, t-w.begin))
				}
				return background
			},
			kind: w.kindInTrouble(f),
		}
	}
}

func steadily(share float64) func(world, time.Duration) float64 {
	return func(world, time.Duration) float64 { return share }
}

// Half of the healthy upstreams fail in up to 1 % of calls, the others in 1 to 10 %, as those do that have one bad
// instance of ten, or flaky ones behind them.
func drawHealthy(d dice) scenario {
	sc := scenario{trouble: time.Minute, retries: d.retries(), cancels: d.cancels()}
	l, share := d.latencies(), d.background()
	if d.chance(0.5) {
		share = d.between(0.01, 0.1)
	}
	f := d.fault()
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	sc.upstream = failing(l, share, f, steadily(share))
	sc.about = fmt.Sprintf("%.3g/s%s, %.3g %% %v, %v, tail %.3g %%, callers wait %v",
		sc.rate, season, 100*share, f, short(l.median), 100*l.tail, short(sc.patience))
	return sc
}

// 2 to 90 % of the calls are long: polls that hang for 2 to 60 s until there is news, with a deadline beyond, as those
// of message queues and of watches are; or streams whose body lasts for 5 s to 3 min, without a deadline.
// The others are quick.
func drawLongPolls(d dice) scenario {
	sc := scenario{trouble: d.time(time.Minute, 3*time.Minute)}
	l, background := d.latencies(), d.background()
	sc.lead, sc.tail = 20*time.Second, 20*time.Second
	sc.rate = d.spread(1, min(50, most/(sc.lead+sc.trouble+sc.tail).Seconds()))
	d.patience(&sc, l)
	season := d.season(&sc)
	share := d.spread(0.02, 0.9)
	shortest := d.time(2*time.Second, 20*time.Second)
	longest := scaled(shortest, d.between(1.2, 3))
	kind := "polls"
	if d.chance(0.4) {
		kind = "streams"
		longest = scaled(shortest, d.between(2, 9))
		sc.lasts = func(_ world, c coin) time.Duration {
			if c.uniform(drawLong) >= share {
				return 0
			}
			return shortest + scaled(longest-shortest, c.uniform(drawLasts))
		}
	} else {
		patience := scaled(longest, d.between(1.1, 2))
		sc.long = func(_ world, _ time.Duration, c coin) (time.Duration, time.Duration) {
			if c.uniform(drawLong) >= share {
				return 0, 0
			}
			return shortest + scaled(longest-shortest, c.uniform(drawTakes)), patience
		}
	}
	sc.upstream = failing(l, background, faultNone, steadily(background))
	sc.about = fmt.Sprintf("%.3g/s%s, %.0f %% %s of %v to %v",
		sc.rate, season, 100*share, kind, short(shortest), short(longest))
	return sc
}

// Reports, exports and models take 1 to 8 s at the median, and callers wait for two to five times that. In half of the
// draws they begin to take so long only in the trouble.
func drawSeconds(d dice) scenario {
	sc := scenario{trouble: d.time(time.Minute, 3*time.Minute)}
	takes, sigma := d.time(time.Second, 8*time.Second), d.between(0.1, 0.35)
	patience := scaled(takes, d.between(2, 5))
	l, background := d.latencies(), d.background()
	sc.patience = patience
	turns := d.chance(0.5)
	d.traffic(&sc, 0.3, 100)
	season := d.season(&sc)
	sc.long = func(w world, t time.Duration, c coin) (time.Duration, time.Duration) {
		if turns && !w.troubled(t) {
			return 0, 0
		}
		return c.lognormal(drawTakes, takes, sigma), patience
	}
	sc.upstream = failing(l, background, faultNone, steadily(background))
	sc.about = fmt.Sprintf("%.3g/s%s, %v, callers wait %v", sc.rate, season, short(takes), short(patience))
	if turns {
		sc.about += ", for " + short(sc.trouble)
	}
	return sc
}

// From a dropped connection to what takes people to repair.
func drawOutage(d dice) scenario {
	sc := scenario{trouble: d.time(500*time.Millisecond, 15*time.Minute), retries: d.retries(), cancels: d.cancels()}
	l, f := d.latencies(), d.fault()
	background := d.background()
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	sc.upstream = failing(l, background, f, steadily(1))
	sc.about = fmt.Sprintf("%.3g/s%s, %v for %v, %d retries, callers wait %v",
		sc.rate, season, f, short(sc.trouble), sc.retries, short(sc.patience))
	return sc
}

func drawBrownout(d dice) scenario {
	sc := scenario{trouble: d.time(10*time.Second, 5*time.Minute), retries: d.retries(), cancels: d.cancels()}
	l, f, share := d.latencies(), d.fault(), d.between(0.05, 0.97)
	background := d.background()
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	sc.upstream = failing(l, background, f, steadily(share))
	sc.about = fmt.Sprintf("%.3g/s%s, %.0f %% %v for %v, %d retries, callers wait %v",
		sc.rate, season, 100*share, f, short(sc.trouble), sc.retries, short(sc.patience))
	return sc
}

// A proxy with a dead backend, a bug, or a limit of another tenant answers 503 to a share of calls, whatever is sent.
// In a quarter of the draws it says Retry-After.
func drawRandom503(d dice) scenario {
	sc := scenario{trouble: d.time(30*time.Second, 5*time.Minute), retries: d.retries()}
	l, share := d.latencies(), d.between(0.05, 0.9)
	background := d.background()
	after := time.Duration(0)
	if d.chance(0.25) {
		after = time.Duration(d.whole(1, 30)) * time.Second
	}
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	calm := failing(l, background, fault503, steadily(share))
	sc.upstream = func(w world) upstream {
		s := calm(w).(*script)
		s.retryAfter = func(t time.Duration, _ coin) time.Duration {
			if w.troubled(t) {
				return after
			}
			return 0
		}
		return s
	}
	sc.about = fmt.Sprintf("%.3g/s%s, %.0f %% for %v, Retry-After %v, %d retries",
		sc.rate, season, 100*share, short(sc.trouble), short(after), sc.retries)
	return sc
}

// A lost cache, a lock, a busy neighbour. Where answers come later than callers wait, calling is in vain.
func drawSlow(d dice) scenario {
	sc := scenario{trouble: d.time(10*time.Second, 5*time.Minute), retries: d.retries()}
	l, factor := d.latencies(), d.spread(2, 80)
	background := d.background()
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	calm := failing(l, background, faultNone, steadily(background))
	sc.upstream = func(w world) upstream {
		s := calm(w).(*script)
		s.slowness = func(t time.Duration) float64 {
			if w.troubled(t) {
				return factor
			}
			return 1
		}
		return s
	}
	sc.about = fmt.Sprintf("%.3g/s%s, %v times %.3g for %v, callers wait %v, %d retries",
		sc.rate, season, short(l.median), factor, short(sc.trouble), short(sc.patience), sc.retries)
	return sc
}

// A route that comes and goes, a process that crashes whenever it is up, a balancer with a dead backend of two to
// four. In half of the draws the lengths vary by half either way.
func drawFlapping(d dice) scenario {
	sc := scenario{trouble: d.time(time.Minute, 5*time.Minute), retries: d.retries()}
	l, f := d.latencies(), d.fault()
	down, up := d.time(500*time.Millisecond, 30*time.Second), d.time(500*time.Millisecond, 30*time.Second)
	share, background := 1.0, d.background()
	if d.chance(0.25) {
		share = d.between(0.7, 1)
	}
	jitter := 0.0
	if d.chance(0.5) {
		jitter = 0.5
	}
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	var ends []time.Duration // of downs and ups, in turn
	for t := time.Duration(0); t < 2*sc.trouble; {
		for _, length := range []time.Duration{down, up} {
			t += scaled(length, 1+jitter*d.between(-1, 1))
			ends = append(ends, t)
		}
	}
	sc.upstream = failing(l, background, f, func(_ world, t time.Duration) float64 {
		for n, end := range ends {
			if t < end {
				return share * float64(1-n%2)
			}
		}
		return 0
	})
	sc.about = fmt.Sprintf("%.3g/s%s, %.0f %% %v, %v down, %v up, for %v, %d retries",
		sc.rate, season, 100*share, f, short(down), short(up), short(sc.trouble), sc.retries)
	return sc
}

// Memory runs full, disks fill, and somebody notices. The peak is somewhere in the trouble.
func drawCreep(d dice) scenario {
	sc := scenario{trouble: d.time(30*time.Second, 10*time.Minute), retries: d.retries()}
	l, f := d.latencies(), d.fault()
	height, peak := d.between(0.3, 1), d.between(0.1, 0.9)
	background := d.background()
	d.traffic(&sc, 0.3, 400)
	d.patience(&sc, l)
	season := d.season(&sc)
	sc.upstream = failing(l, background, f, func(w world, t time.Duration) float64 {
		part := float64(t) / float64(w.end-w.begin)
		return height * min(part/peak, (1-part)/(1-peak))
	})
	sc.about = fmt.Sprintf("%.3g/s%s, up to %.0f %% %v and back in %v, %d retries",
		sc.rate, season, 100*height, f, short(sc.trouble), sc.retries)
	return sc
}

// Instances, lambdas and sidecars, each with little traffic of its own: 5 to 100 of a request every 3 s to 2 min, and
// an outage or a brown-out of 10 s to 15 min.
func drawFleet(d dice) scenario {
	sc := scenario{trouble: d.time(10*time.Second, 15*time.Minute), retries: d.retries(), clients: d.whole(5, 100)}
	l, f := d.latencies(), d.fault()
	share, background := 1.0, d.background()
	if d.chance(0.3) {
		share = d.between(0.2, 1)
	}
	d.traffic(&sc, max(0.3, float64(sc.clients)/120), float64(sc.clients)/3)
	d.patience(&sc, l)
	season := d.season(&sc)
	sc.upstream = failing(l, background, f, steadily(share))
	sc.about = fmt.Sprintf("%d clients of %.3g/s%s, %.0f %% %v for %v, %d retries",
		sc.clients, sc.rate, season, 100*share, f, short(sc.trouble), sc.retries)
	return sc
}

// short writes a duration with two digits.
func short(t time.Duration) string {
	n, unit := t.Seconds(), "s"
	if t < time.Second {
		n, unit = 1000*n, "ms"
	}
	switch {
	case t == 0:
		return "none"
	case n < 10:
		return fmt.Sprintf("%.1f %s", n, unit)
	}
	return fmt.Sprintf("%.0f %s", n, unit)
}
