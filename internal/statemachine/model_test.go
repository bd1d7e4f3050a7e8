package statemachine

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// model is the circuit of policy.Classic again, and of that with a probe first, as slow and as plain as can be: one
// goroutine, no rules, no bits, every call it ever let through in one list.
type model struct {
	opened                      int // how often it has opened
	failures, probes, successes int
	openFor, probeLease, lease  time.Duration
	probeFirst                  bool

	state      policy.State
	generation int
	gone       bool
	used       bool // by quick, since the last Forget
	inARow     int  // failures, while closed
	well       int  // successes, while half-open
	since, due time.Time
	cause      policy.Cause
	failedAt   time.Time
	calls      []*modelCall
	counts     Counts
	events     []string
}

type modelCall struct {
	generation int
	probe      bool
	back       bool // Done was called
	settled    bool // by Done, or because its lease ended
	expired    bool // settled because its lease ended
	headers    bool
	opened     int // model.opened when it expired
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

func (m *model) ask(now time.Time) (*modelCall, string) {
	if m.gone {
		return nil, "gone"
	}
	m.expire(now)
	if m.state == policy.Closed {
		call := &modelCall{generation: m.generation}
		m.calls = append(m.calls, call)
		return call, ""
	}
	lease := m.lease
	if m.state == policy.Open {
		if now.Before(m.due) || m.inFlight() > 0 {
			return nil, m.refuse(now)
		}
		if m.probeFirst {
			lease = m.probeLease
		} else {
			m.change(policy.HalfOpen, now, OpenTimePassed, policy.Cause{})
		}
	}
	if m.state == policy.HalfOpen && m.inFlight() >= m.limit() {
		return nil, m.refuse(now)
	}
	call := &modelCall{generation: m.generation, probe: true, expiry: now.Add(lease)}
	m.calls = append(m.calls, call)
	m.counts.Probes++
	return call, ""
}

func (m *model) refuse(now time.Time) string {
	m.counts.Refusals++
	due := now
	if m.state == policy.Open {
		due = m.due
	}
	text := refusalText(Refusal{State: m.state, At: now, Since: m.since, Due: due, Cause: m.cause})
	m.events = append(m.events, text)
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
		return 1
	}
	return min(m.probes, max(m.probes, m.successes)-m.well)
}

// expire settles what has been out for too long, in the order in which the leases ended.
func (m *model) expire(now time.Time) {
	calls := slices.Clone(m.calls)
	slices.SortStableFunc(calls, func(a, b *modelCall) int { return a.expiry.Compare(b.expiry) })
	for _, call := range calls {
		if !call.probe || call.settled || call.generation != m.generation || call.expiry.After(now) {
			continue
		}
		call.settled, call.expired, call.opened = true, true, m.opened
		if call.headers {
			m.probeEnded(now, policy.Success, policy.Cause{})
		} else {
			m.cause, m.failedAt = policy.Cause{Kind: policy.Lease}, now
			m.probeEnded(now, policy.Failure, m.cause)
		}
	}
}

func (m *model) gotHeaders(now time.Time, call *modelCall) {
	if !call.probe || call.settled || call.generation != m.generation {
		return
	}
	call.headers = true
	if at := now.Add(time.Second); at.Before(call.expiry) {
		call.expiry = at
	}
}

func (m *model) done(now time.Time, call *modelCall, outcome policy.Outcome, cause policy.Cause) string {
	call.back = true
	if m.gone {
		return "gone"
	}
	if outcome == policy.Failure {
		m.counts.Failures++
		m.cause, m.failedAt = cause, now
	}
	if outcome == policy.Ignored {
		m.counts.Ignored++
	}
	current := call.generation == m.generation
	if call.expired {
		broke := call.headers && outcome == policy.Failure && call.opened == m.opened
		switch {
		case broke && m.state == policy.HalfOpen:
			return m.probeEnded(now, outcome, cause)
		case broke && m.state == policy.Closed:
			return m.closedCallEnded(now, outcome, cause)
		case !call.headers && outcome == policy.Success && m.state == policy.Open && current:
			return m.probeEnded(now, outcome, cause)
		default:
			m.counts.LateCalls++
		}
		return ""
	}
	call.settled = true
	switch {
	case !current:
		m.counts.LateCalls++
	case call.probe:
		return m.probeEnded(now, outcome, cause)
	default:
		return m.closedCallEnded(now, outcome, cause)
	}
	return ""
}

func (m *model) closedCallEnded(now time.Time, outcome policy.Outcome, cause policy.Cause) string {
	if outcome == policy.Success {
		m.inARow = 0
	}
	if outcome != policy.Failure {
		return ""
	}
	m.inARow++
	if m.inARow < m.failures {
		return ""
	}
	m.change(policy.Open, now, Tripped, cause)
	return "opened"
}

