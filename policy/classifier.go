package policy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Call is a call as a Classifier sees it: once when its headers or its error have come; and after a response that was a
// Success once more, if its body breaks, or at its end if a classifier asked for that (AtEnd).
type Call struct {
	Request  *http.Request
	Response *http.Response // nil if there was none
	Err      error          // of the base RoundTripper, or of reading the response's body; nil if neither failed
	InBody   bool           // Err came from reading the response's body
	// Delivering says that the response's body had been delivering bytes for more than a second, and went on to until
	// Err: its reader had not been waiting for more than about a second, or not for longer than before. OnBody says so
	// of what it read, too, and then of a body that did not break.
	Delivering bool
	// BodyErr is what reading the request's body failed with before anything else did, or says that it was of another
	// length than ContentLength; nil if it was neither.
	BodyErr error
	NoProxy bool // with a 407: no forward proxy was asked that could have answered it, so that it is the upstream's own
	Started time.Time
	Ended   time.Time // when the headers or the error came

	AtEnd       bool // the body has ended, or its caller closed it; Response.Trailer has what came
	ClosedEarly bool // with AtEnd: the caller closed it before its end, and there are no trailers
	// with AtEnd: the last bytes of what the caller read, no more than were asked for; not to be kept or changed
	Tail []byte
	Size int64 // with AtEnd: how many bytes the caller read

	// A classifier that returns Failure can set these two.
	// why, in a few words of which there are few, as each that differs is a Cause of its own; "" for none
	Reason string
	// for how long the upstream asks to be left alone, if it says so anywhere but in the response's Retry-After
	RetryAfter time.Duration

	asked bool
	tail  int
	came  *arrivals // nil if nobody has looked into the body
}

// AskAtEnd asks for the call to be classified again when its body has ended well or its caller has closed it, with up
// to tail last bytes of the body; of several who ask, the one that asks for most. It does nothing if there is no
// response, or at the end. AtEnd is the classifier that does it.
func (c *Call) AskAtEnd(tail int) {
	if c.Response != nil && c.Err == nil && !c.AtEnd {
		c.asked, c.tail = true, max(c.tail, tail)
	}
}

// AskedAtEnd returns what AskAtEnd was asked for, for who calls classifiers.
func (c *Call) AskedAtEnd() (tail int, asked bool) { return c.tail, c.asked }

// Elapsed returns the time from the call's start to its headers or its error; 0 if it is not known, as of a call that
// was under way when Transport.SetClassifier brought the first classifier.
func (c *Call) Elapsed() time.Duration {
	if c.Started.IsZero() {
		return 0
	}
	return c.Ended.Sub(c.Started)
}

// A Classifier says what a call tells of its upstream, or Undecided to leave that to the next classifier; what is no
// Outcome is Undecided too. It is called by many goroutines at once, must not keep the Call, and must leave the
// response to the caller; OnBody is the way to look into a body.
type Classifier func(*Call) Outcome

// DefaultClassifier is the classifier that decides where no other did; it is never Undecided. A response of 5xx, a
// timeout and any error of DNS, connection, TLS, headers or body is a Failure. Ignored is what says nothing of the
// upstream: a call that its caller canceled, a request that is itself at fault (no scheme, a port that can be none, a
// bad header, a body that fails to read), and trouble of this machine (no file descriptors, ports or route left, a
// resolver that cannot be asked, a forward proxy that fails or refuses; one that cannot reach the upstream is a Failure
// of that). All else is a Success. For the proxy of an *http.Transport see transport.ProxyErrors.
func DefaultClassifier(c *Call) Outcome { return CauseOf(c).Outcome() }

// FirstOf returns a classifier that asks others in order; the first that is not Undecided decides.
func FirstOf(classifiers ...Classifier) Classifier {
	mustClassifiers(classifiers)
	classifiers = slices.Clone(classifiers)
	return func(c *Call) Outcome {
		for _, classify := range classifiers {
			if outcome := classify(c); outcome != Undecided {
				return outcome
			}
			c.Reason, c.RetryAfter = "", 0 // of who did not decide
		}
		return Undecided
	}
}

