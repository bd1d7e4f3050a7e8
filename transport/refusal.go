package transport

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/fusebox-go/fusebox/internal/next"
	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// What a refusal by error is, by errors.Is.
var (
	ErrOpen  = errors.New("fusebox: circuit open")             // refused by the circuit
	ErrLimit = errors.New("fusebox: too many calls in flight") // refused by policy.Limits.InFlight
)

// RefusedError says why a request was refused. It is what errors.As finds in the error of RoundTrip under
// WithRefusalError, and what a RefusalFunc gets.
type RefusedError struct {
	Key    Key
	Reason policy.RefusalReason
	State  policy.State // of the circuit
	Shadow bool         // the call is made all the same (SetShadow); only observers get such a one
	Since  time.Time    // when the circuit took this state
	// RetryAfter is the time until the next probe may go. If Reason is policy.RefusedThrottled, it is about how long it
	// takes until a call may go: a round trip, or what is left of the time between two calls where less than one may go
	// in that. It is 0 if it does not depend on time alone, or is not known. The header of that name, in responses, has
	// it in whole seconds, rounded up, and 1 at least.
	RetryAfter time.Duration
	// Requests is how many are to come until one is a probe, itself among them, if the policy counts them, as Adaptive
	// does; 0 otherwise. It is not before RetryAfter has passed, and when Latest has, any request is one.
	Requests int
	Latest   time.Duration
	// SafeWait is how long at most the circuit, which is due for a probe, still waits for a request that can be lost
	// (WithSafeProbes); 0 if it does not.
	SafeWait time.Duration
	Cause    policy.Cause    // of the last failure in this trouble, or of what opened the circuit
	Samples  []policy.Sample // the latest causes of failures, the last first; not to be changed
	// Throttle says, if Reason is policy.RefusedThrottled, why calls are throttled, how much may go, since when and
	// until when, as it was a second ago at most; nil otherwise. It is not to be changed.
	Throttle *policy.Throttled
}

// Error returns the facts in one line.
func (e *RefusedError) Error() string { return string(e.append(nil, e.Key.String())) }

func (e *RefusedError) append(b []byte, key string) []byte {
	b = e.appendWhat(b, key)
	if e.Throttle != nil {
		b = e.appendThrottle(b)
	}
	return e.appendCause(e.appendNext(b))
}

func (e *RefusedError) appendWhat(b []byte, key string) []byte {
	switch e.Reason {
	case policy.RefusedHeld:
		b = append(b, "fusebox: calls held, no answer in time from "...)
	case policy.RefusedThrottled:
		b = append(b, "fusebox: calls throttled, more than what is carried by "...)
	case policy.RefusedLimit:
		b = append(b, "fusebox: too many calls in flight to "...)
	case policy.RefusedForced:
		b = append(b, "fusebox: circuit forced open for "...)
	default:
		b = append(append(append(b, "fusebox: circuit "...), e.State.String()...), " for "...)
	}
	return append(b, key...)
}

func (e *RefusedError) appendThrottle(b []byte) []byte {
	t := e.Throttle
	b = append(t.Since.UTC().AppendFormat(append(b, ", since "...), time.DateTime+" UTC"), ": "...)
	b = t.AppendLimit(append(append(b, t.Why...), "; "...))
	return t.Until.UTC().AppendFormat(append(b, ", and all from "...), time.TimeOnly+" on if it does not repeat")
}

func (e *RefusedError) appendNext(b []byte) []byte {
	if e.SafeWait > 0 {
		return append(append(
			b, ", waits for a request that can be lost, at most "...,
		), e.SafeWait.Round(time.Millisecond).String()...)
	}
	with := append(b, ", "...)
	if text := e.next().AppendText(with); len(text) > len(with) {
		return text
	}
	return b
}

func (e *RefusedError) appendCause(b []byte) []byte {
	if e.Cause != (policy.Cause{}) && e.Reason != policy.RefusedLimit && e.Reason != policy.RefusedForced {
		b, _ = e.Cause.AppendText(append(b, ", last failure: "...))
	}
	return b
}

