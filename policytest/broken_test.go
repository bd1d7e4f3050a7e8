package policytest

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// fakeTB keeps what a check says of a rule.
type fakeTB struct {
	testing.TB
	said []string
}

func (f *fakeTB) Helper()                      {}
func (f *fakeTB) Error(args ...any)            { f.said = append(f.said, fmt.Sprint(args...)) }
func (f *fakeTB) Errorf(s string, args ...any) { f.said = append(f.said, fmt.Sprintf(s, args...)) }
func (f *fakeTB) Fatal(args ...any)            { f.Error(args...); panic(f) }
func (f *fakeTB) Fatalf(s string, args ...any) { f.Errorf(s, args...); panic(f) }

// failures returns what a check says of a rule; that it panics, too.
func failures(test func(testing.TB)) (said []string) {
	f := &fakeTB{}
	defer func() {
		if said = f.said; len(said) > 0 {
			recover()
		} else if p := recover(); p != nil {
			said = []string{fmt.Sprint("panic: ", p)}
		}
	}()
	test(f)
	return nil
}

// eachFails takes for each check the rules that it has to find broken, and the sound one that all of them are made from.
func eachFails[Rule any](t *testing.T, checks []check[Rule], sound Rule, broken map[string][]Rule) {
	for _, c := range checks {
		require.Empty(t, failures(func(tb testing.TB) { c.test(tb, sound) }), "%s fails a sound rule", c.name)
		require.NotEmpty(t, broken[c.name], "no rule shows that %s can fail", c.name)
		for i, rule := range broken[c.name] {
			said := failures(func(tb testing.TB) { c.test(tb, rule) })
			require.NotEmpty(t, said, "%s finds nothing wrong with the broken rule %d, %T", c.name, i, rule)
			t.Logf("%s: %s", c.name, strings.Join(said, "; "))
		}
		delete(broken, c.name)
	}
	require.Empty(t, broken, "there are no such checks")
}

// tripRule makes memories by a function.
type tripRule func() policy.Trip

func (r tripRule) NewTrip() policy.Trip { return r() }
func (tripRule) Timed() bool            { return false }

// streak is sound: five failures in a row.
type streak struct{ failures int }

func newStreak() policy.Trip                 { return &streak{} }
func (s *streak) Start(time.Time, int)       { s.failures = 0 }
func (s *streak) Quiet() bool                { return s.failures == 0 }
func (s *streak) Counts() (int, int)         { return s.failures, 0 }
func (s *streak) Gauge(time.Time) (int, int) { return s.failures, 5 }
func (s *streak) Bad(policy.Result) bool     { return false }
func (s *streak) Record(_ time.Time, r policy.Result) bool {
	if s.failures++; r.Outcome == policy.Success {
		s.failures = 0
	}
	return s.failures >= 5
}

type (
	countsAsItIsAsked struct{ *streak }
	forgetsNothing    struct{ *streak }
	startsAtOne       struct{ *streak }
	alwaysQuiet       struct{ *streak }
	countsBelowZero   struct{ *streak }
	gaugeBeyondItsEnd struct{ *streak }
	gaugeWithoutEnd   struct{ *streak }
	slowIsFailed      struct{ *streak }
	allIsBad          struct{ *streak }
	keepsResults      struct {
		*streak
		seen *[]policy.Result
	}
	indexesByTime struct {
		*streak
		slots *[10]int
	}
	countsTime struct {
		*streak
		total *int
	}
)

