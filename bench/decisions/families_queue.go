package main

import (
	"fmt"
	"math"
	"time"
)

// These are the families whose upstreams have a finite capacity, so that what is sent decides what becomes of it.

// capacity draws a service of 1 to 32 servers, threads or connections to a database, that together serve about so
// many calls a second, and says how long one takes on the mean: 5 ms to 1 s, as to render a page or to ask a
// database.
func (d dice) capacity(rate float64) (s service, takes time.Duration) {
	servers := int(d.spread(1, 32.99))
	takes = clamp(5*time.Millisecond, scaled(time.Second, float64(servers)/rate), time.Second)
	sigma := d.between(0.2, 1)
	work := latencies{median: scaled(takes, math.Exp(-sigma*sigma/2)), sigma: sigma}
	return service{servers: servers, work: work}, takes
}

// mean returns the mean, the tail left out.
func (l latencies) mean() time.Duration { return scaled(l.median, math.Exp(l.sigma*l.sigma/2)) }

// perSecond returns how many calls a service serves in a second.
func (s service) perSecond() float64 { return float64(s.servers) / s.work.mean().Seconds() }

// waiting draws the deadline of callers, 8 to 60 times what a call takes, and the room: what is served in a quarter
// to four times that deadline. So some queues answer 503 at once when they are full, and others make all callers time
// out. What suits is half of what is served within the deadline, shared by the clients.
func (d dice) waiting(sc *scenario, s *service, takes time.Duration) {
	sc.patience = scaled(takes, d.spread(8, 60))
	if d.chance(0.5) {
		sc.hasty = d.between(0, 0.4)
	}
	within := s.perSecond() * sc.patience.Seconds()
	s.room = s.servers + int(within*d.spread(0.25, 4))
	sc.suits = max(1, int(within/2)/max(1, sc.clients))
}

// warmed returns an upstream of that queue, new for each subject.
func warmed(s service, then func(w world, q *queue)) func(world) upstream {
	return func(w world) upstream {
		q := (&queue{service: s}).warm()
		if then != nil {
			then(w, q)
		}
		return q
	}
}

// queueTraffic sets times and rates for a load of a queue, before and after the trouble and in it, so that there are
// not too many requests.
func (d dice) queueTraffic(sc *scenario, s *service, usual, inTrouble float64) (takes time.Duration) {
	sc.lead, sc.tail = d.time(10*time.Second, 30*time.Second), d.time(20*time.Second, 90*time.Second)
	sc.clients = max(1, sc.clients)
	seconds := usual*(sc.lead+sc.tail).Seconds() + inTrouble*sc.trouble.Seconds()
	*s, takes = d.capacity(d.spread(5, max(6, most/seconds)))
	sc.rate = usual * s.perSecond() / float64(sc.clients)
	if inTrouble != usual {
		sc.load, sc.peak = spike(inTrouble/usual), max(1, inTrouble/usual)
	}
	return takes
}

// who says who serves and who waits.
func (s *scenario) who(by service, takes time.Duration) string {
	return fmt.Sprintf("%d servers of %v, room %d, callers wait %v, %d clients, %d retries",
		by.servers, short(takes), by.room, short(s.patience), s.clients, s.retries)
}

// A queue at 30 to 80 % load gets 1.15 to 4 times its capacity for 20 s to 3 min: a campaign, a batch job, a region
// that has failed over.
func drawOverload(d dice) scenario {
	sc := scenario{trouble: d.time(20*time.Second, 3*time.Minute), retries: d.whole(0, 3)}
	sc.clients = int(d.spread(1, 20.99))
	usual, factor := d.between(0.3, 0.8), d.spread(1.15, 4)
	var s service
	takes := d.queueTraffic(&sc, &s, usual, factor)
	d.waiting(&sc, &s, takes)
	sc.upstream = warmed(s, nil)
	sc.about = fmt.Sprintf("%.3g times %.0f/s for %v, %s", factor, s.perSecond(), short(sc.trouble), sc.who(s, takes))
	return sc
}

// A queue at 50 to 90 % load begins nothing for 1 to 20 s, a stop of the world or a failover of its database; or it
// is offered two to five times its capacity for as long. Callers try again.
func drawStall(d dice) scenario {
	sc := scenario{trouble: d.time(time.Second, 20*time.Second), retries: d.whole(0, 3)}
	sc.clients = int(d.spread(1, 20.99))
	usual := d.between(0.5, 0.9)
	inTrouble := usual
	stalls := d.chance(0.5)
	if !stalls {
		inTrouble = d.between(2, 5)
	}
	var s service
	takes := d.queueTraffic(&sc, &s, usual, inTrouble)
	sc.tail += 30 * time.Second
	d.waiting(&sc, &s, takes)
	sc.upstream = warmed(s, func(w world, q *queue) {
		if stalls {
			q.stall(w.begin, w.end-w.begin)
		}
	})
	what := "stalls"
	if !stalls {
		what = fmt.Sprintf("gets %.3g times its capacity", inTrouble)
	}
	sc.about = fmt.Sprintf("%.0f/s at %.0f %% load %s for %v, %s",
		s.perSecond(), 100*usual, what, short(sc.trouble), sc.who(s, takes))
	return sc
}