// NextProbe says when the next probe goes, as Error does: "next probe with the 13th request from now, at the latest in
// 1m30s". It is empty if that is not known, as of a circuit that is forced open.
func (e *RefusedError) NextProbe() string { return e.next().String() }

func (e *RefusedError) next() next.Probe {
	if e.Reason == policy.RefusedThrottled {
		return next.Probe{} // there is none
	}
	return next.Probe{Requests: e.Requests, Soonest: e.RetryAfter, Latest: e.Latest}
}

// Is reports whether target is ErrLimit if that is the Reason, and otherwise whether it is ErrOpen.
func (e *RefusedError) Is(target error) bool {
	if e.Reason == policy.RefusedLimit {
		return target == ErrLimit
	}
	return target == ErrOpen
}

// RetryableError reports false: who tries again at once is refused again. It is the method by which the AWS SDK for Go
// asks an error whether to.
func (e *RefusedError) RetryableError() bool { return false }

// NonRetriable does nothing. By having a method of this name, an error tells the Azure SDK for Go that it is final: see
// the interface of that name in github.com/Azure/azure-sdk-for-go/sdk/internal/errorinfo.
func (e *RefusedError) NonRetriable() {}

// header returns RetryAfter as the header of that name has it: in whole seconds, rounded up and never 0. It is empty if
// nobody knows when to try again, since somebody has forced the circuit.
func (e *RefusedError) header() string {
	if e.Reason == policy.RefusedForced {
		return ""
	}
	return strconv.FormatInt(seconds(e.RetryAfter), 10)
}

func seconds(retryAfter time.Duration) int64 {
	whole := retryAfter / time.Second
	if retryAfter%time.Second > 0 {
		whole++
	}
	return int64(max(1, whole))
}

// RefusalFunc answers a request that is refused. It returns a new response for each request, or an error, which
// RoundTrip wraps so that a Transport outside knows it: errors.Is and errors.As find it, and its text is the same. The
// transport sets the response's Request, and a Body and Header that are nil. It is called by many goroutines at once.
// The request's body is closed already.
type RefusalFunc func(*http.Request, *RefusedError) (*http.Response, error)

// markName is the header by which Refused knows a refusal. What counts is not its text, which everyone can send,
// but the memory that the text is in: a response that came over a network, or was made by anyone else, has its text
// elsewhere. The string is made at run time, so that no constant can share its memory.
const markName = "X-Fusebox"

var marks = func() (marks [policy.RefusedThrottled + 1]string) {
	for reason := range marks {
		marks[reason] = strings.Clone(policy.RefusalReason(reason).String())
	}
	return marks
}()

// Refused reports whether a response is a refusal of a Transport in this process, and not one of an upstream. No
// upstream can send a response for which it is true. It works on the response of http.Client as well as on that
// of RoundTrip, and on copies of its header.
func Refused(resp *http.Response) bool { return RefusedBecause(resp) != policy.NotRefused }

// RefusedBecause is Refused with the reason, and policy.NotRefused if the response is no refusal.
func RefusedBecause(resp *http.Response) policy.RefusalReason {
	if resp == nil {
		return policy.NotRefused
	}
	if values := resp.Header[markName]; len(values) == 1 {
		for reason := policy.RefusedOpen; reason <= policy.RefusedThrottled; reason++ {
			if mark := marks[reason]; len(values[0]) == len(mark) &&
				unsafe.StringData(values[0]) == unsafe.StringData(mark) {
				return reason
			}
		}
	}
	return policy.NotRefused
}

func refusedError(c *circuit, r statemachine.Refusal) RefusedError {
	e := RefusedError{
		Key: c.key, Reason: r.Reason, State: r.State, Since: r.Since, RetryAfter: max(0, r.Due.Sub(r.At)),
		Cause: r.Cause, Samples: r.Samples, Throttle: r.Throttle,
	}
	if e.Requests = r.Requests; r.Requests > 0 {
		e.Latest = max(0, r.Latest.Sub(r.At))
	}
	if !r.SafeUntil.IsZero() {
		e.SafeWait = max(0, r.SafeUntil.Sub(r.At))
	}
	return e
}

