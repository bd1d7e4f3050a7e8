package policy

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// ThrottleReason is why calls of a closed circuit are throttled, or are not any more. It is what logs, metrics and the
// dashboard show.
type ThrottleReason string

// Why calls are throttled.
const (
	ThrottledBy503 ThrottleReason = "503"           // calls are turned away, the last one by that status
	ThrottledBy429 ThrottleReason = "429"           // the same
	ThrottledLate  ThrottleReason = "late answers"  // later than callers can bear
	ThrottledQueue ThrottleReason = "growing queue" // in which a call would wait for too long
	ThrottledAgain ThrottleReason = "recovered"     // they were before the circuit opened, which is closed again
)

// Why they are not any more.
const (
	ThrottleCalm   ThrottleReason = "calm"           // nothing was turned away or late for long enough
	ThrottleNoUse  ThrottleReason = "no use"         // to send less did not help, or has cost good answers
	ThrottleOpened ThrottleReason = "circuit opened" // and nothing goes
	ThrottleByHand ThrottleReason = "by hand"        // somebody set the state, the policy or the shadow
)

// Throttled says how calls of a closed circuit are throttled (Throttle).
type Throttled struct {
	Reason ThrottleReason `json:"reason"` // of the last sign that set in
	// what the rule saw then, and against what bound: "12 of 32 calls turned away, the last by 503 (they weigh 8, bound
	// 8)"
	Why   string    `json:"why"`
	Since time.Time `json:"since"`
	Until time.Time `json:"until"` // it ends then, unless another call is turned away or late before
	// InFlight is how many calls may be in flight, of those that began since the newest good answer's call did. It is 0
	// if there is no limit, and only calls are refused that would be late.
	InFlight int `json:"in_flight,omitempty"`
	// PerSecond is about how many calls a second may go, as long as they take now; 0 if that is not known, or InFlight
	// is 0.
	PerSecond float64 `json:"per_second,omitempty"`
	Refused   uint64  `json:"refused"` // requests that were refused, or would have been in shadow, since then
}

// AppendLimit appends how much may go: "12 in flight, about 118 a second".
func (t *Throttled) AppendLimit(b []byte) []byte {
	if t.InFlight == 0 {
		return append(b, "what would not be late goes"...)
	}
	b = append(strconv.AppendInt(b, int64(t.InFlight), 10), " in flight"...)
	if t.PerSecond > 0 {
		b = append(strconv.AppendFloat(append(b, ", about "...), t.PerSecond, 'f', -1, 64), " a second"...)
	}
	return append(b, " may go"...)
}

// reasoned is what there is to say of a Throttling.
type reasoned struct {
	reason ThrottleReason
	why    string
}

// because takes down why calls are throttled, or are not any more.
func (t *Throttling) because(reason ThrottleReason, format string, args ...any) {
	t.said = &reasoned{reason, fmt.Sprintf(format, args...)}
}

// reason is empty if calls were never throttled.
func (t *Throttling) reason() ThrottleReason {
	if t.said == nil {
		return ""
	}
	return t.said.reason
}

// becauseFull is because of those that were turned away.
func (t *Throttling) becauseFull() {
	reason := ThrottledBy503
	if t.rate {
		reason = ThrottledBy429
	}
	t.because(reason, "%.0f of %.0f calls turned away, the last by %s (they weigh %.3g, bound %d)",
		t.bad, t.good+t.bad, reason, t.score, fullScore)
}

// becauseLate is because of late answers, of which this is the last.
func (t *Throttling) becauseLate(p Pass, took time.Duration) {
	t.because(ThrottledLate, "%d calls in a row late (bound %d), the last took %v of the %v that its caller waits "+
		"(bound %.0f %%), the slowest of the first %v",
		t.answers.late, lateAnswers, rounded(took), rounded(p.bears), lateShare*100, rounded(t.answers.slowest))
}

