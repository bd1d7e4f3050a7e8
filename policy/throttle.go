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
//     limit is what got through in a round trip, or a quarter of what was sent if that is more. From then on each that
//     is turned away takes half a call off the limit, and a good answer adds a fiftieth, and twice that for every six
//     since one was turned away: in balance about one in ten is (Kelly, Scalable TCP, 2003). Below one call in a round
//     trip the limit is a pace, with three calls saved up at most, and one a second at least. A share below a sixth
//     raises the score to no height, and to an upstream of which 5 % fail by chance nothing is refused.
//   - Whether it helps: chance says 503, too. At half of what the limit was set to it waits for five answers, and if
//     more than three tenths of the share before are still turned away, it is not for the load. The limit is off, and
//     such answers are not heard for a minute, and twice as long the next time, up to an hour. 429s are hardly ever
//     chance, but they may be for something else than the number of calls, such as one of many users: there it takes
//     twenty answers.
//   - What it costs: a limit that is for the load costs few good answers, since the upstream serves as many as it can.
//     If fewer than six tenths of those come that came before, of a hundred, by time and by requests, it is off in the
//     same way: the upstream limits one of many users, perhaps. How many come without a limit is found out before
//     there is one for 429s, by twenty of them or for five seconds, and again each minute.
//   - So is a limit for late answers off, if answers at half of it take as long as before: the upstream is slow,
//     whatever is sent.
//   - Whose limit it is: if 429s are all of one part of the upstream (Contrast), and so many calls of the rest came
//     back well that chance would not have spared them, there is no limit, and they are not heard for a minute.
//   - Told when to come back: if eight 429s in a row had a Retry-After of more than a second, and nothing good came in
//     between, one call a second is sent until the time that the last one names, an hour at most. If one is answered
//     well before, it is not meant for all, and such answers are not heard for a minute, as above.
//   - Late: five answers in a row have taken more than 35 % of the time that their callers wait by the deadlines of
//     their contexts, and a quarter more than the slowest of the first round trip. (CoDel; Nichols and Jacobson,
//     Controlling Queue Delay, 2012: the least of many is the queue, and the rest chance.) The limit is then what takes
//     70 % of that time at the pace of that answer (Little's law). Once there is a limit, one late answer is enough. An
//     upstream that is slow by nature was so from the first round trip on, and is let be.
//   - Going to be late: answers are half as far again apart as their calls began, so a queue grows, and those ahead of
//     a call will take more than 70 % of its caller's time at the pace of answers. It is refused, limit or not, unless
//     no answer came for as long as that.
//
// Who is turned away has not been in flight for as long as a good call: so the calls that count are those that began
// since the newest good answer's did, whether they are back or not. Nobody has to give anything back, and what never
// comes back holds nothing up. The limit is off after half a minute in which nothing was turned away or late. If the
// circuit opens meanwhile, it has that of its Recover when it closes again.
//
// A healthy call costs nothing: calls are counted only while a canary is late (see Hold), the score is not 0, or there
// is a limit. The zero value throttles, wherever it stands: as Adaptive.Throttle and as &Throttle{} in Rules. What
// throttles nothing is a Throttle that is Off, and Rules without one.
type Throttle struct {
	Off     bool // nothing is limited, and the other fields mean nothing
	FullOff bool // who is turned away is no reason
	LateOff bool // who is late, or is going to be, is no reason
}

// NewThrottle makes the memory for one circuit.
func (t Throttle) NewThrottle() *Throttling { return &Throttling{rule: t, limit: unlimited} }

var unlimited = math.Inf(1)