func (m countsAsItIsAsked) Counts() (int, int)         { m.failures++; return 0, 0 }
func (m forgetsNothing) Start(time.Time, int)          {}
func (m startsAtOne) Start(time.Time, int)             { m.failures = 1 }
func (m alwaysQuiet) Quiet() bool                      { return true }
func (m countsBelowZero) Counts() (int, int)           { return m.failures, -m.failures }
func (m gaugeBeyondItsEnd) Gauge(time.Time) (int, int) { return m.failures, 4 }
func (m gaugeWithoutEnd) Gauge(time.Time) (int, int)   { return m.failures, 0 }
func (m allIsBad) Bad(policy.Result) bool              { return true }
func (m keepsResults) Quiet() bool                     { return false }
func (m countsTime) Counts() (int, int)                { return m.failures, *m.total }
func (m countsTime) Start(time.Time, int)              { m.failures, *m.total = 0, 0 }
func (m slowIsFailed) Record(now time.Time, r policy.Result) bool {
	if r.Elapsed > time.Second {
		r.Outcome = policy.Failure
	}
	return m.streak.Record(now, r)
}
func (m keepsResults) Record(now time.Time, r policy.Result) bool {
	*m.seen = append([]policy.Result{r}, *m.seen...)[:1]
	return m.streak.Record(now, r)
}
func (m indexesByTime) Record(now time.Time, r policy.Result) bool {
	m.slots[now.Sub(epoch)/time.Second%10]++
	return m.streak.Record(now, r)
}
func (m countsTime) Record(now time.Time, r policy.Result) bool {
	*m.total += int(r.Elapsed)
	return m.streak.Record(now, r)
}

func TestEachCheckOfATripRuleFailsABrokenOne(t *testing.T) {
	one := newStreak()
	eachFails(t, tripChecks, policy.TripRule(tripRule(newStreak)), map[string][]policy.TripRule{
		"NewMakesMemoryForOneCircuit": {tripRule(func() policy.Trip { return one })},
		"LookingChangesNothing":       {tripRule(func() policy.Trip { return countsAsItIsAsked{&streak{}} })},
		"StartForgetsAllCalls": {
			tripRule(func() policy.Trip { return forgetsNothing{&streak{}} }), tripRule(func() policy.Trip { return startsAtOne{&streak{}} }),
		},
		"WhileItIsQuietASuccessChangesNothing": {tripRule(func() policy.Trip { return alwaysQuiet{&streak{}} })},
		"CountsAreNeverNegative":               {tripRule(func() policy.Trip { return countsBelowZero{&streak{}} })},
		"TheGaugeIsBelowItsEndUntilItTrips": {
			tripRule(func() policy.Trip { return gaugeBeyondItsEnd{&streak{}} }), tripRule(func() policy.Trip { return gaugeWithoutEnd{&streak{}} }),
		},
		"OnlyATimedRuleLooksAtTheTimeOfCalls": {tripRule(func() policy.Trip { return slowIsFailed{&streak{}} })},
		"AQuickSuccessIsNotBad":               {tripRule(func() policy.Trip { return allIsBad{&streak{}} })},
		"NoTimeAndNoNumberDoesHarm": {
			tripRule(func() policy.Trip { return indexesByTime{&streak{}, new([10]int)} }),
			tripRule(func() policy.Trip { return countsTime{&streak{}, new(int)} }),
		},
		"ASuccessAllocatesNothing": {tripRule(func() policy.Trip { return keepsResults{&streak{}, new([]policy.Result)} })},
	})
}

// probeRule makes memories by a function.
type probeRule func() policy.Probe

func (r probeRule) NewProbe() policy.Probe { return r() }

// third is sound: a minute, and then every third request, or any after an hour.
type third struct {
	came int
	due  time.Time
}

func newThird() policy.Probe                                      { return &third{} }
func (p *third) Trip(now time.Time, _ policy.Result, _ float64)   { p.Resume(now, now.Add(time.Minute)) }
func (p *third) Fail(now time.Time, r policy.Result, rnd float64) { p.Trip(now, r, rnd) }
func (p *third) Resume(now, due time.Time)                        { p.came, p.due = 0, due }
func (p *third) Due() time.Time                                   { return p.due }
func (p *third) Lease() time.Duration                             { return time.Second }
func (p *third) Countdown() (int, time.Time)                      { return max(1, 3-p.came), p.due.Add(time.Hour) }
func (p *third) InVain(n int)                                     { p.came += n }
func (p *third) Ask(now time.Time) bool {
	p.came++
	return !now.Before(p.due) && p.came >= 3 || now.Sub(p.due) >= time.Hour
}

