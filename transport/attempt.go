package transport

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/fusebox-go/fusebox/policy"
)

// attempt is a call under policy.Limits: it has a place among the calls in flight, and a deadline of its own. It lasts
// to the end of the response's body or of the request's context, whichever is first. A nil attempt has neither.
type attempt struct {
	c         *circuit // whose inFlight it is in; nil if in none
	limits    policy.Limits
	ctx       context.Context // of the request that was sent
	unfollow  func() bool     // the end of ctx; nil if nothing waits for it
	inBody    bool            // it lasts to the end of the body
	left      atomic.Bool     // its place
	over      atomic.Bool
	*deadline // nil if there is none
}

// deadline is what it takes to have one. It is in one piece of memory with its attempt, and so is what will watch the
// body.
type deadline struct {
	cancel context.CancelCauseFunc // nil until the clock is started
	alarm  atomic.Pointer[alarm]   // nil if it is not set
	sent   http.Request
	body   wholeBody
}

// timeIsUp is the cause of the end of an attempt's context. It is the attempt's own, since a context can be inside that
// of another one.
type timeIsUp struct{ of *attempt }

func (timeIsUp) Error() string { return "fusebox: time is up" }

// Timeout and Temporary make it a net.Error, by which a Transport inside knows that its caller had a deadline.
func (timeIsUp) Timeout() bool   { return true }
func (timeIsUp) Temporary() bool { return true }

// newAttempt returns nil if nothing is limited, and false if as many calls are in flight as may be: then the attempt,
// if it is made all the same, has only a deadline.
func newAttempt(c *circuit, limits policy.Limits) (a *attempt, ok bool) {
	placed := limits.InFlight > 0
	if ok = !placed || int(c.inFlight.Add(1)) <= limits.InFlight; !ok {
		c.inFlight.Add(-1)
		placed = false
	}
	switch {
	case limits.Timeout > 0:
		a = withDeadline(limits)
	case placed:
		a = &attempt{limits: limits}
	}
	if placed {
		a.c = c
	}
	return a, ok
}

func withDeadline(limits policy.Limits) *attempt {
	made := &struct {
		attempt
		deadline
	}{attempt: attempt{limits: limits}}
	made.attempt.deadline = &made.deadline
	return &made.attempt
}

// start starts the clock and returns the request to send. It takes an alarm of those.
func (a *attempt) start(req *http.Request, alarms *sync.Pool) *http.Request {
	if a == nil {
		return req
	}
	if a.ctx = req.Context(); a.deadline == nil {
		return req
	}
	a.ctx, a.cancel = context.WithCancelCause(a.ctx)
	a.alarm.Store(setAlarm(a, alarms))
	a.sent = *req.WithContext(a.ctx)
	return &a.sent
}

// headers takes what the base returned and returns what the caller gets.
func (a *attempt) headers(req *http.Request, resp *http.Response, err error) (*http.Response, error) {
	if a == nil {
		return resp, err
	}
	if resp == nil || err != nil {
		a.end()
		return resp, a.blame(err, false)
	}
	duplex := duplex(req, resp)
	if (!a.limits.TimeoutBody || duplex) && !a.stop() {
		a.end()
		if resp.Body != nil {
			resp.Body.Close()
		}
		return nil, a.timedOut(false)
	}
	switch {
	case duplex:
		a.leave() // the connection is the caller's from now on
		if a.deadline != nil {
			resp.Body = attemptDuplex{resp.Body.(io.ReadWriteCloser), a}
		}
	case resp.Body == nil || resp.Body == http.NoBody:
		a.end()
	default:
		a.follow(resp.Body)
		a.inBody = true
	}
	return resp, nil
}

// follow has what the attempt holds of others given back at the end of its context: nobody may ever read or close the
// body. Without a place it holds no more than a timer that ends by itself.
func (a *attempt) follow(body io.ReadCloser) {
	_, writable := body.(io.Writer)
	switch {
	case writable: // net/http would leave it to the caller
		a.unfollow = context.AfterFunc(a.ctx, func() { a.release(); body.Close() })
	case a.c != nil:
		a.unfollow = context.AfterFunc(a.ctx, a.release)
	}
}

// end ends the attempt if it has not ended.
func (a *attempt) end() {
	if a == nil || a.over.Swap(true) {
		return
	}
	if a.unfollow != nil {
		a.unfollow()
	}
	a.release()
	if a.deadline != nil && a.cancel != nil {
		a.cancel(nil)
	}
}

// release gives back what the attempt holds of others: its place and its alarm.
func (a *attempt) release() {
	a.leave()
	a.stop()
}

// stop stops the clock, if there is one, and reports whether it is not up.
func (a *attempt) stop() (inTime bool) {
	if a.deadline == nil {
		return true
	}
	alarm := a.alarm.Swap(nil)
	return alarm == nil || alarm.stop()
}

// leave gives the place among the calls in flight back.
func (a *attempt) leave() {
	if a != nil && a.c != nil && !a.left.Swap(true) {
		a.c.inFlight.Add(-1)
	}
}

// blame returns a *policy.TimeoutError in place of what the base made of the end of its context.
func (a *attempt) blame(err error, inBody bool) error {
	if a != nil && err != nil && err != io.EOF && context.Cause(a.ctx) == error(timeIsUp{a}) {
		return a.timedOut(inBody)
	}
	return err
}

func (a *attempt) timedOut(inBody bool) error {
	return &policy.TimeoutError{After: a.limits.Timeout, Body: inBody}
}

// attemptDuplex is the connection of a protocol upgrade. Its context lasts to its end.
type attemptDuplex struct {
	io.ReadWriteCloser
	attempt *attempt
}

func (d attemptDuplex) Close() error {
	defer d.attempt.end()
	return d.ReadWriteCloser.Close()
}

// CloseWrite does what net/http's own body does.
func (d attemptDuplex) CloseWrite() error { return closeWrite(d.ReadWriteCloser) }
