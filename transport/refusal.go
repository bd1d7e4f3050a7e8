package transport

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// ErrOpen is what every refusal by error is, by errors.Is.
var ErrOpen = errors.New("fusebox: circuit open")

// OpenError says why a request was refused. It is the error of RoundTrip under WithRefusalError, and what a RefusalFunc
// gets.
type OpenError struct {
	Key   Key
	State policy.State  // Open, HalfOpen if as many calls as may be were in flight, or Closed if calls are held (policy.Hold)
	Since time.Time     // when the circuit took this state
	Wait  time.Duration // time until the next probe may go; 0 if that does not depend on time alone
	Cause policy.Cause  // of the last failure
}

// Error returns the facts in one line.
func (e *OpenError) Error() string { return string(e.append(nil, e.Key.String())) }

func (e *OpenError) append(b []byte, key string) []byte {
	switch e.State {
	case policy.Closed:
		b = append(b, "fusebox: calls held, no answer in time from "...)
	default:
		b = append(append(append(b, "fusebox: circuit "...), e.State.String()...), " for "...)
	}
	b = append(b, key...)
	if e.Wait > 0 {
		b = append(append(b, ", next probe in "...), e.Wait.Round(time.Millisecond).String()...)
	}
	if e.Cause != (policy.Cause{}) {
		b, _ = e.Cause.AppendText(append(b, ", last failure: "...))
	}
	return b
}

// Is reports whether target is ErrOpen.
func (e *OpenError) Is(target error) bool { return target == ErrOpen }

// RetryAfter returns Wait in whole seconds, rounded up and never 0, as the Retry-After header has it.
func (e *OpenError) RetryAfter() int {
	return max(1, int((e.Wait+time.Second-1)/time.Second))
}

// RefusalFunc answers a request that is refused. It returns a new response for each request, or an error. The
// transport sets the response's Request, and a Body and Header that are nil.
// It is called by many goroutines at once. The request's body is closed already.
type RefusalFunc func(*http.Request, *OpenError) (*http.Response, error)

// markName is the header by which Refused knows a refusal. What counts is not its text, which everyone can send,
// but the memory that the text is in: a response that came over a network, or was made by anyone else, has its text
// elsewhere. The string is made at run time, so that no constant can share its memory.
const markName = "X-Fusebox"

var mark = strings.Clone("refused")

// Refused reports whether a response is a refusal of a Transport in this process, and not one of an upstream. No
// upstream can send a response for which it is true. It works on the response of http.Client as well as on that
// of RoundTrip, and on copies of its header.
func Refused(resp *http.Response) bool {
	if resp == nil {
		return false
	}
	values := resp.Header[markName]
	return len(values) == 1 && len(values[0]) == len(mark) && unsafe.StringData(values[0]) == unsafe.StringData(mark)
}

func openError(c *circuit, r statemachine.Refusal) OpenError {
	return OpenError{Key: c.key, State: r.State, Since: r.Since, Wait: max(0, r.Due.Sub(r.At)), Cause: r.Cause}
}

// refuse answers a request without its upstream.
func (t *Transport) refuse(req *http.Request, c *circuit, r statemachine.Refusal) (*http.Response, error) {
	facts := openError(c, r)
	if t.refusal == nil {
		return serviceUnavailable(req, c, &facts), nil
	}
	return t.refuseBy(req, facts)
}

// refuseBy has facts of its own, so that only a RefusalFunc costs the memory for them.
func (t *Transport) refuseBy(req *http.Request, facts OpenError) (*http.Response, error) {
	resp, err := t.refusal(req, &facts)
	if err != nil {
		return nil, err
	}
	if resp == nil {
		return nil, fmt.Errorf("fusebox: the RefusalFunc returned neither a response nor an error: %w", &facts)
	}
	header := resp.Header.Clone() // it may be that of a cached response
	if header == nil {
		header = make(http.Header)
	}
	header[markName] = []string{mark}
	resp.Header = header
	resp.Request = req
	if resp.Body == nil {
		resp.Body = http.NoBody
	}
	return resp, nil
}

// The default refusal, in one piece of memory with what it points to; it is made as often as an upstream in trouble is
// asked for.
type defaultRefusal struct {
	resp   http.Response
	body   refusalBody
	values [4]string // of the header
}

type refusalBody struct{ strings.Reader }

func (*refusalBody) Close() error { return nil }

func serviceUnavailable(req *http.Request, c *circuit, e *OpenError) *http.Response {
	var buffer [256]byte
	text := string(append(e.append(buffer[:0], c.text()), '\n'))
	r := &defaultRefusal{values: [...]string{
		"text/plain; charset=utf-8", "nosniff", strconv.Itoa(e.RetryAfter()), mark,
	}}
	r.body.Reset(text)
	r.resp = http.Response{
		StatusCode: http.StatusServiceUnavailable, Status: "503 Service Unavailable",
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type": r.values[0:1:1], "X-Content-Type-Options": r.values[1:2:2],
			"Retry-After": r.values[2:3:3], markName: r.values[3:4:4],
		},
		ContentLength: int64(len(text)), Body: &r.body, Request: req,
	}
	if req.Method == http.MethodHead {
		r.resp.Body = http.NoBody
	}
	return &r.resp
}

// refuseByError is the RefusalFunc of WithRefusalError.
func refuseByError(_ *http.Request, e *OpenError) (*http.Response, error) { return nil, e }

// Response returns a RefusalFunc that answers with a status, a header and a body of the user's own. A header that
// does not set them gets Retry-After, Content-Type "text/plain; charset=utf-8" and X-Content-Type-Options "nosniff".
// An empty body is replaced by a line that names the upstream and the time left. Response panics if status is
// not between 200 and 999.
func Response(status int, header http.Header, body string) RefusalFunc {
	if status < 200 || status > 999 {
		panic(fmt.Sprintf("fusebox/transport: a refusal's status is %d; write a final one, such as 503", status))
	}
	header = header.Clone()
	return func(req *http.Request, e *OpenError) (*http.Response, error) {
		text := body
		if text == "" {
			text = e.Error() + "\n"
		}
		resp := &http.Response{
			StatusCode: status,
			Status:     strings.TrimSpace(strconv.Itoa(status) + " " + http.StatusText(status)),
			Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header:        header.Clone(),
			ContentLength: int64(len(text)),
			Body:          io.NopCloser(strings.NewReader(text)),
		}
		if resp.Header == nil {
			resp.Header = make(http.Header, 4)
		}
		setIfMissing(resp.Header, "Content-Type", "text/plain; charset=utf-8")
		setIfMissing(resp.Header, "X-Content-Type-Options", "nosniff")
		setIfMissing(resp.Header, "Retry-After", strconv.Itoa(e.RetryAfter()))
		if req.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified {
			resp.Body = http.NoBody
			if req.Method != http.MethodHead {
				resp.ContentLength = 0
			}
		}
		return resp, nil
	}
}

func setIfMissing(h http.Header, name, value string) {
	if _, ok := h[name]; !ok {
		h[name] = []string{value}
	}
}
