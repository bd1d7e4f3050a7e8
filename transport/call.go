package transport

import (
	"math"
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// call is one call from its permit to its outcome.
type call struct {
	t          *Transport
	c          *circuit
	permit     statemachine.Permit // none if the call is made in shadow
	part       *part               // nil if the call is for none that is cut out
	cut        *circuit            // of the part that the call has cut out; nil if none
	check      *policy.Outcome     // where the outcome of a health check goes; nil for a caller's request
	attempt    *attempt            // nil if nothing limits the call
	req        *http.Request
	sent       *http.Request // req, or a copy with a body or a deadline that is watched; nil before the base gets it
	bodyErr    *bodyErrors
	started    tick           // 0 if nobody asks for the time
	ended      tick           // too
	trace      string         // of a call that failed
	wait       time.Duration  // that its classifier says the upstream asks for
	ending     *ending        // nil if nobody asked to judge the call at its end
	resp       *http.Response // while it is not the caller's yet, or of the body that this is the call of
	shadow     bool
	delivering bool // its body had come for a time before the caller got the response
	long       bool // its body has come for so long that its headers have counted, or need not
	over       bool // the permit is given back, or the response's body will do it
}

// gaveUp is the Reason if the caller went away while a health check was made for it.
const gaveUp policy.RefusalReason = math.MaxUint8

// acquire gets the call a place among those in flight and a permit, or says why not.
func (k *call) acquire() (refusal statemachine.Refusal) {
	if !k.enter() {
		refusal = k.c.Refuse(time.Now(), policy.RefusedLimit)
		if k.permit.Granted() {
			k.permit.Return(time.Now())
			k.permit = statemachine.Permit{}
		}
		return refusal
	}
	if k.c.cutParts() != nil {
		if refusal = k.enterPart(); refusal.Reason != policy.NotRefused {
			if k.permit.Granted() {
				k.permit.Return(time.Now())
				k.permit = statemachine.Permit{}
			}
			k.attempt.leave()
			return refusal
		}
	}
	if k.permit.Granted() {
		return statemachine.Refusal{}
	}
	unsafe := k.t.safeProbes && !canBeLost(k.req)
	good := statemachine.ToProbe
	if unsafe && k.t.check == nil {
		good = statemachine.LastResort
	}
	refusal = k.ask(good)
	for k.permit.Probe() && k.t.check != nil {
		switch k.probeByCheck() {
		case policy.Success:
			refusal = k.ask(statemachine.ToProbe) // a trial may need more of them
		case policy.Undecided: // there is no check
			if !unsafe || k.permit.Overdue() {
				return refusal
			}
			k.permit.Return(time.Now())
			refusal = k.ask(statemachine.LastResort)
		default:
			refusal = k.ask(statemachine.NotToProbe)
		}
		if k.req.Context().Err() != nil && refusal.Reason != policy.NotRefused {
			return statemachine.Refusal{Reason: gaveUp}
		}
	}
	if refusal.Reason != policy.NotRefused {
		k.attempt.leave() // but in shadow the call is made all the same, and keeps its deadline
	}
	return refusal
}

// enter takes a place among the calls in flight of the circuit, if there is one, and gives one of another circuit back.
func (k *call) enter() (ok bool) {
	k.attempt.leave()
	k.attempt, ok = newAttempt(k.c, k.limits())
	return ok
}

func (k *call) limits() policy.Limits { return k.c.Config().Rules.Limits }

// ask asks a circuit that is not simply closed for a permit, and if it was forgotten, the one that took its place.
func (k *call) ask(good statemachine.Use) (refusal statemachine.Refusal) {
	now := time.Now()
	deadline, _ := k.req.Context().Deadline()
	if timeout := k.limits().Timeout; timeout > 0 && (deadline.IsZero() || now.Add(timeout).Before(deadline)) {
		deadline = now.Add(timeout)
	}
	for {
		k.permit, refusal = k.c.Acquire(now, deadline, good)
		if !refusal.Gone {
			return refusal
		}
		key := k.c.key
		k.t.circuits.forgotten(k.c) // it may have come back there after it was forgotten
		if k.c = k.t.circuits.add(key); k.c == nil {
			k.c = k.t.passing(key)
		}
		if !k.enter() {
			return k.c.Refuse(time.Now(), policy.RefusedLimit)
		}
	}
}

func (k *call) start() {
	t := k.t
	if t.observers.timed.Load() ||
		k.c.Config().Timed || k.permit.Watched() || k.probing() || k.c.classify.Load() != nil {
		k.started = ticks()
	}
	for _, o := range t.observers.all() {
		if o.OnCall != nil {
			o.OnCall(CallStart{Key: k.whose().key, Request: k.req, Probe: k.probing()})
		}
	}
	sent, bodyErr := watchBody(k.req)
	k.bodyErr = bodyErr
	k.sent = k.overNew(k.attempt.start(sent, &t.alarms))
}

// finish turns what the base returned into an outcome and gives the permit back, at once or at the end of the body.
func (k *call) finish(resp *http.Response, err error) (*http.Response, error) {
	if resp == nil && err == nil {
		k.attempt.end()
		return nil, nil // no RoundTripper may do that; http.Client has an error for it
	}
	k.resp = resp
	if resp != nil && resp.ProtoMajor > 1 {
		k.c.speaks(resp)
	}
	resp, err = k.attempt.headers(k.req, resp, err)
	k.resp = resp
	if resp != nil && resp.Request == k.sent {
		resp.Request = k.req
	}
	if err != nil || k.started != 0 {
		k.ended = ticks()
	}
	outcome, cause := k.judge(resp, err, nil)
	away := cause.Status == http.StatusTooManyRequests && k.ending == nil // which its body adds nothing to
	lasts := outcome == policy.Success && !away && k.lasts(resp)
	if outcome == policy.Success && !lasts && k.ending != nil {
		outcome, cause = k.judgeEnd(resp, false)
	}
	k.over = true
	var b *body
	if lasts || k.attempt != nil && k.attempt.inBody {
		b = k.watch(resp)
	}
	if lasts {
		if k.permit.Granted() && (k.part != nil || k.permit.WantsHeaders()) {
			now, l := time.Now(), b.last()
			l.bytesAt = tickOf(now.Add(statemachine.BytesAfter))
			l.heard.Store(-now.UnixNano())
			l.call.permit.Headers(now, k.number())
			l.call.part.headers(now)
		}
		k.resp = nil
		return resp, nil
	}
	if b != nil {
		b.ends(0) // but for the attempt
	}
	if k.done(outcome, cause, resp, err) && k.refusesTripper(outcome) {
		return k.refuseTripping(resp)
	}
	k.resp = nil
	return resp, err
}

// fine reports whether no status can be better, as policy.CauseOf sees it. A 407 may be of a forward proxy, and a 429
// is no failure, but says that it is too much.
func fine(resp *http.Response) bool {
	return resp.StatusCode < 500 && resp.StatusCode != http.StatusProxyAuthRequired &&
		resp.StatusCode != http.StatusTooManyRequests
}

// judge says what a finished call tells of its upstream. Body is how that of the response came, if the error is of
// reading it.
func (k *call) judge(resp *http.Response, err error, body *flow) (policy.Outcome, policy.Cause) {
	classify := k.c.classify.Load()
	if err == nil && classify == nil && fine(resp) && !Refused(resp) {
		return policy.Success, policy.Cause{Status: resp.StatusCode} // what follows says the same, at length
	}
	started, ended := k.times()
	if body != nil {
		ended = time.Now()
	}
	facts := policy.Call{
		Request: k.req, Response: resp, Err: err, InBody: body != nil, Delivering: body != nil && body.delivering(),
		BodyErr: k.bodyErr.get(), NoProxy: k.noProxy(resp), Started: started, Ended: ended,
	}
	outcome, cause := policy.Undecided, policy.CauseOf(&facts)
	reason := ""
	if classify != nil {
		asked := ask(*classify, facts)
		reason, k.wait = asked.reason, asked.wait
		if outcome = asked.outcome; err == nil && asked.err != nil { // met by OnBody
			err = asked.err
			facts.Err, facts.InBody, facts.Ended, facts.Delivering = err, true, asked.ended, asked.delivering
			cause = policy.CauseOf(&facts)
		}
		k.delivering = asked.delivering && body == nil
		if asked.atEnd && body == nil && !duplex(k.req, resp) {
			k.ending = newEnding(resp, asked.tail)
		}
	}
	if outcome == policy.Undecided {
		outcome = cause.Outcome()
	} else if outcome == policy.Failure {
		if cause.Kind == policy.KindNone {
			cause.Kind = policy.KindJudged
		}
		cause.Reason = reason
	}
	if isRefusal(resp, err) {
		outcome = policy.Ignored // the upstream knows nothing of it
	}
	if outcome == policy.Success {
		cause = policy.Cause{Status: cause.Status}
	}
	if outcome == policy.Failure {
		k.trace = k.t.traceOf(k.req)
	}
	return outcome, cause
}

// asked is what a classifier has said, and done to the facts.
type asked struct {
	outcome policy.Outcome
	err     error
	ended   time.Time
	// delivering says that OnBody held the response back for a time in which its body came.
	delivering bool
	atEnd      bool
	tail       int
	reason     string        // of a failure
	wait       time.Duration // too
}

// ask has facts of its own, so that only calls with a custom classifier pay for the memory.
func ask(classify policy.Classifier, facts policy.Call) asked {
	outcome := classify(&facts)
	if outcome > policy.Ignored { // there is no such
		outcome = policy.Undecided
	}
	asked := asked{outcome: outcome, err: facts.Err, ended: facts.Ended, delivering: facts.Delivering}
	asked.tail, asked.atEnd = facts.AskedAtEnd()
	if outcome == policy.Failure {
		asked.reason, asked.wait = reasonOf(facts.Reason), facts.RetryAfter
	}
	return asked
}

// done gives the permit back and tells who asked.
func (k *call) done(outcome policy.Outcome, cause policy.Cause, resp *http.Response, err error) (tripped bool) {
	if k.check != nil {
		*k.check = outcome
	}
	switch {
	case k.shadow:
		k.c.also().shadowed.count(outcome, cause)
	case outcome != policy.Success || cause.Status == http.StatusTooManyRequests || k.part != nil || !k.permit.Quiet():
		tripped = k.giveBack(outcome, cause, resp, err)
	}
	if k.c.Config().Timed && k.permit.Slow() {
		k.tell(policy.Failure, policy.Cause{Kind: policy.KindSlow, Status: cause.Status})
	} else if outcome == policy.Failure || k.probing() || k.t.observers.attend.Load() {
		k.tell(outcome, cause)
	}
	switch {
	case outcome == policy.Ignored && cause.Kind == policy.KindLocal:
		k.t.local.ails(k.t, k.c, cause)
	case outcome == policy.Success && k.t.local.ailing.Load() == k.c:
		k.t.local.heals(k.t, k.c)
	}
	return tripped
}

func (k *call) tell(outcome policy.Outcome, cause policy.Cause) {
	observers := k.t.observers.all()
	if len(observers) == 0 {
		return
	}
	end := CallEnd{
		Key: k.whose().key, Part: k.whose().isPart(), Request: k.req, Probe: k.probing(), Shadow: k.shadow,
		Outcome: outcome, Cause: cause, Started: k.started.time(), Elapsed: k.elapsed(), Trace: k.trace,
		Known: k.c.Known(),
	}
	for _, o := range observers {
		if o.OnOutcome != nil {
			o.OnOutcome(end)
		}
		if o.OnFailure != nil && outcome == policy.Failure {
			o.OnFailure(end)
		}
		if o.OnProbe != nil && end.Probe {
			o.OnProbe(end)
		}
	}
}

func (k *call) giveBack(outcome policy.Outcome, cause policy.Cause, resp *http.Response, err error) (tripped bool) {
	now := time.Now()
	result := policy.Result{Outcome: outcome, Cause: cause, Trace: k.trace}
	if outcome == policy.Success && k.c.Config().Timed { // and may be too slow for a rule
		k.trace = k.t.traceOf(k.req)
		result.Trace = k.trace
	}
	if k.check == nil { // how long a check takes says nothing of other calls
		result.Elapsed = k.elapsed()
	}
	if resp != nil && (outcome == policy.Failure || cause.Status == http.StatusTooManyRequests) {
		result.RetryAfter = max(k.wait, retryAfter(resp.Header, k.ended.time(), now))
	}
	if outcome == policy.Failure || cause.Status == http.StatusTooManyRequests || k.permit.WantsPart() {
		result.Part = k.number()
	}
	give := statemachine.Permit.Done
	broke := outcome == policy.Failure && err != nil && cause.Kind != policy.KindTimeout
	if outcome == policy.Success && k.long || broke && k.c.again(err, k.started.time(), now) {
		give = statemachine.Permit.DoneAgain
	}
	if k.part != nil {
		probing := k.part.permit.Probing()
		if tripped, _ = give(k.part.permit, now, result); tripped {
			k.cut = k.part.circuit
		}
		if probing && outcome == policy.Failure { // what is cut out is no matter of the upstream
			if k.permit.Granted() {
				k.permit.Return(now)
			}
			return tripped
		}
	}
	if !k.permit.Granted() { // of the part alone, when something panicked
		return false
	}
	tripped, gone := give(k.permit, now, result)
	switch {
	case outcome != policy.Failure:
		return tripped
	case !gone:
		k.cut = k.t.cut(k.c, k.req, result, now)
		return tripped || k.cut != nil
	}
	// The circuit was forgotten while the call was out. What the call found out belongs to the one in its place.
	if successor := k.t.circuits.add(k.c.key); successor != nil {
		if tripped = successor.Blame(now, result); tripped {
			k.c = successor // whose refusal it gets
		}
		k.cut = k.t.cut(successor, k.req, result, now)
	}
	return tripped || k.cut != nil
}

// times are when the call started and ended, by the wall clock if there is a classifier, who may look at that.
func (k *call) times() (started, ended time.Time) {
	started, ended = k.started.time(), k.ended.time()
	if k.ended != 0 && k.c.classify.Load() != nil {
		ago := ticks() - k.ended
		if ended = time.Now().Add(-time.Duration(ago)); k.started != 0 {
			started = ended.Add(-k.elapsed())
		}
	}
	return started, ended
}

func (k *call) elapsed() time.Duration {
	if k.started == 0 {
		return 0
	}
	return time.Duration(k.ended - k.started)
}

// refusesTripper reports whether the call that opened the circuit gets the refusal: not if it did so by a success,
// whose caller would take what was done for not done.
func (k *call) refusesTripper(outcome policy.Outcome) bool {
	return k.t.refuseTripper && outcome == policy.Failure && !k.c.shadow.Load() && k.check == nil
}

// refuseTripping answers the call that opened the circuit as the circuit answers from now on.
func (k *call) refuseTripping(resp *http.Response) (*http.Response, error) {
	k.resp = nil
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	opened := k.c
	if k.cut != nil {
		opened = k.cut
	}
	snapshot := opened.Snapshot(time.Now())
	return k.t.refuse(k.req, opened, statemachine.Refusal{
		Reason: policy.RefusedOpen, State: snapshot.State, At: snapshot.Since, Since: snapshot.Since, Due: snapshot.Due,
		Cause: snapshot.Cause, Samples: snapshot.Samples,
	})
}

// abandon ends a call that did not get to its end: the base, a classifier or an observer panicked, or the
// goroutine exits.
func (k *call) abandon() {
	if k.resp != nil && k.resp.Body != nil {
		k.resp.Body.Close()
	}
	if k.over {
		return
	}
	k.over = true
	k.attempt.end()
	if k.sent == nil {
		closeBody(k.req)
	}
	if k.permit.Granted() || k.part != nil || k.shadow {
		k.done(policy.Ignored, policy.Cause{Kind: policy.KindPanic}, nil, nil)
	}
}
