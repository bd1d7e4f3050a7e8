package statemachine

import (
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// model is the circuit again, as slow and as plain as can be: one goroutine, no bits, every call it ever let through in one
// list. What it asks of rules it asks at the moments that DESIGN.md names; those of the textbook are its own, too.
type model struct {
	opened    int // how often it has opened
	rules     *modelRules
	trip      policy.Trip
	probe     policy.Probe
	recover   policy.Recover
	recoverOf *modelRules // that recover is of: a recovery goes on by the rule that it began with
	random    func() float64

	state        policy.State
	forced       bool
	hastened     bool
	known        bool // the upstream has answered, or somebody has set the state
	generation   int
	gone         bool
	used         bool // by quick, since the last Forget that could have had an effect
	failedProbes int  // and recoveries, since the trip
	since        time.Time
	recovering   time.Time     // since when, the last time, unless somebody has ended it
	lasted       time.Duration // from then until it opened, by that recovery or soon after
	trouble      time.Time
	troubles     int       // how many are over
	requests     int       // that came since the last was
	hollow       time.Time // until then headers alone say nothing
	solid        time.Duration
	heard        time.Time // in the trouble: a recovery began, or one of its calls came back
	asked        time.Time
	withheld     time.Time // a probe waits for a call that is safe
	cause        policy.Cause
	troubleCause policy.Cause // of the last failure in this trouble, or of what opened the circuit
	real         bool         // something has failed in it
	failedAt     time.Time
	samples      []policy.Sample // a list that is never changed, but replaced
	usual        time.Duration   // what calls take, as far as the model learns it
	longest      time.Duration
	slowest      time.Time // when the longest came back
	hints        float64   // of a failure, by callers who could not know
	failing      bool      // since the last success
	well         time.Time // a call of a closed circuit went well last, if nothing has failed since
	calls        []*modelCall
	counts       Counts
	events       []string
	deaf         bool // nobody is told of refusals
}

// modelRules make the memories of the rules of one policy.
type modelRules struct {
	trip       func() policy.Trip
	probe      func() policy.Probe
	recover    func() policy.Recover
	probeFirst bool
	safeWait   time.Duration
}

func newModel(rules *modelRules, random func() float64) *model {
	return &model{
		rules: rules, trip: rules.trip(), probe: rules.probe(), recover: rules.recover(), recoverOf: rules, random: random,
	}
}

// textbook is the three rules of policy.Classic by no rule of package policy.
type textbook struct {
	failures, probes, successes int
	openFor, probeLease, lease  time.Duration
	safeWait                    time.Duration

	inARow int // failures, while closed
	well   int // successes, while half-open
	ill    int // failures then
	due    time.Time
}

type (
	textbookTrip    struct{ *textbook }
	textbookProbe   struct{ *textbook }
	textbookRecover struct{ *textbook }
)

func (t textbookTrip) Start(time.Time, int) { t.inARow = 0 }
func (t textbookTrip) Quiet() bool          { return t.inARow == 0 }
func (t textbookTrip) Counts() (int, int)   { return t.inARow, 0 }

func (t textbookTrip) Gauge(time.Time) (int, int) { return t.inARow, t.failures }

func (t textbookTrip) Record(_ time.Time, r policy.Result) bool {
	if r.Outcome == policy.Success {
		t.inARow = 0
		return false
	}
	t.inARow++
	return t.inARow == t.failures
}

func (t textbookProbe) Trip(now time.Time, _ policy.Result, _ float64) { t.due = now.Add(t.openFor) }
func (t textbookProbe) Fail(now time.Time, _ policy.Result, _ float64) { t.due = now.Add(t.openFor) }
func (t textbookProbe) Ask(now time.Time) bool                         { return !now.Before(t.due) }
func (t textbookProbe) Due() time.Time                                 { return t.due }
func (t textbookProbe) Lease() time.Duration                           { return t.probeLease }
func (t textbookProbe) Resume(now, due time.Time) {
	t.due = due
	if latest := now.Add(10 * time.Minute); due.After(latest) { // the default Max of policy.OpenTime
		t.due = latest
	}
}

func (t textbookRecover) Start(time.Time, policy.Result) { t.well, t.ill = 0, 0 }
func (t textbookRecover) Admit(inFlight int) (int, bool) { return 0, inFlight < t.Limit() }
func (t textbookRecover) Lease() time.Duration           { return t.lease }
func (t textbookRecover) Counts() (int, int)             { return t.ill, t.well }
func (t textbookRecover) Limit() int                     { return min(t.probes, max(t.probes, t.successes)-t.well) }
func (t textbookRecover) Record(_ time.Time, _ int, r policy.Result) policy.Verdict {
	if r.Outcome == policy.Failure {
		t.ill++
		return policy.VerdictReopen
	}
	t.well++
	if t.well == t.successes {
		return policy.VerdictClose
	}
	return policy.VerdictStay
}

type modelCall struct {
	name       string
	generation int
	probe      bool // it decides about an open or half-open circuit
	trial      bool // it goes to see how the upstream does
	mark       int
	back       bool // Done or Return was called
	settled    bool // by Done, or because its lease ended
	expired    bool // settled because its lease ended
	unsettled  bool // but for that
	headers    bool
	bytes      bool // some of the body came after them
	headersAt  time.Time
	weighed    bool // it began while closed, its headers have come, and its success is to count
	hastened   bool
	withheld   time.Time // model.withheld when it was let through
	overdue    bool
	opened     int // model.opened when it expired
	trouble    int // model.troubles when it began
	requests   int // model.requests then
	started    time.Time
	took       time.Duration // to its headers
	expiry     time.Time
}

func (m *model) quick() *modelCall {
	if m.state != policy.Closed || m.gone {
		return nil
	}
	m.used = true
	call := &modelCall{generation: m.generation}
	m.calls = append(m.calls, call)
	return call
}

// ask is for a call that may be a probe, or may not, or only if no other comes.
func (m *model) ask(now time.Time, by Use) (*modelCall, string) {
	if m.gone {
		return nil, "gone"
	}
	m.expire(now)
	m.came(now)
	call, before := &modelCall{probe: true, trial: true}, m.generation
	switch m.state {
	case policy.Closed:
		call = &modelCall{}
	case policy.Open:
		if m.forced {
			return nil, m.refuse(now, policy.RefusedForced)
		}
		due := m.probe.Ask(now) || m.hastened
		if !due || m.inFlight() > 0 || !m.mayBe(by, now) {
			return nil, m.refuse(now, policy.RefusedOpen)
		}
		call.withheld, call.overdue = m.withheld, m.isOverdue(now)
		call.hastened, m.hastened = m.hastened, false
		if m.rules.probeFirst {
			call.expiry = now.Add(m.probe.Lease()) // no policy here has a Hold
			break
		}
		m.change(policy.HalfOpen, now, policy.ChangeOpenTimePassed, policy.Result{})
	}
	if m.state == policy.HalfOpen {
		if call.trial = !m.recoverOf.probeFirst; call.trial && m.generation == before {
			if m.inFlight() >= m.recover.Limit() || !m.mayBe(by, now) {
				return nil, m.refuse(now, policy.RefusedRamp)
			}
			call.withheld, call.overdue = m.withheld, m.isOverdue(now)
		}
		mark, ok := m.recover.Admit(m.inFlight())
		if !ok {
			return nil, m.refuse(now, policy.RefusedRamp)
		}
		call.mark, call.expiry = mark, now.Add(m.halfOpenLease())
	}
	if m.state != policy.Closed {
		m.counts.Probes++
	}
	if call.probe && call.trial {
		m.withheld = time.Time{}
	}
	call.generation, call.started, call.trouble, call.requests = m.generation, now, m.troubles, m.requests
	m.calls = append(m.calls, call)
	return call, ""
}

// mayBe reports whether a probe that is due may be this call. The clock of those that are to be one only if no other comes
// starts with the first of them.
func (m *model) mayBe(by Use, now time.Time) bool {
	switch by {
	case ToProbe:
		return true
	case NotToProbe:
		return false
	}
	if m.withheld.IsZero() {
		m.withheld = now
	}
	return m.isOverdue(now)
}

func (m *model) isOverdue(now time.Time) bool {
	return !m.withheld.IsZero() && !now.Before(m.withheld.Add(m.rules.safeWait))
}

func (m *model) safeUntil() time.Time {
	if m.withheld.IsZero() {
		return time.Time{}
	}
	return m.withheld.Add(m.rules.safeWait)
}

// came takes down when a request came for a circuit that is not closed. Clocks that run backwards say nothing.
func (m *model) came(now time.Time) {
	if m.state == policy.Closed {
		return
	}
	m.requests++
	if now.After(m.asked) {
		m.asked = now
	}
}

func (m *model) refuse(now time.Time, reason policy.RefusalReason) string {
	m.counts.Refusals++
	due := now
	if m.state == policy.Open && !m.forced && !m.hastened {
		due = m.probe.Due()
	}
	r := Refusal{Reason: reason, State: m.state, At: now, Since: m.since, Due: due, Cause: m.troubleCause, Samples: m.samples}
	if reason == policy.RefusedOpen || reason == policy.RefusedRamp {
		r.SafeUntil = m.safeUntil()
	}
	if m.state == policy.Open && !m.forced {
		if countdown, ok := m.probe.(policy.Countdown); ok {
			r.Requests, r.Latest = countdown.Countdown()
		}
		if m.hastened {
			r.Requests, r.Latest = 1, now
		}
	}
	text := refusalText(r)
	if !m.deaf {
		m.events = append(m.events, text)
	}
	return text
}

func (m *model) inFlight() int {
	n := 0
	for _, call := range m.calls {
		if call.probe && !call.settled && call.generation == m.generation {
			n++
		}
	}
	return n
}

func (m *model) limit() int {
	switch m.state {
	case policy.Closed:
		return 0
	case policy.Open:
		if m.forced {
			return 0
		}
		return 1
	}
	return m.recover.Limit()
}

// expire settles what has been out for too long, in the order in which the leases ended.
func (m *model) expire(now time.Time) {
	calls := slices.Clone(m.calls)
	slices.SortStableFunc(calls, func(a, b *modelCall) int { return a.expiry.Compare(b.expiry) })
	for _, call := range calls {
		if !call.probe && !call.weighed || call.settled || call.generation != m.generation || call.expiry.After(now) {
			continue
		}
		call.settled, call.expired, call.opened = true, true, m.opened
		if call.weighed {
			m.closedCallEnded(now, policy.Result{Outcome: policy.Success})
		} else if call.headers && (call.bytes || !now.Before(m.hollow)) {
			m.probeEnded(now, call, policy.Result{Outcome: policy.Success, Elapsed: call.took})
		} else if m.state == policy.HalfOpen && m.recoverOf.probeFirst && now.Sub(m.heard) < time.Minute {
			call.unsettled = true // it may come yet
		} else {
			r := policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindLease}}
			m.failed(now, r)
			m.probeEnded(now, call, r)
		}
	}
}