// becauseQueue is because of a queue that grows, unless that is known.
func (t *Throttling) becauseQueue(now time.Time, p Pass) {
	if t.limit < unlimited || t.reason() == ThrottledQueue && passed(now, t.refused) <= calmAfter {
		return
	}
	a := &t.answers
	t.because(ThrottledQueue, "answers are %v apart and their calls %v (bound %v times as far), so that %d calls "+
		"ahead take %v of the %v that its caller waits (bound %.0f %%)",
		rounded(a.apart), rounded(a.beganApart), behind,
		p.ahead, rounded(time.Duration(p.ahead)*a.apart), rounded(p.bears), lateRoom*100)
}

// Until is when calls are not throttled any more, unless another sign comes; zero if they are not.
func (t *Throttling) Until() time.Time {
	switch {
	case t.pause.on():
		return t.pause.until()
	case t.limit < unlimited:
		return t.sign.Add(calmAfter)
	case t.reason() == ThrottledQueue:
		return t.refused.Add(calmAfter)
	}
	return time.Time{}
}

// Throttled says how calls are throttled, but for Since and Refused, which it does not know.
func (t *Throttling) Throttled() Throttled {
	is := Throttled{Until: t.Until()}
	if t.said != nil {
		is.Reason, is.Why = t.said.reason, t.said.why
	}
	if t.limit < unlimited {
		is.InFlight = int(max(1, min(math.Ceil(t.limit), math.MaxInt32)))
		if took := t.answers.took; took > 0 {
			is.PerSecond = threeDigits(t.limit / took.Seconds())
		}
	}
	return is
}

// Ended says, once Until has come or is zero, since when calls are not throttled any more, and why.
func (t *Throttling) Ended(now time.Time) (at time.Time, reason ThrottleReason, why string) {
	if t.pause.on() {
		return t.pause.until(), ThrottleCalm, timeIsOver
	}
	switch t.reason() {
	case ThrottleNoUse, ThrottleByHand, ThrottleCalm:
		return now, t.said.reason, t.said.why
	case ThrottledQueue:
		at = t.refused.Add(calmAfter)
	default:
		at = t.sign.Add(calmAfter)
	}
	if now.Before(at) {
		return now, ThrottleCalm, "so few are turned away without a limit that there is none"
	}
	return at, ThrottleCalm, fmt.Sprintf("none turned away or late for %v", calmAfter)
}

// Wait is about how long it takes until a call may go, of one that was just refused: until there is one by the pace if
// less than one may go in a round trip, and otherwise a round trip. It is more than 0.
func (t *Throttling) Wait() time.Duration {
	took := t.answers.took
	switch {
	case t.pause.on():
		return max(1, t.pause.left(t.refused))
	case took == 0:
		return leastRound
	case t.limit < 1 && t.tokens < 1:
		return max(1, time.Duration(min((1-t.tokens)*float64(took)/t.limit, float64(leastPace))))
	}
	return min(took, mostRound)
}

// InShadow says whether calls that are refused are made all the same. As much comes as ever then, and nobody can tell
// whether a limit helps, or how much the upstream carries: the limit stays as it was set, until there is calm.
func (t *Throttling) InShadow(is bool) {
	if t.shadow && !is && t.limit < unlimited {
		t.release()
		t.because(ThrottleByHand, "not in shadow any more")
	}
	t.shadow = is
}

// frozen reports whether there is a limit that nothing changes.
func (t *Throttling) frozen() bool { return (t.shadow || t.pause.on()) && t.limit < unlimited }

// rounded is a time as people read it.
func rounded(d time.Duration) time.Duration {
	for unit := time.Second; unit > time.Microsecond; unit /= 10 {
		if d >= 10*unit {
			return d.Round(unit / 10)
		}
	}
	return d.Round(time.Microsecond)
}

// threeDigits rounds to three significant digits.
func threeDigits(x float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(x))-2)
	if unit >= 1 {
		return math.Round(x/unit) * unit
	}
	unit = math.Round(1 / unit) // so that the result has no tail of digits
	return math.Round(x*unit) / unit
}
