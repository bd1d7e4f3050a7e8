package transport_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

func TestTheTraceIsThatOfTraceparent(t *testing.T) {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	const parent = "-00f067aa0ba902b7-01"
	for _, c := range []struct {
		name   string
		values []string
		want   string
	}{
		{"none", nil, ""},
		{"one", []string{"00-" + id + parent}, id},
		{"of a later version", []string{"01-" + id + parent + "-more"}, id},
		{"empty", []string{""}, ""},
		{"two", []string{"00-" + id + parent, "00-" + id + parent}, ""},
		{"too short", []string{"00-" + id + "-00f067aa0ba902b7-0"}, ""},
		{"in upper case", []string{"00-" + strings.ToUpper(id) + parent}, ""},
		{"no hexadecimal", []string{"00-" + strings.Replace(id, "4", "g", 1) + parent}, ""},
		{"without a dash", []string{"000" + id + parent}, ""},
		{"with a space after the id", []string{"00-" + id + " 00f067aa0ba902b7-01"}, ""},
		{"all zero, which is invalid", []string{"00-00000000000000000000000000000000" + parent}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := transport.New(answer(500, ""))
			req := newRequest(t, http.MethodGet, t.Context())
			if c.values != nil {
				req.Header["Traceparent"] = c.values
			}
			rt.RoundTrip(req)
			samples := circuit(t, rt, here).Samples
			require.Len(t, samples, 1)
			require.Equal(t, c.want, samples[0].Trace)
		})
	}
}

func TestWithTraceIDIsAskedOnlyOfFailures(t *testing.T) {
	status, asked := 200, 0
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) { return answer(status, "hello")(req) }),
		transport.WithTraceID(func(req *http.Request) string {
			asked++
			return req.Header.Get("X-Trace")
		}))
	do := func(id string) {
		req := newRequest(t, http.MethodGet, t.Context())
		req.Header.Set("X-Trace", id)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
	}
	do("well")
	require.Zero(t, asked)
	status = 500
	do("first")
	do("second")
	do("")
	require.Equal(t, 3, asked)
	samples := circuit(t, rt, here).Samples
	require.Len(t, samples, 1)
	require.EqualValues(t, 3, samples[0].Count)
	require.Equal(t, "second", samples[0].Trace, "the last that had one")
	require.PanicsWithValue(t, "fusebox/transport: WithTraceID got nil; leave it out for the default", func() { transport.WithTraceID(nil) })
}
