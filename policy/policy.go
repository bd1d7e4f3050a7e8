// Package policy is Fusebox's vocabulary: what a call can say about its upstream, how calls are
// classified, and the three rules that make a policy: when to trip, when to probe, how to recover.
//
// Everything here is a plain value. A rule holds parameters only and can be shared by any number of
// circuits and goroutines; the memory that it needs for one circuit is made by its New method, belongs
// to that circuit, and is called by one goroutine at a time. Package policytest tests rules of one's own.
package policy

import "time"

// State is the state of a circuit.
type State uint8

const (
	Closed   State = iota // traffic flows, outcomes are watched
	Open                  // requests are refused; now and then one is let through as a probe
	HalfOpen              // a limited number of requests is let through; they decide what comes next
)

// String returns "closed", "open" or "half-open".
func (s State) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	}
	return "invalid state"
}

// MarshalText writes the state as String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	for _, known := range []State{Closed, Open, HalfOpen} {
		if string(text) == known.String() {
			*s = known
			return nil
		}
	}
	return invalid("a state is one of closed, open and half-open, not %q", text)
}

// Outcome is what a finished call says about its upstream.
type Outcome uint8

const (
	Undecided Outcome = iota // only from a Classifier: the next one is asked
	Success                  // the upstream did its work
	Failure                  // the upstream is to blame
	Ignored                  // the call says nothing about the upstream
)

// String returns the outcome's name in lower case.
func (o Outcome) String() string {
	switch o {
	case Undecided:
		return "undecided"
	case Success:
		return "success"
	case Failure:
		return "failure"
	case Ignored:
		return "ignored"
	}
	return "invalid outcome"
}

// Result is what a rule is told of a finished call.
type Result struct {
	Outcome    Outcome       // Success or Failure
	Cause      Cause         // of a Failure
	Elapsed    time.Duration // from the call's start to its headers or its error; 0 where nobody asked for it
	RetryAfter time.Duration // what the upstream asked for; 0 if nothing
	Wait       time.Duration // for how long its caller waits; 0 for any time, or if nobody asked
	Trace      string        // the id of the trace that the call belongs to, if it is known
	// Part tells the parts of one upstream apart (Contrast), in this process alone; 0 if nobody asks, or of none.
	Part uint64

	// Of the probe that a Recover starts with:
	Usual time.Duration // what calls took before; 0 if that is not known
	Asked int           // requests that came while it was out
	// Lasted is from the beginning of the recovery before until the circuit opened again, by that recovery or within
	// two seconds after it; 0 if it had been well for longer.
	Lasted time.Duration
}

// Policy says how a circuit behaves. Adaptive and Classic are policies; a Rules value of any three rules is one too.
type Policy interface {
	Rules() Rules
}

// Rules are the three rules of a policy, whether to hold calls when an upstream falls silent, and limits of calls.
// Rules of all kinds combine freely. None of the three may be nil.
type Rules struct {
	Trip    TripRule
	Probe   ProbeRule
	Recover RecoverRule
	Hold    *Hold // nil holds nothing; &Hold{} holds as Adaptive does. Not to be changed
	// Parts is how parts of an upstream that are in trouble alone are cut out. nil cuts out nothing; &Contrast{} does
	// as Adaptive. It only matters for the default key, transport.Upstream without WithKey. Not to be changed
	Parts  *Contrast
	Limits Limits

	Throttle *Throttle // nil throttles nothing; &Throttle{} throttles as Adaptive does. Not to be changed

	// SafeWait is how long a circuit that is due for a probe refuses requests that are better not lost, while it waits
	// for one that can be; after that any request is the probe. 0 means a minute. It only matters with
	// transport.WithSafeProbes.
	SafeWait time.Duration
}

// Validated returns r with the defaults of Hold, Parts, Limits and SafeWait filled in, and a Hold and Parts that are
// Off for none. It panics if their values make no sense.
func (r Rules) Validated() Rules {
	hold := Hold{Off: true}
	if r.Hold != nil {
		hold = *r.Hold
	}
	parts := Contrast{Off: true}
	if r.Parts != nil {
		parts = *r.Parts
	}
	hold, parts = hold.Validated(), parts.Validated()
	r.Hold, r.Parts, r.Limits = &hold, &parts, r.Limits.Validated()
	r.SafeWait = positiveOr(r.SafeWait, time.Minute, "Rules.SafeWait")
	return r
}

// Rules returns r, which makes Rules a Policy.
func (r Rules) Rules() Rules { return r }

// TripRule decides when a closed circuit opens.
type TripRule interface {
	// NewTrip makes the memory for one circuit. It panics if the rule's parameters make no sense.
	NewTrip() Trip
}

// Trip is a TripRule's memory for one circuit. That of a new circuit is told of calls without a Start before.
type Trip interface {
	// Start forgets all calls: the circuit closed, after failedProbes probes (and recoveries) had failed since it
	// tripped.
	Start(now time.Time, failedProbes int)
	// Record takes the result of a call, Success or Failure, and reports whether the circuit trips.
	Record(now time.Time, r Result) bool
	// Quiet reports whether a success would change nothing. While a rule is quiet, successes are not
	// reported to it, and giving them back costs a read.
	Quiet() bool
	// Counts returns the failures and successes that the rule now has in view.
	Counts() (failures, successes int)
}

// ProbeRule decides, while a circuit is open, when to look how its upstream does.
type ProbeRule interface {
	// NewProbe makes the memory for one circuit. It panics if the rule's parameters make no sense.
	NewProbe() Probe
}

