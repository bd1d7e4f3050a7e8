package transport

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/fusebox-go/fusebox/internal/visible"
)

// Key tells circuits apart. Keys can be compared.
//
// A circuit's key weighs at most 1024 bytes: a Detail longer than 512 is one that begins as it does and ends with a SHA-256 of it all, so that
// it has a circuit of its own still, and that is what observers, policies and storages get. A request whose scheme and host are longer than 512
// bytes together, which no resolver knows, has no circuit and passes unwatched, unless it is forced open by what they begin with.
type Key struct {
	Scheme string // in lower case
	Host   string // canonical, with a port unless it is the scheme's own
	Detail string // what a KeyFunc adds: a method, a route, a tenant; empty by default
}

// String returns the key as "https://example.com", or "https://example.com GET /users/{id}" if it has a Detail, or as its Detail if that
// is all there is of it, and never as "". No two keys have the same text: what cannot be seen is escaped as in a Go string, and so are backslashes, and spaces
// that nobody would see or that would be taken for the one before the Detail. A Detail alone that has "://" in it stands behind ":// ".
func (k Key) String() string {
	if k.Scheme == "" && k.Host == "" && k.Detail != "" && !strings.Contains(k.Detail, "://") {
		return escape(k.Detail, unseen)
	}
	text := escape(k.Scheme, spaceOrColon) + "://" + escape(k.Host, anySpace)
	if k.Detail != "" {
		text += " " + escape(k.Detail, unseen)
	}
	return text
}

// unseen reports whether a byte is a space at an end of the text, or after another.
func unseen(text string, at int) bool {
	return text[at] == ' ' && (at == 0 || at == len(text)-1 || text[at-1] == ' ')
}

func anySpace(text string, at int) bool     { return text[at] == ' ' }
func spaceOrColon(text string, at int) bool { return text[at] == ' ' || text[at] == ':' }

// escape writes out what cannot be seen, backslashes, and what also is to be.
func escape(text string, also func(text string, at int) bool) string {
	var escaped []byte // nil as long as it is the text itself
	from := 0
	for at := 0; at < len(text); {
		r, size := utf8.DecodeRuneInString(text[at:])
		broken := r == utf8.RuneError && size == 1
		if broken || r == '\\' || !visible.Rune(r) || also(text, at) {
			escaped = append(escaped, text[from:at]...)
			if broken || visible.Rune(r) && r != '\\' {
				escaped = append(escaped, '\\', 'x', hex[text[at]>>4], hex[text[at]&0xf])
			} else {
				quoted := strconv.AppendQuoteRuneToASCII(nil, r)
				escaped = append(escaped, quoted[1:len(quoted)-1]...)
			}
			from = at + size
		}
		at += size
	}
	if from == 0 {
		return text
	}
	return string(append(escaped, text[from:]...))
}

const hex = "0123456789abcdef"

const (
	// mostHost is longer than the scheme and any name that can be looked up (RFC 1035).
	mostHost   = 512
	mostDetail = 512
)

// short returns the key that a circuit has for this one, and false if it has none because the host is too long. Then the key is
// what is looked at for states that are forced.
func (k Key) short() (short Key, ok bool) {
	if len(k.Scheme)+len(k.Host) > mostHost {
		scheme := k.Scheme[:min(len(k.Scheme), mostHost)]
		return Key{Scheme: scheme, Host: k.Host[:min(len(k.Host), mostHost-len(scheme))]}, false
	}
	if len(k.Detail) > mostDetail {
		sum := "... sha256:" + fmt.Sprintf("%x", sha256.Sum256([]byte(k.Detail)))
		end := mostDetail - len(sum)
		for range utf8.UTFMax - 1 { // text stays text
			if !utf8.RuneStart(k.Detail[end]) {
				end--
			}
		}
		k.Detail = k.Detail[:end] + sum
	}
	return k, true
}

// MarshalText writes the key as String does.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// KeyFunc returns the key of a request's circuit. It is called by many goroutines at once, gets requests whose URL is
// not nil, and must not change them. A request's own data can be part of a key, but not without bound: every key is
// a circuit.
type KeyFunc func(*http.Request) Key

// Upstream is the KeyFunc that Transport uses by default: the scheme, host and port of the request's URL in canonical
// form. Letter case, a default port, a trailing dot, the spelling of an IP address and Unicode in a host name make no
// difference, so http://Example.com. and HTTP://example.com:80 are one upstream. The Host header has no say. All URLs of a scheme without a host, such
// as a registered unix:///a.sock, are one upstream; a KeyFunc can tell them apart.
func Upstream(req *http.Request) Key { return upstream(req.URL) }

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
		// The mux looks at requests as a server gets them. In place of a pattern it gives the path that it would
		// redirect to, and there it has one.
		seen := &http.Request{Method: methodOf(req), Host: k.Host, URL: &url.URL{Path: req.URL.Path, RawPath: req.URL.RawPath}}
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

// mostName is the longest UTF-8 of a name that can be looked up: 253 characters of up to four bytes. The time that punycode takes
// grows with the square of the length.
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
