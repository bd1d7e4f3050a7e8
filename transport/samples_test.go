package transport_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestSamplesAreInTheEventTheRefusalAndTheCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var next func(*http.Request) (*http.Response, error)
		var opened transport.StateChange
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) { return next(req) }),
			transport.WithPolicy(policy.Classic{Failures: 4, OpenFor: time.Hour}), transport.WithRefusalError(),
			transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) { opened = c }}))
		fail := func(upstream base, trace string) error {
			next = upstream
			req := newRequest(t, http.MethodGet, t.Context())
			if trace != "" {
				req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
			}
			_, err := rt.RoundTrip(req)
			time.Sleep(time.Second)
			return err
		}
		first, second := fmt.Sprintf("%032x", 1), fmt.Sprintf("%032x", 2)
		resetConn := func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }
		fail(answer(502, ""), first)
		fail(resetConn, "")
		fail(answer(502, ""), "")
		fail(answer(503, ""), second)
		want := []policy.Sample{
			{Cause: policy.Cause{Kind: policy.KindStatus, Status: 503}, Count: 1, At: began.Add(3 * time.Second), Trace: second},
			{Cause: policy.Cause{Kind: policy.KindStatus, Status: 502}, Count: 2, At: began.Add(2 * time.Second), Trace: first},
			{Cause: policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}, Count: 1, At: began.Add(time.Second)},
		}
		require.Equal(t, policy.Open, opened.To)
		require.Equal(t, want, opened.Samples)
		require.Equal(t, want, circuit(t, rt, here).Samples)
		var open *transport.RefusedError
		require.ErrorAs(t, fail(nil, ""), &open)
		require.Equal(t, want, open.Samples)

		rt.SetState(here, policy.Closed)
		require.Empty(t, opened.Samples, "only if it opens")
		require.Equal(t, want, circuit(t, rt, here).Samples)
		rt.Reset("*")
		require.Empty(t, circuit(t, rt, here).Samples)
	})
}

func TestWhatIsNoFailureIsNoSample(t *testing.T) {
	rt := transport.New(answer(404, ""))
	call(t, rt)
	rt.SetClassifier(policy.OnStatus(policy.Ignored, 404))
	call(t, rt)
	require.Empty(t, circuit(t, rt, here).Samples)
	rt.SetClassifier(policy.OnStatus(policy.Failure, 404))
	call(t, rt)
	require.Equal(t, policy.KindJudged, circuit(t, rt, here).Samples[0].Cause.Kind)
}

func TestSamplesThatWereGivenAwayDoNotChange(t *testing.T) {
	var n atomic.Int64
	var mu sync.Mutex
	type given struct{ list, copied []policy.Sample }
	var kept []given
	keep := func(list []policy.Sample) {
		copied := slices.Clone(list) // a read that races with every later write
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, given{list, copied})
	}
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if i := n.Add(1); i%7 != 0 {
			return answer(500+int(i%12), "")(req)
		}
		return answer(200, "")(req)
	}), transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Nanosecond}), transport.WithRefusalError(),
		transport.WithObserver(transport.Observer{
			OnStateChange: func(c transport.StateChange) { keep(c.Samples) },
			OnRefusal:     func(r transport.RefusalEvent) { keep(r.Error.Samples) },
		}))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 300 {
				var open *transport.RefusedError
				if _, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context())); errors.As(err, &open) {
					keep(open.Samples)
				}
				if c, ok := rt.Circuit(here); ok {
					keep(c.Samples)
				}
			}
		})
	}
	all.Wait()
	require.Greater(t, len(kept), 1000)
	for _, g := range kept {
		require.LessOrEqual(t, len(g.list), 8)
		require.Equal(t, g.copied, g.list)
	}
}