const (
	fullScore   = 8               // of those turned away, at which there is a limit
	fullWorth   = 0.2             // by which a good answer lowers the score
	leastShare  = 0.25            // of what is sent gets through, as far as the first limit is concerned
	fullCost    = 0.5             // of one turned away, in calls of the limit, or of it if that is less than one
	regain      = 0.02            // calls by which a good answer raises the limit, or of it if that is less than one
	regainCalls = 6               // good answers in a row that double that, up to one call
	saved       = 3               // calls at most that may go at once, if less than one may in a round trip
	leastPace   = time.Second     // in which a call may go, whatever the limit
	judgedBy    = 5               // answers at least, by which it is told whether the limit helps
	judgedBy429 = 20              // the same if the last one turned away was told that there were too many
	helps       = 0.3             // of the share that was turned away before is what is left at most if it does
	known429    = 20              // good answers at least tell how many there are without a limit, if it is for 429s
	knownIn     = 5 * time.Second // or those of so long do
	anew429     = time.Minute     // until that is found out again
	costsAmong  = 100             // good answers that were to be expected tell whether a limit costs some
	costsFrom   = 0.6             // of them are there at least, or it does
	deafFor     = time.Minute     // to those turned away, if it did not
	mostDeaf    = time.Hour       // the same, if it never does
	mostPause   = time.Hour       // for which an upstream is believed that says when to come back
	lateShare   = 0.35            // of the time that a caller waits
	lateRoom    = 0.7             // of it is what may be left to a queue
	lateAnswers = 5               // in a row are a queue, and the first are as many at least
	lateGrowth  = 1.25            // times the slowest of the first, or they are slow by nature
	lateHelps   = 0.9             // of what late answers took is what they take at half of the limit, if it helps
	behind      = 1.5             // times as far apart as their calls began are answers while a queue grows
	behindAhead = 4               // times as many calls ahead as answers are known are too many to tell
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

	tokens  float64       // calls that have been saved up
	counted time.Duration // since sent, that is in tokens

	score     float64
	since     time.Time // the score was 0
	good, bad float64   // calls answered well and turned away: while the score is not 0, or since the limit was set
	share     float64   // that was turned away before the limit was set
	top       float64   // the limit as it was set
	streak    int       // good answers since the last sign
	rate      bool      // the last that was turned away was told that there were too many
	shadow    bool      // what is refused is made all the same
	anew      bool      // how many come without a limit is found out, and nothing is refused for it
	deaf      time.Duration
	deafSince time.Time
	lateLimit float64       // the limit as it was set for late answers, or half of it
	lateTook  time.Duration // and what they took then

	answers answers
	worth   worth
	pause   pause
	rest    rest

	said *reasoned // why there is a limit or, if there is none, why there was or was none any more; nil if never
}

