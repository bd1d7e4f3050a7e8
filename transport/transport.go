// Package transport is the RoundTripper of Fusebox: it keeps one circuit per upstream, refuses requests to
// an upstream in trouble, and lets traffic back when the upstream is well.
//
//	client := &http.Client{Transport: transport.New(nil)}
package transport

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// Transport is an http.RoundTripper that keeps one circuit per upstream. New makes it. It is safe for concurrent use
// and starts no goroutine.
type Transport struct {
	base      http.RoundTripper
	circuits  circuits
	keyOf     KeyFunc // nil for Upstream
	policy    policy.Policy
	config    *statemachine.Config              // of policy
	policyFor func(Key) policy.Policy           // nil if policy is for all
	classify  atomic.Pointer[policy.Classifier] // nil for policy.Default
	refusal   RefusalFunc                       // nil for the 503
	observers []Observer
	storage   Storage
	random    func() float64

	observed      bool // somebody is told of state changes or refusals
	attended      bool // somebody is told of every call
	refuseTripper bool // the call that trips gets the refusal
}

var errNilURL = errors.New("fusebox: the request's URL is nil; make requests with http.NewRequest")

// RoundTrip makes the call by the base RoundTripper if the request's circuit lets it, and otherwise answers with the
// refusal. The request, the response and the error are otherwise the base's own. A response body is the base's but for
// being watched: what it reads, and whether it breaks, belongs to the call's outcome.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req)
		return nil, errNilURL
	}
	c := t.circuitOf(req)
	if c == nil || req.Context().Err() != nil {
		// No room to watch it, or the caller is gone already and the call says nothing: no reason to stand in its way.
		return t.base.RoundTrip(req)
	}
	permit, closed := c.AcquireClosed()
	if closed && !t.attends(c, permit) && !canFail(req.Body) {
		// A good call of a healthy upstream changes nothing, and its permit holds nothing that a panic could lose.
		resp, err := t.base.RoundTrip(req)
		if err == nil && resp != nil && resp.StatusCode < 500 && !hasBody(req, resp) && permit.Quiet() {
			return resp, nil
		}
		return t.conclude(req, c, permit, resp, err)
	}
	return t.attend(req, c, permit)
}

// conclude ends a call that turned out to be worth a look, or whose body is still to come.
func (t *Transport) conclude(
	req *http.Request, c *circuit, permit statemachine.Permit, resp *http.Response, err error,
) (*http.Response, error) {
	k := call{t: t, c: c, req: req, sent: req, permit: permit}
	defer k.abandon()
	return k.finish(resp, err)
}

// attends reports whether somebody looks at calls that are good, too.
func (t *Transport) attends(c *circuit, permit statemachine.Permit) bool {
	return t.attended || c.timed || permit.Watched() || t.classify.Load() != nil
}

// attend makes a call that has a place to give back, or that somebody looks at from its start; or refuses it.
func (t *Transport) attend(req *http.Request, c *circuit, permit statemachine.Permit) (*http.Response, error) {
	k := call{t: t, c: c, req: req, permit: permit}
	defer k.abandon()
	if !permit.Granted() {
		if refusal := k.acquire(); !k.permit.Granted() {
			k.over = true
			closeBody(req)
			return t.refuse(req, k.c, refusal)
		}
	}
	k.start()
	resp, err := t.base.RoundTrip(k.sent)
	return k.finish(resp, err)
}

// CloseIdleConnections closes the base's idle connections, if it can.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// call is one call from its permit to its outcome.
type call struct {
	t       *Transport
	c       *circuit
	permit  statemachine.Permit
	req     *http.Request
	sent    *http.Request // req, or a copy with a body that is watched; nil before the base gets it
	bodyErr *bodyErrors
	started time.Time // zero if nobody asks for the time
	ended   time.Time
	resp    *http.Response // while it is not the caller's yet
	over    bool           // the permit is given back, or the response's body will do it
}

// acquire asks a circuit that is not simply closed for a permit, and if it was forgotten, the one that took its place.
func (k *call) acquire() (refusal statemachine.Refusal) {
	deadline, _ := k.req.Context().Deadline()
	for {
		k.permit, refusal = k.c.Acquire(time.Now(), deadline)
		if !refusal.Gone {
			return refusal
		}
		key := k.c.key
		k.t.circuits.forgotten(k.c) // it may have come back there after it was forgotten
		if k.c = k.t.circuits.add(key); k.c == nil {
			k.c = k.t.newCircuit(key) // no room to keep one: this call gets one of its own
		}
	}
}

func (k *call) start() {
	t := k.t
	if t.attended || k.c.timed || k.permit.Probing() || t.classify.Load() != nil {
		k.started = time.Now()
	}
	for i := range t.observers {
		if t.observers[i].OnCall != nil {
			t.observers[i].OnCall(CallStart{Key: k.c.key, Request: k.req, Probe: k.permit.Probing()})
		}
	}
	k.sent, k.bodyErr = watchBody(k.req)
}

