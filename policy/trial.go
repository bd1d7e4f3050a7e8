package policy

import (
	"fmt"
	"time"
)

// Trial is the textbook RecoverRule: a limited number of calls is let through; enough successes close the
// circuit, and one failure opens it again.
type Trial struct {
	Probes    int // calls in flight at most; 0 means 1
	Successes int // successes that close the circuit; 0 means Probes
	// Lease is as Recover.Lease; 0 means 60 s. After a silence, a call
	// that could not but go over a connection that may be dead has a second at most, and then says nothing.
	Lease time.Duration
}

// NewRecover makes the memory of a circuit. It panics if a parameter makes no sense.
func (t Trial) NewRecover() Recover {
	t.Probes = positiveOr(t.Probes, 1, "Trial.Probes")
	t.Successes = positiveOr(t.Successes, t.Probes, "Trial.Successes")
	t.Lease = positiveOr(t.Lease, time.Minute, "Trial.Lease")
	return &trial{rule: t}
}

// AfterProbe reports false: the calls of the trial are the probes.
func (Trial) AfterProbe() bool { return false }

type trial struct {
	rule                Trial
	failures, successes int
}

func (t *trial) Start(time.Time, Result) { t.failures, t.successes = 0, 0 }

// Limit lets no more calls through than can still be of use.
func (t *trial) Limit() int {
	return min(t.rule.Probes, max(t.rule.Probes, t.rule.Successes)-t.successes)
}

func (t *trial) Admit(inFlight int) (int, bool) { return 0, inFlight < t.Limit() }

// InVain makes t an InVain, which remembers no request.
func (t *trial) InVain(int) {}

func (t *trial) Record(_ time.Time, _ int, r Result) Verdict {
	if r.Outcome == Failure {
		t.failures++
		return VerdictReopen
	}
	t.successes++
	if t.successes >= t.rule.Successes {
		return VerdictClose
	}
	return VerdictStay
}

func (t *trial) Lease() time.Duration { return t.rule.Lease }
func (t *trial) Counts() (int, int)   { return t.failures, t.successes }

func (t *trial) Explain() string {
	return fmt.Sprintf("a probe failed after %d of %d successes", t.successes, t.rule.Successes)
}