// When returns a classifier that says outcome where is reports true.
func When(outcome Outcome, is func(*Call) bool) Classifier {
	mustOutcome(outcome)
	if is == nil {
		panic(invalid("When got a nil function; write one that looks at the call"))
	}
	return func(c *Call) Outcome {
		if is(c) {
			return outcome
		}
		return Undecided
	}
}

// OnStatus says outcome of responses with one of the status codes: OnStatus(Failure, 429), OnStatus(Ignored, 501).
func OnStatus(outcome Outcome, codes ...int) Classifier {
	codes = slices.Clone(codes)
	return When(outcome, func(c *Call) bool {
		return c.Response != nil && slices.Contains(codes, c.Response.StatusCode)
	})
}

// OnHeader says outcome of responses whose header name has the value.
func OnHeader(outcome Outcome, name, value string) Classifier {
	return When(outcome, func(c *Call) bool {
		return c.Response != nil && slices.Contains(c.Response.Header.Values(name), value)
	})
}

// OnError says outcome of errors that are, by errors.Is, one of the targets.
func OnError(outcome Outcome, targets ...error) Classifier {
	targets = slices.Clone(targets)
	return When(outcome, func(c *Call) bool { return c.Err != nil && isAny(c.Err, targets) })
}

// OnErrorType says outcome of errors that are, by errors.As, of type E.
func OnErrorType[E error](outcome Outcome) Classifier {
	return When(outcome, func(c *Call) bool {
		var target E
		return c.Err != nil && errors.As(c.Err, &target)
	})
}

// OnSlow says Failure of responses whose headers took longer than limit.
func OnSlow(limit time.Duration) Classifier {
	if limit <= 0 {
		panic(invalid("OnSlow's limit is %v; write how long a good call may take", limit))
	}
	return When(Failure, func(c *Call) bool {
		return c.Response != nil && !c.InBody && !c.AtEnd && c.Elapsed() > limit
	})
}

// OnBody lets judge decide by up to n first bytes of a response's body, and its status and headers. The caller
// still gets the whole body. The response is held back until n bytes or the body's end have come, so this is not
// for bodies that stream; those of type text/event-stream, multipart/*, application/grpc* and application/connect+*,
// and of switched protocols, are left alone. AtEnd holds nothing back. Judge must not touch the response's body and
// must not keep prefix. If the body breaks before n bytes have come, or stalls until a deadline passes, judge is not
// asked: the Call is from there on one of a body that broke, with Err and InBody, and that is a failure as it is
// elsewhere. The prefix is as the base RoundTripper gives it: compressed, if the request has an Accept-Encoding of its
// own.
func OnBody(n int, judge func(resp *http.Response, prefix []byte) Outcome) Classifier {
	if n <= 0 || judge == nil {
		panic(invalid(
			"OnBody got n %d and a judge that is nil: %v; write how many bytes to look at, and who looks",
			n, judge == nil,
		))
	}
	return func(c *Call) Outcome {
		resp := c.Response
		if resp == nil || c.Err != nil || c.InBody || c.AtEnd || resp.Body == nil || streams(resp) {
			return Undecided
		}
		if resp.Body == http.NoBody {
			return judge(resp, nil)
		}
		if c.came == nil {
			c.came = new(arrivals)
		}
		prefix, err := readUpTo(n, timed{resp.Body, c.came})
		c.Delivering = c.came.delivering()
		rest := io.Reader(resp.Body)
		if err != nil {
			rest = ended{err}
		}
		// The caller gets a copy, so that a judge that scribbles on its slice changes no body.
		resp.Body = &replayed{Reader: io.MultiReader(bytes.NewReader(slices.Clone(prefix)), rest), Closer: resp.Body}
		if err != nil && err != io.EOF {
			c.Err, c.InBody, c.Ended = err, true, time.Now()
			return Undecided
		}
		return judge(resp, prefix)
	}
}