type (
	putsOff          struct{ *third }
	hasty            struct{ *third }
	jittersTooFar    struct{ *third }
	failsForGood     struct{ *third }
	resumesItsOwn    struct{ *third }
	resumesLater     struct{ *third }
	believesAnything struct{ *third }
	hasNoLease       struct{ *third }
	countsOneLess    struct{ *third }
	countsZero       struct{ *third }
	promisesSooner   struct{ *third }
	wantsAllTheTime  struct {
		*third
		last *time.Time
	}
	doublesRetryAfter struct{ *third }
	losesThem         struct{ *third }
)

func (losesThem) InVain(int) {}

func (p putsOff) Due() time.Time   { p.came = 0; return p.due }
func (p hasty) Ask(time.Time) bool { p.came++; return p.came >= 3 }
func (p jittersTooFar) Trip(now time.Time, _ policy.Result, random float64) {
	p.Resume(now, now.Add(time.Minute-time.Duration(random*float64(2*time.Minute))))
}
func (p failsForGood) Fail(now time.Time, r policy.Result, random float64) {
	p.Resume(now, now.Add(200*year))
	p.came = math.MinInt
}
func (p failsForGood) Ask(time.Time) bool        { p.came++; return p.came >= 3 }
func (p resumesItsOwn) Resume(now, _ time.Time)  { p.third.Resume(now, now.Add(time.Minute)) }
func (p resumesLater) Resume(now, due time.Time) { p.third.Resume(now, due.Add(1)) }
func (p believesAnything) Trip(now time.Time, r policy.Result, _ float64) {
	p.Resume(now, now.Add(max(time.Minute, r.RetryAfter)))
}
func (p hasNoLease) Lease() time.Duration { return 0 }
func (p countsOneLess) Countdown() (int, time.Time) {
	n, at := p.third.Countdown()
	return max(1, n-1), at
}
func (p countsZero) Countdown() (int, time.Time) { n, at := p.third.Countdown(); return n - 1, at }
func (p promisesSooner) Countdown() (int, time.Time) {
	n, at := p.third.Countdown()
	return n, at.Add(-1)
}
func (p wantsAllTheTime) Ask(now time.Time) bool {
	if now.Before(*p.last) {
		panic("time runs backwards")
	}
	*p.last = now
	return p.third.Ask(now)
}
func (p doublesRetryAfter) Trip(now time.Time, r policy.Result, _ float64) {
	p.Resume(now, now.Add(min(2*r.RetryAfter, time.Hour)))
}

func TestEachCheckOfAProbeRuleFailsABrokenOne(t *testing.T) {
	one := newThird()
	eachFails(t, probeChecks, policy.ProbeRule(probeRule(newThird)), map[string][]policy.ProbeRule{
		"NewMakesMemoryForOneCircuit":        {probeRule(func() policy.Probe { return one })},
		"LookingChangesNothing":              {probeRule(func() policy.Probe { return putsOff{&third{}} })},
		"NoRequestIsLetThroughBeforeItIsDue": {probeRule(func() policy.Probe { return hasty{&third{}} })},
		"NoWaitIsOverBeforeItBegins":         {probeRule(func() policy.Probe { return jittersTooFar{&third{}} })},
		"EveryWaitEnds":                      {probeRule(func() policy.Probe { return failsForGood{&third{}} })},
		"AWaitThatBeganElsewhereEndsWhenItIsDue": {
			probeRule(func() policy.Probe { return resumesItsOwn{&third{}} }), probeRule(func() policy.Probe { return resumesLater{&third{}} }),
			probeRule(func() policy.Probe { return failsForGood{&third{}} }),
		},
		"AYearIsNotWaitedBecauseAnUpstreamSaysSo": {probeRule(func() policy.Probe { return believesAnything{&third{}} })},
		"ALeaseIsPositive":                        {probeRule(func() policy.Probe { return hasNoLease{&third{}} })},
		"ACountdownComesTrue": {
			probeRule(func() policy.Probe { return countsOneLess{&third{}} }), probeRule(func() policy.Probe { return countsZero{&third{}} }),
			probeRule(func() policy.Probe { return promisesSooner{&third{}} }),
		},
		"RequestsInVainAreAsIfItWasAskedAboutEach": {probeRule(func() policy.Probe { return losesThem{&third{}} })},
		"NoTimeAndNoNumberDoesHarm": {
			probeRule(func() policy.Probe { return wantsAllTheTime{&third{}, new(time.Time)} }),
			probeRule(func() policy.Probe { return doublesRetryAfter{&third{}} }),
		},
	})
}

