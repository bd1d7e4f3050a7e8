package policy

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Evidence is a TripRule that weighs evidence: a failure raises a score by 1, a success lowers it by Worth, never below
// 0, and the circuit trips at Threshold. It needs no window, no timer and no minimum of calls, and does the same at
// one request a minute and at ten thousand a second. While nothing fails the score is 0, and a success changes nothing.
//
// This is a CUSUM of Bernoulli trials (Page, Continuous Inspection Schemes, 1954), which among all tests with the
// same rate of false alarms sees a change soonest in the worst case (Moustakides, Optimal Stopping Times for
// Detecting Changes in Distributions, 1986). Worth is the logarithm of the likelihood ratio of a success in units of
// that of a failure: a Worth of 3 is the test between 55 % and 90 % failing. Below a share of Worth/(Worth+1) the score
// tends to fall and above to rise. That balance, 75 %, is where refusing pays if a refused success is
// worth three calls that fail. Threshold sets the rate of false trips, which falls with its exponential. Of calls
// of which a share fails, each by itself, a circuit with the default values takes on average until it trips:
//
//	failing  calls
//	  100 %            6
//	   95 %        7.035
//	   90 %        8.419
//	   80 %        12.98
//	   75 %        16.85
//	   60 %        46.27
//	   50 %        116
//	   40 %        382.7
//	   30 %       1899
//	   20 %      19310
//	   10 %    1.109e+06
//	    5 %    6.735e+07
//	    2 %    1.594e+10
//	    1 %    1.010e+12
//
// A trip after which the upstream turns out to be well, with four failed probes at most, was a false alarm: for ten
// minutes the next one takes three times the evidence, up to five times Threshold, unless an outage confirmed by nine
// failed probes comes between. So failure shares near the balance, where refusing gains little, do not make a circuit
// flutter: at 60 %, the second trip comes after 5238 calls.
//
// A failure that follows another after half a minute, with no call between, raises the score by 5: with the default
// values the second one trips. Where traffic is so thin a false alarm costs next to nothing, since with Squares the
// next request is a probe, and every call wasted is a minute of an outage. The price: of a million requests that come a
// minute apart, to an upstream that is well but for 1 % that fail, each by itself, one is refused, and with 5 % about
// 120 are.
type Evidence struct {
	Threshold int // 0 means 6
	Worth     int // 0 means 3
}

const (
	falseAlarm     = 4                // failed probes at most
	confirmed      = 9                // failed probes at least
	falseAlarmCost = 3                // times the evidence for the next trip
	mostWary       = 5                // times Threshold
	waryFor        = 10 * time.Minute // after a false alarm
	thin           = 30 * time.Second // between two failures
	thinScore      = 5                // of the second one
)

// NewTrip makes the memory of a circuit. It panics if a parameter makes no sense.
func (e Evidence) NewTrip() Trip {
	return &evidence{
		// no overflow
		threshold: min(positiveOr(e.Threshold, 6, "Evidence.Threshold"), math.MaxInt/(falseAlarmCost*mostWary)),
		worth:     positiveOr(e.Worth, 3, "Evidence.Worth"),
	}
}

type evidence struct {
	threshold, worth, score int
	bound                   int // at the last failure

	failed time.Time // the last result came, if it was a failure
	wary   int       // the threshold until then
	until  time.Time // zero if there was no false alarm
}

func (e *evidence) Start(now time.Time, failedProbes int) {
	e.score, e.failed = 0, time.Time{}
	switch {
	case failedProbes >= confirmed:
		e.until = time.Time{}
	case failedProbes <= falseAlarm:
		e.wary = min(falseAlarmCost*e.needed(now), mostWary*e.threshold)
		e.until = now.Add(waryFor)
	}
}

func (e *evidence) needed(now time.Time) int {
	if now.Before(e.until) {
		return e.wary
	}
	return e.threshold
}

func (e *evidence) Quiet() bool        { return e.score == 0 }
func (e *evidence) Counts() (int, int) { return e.score, 0 }

func (e *evidence) Gauge(now time.Time) (value, trips int) { return e.score, e.needed(now) }

func (e *evidence) Explain() string {
	bound := strconv.Itoa(e.bound)
	if e.bound > e.threshold {
		bound += " after a false alarm"
	}
	return fmt.Sprintf("failures weigh %d (bound %s)", e.score, bound)
}

func (e *evidence) Record(now time.Time, r Result) bool {
	if r.Outcome == Success {
		e.score = max(0, e.score-e.worth)
		e.failed = time.Time{}
		return false
	}
	if !e.failed.IsZero() && now.Sub(e.failed) >= thin {
		e.score += thinScore
	} else {
		e.score++
	}
	e.failed = now
	e.bound = e.needed(now)
	return e.score >= e.bound
}
