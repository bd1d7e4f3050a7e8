package transport_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestParseKeyGivesTheKeyThatRequestsHave(t *testing.T) {
	for text, want := range map[string]string{
		"https://example.com":                           "https://example.com",
		"https://Example.com:443/":                      "https://example.com",
		"HTTPS://EXAMPLE.COM.":                          "https://example.com",
		"http://example.com:080":                        "http://example.com",
		"http://example.com:443":                        "http://example.com:443",
		"https://bücher.example":                        "https://xn--bcher-kva.example",
		"http://[0:0::1]:80":                            "http://[::1]",
		"http://192.0.2.1:8080/":                        "http://192.0.2.1:8080",
		"ws://example.com:80":                           "ws://example.com",
		"unix://":                                       "unix://",
		"https://Example.com GET /users/{id}":           "https://example.com GET /users/{id}",
		"https://example.com Tenant A":                  "https://example.com Tenant A",
		`https://example.com a\\b\u202e`:                `https://example.com a\\b\u202e`,
		`https://example.com say "no"`:                  `https://example.com say "no"`,
		"http://[fe80::1%eth0]":                         "http://[fe80::1%eth0]",
		"https://example.com GET https://elsewhere.com": "https://example.com GET https://elsewhere.com",
	} {
		k, err := transport.ParseKey(text)
		require.NoError(t, err, text)
		require.Equal(t, want, k.String(), text)
		again, err := transport.ParseKey(k.String())
		require.NoError(t, err, text)
		require.Equal(t, k, again, text)
		if u, err := url.Parse(text); err == nil && k.Detail == "" {
			require.Equal(t, transport.Upstream(&http.Request{URL: u}), k, text)
		}
	}
}

func TestParseKeySaysWhatCanNeverMatch(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "no scheme",
		"example.com":                     "no scheme",
		"example.com:443":                 "no scheme",
		"://":                             "its scheme is none",
		" https://example.com":            "its scheme is none",
		"https://":                        "no host",
		"https:///":                       "no host",
		"https://example.com/users":       "write https://example.com",
		"https://Example.com:443/users/1": "write https://example.com",
		"https://example.com?a=b":         "write https://example.com",
		"https://example.com//":           "write https://example.com",
		"https://me:secret@Example.com":   "an upstream has no user; write https://example.com",
		"https://example.com\n":           "a character",
		`https://example.com\q`:           "backslash",
		"http://b%C3%BCcher.example":      "in letters",
		"https://" + string(make([]byte, 600)) + ".test": "a character",
	} {
		k, err := transport.ParseKey(text)
		require.ErrorContains(t, err, want, text)
		require.Zero(t, k, text)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestForceRefusesPatternsThatCanMatchNothing(t *testing.T) {
	for text, want := range map[string]string{
		"https://Example.com":           "write https://example.com",
		"https://example.com:443":       "write https://example.com",
		"https://bücher.example":        "write https://xn--bcher-kva.example",
		"https://example.com/":          "write https://example.com",
		"https://example.com.":          "write https://example.com",
		"https://example.com/users":     "write https://example.com",
		"https://me:secret@example.com": "write https://example.com",
		"HTTPS://example.com":           "write https://example.com",
		"example.com":                   "no scheme",
		"http://[0:0::1]":               "write http://[::1]",
		"https://*.Example.com":         "write https://*.example.com",
		"*.Example.com":                 "write *.example.com",
		"*Example*":                     "write *example*",
		"https://example.com/*":         "write https://example.com",
		"https://*.example.com:443":     "write https://*.example.com",
		"https://*.bücher.example":      "write https://*.xn--bcher-kva.example",
		"https://example.com GET /x":    "no Detail",
		"https://example.com *":         "no Detail",
	} {
		rt := transport.New(answer(200, ""))
		matched, err := rt.Force(text, policy.Open)
		require.ErrorContains(t, err, want, text)
		require.Zero(t, matched)
		require.NotContains(t, err.Error(), "secret")
		require.Empty(t, rt.Overrides(), text)
		_, err = rt.Reset(text)
		require.ErrorContains(t, err, want, text)
	}
	for _, text := range []string{
		"*", "**", "https://*", "*://example.com", "https://example.com", "https://example.com:8443", "http://example.com:443", "http*", "https://example.com*",
		"https://*.example.com*", "*.example.com:443", "https://xn--bcher-kva.example", "http://192.0.2.1", "http://192.0.2.*", "unix://", "ex*mple", `https://a\*b.test`,
	} {
		rt := transport.New(answer(200, ""))
		_, err := rt.Force(text, policy.Open)
		require.NoError(t, err, text)
		_, err = rt.Reset(text)
		require.NoError(t, err, text)
	}
}

func TestWhatIsSuggestedCanBeForced(t *testing.T) {
	for _, text := range []string{"https://Bücher.Example:443/x", "https://*.Bücher.Example:443/*", "*.EXAMPLE.com", "HTTP://*.example.com/"} {
		rt := transport.New(answer(200, ""))
		_, err := rt.Force(text, policy.Open)
		require.Error(t, err)
		suggested := lastWord(err.Error())
		_, err = rt.Force(suggested, policy.Open)
		require.NoError(t, err, suggested)
	}
}

func lastWord(text string) string {
	for i := len(text) - 1; i >= 0; i-- {
		if text[i] == ' ' {
			return text[i+1:]
		}
	}
	return text
}

func TestAPatternThatMatchesWhatIsThereIsForcedHoweverItIsWritten(t *testing.T) {
	keys := map[string]transport.Key{"/tenant": {Detail: "Acme"}, "/odd": {Scheme: "https", Host: "Example.com"}, "/route": {Scheme: "https", Host: "example.com", Detail: "GET /Users"}}
	rt := transport.New(answer(200, ""), transport.WithKey(func(req *http.Request) transport.Key { return keys[req.URL.Path] }))
	// nobody can know yet which keys there will be
	for _, k := range keys {
		_, err := rt.Force(k.Pattern(), policy.Open)
		require.NoError(t, err, "%v", k)
		released(t, rt, k.Pattern())
	}
	for path, k := range keys {
		_, err := rt.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "x.test", Path: path}})
		require.NoError(t, err)
		require.Equal(t, 1, force(t, rt, k.Pattern(), policy.Open))
		require.Equal(t, 1, reset(t, rt, k.Pattern()))
		require.Equal(t, 1, released(t, rt, k.Pattern()))
	}
	// what is not there, and is there in canonical form
	_, err := rt.Force("https://Example.com:443 GET /Users", policy.Open)
	require.ErrorContains(t, err, "write https://example.com GET /Users")
	_, err = rt.Force("https://Elsewhere.com", policy.Open)
	require.NoError(t, err, "a key of its own may be so")
}

func FuzzParseKey(f *testing.F) {
	for _, text := range []string{
		"http://Example.com:080/x", "http://[fe80::1%25eth0]", "http://b%C3%BCcher.example", "http://\u212a_x", "http://a..", "http://:", "http://u@h", `http://a\x20b`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := transport.ParseKey(text); err == nil {
			again, err := transport.ParseKey(k.String())
			if err != nil || again != k {
				t.Errorf("%q is %v, which is %v, %v", text, k, again, err)
			}
		}
		u, err := url.Parse(text)
		if err != nil {
			return
		}
		k := transport.Upstream(&http.Request{URL: u})
		if parsed, err := transport.ParseKey(k.String()); err == nil && parsed != k {
			t.Errorf("%q has the key %v, which is parsed as %v", text, k, parsed)
		}
	})
}
