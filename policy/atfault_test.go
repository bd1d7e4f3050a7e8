package policy_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// Over golang.org/x/net/http2, which has words of its own for them.
func TestRequestsAtFaultAreTheirCallersWhateverTheBase(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	trusting := server.Client().Transport.(*http.Transport).TLSClientConfig
	//lint:ignore SA1019 it is what is tested: many still use it
	base := &http2.Transport{TLSClientConfig: &tls.Config{RootCAs: trusting.RootCAs}}
	//lint:ignore SA1019 as above
	defer base.CloseIdleConnections()
	withBody := func(r *http.Request, body io.Reader, length int64) {
		r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(body), length
	}
	for name, change := range map[string]func(*http.Request){
		"header name":  func(r *http.Request) { r.Header["Bad Name"] = []string{"x"} },
		"header value": func(r *http.Request) { r.Header["Name"] = []string{"a\nb"} },
		"trailer": func(r *http.Request) {
			withBody(r, strings.NewReader("x"), -1)
			r.Trailer = http.Header{"Bad Name": nil}
		},
		"trailer key": func(r *http.Request) {
			withBody(r, strings.NewReader("x"), -1)
			r.Trailer = http.Header{"Trailer": nil}
		},
		"scheme":            func(r *http.Request) { r.URL.Scheme = "gopher" },
		"plain scheme":      func(r *http.Request) { r.URL.Scheme = "http" },
		"Host header":       func(r *http.Request) { r.Host = "a\nb" },
		"port":              func(r *http.Request) { r.URL.Host = "127.0.0.1:99999" },
		"path":              func(r *http.Request) { r.URL.Opaque = "nowhere" },
		"Upgrade":           func(r *http.Request) { r.Header.Set("Upgrade", "a, b") },
		"Connection":        func(r *http.Request) { r.Header.Set("Connection", "whatever") },
		"Transfer-Encoding": func(r *http.Request) { r.Header.Set("Transfer-Encoding", "gzip") },
		":protocol":         func(r *http.Request) { r.Header[":protocol"] = []string{"websocket"} },
		"body too long":     func(r *http.Request) { withBody(r, strings.NewReader("long"), 2) },
		"stream too long":   func(r *http.Request) { withBody(r, iotest.OneByteReader(strings.NewReader("long")), 2) },
		"body that fails":   func(r *http.Request) { withBody(r, iotest.ErrReader(io.ErrUnexpectedEOF), -1) },
	} {
		t.Run(name, func(t *testing.T) {
			var ends []transport.CallEnd
			rt := transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends = append(ends, e) }}))
			for range 8 {
				req := get(t, server.URL)
				change(req)
				_, err := rt.RoundTrip(req)
				require.Error(t, err)
				require.Equal(t, policy.Ignored, ends[len(ends)-1].Outcome, "%v: %v", ends[len(ends)-1].Cause, err)
				require.Equal(t, policy.Cause{Kind: policy.KindBadRequest}, ends[len(ends)-1].Cause)
			}
			require.Len(t, ends, 8)
		})
	}
}

// remote is how quic-go repeats why an upstream closed a connection.
type remote struct{ reason string }

func (e remote) Error() string { return "Application error 0x100 (remote): " + e.reason }
func (e remote) Unwrap() error { return net.ErrClosed }

func TestAnUpstreamCannotBlameTheRequestByWords(t *testing.T) {
	for _, words := range []string{
		"http3: no Host in request URL", "http3: invalid method GET", "net/http: invalid header field", "unsupported protocol scheme",
		"http: ContentLength=1 with Body length 2", "0-RTT rejected",
	} {
		for _, err := range []error{
			remote{words},
			fmt.Errorf("http3: invalid response: %w", errors.New("invalid header field name: "+words)),
			errors.Join(errors.New("both failed"), remote{words}),
			http2.StreamError{StreamID: 1, Code: http2.ErrCodeProtocol, Cause: errors.New(words)},
		} {
			got := policy.CauseOf(&policy.Call{Request: get(t, elsewhere), Err: err})
			require.NotEqual(t, policy.KindBadRequest, got.Kind, err.Error())
		}
		wrapped := fmt.Errorf("tracing: %w", errors.New(words))
		require.Equal(t, policy.KindBadRequest, policy.CauseOf(&policy.Call{Request: get(t, elsewhere), Err: wrapped}).Kind, words)
	}
}
