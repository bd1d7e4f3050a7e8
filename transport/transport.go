// Package transport is the RoundTripper of Fusebox: it keeps one circuit per upstream, refuses requests to
// an upstream in trouble, and lets traffic back when the upstream is well.
//
//	client := &http.Client{Transport: transport.New(nil)}
//
// What circuits know outlives a process in three ways. SaveTo and RestoreFrom hand it from a process that ends to the
// one that comes after it, through a file or what is like one: the circuits in trouble, with what failed, and the
// states that somebody forced. A Storage (WithStorage) has the state of each circuit at any time, also if the process
// ends without a word, and where others can read it; it has nothing that is forced. A fleet (WithFleet) keeps nothing:
// processes that run tell each other, and one that starts hears from the others what they have open. Each way does
// without the others, and they can be used together.
package transport

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// Transport is an http.RoundTripper that keeps one circuit per upstream. New makes it. It is safe for concurrent use
// and starts no goroutine that lasts, but for those of a fleet's bus.
//
// The base gets the caller's own request, but in three cases a shallow copy of it: with a body that is none of those
// that http.NewRequest knows and no file, so that its errors are told from the upstream's; under policy.Limits.Timeout,
// with a context of its own; and as a probe after silence, with a trace in its context and, over HTTP/2, with Close
// set. A copy shares URL and Header with the original, and the response's Request is the original again. What knows a
// request by its address does not know a copy: so CancelRequest of a base, which net/http deprecates and which a
// Transport does not have, does nothing for one. Cancel the request's context in its place.
type Transport struct {
	// What each call reads of it is in one line of memory.
	base      http.RoundTripper
	keyOf     KeyFunc // nil for Upstream
	observers observers
	local     local

	circuits    circuits
	parts       parts
	classify    atomic.Pointer[policy.Classifier] // of keys that have none; nil for policy.DefaultClassifier
	refusal     RefusalFunc                       // nil for the 503, or an error
	traceOf     func(*http.Request) string
	check       func(Key) *http.Request // nil if probes are requests of callers
	storage     Storage
	random      func() float64
	policies    atomic.Pointer[policies]
	configuring sync.Mutex // held while a circuit gets other policies
	overrides   overrides
	shadow      atomic.Pointer[func(Key) bool] // nil if all refusals are real
	http3       atomic.Bool                    // an answer came over it
	clock       coarseClock
	alarms      sync.Pool // of attempts, that are not set
	bus         fleet.Bus // nil without a fleet, and seat too
	seat        *seat

	refuseByError bool // in place of the 503
	refuseTripper bool // the call that trips gets the refusal
	safeProbes    bool // only requests that can be lost are probes, as long as there are some

	initial initial
}

// initial is what options have set when New makes the first policies of them.
type initial struct {
	policy      policy.Policy
	settingsFor func(Key) Settings
}

// RoundTrip makes the call by the base RoundTripper if the request's circuit lets it, and otherwise answers with the
// refusal. The request, the response and the error are otherwise the base's own. A response body is the base's but for
// being watched: what it reads, and whether it breaks, belongs to the call's outcome. Errors of its own are one in
// which errors.As finds an *RefusedError, if refusals are to be errors; a *policy.TimeoutError, if policy.Limits says
// so; and the cause of the end of the request's context, if that ended while a health check was waited for. A request
// without a URL has no circuit, and is the base's to answer.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		return t.base.RoundTrip(req) // there is no upstream, and the base has an error for it
	}
	c := t.circuitOf(req)
	if c == nil || req.Context().Err() != nil {
		// No room to watch it, or the caller is gone already and the call says nothing: no reason to stand in its way.
		return t.base.RoundTrip(req)
	}
	generation, alone := c.AcquirePlain()
	if alone && !t.looksAt(c) && (req.Body == nil || bodyOf(req) == plain) {
		// A good call of a healthy upstream changes nothing, and its permit holds nothing that a panic could lose.
		resp, err := t.base.RoundTrip(req)
		if err == nil && resp != nil && fine(resp) && endsQuietly(c, generation, req, resp) {
			if resp.ProtoMajor > 1 {
				c.speaks(resp)
			}
			return resp, nil
		}
		return t.conclude(req, c, c.Permit(generation), resp, err)
	}
	permit, closed := c.AcquireClosed()
	if !closed {
		if resp, err, refused := t.refuseAtOnce(req, c); refused {
			return resp, err
		}
	}
	return t.attend(req, c, permit)
}

// looksAt reports whether somebody looks at each call of a circuit from its start.
func (t *Transport) looksAt(c *circuit) bool {
	return t.observers.attend.Load() || c.classify.Load() != nil || t.local.ailing.Load() == c
}

// conclude ends a call that turned out to be worth a look, or whose body is still to come.
func (t *Transport) conclude(
	req *http.Request, c *circuit, permit statemachine.Permit, resp *http.Response, err error,
) (*http.Response, error) {
	k := call{t: t, c: c, req: req, sent: req, permit: permit}
	defer k.abandon()
	return k.finish(resp, err)
}

// attend makes a call that has a place to give back, or that somebody looks at from its start; or refuses it.
func (t *Transport) attend(req *http.Request, c *circuit, permit statemachine.Permit) (*http.Response, error) {
	var k call // not in one piece, which is made elsewhere and copied
	k.t, k.c, k.req, k.permit = t, c, req, permit
	defer k.abandon()
	if free := permit.Granted() && k.limits() == (policy.Limits{}) && c.cutParts() == nil; !free {
		if refusal := k.acquire(); refusal.Reason != policy.NotRefused {
			if k.part != nil {
				k.leavePart()
			}
			if k.shadow = k.c.shadows(refusal); !k.shadow {
				k.over = true
				k.attempt.end()
				closeBody(req)
				if refusal.Reason == gaveUp {
					return nil, context.Cause(req.Context())
				}
				return t.refuse(req, k.c, refusal)
			}
			if t.observers.refuse.Load() {
				facts := refusedError(k.c, refusal)
				facts.Shadow = true
				t.observers.tellRefuse(req, facts)
			}
		}
	}
	k.start()
	resp, err := t.base.RoundTrip(k.sent)
	return k.finish(resp, err)
}

// mostLayers is how many of them are looked through for one that can do something.
const mostLayers = 100

// CloseIdleConnections closes the base's idle connections, if it can. If it cannot and has a method
// WrappedRoundTripper, as layers of k8s.io/client-go have, then whatever is inside is asked to.
func (t *Transport) CloseIdleConnections() {
	rt := t.base
	for range mostLayers {
		if closer, ok := rt.(interface{ CloseIdleConnections() }); ok {
			closer.CloseIdleConnections()
			return
		}
		layer, ok := rt.(interface{ WrappedRoundTripper() http.RoundTripper })
		if !ok {
			return
		}
		rt = layer.WrappedRoundTripper()
	}
}

// WrappedRoundTripper returns the base, for those who look through layers as k8s.io/client-go does.
func (t *Transport) WrappedRoundTripper() http.RoundTripper { return t.base }
