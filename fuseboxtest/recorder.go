package fuseboxtest

import (
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// Recorder keeps what a Transport tells its observers, from Record to the end of the test, in the order in which it was
// told. Its methods can be called by many goroutines at once.
type Recorder struct {
	t        testing.TB
	mu       sync.Mutex
	changes  []transport.StateChange
	refusals []refusal
	outcomes []transport.CallEnd
}

type refusal struct {
	req   *http.Request
	facts *transport.RefusedError
}

// Record begins to record. What happened before is not in it, such as what AlmostTrip needs to find out.
func Record(t testing.TB, breaker *transport.Transport) *Recorder {
	r := &Recorder{t: t}
	t.Cleanup(breaker.Observe(transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changes = append(r.changes, c)
		},
		OnRefuse: func(req *http.Request, facts *transport.RefusedError) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.refusals = append(r.refusals, refusal{req, facts})
		},
		OnOutcome: func(end transport.CallEnd) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.outcomes = append(r.outcomes, end)
		},
	}))
	return r
}

// Changes returns the changes of state.
func (r *Recorder) Changes() []transport.StateChange {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changes)
}

// Outcomes returns what became of the calls that were made, and so reached the upstream.
func (r *Recorder) Outcomes() []transport.CallEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.outcomes)
}

// Refusals returns the facts of the requests that were refused; in shadow, of those that would have been.
func (r *Recorder) Refusals() (all []*transport.RefusedError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, refused := range r.refusals {
		all = append(all, refused.facts)
	}
	return all
}

// AssertRefused fails the test, and lets it go on, unless what a call has come to is a refusal for one of the reasons,
// or for any if there are none, by the circuit of the key. The response or error can be that of http.Client or of any
// RoundTripper around the Transport that passes on the response's Request or wraps the error. A RefusalFunc of one's
// own that returns an error has to wrap the *transport.RefusedError that it gets.
func (r *Recorder) AssertRefused(
	resp *http.Response, err error, key transport.Key, reasons ...policy.RefusalReason,
) (refused bool) {
	r.t.Helper()
	var facts *transport.RefusedError
	switch {
	case err == nil && resp == nil:
		r.t.Error("fuseboxtest: not a refusal: there is neither a response nor an error")
		return false
	case errors.As(err, &facts):
	case err != nil:
		r.t.Errorf("fuseboxtest: not a refusal, but the error %q", err)
		return false
	case !transport.Refused(resp):
		r.t.Errorf("fuseboxtest: not a refusal, but an answer of the upstream: %s", resp.Status)
		return false
	default:
		if facts = r.find(resp.Request); facts == nil {
			r.t.Error("fuseboxtest: a refusal that was not recorded: of another Transport, or of before Record")
			return false
		}
	}
	if facts.Key != key {
		r.t.Errorf("fuseboxtest: refused by the circuit of %v, not of %v", facts.Key, key)
		return false
	}
	if len(reasons) > 0 && !slices.Contains(reasons, facts.Reason) {
		var wanted []string
		for _, reason := range reasons {
			wanted = append(wanted, reason.String())
		}
		r.t.Errorf("fuseboxtest: refused because of %q, not %q", facts.Reason, wanted)
		return false
	}
	return true
}

// find returns the facts of the refusal of a request, the last one if there were several; nil if there was none.
func (r *Recorder) find(req *http.Request) *transport.RefusedError {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, refused := range slices.Backward(r.refusals) {
		if refused.req == req {
			return refused.facts
		}
	}
	return nil
}
