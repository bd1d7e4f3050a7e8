package policytest

import (
	"math"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

var recoverChecks = []check[policy.RecoverRule]{
	{"NewMakesMemoryForOneCircuit", recoverMemoryIsOfOneCircuit},
	{"LookingChangesNothing", lookingAtRecoverChangesNothing},
	{"StartBeginsAnew", startBeginsAnew},
	{"NoMoreAreAdmittedThanTheLimit", noMoreThanTheLimit},
	{"WhereNoneIsInFlightOneIsAdmitted", oneIsAdmitted},
	{"SuccessesClose", successesClose},
	{"FailuresReopen", failuresReopen},
	{"ACallMayCountTwiceAndWithoutAMark", anyMarkIsTaken},
	{"CountsAreOfCallsSinceStart", recoverCountsAreCounts},
	{"ALeaseIsPositive", recoverLeaseIsPositive},
	{"RequestsInVainAreAsIfItWasAskedAboutEach", recoverIsToldOfMany},
	{"NoTimeAndNoNumberDoesHarm", recoverTakesAnything},
}

// patience is how many calls a recovery may take in which all goes the same way.
const patience = 100_000

// recovery is what a circuit that is half-open has of its rule.
type recovery struct {
	*world
	policy.Recover
	out     []int // marks of the calls
	verdict policy.Verdict

	failures, successes int // since Start
}

func newRecovery(rule policy.RecoverRule, seed uint64, wild bool) *recovery {
	return &recovery{world: newWorld(seed, wild), Recover: rule.NewRecover()}
}

func (r *recovery) start() {
	probe := policy.Result{Outcome: policy.Success, Elapsed: r.elapsed(), Usual: r.elapsed(), Asked: r.number()}
	r.Start(r.pass(), probe)
	r.out, r.verdict, r.failures, r.successes = nil, policy.VerdictStay, 0, 0
}

// ask lets a call start if it may, and reports whether it did.
func (r *recovery) ask() bool {
	mark, ok := r.Admit(len(r.out))
	if ok {
		r.out = append(r.out, mark)
	}
	return ok
}

// end ends a call that is out, and begins anew if it was the last of the recovery.
func (r *recovery) end(result policy.Result) policy.Verdict {
	n := r.IntN(len(r.out))
	mark := r.out[n]
	r.out[n] = r.out[len(r.out)-1]
	r.out = r.out[:len(r.out)-1]
	return r.record(mark, result)
}

func (r *recovery) record(mark int, result policy.Result) policy.Verdict {
	if result.Outcome == policy.Failure {
		r.failures++
	} else {
		r.successes++
	}
	r.verdict = r.Record(r.pass(), mark, result)
	return r.verdict
}

// step is one that a circuit takes by chance. Some callers come while others are waited for.
func (r *recovery) step() {
	if r.verdict != policy.VerdictStay {
		r.start()
	}
	if joint, ok := r.Recover.(policy.Joint); ok && r.wild && r.IntN(10) == 0 {
		joint.Others(r.number(), r.number(), r.number(), r.elapsed())
	}
	if len(r.out) == 0 || r.IntN(2) == 0 && len(r.out) < 100 {
		r.ask()
	} else {
		r.end(r.result())
	}
}

// recoverSeen is what there is to see of a memory.
type recoverSeen struct {
	verdict             policy.Verdict
	out, limit          int
	lease               time.Duration
	failures, successes int
}

func (r *recovery) see() recoverSeen {
	failures, successes := r.Counts()
	return recoverSeen{r.verdict, len(r.out), r.Limit(), r.Lease(), failures, successes}
}

func recoverMemoryIsOfOneCircuit(t testing.TB, rule policy.RecoverRule) {
	sameAlways(t, func(seed uint64) func() recoverSeen {
		r := newRecovery(rule, seed, false)
		r.start()
		return func() recoverSeen {
			r.step()
			return r.see()
		}
	})
}

func lookingAtRecoverChangesNothing(t testing.TB, rule policy.RecoverRule) {
	for seed := range uint64(seeds) {
		a, b := newRecovery(rule, seed, false), newRecovery(rule, seed, false)
		a.start()
		b.start()
		for i := range steps {
			for range i % 4 {
				b.see()
			}
			a.step()
			b.step()
			if a.verdict != b.verdict || len(a.out) != len(b.out) {
				t.Fatalf("step %d: %d calls out and verdict %d, and %d and %d where it was looked at before",
					i, len(a.out), a.verdict, len(b.out), b.verdict)
			}
		}
	}
}

func startBeginsAnew(t testing.TB, rule policy.RecoverRule) {
	for seed := range uint64(seeds) {
		used := newRecovery(rule, seed, false)
		used.start()
		for range 100 {
			used.step()
		}
		fresh := newRecovery(rule, seed, false)
		used.world = newWorld(seed, false)
		used.start()
		fresh.start()
		for i := range steps {
			if want, got := fresh.see(), used.see(); got != want {
				t.Fatalf(
					"step %d after Start is not as of a circuit that has seen no calls:\nwant %+v\ngot  %+v", i, want,
					got,
				)
			}
			if fresh.verdict != policy.VerdictStay {
				break
			}
			fresh.step()
			used.step()
		}
	}
}

// In a fleet the calls of others are in flight, too, which may be more than the limit already.
func noMoreThanTheLimit(t testing.TB, rule policy.RecoverRule) {
	eachRecovery(rule, false, func(i int, r *recovery) {
		limit := r.Limit()
		for _, inFlight := range []int{limit, limit + 1, 2 * limit, math.MaxInt - 1} {
			if _, ok := r.Admit(inFlight); ok && inFlight >= limit {
				t.Fatalf("step %d: the limit is %d, and with %d in flight one more is admitted", i, limit, inFlight)
			}
		}
	})
}

func oneIsAdmitted(t testing.TB, rule policy.RecoverRule) {
	eachRecovery(rule, false, func(i int, r *recovery) {
		if r.Limit() < 1 {
			t.Fatalf("step %d: half-open, and the limit is %d", i, r.Limit())
		}
		if len(r.out) > 0 {
			return
		}
		if !r.ask() {
			t.Fatalf("step %d: none is in flight, and none is admitted: nothing could change that", i)
		}
	})
}

// eachRecovery looks at recoveries by chance, at each step at which they are not over.
func eachRecovery(rule policy.RecoverRule, wild bool, look func(i int, r *recovery)) {
	for seed := range uint64(seeds) {
		r := newRecovery(rule, seed, wild)
		r.start()
		for i := range steps {
			if r.verdict == policy.VerdictStay {
				look(i, r)
			}
			r.step()
		}
	}
}

var (
	success = policy.Result{Outcome: policy.Success, Elapsed: 10 * time.Millisecond}
	failure = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindStatus, Status: 500}}
)

