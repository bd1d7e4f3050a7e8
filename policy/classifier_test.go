package policy_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func alwaysFails(*http.Response, []byte) policy.Outcome { return policy.Failure }

func responseOf(status int, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Add(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: http.NoBody}
}

func TestClassifiers(t *testing.T) {
	const u, s, f, i = policy.Undecided, policy.Success, policy.Failure, policy.Ignored
	errTeapot := errors.New("teapot")
	says := func(o policy.Outcome) policy.Classifier { return func(*policy.Call) policy.Outcome { return o } }
	took := func(d time.Duration, resp *http.Response, err error, inBody bool) policy.Call {
		return policy.Call{Response: resp, Err: err, InBody: inBody, Started: epoch, Ended: epoch.Add(d)}
	}
	cases := []struct {
		name     string
		classify policy.Classifier
		call     policy.Call
		want     policy.Outcome
	}{
		{"First of none", policy.FirstOf(), policy.Call{}, u},
		{"First: the first that decides", policy.FirstOf(says(u), says(i), says(f)), policy.Call{}, i},
		{"First: none decides", policy.FirstOf(says(u), says(u)), policy.Call{}, u},

		{"When it is", policy.When(i, isAlways), policy.Call{}, i},
		{"When it is not", policy.When(i, func(*policy.Call) bool { return false }), policy.Call{}, u},

		{"OnStatus", policy.OnStatus(f, 429, 404), policy.Call{Response: responseOf(404)}, f},
		{"OnStatus: another one", policy.OnStatus(f, 429, 404), policy.Call{Response: responseOf(403)}, u},
		{"OnStatus: of none", policy.OnStatus(f), policy.Call{Response: responseOf(0)}, u},
		{"OnStatus: no response", policy.OnStatus(f, 0), policy.Call{Err: io.EOF}, u},

		{"OnHeader", policy.OnHeader(f, "x-state", "sick"), policy.Call{Response: responseOf(200, "X-State", "sick")}, f},
		{"OnHeader: second value", policy.OnHeader(f, "X-State", "sick"), policy.Call{Response: responseOf(200, "X-State", "well", "X-State", "sick")}, f},
		{"OnHeader: another value", policy.OnHeader(f, "X-State", "sick"), policy.Call{Response: responseOf(200, "X-State", "sicker")}, u},
		{"OnHeader: missing is not empty", policy.OnHeader(f, "X-State", ""), policy.Call{Response: responseOf(200)}, u},
		{"OnHeader: no response", policy.OnHeader(f, "X-State", "sick"), policy.Call{Err: io.EOF}, u},

		{"OnError", policy.OnError(i, io.EOF, errTeapot), policy.Call{Err: fmt.Errorf("wrapped: %w", errTeapot)}, i},
		{"OnError: another one", policy.OnError(i, io.EOF), policy.Call{Err: errTeapot}, u},
		{"OnError: no error", policy.OnError(i, io.EOF), policy.Call{Response: responseOf(200)}, u},
		{"OnError: in the body", policy.OnError(i, io.EOF), policy.Call{Err: io.EOF, InBody: true, Response: responseOf(200)}, i},

		{"OnErrorType", policy.OnErrorType[*net.DNSError](i), policy.Call{Err: fmt.Errorf("wrapped: %w", &net.DNSError{})}, i},
		{"OnErrorType of an interface", policy.OnErrorType[net.Error](i), policy.Call{Err: &net.OpError{Err: io.EOF}}, i},
		{"OnErrorType: another one", policy.OnErrorType[*net.DNSError](i), policy.Call{Err: io.EOF}, u},
		{"OnErrorType: no error", policy.OnErrorType[*net.DNSError](i), policy.Call{Response: responseOf(200)}, u},

		{"OnSlow", policy.OnSlow(time.Second), took(time.Second+1, responseOf(200), nil, false), f},
		{"OnSlow: just in time", policy.OnSlow(time.Second), took(time.Second, responseOf(200), nil, false), u},
		{"OnSlow: errors are judged as such", policy.OnSlow(time.Second), took(time.Hour, nil, io.EOF, false), u},
		{"OnSlow: bodies may take their time", policy.OnSlow(time.Second), took(time.Hour, responseOf(200), io.EOF, true), u},

		{"Default: ok", policy.DefaultClassifier, policy.Call{Response: responseOf(200)}, s},
		{"Default: not found", policy.DefaultClassifier, policy.Call{Response: responseOf(404)}, s},
		{"Default: too many requests", policy.DefaultClassifier, policy.Call{Response: responseOf(429)}, s},
		{"Default: last of the client's faults", policy.DefaultClassifier, policy.Call{Response: responseOf(499)}, s},
		{"Default: first of the server's faults", policy.DefaultClassifier, policy.Call{Response: responseOf(500)}, f},
		{"Default: beyond what is defined", policy.DefaultClassifier, policy.Call{Response: responseOf(999)}, f},
		{"Default: nothing at all", policy.DefaultClassifier, policy.Call{}, s},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, c.classify(&c.call)) })
	}
}