// halfOpenLease is how long a half-open call may keep others from going.
func (m *model) halfOpenLease() time.Duration {
	lease := max(m.recover.Lease(), 2*m.longest)
	if m.recoverOf.probeFirst && m.usual > 0 {
		lease = min(lease, max(min(m.recover.Lease(), time.Second), 4*m.usual))
	}
	return lease
}

func (m *model) gotHeaders(now time.Time, call *modelCall) {
	r := policy.Result{Outcome: policy.Success, Elapsed: now.Sub(call.started)}
	switch {
	case m.gone:
	case call.expired && m.lives(call, r):
		m.known = true
		m.late(now, call, r)
		call.headers, call.opened, call.headersAt = true, m.opened, call.started
	case call.settled || call.generation != m.generation || call.weighed:
	case !call.probe:
		m.well = now
		m.expire(now)
		waiting := 0
		for _, other := range m.calls {
			if other.weighed && !other.settled && other.generation == m.generation {
				waiting++
			}
		}
		if call.weighed = call.generation == m.generation && !(m.trip.Quiet() && m.hints == 0) && waiting < 64; call.weighed {
			call.headers, call.expiry, call.headersAt = true, now.Add(time.Second), now
			if now.Before(m.hollow) {
				call.expiry = now.Add(100 * 365 * 24 * time.Hour)
			}
		}
	default:
		call.headers, call.took, m.known, call.headersAt = true, r.Elapsed, true, now
		if at := now.Add(time.Second); now.Before(m.hollow) && !call.bytes {
			call.expiry = now.Add(m.oldEnough(now, call) + time.Second)
		} else if at.Before(call.expiry) {
			call.expiry = at
		}
	}
}

