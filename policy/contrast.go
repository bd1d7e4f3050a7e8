package policy

import (
	"fmt"
	"math"
	"net/http"
)

// Contrast cuts trouble out where it is: a part of an upstream, which is what its requests with one method and one path
// are, ids aside, gets a circuit of its own and opens, if it fails while the rest of the upstream is well.
//
// A part is a suspect from a failure on until it is well again. A failure raises its score by 1 and a success lowers it
// by Worth, as in Evidence, and at 0 it is no suspect any more. It is cut out at a score that by chance hardly any run
// of calls would have if the part failed as often as the rest does: one in a billion, and never below Failures. So it
// takes 4 failures where the rest is well, 7 where one in twenty of the others fails, too, 15 at a quarter, and where
// most calls fail, whatever they are for, nothing is cut up. This is Wald's sequential test of the share that the rest
// has (Sequential Tests of Statistical Hypotheses, 1945), stopped at an error of the first kind; the share is that of
// the last 256 calls, with an eighth of a call that failed before there was any, and of no fewer than Failures. Other
// suspects are not taken for the rest: they may be dead, too.
//
// What says nothing of a part makes no suspect: a connection that is not there, and a 429. A failure that cuts a part
// out, and those of the calls to it that are still out, are held against the part alone.
//
// Suspects are few and cost a healthy upstream nothing. It counts calls, and knows no time.
type Contrast struct {
	Off      bool // nothing is cut out, and the other fields mean nothing
	Failures int  // the least score that cuts a part out; 0 means 4
	Worth    int  // what a success lowers the score by; 0 means 3
	Parts    int  // suspects at most, and parts cut out at most, of one upstream, up to 64; 0 means 16
}

const (
	contrastChance = 1.000001e-9 // that a part is cut out that fails as the rest does, by a run of calls
	contrastPrior  = 1. / 8      // calls that failed, of one, before there is any
	contrastSpan   = 256         // calls of an upstream that are looked at
	contrastStale  = 1024        // calls of an upstream after which a part that was not called is no suspect
	contrastMost   = 64          // the highest score, beyond which there is no contrast
	mostParts      = 64
)

// Validated returns c with its defaults filled in. It panics if the values make no sense.
func (c Contrast) Validated() Contrast {
	c.Failures = positiveOr(c.Failures, 4, "Contrast.Failures")
	c.Worth = positiveOr(c.Worth, 3, "Contrast.Worth")
	if c.Parts = positiveOr(c.Parts, 16, "Contrast.Parts"); c.Parts > mostParts {
		panic(invalid("Contrast.Parts is %d; write 64 or less", c.Parts))
	}
	return c
}

// NewSuspects makes the memory of one upstream. It panics if the values make no sense.
func (c Contrast) NewSuspects() *Suspects { return &Suspects{rule: c.Validated()} }

// Suspects is the memory of a Contrast for one upstream. Like those of other rules it is called by one goroutine at a
// time.
type Suspects struct {
	rule   Contrast
	list   []suspect // one without a part is nobody
	number uint32    // of the last call
	calls  [contrastSpan]lookedAt
	why    string
}

type suspect struct {
	part  uint64
	last  uint32 // the number of its last call
	score uint8
}

// lookedAt is one of the last calls: twice whose it was, and one more if it failed. That is 1 more than the index of a
// suspect, or one of these.
type lookedAt uint8

const (
	ofNobody = 0 // or there was no call
	ofRest   = mostParts + 1
)

func (l lookedAt) of() int      { return int(l >> 1) }
func (l lookedAt) failed() bool { return l&1 == 1 }

// seldom is how many calls it is from one search for what is stale to the next.
const seldom = 64

// Record takes the result of a call to Result.Part, and reports whether that is to be cut out: then it is no suspect
// any more. Random is uniform in [0,1).
func (s *Suspects) Record(r Result, random func() float64) (cut bool) {
	if s.number++; s.number%seldom == 0 {
		s.forgetStale()
	}
	at := s.find(r.Part)
	switch {
	case r.Outcome == Success:
		if at >= 0 {
			s.lower(at)
		}
		s.look(at, false)
		return false
	case !s.rule.Blames(r):
		s.look(-1, true)
		return false
	case at < 0:
		at = s.add(r.Part, random)
	}
	s.look(at, true)
	if at < 0 {
		return false
	}
	of := &s.list[at]
	of.last = s.number
	of.score = min(of.score, math.MaxUint8-1) + 1
	bound, failed, calls := s.bound(at)
	if int(of.score) < bound {
		return false
	}
	s.why = fmt.Sprintf("failures weigh %d (bound %d), and of the rest %d of %s failed",
		of.score, bound, failed, counted(calls, "call"))
	s.drop(at, ofNobody)
	return true
}

