package policy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// FuzzClassifiers puts all classifiers of the package in a row, and asks them of any response or chain of errors, as
// transport asks: none panics, what is decided is an outcome, asking again says the same, and the caller gets the whole body.
func FuzzClassifiers(f *testing.F) {
	f.Add(200, "Content-Type", "text/plain", []byte("hello"), int64(10), uint8(0), uint8(0), "", uint8(3), uint8(0))
	f.Add(503, "X-Error", "yes", []byte{}, int64(-1), uint8(1), uint8(3), "went wrong", uint8(1), uint8(7))
	f.Add(101, "Upgrade", "websocket", []byte("\x00\x01"), int64(1)<<62, uint8(5), uint8(4), "deadline", uint8(255), uint8(255))
	f.Add(-7, "Content-Type", "TEXT/event-stream; x", []byte("data: x\n\n"), int64(-1)<<62, uint8(7), uint8(1), "too many open files", uint8(0), uint8(19))
	f.Fuzz(func(t *testing.T, status int, name, value string, body []byte, elapsed int64, kind, wrap uint8, text string, n, flags uint8) {
		inBody, canceled, breaks, noBody, nilHeader := flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0, flags&16 != 0
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if canceled {
			cancel()
		}
		call := &policy.Call{
			Request: (&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "https", Host: text}}).WithContext(ctx),
			Err:     anyError(kind, wrap, text), InBody: inBody, BodyErr: anyError(wrap, kind, text),
			Started: epoch, Ended: epoch.Add(time.Duration(elapsed)),
		}
		ending := error(io.EOF)
		if breaks {
			ending = errors.New("broken")
		}
		if call.Err == nil || inBody {
			call.Response = &http.Response{StatusCode: status, Header: http.Header{name: {value}}}
			if nilHeader {
				call.Response.Header = nil
			}
			if !noBody {
				call.Response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), iotest.ErrReader(ending)))
			}
		}
		seen := 0
		classifiers := []policy.Classifier{
			policy.OnStatus(policy.Failure, 429, status+1),
			policy.OnHeader(policy.Ignored, "X-Ignored", value),
			policy.OnError(policy.Failure, io.ErrClosedPipe, context.DeadlineExceeded),
			policy.OnErrorType[*url.Error](policy.Ignored),
			policy.OnErrorType[interface {
				error
				Timeout() bool
			}](policy.Failure),
			policy.OnSlow(time.Second),
			policy.OnBody(1+int(n), func(_ *http.Response, prefix []byte) policy.Outcome {
				seen = len(prefix)
				if !bytes.HasPrefix(body, prefix) || len(prefix) != min(len(body), 1+int(n)) {
					t.Errorf("of %q the first %d bytes are %q", body, 1+int(n), prefix)
				}
				clear(prefix) // whoever scribbles on it changes no body
				return policy.Undecided
			}),
		}
		decide := policy.FirstOf(append(classifiers, policy.DefaultClassifier)...)
		outcome := decide(call)
		if outcome != policy.Success && outcome != policy.Failure && outcome != policy.Ignored {
			t.Errorf("outcome %v", outcome)
		}
		if again := decide(call); again != outcome {
			t.Errorf("outcome %v, and %v when asked again", outcome, again)
		}
		if own := policy.FirstOf(classifiers...)(call); own == policy.Undecided && outcome != policy.DefaultClassifier(call) {
			t.Errorf("nobody decided, and the outcome is %v and not %v", outcome, policy.DefaultClassifier(call))
		}
		if call.Response == nil || call.Response.Body == nil {
			return
		}
		got, err := io.ReadAll(call.Response.Body)
		if !bytes.Equal(got, body) || breaks != (err != nil) {
			t.Errorf("of the body %q the caller gets %q and %v, after %d bytes were looked at", body, got, err, seen)
		}
	})
}
