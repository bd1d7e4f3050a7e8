package main

import "time"

// A family is a kind of scenario whose parameters are drawn at random, since constants that fit a script fit that
// script. What is drawn, from what range and why is written at each draw.
type family struct {
	name  string
	about string
	draw  func(d dice) scenario
}

// families returns all of them. Each has the same weight.
func families() []family {
	return []family{
		{"healthy", "0 to 10 % of random errors, latencies with heavy tails", drawHealthy},
		{"long", "long polls and streams beside quick calls", drawLongPolls},
		{"seconds", "answers of seconds with deadlines of a few more", drawSeconds},
		{"outage", "0.5 s to 15 min of one of six kinds of fault", drawOutage},
		{"brownout", "5 to 97 % fail", drawBrownout},
		{"random503", "5 to 90 % of 503s that have nothing to do with load", drawRandom503},
		{"slow", "answers take 2 to 80 times as long", drawSlow},
		{"flapping", "down and up again, 0.5 to 30 s each", drawFlapping},
		{"creep", "failures creep up and down again", drawCreep},
		{"paths", "one to four of ten paths are dead", drawPaths},
		{"urls", "a part of an API of many templates and ids is dead, or all of it", drawURLs},
		{"overload", "a queue is offered 1.15 to 4 times its capacity", drawOverload},
		{"stall", "a queue stands still for seconds, or is flooded, and retries may keep it full", drawStall},
		{"cold", "an upstream restarts, warms up, and crashes if flooded", drawCold},
		{"crash", "many clients with retries after a crash", drawCrash},
		{"limited", "429s beyond a rate, with and without Retry-After", drawLimited},
		{"fleet", "5 to 100 thin clients of one upstream in trouble", drawFleet},
	}
}

// A draw is one scenario of a family.
type draw struct {
	family string
	seed   uint64
	scenario
}

// drawn returns the draw of a family under a seed.
func (f family) drawn(seed uint64) draw {
	sc := f.draw(newDice(seed, f.name))
	sc.name = f.name
	if sc.clients == 0 {
		sc.clients = 1
	}
	return draw{f.name, seed, sc}
}

// A draw has at least so many requests, that one of them does not weigh a percent, and at most so many, that hundreds
// of draws with dozens of subjects are done in minutes. So what lasts long is drawn at low rates: what a breaker
// loses by a long outage at a high rate is little, in percent.
const (
	fewest = 250
	most   = 7000
)

// traffic draws how long the healthy times before and after a trouble are, and a rate of all clients together, spread
// from lo to hi a second: from a cron job's to a busy service's.
func (d dice) traffic(sc *scenario, lo, hi float64) {
	sc.lead = d.time(10*time.Second, time.Minute)
	sc.tail = clamp(15*time.Second, scaled(sc.trouble, d.between(0.5, 1.5)), 3*time.Minute)
	over := (sc.lead + sc.trouble + sc.tail).Seconds()
	rate := d.spread(lo, max(lo, min(hi, most/over)))
	if short := fewest/rate - over; short > 0 {
		// Thin traffic is watched for longer, two thirds of it after the trouble.
		sc.lead += time.Duration(short / 3 * float64(time.Second))
		sc.tail += time.Duration(short / 3 * 2 * float64(time.Second))
	}
	sc.clients = max(1, sc.clients)
	sc.rate = rate / float64(sc.clients)
}

// season draws how the load varies about its mean: half of all traffic is steady, a quarter swells and ebbs by a fifth
// to four fifths in 20 s to 5 min, and a quarter comes in bursts of a fifth to four fifths of 1 to 20 s.
func (d dice) season(sc *scenario) string {
	switch d.IntN(4) {
	case 0:
		depth, period := d.between(0.2, 0.8), d.time(20*time.Second, 5*time.Minute)
		sc.peak, sc.load = 1+depth, swell(depth, period)
		return ", swelling"
	case 1:
		part, period := d.between(0.2, 0.8), d.time(time.Second, 20*time.Second)
		sc.peak, sc.load = 1/part, bursts(part, period)
		return ", in bursts"
	}
	return ""
}

// latencies draws how long calls of a healthy upstream take: 2 to 300 ms at the median, with sigmas from a cache's to a
// database's; and of half of the upstreams, up to 2 % of calls have a tail that is as heavy as those of real services,
// whose variance may be without bound.
func (d dice) latencies() latencies {
	l := latencies{median: d.time(2*time.Millisecond, 300*time.Millisecond), sigma: d.between(0.2, 0.8)}
	if d.chance(0.5) {
		l.tail, l.alpha = d.spread(0.0005, 0.02), d.between(1.1, 2.5)
	}
	return l
}

// patience draws callers' deadlines: 0.5 to 10 s, as clients are set, but at least ten times the median of what they
// wait for. In half of the draws they vary from caller to caller.
func (d dice) patience(sc *scenario, l latencies) {
	sc.patience = max(d.time(500*time.Millisecond, 10*time.Second), 10*l.median)
	if d.chance(0.5) {
		sc.hasty = d.between(0, 0.4)
	}
}

// background draws the share of calls of a healthy upstream that fail: 0.01 to 1 %.
func (d dice) background() float64 { return d.spread(0.0001, 0.01) }

// retries draws how many times a caller tries again: most do not, or leave it to somebody else.
func (d dice) retries() int { return pick(d, 0, 0, 0, 1, 2, 3) }

// cancels draws the share of callers that hang up: in a quarter of draws 1 to 20 %, as users that type do.
func (d dice) cancels() float64 {
	if d.chance(0.25) {
		return d.spread(0.01, 0.2)
	}
	return 0
}

// fault draws a way to fail: half of it by connections, as of what is down or behind a bad network, and half by
// answers. Bodies that break are rare, since no peer sees them.
func (d dice) fault() fault {
	return pick(d, faultRefused, faultRefused, faultRefused, faultReset, faultReset,
		faultHang, faultHang, fault503, fault503, fault503, fault500, fault500, faultBody)
}

// String returns the name of a fault.
func (f fault) String() string {
	return [...]string{"errors", "refused", "reset", "503", "500", "429", "hang", "broken bodies"}[f]
}