// refuse answers a request without its upstream.
func (t *Transport) refuse(req *http.Request, c *circuit, r statemachine.Refusal) (*http.Response, error) {
	facts := refusedError(c, r)
	if t.observers.refuse.Load() {
		t.observers.tellRefuse(req, facts)
	}
	switch refusal := c.own.Load().Refusal; {
	case refusal != nil:
		return refuseBy(refusal, req, facts)
	case t.refuseByError:
		return nil, &refusedWithFacts{facts}
	case t.refusal != nil:
		return refuseBy(t.refusal, req, facts)
	}
	var buffer [refusalText]byte
	text := string(facts.line(buffer[:0], c))
	made := &struct {
		http.Response
		body   textBody
		values refusalValues
	}{}
	made.body.Reset(text)
	fillRefusal(&made.Response, req, facts.refusalHeader(&made.values), len(text), &made.body)
	return &made.Response, nil
}

// refuseAtOnce is refuse for a circuit that has nothing to decide about a request, if nobody is to be told. It takes no
// lock, and what there is to say is made when somebody reads it.
func (t *Transport) refuseAtOnce(req *http.Request, c *circuit) (resp *http.Response, err error, ok bool) {
	if t.observers.refuse.Load() || c.shadow.Load() || c.Config().Rules.Limits.InFlight > 0 {
		return nil, nil, false
	}
	const page = 8192 // by which processors get their memory
	r, ok := c.RefuseAtOnce(uint(uintptr(unsafe.Pointer(req)) / page))
	if !ok {
		return nil, nil, false
	}
	closeBody(req)
	by := refusedAtOnce{r}
	switch refusal := c.own.Load().Refusal; {
	case refusal != nil:
		resp, err = refuseBy(refusal, req, by.facts())
	case t.refuseByError:
		err = &refusedAtOnce{r} // by itself would be elsewhere for all
	case t.refusal != nil:
		resp, err = refuseBy(t.refusal, req, by.facts())
	default:
		resp = by.serviceUnavailable(req)
	}
	return resp, err, true
}

// refusedAtOnce is a request that was refused at once, and the error of that: a RefusedError in a seventh of the
// memory, which becomes one for who asks for it by errors.As.
type refusedAtOnce struct{ r statemachine.Refused }

// refusedWithFacts is the error of other requests. It hides that it is a RefusedError, so that whoever does not ask by
// errors.As finds none, whatever became of the request.
type refusedWithFacts struct{ facts RefusedError }

// by is the circuit, which is its own observer.
func (e *refusedAtOnce) by() *circuit { return e.r.Of.(*circuit) }

func (e *refusedAtOnce) facts() RefusedError {
	facts := RefusedError{
		Key: e.by().key, Reason: e.r.Reason, State: e.r.State, Since: e.r.Since, Cause: e.r.Cause, Samples: e.r.Samples,
	}
	facts.RetryAfter, facts.Requests, facts.Latest, facts.SafeWait = e.r.Next()
	return facts
}

func (e *refusedAtOnce) Error() string {
	facts := e.facts()
	return string(facts.append(nil, e.by().text()))
}

func (e *refusedAtOnce) As(target any) bool {
	to, ok := target.(**RefusedError)
	if ok {
		facts := e.facts()
		*to = &facts
	}
	return ok
}

func (e *refusedAtOnce) Is(target error) bool { return target == ErrOpen } // of a limit, the circuit says nothing
func (*refusedAtOnce) RetryableError() bool   { return false }
func (*refusedAtOnce) NonRetriable()          {}

func (e *refusedWithFacts) Error() string { return e.facts.Error() }

func (e *refusedWithFacts) As(target any) bool {
	to, ok := target.(**RefusedError)
	if ok {
		*to = &e.facts
	}
	return ok
}

func (e *refusedWithFacts) Is(target error) bool { return e.facts.Is(target) }
func (*refusedWithFacts) RetryableError() bool   { return false }
func (*refusedWithFacts) NonRetriable()          {}

