package transport

import (
	"cmp"
	"io"
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// mostOfCheck is how much of a health check's body is read, so that its connection can be used again.
const mostOfCheck = 64 << 10

// canBeLost reports whether nothing is lost if the request fails, as net/http decides whether it may send one twice: it
// has no body, and its method is safe or it has an idempotency key.
func canBeLost(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody {
		return false
	}
	switch methodOf(req) {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return req.Header["Idempotency-Key"] != nil || req.Header["X-Idempotency-Key"] != nil
}

// checkFor is how long a health check may take if policy.Limits has no Timeout.
const checkFor = 10 * time.Second

// probeByCheck makes the health check in place of the request that got a permit to probe, and returns its outcome; or
// Undecided if there is no check for this key.
func (k *call) probeByCheck() policy.Outcome {
	req := k.t.check(k.c.key)
	if req == nil {
		return policy.Undecided
	}
	outcome := policy.Ignored
	check := call{t: k.t, c: k.c, req: req.WithContext(k.req.Context()), permit: k.permit, check: &outcome}
	k.permit = statemachine.Permit{}
	defer check.abandon()
	// It goes on the place of the request that it is made for.
	check.attempt = withDeadline(policy.Limits{Timeout: cmp.Or(k.limits().Timeout, checkFor), TimeoutBody: true})
	check.start()
	resp, err := k.t.base.RoundTrip(check.sent)
	if resp, err = check.finish(resp, err); err == nil && resp != nil && resp.Body != nil {
		io.CopyN(io.Discard, resp.Body, mostOfCheck)
		resp.Body.Close()
	}
	return outcome
}