func (m *model) stalledLate(now time.Time, call *modelCall, r policy.Result) {
	if r.Outcome != policy.Failure || r.Cause.Kind != policy.KindTimeout {
		return
	}
	if !now.Before(m.hollow) {
		m.solid = 0
	}
	m.hollow = now.Add(10 * time.Minute)
	m.solid = min(max(m.solid, 2*now.Sub(call.headersAt)), time.Minute)
}

func (m *model) oldEnough(now time.Time, call *modelCall) time.Duration {
	switch {
	case !now.Before(m.hollow):
		return time.Second
	case call.weighed:
		return m.solid
	}
	return min(m.solid, 10*time.Second)
}

func (m *model) gotBytes(now time.Time, call *modelCall) (again time.Duration) {
	if m.gone || !call.headers || call.settled || call.generation != m.generation {
		return 0
	}
	if age, need := now.Sub(call.headersAt), m.oldEnough(now, call); age < need {
		return need - age
	}
	call.bytes = true
	if now.Before(call.expiry) {
		call.expiry = now
	}
	m.expire(now)
	return 0
}

// lives is whether a call that took longer than its lease shows that the upstream lives.
func (m *model) lives(call *modelCall, r policy.Result) bool {
	return !call.headers && r.Outcome == policy.Success && !m.forced && m.state != policy.Closed && call.trouble == m.troubles
}

func (m *model) late(now time.Time, call *modelCall, r policy.Result) string {
	broke := call.headers && r.Outcome == policy.Failure && call.opened == m.opened
	if call.headers {
		m.stalledLate(now, call, r)
	}
	current, lives := call.generation == m.generation, m.lives(call, r)
	unsettled := call.unsettled && current
	call.unsettled = false
	switch {
	case broke && m.state == policy.Closed:
		return m.closedCallEnded(now, r)
	case broke && m.state == policy.HalfOpen, lives && current, unsettled:
		return m.probeEnded(now, call, r)
	case lives && m.state == policy.Open:
		return m.answers(now, m.learn(now, call, r))
	case lives && !m.recoverOf.probeFirst:
		return m.probeEnded(now, call, r)
	case call.weighed && r.Outcome != policy.Failure:
		return ""
	case lives:
		m.learn(now, call, r)
	}
	m.counts.LateCalls++
	return ""
}

func (m *model) learn(now time.Time, call *modelCall, r policy.Result) policy.Result {
	r.Usual, r.Lasted = m.usual, m.lasted
	if call.trouble == m.troubles {
		r.Asked = m.requests - call.requests
	}
	if r.Outcome != policy.Success || r.Elapsed <= 0 {
		return r
	}
	took := min(r.Elapsed, 5*time.Minute)
	if m.usual == 0 {
		m.usual = took
	} else {
		m.usual += (took - m.usual) / 8
	}
	if took >= m.longest || now.Sub(m.slowest) > 10*time.Minute {
		m.longest, m.slowest = took, now
	}
	return r
}

// answers is that an upstream of an open circuit does.
func (m *model) answers(now time.Time, r policy.Result) string {
	m.change(policy.HalfOpen, now, policy.ChangeProbeSucceeded, r)
	if m.recoverOf.probeFirst {
		return ""
	}
	return m.tellRecover(now, 0, r)
}

