package transport_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/idna"

	"github.com/fusebox-go/fusebox/transport"
)

func upstreamOf(scheme, host string) transport.Key {
	return transport.Upstream(&http.Request{URL: &url.URL{Scheme: scheme, Host: host}})
}

func TestCanonicalUpstreams(t *testing.T) {
	cases := []struct {
		scheme, host string // of the URL
		want         string
	}{
		{"http", "example.com", "http://example.com"},
		{"HTTP", "EXAMPLE.com", "http://example.com"},

		{"http", "example.com:80", "http://example.com"},
		{"https", "example.com:443", "https://example.com"},
		{"ws", "example.com:80", "ws://example.com"},
		{"wss", "example.com:443", "wss://example.com"},
		{"http", "example.com:443", "http://example.com:443"},
		{"https", "example.com:80", "https://example.com:80"},
		{"ftp", "example.com:21", "ftp://example.com:21"},
		{"http", "example.com:8080", "http://example.com:8080"},
		{"http", "example.com:", "http://example.com"},
		{"http", "example.com:080", "http://example.com"},
		{"http", "example.com:0000000000008080", "http://example.com:8080"},
		{"http", "example.com:0", "http://example.com:0"},
		{"http", "example.com:65536", "http://example.com:65536"},
		{"http", "example.com:http", "http://example.com:http"},
		{"http", "example.com:+80", "http://example.com:+80"},
		{"http", "example.com:-80", "http://example.com:-80"},

		{"http", "example.com.", "http://example.com"},
		{"http", "example.com.:80", "http://example.com"},
		{"http", "example.com..", "http://example.com.."},

		{"http", "192.0.2.1:80", "http://192.0.2.1"},
		{"http", "192.0.2.01", "http://192.0.2.01"},
		{"http", "[2001:DB8::0:1]", "http://[2001:db8::1]"},
		{"http", "[2001:db8:0:0:0:0:0:1]:80", "http://[2001:db8::1]"},
		{"http", "[::1]:8080", "http://[::1]:8080"},
		{"http", "[::1]:", "http://[::1]"},
		{"http", "[::ffff:192.0.2.1]", "http://[::ffff:192.0.2.1]"},
		{"http", "[fe80::1%eth0]:80", "http://[fe80::1%eth0]"},
		{"http", "[FE80::1%Eth0]", "http://[fe80::1%Eth0]"},
		{"http", "[No Address]", `http://[no\x20address]`},
		{"http", "::1", "http://::1"},

		{"http", "bücher.example", "http://xn--bcher-kva.example"},
		{"http", "BÜCHER.example:80", "http://xn--bcher-kva.example"},
		{"http", "XN--BCHER-KVA.example", "http://xn--bcher-kva.example"},
		{"http", "bu\u0308cher.example", "http://xn--bcher-kva.example"},
		{"http", "bücher\u3002example\u3002", "http://xn--bcher-kva.example"},
		{"http", "example\uff0ecom\uff61", "http://example.com"},
		{"http", "a_ü.example", "http://a_ü.example"},

		{"http", "a:b:80", "http://a:b:80"},
		{"http", "..", "http://.."},
		{"http", ".", "http://."},
		{"http", "", "http://"},
		{"", "example.com", "://example.com"},
		{"http", "user@Example.com", "http://user@example.com"},
	}
	for _, c := range cases {
		t.Run(c.scheme+"://"+c.host, func(t *testing.T) {
			key := upstreamOf(c.scheme, c.host)
			require.Equal(t, c.want, key.String())
			require.Equal(t, key, upstreamOf(key.Scheme, key.Host), "canonical is canonical")
		})
	}
}

func TestOnlyTheUrlsHostCounts(t *testing.T) {
	req, err := http.NewRequest(http.MethodPost, "https://user:secret@Example.com:443/path?query#fragment", strings.NewReader("body"))
	require.NoError(t, err)
	req.Host = "another.example"
	req.Header.Set("Host", "yet.another.example")
	require.Equal(t, transport.Key{Scheme: "https", Host: "example.com"}, transport.Upstream(req))
}

