package transport

import (
	"net/http"
	"sync"

	"github.com/fusebox-go/fusebox/policy"
)

// ending is what is kept of a call that a classifier asked to judge at its end.
type ending struct {
	tail int
	// early is the response for a judge of a body that was closed early. The trailers are not in it: another goroutine
	// may be reading them at that moment.
	early *http.Response

	mu   sync.Mutex // a body can be closed while it is read
	size int64
	last []byte // the last bytes, and others before them
}

func newEnding(resp *http.Response, tail int) *ending {
	return &ending{tail: tail, early: withoutTrailer(resp)}
}

// withoutTrailer is a response for who judges while another goroutine may be reading the body, at whose end net/http
// sets Trailer.
func withoutTrailer(resp *http.Response) *http.Response {
	return &http.Response{
		Status: resp.Status, StatusCode: resp.StatusCode,
		Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header: resp.Header, Body: http.NoBody, ContentLength: resp.ContentLength,
		TransferEncoding: resp.TransferEncoding, Close: resp.Close, Uncompressed: resp.Uncompressed,
		Request: resp.Request, TLS: resp.TLS,
	}
}

// add takes notice of bytes of the body. It takes memory for what comes, and no more than a few times what was asked
// for.
func (e *ending) add(p []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.size += int64(len(p))
	if len(p) >= e.tail {
		e.last = append(e.last[:0], p[len(p)-e.tail:]...)
		return
	}
	if have := len(e.last); have+len(p) > 2*e.tail {
		keep := e.tail - len(p)
		e.last = append(e.last[:0], e.last[have-keep:]...)
	}
	e.last = append(e.last, p...)
}

// seen returns the last bytes, and how many there were.
func (e *ending) seen() ([]byte, int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// A reader that has not noticed yet that the body is closed goes on adding.
	return append([]byte(nil), e.last[max(0, len(e.last)-e.tail):]...), e.size
}

// lasts reports whether there is a body to wait for. One of no length can have trailers after it.
func (k *call) lasts(resp *http.Response) bool {
	return hasBody(k.req, resp) ||
		k.ending != nil && resp.Body != nil && resp.Body != http.NoBody && !duplex(k.req, resp)
}

// judgeEnd says what a call tells of its upstream whose headers were a success, and whose body has ended or was closed.
func (k *call) judgeEnd(resp *http.Response, closed bool) (policy.Outcome, policy.Cause) {
	cause := policy.Cause{Status: resp.StatusCode}
	classify := k.c.classify.Load()
	if classify == nil { // there is none any more
		return policy.Success, cause
	}
	tail, size := k.ending.seen()
	started, ended := k.times()
	early := closed && (k.ending.early.ContentLength < 0 || size < k.ending.early.ContentLength)
	if early {
		resp = k.ending.early
	}
	asked := ask(*classify, policy.Call{
		Request: k.req, Response: resp, BodyErr: k.bodyErr.get(), NoProxy: k.noProxy(resp),
		Started: started, Ended: ended,
		AtEnd: true, ClosedEarly: early, Tail: tail, Size: size,
	})
	switch asked.outcome {
	case policy.Ignored:
	case policy.Failure:
		cause.Kind, cause.Reason, k.wait = policy.KindJudged, asked.reason, asked.wait
		k.trace = k.t.traceOf(k.req)
	default:
		asked.outcome = policy.Success
	}
	return asked.outcome, cause
}