func (m *model) done(now time.Time, call *modelCall, r policy.Result) string {
	call.back = true
	if m.gone {
		return "gone"
	}
	if r.Outcome == policy.Success || r.Cause.Status > 0 {
		m.known = true
	}
	if r.Outcome == policy.Failure {
		m.counts.Failures++
		m.failed(now, r)
	}
	if r.Outcome == policy.Ignored {
		m.counts.Ignored++
	}
	if m.state == policy.Closed {
		m.expire(now)
	}
	if call.expired {
		if call.unsettled && call.generation == m.generation {
			r = m.hint(now, r)
		}
		return m.late(now, call, r)
	}
	call.settled = true
	if call.generation != m.generation {
		m.counts.LateCalls++
		return ""
	}
	well := r.Outcome == policy.Success
	if r = m.hint(now, r); call.probe {
		return m.probeEnded(now, call, r)
	}
	if well && !call.weighed {
		m.well = now
	}
	if call.weighed && now.Before(m.hollow) {
		m.stalledLate(now, call, r)
	}
	return m.closedCallEnded(now, r)
}

// hint makes a failure of enough that are none by themselves.
func (m *model) hint(now time.Time, r policy.Result) policy.Result {
	c := r.Cause
	hasty := r.Outcome == policy.Failure && c.Kind == policy.KindTimeout && r.Elapsed < m.usual/2 && (r.Elapsed > 0 || m.failing) &&
		c.Deadline != policy.DeadlineTransport && c.Deadline != policy.DeadlineLimit
	gaveUp := r.Outcome == policy.Ignored && c.Kind == policy.KindCanceled && r.Elapsed >= max(time.Second, 8*m.usual, m.longest) &&
		(m.well.IsZero() || m.well.Before(now.Add(-r.Elapsed)))
	if m.usual == 0 || c.Phase == policy.PhaseBody || !hasty && !gaveUp {
		return r
	}
	m.failing = true
	if hasty && m.state == policy.Closed {
		m.hints += 1.0 / 32
	} else {
		m.hints += 1.0 / 4
	}
	if m.hints < 1 {
		return policy.Result{Outcome: policy.Ignored}
	}
	m.hints--
	r = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindNoAnswer}}
	m.failed(now, r)
	return r
}

func (m *model) closedCallEnded(now time.Time, r policy.Result) string {
	if r.Outcome == policy.Ignored || m.forced {
		return ""
	}
	if m.failing = r.Outcome == policy.Failure; !m.failing {
		m.hints = 0
	}
	if !m.trip.Record(now, r) {
		return ""
	}
	if r.Outcome == policy.Success { // a rule of slowness trips by calls that succeed, and each is kept as a failure
		slow := r
		slow.Outcome, slow.Cause = policy.Failure, policy.Cause{Kind: policy.KindSlow, Status: r.Cause.Status}
		m.failed(now, slow)
	}
	m.change(policy.Open, now, policy.ChangeTripped, r)
	return "opened"
}

func (m *model) probeEnded(now time.Time, call *modelCall, r policy.Result) string {
	if r.Cause.Kind != policy.KindLease {
		m.heard = now
	}
	switch r.Outcome {
	case policy.Ignored:
		return ""
	case policy.Success:
		m.hints = 0
	}
	r = m.learn(now, call, r)
	if judge, ok := m.trip.(policy.Judge); ok && r.Outcome == policy.Success && judge.Bad(r) {
		r.Outcome, r.Cause = policy.Failure, policy.Cause{Kind: policy.KindSlow, Status: r.Cause.Status}
		m.counts.Failures++
		m.failed(now, r)
	}
	switch {
	case m.state == policy.HalfOpen:
		return m.tellRecover(now, call.mark, r)
	case r.Outcome == policy.Success:
		return m.answers(now, r)
	}
	m.probeFailed()
	m.probe.Fail(now, r, m.random())
	return ""
}

func (m *model) tellRecover(now time.Time, mark int, r policy.Result) string {
	switch m.recover.Record(now, mark, r) {
	case policy.VerdictClose:
		m.change(policy.Closed, now, policy.ChangeRecovered, r)
	case policy.VerdictReopen:
		m.change(policy.Open, now, policy.ChangeRecoveryFailed, r)
		return "opened"
	}
	return ""
}

func (m *model) failed(now time.Time, r policy.Result) {
	m.cause, m.failedAt, m.well = r.Cause, now, time.Time{}
	if m.state != policy.Closed {
		m.troubleCause, m.real = r.Cause, true
	}
	sample := policy.Sample{Cause: r.Cause}
	list := []policy.Sample{{}}
	for _, s := range m.samples {
		if s.Cause == r.Cause {
			sample = s
		} else if len(list) < 8 {
			list = append(list, s)
		}
	}
	sample.Count++
	sample.At = now
	if r.Trace != "" {
		sample.Trace = r.Trace
	}
	list[0] = sample
	m.samples = list
}

// returned is a permit with which no call was made.
func (m *model) returned(call *modelCall) {
	call.back = true
	if m.gone || call.generation != m.generation {
		return
	}
	if !call.probe {
		call.settled = true
		return
	}
	m.hastened = m.hastened || call.hastened && !call.settled
	if !call.settled && !call.withheld.IsZero() && (m.withheld.IsZero() || call.withheld.Before(m.withheld)) {
		m.withheld = call.withheld
	}
	call.settled = true
	m.counts.Probes--
}

func (m *model) blame(now time.Time, r policy.Result) string {
	if m.gone {
		return ""
	}
	m.known = m.known || r.Cause.Status > 0 && r.Cause.Phase != policy.PhaseConnect
	m.counts.Failures++
	m.failed(now, r)
	if m.state != policy.Closed {
		return ""
	}
	return m.closedCallEnded(now, r)
}

func (m *model) probeFailed() { m.failedProbes++ }

// asIfManyFailed is a number of failed probes after which no trip was a false alarm.
const asIfManyFailed = math.MaxInt / 2

