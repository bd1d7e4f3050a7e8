package policy

import (
	"math"
	"time"

	"github.com/fusebox-go/fusebox/internal/smoothed"
)

// Throttle limits how many calls a closed circuit sends in a round trip, while its upstream gets more than it can
// carry. A breaker knows all or nothing; an upstream whose queue is full needs less, as a network does, and this is
// TCP's way to find out how much less: the window is cut when something says that there is too much, and grows while
// nothing does. What is above it is refused (RefusedThrottled).
//
//   - Turned away: answers of 503 and 429. Each raises a score by 1, a good answer lowers it by a fifth, and at 8 the
//     limit is what got through in a round trip. From then on each that is turned away takes half a call off the limit,
//     and a good answer adds a fiftieth, the more the longer none was turned away: in balance about one in twenty is
//     (Kelly, Scalable TCP, 2003). A share below a sixth raises the score to no height, and to an upstream of which 5 %
//     fail by chance nothing is refused.
//   - A 503 that does not care: if the limit has fallen to half of what got through, and as large a share as before is
//     still turned away, it is not for the load. The limit is off, and such answers are not heard for a minute, and
//     twice as long the next time, up to an hour.
//   - Late: eight answers in a row have taken more than 35 % of the time that their callers wait by the deadlines of
//     their contexts, and a quarter more than the slowest of the first eight. (CoDel; Nichols and Jacobson,
//     Controlling Queue Delay, 2012: the least of many is the queue, and the rest chance.) The limit is then what
//     takes 70 % of that time at the pace of that answer (Little's law). An upstream that is slow by nature was so
//     from the first of the eight, and is let be.
//
// Who is turned away has not been in flight for as long as a good call: so the calls that count are those that began
// since the newest good answer's did, whether they are back or not. Nobody has to give anything back, and what never
// comes back holds nothing up. The limit is off after half a minute in which nothing was turned away or late.
//
// A healthy call costs nothing: calls are counted only while a canary is late (see Hold), the score is not 0, or there
// is a limit. The zero value throttles, wherever it stands: as Adaptive.Throttle and as &Throttle{} in Rules. What
// throttles nothing is a Throttle that is Off, and Rules without one.
type Throttle struct {
	Off     bool // nothing is limited, and the other fields mean nothing
	FullOff bool // who is turned away is no reason
	LateOff bool // who is late is no reason
}

// NewThrottle makes the memory for one circuit.
func (t Throttle) NewThrottle() *Throttling { return &Throttling{rule: t, limit: unlimited} }

var unlimited = math.Inf(1)

const (
	fullScore   = 8           // of those turned away, at which there is a limit
	fullWorth   = 0.2         // by which a good answer lowers the score
	fullCost    = 0.5         // of one turned away, in calls of the limit, or of it if that is less than one
	regain      = 0.02        // calls by which a good answer raises the limit, at first
	regainCalls = 4           // good answers in a row that add as much to that again
	mostRegain  = 16          // times that at most
	leastLimit  = 0.1         // calls in a round trip
	judgedBy    = 5           // answers at least, by which it is told whether the limit helps
	helps       = 0.6         // of the share that was turned away before is what is left at most if it does
	deafFor     = time.Minute // to those turned away, if it did not
	mostDeaf    = time.Hour   // the same, if it never does
	lateShare   = 0.35        // of the time that a caller waits
	lateRoom    = 0.7         // of it is what the limit leaves for a queue
	lateAnswers = 8           // in a row are a queue
	lateGrowth  = 1.25        // times the slowest of the first, or they are slow by nature
	calmAfter   = 30 * time.Second
	leastRound  = time.Second / 10
	mostRound   = time.Minute // or nothing has come back, and one is let through to see
)

// Throttling is a Throttle's memory for one circuit. It is called by one goroutine at a time.
type Throttling struct {
	rule  Throttle
	limit float64 // calls in a round trip; unlimited if there is none

	number  int       // of the last call let through
	newest  int       // the highest number of one that was answered, and not turned away
	cut     int       // number when the limit was last set; what began before says nothing of it
	sent    time.Time // the last call was let through
	refused time.Time // the last one was refused
	sign    time.Time // a call was last turned away or late

	score     float64
	good, bad float64 // calls answered well and turned away: while the score is not 0, or since the limit was set
	share     float64 // that was turned away before the limit was set
	top       float64 // the limit as it was set
	streak    int     // good answers since the last sign
	deaf      time.Duration
	deafSince time.Time

	first   int           // number of the last call before what is now measured
	timed   int           // good answers since
	took    time.Duration // a moving mean of how long they took
	slowest time.Duration // of the first lateAnswers of them
	late    int           // in a row
}

// Pass is what a Throttling knows a call by that it has let through. The zero value is one that it has not.
type Pass struct {
	number, ahead int
	bears         time.Duration // that the caller waits; 0 for any time
}

// On reports whether calls are to be counted also if no canary is late.
func (t *Throttling) On() bool { return t.score > 0 || t.limit < unlimited }

// Limit returns how many calls may go in a round trip; 0 if there is no limit.
func (t *Throttling) Limit() float64 {
	if t.limit == unlimited {
		return 0
	}
	return t.limit
}

