package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// ended takes the result of a call. Again says that it says no more of the upstream than is known.
func (m *machine) ended(now time.Time, p *Permit, r policy.Result, again bool) (opened bool) {
	m.answered(r)
	switch r.Outcome {
	case policy.Failure:
		m.remember()
		m.counts.Failures++
		m.failed(now, r)
	case policy.Ignored:
		m.remember()
		m.counts.Ignored++
	}
	if m.state == policy.Closed {
		m.expire(now)
	}
	well := r.Outcome == policy.Success
	heard := well || r.Outcome == policy.Failure && r.Cause.Kind != policy.KindTimeout
	expired := p.place != nil && p.place.expired
	switch current := p.generation() == m.generation; {
	case again && (!well || p.place == nil): // what holds a place has not counted
		r.Outcome = policy.Ignored
	case (!expired || p.place.unsettled) && current:
		r = m.hint(p, now, r)
	}
	switch current := p.generation() == m.generation; {
	case expired:
		return m.late(now, p.place, p.generation(), r)
	case !current:
		m.counts.LateCalls++
		return false
	}
	if p.place != nil {
		m.free(p.place)
	}
	if p.Probing() {
		if m.cameToNothing(p.place, r) {
			return false
		}
		return m.settle(now, p.place, r)
	}
	if p.place != nil && m.leases.hollow.after(now) {
		m.stalledLate(now, p.place, r)
	}
	if p.place == nil {
		if well {
			m.wentWell(now)
		}
		m.canary.lost(r)
	}
	m.weighLoad(now, p.watched, r)
	m.canary.cameBack(now, p.watched, heard, well, m.config.hold())
	return m.record(now, r)
}

// headersCame takes notice that the headers of a call came well.
func (m *machine) headersCame(now time.Time, p *Permit, part uint64) {
	switch place := p.place; {
	case m.gone:
	case place != nil && place.expired:
		if r := (policy.Result{Outcome: policy.Success, Elapsed: now.Sub(place.started)}); m.lives(place, r) {
			m.answered(r)
			m.late(now, place, p.generation(), r)
			place.headers, place.opened = true, m.opened
		}
	case p.generation() != m.generation:
	case place == nil:
		m.wentWell(now)
		m.weighLoad(now, p.watched, policy.Result{Outcome: policy.Success, Part: part})
		m.canary.headersCame(now, p.watched, m.config.hold())
		p.place = m.weigh(now, part)
	case place.index >= 0 && !place.weighed:
		place.headers, place.took = true, now.Sub(place.started)
		m.answered(policy.Result{Outcome: policy.Success})
		switch expiry := now.Add(bodyLease); {
		case !m.good(now, place):
			place.expiry = now.Add(m.oldEnough(now, place) + bodyLease) // in which there are bytes, or it has failed
			m.leases.endsAt(place.expiry)
		case expiry.Before(place.expiry):
			place.expiry = expiry
			m.leases.endsAt(expiry)
		}
	}
}

// returned takes back the permit of a call that was not made.
func (m *machine) returned(now time.Time, p *Permit) {
	if p.generation() != m.generation || m.gone {
		return
	}
	place := p.place
	if !p.Probing() {
		if place != nil {
			m.free(place)
		}
		m.canary.cameBack(now, p.watched, false, false, m.config.hold())
		return
	}
	if place.index >= 0 {
		m.hastened = m.hastened || place.hastened
		if since, others := place.withheld, m.trouble.withheld; !since.IsZero() &&
			(others.IsZero() || since.Before(others)) {
			m.trouble.withheld = since
		}
		m.connections.stale = m.connections.stale || place.stale
	}
	m.free(place)
	m.counts.Probes--
}

// blame takes a failure that a call of this key found out while the circuit was another one.
func (m *machine) blame(now time.Time, r policy.Result) (opened bool) {
	if m.gone {
		return false
	}
	m.answered(r)
	m.remember()
	m.counts.Failures++
	m.failed(now, r)
	return m.state == policy.Closed && m.record(now, r)
}

// answered takes notice of whether there is such an upstream at all.
func (m *machine) answered(r policy.Result) {
	m.known = m.known || r.Outcome == policy.Success ||
		r.Cause.Status != 0 && r.Cause.Kind != policy.KindLocal && !connecting(r.Cause.Phase)
}

// connecting reports whether a phase is before the upstream can say anything. A status of then is that of a proxy.
func connecting(p policy.Phase) bool {
	return p == policy.PhaseDNS || p == policy.PhaseConnect || p == policy.PhaseTLS
}

