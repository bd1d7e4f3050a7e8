package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// stalling is a body of which some comes, and then nothing until its request's context ends, as net/http has it.
type stalling struct {
	io.Reader
	ctx context.Context
}

func (s stalling) Read(p []byte) (int, error) {
	if n, err := s.Reader.Read(p); err == nil {
		return n, nil
	}
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}
func (stalling) Close() error { return nil }

func TestWhatBreaksWhileOnBodyLooksIsJudgedAsABodyThatBreaks(t *testing.T) {
	errReset := errors.New("connection reset by peer")
	breaks := func(ctx context.Context) io.ReadCloser {
		return io.NopCloser(io.MultiReader(strings.NewReader("some of it"), iotest.ErrReader(errReset)))
	}
	stalls := func(ctx context.Context) io.ReadCloser { return stalling{strings.NewReader("some of it"), ctx} }
	onBody := policy.OnBody(1000, func(*http.Response, []byte) policy.Outcome { return policy.Undecided })
	timeout := policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindTimeout, Deadline: policy.DeadlineCaller, Status: 200}
	broke := policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindOther, Status: 200}
	for name, c := range map[string]struct {
		body     func(context.Context) io.ReadCloser
		classify policy.Classifier
		cancel   bool
		outcome  policy.Outcome
		cause    policy.Cause
	}{
		"a stall until the deadline":     {stalls, onBody, false, policy.Failure, timeout},
		"the caller goes away":           {stalls, onBody, true, policy.Ignored, policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindCanceled, Status: 200}},
		"a break":                        {breaks, onBody, false, policy.Failure, broke},
		"a break, and Default by itself": {breaks, policy.FirstOf(onBody, policy.DefaultClassifier), false, policy.Failure, broke},
		"others are asked of the error":  {breaks, policy.FirstOf(onBody, policy.OnError(policy.Ignored, errReset)), false, policy.Ignored, broke},
		"who went before has decided":    {breaks, policy.FirstOf(policy.OnStatus(policy.Ignored, 200), onBody), false, policy.Ignored, policy.Cause{Status: 200}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []transport.CallEnd
				answers := func(req *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, ContentLength: -1, Body: c.body(req.Context()), Header: http.Header{}}, nil
				}
				rt := transport.New(base(answers), transport.WithClassifier(c.classify),
					transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { told = append(told, e) }}))
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if c.cancel {
					time.AfterFunc(time.Millisecond, cancel)
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test/", nil)
				require.NoError(t, err)
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close(), "by a caller who has had enough")
				require.Len(t, told, 1)
				require.Equal(t, c.outcome, told[0].Outcome)
				require.Equal(t, c.cause, told[0].Cause)
			})
		})
	}
}

func TestTheCallerGetsTheBodyThatBrokeWhileOnBodyLooked(t *testing.T) {
	errReset := errors.New("connection reset by peer")
	rt := transport.New(base(func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, ContentLength: -1, Header: http.Header{},
			Body: io.NopCloser(io.MultiReader(strings.NewReader("some of it"), iotest.ErrReader(errReset))),
		}, nil
	}), transport.WithClassifier(policy.OnBody(1000, func(*http.Response, []byte) policy.Outcome { return policy.Success })),
		transport.WithPolicy(policy.Classic{Failures: 3}))
	req, err := http.NewRequest(http.MethodGet, "http://upstream.test/", nil)
	require.NoError(t, err)
	for range 3 {
		require.False(t, opened(rt, req))
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.Equal(t, "some of it", string(got))
		require.ErrorIs(t, err, errReset)
		require.NoError(t, resp.Body.Close())
	}
	require.True(t, opened(rt, req), "each counted once")
}

func opened(rt *transport.Transport, req *http.Request) bool {
	c, ok := rt.Circuit(transport.Upstream(req))
	return ok && c.State == policy.Open
}

func TestOnBodyTakesMemoryForTheBytesThatAreThere(t *testing.T) {
	classify := policy.OnBody(1<<20, func(*http.Response, []byte) policy.Outcome { return policy.Undecided })
	const times = 100
	for name, body := range map[string]func() io.ReadCloser{
		"eleven bytes": func() io.ReadCloser { return io.NopCloser(strings.NewReader("eleven byte")) },
		"none":         func() io.ReadCloser { return http.NoBody },
		"none, unsaid": func() io.ReadCloser { return io.NopCloser(strings.NewReader("")) },
	} {
		t.Run(name, func(t *testing.T) {
			calls := make([]policy.Call, times)
			for i := range calls {
				calls[i].Response = &http.Response{Body: body()}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for i := range calls {
				classify(&calls[i])
			}
			runtime.ReadMemStats(&after)
			require.Less(t, (after.TotalAlloc-before.TotalAlloc)/times, uint64(4<<10))
		})
	}
}

func TestADeadlineThatCutsABodyThatIsComingIsNoFaultOfTheUpstreamWithOnBodyEither(t *testing.T) {
	const ms = time.Millisecond
	onBody := func(n int) policy.Classifier {
		return policy.OnBody(n, func(*http.Response, []byte) policy.Outcome { return policy.Undecided })
	}
	for name, c := range map[string]struct {
		n      int // bytes, of which each piece has one
		pieces func(yield func(time.Duration) bool)
		after  time.Duration
		want   policy.Outcome
	}{
		"while it looks":                               {1 << 20, every(30*ms, time.Hour), 1310 * ms, policy.Ignored},
		"while it looks, short of time":                {1 << 20, every(30*ms, time.Hour), 910 * ms, policy.Failure},
		"while it looks, it had stalled":               {1 << 20, every(30*ms, 100*ms), 1310 * ms, policy.Failure},
		"while it looks, nothing came":                 {1 << 20, every(30*ms, -1), 1310 * ms, policy.Failure},
		"while it looks, a watch":                      {1 << 20, every(20*time.Second, time.Hour), 45 * time.Second, policy.Ignored},
		"while it looks, a watch that stalled":         {1 << 20, every(20*time.Second, 20*time.Second), 45 * time.Second, policy.Failure},
		"soon after it has looked":                     {50, every(30*ms, time.Hour), 1610 * ms, policy.Ignored},
		"long after it has looked, and it had stalled": {50, every(30*ms, 50*30*ms), 5 * time.Second, policy.Failure},
		"soon after a look that took no time":          {2, every(30*ms, time.Hour), 310 * ms, policy.Failure},
	} {
		for classifiers, classifier := range map[string][]policy.Classifier{"": {onBody(c.n)}, ", by two": {onBody(1), onBody(c.n)}} {
			t.Run(name+classifiers, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var ends []transport.CallEnd
					rt := transport.New(piecemeal(false, c.pieces), transport.WithClassifier(classifier...),
						transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends = append(ends, e) }}))
					ctx, cancel := context.WithTimeout(t.Context(), c.after)
					defer cancel()
					resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, ctx))
					require.NoError(t, err)
					_, err = io.Copy(io.Discard, resp.Body)
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Len(t, ends, 1)
					require.Equal(t, c.want, ends[0].Outcome, "%v", ends[0].Cause)
				})
			})
		}
	}
}
