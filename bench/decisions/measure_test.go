package main

import (
	"testing"
	"time"
)

func TestRecovery(t *testing.T) {
	// Ten requests a second from 0 s to 10 s; the trouble ends at 2 s, and requests are good from recovered on.
	for _, test := range []struct {
		name      string
		recovered time.Duration
		want      float64
	}{
		{"at once", 2 * time.Second, 0},
		{"later", 5 * time.Second, 3},
		{"too late to tell", 9500 * time.Millisecond, -1},
		{"never", time.Hour, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := &trace{}
			for at := time.Duration(0); at < 10*time.Second; at += 100 * time.Millisecond {
				r := result{outcome: outcomeRefused}
				if at >= test.recovered {
					r.outcome = outcomeGood
				}
				tr.arrivals, tr.results = append(tr.arrivals, arrival{at: at}), append(tr.results, r)
			}
			if got := tr.recovery(2 * time.Second); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestBurstCountsHopelessCallsAfterOpening(t *testing.T) {
	s := func(n int) time.Duration { return time.Duration(n) * time.Second }
	l := callLog{calls: []call{
		{s(0), s(9), true, true}, // before it opened
		{s(2), s(4), true, true},
		{s(3), s(5), true, false},
		{s(3), s(5), false, true},
		{s(4), s(6), true, true}, // begins as another ends
	}}
	if got := l.burst(s(1)); got != 2 {
		t.Errorf("got %d, want 2", got)
	}
	if got := l.wasted(); got != 4 {
		t.Errorf("wasted %d, want 4", got)
	}
	if got := l.vain(); got != 3 {
		t.Errorf("%d of these failed, want 3", got)
	}
}

func TestMeanOfTimesThatAreMissing(t *testing.T) {
	m := mean([]measure{{Open: 2, Recover: 4}, {Open: -1, Recover: 6}})
	if m.Open != 2 || m.Recover != 5 {
		t.Errorf("got %+v", m)
	}
	if m = mean([]measure{{Open: -1, Recover: -1}, {Open: -1, Recover: 6}}); m.Open != -1 || m.Recover != -1 {
		t.Errorf("got %+v", m)
	}
}