func TestClassifiersKeepNoSliceOfTheirCaller(t *testing.T) {
	codes, targets := []int{404}, []error{io.EOF}
	onStatus, onError := policy.OnStatus(policy.Failure, codes...), policy.OnError(policy.Failure, targets...)
	codes[0], targets[0] = 200, io.ErrUnexpectedEOF
	require.Equal(t, policy.Failure, onStatus(&policy.Call{Response: responseOf(404)}))
	require.Equal(t, policy.Failure, onError(&policy.Call{Err: io.EOF}))

	list := []policy.Classifier{policy.OnStatus(policy.Ignored, 404)}
	first := policy.FirstOf(list...)
	list[0] = policy.OnStatus(policy.Failure, 404)
	require.Equal(t, policy.Ignored, first(&policy.Call{Response: responseOf(404)}))
}

// closing counts how often a body was closed.
type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error {
	c.closed++
	return nil
}

func TestOnBodyLooksAtThePrefixAndLeavesTheBody(t *testing.T) {
	errBroke := errors.New("the body broke")
	broken := func(text string) io.Reader {
		return io.MultiReader(strings.NewReader(text), iotest.ErrReader(errBroke))
	}
	cases := []struct {
		name   string
		n      int
		body   io.Reader
		prefix string
		all    string
		err    error
	}{
		{"shorter than the body", 4, strings.NewReader("abcdefgh"), "abcd", "abcdefgh", nil},
		{"as long as the body", 8, strings.NewReader("abcdefgh"), "abcdefgh", "abcdefgh", nil},
		{"longer than the body", 100, strings.NewReader("abcdefgh"), "abcdefgh", "abcdefgh", nil},
		{"of an empty body", 4, strings.NewReader(""), "", "", nil},
		{"one byte at a time", 4, iotest.OneByteReader(strings.NewReader("abcdefgh")), "abcd", "abcdefgh", nil},
		{"half of what is asked for", 5, iotest.HalfReader(strings.NewReader("abcdefgh")), "abcde", "abcdefgh", nil},
		{"data with the end", 100, iotest.DataErrReader(strings.NewReader("abcdefgh")), "abcdefgh", "abcdefgh", nil},
		{"data with the end, exactly", 8, iotest.DataErrReader(strings.NewReader("abcdefgh")), "abcdefgh", "abcdefgh", nil},
		{"a body that breaks within", 100, broken("abcd"), "abcd", "abcd", errBroke},
		{"a body that breaks just after", 4, broken("abcd"), "abcd", "abcd", errBroke},
		{"a body that breaks later", 2, broken("abcd"), "ab", "abcd", errBroke},
		{"a body that breaks at once", 2, broken(""), "", "", errBroke},
		{"data with the error", 100, iotest.DataErrReader(broken("abcd")), "abcd", "abcd", errBroke},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			body := &closing{Reader: c.body}
			resp := responseOf(200, "Content-Type", "text/plain")
			resp.Body = body
			seen := "not asked"
			classify := policy.OnBody(c.n, func(r *http.Response, prefix []byte) policy.Outcome {
				require.Same(t, resp, r)
				seen = string(prefix)
				for i := range prefix {
					prefix[i] = 'X' // the caller's body must not change by it
				}
				return policy.Ignored
			})
			call := &policy.Call{Response: resp}
			if outcome := classify(call); c.err != nil && len(c.prefix) < c.n {
				require.Equal(t, policy.Undecided, outcome)
				require.Equal(t, "not asked", seen)
				require.ErrorIs(t, call.Err, c.err, "from here on it is a call whose body broke")
				require.True(t, call.InBody)
			} else {
				require.Equal(t, policy.Ignored, outcome)
				require.Equal(t, c.prefix, seen)
				require.NoError(t, call.Err)
			}

			all, err := io.ReadAll(resp.Body)
			require.Equal(t, c.all, string(all))
			require.ErrorIs(t, err, c.err)
			if c.err != nil {
				_, err = resp.Body.Read(make([]byte, 1))
				require.ErrorIs(t, err, c.err, "the error is gone when asked again")
			}
			require.Zero(t, body.closed)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, 1, body.closed)
		})
	}
}