// ends has callers come at a time, as many as that, until the recovery is over, and returns what it came to.
func (r *recovery) ends(callers int, result policy.Result) policy.Verdict {
	r.start()
	for n := 0; n < patience && r.verdict == policy.VerdictStay; {
		for len(r.out) < callers && r.ask() {
		}
		if len(r.out) == 0 {
			return policy.VerdictStay
		}
		for r.verdict == policy.VerdictStay && len(r.out) > 0 {
			r.end(result)
			n++
		}
	}
	return r.verdict
}

// Where some calls fail and others do not, a rule may well keep a limit that suits the upstream for as long as that
// lasts.
func successesClose(t testing.TB, rule policy.RecoverRule) {
	for _, callers := range []int{1, 2, 10, 100} {
		if verdict := newRecovery(rule, 1, false).ends(callers, success); verdict != policy.VerdictClose {
			t.Errorf(
				"after %d successes of %d callers at a time the verdict is %d and not Close", patience, callers,
				verdict,
			)
		}
	}
}

func failuresReopen(t testing.TB, rule policy.RecoverRule) {
	for _, callers := range []int{1, 2, 10, 100} {
		if verdict := newRecovery(rule, 1, false).ends(callers, failure); verdict != policy.VerdictReopen {
			t.Errorf(
				"after %d failures of %d callers at a time the verdict is %d and not Reopen", patience, callers,
				verdict,
			)
		}
	}
}

