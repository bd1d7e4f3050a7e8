package decide

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// Key is what came of the calls of a key, as they were.
type Key struct {
	Calls, Success, Failure, Ignored int64
	Lost                             time.Duration // in calls that failed

	score, well int      // that tell for a trouble, and for its end
	first       *Trouble // that there may be; nil if the score is 0
	trouble     *Trouble // nil if there is none
	failed      int64    // the last failure began; 0 if a success has since
	until       int64    // the last failure of before well began to grow, its end
	patience    patience
}

// Trouble is a time in which calls of a key failed, whatever a policy made of it. It begins with the first of failures
// that outweigh the successes as policy.Evidence has it, and is over when successes outweigh failures in the same way.
type Trouble struct {
	Key             uint32
	From, To        int64 // the first failure began, and the last one ended; nanoseconds since 1970
	Calls, Failures int64 // up to the last failure
	Over            bool  // before the records were
	First           int64 // the number of its first call, among those of the key, from 1
	Causes          []CauseCount

	calls int64 // up to now
}

// CauseCount is how many calls failed by a cause.
type CauseCount struct {
	Cause policy.Cause
	Calls int64
}

const (
	threshold = 6 // of a score
	worth     = 3 // of what tells against it
	thin      = 30 * int64(time.Second)
	thinScore = 5
	// mostTroubles are kept, and mostCauses of each.
	mostTroubles = 2000
	mostCauses   = 8
	// mostStrips is how many keys have a strip: the first anyStrips, and those that fail.
	mostStrips, anyStrips = 200, 100
)

// truth is what was, without a breaker.
type truth struct {
	keys     []Key
	total    Key
	troubles []*Trouble
	left     int // troubles beyond mostTroubles
	axis     Axis
	strips   []*Strip // the first is of all keys
	stripOf  []int16  // by key; 0 if it has none
	last     int64    // end of a call
}

func (t *truth) call(c *record.Call) {
	for int(c.Key) >= len(t.keys) {
		t.keys, t.stripOf = append(t.keys, Key{}), append(t.stripOf, 0)
	}
	k := &t.keys[c.Key]
	column, joins := t.axis.at(c.Start)
	for range joins {
		for _, s := range t.strips {
			s.join()
		}
	}
	if len(t.strips) == 0 {
		t.strips = append(t.strips, &Strip{})
	}
	outcome := c.Outcome()
	if t.stripOf[c.Key] == 0 && k.Failure == 0 && len(t.strips) <= mostStrips &&
		(len(t.strips) <= anyStrips || outcome == policy.Failure) {
		t.stripOf[c.Key] = int16(len(t.strips))
		t.strips = append(t.strips, &Strip{Key: c.Key})
	}
	end := c.End()
	t.last = max(t.last, end)
	k.Calls++
	t.total.Calls++
	if k.first != nil {
		k.first.calls++
	}
	strip := t.strips[t.stripOf[c.Key]] // that of all, which is counted once more below, if there is none
	switch outcome {
	case policy.Success:
		k.Success++
		t.total.Success++
		if t.strips[0].Good[column]++; strip != t.strips[0] {
			strip.Good[column]++
		}
		if k.score > 0 || k.trouble != nil {
			t.succeeded(k)
		}
	case policy.Failure:
		k.Failure++
		t.total.Failure++
		k.Lost += time.Duration(end - c.Start)
		t.total.Lost += time.Duration(end - c.Start)
		if t.strips[0].Failed[column]++; strip != t.strips[0] {
			strip.Failed[column]++
		}
		t.fails(k, c, end)
	default:
		k.Ignored++
		t.total.Ignored++
		if t.strips[0].Ignored[column]++; strip != t.strips[0] {
			strip.Ignored[column]++
		}
	}
}

func (t *truth) succeeded(k *Key) {
	k.failed = 0
	if k.trouble == nil {
		if k.score = max(0, k.score-worth); k.score == 0 {
			k.first = nil
		}
		return
	}
	if k.well++; k.well < threshold {
		return
	}
	k.trouble.To, k.trouble.Over = k.until, true
	k.trouble, k.first, k.score, k.well = nil, nil, 0, 0
}

func (t *truth) fails(k *Key, c *record.Call, end int64) {
	gap := k.failed != 0 && c.Start-k.failed >= thin
	k.failed = c.Start
	k.until = max(k.until, end)
	if k.trouble != nil {
		k.well = max(0, k.well-worth)
		k.trouble.failed(c)
		return
	}
	if k.first == nil {
		k.first = &Trouble{Key: c.Key, From: c.Start, First: k.Calls, calls: 1}
		k.until = end
	}
	k.first.failed(c)
	k.score++
	if gap {
		k.score += thinScore - 1
	}
	if k.score < threshold {
		return
	}
	k.trouble, k.well = k.first, 0
	if len(t.troubles) < mostTroubles {
		t.troubles = append(t.troubles, k.trouble)
	} else {
		t.left++
	}
}

func (t *Trouble) failed(c *record.Call) {
	t.Failures++
	t.Calls = t.calls
	cause := c.Cause()
	at := slices.IndexFunc(t.Causes, func(n CauseCount) bool { return n.Cause == cause })
	switch {
	case at >= 0:
	case len(t.Causes) < mostCauses:
		at = len(t.Causes)
		t.Causes = append(t.Causes, CauseCount{Cause: cause})
	default:
		return
	}
	t.Causes[at].Calls++
}

// finish ends what lasts to the end of the records.
func (t *truth) finish() {
	for i := range t.keys {
		if k := &t.keys[i]; k.trouble != nil {
			k.trouble.To = k.until
		}
	}
	slices.SortFunc(t.troubles, func(a, b *Trouble) int {
		if a.From != b.From {
			return compare(a.From, b.From)
		}
		return int(a.Key) - int(b.Key)
	})
	for _, trouble := range t.troubles {
		slices.SortStableFunc(trouble.Causes, func(a, b CauseCount) int { return compare(b.Calls, a.Calls) })
	}
}