// Blames reports whether a result is a failure that makes its part a suspect.
func (Contrast) Blames(r Result) bool {
	if r.Part == 0 || r.Outcome != Failure {
		return false
	}
	switch r.Cause.Phase {
	case PhaseDNS, PhaseConnect, PhaseTLS:
		return false
	}
	switch r.Cause.Kind {
	case KindRefused, KindNotFound, KindCertificate, KindLease, KindNoAnswer:
		return false
	}
	return r.Cause.Status != http.StatusTooManyRequests
}

// Quiet reports whether there is no suspect, so that a success would change nothing that matters.
func (s *Suspects) Quiet() bool {
	for i := range s.list {
		if s.list[i].part != 0 {
			return false
		}
	}
	return true
}

// Explain says, after a Record that cut a part out, what it saw and against what bound.
func (s *Suspects) Explain() string { return s.why }

func (s *Suspects) find(part uint64) int {
	for i := range s.list {
		if part != 0 && s.list[i].part == part {
			return i
		}
	}
	return -1
}

func (s *Suspects) lower(at int) {
	of := &s.list[at]
	of.last = s.number
	if of.score -= uint8(min(int(of.score), s.rule.Worth)); of.score == 0 {
		s.drop(at, ofRest)
	}
}

// add makes room by a suspect of the lowest score if there is none. Which of them is a matter of chance: a part that
// fails again and again gets to a higher score then, however many made-up ones come between.
func (s *Suspects) add(part uint64, random func() float64) int {
	if part == 0 {
		return -1
	}
	free, lowest := -1, uint8(math.MaxUint8)
	for i := range s.list {
		if s.list[i].part == 0 {
			free = i
			break
		}
		lowest = min(lowest, s.list[i].score)
	}
	switch {
	case free >= 0:
	case len(s.list) < s.rule.Parts:
		free = len(s.list)
		s.list = append(s.list, suspect{})
	default:
		alike := 0
		for i := range s.list {
			if s.list[i].score == lowest {
				if alike++; random()*float64(alike) < 1 {
					free = i
				}
			}
		}
		s.drop(free, ofRest)
	}
	s.list[free] = suspect{part: part}
	return free
}

// drop makes a suspect nobody, and what is known of its calls those of somebody else.
func (s *Suspects) drop(at, of int) {
	s.list[at] = suspect{}
	for i, call := range s.calls {
		if call.of() == at+1 {
			s.calls[i] = lookedAt(of<<1) | call&1
		}
	}
}

func (s *Suspects) forgetStale() {
	for i := range s.list {
		if s.list[i].part != 0 && s.number-s.list[i].last > contrastStale {
			s.drop(i, ofRest)
		}
	}
}

func (s *Suspects) look(at int, failed bool) {
	of := ofRest
	if at >= 0 {
		of = at + 1
	}
	call := lookedAt(of << 1)
	if failed {
		call |= 1
	}
	s.calls[s.number%contrastSpan] = call
}

// bound returns the score that cuts a suspect out, and what it is by: how many of the rest's calls failed.
func (s *Suspects) bound(at int) (bound, failed, calls int) {
	for _, call := range s.calls {
		switch {
		case call.of() == ofNobody, call.of() == at+1:
			continue
		case call.of() != ofRest: // another suspect
			continue
		case call.failed():
			failed++
		}
		calls++
	}
	if calls < s.rule.Failures {
		return math.MaxInt, failed, calls // nobody knows how the rest does
	}
	share := (float64(failed) + contrastPrior) / float64(calls+1)
	bound = s.rule.Failures
	for run := math.Pow(share, float64(bound)); run > contrastChance; run *= share {
		if bound++; bound > contrastMost {
			return math.MaxInt, failed, calls
		}
	}
	return bound, failed, calls
}