// A call whose lease ends has failed, and succeeds if it comes back in the end; one whose headers came well may have a
// body that breaks. The probe itself has no mark, and that is 0.
func anyMarkIsTaken(t testing.TB, rule policy.RecoverRule) {
	for seed := range uint64(seeds) {
		r := newRecovery(rule, seed, false)
		r.start()
		marks := []int{0}
		for i := range steps {
			if r.step(); len(r.out) > 0 {
				marks = append(marks, r.out...)
				marks = marks[max(0, len(marks)-100):]
			}
			if r.verdict == policy.VerdictStay && r.IntN(3) == 0 {
				r.record(append(marks, 0)[r.IntN(len(marks)+1)], r.result())
			}
			r.sound(t, i)
		}
	}
}

// sound fails if what there is to see makes no sense.
func (r *recovery) sound(t testing.TB, i int) {
	t.Helper()
	seen := r.see()
	if seen.verdict > policy.VerdictReopen || seen.verdict == policy.VerdictStay && seen.limit < 1 ||
		seen.failures < 0 || seen.successes < 0 || seen.lease <= 0 {
		t.Fatalf("step %d: %+v", i, seen)
	}
}

func recoverCountsAreCounts(t testing.TB, rule policy.RecoverRule) {
	eachRecovery(rule, false, func(i int, r *recovery) {
		failures, successes := r.Counts()
		if failures < 0 || failures > r.failures || successes < 0 || successes > r.successes {
			t.Fatalf("step %d: %d failures and %d successes since Start, and Counts says %d and %d",
				i, r.failures, r.successes, failures, successes)
		}
	})
}

func recoverLeaseIsPositive(t testing.TB, rule policy.RecoverRule) {
	eachRecovery(rule, false, func(i int, r *recovery) {
		if r.Lease() <= 0 {
			t.Fatalf("step %d: the lease of a call is %v", i, r.Lease())
		}
	})
}

// A recovery that is an InVain is the same, whether it is asked about calls that are too many or told of them.
func recoverIsToldOfMany(t testing.TB, rule policy.RecoverRule) {
	for seed := range uint64(seeds) {
		a, b := newRecovery(rule, seed, false), newRecovery(rule, seed, false)
		told, ok := b.Recover.(policy.InVain)
		if !ok {
			return
		}
		a.start()
		b.start()
		for i := range steps {
			if n := 1 + i%7; len(a.out) >= a.Limit() {
				for range n {
					a.Admit(len(a.out))
				}
				b.Admit(len(b.out))
				told.InVain(n - 1)
			}
			a.step()
			b.step()
			if want, got := a.see(), b.see(); got != want {
				t.Fatalf("step %d: %+v, and %+v where InVain was called", i, want, got)
			}
		}
	}
}

func recoverTakesAnything(t testing.TB, rule policy.RecoverRule) {
	eachRecovery(rule, true, func(i int, r *recovery) {
		r.sound(t, i)
		if limit := r.Limit(); len(r.out) < limit {
			return
		}
		if _, ok := r.Admit(len(r.out)); ok {
			t.Fatalf("step %d: the limit is %d, and with %d in flight one more is admitted", i, r.Limit(), len(r.out))
		}
	})
	r := newRecovery(rule, 1, true)
	for range steps {
		if r.verdict != policy.VerdictStay || len(r.out) == 0 && r.IntN(100) == 0 {
			r.start()
		}
		r.step()
	}
	r.world = newWorld(2, false)
	if verdict := r.ends(10, success); verdict != policy.VerdictClose {
		t.Errorf("after times that jump and numbers that are huge, successes do not close: the verdict is %d", verdict)
	}
}
