package transport_test

import (
	"context"
	"errors"
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

// deaf is a base whose bodies have a byte at each of the times since the headers, and then nothing until they are closed.
func deaf(pieces func(yield func(time.Duration) bool)) base {
	return func(req *http.Request) (*http.Response, error) {
		reader, writer := io.Pipe()
		go func() {
			start := time.Now()
			for at := range pieces {
				time.Sleep(at - time.Since(start))
				if _, err := writer.Write([]byte{'.'}); err != nil {
					return
				}
			}
		}()
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: reader, ContentLength: -1, Request: req}, nil
	}
}

func TestABodyThatIsClosedWhenADeadlinePassesIsJudgedAsIfItsReaderHadBeenTold(t *testing.T) {
	const ms = time.Millisecond
	deadline := func(after time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, after)
		}
	}
	by := func(cause error, after time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
		return func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(ctx)
			time.AfterFunc(after, func() { cancel(cause) })
			return ctx, func() { cancel(nil) }
		}
	}
	endless := func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	cause := func(kind policy.Kind, whose policy.Deadline) policy.Cause {
		return policy.Cause{Phase: policy.PhaseBody, Kind: kind, Deadline: whose, Status: 200}
	}
	timeout, canceled := cause(policy.KindTimeout, policy.DeadlineCaller), cause(policy.KindCanceled, policy.DeadlineNone)
	limited := transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{Timeout: 300 * ms, TimeoutBody: true}})
	atEnd := transport.WithClassifier(policy.AtEnd(8, func(c *policy.Call) policy.Outcome {
		_ = len(c.Response.Trailer)
		return policy.Undecided
	}))
	for name, c := range map[string]struct {
		pieces  func(yield func(time.Duration) bool)
		context func(context.Context) (context.Context, context.CancelFunc)
		after   time.Duration // for which it is closed, if the context does not end
		want    policy.Outcome
		cause   policy.Cause
		options []transport.Option
	}{
		"bytes a moment ago":                    {every(10*ms, 200*ms), deadline(300 * ms), 0, policy.Failure, timeout, nil},
		"one byte, a moment ago":                {every(10*ms, 0), deadline(300 * ms), 0, policy.Failure, timeout, nil},
		"bytes long ago":                        {every(10*ms, 200*ms), deadline(5 * time.Second), 0, policy.Failure, timeout, nil},
		"no byte":                               {every(10*ms, -1), deadline(300 * ms), 0, policy.Failure, timeout, nil},
		"a download":                            {every(10*ms, time.Hour), deadline(5*time.Second + 5*ms), 0, policy.Ignored, cause(policy.KindCanceled, policy.DeadlineCaller), nil},
		"a watchdog":                            {every(10*ms, 200*ms), by(context.DeadlineExceeded, 300*ms), 0, policy.Failure, timeout, nil},
		"a classifier that asks for the end":    {every(10*ms, 200*ms), deadline(300 * ms), 0, policy.Failure, timeout, []transport.Option{atEnd}},
		"Limits.Timeout":                        {every(10*ms, 200*ms), endless, 300*ms + 1, policy.Failure, cause(policy.KindTimeout, policy.DeadlineLimit), []transport.Option{limited}},
		"canceled, bytes a moment ago":          {every(10*ms, 200*ms), by(context.Canceled, 300*ms), 0, policy.Ignored, canceled, nil},
		"canceled, bytes long ago":              {every(10*ms, 200*ms), by(context.Canceled, 5*time.Second), 0, policy.Ignored, canceled, nil},
		"canceled by a user, bytes a while ago": {every(10*ms, 200*ms), by(errors.New("page closed"), 300*ms), 0, policy.Ignored, canceled, nil},
		"before the deadline":                   {every(10*ms, 200*ms), deadline(300 * ms), 250 * ms, policy.Ignored, canceled, nil},
		"a timer that the context is not told":  {every(10*ms, 200*ms), endless, 300 * ms, policy.Ignored, canceled, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var ends []transport.CallEnd
				rt := transport.New(deaf(c.pieces), append(c.options, transport.WithObserver(transport.Observer{
					OnOutcome: func(e transport.CallEnd) { mu.Lock(); defer mu.Unlock(); ends = append(ends, e) },
				}))...)
				ctx, cancel := c.context(t.Context())
				resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
				require.NoError(t, err)
				if c.after > 0 {
					time.AfterFunc(c.after, func() { resp.Body.Close() })
				} else {
					context.AfterFunc(ctx, func() { resp.Body.Close() })
				}
				_, err = io.Copy(io.Discard, resp.Body)
				require.Error(t, err)
				cancel()
				time.Sleep(time.Second) // the last byte is refused
				require.Len(t, ends, 1)
				require.Equal(t, c.want, ends[0].Outcome, "%v", ends[0].Cause)
				require.Equal(t, c.cause, ends[0].Cause)
			})
		})
	}
}

func TestClientsThatCloseTheBodyAtTheirDeadlineOpenTheCircuitOfOneThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(deaf(every(time.Millisecond, time.Millisecond)))
		for range 6 {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
			require.NoError(t, err)
			context.AfterFunc(ctx, func() { resp.Body.Close() })
			_, err = io.Copy(io.Discard, resp.Body)
			require.Error(t, err)
			synctest.Wait()
			cancel()
		}
		require.Equal(t, policy.Open, rt.Circuits()[0].State)
	})
}

func TestABodyThatNobodyReadsSaysNothingBadIfItIsClosedAfterADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outcome := policy.Undecided
		rt := transport.New(deaf(every(time.Millisecond, time.Hour)), transport.WithObserver(transport.Observer{
			OnOutcome: func(e transport.CallEnd) { outcome = e.Outcome },
		}))
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
		require.NoError(t, err)
		_, err = resp.Body.Read(make([]byte, 1))
		require.NoError(t, err)
		<-ctx.Done()
		require.NoError(t, resp.Body.Close())
		require.Equal(t, policy.Success, outcome)
		time.Sleep(time.Second)
	})
}
