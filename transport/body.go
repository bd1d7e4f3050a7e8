package transport

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// body is a response's body, at whose end its call is over: when it ends, breaks or is closed, whichever is first. Most
// calls are quiet, and all that is kept of one is what it takes to make a call of it if its end is worth a look.
type body struct {
	io.ReadCloser
	c          *circuit
	generation uint64 // of the permit of a quiet call
	req        *http.Request
	resp       *http.Response
	lasting    atomic.Pointer[lasting] // nil while the call is quiet
	state      atomic.Uint32
}

// The state of a body: whether its call is over, and above that how often it was read, twice, and one more while a Read
// is under way. They are one word, since each change of it takes as long as a fifth of all else.
const (
	over    = 1
	reading = 2
)

// lasting is the call of a body that somebody looks at, or that lasts for a time.
type lasting struct {
	call call
	// when bytes came last, in Unix nanoseconds, or negative when the headers did; 0 if nobody asks
	heard   atomic.Int64
	bytesAt tick // when those that come are to be told; 0 if none are
	flow    flow
}

// wholeBody is a body and its call, in one piece of memory.
type wholeBody struct {
	body
	lasting
}

// flow is how a body's bytes came, as far as a coarse clock can tell, and in Unix nanoseconds. Whoever reads the body
// writes it, and whoever closes the body meanwhile may look.
type flow struct {
	since   atomic.Int64 // when it began to be looked at
	asked   atomic.Int64 // when the last wait began
	longest atomic.Int64 // time from one to the next
}

// fewWaits is how many are not looked at: most bodies are over by then.
const fewWaits = 2

// stalled is how long nothing has come of a body whose reader has been waiting, so that it says nothing of the upstream
// if the reader gives up.
const stalled = time.Second

// writerToBody is a body whose base can write itself to an io.Writer.
type writerToBody struct{ *body }

// watch gives the response a body that ends the call.
func (k *call) watch(resp *http.Response) *body {
	var b *body
	if generation, plain := k.permit.Plain(); plain && k.quiet() {
		b = &body{ReadCloser: resp.Body, c: k.c, generation: generation, req: k.req, resp: resp}
	} else {
		var made *wholeBody
		if k.attempt != nil && k.attempt.deadline != nil {
			made = &k.attempt.deadline.body
		} else {
			made = new(wholeBody)
		}
		made.call = *k
		b = &made.body
		b.ReadCloser, b.c, b.req, b.resp = resp.Body, k.c, k.req, resp
		if k.delivering {
			made.flow.goesOn(time.Now().UnixNano())
		}
		b.lasting.Store(&made.lasting)
	}
	resp.Body = b.asBase()
	return b
}

// endsQuietly reports whether there is nothing to keep of a call that is going well: it is over, and its circuit quiet,
// or it will be over at the end of its body, which is watched from then on.
func endsQuietly(c *circuit, generation uint64, req *http.Request, resp *http.Response) bool {
	if resp.Body == nil || resp.Body == http.NoBody || inMemory(resp.Body) {
		return c.Quiet(generation)
	}
	writesItself := false
	switch resp.Body.(type) { // in one switch, since each is a search for the methods of a type
	case io.Writer:
		return false // it may be a connection
	case io.WriterTo:
		writesItself = true
	}
	switch {
	case resp.ContentLength == 0 || req.Method != http.MethodGet && methodOf(req) == http.MethodHead:
		return c.Quiet(generation)
	case c.WantsHeaders():
		return false
	}
	b := &body{ReadCloser: resp.Body, c: c, generation: generation, req: req, resp: resp}
	if resp.Body = b; writesItself {
		resp.Body = writerToBody{b}
	}
	return true
}

// asBase returns the body with what that of the base can do beside reading.
func (b *body) asBase() io.ReadCloser {
	switch of := b.ReadCloser.(type) {
	case io.Writer:
		return writableBody{b, of}
	case io.WriterTo:
		return writerToBody{b}
	}
	return b
}

// quiet reports whether all that is to be kept of a call is its circuit, its permit, and what was sent and got.
func (k *call) quiet() bool {
	return k.attempt == nil && k.bodyErr == nil && k.ending == nil && k.check == nil && !k.shadow && !k.delivering &&
		k.part == nil &&
		k.started == 0 && !k.t.observers.attend.Load()
}