// recoverRule makes memories by a function.
type recoverRule func() policy.Recover

func (r recoverRule) NewRecover() policy.Recover { return r() }
func (recoverRule) AfterProbe() bool             { return true }

// three is sound: three at a time; a failure more than successes opens, ten successes more than failures close. Others allow more.
type three struct{ failures, successes, more int }

func newThree() policy.Recover                  { return &three{} }
func (r *three) Start(time.Time, policy.Result) { *r = three{} }
func (r *three) Limit() int                     { return 3 + r.more }
func (r *three) Admit(inFlight int) (int, bool) {
	return r.failures + r.successes, inFlight < r.Limit()
}
func (r *three) Lease() time.Duration { return time.Second }
func (r *three) Counts() (int, int)   { return r.failures, r.successes }
func (r *three) Others(_, successes, _ int, _ time.Duration) {
	r.more = min(max(r.more, successes), 10)
}
func (r *three) Record(_ time.Time, _ int, result policy.Result) policy.Verdict {
	if result.Outcome == policy.Failure {
		r.failures++
	} else {
		r.successes++
	}
	switch left := r.successes - r.failures; {
	case left >= 10:
		return policy.VerdictClose
	case left < 0:
		return policy.VerdictReopen
	}
	return policy.VerdictStay
}

type (
	growsAsItIsAsked struct{ *three }
	keepsAll         struct{ *three }
	oneTooMany       struct{ *three }
	oneTooFew        struct{ *three }
	admitsNone       struct{ *three }
	neverCloses      struct{ *three }
	neverReopens     struct{ *three }
	knowsItsMarks    struct {
		*three
		out map[int]int
	}
	countsAll struct {
		*three
		total *int
	}
	leaseRunsOut    struct{ *three }
	trustsOthers    struct{ *three }
	ofOtherVerdicts struct{ *three }
)

func (r growsAsItIsAsked) Limit() int               { r.more++; return 3 + r.more/100 }
func (r keepsAll) Start(time.Time, policy.Result)   {}
func (r oneTooMany) Admit(inFlight int) (int, bool) { return 0, inFlight <= r.Limit() }
func (r oneTooFew) Limit() int                      { return 3 - r.failures }
func (r admitsNone) Admit(inFlight int) (int, bool) { return 0, inFlight < r.Limit() && r.failures < 3 }
func (r leaseRunsOut) Lease() time.Duration {
	return time.Second - time.Duration(r.successes)*time.Second/5
}
func (r trustsOthers) Others(_, n, _ int, _ time.Duration) { r.more = r.more + n }
func (r countsAll) Counts() (int, int)                     { return r.failures, *r.total }
func (r neverCloses) Record(now time.Time, mark int, result policy.Result) policy.Verdict {
	r.three.Record(now, mark, result)
	return policy.VerdictStay
}
func (r neverReopens) Record(now time.Time, mark int, result policy.Result) policy.Verdict {
	return min(policy.VerdictClose, r.three.Record(now, mark, result))
}
func (r knowsItsMarks) Admit(inFlight int) (int, bool) {
	mark, ok := r.three.Admit(inFlight)
	if ok {
		r.out[mark]++
	}
	return mark, ok
}
func (r knowsItsMarks) Record(now time.Time, mark int, result policy.Result) policy.Verdict {
	if r.out[mark]--; r.out[mark] < 0 {
		panic("nobody got that mark")
	}
	return r.three.Record(now, mark, result)
}
func (r countsAll) Record(now time.Time, mark int, result policy.Result) policy.Verdict {
	*r.total++
	return r.three.Record(now, mark, result)
}
func (r ofOtherVerdicts) Record(now time.Time, mark int, result policy.Result) policy.Verdict {
	return r.three.Record(now, mark, result) + 3
}