func (m *model) change(to policy.State, now time.Time, reason policy.ChangeReason, r policy.Result) {
	at := now
	if at.Before(m.since) {
		at = m.since
	}
	c := Change{From: m.state, To: to, At: at, Reason: reason}
	switch {
	case r.Outcome == policy.Failure:
		c.Cause = r.Cause
	case reason == policy.ChangeTripped:
		c.Cause = policy.Cause{Kind: policy.KindSlow, Status: r.Cause.Status}
	case reason == policy.ChangeRestored: // by what failed where it was saved
		c.Cause = m.cause
	}
	c.Failures, c.Successes = m.inView()
	m.forced, m.hastened, m.hints, m.failing, m.withheld = reason == policy.ChangeForced, false, 0, false, time.Time{}
	m.well = time.Time{}
	if to != policy.Closed {
		m.heard = now
	}
	if m.recoverOf != m.rules {
		m.recover, m.recoverOf = m.rules.recover(), m.rules
	}
	switch to {
	case policy.Closed:
		switch reason {
		case policy.ChangeByHand, policy.ChangeForced, policy.ChangeReleased:
			m.failedProbes = asIfManyFailed // it was no false alarm
		case policy.ChangeReset:
			m.failedProbes, m.usual, m.longest, m.slowest = asIfManyFailed, 0, 0, time.Time{}
			m.hollow = time.Time{}
			m.trip = m.rules.trip()
			m.counts, m.samples, m.cause, m.failedAt = Counts{}, nil, policy.Cause{}, time.Time{}
		}
		m.trip.Start(now, m.failedProbes)
		m.trouble, m.asked, m.troubleCause, m.real = time.Time{}, time.Time{}, policy.Cause{}, false
		if reason != policy.ChangeRecovered {
			m.recovering = time.Time{}
		}
	case policy.HalfOpen:
		m.recover.Start(now, r)
		m.recovering = now
	case policy.Open:
		m.opened++
		m.lasted = 0
		again := reason == policy.ChangeRecoveryFailed || reason == policy.ChangeTripped && now.Sub(m.since) < 2*time.Second
		if again && !m.recovering.IsZero() {
			m.lasted = now.Sub(m.recovering)
		}
		switch reason {
		case policy.ChangeTripped, policy.ChangeByHand, policy.ChangeForced:
			m.counts.Trips++
			m.failedProbes = 0
			m.probe.Trip(now, r, m.random())
		case policy.ChangeRestored:
			m.failedProbes = 0
			m.probe.Resume(now, now.Add(r.RetryAfter))
		case policy.ChangeReleased:
			m.probe.Resume(now, now)
		case policy.ChangeRecoveryFailed:
			m.probeFailed()
			m.probe.Fail(now, r, m.random())
		}
		if !m.forced {
			c.Due = m.probe.Due()
		}
		c.Samples = m.samples
	}
	if to != policy.Closed && m.trouble.IsZero() {
		m.trouble = at
	}
	if to != policy.Closed && c.Cause != (policy.Cause{}) {
		m.troubleCause = c.Cause
	}
	m.real = m.real || reason == policy.ChangeTripped || reason == policy.ChangeRecoveryFailed
	if reason == policy.ChangeTripped {
		m.asked = at
	}
	if to == policy.Closed {
		m.troubles++
		m.requests = 0
	}
	m.state, m.since = to, at
	m.generation++
	m.events = append(m.events, changeText(c))
}

func (m *model) inView() (failures, successes int) {
	switch m.state {
	case policy.Closed:
		return m.trip.Counts()
	case policy.HalfOpen:
		return m.recover.Counts()
	}
	return 0, 0
}

func (m *model) set(to policy.State, now time.Time) (gone bool) {
	if !m.gone && !m.forced {
		m.known = true
		m.change(to, now, policy.ChangeByHand, policy.Result{})
	}
	return m.gone
}

func (m *model) force(to policy.State, now time.Time) (gone bool) {
	if !m.gone && !(m.forced && m.state == to) {
		m.change(to, now, policy.ChangeForced, policy.Result{})
	}
	return m.gone
}

func (m *model) release(now time.Time) {
	if !m.gone && m.forced {
		m.change(m.state, now, policy.ChangeReleased, policy.Result{})
	}
}

func (m *model) reset(now time.Time) bool {
	if m.gone || m.forced {
		return false
	}
	m.change(policy.Closed, now, policy.ChangeReset, policy.Result{})
	return true
}

func (m *model) troubleSeen() time.Time {
	if !m.real {
		return time.Time{}
	}
	return m.trouble
}

func (m *model) configure(rules *modelRules, now time.Time) {
	if m.gone || m.rules == rules {
		return
	}
	m.rules = rules
	m.trip = rules.trip()
	m.trip.Start(now, asIfManyFailed)
	due := m.probe.Due()
	m.probe = rules.probe()
	if m.generation == 0 {
		return // there is nothing to wait for
	}
	if m.probe.Trip(now, policy.Result{}, m.random()); due.Before(m.probe.Due()) {
		m.probe.Resume(now, due)
	}
}

func (m *model) restore(now, due, since time.Time) bool {
	if m.gone || m.generation > 0 {
		return false
	}
	m.known, m.trouble, m.real, m.troubleCause = true, since, !since.IsZero(), m.cause
	m.change(policy.Open, now, policy.ChangeRestored, policy.Result{RetryAfter: due.Sub(now)})
	return true
}

