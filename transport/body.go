package transport

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// body watches a response's body to its end: its call is over when it ends, breaks or is closed, whichever is first.
type body struct {
	io.ReadCloser
	call    call
	over    atomic.Bool
	reading atomic.Bool  // a Read or WriteTo is under way
	heard   atomic.Int64 // when bytes came last, in Unix nanoseconds, or negative when the headers did; 0 if nobody asks
	flow    flow
}

// flow is how a body's bytes came, as far as a coarse clock can tell, and in Unix nanoseconds. It belongs to whoever reads the body.
type flow struct {
	waits   int   // for bytes
	since   int64 // when it began to be looked at
	asked   int64 // when the last wait began
	longest int64 // time from one to the next
}

// fewWaits is how many are not looked at: most bodies are over by then.
const fewWaits = 2

// stalled is how long nothing has come of a body whose reader has been waiting, so that it says nothing of the upstream if
// the reader gives up.
const stalled = time.Second

// writerToBody is a body whose base can write itself to an io.Writer.
type writerToBody struct{ *body }

// watch gives the response a body that ends the call.
func (k *call) watch(resp *http.Response) *body {
	b := &body{ReadCloser: resp.Body, call: *k}
	resp.Body = b
	if _, ok := b.ReadCloser.(io.WriterTo); ok {
		resp.Body = writerToBody{b}
	}
	if w, ok := b.ReadCloser.(io.Writer); ok {
		resp.Body = writableBody{b, w}
	}
	return b
}

// hasBody reports whether there is a body whose end is worth waiting for.
func hasBody(req *http.Request, resp *http.Response) bool {
	if resp == nil || resp.Body == nil || resp.Body == http.NoBody {
		return false
	}
	if _, writable := resp.Body.(io.Writer); writable {
		return !duplex(req, resp) // whatever the length is said to be, and for HEAD, too
	}
	return resp.ContentLength != 0 && methodOf(req) != http.MethodHead
}

func (b *body) Read(p []byte) (int, error) {
	b.wait()
	b.reading.Store(true)
	n, err := b.ReadCloser.Read(p)
	b.reading.Store(false)
	if n > 0 && b.call.ending != nil {
		b.call.ending.add(p[:n])
	}
	if err != nil {
		b.end(err)
	} else if n > 0 {
		b.came()
	}
	return n, err
}

// wait takes notice that the reader waits for bytes from now on.
func (b *body) wait() {
	f := &b.flow
	if f.waits++; f.waits <= fewWaits {
		return
	}
	now := b.call.t.clock.now()
	if f.since == 0 {
		f.since, f.asked = now, now
	}
	f.longest, f.asked = max(f.longest, now-f.asked), now
}

// delivering reports whether the body has streamed for a time, and its reader has not been waiting for long: not for longer than
// it had to before. So it is of a slow reader, too.
func (f *flow) delivering() bool {
	now, most := time.Now().UnixNano(), int64(stalled+coarseTick)
	return f.since != 0 && now-f.since > most && now-f.asked <= max(most, f.longest)
}

// came takes notice of bytes, if it makes a difference when they came.
func (b *body) came() {
	if b.heard.Load() != 0 {
		b.heard.Store(time.Now().UnixNano())
	}
}

func (b *body) Close() (err error) {
	defer func() { err = b.ReadCloser.Close() }() // an observer may panic
	heard := b.heard.Load()
	nothing := heard < 0 && b.call.ending == nil // or there may be a trailer, and somebody to ask about it
	if b.reading.Load() && (nothing || time.Now().UnixNano()-max(heard, -heard) > int64(stalled)) {
		b.gaveUp()
		return nil
	}
	b.end(errClosed)
	return nil
}

// gaveUp ends the call of a body that is closed while its reader waits in vain.
func (b *body) gaveUp() {
	if !b.over.Swap(true) {
		b.call.done(policy.Ignored, policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindCanceled, Status: b.call.resp.StatusCode}, nil, nil)
	}
}

func (b writerToBody) WriteTo(w io.Writer) (int64, error) {
	sink := &sink{Writer: w, body: b.body}
	b.wait()
	b.reading.Store(true)
	n, err := b.ReadCloser.(io.WriterTo).WriteTo(sink)
	b.reading.Store(false)
	switch {
	case err == nil:
		b.end(io.EOF)
	case !sink.failed:
		b.end(err)
	}
	return n, err
}

// sink tells an error of the caller's writer from one of the body.
type sink struct {
	io.Writer
	body   *body // nil if it is not watched
	failed bool
}

func (s *sink) Write(p []byte) (int, error) {
	if s.body != nil {
		s.body.came()
		if s.body.call.ending != nil {
			s.body.call.ending.add(p)
		}
	}
	n, err := s.Writer.Write(p)
	s.failed = s.failed || err != nil
	if s.body != nil {
		s.body.wait()
	}
	return n, err
}

// errClosed ends a body that its caller closes. Whoever closes a body early has seen enough of it, and nothing was wrong with
// that much.
var errClosed = errors.New("closed by the caller")

func (b *body) end(err error) {
	if b.over.Swap(true) {
		return
	}
	well := err == io.EOF || err == errClosed
	b.call.long = well && b.flow.since != 0 && time.Now().UnixNano()-b.flow.since > int64(stalled)
	if well && b.call.ending == nil {
		b.call.done(policy.Success, policy.Cause{Status: b.call.resp.StatusCode}, nil, nil)
		return
	}
	judged := false
	defer func() {
		if !judged { // a classifier panicked
			b.call.done(policy.Ignored, policy.Cause{Kind: policy.KindPanic}, nil, nil)
		}
	}()
	var outcome policy.Outcome
	var cause policy.Cause
	if well {
		outcome, cause = b.call.judgeEnd(b.call.resp, err == errClosed)
		err = nil
	} else {
		outcome, cause = b.call.judge(b.call.resp, err, &b.flow)
	}
	judged = true
	b.call.done(outcome, cause, b.call.resp, err)
}
