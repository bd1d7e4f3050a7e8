package main

import (
	"math"
	"time"
)

// What most scenarios share: failures of a healthy upstream, and how long a caller waits.
const (
	background = 0.001
	patience   = 2 * time.Second
)

// scenarios returns the whole table's rows.
func scenarios() []scenario {
	const ms, s, min = time.Millisecond, time.Second, time.Minute
	all := []scenario{
		healthy("healthy-0.1-low", 1, 0.001),
		healthy("healthy-0.1-high", 200, 0.001),
		healthy("healthy-1-low", 1, 0.01),
		healthy("healthy-1-high", 200, 0.01),
		healthy("healthy-5-low", 1, 0.05),
		healthy("healthy-5-high", 200, 0.05),

		{name: "outage-500ms", about: "connections refused for half a second",
			trouble: 500 * ms, upstream: outage(faultRefused)},
		{name: "outage-10s", about: "connections refused for 10 s", trouble: 10 * s, upstream: outage(faultRefused)},
		{name: "outage-1m", about: "connections refused for a minute", trouble: min, upstream: outage(faultRefused)},
		{name: "outage-10m", about: "connections refused for 10 min",
			trouble: 10 * min, upstream: outage(faultRefused)},
		{name: "outage-1m-503", about: "503 for a minute", trouble: min, upstream: outage(fault503)},
		{name: "outage-1m-low", about: "refused for a minute, at one request a second",
			rate: 1, lead: min, trouble: min, tail: 3 * min, upstream: outage(faultRefused)},
		{name: "black-hole", about: "no answer for a minute", trouble: min, upstream: outage(faultHang)},
		{name: "black-hole-low", about: "no answer for a minute, at two requests a second",
			rate: 2, lead: min, trouble: min, tail: 2 * min, upstream: outage(faultHang)},
		{name: "hang-half", about: "half of the calls get no answer for a minute", trouble: min,
			upstream: partial(0.5, faultHang)},

		{name: "brownout-30", about: "30 % fail for a minute", trouble: min, upstream: partial(0.3, faultNone)},
		{name: "brownout-60", about: "60 % fail for a minute", trouble: min, upstream: partial(0.6, faultNone)},
		{name: "brownout-90", about: "90 % fail for a minute", trouble: min, upstream: partial(0.9, faultNone)},
		{name: "two-of-three", about: "two of three backends refuse for a minute",
			trouble: min, upstream: partial(2.0/3, faultRefused)},
		{name: "rolling-deploy", about: "every 20 s one of four backends refuses for 5 s",
			trouble: 3 * min, upstream: cycle(20*s, 5*s, 0.25, faultRefused)},
		{name: "slow-20x", about: "answers take 20 times as long for a minute", trouble: min, upstream: slow(20)},
		{name: "flapping", about: "5 s down, 5 s up, for two minutes",
			trouble: 2 * min, upstream: cycle(10*s, 5*s, 1, faultRefused)},
		{name: "hiccups", about: "200 ms of resets every 10 s",
			trouble: 3 * min, upstream: cycle(10*s, 200*ms, 1, faultReset)},
		{name: "creep", about: "failures creep from 0 to all and back in two minutes",
			trouble: 2 * min, upstream: creep},

		{name: "metastable", about: "a queue at 70 % load; 5 s of four times that, and retries keep it full", rate: 70,
			load: spike(4), peak: 4, trouble: 5 * s, tail: 2 * min, retries: 2, upstream: queued(10, 600)},
		{name: "metastable-fleet", about: "the same, for 20 clients", apart: true, clients: 20, rate: 3.5,
			load: spike(4), peak: 4, trouble: 5 * s, tail: 2 * min, retries: 2, upstream: queued(10, 600)},
		{name: "overload", about: "a queue is offered twice its capacity for a minute", rate: 50,
			load: spike(4), peak: 4, trouble: min, upstream: queued(10, 600)},
		{name: "overload-fleet", about: "the same, for 20 clients", apart: true, clients: 20, rate: 2.5,
			load: spike(4), peak: 4, trouble: min, upstream: queued(10, 600)},
		{name: "cold-restart", about: "down 20 s, then capacity grows from 5 % in 30 s; a flood crashes it", rate: 100,
			trouble: 50 * s, upstream: restart},
		{name: "cold-restart-fleet", about: "the same, for 50 clients",
			clients: 50, rate: 2, trouble: 50 * s, upstream: restart},
		{name: "fleet-10m", about: "50 clients, refused for 10 min", clients: 50, rate: 1, lead: min, trouble: 10 * min,
			upstream: outage(faultRefused)},
		{name: "sparse-10m", about: "100 clients of one request a minute, refused for 10 min",
			clients: 100, rate: 1.0 / 60, lead: 10 * min, trouble: 10 * min, tail: 15 * min,
			upstream: outage(faultRefused)},

		{name: "slow-outage", about: "answers take 12 s at the median, and callers wait 40 s; refused for a minute",
			rate: 2, lead: 2 * min, trouble: min, tail: 4 * min, long: allSlow(40 * s), upstream: outage(faultRefused)},
		{name: "turns-slow", about: "quick answers, and for a minute they take 12 s; callers wait 30 s all the time",
			rate: 20, trouble: min, patience: 30 * s, long: slowInTrouble(30 * s), upstream: outage(faultNone)},
		{name: "long-polls",
			about: "long polls of 5 to 25 s beside quick calls, of which there are few for two minutes",
			rate:  10, trouble: 2 * min, long: polls, upstream: outage(faultNone)},
		{name: "quiet-streams", about: "streams without a deadline whose first byte takes 45 s, beside quick calls",
			rate: 4, trouble: 2 * min, long: streams, upstream: outage(faultNone)},

		{name: "retry-after", about: "503 for 30 s with an honest Retry-After",
			trouble: 30 * s, upstream: retryAfter(background, 0, true)},
		{name: "retry-after-lies",
			about:   "1 % 503s, half of them with Retry-After: 3600; an outage of 30 s with 2 % of those",
			trouble: 30 * s, tail: 3 * min, upstream: retryAfter(0.01, 0.5, false)},
		{name: "stuck-probe", about: "no client timeout; refused for 30 s while one in five calls hangs for 90 s",
			rate: 20, patience: -1, trouble: 30 * s, tail: 2 * min, upstream: stuck},

		{name: "cancel-healthy", about: "one in five callers cancels, nothing else",
			trouble: min, cancels: 0.2, upstream: outage(faultNone)},
		{name: "cancel-black-hole", about: "one in five callers cancels; no answer for a minute",
			trouble: min, cancels: 0.2, upstream: outage(faultHang)},
		{name: "body-breaks", about: "good headers, broken bodies for a minute",
			trouble: min, upstream: outage(faultBody)},
		{name: "bursts-healthy", about: "a second of 250 requests, four of none; 1 % fail",
			load: onOff, peak: 5, trouble: min, upstream: partial(0.01, faultNone)},
		{name: "bursts-outage", about: "a second of 250 requests, four of none; refused for 30 s",
			load: onOff, peak: 5, trouble: 30 * s, upstream: outage(faultRefused)},
	}
	for i := range all {
		all[i].setDefaults()
	}
	return all
}