// may reports whether a circuit like this is one to spare; whether it was used or asked for does not matter.
func (m *model) may(spare Spare) bool {
	return map[Spare]bool{
		Unknown: !m.known, Quiet: m.state == policy.Closed && m.trip.Quiet() && m.hints == 0, AnyClosed: m.state == policy.Closed, Idle: true,
	}[spare]
}

// spare reports whether the circuit can be forgotten, if it was not used.
func (m *model) spare(now time.Time, spare Spare, idle time.Duration) bool {
	if spare != Idle || m.state == policy.Closed {
		return m.may(spare)
	}
	asked := m.since
	if m.state == policy.Open && !m.forced {
		asked = m.probe.Due()
	}
	return m.inFlight() == 0 && now.Sub(asked) >= idle
}

func (m *model) quiet(call *modelCall) bool {
	return m.known && !m.gone && !call.probe && !call.weighed && call.generation == m.generation && m.state == policy.Closed && m.trip.Quiet() && m.hints == 0
}

func (m *model) snapshot(now time.Time) Snapshot {
	s := Snapshot{
		State: m.state, Forced: m.forced, Since: m.since, Trouble: m.troubleSeen(), Asked: m.asked, SafeUntil: m.safeUntil(), Generation: uint64(m.generation), Limit: m.limit(),
		Counts: m.counts, Cause: m.cause, FailedAt: m.failedAt, Samples: m.samples,
	}
	s.Failures, s.Successes = m.inView()
	for _, call := range m.calls {
		switch {
		case !call.probe || call.settled || call.generation != m.generation:
		case now.Before(call.expiry):
			s.InFlight++
		default:
			s.Expired++
		}
	}
	if m.state == policy.Open && !m.forced {
		s.Due = m.probe.Due()
		if countdown, ok := m.probe.(policy.Countdown); ok {
			s.Requests, s.Latest = countdown.Countdown()
		}
		if m.hastened {
			s.Due, s.Requests, s.Latest = now, 1, now
		}
	}
	if gauge, ok := m.trip.(policy.Gauge); ok && m.state == policy.Closed {
		s.Gauge, s.Trips = gauge.Gauge(now)
	}
	return s
}

func changeText(c Change) string {
	return fmt.Sprintf("%v→%v at %v %v %v %d %d due %v %v", c.From, c.To, c.At, c.Reason, c.Cause, c.Failures, c.Successes, c.Due, c.Samples)
}

func refusalText(r Refusal) string {
	return fmt.Sprintf("refused %v %v at %v since %v due %v, %d to come or at %v, safe until %v %v %v",
		r.Reason, r.State, r.At, r.Since, r.Due, r.Requests, r.Latest, r.SafeUntil, r.Cause, r.Samples)
}

// listener writes down what the model does.
type listener struct {
	events []string
	deaf   bool // to refusals
}

func (l *listener) Changed(c Change)    { l.events = append(l.events, changeText(c)) }
func (l *listener) Refused(r Refusal)   { l.events = append(l.events, refusalText(r)) }
func (l *listener) WantsRefusals() bool { return !l.deaf }
func (*listener) InShadow() bool        { return false }
func (*listener) Throttled(Throttle)    {}

// duel is a circuit and its model, which get the same operations and must answer the same.
type duel struct {
	fail     func(format string, args ...any)
	circuit  *Circuit
	model    *model
	listener *listener
	now      time.Time
	configs  []config                                      // that Configure takes
	out      []pair                                        // calls whose Done is still to come
	given    []givenSamples                                // that nobody is to change any more
	more     func(r policy.Result, arg byte) policy.Result // what else there is to a result; nil for nothing
	last     string
}

type pair struct {
	permit Permit
	call   *modelCall
}

// config is what circuit and model go by, for each of them.
type config struct {
	circuit *Config
	model   *modelRules
}

// givenSamples is a list and what was in it.
type givenSamples struct {
	list []policy.Sample
	text string
}

// textbookOf is one of the set-ups of the textbook.
func textbookOf(setup byte) (t textbook, probeFirst bool) {
	t = textbook{
		safeWait: []time.Duration{3 * time.Second, time.Minute}[setup>>1&1],
		failures: 1 + int(setup&1)*2, probes: 1 + int(setup>>1&3),
		openFor: 10 * time.Second, probeLease: 2 * time.Second, lease: time.Minute,
	}
	t.successes = []int{t.probes, t.probes + 2, 1}[int(setup>>5)%3]
	return t, setup>>4&1 == 1
}

// rules are those of package policy that are to do the same.
func (t textbook) rules(probeFirst bool) policy.Rules {
	rules := policy.Classic{Failures: t.failures, OpenFor: t.openFor, Probes: t.probes, Successes: t.successes}.Rules()
	if probeFirst {
		rules.Probe = policy.OpenTime{For: t.openFor, Lease: t.probeLease}
		rules.Recover = afterProbe{policy.Trial{Probes: t.probes, Successes: t.successes}}
	}
	rules.SafeWait = t.safeWait
	return rules
}

func (t textbook) model(probeFirst bool) *modelRules {
	return &modelRules{
		trip:       func() policy.Trip { t := t; return textbookTrip{&t} },
		probe:      func() policy.Probe { t := t; return textbookProbe{&t} },
		recover:    func() policy.Recover { t := t; return textbookRecover{&t} },
		probeFirst: probeFirst, safeWait: t.safeWait,
	}
}

func newTextbookModel(t textbook, probeFirst bool) *model {
	return newModel(t.model(probeFirst), func() float64 { return 0 })
}