// Two hosts that net/http connects to in two ways are two upstreams, valid or not.
func TestDifferentHostsStayDifferent(t *testing.T) {
	pairs := [][2]string{
		{"\u212a_x", "k_x"}, // KELVIN SIGN, in lower case a k; with an underscore no name of IDNA
		{"[\u212a]", "[k]"},
		{"\xff", "\xfe"},
		{"[::01", "[::1"},
		{"[::80", "[:"},
		{"a:b:80", "a:b"},
		{"[::1]", "::1"},
		{"[::1%a]", "[::1%A]"},
		{"[::1%25eth0]", "[::1%eth0]"},
		{"192.0.2.1", "192.0.2.01"},
		{"[192.0.2.1]", "192.0.2.1"},
		{"example.com..", "example.com."},
		{"..", "."},
		{".", ""},
		{"example.com:80", "example.com:81"},
		{"example.com:http", "example.com"},
		{"example.com:65616", "example.com:80"}, // 80 modulo 65536
		{"example.com:-80", "example.com:80"},
		{"example.com: 80", "example.com:80"},
		{"ß.example", "ss.example"},
		{"user@example.com", "example.com"},
	}
	for _, pair := range pairs {
		t.Run(pair[0]+" and "+pair[1], func(t *testing.T) {
			require.NotEqual(t, upstreamOf("http", pair[0]), upstreamOf("http", pair[1]))
		})
	}
	require.NotEqual(t, upstreamOf("http", "example.com"), upstreamOf("https", "example.com"))
	require.NotEqual(t, upstreamOf("http", "example.com:443"), upstreamOf("https", "example.com"))
}

func TestKeysAsText(t *testing.T) {
	cases := []struct {
		key  transport.Key
		want string
	}{
		{transport.Key{}, "://"},
		{transport.Key{Scheme: "http", Host: "a"}, "http://a"},
		{transport.Key{Scheme: "http", Host: "a", Detail: "GET /x"}, "http://a GET /x"},
		{transport.Key{Detail: "tenant"}, "tenant"},
		{transport.Key{Detail: `say "hi"`}, `say "hi"`},
		{transport.Key{Detail: "a\nb"}, `a\nb`},
		{transport.Key{Detail: "\"a\"\nb"}, `"a"\nb`},
		{transport.Key{Detail: "a\n\"b\""}, `a\n"b"`},
		{transport.Key{Scheme: "http", Host: "a\r\nX: y"}, `http://a\r\nX:\x20y`},
		{transport.Key{Detail: "a\x00\x1b[31m\u2028\u202eb"}, `a\x00\x1b[31m\u2028\u202eb`},
		{transport.Key{Detail: "a\xffb\x9b"}, `a\xffb\x9b`},
		{transport.Key{Detail: "bücher"}, "bücher"},
		{transport.Key{Scheme: "http", Host: "a", Detail: "acme "}, `http://a acme\x20`},
		{transport.Key{Scheme: "http", Host: "a", Detail: ` a  \d `}, `http://a \x20a \x20\\d\x20`},
		{transport.Key{Detail: "https://a/b"}, ":// https://a/b"},
		{transport.Key{Scheme: "unix"}, "unix://"},
	}
	for _, c := range cases {
		t.Run(c.want, func(t *testing.T) {
			require.Equal(t, c.want, c.key.String())
			text, err := json.Marshal(c.key)
			require.NoError(t, err)
			var read string
			require.NoError(t, json.Unmarshal(text, &read))
			require.Equal(t, c.want, read)
		})
	}
}

// naive is who is meant by a scheme and a host, by simple rules. Where they do not apply, a host is only itself.
func naive(scheme, host string) string {
	lower := func(s string) string { // of ASCII letters only
		return strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}, s)
	}
	scheme = strings.ToLower(scheme)
	name, port := host, ""
	if colon := strings.LastIndex(host, ":"); colon > strings.LastIndex(host, "]") {
		name, port = host[:colon], host[colon+1:]
	}
	isNumber := strings.Trim(port, "0123456789") == ""
	switch {
	case !utf8.ValidString(host):
		return scheme + " " + host
	case strings.HasPrefix(name, "["):
		addr, err := netip.ParseAddr(strings.TrimSuffix(name[1:], "]"))
		if err != nil || !strings.HasSuffix(name, "]") {
			return scheme + " " + lower(host)
		}
		name = "[" + addr.String() + "]"
	case strings.Contains(name, ":"):
		return scheme + " " + lower(host)
	default:
		if ascii, err := idna.Lookup.ToASCII(name); err == nil && strings.ContainsFunc(name, func(r rune) bool { return r >= 0x80 }) {
			name = ascii
		}
		name = lower(name)
		if len(name) > 1 && strings.HasSuffix(name, ".") && !strings.HasSuffix(name, "..") {
			name = name[:len(name)-1]
		}
	}
	if digits := strings.TrimLeft(port, "0"); isNumber && digits == "" && port != "" {
		port = "0"
	} else if isNumber && (len(digits) <= 4 || len(digits) == 5 && digits <= "65535") {
		port = digits
	}
	if port == (map[string]string{"http": "80", "https": "443", "ws": "80", "wss": "443"})[scheme] {
		port = ""
	}
	return scheme + " " + name + " " + port
}