func (m *model) probeEnded(now time.Time, outcome policy.Outcome, cause policy.Cause) string {
	switch {
	case outcome == policy.Ignored:
	case m.state == policy.Open && outcome == policy.Success:
		m.change(policy.HalfOpen, now, ProbeSucceeded, policy.Cause{})
	case m.state == policy.Open:
		m.due = now.Add(m.openFor)
	case outcome == policy.Failure:
		m.change(policy.Open, now, RecoveryFailed, cause)
		return "opened"
	default:
		m.well++
		if m.well >= m.successes {
			m.change(policy.Closed, now, Recovered, policy.Cause{})
		}
	}
	return ""
}

func (m *model) change(to policy.State, now time.Time, reason Reason, cause policy.Cause) {
	c := Change{From: m.state, To: to, At: now, Reason: reason, Cause: cause}
	c.Failures, c.Successes = m.inView()
	if to == policy.Open {
		m.opened++
		if reason != Restored {
			m.due = now.Add(m.openFor)
		}
		if reason == Tripped || reason == ByHand {
			m.counts.Trips++
		}
		c.Due = m.due
	}
	m.state, m.since = to, now
	m.generation++
	m.inARow, m.well = 0, 0
	m.events = append(m.events, changeText(c))
}

func (m *model) inView() (failures, successes int) {
	switch m.state {
	case policy.Closed:
		return m.inARow, 0
	case policy.HalfOpen:
		return 0, m.well
	}
	return 0, 0
}

func (m *model) set(to policy.State, now time.Time) (gone bool) {
	if !m.gone {
		m.change(to, now, ByHand, policy.Cause{})
	}
	return m.gone
}

func (m *model) restore(now, due time.Time) {
	if m.gone || m.generation > 0 {
		return
	}
	m.due = due
	if latest := now.Add(10 * time.Minute); due.After(latest) { // the default Max of policy.OpenTime
		m.due = latest
	}
	m.change(policy.Open, now, Restored, policy.Cause{})
}

// spare reports whether the circuit can be forgotten, if it was not used.
func (m *model) spare(now time.Time, evidence bool, idle time.Duration) bool {
	switch {
	case m.state == policy.Closed:
		return evidence || m.inARow == 0
	case idle == 0 || m.inFlight() > 0:
		return false
	case m.state == policy.Open:
		return now.Sub(m.due) >= idle
	}
	return now.Sub(m.since) >= idle
}

func (m *model) snapshot(now time.Time) Snapshot {
	m.expire(now)
	s := Snapshot{
		State: m.state, Since: m.since, Generation: uint64(m.generation), Limit: m.limit(),
		Counts: m.counts, Cause: m.cause, FailedAt: m.failedAt,
	}
	s.Failures, s.Successes = m.inView()
	if m.state != policy.Closed {
		s.InFlight = m.inFlight()
	}
	if m.state == policy.Open {
		s.Due = m.due
	}
	return s
}

func changeText(c Change) string {
	return fmt.Sprintf("%v→%v at %v %v %v %d %d due %v", c.From, c.To, c.At, c.Reason, c.Cause, c.Failures, c.Successes, c.Due)
}

func refusalText(r Refusal) string {
	return fmt.Sprintf("refused %v at %v since %v due %v %v", r.State, r.At, r.Since, r.Due, r.Cause)
}

// listener writes down what the model does.
type listener struct{ events []string }

func (l *listener) Changed(c Change)  { l.events = append(l.events, changeText(c)) }
func (l *listener) Refused(r Refusal) { l.events = append(l.events, refusalText(r)) }

// duel is a circuit and its model, which get the same operations and must answer the same.
type duel struct {
	fail     func(format string, args ...any)
	circuit  *Circuit
	model    *model
	listener *listener
	now      time.Time
	out      []pair // calls whose Done is still to come
	last     string
}

type pair struct {
	permit Permit
	call   *modelCall
}

func newDuel(setup byte, fail func(string, ...any)) *duel {
	m := &model{
		failures: 1 + int(setup&1)*2, probes: 1 + int(setup>>1&3), openFor: 10 * time.Second,
		probeLease: 2 * time.Second, lease: time.Minute, probeFirst: setup>>4&1 == 1, since: time.Time{},
	}
	m.successes = []int{m.probes, m.probes + 2, 1}[int(setup>>5)%3]
	trial := policy.Trial{Probes: m.probes, Successes: m.successes}
	rules := policy.Classic{Failures: m.failures, OpenFor: m.openFor, Probes: m.probes, Successes: m.successes}.Rules()
	if m.probeFirst {
		rules.Probe = policy.OpenTime{For: m.openFor, Lease: m.probeLease}
		rules.Recover = afterProbe{trial}
	}
	l := &listener{}
	return &duel{
		fail: fail, model: m, listener: l, now: epoch,
		circuit: New(&Config{Rules: rules, Random: func() float64 { return 0 }}, l),
	}
}

func (d *duel) same(what string, circuit, model any) {
	if c, m := fmt.Sprint(circuit), fmt.Sprint(model); c != m {
		d.fail("%s, %s:\ncircuit %s\nmodel   %s", d.last, what, c, m)
	}
}

// operation is one step: what to do, and with what.
type operation struct{ Kind, Arg byte }

var steps = []time.Duration{0, time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 9 * time.Second, 10 * time.Second, time.Minute, 20 * time.Minute, 2 * time.Hour}