// newDuel is over the textbook. A circuit in a fleet (8) of which it hears nothing does the same as one by itself.
func newDuel(setup byte, fail func(string, ...any)) *duel {
	l := &listener{}
	var configs []config
	for _, other := range []byte{setup, setup ^ 1<<4, setup ^ 0b00100011} {
		t, probeFirst := textbookOf(other)
		configs = append(configs, config{
			&Config{Rules: t.rules(probeFirst), Random: func() float64 { return 0 }}, t.model(probeFirst),
		})
	}
	return &duel{
		fail: fail, model: newModel(configs[0].model, func() float64 { return 0 }), listener: l, now: epoch,
		circuit: New(configs[0].circuit, l, peersIf(setup&8 != 0)), configs: configs,
	}
}

func (d *duel) same(what string, circuit, model any) {
	if c, m := fmt.Sprint(circuit), fmt.Sprint(model); c != m {
		d.fail("%s, %s:\ncircuit %s\nmodel   %s", d.last, what, c, m)
	}
}

// operation is one step: what to do, and with what.
type operation struct{ Kind, Arg byte }

// kinds is how many kinds of operations there are.
const kinds = 21

var steps = []time.Duration{0, time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 9 * time.Second, 10 * time.Second, time.Minute, 20 * time.Minute, 2 * time.Hour}

// step carries out an operation. A nanosecond goes by with each, or more: which of two leases goes first that end at once is
// nowhere said.
func (d *duel) step(o operation) {
	for d.now = d.now.Add(1); d.wouldEndAtOnce(); {
		d.now = d.now.Add(1)
	}
	c, m := d.circuit, d.model
	at := -1
	if len(d.out) > 0 {
		at = int(o.Arg) % len(d.out)
	}
	switch o.Kind % kinds {
	case 0:
		d.last = "AcquireClosed"
		permit, ok := c.AcquireClosed()
		call := m.quick()
		d.same("granted", ok, call != nil)
		if ok {
			d.out = append(d.out, pair{permit, call})
		}
	case 1, 2, 3, 14:
		good := ToProbe
		d.last = "Acquire"
		switch {
		case o.Kind%kinds == 14 && o.Arg%3 == 0:
			d.last, good = "Acquire, not to probe", NotToProbe
		case o.Kind%kinds == 14:
			d.last, good = "Acquire, as a last resort", LastResort
		}
		permit, refusal := c.Acquire(d.now, time.Time{}, good)
		call, refused := m.ask(d.now, good)
		switch {
		case permit.Granted():
			d.same("refused", "", refused)
			d.same("probing", permit.Probing(), call.probe)
			d.same("a probe", permit.Probe(), call.trial)
			d.same("overdue", permit.Overdue(), call.overdue)
			d.out = append(d.out, pair{permit, call})
		case refusal.Gone:
			d.same("refused", "gone", refused)
		default:
			d.same("refused", refusalText(refusal), refused)
		}
	case 4, 5, 6:
		if at < 0 {
			return
		}
		outcome := policy.Success + policy.Outcome(o.Kind%kinds-4)
		d.last = "Done with " + outcome.String()
		r := policy.Result{Outcome: outcome}
		if outcome == policy.Failure {
			r.Cause = policy.Cause{Kind: policy.KindStatus, Status: 500 + int(o.Arg)}
		}
		if d.more != nil {
			r = d.more(r, o.Arg)
		}
		p := d.out[at]
		d.out = slices.Delete(d.out, at, at+1)
		quiet := p.permit.Quiet()
		d.same("quiet", quiet, m.quiet(p.call))
		if quiet && outcome == policy.Success && o.Arg%2 == 0 { // it is allowed not to call Done then
			p.call.back, p.call.settled = true, true
			return
		}
		opened, gone := p.permit.Done(d.now, r)
		d.same("came", done(opened, gone), m.done(d.now, p.call, r))
	case 7:
		if at < 0 {
			return
		}
		if o.Arg >= 128 {
			d.last = "Bytes"
			again := d.out[at].permit.Bytes(d.now)
			d.same("again", again, m.gotBytes(d.now, d.out[at].call))
			return
		}
		d.last = "Headers"
		d.out[at].permit.Headers(d.now, 0)
		m.gotHeaders(d.now, d.out[at].call)
	case 8:
		d.now = d.now.Add(steps[int(o.Arg)%len(steps)])
	case 9:
		d.now = d.now.Add(-steps[int(o.Arg)%6])
	case 10:
		d.toTheNextMoment()
	case 11:
		d.last = "Snapshot"
		d.look()
		if o.Arg%2 == 0 { // a look changes nothing, so that it takes more to see what a lease does that ends
			d.circuit.settleExpired(d.now)
			d.model.expire(d.now)
			d.look()
		}
	case 12:
		to := policy.State(o.Arg % 3)
		d.last = "Set " + to.String()
		if o.Arg >= 250 {
			d.last = "Restore"
			due, since := d.now.Add(steps[int(o.Arg)%len(steps)]), time.Time{}
			if o.Arg%2 == 0 {
				since = d.now.Add(-time.Hour)
			}
			d.same("opened", c.Restore(d.now, due, since, true), m.restore(d.now, due, since))
			break
		}
		d.same("gone", c.Set(to, d.now), m.set(to, d.now))
	case 13:
		if m.gone || o.Arg%8 > 3 {
			return
		}
		spare := []Spare{Quiet, AnyClosed, Unknown, Idle}[o.Arg&3]
		d.last = fmt.Sprintf("Forget(%d)", spare)
		forgotten := c.Forget(d.now, spare, time.Hour)
		if m.used && forgotten {
			d.fail("%s: it was just used", d.last)
		}
		m.used = m.used && !m.may(spare)
		forgotten = forgotten || c.Forget(d.now, spare, time.Hour)
		d.same("forgotten", forgotten, m.spare(d.now, spare, time.Hour))
		m.gone = forgotten
	case 15:
		if at < 0 {
			return
		}
		d.last = "Return"
		p := d.out[at]
		d.out = slices.Delete(d.out, at, at+1)
		p.permit.Return(d.now)
		m.returned(p.call)
	case 16:
		switch o.Arg % 4 {
		case 0, 1:
			to := policy.State(o.Arg % 2)
			d.last = "Force " + to.String()
			d.same("gone", c.Force(to, d.now), m.force(to, d.now))
		default:
			d.last = "Release"
			c.Release(d.now)
			m.release(d.now)
		}
	case 17:
		if o.Arg%4 != 0 { // more seldom, for it forgets all
			d.last = "Hasten"
			c.Hasten()
			m.hastened = m.state == policy.Open
			break
		}
		d.last = "Reset"
		d.same("reset", c.Reset(d.now), m.reset(d.now))
	case 18:
		d.last = "Configure"
		to := d.configs[int(o.Arg)%len(d.configs)]
		c.Configure(to.circuit, d.now)
		m.configure(to.model, d.now)
	case 19:
		if o.Arg%2 == 0 {
			d.last = "Refuse"
			m.came(d.now)
			d.same("refused", refusalText(c.Refuse(d.now, policy.RefusedLimit)), m.refuse(d.now, policy.RefusedLimit))
			break
		}
		d.last = "Blame"
		r := policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindStatus, Status: 500 + int(o.Arg)}}
		d.same("came", done(c.Blame(d.now, r), false), m.blame(d.now, r))
	case 20:
		d.listener.deaf, m.deaf = o.Arg%2 == 1, o.Arg%2 == 1
		if d.last = "Well"; c.Well(time.Time{}) && (m.gone || m.state != policy.Closed) {
			d.fail("Well, and the model %+v", m)
		}
		c.Tell()
	}
	d.same("events", d.listener.events, m.events)
	d.listener.events, m.events = nil, nil
}