// AtEnd has judge decide when the response's body has ended well, by its trailers, and by up to tail last bytes of it
// (0 for none), without holding the response back. Bodies that the caller closes early are judged, too: a judge looks
// at Call.ClosedEarly, and must expect that Call.Tail is then not the end.
//
// The headers of the response decide first: AtEnd is Undecided there, and judge is asked only if the call was a Success
// by them. All classifiers are then asked again, with Call.AtEnd set, and what they say replaces what the headers said;
// if all are Undecided, the call stays a Success. The end of a response without a body is at its headers. A body that
// breaks is no end, and one that switched protocols has none. Of a recovering circuit a call whose end does not come
// within a second counts by its headers, and its end, if it is a Failure, as one more.
func AtEnd(tail int, judge Classifier) Classifier {
	if tail < 0 || judge == nil {
		panic(invalid(
			"AtEnd got tail %d and a judge that is nil: %v; write how many last bytes to look at, 0 for none, and "+
				"who looks",
			tail, judge == nil,
		))
	}
	return func(c *Call) Outcome {
		if c.AtEnd {
			return judge(c)
		}
		c.AskAtEnd(tail)
		return Undecided
	}
}

// streamed is the types of bodies that may go on for as long as their callers like.
var streamed = []string{"text/event-stream", "multipart/", "application/grpc", "application/connect+"}

func streams(resp *http.Response) bool {
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return true
	}
	is := strings.ToLower(resp.Header.Get("Content-Type"))
	return slices.ContainsFunc(streamed, func(kind string) bool { return strings.HasPrefix(is, kind) })
}

type replayed struct {
	io.Reader
	io.Closer
}

// ended gives the end or the error again that was met while the body was looked at.
type ended struct{ err error }

func (e ended) Read([]byte) (int, error) { return 0, e.err }

// lately is for how long nothing may come of a body that is taken to go on, unless it had to be waited for longer
// before.
const lately = time.Second

// arrivals are when the bytes came that one OnBody after the other has looked at.
type arrivals struct {
	since, asked time.Time     // when the first wait began, and the last one
	longest      time.Duration // from one to the next
}

// delivering reports what Call.Delivering says.
func (a *arrivals) delivering() bool {
	now := time.Now()
	return !a.since.IsZero() && now.Sub(a.since) > lately && now.Sub(a.asked) <= max(lately, a.longest)
}

type timed struct {
	io.Reader
	came *arrivals
}

func (t timed) Read(p []byte) (int, error) {
	now, a := time.Now(), t.came
	if a.since.IsZero() {
		a.since, a.asked = now, now
	}
	a.longest, a.asked = max(a.longest, now.Sub(a.asked)), now
	return t.Reader.Read(p)
}

// readUpTo reads n bytes, or fewer and the error that came before them. It takes memory for what comes, whatever n is.
func readUpTo(n int, r io.Reader) (got []byte, err error) {
	got = make([]byte, 0, min(n, 512))
	for len(got) < n && err == nil {
		if len(got) == cap(got) {
			got = slices.Grow(got, min(n-len(got), len(got)))
		}
		var read int
		read, err = r.Read(got[len(got):min(n, cap(got))])
		got = got[:len(got)+read]
	}
	return got, err
}

func mustOutcome(o Outcome) {
	if o != Success && o != Failure && o != Ignored {
		panic(invalid("a classifier's outcome is %v; write Success, Failure or Ignored", o))
	}
}

func mustClassifiers(classifiers []Classifier) {
	if slices.ContainsFunc(classifiers, func(c Classifier) bool { return c == nil }) {
		panic(invalid("a classifier is nil; leave it out"))
	}
}
