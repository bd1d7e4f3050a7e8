package policy

import "time"

// OpenTime is a ProbeRule by the clock: a circuit that opened lets a request through after a time, fixed or growing
// from one failed recovery to the next.
type OpenTime struct {
	For           time.Duration // the first wait; 0 means 60 s
	Factor        int           // each failed recovery multiplies the wait by it; 0 and 1 mean that it stays
	Max           time.Duration // no wait is longer; 0 means 10 minutes or For, whichever is longer
	JitterPercent int           // each wait is shortened by a random share of up to this; 0 means none
	// RetryAfterMax is the cap up to which an upstream's Retry-After makes the wait longer (never shorter);
	// 0 means 5 minutes.
	RetryAfterMax time.Duration
	Lease         time.Duration // how long a probe that has not come back keeps the next from going; 0 means 60 s
}

// NewProbe makes the memory of a circuit. It panics if a parameter makes no sense.
func (o OpenTime) NewProbe() Probe {
	o.For = positiveOr(o.For, time.Minute, "OpenTime.For")
	o.Factor = positiveOr(o.Factor, 1, "OpenTime.Factor")
	o.Max = positiveOr(o.Max, max(10*time.Minute, o.For), "OpenTime.Max")
	if o.Max < o.For {
		panic(invalid("OpenTime.Max is %v and For is %v; write a Max that is not less", o.Max, o.For))
	}
	o.JitterPercent = percentOr(o.JitterPercent, 0, "OpenTime.JitterPercent")
	o.RetryAfterMax = positiveOr(o.RetryAfterMax, 5*time.Minute, "OpenTime.RetryAfterMax")
	o.Lease = positiveOr(o.Lease, time.Minute, "OpenTime.Lease")
	return &openTime{rule: o}
}

type openTime struct {
	rule OpenTime
	wait time.Duration
	due  time.Time
}

func (o *openTime) Trip(now time.Time, r Result, random float64) {
	o.wait = o.rule.For
	o.start(now, r, random)
}

func (o *openTime) Fail(now time.Time, r Result, random float64) {
	// By division, so that no wait overflows.
	if o.wait > o.rule.Max/time.Duration(o.rule.Factor) {
		o.wait = o.rule.Max
	} else {
		o.wait = max(o.wait*time.Duration(o.rule.Factor), o.rule.For)
	}
	o.start(now, r, random)
}

func (o *openTime) start(now time.Time, r Result, random float64) {
	wait := o.wait - time.Duration(random*float64(o.wait)*float64(o.rule.JitterPercent)/100)
	o.due = now.Add(max(wait, min(r.RetryAfter, o.rule.RetryAfterMax)))
}

func (o *openTime) Resume(now, due time.Time) {
	o.wait = o.rule.For
	o.due = due
	if latest := now.Add(max(o.rule.Max, o.rule.RetryAfterMax)); due.After(latest) {
		o.due = latest
	}
}

func (o *openTime) Ask(now time.Time) bool { return !now.Before(o.due) }
func (o *openTime) InVain(int)             {} // only time counts
func (o *openTime) Due() time.Time         { return o.due }
func (o *openTime) Lease() time.Duration   { return o.rule.Lease }