// wouldEndAtOnce reports whether a lease that begins now may end when another does.
func (d *duel) wouldEndAtOnce() bool {
	leases := []time.Duration{time.Second, d.model.halfOpenLease()}
	for _, c := range d.configs {
		leases = append(leases, c.model.probe().Lease(), c.model.recover().Lease())
	}
	return slices.ContainsFunc(d.model.calls, func(call *modelCall) bool {
		return (call.probe || call.weighed) && !call.settled && slices.ContainsFunc(leases, func(lease time.Duration) bool { return call.expiry.Equal(d.now.Add(lease)) })
	})
}

// toTheNextMoment is when a lease ends or a probe is due, to the nanosecond.
func (d *duel) toTheNextMoment() {
	var moments []time.Time
	if d.model.state == policy.Open {
		moments = append(moments, d.model.probe.Due())
	}
	moments = append(moments, d.model.safeUntil())
	for _, call := range d.model.calls {
		if (call.probe || call.weighed) && !call.settled && call.generation == d.model.generation {
			moments = append(moments, call.expiry)
		}
	}
	moments = slices.DeleteFunc(moments, func(t time.Time) bool { return t.Before(d.now) })
	if len(moments) > 0 {
		d.now = slices.MinFunc(moments, time.Time.Compare)
	}
}

func (d *duel) look() {
	s, m := d.circuit.Snapshot(d.now), d.model.snapshot(d.now)
	if late := m.Asked.Sub(s.Asked); late > 0 && late < time.Duration(askedStep) {
		s.Asked = m.Asked // nobody has to know better
	}
	d.same("snapshot", s, m)
	s = d.circuit.Snapshot(d.now)
	if s.State == policy.Open && s.InFlight > 1 {
		d.fail("%d probes in flight while open", s.InFlight)
	}
	if len(s.Samples) > 8 {
		d.fail("%d samples", len(s.Samples))
	}
	d.given = append(d.given, givenSamples{s.Samples, fmt.Sprint(s.Samples)})
}

// end gives all permits back, and looks once more.
func (d *duel) end() {
	for len(d.out) > 0 {
		d.step(operation{Kind: 4 + byte(len(d.out))%3, Arg: byte(len(d.out)) | 1})
	}
	d.last = "end"
	d.look()
	if s := d.circuit.Snapshot(d.now); s.InFlight+s.Expired != 0 && !d.model.gone { // what is forgotten has none to give back
		d.fail("all permits were given back, and %d are in flight", s.InFlight+s.Expired)
	}
	for _, g := range d.given {
		d.same("samples that were given away", fmt.Sprint(g.list), g.text)
	}
}

func TestTheCircuitDoesWhatItsModelDoes(t *testing.T) {
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		require.NoError(t, checks.Value.Set("1000")) // the default of 100 is for slower things
	}
	rapid.Check(t, func(t *rapid.T) {
		d := newDuel(rapid.Byte().Draw(t, "setup"), t.Fatalf)
		n := rapid.IntRange(0, 300).Draw(t, "n") // a slice of any length is mostly a short one
		operations := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) operation {
			return operation{rapid.ByteRange(0, kinds-1).Draw(t, "kind"), rapid.Byte().Draw(t, "arg")}
		}), n, n).Draw(t, "operations")
		for _, o := range operations {
			d.step(o)
		}
		d.end()
	})
}
