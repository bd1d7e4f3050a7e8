package policy

import "time"

// Evidence is a TripRule that weighs evidence: a failure raises a score by 1, a success lowers it by Worth, never below
// 0, and the circuit trips at Threshold. It needs no window, no timer and no minimum of calls, and does the
// same at one request a minute and at ten thousand a second.
//
// A trip after which the upstream turns out to be well, with two failed probes at most, was a false alarm: for ten
// minutes the next one takes three times the evidence, up to five times Threshold.
type Evidence struct {
	Threshold int // 0 means 6
	Worth     int // 0 means 3
}

const (
	falseAlarm     = 2                // failed probes at most
	falseAlarmCost = 3                // times the evidence for the next trip
	mostWary       = 5                // times Threshold
	waryFor        = 10 * time.Minute // after a false alarm
)

func (e Evidence) NewTrip() Trip {
	return &evidence{
		threshold: positiveOr(e.Threshold, 6, "Evidence.Threshold"),
		worth:     positiveOr(e.Worth, 3, "Evidence.Worth"),
	}
}

func (Evidence) Timed() bool { return false }

type evidence struct {
	threshold, worth, score int

	wary  int       // the threshold until then
	until time.Time // zero if the last trip was no false alarm
}

func (e *evidence) Start(now time.Time, failedProbes int) {
	e.score = 0
	if failedProbes > falseAlarm {
		e.until = time.Time{}
		return
	}
	e.wary = min(falseAlarmCost*e.needed(now), mostWary*e.threshold)
	e.until = now.Add(waryFor)
}

func (e *evidence) needed(now time.Time) int {
	if now.Before(e.until) {
		return e.wary
	}
	return e.threshold
}

func (e *evidence) Quiet() bool        { return e.score == 0 }
func (e *evidence) Counts() (int, int) { return e.score, 0 }
func (e *evidence) Record(now time.Time, r Result) bool {
	if r.Outcome == Success {
		e.score = max(0, e.score-e.worth)
		return false
	}
	e.score++
	return e.score >= e.needed(now)
}