// refuseBy has facts of its own, so that only a RefusalFunc costs the memory for them.
func refuseBy(refusal RefusalFunc, req *http.Request, facts RefusedError) (*http.Response, error) {
	resp, err := refusal(req, &facts)
	if err != nil {
		return nil, marked(err)
	}
	if resp == nil {
		return nil, fmt.Errorf("fusebox: the RefusalFunc returned neither a response nor an error: %w", &facts)
	}
	header := resp.Header.Clone() // it may be that of a cached response
	if header == nil {
		header = make(http.Header)
	}
	header[markName] = []string{marks[facts.Reason]}
	resp.Header = header
	resp.Request = req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return resp, nil
}

// refusalText is more than the text of a refusal has, mostly.
const refusalText = 512

// line appends the text of the default refusal.
func (e *RefusedError) line(b []byte, c *circuit) []byte { return append(e.append(b, c.text()), '\n') }

// textBody is a text as a response's body.
type textBody struct{ strings.Reader }

func (*textBody) Close() error { return nil }

// lateBody is the text of a refusal as a response's body, which is made anew by each Read: hardly any are read, and a
// Read has mostly room for all of it.
type lateBody struct {
	of   refusedAtOnce
	read int
}

func (b *lateBody) Read(p []byte) (n int, err error) {
	var buffer [refusalText]byte
	facts := b.of.facts()
	left := facts.line(buffer[:0], b.of.by())[b.read:]
	if len(left) == 0 {
		return 0, io.EOF
	}
	n = copy(p, left)
	b.read += n
	return n, nil
}

func (*lateBody) Close() error { return nil }

// said is how many bytes of the text do not change, of a circuit's refusals at once. They are counted once an opening.
type said struct {
	by    *statemachine.Standing
	fixed int
}

// fixed returns how many bytes of the text are the same for all requests that the Standing of e refuses.
func (e *refusedAtOnce) fixed() int {
	also := e.by().also()
	if s := also.said.Load(); s != nil && s.by == e.r.Standing {
		return s.fixed
	}
	var buffer [refusalText]byte
	facts := e.facts()
	s := &said{e.r.Standing, len(facts.appendCause(facts.appendWhat(buffer[:0], e.by().text()))) + len("\n")}
	also.said.Store(s)
	return s.fixed
}

// headers are those of the default refusal, by its reason and the seconds of Retry-After. They are made when they are
// first asked for, and never changed.
var headers [policy.RefusedForced + 1][maxSeconds + 1]atomic.Pointer[http.Header]

// maxSeconds is of the longest Retry-After of which the header is kept.
const maxSeconds = 60

// header returns a header for one response, whose lists of values are shared with others.
func (e *refusedAtOnce) header(retryAfter time.Duration) http.Header {
	after := seconds(retryAfter)
	if after > maxSeconds {
		facts := e.facts()
		return facts.refusalHeader(new(refusalValues))
	}
	kept := headers[e.r.Reason][after].Load()
	if kept == nil {
		facts := e.facts()
		header := facts.refusalHeader(new(refusalValues))
		headers[e.r.Reason][after].Store(&header)
		kept = &header
	}
	return maps.Clone(*kept)
}

// serviceUnavailable is the default refusal, in one piece of memory with its body, and a header that is the caller's
// but for the lists of values.
func (e *refusedAtOnce) serviceUnavailable(req *http.Request) *http.Response {
	made := &struct {
		http.Response
		body lateBody
	}{body: lateBody{of: *e}}
	var changing RefusedError
	changing.RetryAfter, changing.Requests, changing.Latest, changing.SafeWait = e.r.Next()
	var buffer [96]byte
	length := e.fixed() + len(changing.appendNext(buffer[:0]))
	fillRefusal(&made.Response, req, e.header(changing.RetryAfter), length, &made.body)
	return &made.Response
}

// refusalValues is the memory of the values of a header.
type refusalValues [4]string

func (e *RefusedError) refusalHeader(v *refusalValues) http.Header {
	*v = refusalValues{"text/plain; charset=utf-8", "nosniff", marks[e.Reason], e.header()}
	header := http.Header{"Content-Type": v[0:1:1], "X-Content-Type-Options": v[1:2:2], markName: v[2:3:3]}
	if v[3] != "" {
		header["Retry-After"] = v[3:4:4]
	}
	return header
}

