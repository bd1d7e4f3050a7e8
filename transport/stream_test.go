package transport_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// writingBody is a body that can write itself to an io.Writer.
type writingBody struct{ io.ReadCloser }

func (b writingBody) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{b.ReadCloser})
}

// piecemeal is a base whose bodies have a byte at each of the times since the headers, and no end.
func piecemeal(writes bool, pieces func(yield func(time.Duration) bool)) base {
	return func(req *http.Request) (*http.Response, error) {
		reader, writer := io.Pipe()
		context.AfterFunc(req.Context(), func() { writer.CloseWithError(context.Cause(req.Context())) })
		go func() {
			start := time.Now()
			for at := range pieces {
				select {
				case <-time.After(at - time.Since(start)):
				case <-req.Context().Done():
					return
				}
				if _, err := writer.Write([]byte{'.'}); err != nil {
					return
				}
			}
		}()
		resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: reader, ContentLength: -1, Request: req}
		if writes {
			resp.Body = writingBody{reader}
		}
		return resp, nil
	}
}

func every(gap, until time.Duration) func(yield func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		for at := time.Duration(0); at <= until; at += gap {
			if !yield(at) {
				return
			}
		}
	}
}

// lazyWriter takes its time.
type lazyWriter time.Duration

func (w lazyWriter) Write(p []byte) (int, error) { time.Sleep(time.Duration(w)); return len(p), nil }

func TestABodyCutByItsCallersDeadlineIsTheUpstreamsFaultOnlyIfItHadStalled(t *testing.T) {
	const ms, forever = time.Millisecond, time.Hour
	deadline := func(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, after)
	}
	watchdog := func(ctx context.Context, after time.Duration) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(ctx)
		time.AfterFunc(after, func() { cancel(context.DeadlineExceeded) })
		return ctx, func() { cancel(nil) }
	}
	for name, c := range map[string]struct {
		pieces func(yield func(time.Duration) bool)
		after  time.Duration // the deadline
		reader time.Duration // takes so long for each piece
		want   policy.Outcome
	}{
		"a download":                                {every(10*ms, forever), 10 * time.Second, 0, policy.Ignored},
		"a download that just stopped":              {every(10*ms, 9500*ms), 10 * time.Second, 0, policy.Ignored},
		"a download that stalled":                   {every(10*ms, 8*time.Second), 10 * time.Second, 0, policy.Failure},
		"a download that stalled at once":           {every(10*ms, 100*ms), 10 * time.Second, 0, policy.Failure},
		"a download that is short of time":          {every(10*ms, forever), 500 * ms, 0, policy.Failure},
		"a watch":                                   {every(20*time.Second, forever), 5*time.Minute - time.Second, 0, policy.Ignored},
		"a watch that stalled":                      {every(20*time.Second, 3*time.Minute), 5 * time.Minute, 0, policy.Failure},
		"a watch that became silent a moment ago":   {every(20*time.Second, 3*time.Minute), 3*time.Minute + 15*time.Second, 0, policy.Ignored},
		"a slow reader":                             {every(10*ms, forever), 10 * time.Second, 3 * time.Second, policy.Ignored},
		"a slow reader of a body that stalled then": {every(10*ms, 100*ms), 2 * time.Minute, time.Second, policy.Failure},
		"nothing": {every(time.Hour, 0), 10 * time.Second, 0, policy.Failure},
	} {
		for _, writes := range []bool{false, true} {
			for ending, end := range map[string]func(context.Context, time.Duration) (context.Context, context.CancelFunc){
				"deadline": deadline, "watchdog": watchdog,
			} {
				t.Run(name+", "+ending, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						var mu sync.Mutex
						var ends []transport.CallEnd
						rt := transport.New(piecemeal(writes, c.pieces), transport.WithObserver(transport.Observer{
							OnOutcome: func(e transport.CallEnd) { mu.Lock(); defer mu.Unlock(); ends = append(ends, e) },
						}))
						var calls sync.WaitGroup
						for range 6 {
							calls.Go(func() {
								ctx, cancel := end(t.Context(), c.after)
								defer cancel()
								resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
								require.NoError(t, err)
								_, err = io.Copy(struct{ io.Writer }{lazyWriter(c.reader)}, resp.Body)
								require.ErrorIs(t, err, context.DeadlineExceeded)
							})
						}
						calls.Wait()
						require.Len(t, ends, 6)
						for _, e := range ends {
							require.Equal(t, c.want, e.Outcome, "%v", e.Cause)
							want := policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller, Status: 200}
							if c.want == policy.Ignored {
								want.Kind = policy.KindCanceled
							}
							require.Equal(t, want, e.Cause)
						}
						require.Equal(t, c.want == policy.Failure, rt.Circuits()[0].State == policy.Open)
					})
				})
			}
		}
	}
}
