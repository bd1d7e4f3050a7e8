package transport_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// refusals makes one refusal of each reason.
var refusals = map[policy.RefusalReason]func(t *testing.T, opts ...transport.Option) *transport.Transport{
	policy.RefusedOpen: func(t *testing.T, opts ...transport.Option) *transport.Transport {
		rt := transport.New(answer(200, ""), opts...)
		rt.SetState(here, policy.Open)
		return rt
	},
	policy.RefusedForced: func(t *testing.T, opts ...transport.Option) *transport.Transport {
		rt := transport.New(answer(200, ""), opts...)
		rt.Force("*", policy.Open)
		return rt
	},
	policy.RefusedRamp: func(t *testing.T, opts ...transport.Option) *transport.Transport {
		rt := transport.New(answer(200, "hello"), append(opts, transport.WithPolicy(policy.Classic{}))...)
		rt.SetState(here, policy.HalfOpen)
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return rt
	},
	policy.RefusedLimit: func(t *testing.T, opts ...transport.Option) *transport.Transport {
		rt := transport.New(answer(200, "hello"), append(opts, limited(policy.Limits{InFlight: 1}))...)
		resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.NoError(t, err)
		t.Cleanup(func() { resp.Body.Close() })
		return rt
	},
	policy.RefusedThrottled: func(t *testing.T, opts ...transport.Option) *transport.Transport {
		rt := transport.New(halfFull(), opts...)
		for refused := false; !refused; { // and then the next one is, too: no time passes
			resp, err := call(t, rt)
			refused = err != nil || transport.Refused(resp)
		}
		return rt
	},
	policy.RefusedHeld: func(t *testing.T, opts ...transport.Option) *transport.Transport {
		upstream := newFading()
		rt := transport.New(upstream, opts...)
		for range 10 {
			rt.RoundTrip(newRequest(t, http.MethodGet, context.Background()))
			time.Sleep(150 * time.Millisecond)
		}
		upstream.silent.Store(true)
		var out sync.WaitGroup
		var held atomic.Bool
		for !held.Load() { // and then the next one is held, too: one a second is let through
			out.Go(func() {
				resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, context.Background()))
				if err != nil || transport.Refused(resp) {
					held.Store(true)
				}
			})
			time.Sleep(50 * time.Millisecond)
		}
		t.Cleanup(func() { close(upstream.release); out.Wait() })
		return rt
	},
}

func TestEachRefusalSaysWhy(t *testing.T) {
	for reason, make := range refusals {
		t.Run(reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []transport.RefusalEvent
				rt := make(t, transport.WithObserver(transport.Observer{OnRefusal: func(r transport.RefusalEvent) { told = append(told, r) }}))
				resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
				require.NoError(t, err)
				require.Equal(t, reason, transport.RefusedBecause(resp))
				require.True(t, transport.Refused(resp))
				require.Equal(t, reason.String(), resp.Header.Get("X-Fusebox"))
				require.Equal(t, reason, transport.RefusedBecause(&http.Response{Header: resp.Header.Clone()}))
				require.NotEmpty(t, told)
				require.Equal(t, reason, told[len(told)-1].Error.Reason)

				// The same text from elsewhere is no mark.
				text := string([]byte(reason.String()))
				require.Equal(t, policy.NotRefused, transport.RefusedBecause(&http.Response{Header: http.Header{"X-Fusebox": {text}}}))
				twice := http.Header{"X-Fusebox": append(resp.Header["X-Fusebox"], text)}
				require.Equal(t, policy.NotRefused, transport.RefusedBecause(&http.Response{Header: twice}))
			})
			synctest.Test(t, func(t *testing.T) {
				rt := make(t, transport.WithRefusalError())
				_, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
				var open *transport.RefusedError
				require.ErrorAs(t, err, &open)
				require.Equal(t, reason, open.Reason)
				require.Equal(t, reason == policy.RefusedLimit, errorsIs(err, transport.ErrLimit))
				require.Equal(t, reason != policy.RefusedLimit, errorsIs(err, transport.ErrOpen))
				for _, err := range []error{fmt.Errorf("send request: %w", err), open} {
					var amazons interface{ RetryableError() bool }
					require.ErrorAs(t, err, &amazons)
					require.False(t, amazons.RetryableError())
					var azures interface {
						error
						NonRetriable()
					}
					require.ErrorAs(t, err, &azures)
					azures.NonRetriable()
				}
			})
			synctest.Test(t, func(t *testing.T) {
				rt := make(t, transport.WithRefusal(transport.Response(429, nil, "busy")))
				resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
				require.NoError(t, err)
				require.Equal(t, 429, resp.StatusCode)
				require.Equal(t, reason, transport.RefusedBecause(resp))
			})
		})
	}
}