// fillRefusal makes the default refusal of a zero Response, with a body of that many bytes.
func fillRefusal(resp *http.Response, req *http.Request, header http.Header, length int, body io.ReadCloser) {
	resp.StatusCode, resp.Status = http.StatusServiceUnavailable, "503 Service Unavailable"
	resp.Proto, resp.ProtoMajor, resp.ProtoMinor = "HTTP/1.1", 1, 1
	resp.Header, resp.ContentLength, resp.Body, resp.Request = header, int64(length), body, req
	if req.Method != http.MethodGet && methodOf(req) == http.MethodHead {
		resp.Body = http.NoBody
	}
}

// refusalError is the error of a RefusalFunc, by which a Transport outside knows that it is a refusal. All else of it
// is as it was.
type refusalError struct{ error }

func marked(err error) error {
	if _, known := err.(*RefusedError); known {
		return err
	}
	return &refusalError{err}
}

func (e *refusalError) Unwrap() error { return e.error }

// Timeout and Temporary are for those, such as *url.Error, that look at an error and not at what it wraps.
func (e *refusalError) Timeout() bool {
	timeout, ok := e.error.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

func (e *refusalError) Temporary() bool {
	temporary, ok := e.error.(interface{ Temporary() bool })
	return ok && temporary.Temporary()
}

// isRefusal reports whether a circuit between here and the upstream refused the request.
func isRefusal(resp *http.Response, err error) bool {
	if err != nil {
		return errors.As(err, new(*RefusedError)) || errors.As(err, new(*refusalError))
	}
	return Refused(resp)
}

// Response returns a RefusalFunc that answers with a status, a header and a body of the user's own. A header that
// does not set them gets Retry-After, Content-Type "text/plain; charset=utf-8" and X-Content-Type-Options "nosniff".
// An empty body of plain text, or of no Content-Type, is replaced by a line that names the upstream and the time left;
// of any other Content-Type it stays empty. Response panics if status is not between 200 and 999.
func Response(status int, header http.Header, body string) RefusalFunc {
	if status < 200 || status > 999 {
		panic(fmt.Sprintf("fusebox/transport: a refusal's status is %d; write a final one, such as 503", status))
	}
	header = header.Clone()
	kind, _, _ := strings.Cut(header.Get("Content-Type"), ";")
	// A key is escaped for a line of text and for nothing else.
	plain := kind == "" || strings.EqualFold(strings.TrimSpace(kind), "text/plain")
	return func(req *http.Request, e *RefusedError) (*http.Response, error) {
		if e == nil { // no Transport does that, but others can
			e = new(RefusedError)
		}
		text, header := body, header.Clone()
		if text == "" && plain {
			text = e.Error() + "\n"
		}
		resp := &http.Response{
			StatusCode: status,
			Status:     strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status)),
			Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header:        header,
			ContentLength: int64(len(text)),
			Body:          io.NopCloser(strings.NewReader(text)),
		}
		if resp.Header == nil {
			resp.Header = make(http.Header, 4)
		}
		setIfMissing(resp.Header, "Content-Type", "text/plain; charset=utf-8")
		setIfMissing(resp.Header, "X-Content-Type-Options", "nosniff")
		setIfMissing(resp.Header, "Retry-After", e.header())
		if methodOf(req) == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
			resp.Body = http.NoBody
			if methodOf(req) != http.MethodHead {
				resp.ContentLength = 0
			}
		}
		return resp, nil
	}
}

// Discreet is a RefusalFunc for callers who are strangers: the default 503, with a text that names neither the upstream
// nor what failed. Use it as WithRefusal(Discreet).
func Discreet(req *http.Request, e *RefusedError) (*http.Response, error) { return discreet(req, e) }

var discreet = Response(http.StatusServiceUnavailable, nil, "temporarily unavailable, try again later\n")

func setIfMissing(h http.Header, name, value string) {
	if _, ok := h[name]; !ok && value != "" {
		h[name] = []string{value}
	}
}
