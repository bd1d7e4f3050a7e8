package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

const (
	// What calls say of a failure whose callers could not know.
	hintHasty   = 1  // a deadline that passed before half of the time that calls usually take
	hintGaveUp  = 8  // a caller that went away after many times as long
	hintsEnough = 32 // of them are one
	manyTimes   = 8
	leastGone   = time.Second // and at the soonest
)

// hints are what callers who could not know say of failures.
type hints struct {
	sum     uint8 // since the last success
	failing bool  // no success since the last failure, or hint of one
}

// hint turns what says nothing of the upstream by itself into a failure, if there has been enough of it since the last
// success. A caller whose deadline passes long before calls usually end could not have had an answer; one that goes
// away after many times as long as they take may be right to. Either is all that is heard of an upstream whose callers
// are all like that.
func (m *machine) hint(p *Permit, now time.Time, r policy.Result) policy.Result {
	usual := m.canary.usual
	if usual == 0 || r.Cause.Phase == policy.PhaseBody {
		return r
	}
	waited, known := m.canary.waited(p.watched, now, r)
	switch kind, whose := r.Cause.Kind, r.Cause.Deadline; {
	case r.Outcome == policy.Failure && kind == policy.KindTimeout && waited < usual/2 && (known || m.hints.failing) &&
		// which are for all calls, and somebody chose them
		whose != policy.DeadlineTransport && whose != policy.DeadlineLimit:
		if m.hints.sum += hintHasty; m.state != policy.Closed {
			m.hints.sum += hintGaveUp - hintHasty // there is reason to believe it
		}
	case r.Outcome == policy.Ignored && kind == policy.KindCanceled && known &&
		waited >= max(leastGone, manyTimes*usual, m.canary.longest) &&
		!m.wellSince(now.Add(-waited)): // others were answered while it waited, and it is of another kind
		m.hints.sum += hintGaveUp
	default:
		return r
	}
	r.Outcome, m.hints.failing = policy.Ignored, true
	if m.hints.sum >= hintsEnough {
		m.hints.sum -= hintsEnough
		r = policy.Result{
			Outcome: policy.Failure, Cause: policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindNoAnswer},
		}
		m.failed(now, r)
	}
	return r
}

func (m *machine) wellSince(since time.Time) bool {
	return m.well != 0 && m.well >= momentOf(since)
}

// waited returns how long a call has been out that came to nothing, or at least how long, if it is not known when it
// began: then it was before any failed, and before a canary was late.
func (c *canary) waited(call *watched, now time.Time, r policy.Result) (waited time.Duration, known bool) {
	switch {
	case call != nil:
		return now.Sub(call.started), true
	case r.Elapsed > 0:
		return r.Elapsed, true
	case c.phase == watching:
		return now.Sub(c.vigil().since), false
	}
	return 0, false
}