func FuzzKey(f *testing.F) {
	f.Add("http", "Example.com:080", "https", "example.com:443")
	f.Add("http", "b\u00fccher.example", "http", "xn--bcher-kva.example.")
	f.Add("http", "[::1%eth0]:80", "http", "[::1")
	f.Add("http", "a:b:80", "http", "..")
	f.Add("", "\n", "", "\"\x00\"")
	f.Fuzz(func(t *testing.T, scheme, host, otherScheme, otherHost string) {
		key, other := upstreamOf(scheme, host), upstreamOf(otherScheme, otherHost)
		if again := upstreamOf(key.Scheme, key.Host); again != key {
			t.Errorf("%q is %#v, and that is %#v", host, key, again)
		}
		if key == other && naive(scheme, host) != naive(otherScheme, otherHost) {
			t.Errorf("%q %q and %q %q are both %#v", scheme, host, otherScheme, otherHost, key)
		}
		// What comes out is one of those that it is not to be taken for.
		if naive(key.Scheme, key.Host) != naive(scheme, host) {
			t.Errorf("%q %q became %#v", scheme, host, key)
		}
		key.Detail = otherHost
		for _, r := range key.String() {
			if unicode.IsControl(r) || !unicode.IsGraphic(r) {
				t.Errorf("%q has %q in it", key.String(), r)
			}
		}
	})
}

func keyOf(t *testing.T, keyFunc transport.KeyFunc, method, target string) transport.Key {
	t.Helper()
	parsed, err := url.Parse(target)
	require.NoError(t, err)
	return keyFunc(&http.Request{Method: method, URL: parsed, Host: "the.host.header.example", Header: http.Header{}})
}

func TestPerRoute(t *testing.T) {
	route := transport.PerRoute(
		"GET /users/{id}", "POST /users/{id}", "/files/{path...}", "/dir/{name}/", "api.example/users/{id}", "/exact/{$}", "PUT b.example/x",
	)
	cases := []struct{ method, url, detail string }{
		{"GET", "http://a.example/users/1", "GET /users/{id}"},
		{"GET", "http://a.example/users/2?q=1", "GET /users/{id}"},
		{"", "http://a.example/users/3", "GET /users/{id}"},
		{"HEAD", "http://a.example/users/4", "GET /users/{id}"},
		{"POST", "http://a.example/users/5", "POST /users/{id}"},
		{"DELETE", "http://a.example/users/6", ""},
		{"GET", "http://a.example/nothing", ""},
		{"GET", "http://a.example", ""},
		{"GET", "http://a.example/users/7/more", ""},
		{"GET", "http://a.example/files/a/b/c", "/files/{path...}"},
		{"GET", "http://a.example/files/", "/files/{path...}"},
		{"GET", "http://a.example/exact/", "/exact/{$}"},
		{"GET", "http://a.example/exact/more", ""},
		{"GET", "http://api.example/users/8", "api.example/users/{id}"},
		{"DELETE", "http://api.example:8080/users/9", "api.example/users/{id}"},
		{"GET", "http://API.Example/users/10", "api.example/users/{id}"},
		{"GET", "http://api.example./users/10", "api.example/users/{id}"},
		{"PUT", "http://b.example/x", "PUT b.example/x"},
		{"PUT", "http://c.example/x", ""},
		// Paths that a server would redirect: they are sent as they are, and belong to the route all the same.
		{"GET", "http://a.example//users//11", "GET /users/{id}"},
		{"GET", "http://a.example/users/../users/12", "GET /users/{id}"},
		{"GET", "http://a.example/x/../nothing", ""},
		{"GET", "http://a.example/users/a%2Fb", "GET /users/{id}"},
		{"GET", "http://a.example/dir/1/x", "/dir/{name}/"},
		{"GET", "http://a.example/dir/2", "/dir/{name}/"},
		{"CONNECT", "http://a.example/dir/3", "/dir/{name}/"},
	}
	for _, c := range cases {
		t.Run(c.method+" "+c.url, func(t *testing.T) {
			key := keyOf(t, route, c.method, c.url)
			require.Equal(t, c.detail, key.Detail)
			require.Equal(t, keyOf(t, transport.Upstream, c.method, c.url).Host, key.Host)
		})
	}
}

func TestPerRouteLeavesTheRequestAsItIs(t *testing.T) {
	req, err := http.NewRequest("", "http://a.example//users//1", nil)
	require.NoError(t, err)
	req.Method = ""
	before, beforeURL := *req, *req.URL
	transport.PerRoute("/users/{id}")(req)
	require.Equal(t, before, *req)
	require.Equal(t, beforeURL, *req.URL)
}

func TestPerRoutePanicsOverBadPatterns(t *testing.T) {
	for _, patterns := range [][]string{{"/a/{"}, {"users"}, {""}, {"/{x}/b", "/a/{y}"}, {"/a", "/a"}} {
		require.Panics(t, func() { transport.PerRoute(patterns...) }, "%q", patterns)
	}
}