// Down for 5 to 60 s, and then its capacity grows for 10 to 60 s, while caches fill and code is compiled. As many calls
// at once as it serves in 0.5 to 4 s make it crash meanwhile, for another 2 to 10 s: it runs out of memory.
func drawCold(d dice) scenario {
	down, warmUp := d.time(5*time.Second, time.Minute), d.time(10*time.Second, time.Minute)
	sc := scenario{trouble: down + warmUp, clients: int(d.spread(1, 50.99)), retries: pick(d, 0, 0, 0, 1)}
	usual := d.between(0.3, 0.8)
	var s service
	takes := d.queueTraffic(&sc, &s, usual, usual)
	d.waiting(&sc, &s, takes)
	s.warmUp, s.downtime = warmUp, d.time(2*time.Second, 10*time.Second)
	s.flood = max(2, int(s.perSecond()*d.spread(0.5, 4)))
	sc.upstream = warmed(s, func(w world, q *queue) { q.outage(w.begin, w.begin+down) })
	sc.about = fmt.Sprintf("%.0f/s at %.0f %% load, down %v, warm in %v, crashes at %d at once, %s",
		s.perSecond(), 100*usual, short(down), short(warmUp), s.flood, sc.who(s, takes))
	return sc
}

// Down for 1 s to 1 min, and all of it there at once after that or within 10 s; no flood makes it crash, but 10 to 100
// clients try each request up to three times again, and all that they send is work.
func drawCrash(d dice) scenario {
	down, warmUp := d.time(time.Second, time.Minute), time.Duration(0)
	if d.chance(0.5) {
		warmUp = d.time(time.Second, 10*time.Second)
	}
	sc := scenario{trouble: down + warmUp, clients: d.whole(10, 100), retries: d.whole(1, 3)}
	usual := d.between(0.4, 0.9)
	var s service
	takes := d.queueTraffic(&sc, &s, usual, usual)
	d.waiting(&sc, &s, takes)
	s.warmUp = warmUp
	sc.upstream = warmed(s, func(w world, q *queue) { q.outage(w.begin, w.begin+down) })
	sc.about = fmt.Sprintf("%.0f/s at %.0f %% load, down %v, warm in %v, %s",
		s.perSecond(), 100*usual, short(down), short(warmUp), sc.who(s, takes))
	return sc
}

// 2 to 100 calls a second are allowed, by a bucket of 0.5 to 10 s of that, or in each window of 1 to 60 s, as APIs do
// it; 0.8 to 2 times as many are made in the trouble. Half of the upstreams say Retry-After.
func drawLimited(d dice) scenario {
	sc := scenario{trouble: d.time(20*time.Second, 3*time.Minute), retries: d.retries()}
	sc.clients = int(d.spread(1, 10.99))
	sc.lead, sc.tail = d.time(10*time.Second, 30*time.Second), d.time(20*time.Second, 90*time.Second)
	usual, factor := d.between(0.3, 0.8), d.spread(0.8, 2)
	seconds := usual*(sc.lead+sc.tail).Seconds() + factor*sc.trouble.Seconds()
	allowed := d.spread(2, max(2.5, min(100, most/seconds)))
	sc.rate, sc.load, sc.peak = usual*allowed/float64(sc.clients), spike(factor/usual), max(1, factor/usual)
	l := d.latencies()
	d.patience(&sc, l)
	r := limits{latency: l, rate: allowed, says: d.chance(0.5)}
	var how string
	if d.chance(0.5) {
		r.window = pick(d, time.Second, 10*time.Second, time.Minute)
		how = "windows of " + short(r.window)
	} else {
		r.burst = max(1, allowed*d.spread(0.5, 10))
		how = fmt.Sprintf("a bucket of %.0f", r.burst)
	}
	sc.upstream = func(world) upstream { return newRateLimit(r) }
	sc.about = fmt.Sprintf("%.3g times %.3g/s for %v, %s, Retry-After %v, %d clients, %d retries",
		factor, allowed, short(sc.trouble), how, r.says, sc.clients, sc.retries)
	return sc
}
