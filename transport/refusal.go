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
	State policy.State  // Open, or HalfOpen if as many calls as may be were in flight
	Since time.Time     // when the circuit took this state
	Wait  time.Duration // time until the next probe may go; 0 if that does not depend on time alone
	Cause policy.Cause  // of the last failure
}

// Error returns the facts in one line.
func (e *OpenError) Error() string {
	text := fmt.Sprintf("fusebox: circuit %v for %v", e.State, e.Key)
	if e.Wait > 0 {
		text += ", next probe in " + e.Wait.Round(time.Millisecond).String()
	}
	if e.Cause != (policy.Cause{}) {
		text += ", last failure: " + e.Cause.String()
	}
	return text
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

func openError(c *circuit, r statemachine.Refusal) *OpenError {
	return &OpenError{Key: c.key, State: r.State, Since: r.Since, Wait: max(0, r.Due.Sub(r.At)), Cause: r.Cause}
}

// refuse answers a request without its upstream.
func (t *Transport) refuse(req *http.Request, e *OpenError) (*http.Response, error) {
	resp, err := t.refusal(req, e)
	if err != nil {
		return nil, err
	}
	if resp == nil {
		return nil, fmt.Errorf("fusebox: the RefusalFunc returned neither a response nor an error: %w", e)
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

// serviceUnavailable is the default RefusalFunc.
func serviceUnavailable(req *http.Request, e *OpenError) (*http.Response, error) {
	return Response(http.StatusServiceUnavailable, nil, "")(req, e)
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