// growsByThem allows more the more are refused, if it is told of many at a time.
type growsByThem struct{ *three }

func (r growsByThem) InVain(n int) { r.more += n }

func TestEachCheckOfARecoverRuleFailsABrokenOne(t *testing.T) {
	one := newThree()
	eachFails(t, recoverChecks, policy.RecoverRule(recoverRule(newThree)), map[string][]policy.RecoverRule{
		"NewMakesMemoryForOneCircuit":   {recoverRule(func() policy.Recover { return one })},
		"LookingChangesNothing":         {recoverRule(func() policy.Recover { return growsAsItIsAsked{&three{}} })},
		"StartBeginsAnew":               {recoverRule(func() policy.Recover { return keepsAll{&three{}} })},
		"NoMoreAreAdmittedThanTheLimit": {recoverRule(func() policy.Recover { return oneTooMany{&three{}} })},
		"WhereNoneIsInFlightOneIsAdmitted": {
			recoverRule(func() policy.Recover { return oneTooFew{&three{}} }), recoverRule(func() policy.Recover { return admitsNone{&three{}} }),
		},
		"SuccessesClose": {recoverRule(func() policy.Recover { return neverCloses{&three{}} })},
		"FailuresReopen": {
			recoverRule(func() policy.Recover { return neverReopens{&three{}} }), recoverRule(func() policy.Recover { return ofOtherVerdicts{&three{}} }),
		},
		"ACallMayCountTwiceAndWithoutAMark":        {recoverRule(func() policy.Recover { return knowsItsMarks{&three{}, make(map[int]int)} })},
		"CountsAreOfCallsSinceStart":               {recoverRule(func() policy.Recover { return countsAll{&three{}, new(int)} })},
		"ALeaseIsPositive":                         {recoverRule(func() policy.Recover { return leaseRunsOut{&three{}} })},
		"RequestsInVainAreAsIfItWasAskedAboutEach": {recoverRule(func() policy.Recover { return growsByThem{&three{}} })},
		"NoTimeAndNoNumberDoesHarm": {
			recoverRule(func() policy.Recover { return trustsOthers{&three{}} }), recoverRule(func() policy.Recover { return ofOtherVerdicts{&three{}} }),
		},
	})
}

func TestARuleThatTakesSenselessParametersFails(t *testing.T) {
	require.NotEmpty(t, failures(func(tb testing.TB) { checkPanics(tb, 0, func() {}) }))
	require.Empty(t, failures(func(tb testing.TB) { checkPanics(tb, 0, func() { panic("write a positive one") }) }))
}

func TestAPolicyWithoutARuleFails(t *testing.T) {
	whole := policy.Adaptive{}.Rules()
	for name, take := range map[string]func(*policy.Rules){
		"Trip": func(r *policy.Rules) { r.Trip = nil }, "Probe": func(r *policy.Rules) { r.Probe = nil },
		"Recover": func(r *policy.Rules) { r.Recover = nil }, "Limits": func(r *policy.Rules) { r.Limits.InFlight = -1 },
	} {
		rules := whole
		take(&rules)
		require.NotEmpty(t, failures(func(tb testing.TB) { checkRules(tb, rules) }), name)
	}
	require.Empty(t, failures(func(tb testing.TB) { checkRules(tb, whole) }))
}