// answers are what good answers say of a queue.
type answers struct {
	after   int           // the number of the last call that says nothing
	n       int           // answers
	first   int           // calls that had begun when the first answer came, lateAnswers at least
	took    time.Duration // a moving mean of how long they took
	slowest time.Duration // of the first
	late    int           // in a row

	last, began time.Time     // the last came, and its call began
	apart       time.Duration // a moving mean of how far apart they came
	beganApart  time.Duration // the same of their calls' beginnings
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

func (t *Throttling) measure() { t.newest, t.answers = t.number, answers{after: t.number} }

// Resume begins anew, since the circuit has recovered: with the limit of its recovery, in calls, if there was one.
func (t *Throttling) Resume(now time.Time, limit int) {
	t.score = 0
	if t.limit == unlimited {
		return
	}
	took := t.answers.took
	t.measure()
	t.answers.took = took
	t.set(float64(limit), 0)
	t.sign = now
	t.because(ThrottledAgain, "a limit was in force before the circuit opened, and its recovery ended with %d", limit)
}

// Admit counts a call that wants to start, and reports whether it may. Deadline is when its caller will be gone; zero
// if never.
func (t *Throttling) Admit(now, deadline time.Time) (Pass, bool) {
	t.worth.asked++
	if t.limit < unlimited {
		t.review(now)
	}
	p := Pass{number: t.number + 1, ahead: t.ahead()}
	if !deadline.IsZero() {
		p.bears = deadline.Sub(now)
	}
	if t.limit < unlimited && !t.anew && !t.within(now) || t.willBeLate(now, p) {
		t.becauseQueue(now, p)
		t.refused = now
		return Pass{}, false
	}
	t.number, t.sent = p.number, now
	return p, true
}

// review ends a limit if nothing has been turned away or late for long, or if it costs good answers. How many there are
// without it is found out anew now and then.
func (t *Throttling) review(now time.Time) {
	switch {
	case t.pause.on():
		if t.pause.left(now) <= 0 {
			t.comeBack(now)
		}
	case passed(now, t.sign) > calmAfter, t.anew && passed(now, t.worth.since) > 2*knownIn:
		t.release()
	case t.shadow || t.anew:
	case t.rate && t.share > 0 && passed(now, t.since) > anew429: // and not for late answers
		t.anew, t.score, t.worth = true, 0, worth{since: now}
		t.deaf = 0 // it has helped for so long
	case t.worth.costs(now):
		t.giveUp(now, "only %.0f good answers came in %v (bound %.0f %% of those that came before)",
			t.worth.good, rounded(passed(now, t.worth.since)), costsFrom*100)
	}
}

// within reports whether a call is within the limit.
func (t *Throttling) within(now time.Time) bool {
	waited := passed(now, t.sent)
	if t.limit = max(t.limit, t.leastLimit()); t.limit < 1 && !t.paced(waited) {
		return false
	}
	if float64(t.ahead()) < max(1, t.limit) {
		return true
	}
	if waited < min(max(2*t.answers.took, leastRound), mostRound) {
		return false
	}
	t.newest = t.number // those are lost
	return true
}

// paced reports whether a call may go, where less than one may in a round trip.
func (t *Throttling) paced(waited time.Duration) bool {
	t.tokens = min(saved, t.tokens+float64(waited-t.counted)*t.limit/float64(max(1, t.answers.took)))
	if t.counted = waited; t.tokens < 1 {
		return false
	}
	t.tokens, t.counted = t.tokens-1, 0
	return true
}

// leastLimit is the limit at which a call may go in leastPace.
func (t *Throttling) leastLimit() float64 {
	return min(1, float64(max(1, t.answers.took))/float64(leastPace))
}

// willBeLate reports whether a queue grows that a call will be in for too long. If nothing comes back while one would
// wait, nothing is known of the queue.
func (t *Throttling) willBeLate(now time.Time, p Pass) bool {
	a := &t.answers
	return p.bears > passed(now, a.last) && !t.rule.LateOff && a.n >= max(lateAnswers, p.ahead/behindAhead) &&
		float64(a.apart) > behind*float64(a.beganApart) &&
		float64(p.ahead)*float64(a.apart) > lateRoom*float64(p.bears)
}

// Withdraw takes back the last Admit: the call is not made.
func (t *Throttling) Withdraw() { t.number-- }

// ahead is how many calls began after the newest that was answered.
func (t *Throttling) ahead() int { return t.number - t.newest }

func (t *Throttling) release() {
	t.limit, t.score, t.anew = unlimited, 0, false
	t.pause = pause{}
}

// set sets the limit. Share is what was turned away before, as far as that is the reason.
func (t *Throttling) set(limit, share float64) {
	t.limit = max(limit, t.leastLimit())
	t.top, t.cut, t.streak, t.anew = t.limit, t.number, 0, false
	t.tokens, t.counted = 0, 0
	t.pause = pause{}
	t.good, t.bad, t.share = 0, 0, share
}

// turnedAway is the share of answers that were.
func (t *Throttling) turnedAway() float64 { return t.bad / max(1, t.good+t.bad) }

// TurnedAway takes a call that the upstream was not willing to serve. Rate says that it was told so by a 429: there are
// too many calls. Wait is for how long it was told to wait; 0 if it was not. Part is as in Result.
func (t *Throttling) TurnedAway(now time.Time, p Pass, rate bool, wait time.Duration, part uint64) {
	if t.rule.FullOff || t.deaf > 0 && passed(now, t.deafSince) < t.deaf {
		return
	}
	t.sign, t.rate = now, rate
	if (rate || t.pause.on()) && t.told(now, wait) {
		return
	}
	switch {
	case t.limit == unlimited || t.anew:
		if t.score == 0 {
			t.good, t.bad, t.since, t.rest = 0, 0, now, rest{than: part}
		}
		t.rest.turnedAway(part)
		t.bad++
		t.score = min(t.score+1, fullScore)
		if over := passed(now, t.since); t.score == fullScore && (!rate || t.good >= known429 || over >= knownIn) {
			t.engage(now, over)
		}
	case p.number > t.cut && !t.shadow:
		t.bad++
		t.streak = 0
		least := max(t.top/2, t.leastLimit())
		if t.limit = max(t.limit-fullCost*min(1, t.limit), least); t.limit == least {
			t.judge(now)
		}
	}
}

// engage sets the first limit, since calls have been turned away for that long.
func (t *Throttling) engage(now time.Time, over time.Duration) {
	if t.rate && t.rest.isWell(t.turnedAway()) {
		t.giveUp(now, "one part of the upstream alone is turned away, and %d calls of the rest were answered well",
			t.rest.good)
		return
	}
	pace, had := 1/float64(max(1, over)), max(1, float64(t.ahead()))
	if t.answers.took > 0 {
		had = min(had, (t.good+t.bad)*pace*float64(t.answers.took))
	}
	share := t.turnedAway()
	t.expect(now, t.good*pace, 1-share)
	t.becauseFull()
	t.set(had*max(1-share, leastShare), share)
}

// judge finds out whether the limit helps, if there are answers enough to tell.
func (t *Throttling) judge(now time.Time) {
	need, share := float64(judgedBy), t.turnedAway()
	if t.rate {
		need = judgedBy429
	}
	switch {
	case t.good+t.bad < need:
	case share > helps*t.share:
		t.giveUp(now, "at half of the limit %.0f %% of calls are turned away still, of %.0f %% before (bound %.0f %%)",
			share*100, t.share*100, helps*t.share*100)
	case t.rate:
		t.set(t.limit, t.share)
	default:
		t.set(t.limit, share)
	}
}

// giveUp takes the limit off, since it does not help, and takes down by what that shows.
func (t *Throttling) giveUp(now time.Time, format string, args ...any) {
	t.release()
	t.because(ThrottleNoUse, format, args...)
	t.deaf, t.deafSince = min(max(deafFor, 2*t.deaf), mostDeaf), now
	t.answers.slowest = max(t.answers.slowest, t.answers.took) // by nature
}

// expect takes down how many good answers there were before the limit: in a nanosecond, and of each request.
func (t *Throttling) expect(now time.Time, rate, share float64) {
	t.worth = worth{since: now, rate: rate, share: share}
}

// A worth is what is known of what a limit costs.
type worth struct {
	since       time.Time
	rate, share float64 // of good answers before the limit: in a nanosecond, and of all requests
	asked, good float64 // requests, and good answers, since
}

// costs reports whether there are so few good answers that the limit must have cost some. One that is for the load
// costs few, since the upstream serves as many as it can.
func (w *worth) costs(now time.Time) bool {
	expected := min(w.rate*float64(passed(now, w.since)), w.share*w.asked)
	if expected < costsAmong {
		return false
	}
	if w.good < costsFrom*expected {
		return true
	}
	w.since, w.asked, w.good = now, 0, 0
	return false
}

// Answered takes a call that was answered well, after that time. Part is as in Result.
func (t *Throttling) Answered(now time.Time, p Pass, took time.Duration, part uint64) {
	t.rest.well(part)
	t.score = max(0, t.score-fullWorth)
	t.pause.row = 0
	if t.limit == unlimited || t.anew || p.number > t.cut {
		t.good++
	}
	if p.number == 0 {
		return
	}
	t.newest = max(t.newest, p.number)
	if t.pause.on() && p.number > t.cut {
		t.comeBack(now)
	}
	t.worth.good++
	if t.answers.n == 0 {
		t.answers.first = max(lateAnswers, t.number-t.answers.after)
	}
	t.answers.add(now, p.number, took)
	if t.isLate(now, p, took, t.answers.grown()) {
		return
	}
	t.answers.late = 0
	if t.limit < unlimited && !t.shadow && passed(now, t.refused) < max(time.Second, 2*t.answers.took) { // it is felt
		t.streak++
		t.limit += min(1, t.limit) * min(1, regain*math.Exp2(float64(t.streak)/regainCalls))
	}
}

func (a *answers) add(now time.Time, number int, took time.Duration) {
	a.n++
	a.took = smoothed.Among(a.took, took, a.n)
	if number <= a.after+a.first {
		a.slowest = max(a.slowest, took)
	}
	began := now.Add(-took)
	if a.n > 1 {
		a.apart = smoothed.Among(a.apart, now.Sub(a.last), a.n-1)
		a.beganApart = smoothed.Among(a.beganApart, began.Sub(a.began), a.n-1)
	}
	a.last, a.began = now, began
}

// grown reports whether answers take longer than the first did.
func (a *answers) grown() bool {
	return a.slowest > 0 && float64(a.took) > lateGrowth*float64(a.slowest)
}

// TimedOut takes a call whose caller's time was up, after that time.
func (t *Throttling) TimedOut(now time.Time, p Pass, took time.Duration) {
	if p.number > 0 && t.answers.n > 0 {
		t.newest = max(t.newest, p.number)
		t.isLate(now, p, took, true)
	}
}

// isLate reports whether a call was late, and sets the limit if enough were.
func (t *Throttling) isLate(now time.Time, p Pass, took time.Duration, grown bool) bool {
	if t.rule.LateOff || p.bears <= 0 || float64(took) <= lateShare*float64(p.bears) || !grown {
		return false
	}
	t.answers.late++
	t.sign = now
	if (t.answers.late >= lateAnswers || t.limit < unlimited) && p.number > t.cut && !t.frozen() {
		limit := min(t.limit, float64(p.ahead+1)*lateRoom*float64(p.bears)/float64(took))
		switch a := &t.answers; {
		case t.limit == unlimited:
			if a.apart > 0 {
				t.expect(now, 1/float64(a.apart), min(1, float64(max(0, a.beganApart))/float64(a.apart)))
			}
			t.lateLimit, t.lateTook = limit, a.took
			t.becauseLate(p, took)
		case limit <= t.lateLimit/2 && float64(a.took) > lateHelps*float64(t.lateTook):
			t.giveUp(now, "at half of the limit calls take %v still, of %v before (bound %.0f %%)",
				rounded(a.took), rounded(t.lateTook), lateHelps*100)
			return true
		case limit <= t.lateLimit/2:
			t.lateLimit, t.lateTook = limit, a.took
		}
		t.set(limit, 0)
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
