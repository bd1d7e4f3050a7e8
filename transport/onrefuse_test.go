package transport_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

type requestName struct{}

// named is a request of that name.
func named(t *testing.T, name string) *http.Request {
	return newRequest(t, http.MethodGet, context.WithValue(t.Context(), requestName{}, name))
}

func TestWhoeverLooksAtARefusalHasItsRequestBeforeItIsAnswered(t *testing.T) {
	for name, opts := range map[string][]transport.Option{
		"503": nil, "error": {transport.WithRefusalError()}, "answer": {transport.WithRefusal(transport.Response(429, nil, "busy"))},
	} {
		t.Run(name, func(t *testing.T) {
			var told []string
			var reasons []policy.RefusalReason
			rt := transport.New(answer(204, ""), append(opts, transport.WithObserver(transport.Observer{
				OnRefuse: func(req *http.Request, e *transport.RefusedError) {
					told, reasons = append(told, req.Context().Value(requestName{}).(string)), append(reasons, e.Reason)
					require.False(t, e.Shadow)
					e.Reason = policy.RefusedHeld // which the answer does not know
				},
			}))...)
			resp, err := rt.RoundTrip(named(t, "made"))
			require.NoError(t, err)
			require.False(t, transport.Refused(resp))
			require.Empty(t, told)
			rt.Force("*", policy.Open)
			resp, err = rt.RoundTrip(named(t, "refused"))
			require.Equal(t, []string{"refused"}, told)
			require.Equal(t, []policy.RefusalReason{policy.RefusedForced}, reasons)
			if name == "error" {
				require.ErrorContains(t, err, "forced open")
				return
			}
			require.NoError(t, err)
			require.Equal(t, policy.RefusedForced, transport.RefusedBecause(resp))
		})
	}
}

func TestInShadowARefusalIsShownWithItsRequestToo(t *testing.T) {
	var shadows []bool
	rt := transport.New(answer(204, ""), transport.WithShadow(), transport.WithObserver(transport.Observer{
		OnRefuse: func(req *http.Request, e *transport.RefusedError) { shadows = append(shadows, e.Shadow) },
	}))
	rt.SetState(here, policy.Open)
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	require.Equal(t, 204, resp.StatusCode)
	require.Equal(t, []bool{true}, shadows)
	rt.Force("*", policy.Open)
	resp, err = rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	require.True(t, transport.Refused(resp))
	require.Equal(t, []bool{true, false}, shadows, "a forced one is refused in shadow, too")
}

func TestTheCallThatTripsAndIsRefusedForItIsShown(t *testing.T) {
	told := 0
	rt := transport.New(answer(500, ""), transport.WithRefusalOnTrip(), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Hour}),
		transport.WithObserver(transport.Observer{OnRefuse: func(*http.Request, *transport.RefusedError) { told++ }}))
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	require.True(t, transport.Refused(resp))
	require.Equal(t, 1, told)
}

func TestAPanicOfWhoeverLooksAtARefusalLosesNothing(t *testing.T) {
	for name, opts := range map[string][]transport.Option{"refused": nil, "in shadow": {transport.WithShadow()}} {
		t.Run(name, func(t *testing.T) {
			rt := transport.New(answer(204, ""), append(opts, transport.WithPolicy(policy.Classic{OpenFor: time.Hour, Limits: policy.Limits{InFlight: 1}}),
				transport.WithObserver(transport.Observer{OnRefuse: func(*http.Request, *transport.RefusedError) { panic("no") }}))...)
			rt.SetState(here, policy.Open)
			for range 3 {
				require.PanicsWithValue(t, "no", func() { rt.RoundTrip(newRequest(t, http.MethodGet, t.Context())) })
			}
			rt.SetState(here, policy.Closed)
			resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
			require.NoError(t, err)
			require.Equal(t, 204, resp.StatusCode, "its place among the calls in flight is free")
		})
	}
}

func TestNobodyPaysForARefusalThatNobodyLooksAt(t *testing.T) {
	cost := func(opts ...transport.Option) float64 {
		rt := transport.New(answer(204, ""), append(opts, transport.WithRefusalError())...)
		rt.Force("*", policy.Open)
		req := newRequest(t, http.MethodGet, t.Context())
		return testing.AllocsPerRun(1000, func() { rt.RoundTrip(req) })
	}
	look := transport.WithObserver(transport.Observer{OnRefuse: func(*http.Request, *transport.RefusedError) {}})
	require.Equal(t, 1.0, cost(), "the error")
	require.Equal(t, 2.0, cost(look), "and one for whoever looks")
}