// Forgettable reports whether nothing is lost if another one takes its place.
func (t *Throttling) Forgettable(now time.Time) bool {
	return !t.On() && (t.deaf == 0 || passed(now, t.deafSince) > 2*t.deaf)
}

// Measure begins to measure how long calls take, unless that is under way: a canary is late.
func (t *Throttling) Measure() {
	if !t.On() {
		t.measure()
	}
}

func (t *Throttling) measure() {
	t.first, t.newest, t.timed, t.took, t.slowest, t.late = t.number, t.number, 0, 0, 0, 0
}

// Admit counts a call that wants to start, and reports whether it may. Deadline is when its caller will be gone; zero
// if never.
func (t *Throttling) Admit(now, deadline time.Time) (Pass, bool) {
	if t.limit < unlimited && passed(now, t.sign) > calmAfter {
		t.release()
	}
	if t.limit < unlimited {
		round, waited := min(max(2*t.took, leastRound), mostRound), passed(now, t.sent)
		switch {
		case t.limit < 1 && float64(waited)*t.limit < float64(min(t.took, mostRound)),
			float64(t.ahead()) >= max(1, t.limit) && waited < round:
			t.refused = now
			return Pass{}, false
		case float64(t.ahead()) >= max(1, t.limit): // those are lost
			t.newest = t.number
		}
	}
	pass := Pass{ahead: t.ahead()}
	if !deadline.IsZero() {
		pass.bears = deadline.Sub(now)
	}
	t.number++
	pass.number, t.sent = t.number, now
	return pass, true
}

// Withdraw takes back the last Admit: the call is not made.
func (t *Throttling) Withdraw() { t.number-- }

// ahead is how many calls began after the newest that was answered.
func (t *Throttling) ahead() int { return t.number - t.newest }

func (t *Throttling) release() { t.limit, t.score = unlimited, 0 }

func (t *Throttling) set(limit float64) {
	t.limit = max(limit, leastLimit)
	t.top, t.cut, t.streak = t.limit, t.number, 0
	t.share = 0
	if t.good+t.bad > 0 {
		t.share = t.bad / (t.good + t.bad)
	}
	t.good, t.bad = 0, 0
}

// TurnedAway takes a call that the upstream was not willing to serve.
func (t *Throttling) TurnedAway(now time.Time, p Pass) {
	if t.rule.FullOff || t.deaf > 0 && passed(now, t.deafSince) < t.deaf {
		return
	}
	t.sign = now
	switch {
	case t.limit == unlimited:
		if t.score == 0 {
			t.good, t.bad = 0, 0
		}
		t.bad++
		if t.score++; t.score >= fullScore {
			t.set(float64(t.ahead()) * t.good / (t.good + t.bad))
		}
	case p.number > t.cut:
		t.bad++
		t.streak = 0
		t.limit = max(t.limit-fullCost*min(1, t.limit), leastLimit)
		if (t.limit < t.top/2 || t.limit == leastLimit) && t.good+t.bad >= judgedBy {
			t.judge(now)
		}
	}
}

// judge finds out whether the limit helps.
func (t *Throttling) judge(now time.Time) {
	if t.bad <= helps*t.share*(t.good+t.bad) {
		t.set(t.limit)
		return
	}
	t.release()
	t.deaf, t.deafSince = min(max(deafFor, 2*t.deaf), mostDeaf), now
}

// Answered takes a call that was answered well, after that time.
func (t *Throttling) Answered(now time.Time, p Pass, took time.Duration) {
	t.score = max(0, t.score-fullWorth)
	if t.limit == unlimited || p.number > t.cut {
		t.good++
	}
	if p.number == 0 {
		return
	}
	t.newest = max(t.newest, p.number)
	t.timed++
	t.took = smoothed.Among(t.took, took, t.timed)
	if p.number <= t.first+lateAnswers {
		t.slowest = max(t.slowest, took)
	}
	if t.isLate(now, p, took, t.slowest > 0 && float64(t.took) > lateGrowth*float64(t.slowest)) {
		return
	}
	t.late = 0
	if t.limit < unlimited && passed(now, t.refused) < max(time.Second, 2*t.took) { // it is felt
		t.streak++
		t.limit += regain * min(1, t.limit) * min(mostRegain, 1+float64(t.streak)/regainCalls)
	}
}

// TimedOut takes a call whose caller's time was up, after that time.
func (t *Throttling) TimedOut(now time.Time, p Pass, took time.Duration) {
	if p.number > 0 && t.timed > 0 {
		t.newest = max(t.newest, p.number)
		t.isLate(now, p, took, true)
	}
}

// isLate reports whether a call was late, and sets the limit if enough were.
func (t *Throttling) isLate(now time.Time, p Pass, took time.Duration, grown bool) bool {
	bears := time.Duration(lateShare * float64(p.bears))
	if t.rule.LateOff || p.bears <= 0 || took <= bears || !grown {
		return false
	}
	t.late++
	t.sign = now
	if t.late >= lateAnswers && p.number > t.cut {
		t.set(min(t.limit, float64(p.ahead+1)*lateRoom*float64(p.bears)/float64(took)))
		t.share = 0
	}
	return true
}

// passed is how long ago something was: long if the clock was set back.
func passed(now, at time.Time) time.Duration {
	if d := now.Sub(at); d >= 0 {
		return d
	}
	return math.MaxInt64
}
