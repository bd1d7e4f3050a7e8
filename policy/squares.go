package policy

import (
	"math"
	"time"
)

// Squares is a ProbeRule that counts the requests that come while the circuit is open: the k-th probe is the
// request numbered Spacing·((k+1)²-3), by default the 1st, 6th, 13th, 22nd, 33rd and so on. A busy client probes often,
// an idle one seldom.
//
// Why squares: outages have heavy tails, and one that has lasted n requests is expected to last about n more, so that
// the next request finds it over with a chance of about 1/n. With a probe every g requests, a failed one wastes a call,
// and the recovery is seen g/2 requests late on average. Let a wasted call cost half of a good answer lost, as in the
// project's decision table: the cost of a request, 1/(2g) + g/(2n), is least at g = √n, up to a factor that depends on
// how both are weighed, and gaps that grow with the root of n put the probes at the squares. They begin with the second
// square, since an outage that has tripped a circuit has lasted some requests already. One of n requests then sees
// √(n/Spacing+3) - 1 probes, and its end about √(n·Spacing) requests late, so the share of an outage that is wasted
// falls to 0 with its length. The sum of both costs is least at a Spacing of 0.5. At 1 it is 6 % more, of three probes
// one is spared, and of a minute at 50 requests a second less than 2 % are wasted.
//
// Counted in requests the rule is the same at every rate, but callers wait in minutes: where one request comes in a
// minute, a gap of five is long for an upstream that is back. So a request that comes MaxGap after the last probe is
// one, too, or an eighth of the time since the trip if that is longer, so that the share wasted of a long outage still
// falls. That is no part of the reckoning above, by which the best gap in an outage that lasts T at λ requests a second
// is about √(T/λ): three minutes in one of ten minutes at one a minute. A gap of 90 s costs as little there, and shows
// the end sooner. The squares reach it only when an outage has lasted 2025·λ s, half an hour at one request a second;
// before that MaxGap changes nothing.
type Squares struct {
	Spacing float64 // in requests; 0 means 1
	// Wait is the least time from the trip or a failed probe to the next probe, shortened by a random part of up to a
	// half; 0 means 100 ms.
	Wait time.Duration
	// RetryAfterMax is the cap up to which an upstream's Retry-After replaces Wait; 0 means 5 s.
	RetryAfterMax time.Duration
	// Lease is how long a probe that has not come back keeps the next from going; 0 means 1 s. Where a Hold knows how
	// long calls usually take, four times that is enough if it is less, but not less than 250 ms. After a silence it is
	// halved for each probe that could not but go over a connection that may be dead.
	Lease time.Duration
	// MaxGap is the time after the trip or the last failed probe from which on a request is a probe whatever its
	// number; 0 means 90 s. It grows to an eighth of the time since the trip.
	MaxGap time.Duration
}

// NewProbe makes the memory of a circuit. It panics if a parameter makes no sense.
func (s Squares) NewProbe() Probe {
	if s.Spacing < 0 || math.IsNaN(s.Spacing) || math.IsInf(s.Spacing, 0) {
		panic(invalid("Squares.Spacing is %v; write a positive number of requests, or 0 for 1", s.Spacing))
	}
	if s.Spacing == 0 {
		s.Spacing = 1
	}
	s.Wait = positiveOr(s.Wait, 100*time.Millisecond, "Squares.Wait")
	s.RetryAfterMax = positiveOr(s.RetryAfterMax, 5*time.Second, "Squares.RetryAfterMax")
	s.Lease = positiveOr(s.Lease, time.Second, "Squares.Lease")
	s.MaxGap = positiveOr(s.MaxGap, 90*time.Second, "Squares.MaxGap")
	return &squares{rule: s}
}

type squares struct {
	rule    Squares
	came    float64 // requests since the trip
	probe   float64 // the number of the next probe
	due     time.Time
	tripped time.Time
	overdue time.Time // from then on, MaxGap has passed
}

func (s *squares) Trip(now time.Time, r Result, random float64) {
	s.came, s.probe, s.tripped = 0, 1, now
	s.wait(now, r, random)
}

// Fail goes on counting where it was: a recovery that failed is part of the same outage.
func (s *squares) Fail(now time.Time, r Result, random float64) {
	s.probe++
	s.wait(now, r, random)
}

func (s *squares) wait(now time.Time, r Result, random float64) {
	wait := s.rule.Wait - time.Duration(random*float64(s.rule.Wait)/2)
	s.due = now.Add(max(wait, min(r.RetryAfter, s.rule.RetryAfterMax)))
	s.overdue = now.Add(max(s.rule.MaxGap, now.Sub(s.tripped)/8))
}

func (s *squares) Resume(now, due time.Time) {
	s.came, s.probe, s.tripped = 0, 1, now
	s.due, s.overdue = due, now.Add(s.rule.MaxGap)
	if latest := now.Add(max(s.rule.Wait, s.rule.RetryAfterMax)); due.After(latest) {
		s.due = latest
	}
}

func (s *squares) Ask(now time.Time) bool {
	s.came++
	return (s.came >= s.number() || !now.Before(s.overdue)) && !now.Before(s.due)
}

// InVain makes s an InVain.
func (s *squares) InVain(n int) { s.came += float64(n) }

// number is that of the next probe among the requests since the trip.
func (s *squares) number() float64 { return s.rule.Spacing * ((s.probe+1)*(s.probe+1) - 3) }

func (s *squares) Countdown() (requests int, latest time.Time) {
	latest = s.overdue
	if latest.Before(s.due) {
		latest = s.due
	}
	return int(min(max(1, math.Ceil(s.number()-s.came)), math.MaxInt32)), latest
}

func (s *squares) Due() time.Time       { return s.due }
func (s *squares) Lease() time.Duration { return s.rule.Lease }