// last returns what is kept of the call of a body that is no longer quiet.
func (b *body) last() *lasting {
	if l := b.lasting.Load(); l != nil {
		return l
	}
	made := &lasting{call: call{
		t: b.c.t, c: b.c, permit: b.c.Permit(b.generation), req: b.req, sent: b.req, resp: b.resp, over: true,
	}}
	if b.lasting.CompareAndSwap(nil, made) {
		return made
	}
	return b.lasting.Load()
}

// hasBody reports whether there is a body whose end is worth waiting for.
func hasBody(req *http.Request, resp *http.Response) bool {
	if resp == nil || resp.Body == nil || resp.Body == http.NoBody {
		return false
	}
	if _, writable := resp.Body.(io.Writer); writable {
		return !duplex(req, resp) // whatever the length is said to be, and for HEAD, too
	}
	return resp.ContentLength != 0 && (req.Method == http.MethodGet || methodOf(req) != http.MethodHead)
}

func (b *body) Read(p []byte) (int, error) {
	if b.state.Add(reading) > 2*fewWaits*reading {
		b.last().flow.wait(b.c.t.clock.now())
	}
	n, err := b.ReadCloser.Read(p)
	l := b.lasting.Load()
	if err != nil && l == nil {
		return n, b.end(err, reading)
	}
	b.state.Add(reading)
	if l != nil && n > 0 {
		b.came(l, p[:n])
	}
	if err != nil {
		err = b.end(err, 0)
	}
	return n, err
}

func (f *flow) wait(now int64) {
	asked := f.asked.Load()
	if asked == now { // as mostly: the clock is coarse
		return
	}
	if f.since.Load() == 0 {
		f.since.Store(now)
	} else if gap := now - asked; gap > f.longest.Load() {
		f.longest.Store(gap)
	}
	f.asked.Store(now)
}

// goesOn begins a flow that has delivered for a time already.
func (f *flow) goesOn(now int64) {
	f.since.Store(now - int64(stalled+coarseTick) - 1)
	f.asked.Store(now)
}

// begun reports whether the body has been looked at at all, which spares a reading of the clock.
func (f *flow) begun() bool { return f.since.Load() != 0 }

// long reports whether the body has been looked at for longer than a time.
func (f *flow) long(now int64, most time.Duration) bool {
	since := f.since.Load()
	return since != 0 && now-since > int64(most)
}

// delivering reports whether the body has streamed for a time, and its reader has not been waiting for long: not for
// longer than it had to before. So it is of a slow reader, too.
func (f *flow) delivering() bool {
	const most = stalled + coarseTick
	now := time.Now().UnixNano()
	return f.long(now, most) && now-f.asked.Load() <= max(int64(most), f.longest.Load())
}

// came takes notice of bytes, if it makes a difference which, or when they came.
func (b *body) came(l *lasting, p []byte) {
	if l.call.ending != nil {
		l.call.ending.add(p)
	}
	if l.heard.Load() == 0 {
		return
	}
	now := time.Now()
	l.heard.Store(now.UnixNano())
	if at := tickOf(now); l.bytesAt != 0 && at >= l.bytesAt {
		again := soonest(l.call.permit.Bytes(now), l.call.part.bytes(now))
		if l.bytesAt = 0; again > 0 {
			l.bytesAt = at + tick(again)
		}
	}
}

func (b *body) Close() error {
	if b.state.Load()&over == 0 {
		return b.close()
	}
	err := b.ReadCloser.Close() // it was read to its end, as mostly
	if l := b.lasting.Load(); l != nil {
		l.call.attempt.end()
	}
	return err
}

func (b *body) close() (err error) {
	defer func() { // an observer may panic
		err = b.ReadCloser.Close()
		if l := b.lasting.Load(); l != nil {
			l.call.attempt.end()
		}
	}()
	if b.state.Load()&reading != 0 {
		if err := b.timeUp(); err != nil {
			if b.ends(0) {
				b.conclude(b.last(), withoutTrailer(b.resp), err) // as if its reader had got that
			}
			return nil
		}
		if b.inVain() {
			b.gaveUp()
			return nil
		}
	}
	b.end(errClosed, 0)
	return nil
}

// ends adds to the state that the call is over, and maybe that a Read is. It reports whether it was not over before.
func (b *body) ends(read uint32) (first bool) {
	for {
		state := b.state.Load()
		if b.state.CompareAndSwap(state, (state+read)|over) {
			return state&over == 0
		}
	}
}