func (s *scenario) setDefaults() {
	if s.clients == 0 {
		s.clients = 1
	}
	if s.rate == 0 {
		s.rate = 50
	}
	if s.lead == 0 {
		s.lead = 30 * time.Second
	}
	if s.tail == 0 {
		s.tail = 90 * time.Second
	}
	switch {
	case s.patience == 0:
		s.patience = patience
	case s.patience < 0:
		s.patience = 0
	}
}

func healthy(name string, rate, share float64) scenario {
	sc := scenario{
		name: name, about: "steady, no trouble", rate: rate,
		lead: 10 * time.Second, trouble: time.Minute, tail: time.Second,
		upstream: func(world) upstream {
			return &script{share: func(time.Duration) float64 { return share }}
		},
	}
	if rate == 1 {
		sc.trouble = 30 * time.Minute
	}
	return sc
}

// outage fails everything while the trouble lasts. faultNone is no outage.
func outage(f fault) func(world) upstream {
	if f == faultNone {
		return partial(background, f)
	}
	return partial(1, f)
}

// partial fails a share of the calls while the trouble lasts. With faultNone they fail as those of a healthy
// upstream do: half of them 503, half reset.
func partial(share float64, f fault) func(world) upstream {
	return func(w world) upstream {
		return &script{
			share: func(t time.Duration) float64 {
				if w.troubled(t) {
					return share
				}
				return background
			},
			kind: w.kindInTrouble(f),
		}
	}
}

func (w world) kindInTrouble(f fault) func(time.Duration, coin) fault {
	return func(t time.Duration, c coin) fault {
		switch {
		case f != faultNone && w.troubled(t):
			return f
		case c.uniform(drawKind) < 0.5:
			return fault503
		}
		return faultReset
	}
}

