package transport_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/fusebox-go/fusebox/transport"
)

var errDialed = errors.New("dialed")

// dialed returns the address that net/http itself connects to for a URL, and false if it does not get that far.
func dialed(u *url.URL) (address string, ok bool) {
	rt := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, _, to string) (net.Conn, error) {
			address, ok = to, true
			return nil, errDialed
		},
	}
	_, err := rt.RoundTrip(&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}})
	return address, ok && errors.Is(err, errDialed)
}

// place is where an address leads to: a name of DNS has no case, and may or may not have its last dot; an IP address has
// one value, and a port is a number.
func place(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "nowhere" // it cannot be dialed
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		port = strconv.FormatUint(n, 10)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String() + " port " + port
	}
	var lower strings.Builder
	for _, b := range []byte(host) {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		lower.WriteByte(b)
	}
	return strings.TrimSuffix(lower.String(), ".") + " port " + port
}

// FuzzKeysAndAddresses holds keys against net/http: two URLs with one key are connected to at one place by one scheme.
func FuzzKeysAndAddresses(f *testing.F) {
	for _, pair := range [][2]string{
		{"http://Example.com:080/x", "http://example.com./y?z"},
		{"https://example.com:443", "https://user@EXAMPLE.com"},
		{"https://example.com:80", "http://example.com:443"},
		{"http://[::1]:80", "http://[0:0::1]"},
		{"http://[fe80::1%25eth0]", "http://[fe80::1%25Eth0]:80"},
		{"http://192.0.2.1", "http://192.0.2.01"},
		{"http://192.0.2.1.", "http://192.0.2.1"},
		{"http://bücher.example", "http://xn--bcher-kva.example"},
		{"http://b%C3%BCcher.example", "http://BÜCHER.example"},
		{"http://example\uff0ecom", "http://example.com"},
		{"http://ß.example", "http://ss.example"},
		{"http://\u212a_x", "http://k_x"},
		{"http://a.example:65616", "http://a.example:80"},
		{"http://a..", "http://a."},
		{"http://a%2eb", "http://a.b"},
		{"http://[::ffff:192.0.2.1]", "http://192.0.2.1"},
		{"http://.", "http://.."},
		{"http://:", "http://:80"},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		u, err := url.Parse(one)
		if err != nil {
			return
		}
		v, err := url.Parse(other)
		if err != nil {
			return
		}
		key := transport.Upstream(&http.Request{URL: u})
		same := key == transport.Upstream(&http.Request{URL: v})
		address, ok := dialed(u)
		otherAddress, otherOk := dialed(v)
		if same && ok && otherOk && (u.Scheme != v.Scheme || place(address) != place(otherAddress)) {
			t.Errorf("%q and %q are both %v, and connected to at %q and %q", one, other, key, address, otherAddress)
		}
		// A key is itself an address, and leads where the URL leads; but for a port alone, where the rest has no name.
		if canonical, canonicalOk := dialed(&url.URL{Scheme: key.Scheme, Host: key.Host}); ok && key.Host != "" && (!canonicalOk || place(canonical) != place(address)) {
			t.Errorf("%q is %v, connected to at %q and %q", one, key, address, canonical)
		}
	})
}