// finish turns what the base returned into an outcome and gives the permit back, at once or at the end of the body.
func (k *call) finish(resp *http.Response, err error) (*http.Response, error) {
	if resp == nil && err == nil {
		return nil, nil // no RoundTripper may do that; http.Client has an error for it
	}
	k.resp = resp
	if resp != nil && resp.Request == k.sent {
		resp.Request = k.req
	}
	if err != nil || !k.started.IsZero() {
		k.ended = time.Now()
	}
	outcome, cause := k.judge(resp, err, false)
	k.over = true
	if outcome == policy.Success && hasBody(k.req, resp) {
		if b := k.watch(resp); b.call.permit.WantsHeaders() {
			b.call.permit.Headers(time.Now())
		}
	} else if tripped := k.done(outcome, cause, resp); tripped && k.t.refuseTripper {
		return k.refuseTripping(resp)
	}
	k.resp = nil
	return resp, err
}

// judge says what a finished call tells of its upstream.
func (k *call) judge(resp *http.Response, err error, inBody bool) (policy.Outcome, policy.Cause) {
	classify := k.t.classify.Load()
	if err == nil && classify == nil && resp.StatusCode < 500 {
		return policy.Success, policy.Cause{Status: resp.StatusCode} // what follows says the same, at length
	}
	if err != nil {
		awaitClientTimeout(k.req)
	}
	ended := k.ended
	if inBody {
		ended = time.Now()
	}
	facts := policy.Call{
		Request: k.req, Response: resp, Err: err, InBody: inBody, BodyErr: k.bodyErr.get(), Started: k.started, Ended: ended,
	}
	outcome, cause := policy.Undecided, policy.CauseOf(&facts)
	if classify != nil {
		outcome = ask(*classify, facts)
	}
	if outcome == policy.Undecided {
		outcome = cause.Outcome()
	} else if outcome == policy.Failure && cause.Kind == policy.NoKind {
		cause.Kind = policy.Judged
	}
	if outcome == policy.Failure && (errors.Is(err, ErrOpen) || err == nil && Refused(resp)) {
		outcome = policy.Ignored // a circuit between here and the upstream refused: the upstream knows nothing of it
	}
	if outcome == policy.Success {
		cause = policy.Cause{Status: cause.Status}
	}
	return outcome, cause
}

// ask has facts of its own, so that only calls with a custom classifier pay for the memory.
func ask(classify policy.Classifier, facts policy.Call) policy.Outcome { return classify(&facts) }

// awaitClientTimeout gives http.Client a moment to say that it was its Timeout that passed: it ends the request's
// context, and tells by Request.Cancel in another goroutine, which can be late on a busy machine. The call has just been
// waited for until its deadline.
func awaitClientTimeout(req *http.Request) {
	//lint:ignore SA1019 http.Client still uses it
	canceled := req.Cancel
	if canceled == nil || req.Context().Err() != context.DeadlineExceeded {
		return
	}
	moment := time.NewTimer(10 * time.Millisecond)
	defer moment.Stop()
	select {
	case <-canceled:
	case <-moment.C:
	}
}

// done gives the permit back and tells who asked.
func (k *call) done(outcome policy.Outcome, cause policy.Cause, resp *http.Response) (tripped bool) {
	if outcome != policy.Success || !k.permit.Quiet() {
		tripped = k.giveBack(outcome, cause, resp)
	}
	for i := range k.t.observers {
		if observe := k.t.observers[i].OnOutcome; observe != nil {
			observe(CallEnd{
				Key: k.c.key, Request: k.req, Probe: k.permit.Probing(), Outcome: outcome, Cause: cause, Elapsed: k.elapsed(),
			})
		}
	}
	return tripped
}

func (k *call) giveBack(outcome policy.Outcome, cause policy.Cause, resp *http.Response) (tripped bool) {
	now := time.Now()
	result := policy.Result{Outcome: outcome, Cause: cause, Elapsed: k.elapsed()}
	if outcome == policy.Failure && resp != nil {
		result.RetryAfter = retryAfter(resp.Header, now)
	}
	tripped, gone := k.permit.Done(now, result)
	if !gone || outcome != policy.Failure {
		return tripped
	}
	// The circuit was forgotten while the call was out. What the call found out belongs to the one in its place.
	if successor := k.t.circuits.add(k.c.key); successor != nil {
		if permit, ok := successor.AcquireClosed(); ok {
			tripped, _ = permit.Done(now, result)
		}
	}
	return tripped
}

func (k *call) elapsed() time.Duration {
	if k.started.IsZero() {
		return 0
	}
	return k.ended.Sub(k.started)
}

// refuseTripping answers the call that opened the circuit as the circuit answers from now on.
func (k *call) refuseTripping(resp *http.Response) (*http.Response, error) {
	k.resp = nil
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	snapshot := k.c.Snapshot(time.Now())
	return k.t.refuse(k.req, k.c, statemachine.Refusal{
		State: snapshot.State, At: snapshot.Since, Since: snapshot.Since, Due: snapshot.Due, Cause: snapshot.Cause,
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
	if k.sent == nil {
		closeBody(k.req)
	}
	if k.permit.Granted() {
		k.done(policy.Ignored, policy.Cause{Kind: policy.Panic}, nil)
	}
}
