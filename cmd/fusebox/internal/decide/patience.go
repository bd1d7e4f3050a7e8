package decide

import (
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// patience is how long the callers of a key wait, as the records tell: as long as the last call did that ended by a
// timeout, from then on.
type patience struct {
	timeout int64 // 0 if it is not known
	next    int64 // the timeout from since on
	since   int64 // 0 if there is none
}

// learn takes notice of a call, in order of the starts.
func (p *patience) learn(c *record.Call) {
	if c.Outcome() != policy.Failure || c.Cause().Kind != policy.KindTimeout || c.Took() <= 0 {
		return
	}
	p.catchUp(c.Start)
	p.next, p.since = int64(c.Took()), c.End()
}

func (p *patience) catchUp(now int64) {
	if p.since != 0 && p.since <= now {
		p.timeout, p.since = p.next, 0
	}
}

// fact is what is known of a call beside its record.
type fact struct {
	number   int64 // among the calls of its key, from 1
	deadline int64 // when its caller is gone; 0 if that is not known
}

// deadline is when the caller of a call is gone; 0 if that is not known. It is not before the call's end.
func (p *patience) deadline(c *record.Call) int64 {
	if c.Cause().Kind == policy.KindTimeout && c.Took() > 0 {
		return c.End()
	}
	if p.catchUp(c.Start); p.timeout == 0 {
		return 0
	}
	return max(c.End(), c.Start+p.timeout)
}