// cycle fails a share of the calls in the first part of every period while the trouble lasts.
func cycle(period, part time.Duration, share float64, f fault) func(world) upstream {
	return func(w world) upstream {
		return &script{
			share: func(t time.Duration) float64 {
				if w.troubled(t) && (t-w.begin)%period < part {
					return share
				}
				return background
			},
			kind: w.kindInTrouble(f),
		}
	}
}

func creep(w world) upstream {
	return &script{share: func(t time.Duration) float64 {
		if !w.troubled(t) {
			return background
		}
		part := float64(t-w.begin) / float64(w.end-w.begin)
		return max(background, 1-math.Abs(2*part-1))
	}}
}

func slow(factor float64) func(world) upstream {
	return func(w world) upstream {
		return &script{
			share: func(time.Duration) float64 { return background },
			slowness: func(t time.Duration) float64 {
				if w.troubled(t) {
					return factor
				}
				return 1
			},
		}
	}
}

// retryAfter answers 503 while the trouble lasts, and to a share of calls before and after. honest: in the trouble,
// Retry-After is the time left. lies is the share of the other 503s that say an hour; in the trouble it is 2 %.
func retryAfter(share, lies float64, honest bool) func(world) upstream {
	return func(w world) upstream {
		return &script{
			share: func(t time.Duration) float64 {
				if w.troubled(t) {
					return 1
				}
				return share
			},
			kind: always(fault503),
			retryAfter: func(t time.Duration, c coin) time.Duration {
				u := c.uniform(drawRetryAfter)
				switch {
				case w.troubled(t) && honest:
					return w.end - t
				case w.troubled(t) && u < 0.02, !w.troubled(t) && u < lies:
					return time.Hour
				}
				return 0
			},
		}
	}
}

func stuck(w world) upstream {
	s := partial(1, faultRefused)(w).(*script)
	refused := s.kind
	s.kind = func(t time.Duration, c coin) fault {
		if w.troubled(t) && c.uniform(drawHang) < 0.2 {
			return faultHang
		}
		return refused(t, c)
	}
	s.hangFor = 90 * time.Second
	return s
}

// allSlow makes all calls slow by nature.
func allSlow(patience time.Duration) func(world, time.Duration, coin) (time.Duration, time.Duration) {
	return func(_ world, _ time.Duration, c coin) (time.Duration, time.Duration) {
		return c.lognormal(drawTakes, 12*time.Second, 0.2), patience
	}
}

// slowInTrouble makes them so while the trouble lasts, which is none.
func slowInTrouble(patience time.Duration) func(world, time.Duration, coin) (time.Duration, time.Duration) {
	slow := allSlow(patience)
	return func(w world, t time.Duration, c coin) (time.Duration, time.Duration) {
		if w.troubled(t) {
			return slow(w, t, c)
		}
		return 0, patience
	}
}

func polls(w world, t time.Duration, c coin) (time.Duration, time.Duration) {
	share := 0.2
	if w.troubled(t) {
		share = 0.97
	}
	if c.uniform(drawLong) >= share {
		return 0, 0
	}
	return 5*time.Second + time.Duration(c.uniform(drawTakes)*float64(20*time.Second)), time.Minute
}

func streams(_ world, _ time.Duration, c coin) (time.Duration, time.Duration) {
	if c.uniform(drawLong) < 0.5 {
		return 0, 0
	}
	return c.lognormal(drawTakes, 45*time.Second, 0.1), 0
}

func queued(servers, room int) func(world) upstream {
	return func(w world) upstream {
		q := &queue{service: service{servers: w.servers(servers), room: w.servers(room)}}
		return q.warm()
	}
}

func restart(w world) upstream {
	const warmUp = 30 * time.Second
	q := &queue{service: service{
		servers: w.servers(20), room: w.servers(400),
		warmUp: warmUp, flood: w.servers(300), downtime: 5 * time.Second,
	}}
	q.warm().outage(w.begin, w.end-warmUp)
	return q
}

// spike multiplies the load while the trouble lasts.
func spike(factor float64) func(world, time.Duration) float64 {
	return func(w world, t time.Duration) float64 {
		if w.troubled(t) {
			return factor
		}
		return 1
	}
}

// onOff puts the load of five seconds into one.
func onOff(_ world, t time.Duration) float64 {
	if t%(5*time.Second) < time.Second {
		return 5
	}
	return 0
}
