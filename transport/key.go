package transport

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/fusebox-go/fusebox/internal/keys"
	"github.com/fusebox-go/fusebox/policy"
)

// Key tells circuits apart: by the scheme, the host and what a KeyFunc adds, its Detail. It is the Key of package
// policy, which has its methods.
type Key = policy.Key

// short returns the key that a circuit has for this one, and false if it has none because the host is too long. Then
// the key is what is looked at for states that are forced.
func short(k Key) (Key, bool) {
	scheme, host, detail, ok := keys.Short(k.Scheme, k.Host, k.Detail)
	return Key{Scheme: scheme, Host: host, Detail: detail}, ok
}

// KeyFunc returns the key of a request's circuit. It is called by many goroutines at once, gets requests whose URL is
// not nil, and must not change them. A request's own data can be part of a key, but not without bound: every key is
// a circuit.
type KeyFunc func(*http.Request) Key

// Upstream is the KeyFunc that Transport uses by default: the scheme, host and port of the request's URL in canonical
// form. Letter case, a default port, a trailing dot, the spelling of an IP address and Unicode in a host name make no
// difference, so http://Example.com. and HTTP://example.com:80 are one upstream. The Host header has no say. All URLs
// of a scheme without a host, such as a registered unix:///a.sock, are one upstream; a KeyFunc can tell them apart.
//
// A request without a URL has the zero Key.
func Upstream(req *http.Request) Key {
	if req == nil || req.URL == nil { // no Transport asks for that of one, but others can
		return Key{}
	}
	return upstream(req.URL)
}

func upstream(u *url.URL) Key {
	scheme := lower(u.Scheme)
	return Key{Scheme: scheme, Host: canonicalHost(scheme, u.Host)}
}

// PerRoute gives every route of an upstream a circuit of its own. The patterns have the syntax of http.ServeMux, so
// that "GET /users/{id}" is one circuit for all users. Requests that match no pattern share the upstream's circuit.
// PerRoute panics, as http.ServeMux does, if patterns are malformed or in conflict.
func PerRoute(patterns ...string) KeyFunc {
	routes := http.NewServeMux()
	patterns = slices.Clone(patterns)
	for _, pattern := range patterns {
		routes.Handle(pattern, http.NotFoundHandler())
	}
	return func(req *http.Request) Key {
		k := Upstream(req)
		if req == nil || req.URL == nil {
			return k
		}
		// The mux looks at requests as a server gets them. In place of a pattern it gives the path that it would
		// redirect to, and there it has one.
		seen := &http.Request{
			Method: methodOf(req), Host: k.Host, URL: &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath},
		}
		_, pattern := routes.Handler(seen)
		if !slices.Contains(patterns, pattern) {
			seen.URL = &url.URL{Path: pattern}
			_, pattern = routes.Handler(seen)
		}
		if slices.Contains(patterns, pattern) {
			k.Detail = pattern
		}
		return k
	}
}

// methodOf returns the method that the upstream gets.
func methodOf(req *http.Request) string {
	if req == nil {
		return http.MethodGet
	}
	switch req.Method {
	case "", "GET_0RTT": // as http.Request says, and quic-go's http3 of what it may send in early data
		return http.MethodGet
	case "HEAD_0RTT":
		return http.MethodHead
	}
	return req.Method
}

// canonicalHost returns the one spelling that all spellings of a host and port have in common. What is no valid host
// is returned in lower case and otherwise as it is: two different upstreams never become one.
func canonicalHost(scheme, hostport string) string {
	if !utf8.ValidString(hostport) {
		return hostport
	}
	host, port := splitPort(hostport)
	host, ok := canonicalName(host)
	if !ok {
		return lower(hostport) // which colon is the port's cannot be told
	}
	if port = canonicalPort(port); port != "" && port != defaultPort(scheme) {
		return host + ":" + port
	}
	return host
}

// splitPort splits at the colon before the port, if there is one. The brackets of an IPv6 address stay.
func splitPort(hostport string) (host, port string) {
	colon := strings.LastIndexByte(hostport, ':')
	if colon < 0 || strings.Contains(hostport[colon:], "]") {
		return hostport, ""
	}
	return hostport[:colon], hostport[colon+1:]
}

// mostName is the longest UTF-8 of a name that can be looked up: 253 characters of up to four bytes. The time that
// punycode takes grows with the square of the length.
const mostName = 4 * 253

// canonicalName fails if the host is neither a name nor an address in brackets.
func canonicalName(host string) (name string, ok bool) {
	if inner, bracketed := strings.CutPrefix(host, "["); bracketed {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return "[" + addr.String() + "]", closed && err == nil
	}
	if strings.Contains(host, ":") {
		return "", false
	}
	if !isASCII(host) && len(host) <= mostName {
		// The profile that net/http itself uses to find out whom to connect to.
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = ascii
		}
	}
	host = lower(host)
	trimmed, dotted := strings.CutSuffix(host, ".")
	if _, err := netip.ParseAddr(trimmed); !dotted || err == nil || trimmed == "" || strings.HasSuffix(trimmed, ".") {
		return host, true
	}
	return trimmed, true
}

// lower is strings.ToLower for ASCII alone: no other letter has another case in a host name, and no two may become one.
func lower(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return s
	}
	text := []byte(s)
	for i, b := range text {
		if 'A' <= b && b <= 'Z' {
			text[i] = b + 'a' - 'A'
		}
	}
	return string(text)
}

// canonicalPort drops leading zeros. A port that is no number is a service's name and stays.
func canonicalPort(port string) string {
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return port
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return "80"
	case "https", "wss":
		return "443"
	}
	return ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
