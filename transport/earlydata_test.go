package transport_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// quic-go's http3 sends a request with one of these methods as a GET or a HEAD in the first flight.
func TestGETAndHEADInEarlyDataAreGETAndHEAD(t *testing.T) {
	for early, method := range map[string]string{"GET_0RTT": http.MethodGet, "HEAD_0RTT": http.MethodHead} {
		t.Run(early, func(t *testing.T) {
			as := func(method string) *http.Request {
				return newRequest(t, method, t.Context())
			}
			route := transport.PerRoute("GET /", "HEAD /{$}")
			require.Equal(t, route(as(method)), route(as(early)))
			require.NotEmpty(t, route(as(early)).Detail)

			for name, refusal := range map[string]transport.RefusalFunc{"default": nil, "own": transport.Response(503, nil, "sorry")} {
				var opts []transport.Option
				if refusal != nil {
					opts = append(opts, transport.WithRefusal(refusal))
				}
				rt := transport.New(answer(200, ""), opts...)
				rt.Force("*", policy.Open)
				bodies := map[string]string{}
				for _, m := range []string{method, early} {
					resp, err := rt.RoundTrip(as(m))
					require.NoError(t, err)
					read, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					bodies[m] = string(read)
				}
				require.Equal(t, bodies[method], bodies[early], name)
				require.Equal(t, method == http.MethodHead, bodies[early] == "", name)
			}

			// The answer to a HEAD ends with its headers, whatever length they speak of.
			var ended bool
			rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
				return &http.Response{
					StatusCode: 200, Header: http.Header{}, Request: req, ContentLength: 100, Body: io.NopCloser(strings.NewReader("")),
				}, nil
			}), transport.WithObserver(transport.Observer{OnOutcome: func(transport.CallEnd) { ended = true }}))
			_, err := rt.RoundTrip(as(early))
			require.NoError(t, err)
			require.Equal(t, method == http.MethodHead, ended)
		})
	}
}
