package transport_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// matches checks what Force and the like return.
func matches(t *testing.T, want int) func(matched int, err error) {
	return func(matched int, err error) {
		t.Helper()
		require.NoError(t, err)
		require.Equal(t, want, matched)
	}
}

// A pattern with characters that cannot be seen is kept as people are to see it, and means what it meant.
func TestAPatternIsKeptAsItCanBeSeen(t *testing.T) {
	hidden := transport.Key{Scheme: "https", Host: "a.test", Detail: "\u202eevil\u200b"}
	other := transport.Key{Scheme: "https", Host: "a.test", Detail: "evil"}
	const raw, seen = "https://a.test \u202e*\u200b", `https://a.test \\u202e*\\u200b`
	rt := transport.New(nil)
	rt.SetState(hidden, policy.Closed)
	rt.SetState(other, policy.Closed)
	matches(t, 1)(rt.Force(raw, policy.Open))
	require.True(t, circuit(t, rt, hidden).Forced)
	require.False(t, circuit(t, rt, other).Forced)
	require.Equal(t, seen, rt.Overrides()[0].Pattern)
	require.Equal(t, seen, circuit(t, rt, hidden).ForcedBy)
	matches(t, 1)(rt.Force(seen, policy.Closed))
	require.Len(t, rt.Overrides(), 1, "it is the same pattern")
	require.Equal(t, 1, released(t, rt, raw))
	matches(t, 1)(own.ForceUnsaved(rt, raw, policy.Open))
	require.Equal(t, 1, released(t, rt, seen))
	matches(t, 1)(rt.Reset(raw))

	_, err := rt.RestoreFrom(strings.NewReader(`{"version":1,"overrides":[{"pattern":"`+raw+`","state":"open"}]}`), 0)
	require.NoError(t, err)
	require.Equal(t, seen, rt.Overrides()[0].Pattern)
	var saved bytes.Buffer
	require.NoError(t, rt.SaveTo(&saved))
	require.NotContains(t, saved.String(), "\u202e")
}

// Each of these makes a key look like another one, or hides what is in it.
func TestAKeyIsWrittenSoThatItCanBeSeen(t *testing.T) {
	for _, hidden := range []string{"\u202e", "\u2066", "\u200b", "\u00ad", "\ufeff", "\u3164", "\u2800", "\ufe0f", "\u034f", "\u00a0", "\U000e0041", "\x1b", "\xff"} {
		for _, k := range []transport.Key{
			{Scheme: "https", Host: "a" + hidden + ".test"}, {Scheme: "https", Host: "a.test", Detail: "ad" + hidden + "min"}, {Detail: hidden + "admin"},
		} {
			require.NotContains(t, k.String(), hidden)
			require.Contains(t, k.String(), `\`)
			rt := transport.New(nil)
			rt.SetState(k, policy.Closed)
			matches(t, 1)(rt.Force(k.Pattern(), policy.Open))
			require.NotContains(t, (&transport.RefusedError{Key: k, Reason: policy.RefusedForced}).Error(), hidden)
			require.Equal(t, 1, released(t, rt, k.Pattern()))
		}
	}
}

func TestATraceIsKeptAsItCanBeSeenAndNoLongerThanItMayBe(t *testing.T) {
	for id, want := range map[string]string{
		"4bf92f35":                    "4bf92f35",
		"\u202e53f29fb4":              `\u202e53f29fb4`,
		strings.Repeat("é", 1<<19):    strings.Repeat("é", 64),
		strings.Repeat("\x00", 1<<20): strings.Repeat(`\x00`, 32),
	} {
		rt := transport.New(answer(500, ""), transport.WithTraceID(func(r *http.Request) string { return r.Header.Get("X-Request-Id") }))
		req := newRequest(t, http.MethodGet, t.Context())
		req.Header.Set("X-Request-Id", id)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		trace := circuit(t, rt, here).Samples[0].Trace
		require.Equal(t, want, trace)
		require.True(t, utf8.ValidString(trace))
	}
}
