package main

import "time"

// A measure is what the table says of one subject in one world. Shares are in percent of the requests offered.
type measure struct {
	Regret  float64 `json:"regret"`  // Lost + Wasted/2
	Net     float64 `json:"net"`     // what the oracle is worth more: good answers, less half of the wasted that failed
	Lost    float64 `json:"lost"`    // good answers that the oracle got and the subject did not
	Wasted  float64 `json:"wasted"`  // calls to an upstream in no state to serve; retries can bring it beyond 100
	Good    float64 `json:"good"`    // good answers
	Refused float64 `json:"refused"` // requests that ended in a refusal
	Wrongly float64 `json:"wrongly"` // requests that ended in a refusal though the call would have paid
	Open    float64 `json:"open"`    // seconds from the trouble's start to the first refusal; -1: none came
	Recover float64 `json:"recover"` // seconds from the trouble's end to health; -1: never
	Burst   float64 `json:"burst"`   // most calls in flight to an upstream in no state to serve, after opening
	Held    float64 `json:"held"`    // seconds that failing calls held their callers, per 1000 requests
}

// measure compares a trace with the oracle's of the same world.
func (w world) measure(tr, oracle *trace) measure {
	offered := float64(len(tr.results))
	percent := func(n int) float64 { return 100 * float64(n) / offered }

	var m measure
	good := tr.count(outcomeGood)
	m.Good = percent(good)
	m.Lost = percent(max(0, oracle.count(outcomeGood)-good))
	m.Wasted = percent(tr.calls.wasted())
	m.Regret = m.Lost + m.Wasted/2
	worth := func(tr *trace) float64 { return percent(tr.count(outcomeGood)) - percent(tr.calls.vain())/2 }
	m.Net = max(0, worth(oracle)-worth(tr))
	m.Refused = percent(tr.count(outcomeRefused))
	for _, r := range tr.results {
		if r.wrongly {
			m.Wrongly += 100 / offered
		}
		m.Held += 1000 * r.held.Seconds() / offered
	}
	m.Open = -1
	if opened, ok := tr.firstRefusal(w.begin); ok {
		m.Open = (opened - w.begin).Seconds()
		m.Burst = float64(tr.calls.burst(opened))
	}
	m.Recover = tr.recovery(w.end)
	return m
}

func (tr *trace) count(o outcome) int {
	n := 0
	for _, r := range tr.results {
		if r.outcome == o {
			n++
		}
	}
	return n
}

// firstRefusal returns when the first refusal was at or after a time.
func (tr *trace) firstRefusal(from time.Duration) (at time.Duration, ok bool) {
	for _, r := range tr.results {
		if r.refusals > 0 && r.refused >= from && (!ok || r.refused < at) {
			at, ok = r.refused, true
		}
	}
	return at, ok
}

// recovery returns the seconds from end until the first request from which on 95 % were served: of the next second's
// requests, but no fewer than ten. A request whose caller cancelled it counts neither way. -1 means never.
func (tr *trace) recovery(end time.Duration) float64 {
	const share, fewest = 0.95, 10
	var at []time.Duration
	var good []int // prefix sums
	sum := 0
	for i, r := range tr.results {
		if tr.arrivals[i].at < end || r.outcome == outcomeCancelled {
			continue
		}
		at, good = append(at, tr.arrivals[i].at), append(good, sum)
		if r.outcome == outcomeGood {
			sum++
		}
	}
	good = append(good, sum)
	for i, j := 0, 0; i+fewest <= len(at); i++ {
		for j = max(j, i+fewest); j < len(at) && at[j] < at[i]+time.Second; j++ {
		}
		if float64(good[j]-good[i]) >= share*float64(j-i) {
			if i == 0 {
				return 0
			}
			return (at[i] - end).Seconds()
		}
	}
	return -1
}