// Probe is a ProbeRule's memory for one circuit.
type Probe interface {
	// Trip starts the wait: the circuit tripped by r. Random is uniform in [0,1), for jitter.
	Trip(now time.Time, r Result, random float64)
	// Fail starts the wait again: a probe, or the recovery after it, failed by r.
	Fail(now time.Time, r Result, random float64)
	// Resume takes up a wait that began elsewhere and ends at due.
	Resume(now, due time.Time)
	// Ask is called once for every request that comes while the circuit is open, and reports whether it may
	// be let through.
	Ask(now time.Time) bool
	// Due returns the earliest time at which a request may be let through.
	Due() time.Time
	// Lease is how long a probe that has not come back keeps the next one from going. Its success counts also if it
	// comes later.
	Lease() time.Duration
}

// RecoverRule decides how much a half-open circuit lets through, and what comes next.
type RecoverRule interface {
	// NewRecover makes the memory for one circuit. It panics if the rule's parameters make no sense.
	NewRecover() Recover
	// AfterProbe reports what makes an open circuit half-open: a probe that succeeded (true), or the first
	// request that the ProbeRule lets through (false), which is then the first half-open call.
	AfterProbe() bool
}

// Recover is a RecoverRule's memory for one circuit.
type Recover interface {
	// Start begins a recovery, with the result of the probe that succeeded if the rule is AfterProbe.
	Start(now time.Time, probe Result)
	// Admit reports whether a call may start while inFlight others are out, and a mark that comes back with
	// the call's result. In a fleet, if the rule is AfterProbe, those of all members are counted.
	Admit(inFlight int) (mark int, ok bool)
	// Record takes the result, Success or Failure, of a call that Admit gave the mark; 0 is that of a probe that was
	// not asked for by Admit. A mark can come back twice: as failed when a lease ends, and as a success after all; or
	// well with its headers, and as failed when its body breaks. It can also be one of an earlier recovery.
	Record(now time.Time, mark int, r Result) Verdict
	// Lease is how long a call that has not come back keeps its place. Of a recovery without a probe before it
	// (AfterProbe), the call counts as failed after it, unless it succeeds later, while the circuit is in the same
	// trouble; where calls take long, it is twice the longest answer of the last ten minutes (of which five minutes
	// count). Of one after a probe, others have its place after four times what calls usually take, but not less than
	// a second, if that is sooner; it counts when it comes back, or as failed if nothing has come back for a minute.
	Lease() time.Duration
	// Limit returns how many calls may be in flight now.
	Limit() int
	// Counts returns the failures and successes since Start.
	Counts() (failures, successes int)
}

// Joint is what a Recover that is AfterProbe can have beside its methods, to learn from the calls of all members of a
// fleet.
type Joint interface {
	// Others takes how many calls are in flight, own ones included, and what came of those of another member since it
	// last said so: numbers that are not negative and otherwise not to be trusted. Took is what calls take at most
	// members; 0 if that is not known.
	Others(inFlight, successes, failures int, took time.Duration)
}

// Verdict is what a Recover says after a result.
type Verdict uint8

const (
	VerdictStay   Verdict = iota // half-open still
	VerdictClose                 // the upstream is well
	VerdictReopen                // it is not
)

// Gauge is what a Trip can have beside its methods, to show how near it is to tripping, and to weigh in a fleet what
// other members say.
type Gauge interface {
	// Gauge returns how far the rule has got, and at how much it trips; zeros if it cannot tell.
	Gauge(now time.Time) (value, trips int)
}

// Judge is what a Trip can have beside its methods if it holds more against an upstream than that calls fail, such as
// that they are slow.
type Judge interface {
	// Bad reports whether the rule counts a call as bad. A call of an open or half-open circuit that succeeded and is
	// bad counts as failed, so that what has opened a circuit does not close it.
	Bad(r Result) bool
}

// Timed is what a Trip can have beside its methods if it looks at Result.Elapsed. Without it that may be 0: if no rule,
// classifier or observer looks at it, a healthy call reads no clock.
type Timed interface {
	// Timed reports whether it does. It is asked once, before anything else.
	Timed() bool
}

// Explainer is what a Trip or a Recover can have beside its methods, to say why it has just opened the circuit.
type Explainer interface {
	// Explain says, after a Record that opened the circuit, what the rule saw and against what bound, in a few words:
	// "8 of 10 calls slower than 2s (bound 80 %)".
	Explain() string
}

// Countdown is what a Probe can have beside its methods, to show when the next probe will be where time alone does not
// tell.
type Countdown interface {
	// Countdown returns how many requests are to come until one is a probe, itself among them, and the time from which
	// on a request is one whatever its number. Neither is before Due.
	Countdown() (requests int, latest time.Time)
}

// InVain is what a Probe or a Recover can have beside its methods, so that the requests that it would not let through
// are refused without asking it about each, and without a lock: it is told of them later, many at a time. Those that it
// would let through it is always asked about, and one that is no InVain is asked about all.
type InVain interface {
	// InVain takes n requests. For a Probe it is Ask for each of them, which would have said no: they came before Due,
	// or fewer than the requests of Countdown and before its latest. With each of them Countdown says one less, but no
	// less than 1. For a Recover it is Admit for each, with as many calls in flight as Admit was last asked with, which
	// were no fewer than Limit.
	InVain(n int)
}

// share reports whether part is at least percent of whole: in integers, since in floats 57 of 100 is less
// than 57 %. An int can have 32 bits, and a window can have more calls in view than a hundredth of that.
func share(part, whole, percent int) bool { return int64(part)*100 >= int64(whole)*int64(percent) }