func (m *machine) failed(now time.Time, r policy.Result) {
	m.failures.cause, m.failures.at = r.Cause, now
	m.failures.add(now, r)
	if m.trouble != nil {
		m.trouble.cause, m.trouble.real = r.Cause, true
	}
	m.well = 0
}

// record takes the result of a call that started while the circuit was closed.
func (m *machine) record(now time.Time, r policy.Result) (opened bool) {
	if r.Outcome == policy.Ignored || m.forced || m.outside(r) {
		return false
	}
	if m.past == &unharmed && m.innocent && r.Outcome == policy.Success {
		return false // which the rule need not know, since it would be quiet
	}
	m.remember()
	if m.hints.failing = r.Outcome == policy.Failure; !m.hints.failing {
		m.hints.sum = 0
	}
	if m.tripRule().Record(now, r) {
		if r.Outcome == policy.Success { // and took too long
			m.failed(now, slow(r))
		}
		m.change(policy.Open, now, policy.ChangeTripped, r)
		return true
	}
	if m.peers.Ended(now, r) {
		m.change(policy.Open, now, policy.ChangeTrippedByFleet, r)
		return true
	}
	return false
}

// settle takes the result of a call that was let through while the circuit was open or half-open.
func (m *machine) settle(now time.Time, p *place, r policy.Result) (opened bool) {
	if r.Cause.Kind != policy.KindLease {
		m.trouble.heard = now
	}
	switch r.Outcome {
	case policy.Ignored:
		m.connections.stale = m.connections.stale || p.stale
		return false
	case policy.Success:
		m.hints.sum = 0
	}
	r = m.learn(now, p, r)
	if judge, ok := m.seenTrip().(policy.Judge); ok && r.Outcome == policy.Success && judge.Bad(r) {
		r, p.slow = slow(r), true
		m.counts.Failures++
		m.failed(now, r)
	}
	switch {
	case m.state != policy.Open:
		return m.conclude(now, p.mark, r)
	case r.Outcome == policy.Success:
		return m.wakeUp(now, r)
	}
	m.failedProbes++
	m.probe.Fail(now, r, m.config.Random())
	m.peers.ProbeFailed()
	return false
}

// slow makes a failure of a success that a rule of the trip holds against the upstream.
func slow(r policy.Result) policy.Result {
	r.Outcome, r.Cause = policy.Failure, policy.Cause{Kind: policy.KindSlow, Status: r.Cause.Status}
	return r
}

// learn takes notice of how long a call took that was let through in trouble, and adds to its result what a recovery
// can start with.
func (m *machine) learn(now time.Time, p *place, r policy.Result) policy.Result {
	r.Usual, r.Wait, r.Lasted = m.canary.usual, p.waits, m.trouble.lasted
	if p.trouble == m.trouble {
		r.Asked = m.trouble.requests - p.requests
	}
	if r.Outcome == policy.Success && r.Elapsed > 0 {
		m.canary.learn(now, r.Elapsed)
	}
	return r
}

// wakeUp begins a recovery because the upstream has answered. What answered is the first success of a trial.
func (m *machine) wakeUp(now time.Time, r policy.Result) (opened bool) {
	m.change(policy.HalfOpen, now, policy.ChangeProbeSucceeded, r)
	if m.recoverOf.Rules.Recover.AfterProbe() {
		return false
	}
	return m.conclude(now, 0, r)
}

// conclude has the recovery rule draw its conclusion.
func (m *machine) conclude(now time.Time, mark int, r policy.Result) (opened bool) {
	m.peers.Recovering(r)
	switch m.recover.Record(now, mark, r) {
	case policy.VerdictClose:
		m.change(policy.Closed, now, policy.ChangeRecovered, r)
	case policy.VerdictReopen:
		m.change(policy.Open, now, policy.ChangeRecoveryFailed, r)
		return true
	}
	return false
}

// wentWell takes notice of a call that went well so far: a canary, or one of a circuit that is not quiet. The others
// write nothing.
func (m *machine) wentWell(now time.Time) { m.well = momentOf(now) }

// A moment is a time in a third of the memory: in nanoseconds from began. 0 is none.
type moment int64

// began is what moments are counted from.
var began = time.Now()

func momentOf(t time.Time) moment       { return moment(t.Sub(began)) }
func (m moment) time() time.Time        { return began.Add(time.Duration(m)) }
func (m moment) after(t time.Time) bool { return m != 0 && m > momentOf(t) }