func errorsIs(err, target error) bool {
	is, ok := err.(interface{ Is(error) bool })
	return ok && is.Is(target)
}

func TestWhatIsNoRefusalHasNoReason(t *testing.T) {
	require.Equal(t, policy.NotRefused, transport.RefusedBecause(nil))
	require.Equal(t, policy.NotRefused, transport.RefusedBecause(&http.Response{}))
	require.Equal(t, policy.NotRefused, transport.RefusedBecause(&http.Response{Header: http.Header{"X-Fusebox": {}}}))
	require.Equal(t, policy.NotRefused, transport.RefusedBecause(&http.Response{Header: http.Header{"X-Fusebox": {""}}}))
}

func TestRefusalsOfAllReasonsByText(t *testing.T) {
	var names []string
	for reason := range policy.RefusedThrottled + 2 {
		names = append(names, reason.String())
	}
	require.Equal(t, []string{"", "open", "half-open", "held", "limit", "forced open", "throttled", "invalid"}, names)
	text, err := json.Marshal(policy.RefusedHeld)
	require.NoError(t, err)
	require.Equal(t, `"held"`, string(text))

	key := transport.Key{Scheme: "https", Host: "example.com"}
	cause := policy.Cause{Kind: policy.KindStatus, Status: 503}
	for _, c := range []struct {
		err  transport.RefusedError
		want string
	}{
		{transport.RefusedError{Reason: policy.RefusedOpen, State: policy.Open, RetryAfter: 1500 * time.Millisecond, Cause: cause},
			"fusebox: circuit open for https://example.com, next probe in 1.5s, last failure: status 503"},
		{transport.RefusedError{Reason: policy.RefusedRamp, State: policy.HalfOpen, Cause: cause},
			"fusebox: circuit half-open for https://example.com, last failure: status 503"},
		{transport.RefusedError{Reason: policy.RefusedHeld, Cause: cause},
			"fusebox: calls held, no answer in time from https://example.com, last failure: status 503"},
		{transport.RefusedError{Reason: policy.RefusedLimit, Cause: cause}, "fusebox: too many calls in flight to https://example.com"},
		{transport.RefusedError{Reason: policy.RefusedForced, State: policy.Open, Cause: cause},
			"fusebox: circuit forced open for https://example.com"},
		{transport.RefusedError{Reason: policy.RefusedThrottled}, "fusebox: calls throttled, more than what is carried by https://example.com"},
	} {
		c.err.Key = key
		require.Equal(t, c.want, c.err.Error())
	}
}

func TestALimitRefusalBehindThisTransportSaysNothingOfTheUpstream(t *testing.T) {
	for _, option := range []transport.Option{transport.WithRefusalError(), transport.WithRefusal(transport.Response(503, nil, ""))} {
		inner := transport.New(answer(200, "hello"), limited(policy.Limits{InFlight: 1}), option)
		outer := transport.New(inner, transport.WithPolicy(policy.Classic{Failures: 1}))
		resp, err := inner.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
		require.NoError(t, err)
		for range 3 {
			call(t, outer)
		}
		c := circuit(t, outer, here)
		require.Equal(t, policy.Closed, c.State)
		require.EqualValues(t, 3, c.IgnoredCalls)
		resp.Body.Close()
	}
}

func TestAnEndlessWaitIsNoShortOne(t *testing.T) {
	for wait, header := range map[time.Duration]string{math.MaxInt64: "9223372037", 0: "1", time.Second: "1", time.Second + 1: "2"} {
		resp, err := transport.Response(503, nil, "")(newRequest(t, http.MethodGet, t.Context()), &transport.RefusedError{RetryAfter: wait})
		require.NoError(t, err)
		require.Equal(t, header, resp.Header.Get("Retry-After"))
	}
}