func TestOnBodyKeepsTheContractOfReaders(t *testing.T) {
	resp := responseOf(200)
	resp.Body = io.NopCloser(iotest.HalfReader(strings.NewReader("abcdefghijklmnop")))
	policy.OnBody(7, alwaysFails)(&policy.Call{Response: resp})
	require.NoError(t, iotest.TestReader(resp.Body, []byte("abcdefghijklmnop")))
}

func TestTwoOnBodySeeTheSamePrefix(t *testing.T) {
	resp := responseOf(200)
	resp.Body = io.NopCloser(strings.NewReader("abcdefgh"))
	var seen []string
	look := func(n int) policy.Classifier {
		return policy.OnBody(n, func(_ *http.Response, prefix []byte) policy.Outcome {
			seen = append(seen, string(prefix))
			return policy.Undecided
		})
	}
	policy.FirstOf(look(2), look(5), look(3))(&policy.Call{Response: resp})
	require.Equal(t, []string{"ab", "abcde", "abc"}, seen)
	all, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "abcdefgh", string(all))
}

func TestOnBodyLeavesAloneWhatItMustNotRead(t *testing.T) {
	broken := func() io.ReadCloser { return io.NopCloser(iotest.ErrReader(errors.New("read"))) }
	with := func(resp *http.Response, body io.ReadCloser) *http.Response {
		resp.Body = body
		return resp
	}
	cases := map[string]policy.Call{
		"an error":                      {Err: io.EOF},
		"a break in the body":           {Err: io.EOF, InBody: true, Response: with(responseOf(200), broken())},
		"no body":                       {Response: with(responseOf(200), nil)},
		"an event stream":               {Response: with(responseOf(200, "Content-Type", "text/event-stream"), broken())},
		"an event stream and a charset": {Response: with(responseOf(200, "Content-Type", "text/event-stream; charset=utf-8"), broken())},
		"an event stream, shouted":      {Response: with(responseOf(200, "Content-Type", "Text/Event-Stream"), broken())}, // RFC 9110, section 8.3.1
		"gRPC":                          {Response: with(responseOf(200, "Content-Type", "application/grpc"), broken())},
		"gRPC, and its encoding":        {Response: with(responseOf(200, "Content-Type", "application/grpc+proto"), broken())},
		"gRPC-Web":                      {Response: with(responseOf(200, "Content-Type", "application/grpc-web-text; charset=utf-8"), broken())},
		"a stream of connect":           {Response: with(responseOf(200, "Content-Type", "application/connect+json"), broken())},
		"parts, one after the other":    {Response: with(responseOf(200, "Content-Type", "multipart/x-mixed-replace; boundary=x"), broken())},
		"parts of a GraphQL answer":     {Response: with(responseOf(200, "Content-Type", "Multipart/Mixed"), broken())},
		"a switched protocol":           {Response: with(responseOf(101), broken())},
	}
	for name, call := range cases {
		t.Run(name, func(t *testing.T) {
			var before io.ReadCloser
			if call.Response != nil {
				before = call.Response.Body
			}
			require.Equal(t, policy.Undecided, policy.OnBody(4, alwaysFails)(&call))
			if call.Response != nil {
				require.True(t, before == call.Response.Body, "the body was replaced")
			}
		})
	}
}

func TestElapsedIsFromStartToEnd(t *testing.T) {
	call := policy.Call{Started: epoch, Ended: epoch.Add(3 * time.Second)}
	require.Equal(t, 3*time.Second, call.Elapsed())
	call = policy.Call{Ended: epoch}
	require.Zero(t, call.Elapsed(), "nobody looked at the clock when it started")
}