// timeUp returns the end of the call's context, if that is a timeout. Some clients close the body when it comes, and
// leave it to chance who is first.
func (b *body) timeUp() error {
	ctx := b.req.Context()
	var a *attempt
	if l := b.lasting.Load(); l != nil && l.call.attempt != nil {
		a = l.call.attempt
		ctx = a.ctx
	}
	err := a.blame(ctx.Err(), true)
	if err == nil || policy.CauseOf(&policy.Call{Request: b.req, Err: err, InBody: true}).Kind != policy.KindTimeout {
		return nil
	}
	return err
}

// inVain reports whether the reader of a body that is closed has been waiting for nothing.
func (b *body) inVain() bool {
	l := b.lasting.Load()
	if l == nil {
		return true
	}
	heard := l.heard.Load()
	nothing := heard < 0 && l.call.ending == nil // or there may be a trailer, and somebody to ask about it
	return nothing || time.Now().UnixNano()-max(heard, -heard) > int64(stalled)
}

// gaveUp ends the call of a body that is closed while its reader waits in vain.
func (b *body) gaveUp() {
	if b.ends(0) {
		b.last().call.done(policy.Ignored, policy.Cause{
			Phase: policy.PhaseBody, Kind: policy.KindCanceled, Status: b.resp.StatusCode,
		}, nil, nil)
	}
}

func (b writerToBody) WriteTo(w io.Writer) (int64, error) {
	s := sinks.Get().(*sink)
	*s = sink{Writer: w, body: b.body}
	s.wait()
	n, err := b.ReadCloser.(io.WriterTo).WriteTo(s)
	failed := s.failed
	*s = sink{}
	sinks.Put(s)
	switch {
	case err == nil:
		b.end(io.EOF, reading)
	case failed:
		b.state.Add(reading)
	default:
		err = b.end(err, reading)
	}
	return n, err
}

// sink tells an error of the caller's writer from one of the body.
type sink struct {
	io.Writer
	body   *body
	failed bool
}

var sinks = sync.Pool{New: func() any { return new(sink) }}

func (s *sink) Write(p []byte) (int, error) {
	b := s.body
	b.state.Add(reading)
	if l := b.lasting.Load(); l != nil {
		b.came(l, p)
	}
	n, err := s.Writer.Write(p)
	s.failed = s.failed || err != nil
	s.wait()
	return n, err
}

// wait takes notice that bytes are waited for from now on.
func (s *sink) wait() {
	if b := s.body; b.state.Add(reading) > 2*fewWaits*reading {
		b.last().flow.wait(b.c.t.clock.now())
	}
}

// errClosed ends a body that its caller closes. Whoever closes a body early has seen enough of it, and nothing was
// wrong with that much.
var errClosed = errors.New("closed by the caller")

// end ends the call, and maybe a Read, and returns what its caller gets in place of an error of the body.
func (b *body) end(err error, read uint32) error {
	well := err == io.EOF || err == errClosed
	l := b.lasting.Load()
	if l != nil && err != errClosed {
		err = l.call.attempt.blame(err, true)
		l.call.attempt.end()
	}
	if !b.ends(read) {
		return err
	}
	if l == nil {
		if well && b.c.Quiet(b.generation) && b.c.t.indifferent(b.c) {
			return err // as most do
		}
		l = b.last()
	}
	b.conclude(l, b.resp, err)
	return err
}

// indifferent reports whether nobody is told of the success of a quiet call.
func (t *Transport) indifferent(c *circuit) bool {
	return !t.observers.attend.Load() && t.local.ailing.Load() != c
}

// conclude says what came of the call of a body that has ended.
func (b *body) conclude(l *lasting, resp *http.Response, err error) {
	k, well := &l.call, err == io.EOF || err == errClosed
	k.long = well && l.flow.begun() && l.flow.long(time.Now().UnixNano(), stalled)
	if well && k.ending == nil {
		outcome := policy.Success
		if Refused(resp) { // of another Transport: the upstream knows nothing of it
			outcome = policy.Ignored
		}
		k.done(outcome, policy.Cause{Status: resp.StatusCode}, nil, nil)
		return
	}
	judged := false
	defer func() {
		if !judged { // a classifier panicked
			k.done(policy.Ignored, policy.Cause{Kind: policy.KindPanic}, nil, nil)
		}
	}()
	var outcome policy.Outcome
	var cause policy.Cause
	if well {
		outcome, cause = k.judgeEnd(resp, err == errClosed)
		err = nil
	} else {
		outcome, cause = k.judge(resp, err, &l.flow)
	}
	judged = true
	k.done(outcome, cause, resp, err)
}