// step carries out an operation. A nanosecond goes by with each, so that no two leases end at once.
func (d *duel) step(o operation) {
	d.now = d.now.Add(1)
	c, m := d.circuit, d.model
	at := -1
	if len(d.out) > 0 {
		at = int(o.Arg) % len(d.out)
	}
	switch o.Kind % 14 {
	case 0:
		d.last = "AcquireClosed"
		permit, ok := c.AcquireClosed()
		call := m.quick()
		d.same("granted", ok, call != nil)
		if ok {
			d.out = append(d.out, pair{permit, call})
		}
	case 1, 2, 3:
		d.last = "Acquire"
		permit, refusal := c.Acquire(d.now, time.Time{})
		call, refused := m.ask(d.now)
		switch {
		case permit.Granted():
			d.same("refused", "", refused)
			d.same("probing", permit.Probing(), call.probe)
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
		outcome := policy.Success + policy.Outcome(o.Kind%14-4)
		d.last = "Done with " + outcome.String()
		cause := policy.Cause{}
		if outcome == policy.Failure {
			cause = policy.Cause{Kind: policy.Status, Status: 500 + int(o.Arg)}
		}
		p := d.out[at]
		d.out = slices.Delete(d.out, at, at+1)
		quiet := p.permit.Quiet()
		d.same("quiet", quiet, !m.gone && !p.call.probe && p.call.generation == m.generation && m.state == policy.Closed && m.inARow == 0)
		if quiet && outcome == policy.Success && o.Arg%2 == 0 { // it is allowed not to call Done then
			p.call.back, p.call.settled = true, true
			return
		}
		opened, gone := p.permit.Done(d.now, policy.Result{Outcome: outcome, Cause: cause})
		d.same("came", done(opened, gone), m.done(d.now, p.call, outcome, cause))
	case 7:
		if at < 0 {
			return
		}
		d.last = "Headers"
		d.out[at].permit.Headers(d.now)
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
	case 12:
		to := policy.State(o.Arg % 3)
		d.last = "Set " + to.String()
		if o.Arg >= 250 {
			d.last = "Restore"
			due := d.now.Add(steps[int(o.Arg)%len(steps)])
			c.Restore(d.now, due)
			m.restore(d.now, due)
			break
		}
		d.same("gone", c.Set(to, d.now), m.set(to, d.now))
	case 13:
		if m.gone || o.Arg%8 > 3 {
			return
		}
		evidence, idle := o.Arg&1 != 0, time.Duration(o.Arg>>1&1)*time.Hour
		d.last = fmt.Sprintf("Forget(%v, %v)", evidence, idle)
		forgotten := c.Forget(d.now, evidence, idle)
		if m.used && forgotten {
			d.fail("%s: it was just used", d.last)
		}
		m.used = false
		forgotten = forgotten || c.Forget(d.now, evidence, idle)
		d.same("forgotten", forgotten, m.spare(d.now, evidence, idle))
		m.gone = forgotten
	}
	d.same("events", d.listener.events, m.events)
	d.listener.events, m.events = nil, nil
}

// toTheNextMoment is when a lease ends or a probe is due, to the nanosecond.
func (d *duel) toTheNextMoment() {
	var moments []time.Time
	if d.model.state == policy.Open {
		moments = append(moments, d.model.due)
	}
	for _, call := range d.model.calls {
		if call.probe && !call.settled && call.generation == d.model.generation {
			moments = append(moments, call.expiry)
		}
	}
	moments = slices.DeleteFunc(moments, func(t time.Time) bool { return t.Before(d.now) })
	if len(moments) > 0 {
		d.now = slices.MinFunc(moments, time.Time.Compare)
	}
}

func (d *duel) look() {
	d.same("snapshot", d.circuit.Snapshot(d.now), d.model.snapshot(d.now))
	if s := d.circuit.Snapshot(d.now); s.State == policy.Open && s.InFlight > 1 {
		d.fail("%d probes in flight while open", s.InFlight)
	}
}

// end gives all permits back, and looks once more.
func (d *duel) end() {
	for len(d.out) > 0 {
		d.step(operation{Kind: 4 + byte(len(d.out))%3, Arg: byte(len(d.out)) | 1})
	}
	d.last = "end"
	d.look()
	if in := d.circuit.Snapshot(d.now).InFlight; in != 0 {
		d.fail("all permits were given back, and %d are in flight", in)
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
			return operation{rapid.ByteRange(0, 13).Draw(t, "kind"), rapid.Byte().Draw(t, "arg")}
		}), n, n).Draw(t, "operations")
		for _, o := range operations {
			d.step(o)
		}
		d.end()
	})
}

func FuzzCircuit(f *testing.F) {
	f.Fuzz(func(t *testing.T, program []byte) {
		if len(program) == 0 {
			return
		}
		d := newDuel(program[0], t.Fatalf)
		for program = program[1:]; len(program) >= 2; program = program[2:] {
			d.step(operation{program[0], program[1]})
		}
		d.end()
	})
}
