package transport_test

import (
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What is a function can be called by anybody, in a test of theirs above all, and with as little as its type lets them.
func TestARefusalCanBeMadeOfNothing(t *testing.T) {
	header := http.Header{"Content-Type": {"application/json"}}
	for name, refuse := range map[string]transport.RefusalFunc{
		"no body": transport.Response(503, nil, ""), "body": transport.Response(503, nil, "no"), "JSON": transport.Response(429, header, ""),
		"no content": transport.Response(204, nil, ""), "RPC": transport.RPCUnavailable, "discreet": transport.Discreet,
	} {
		for _, e := range []*transport.RefusedError{nil, {}} {
			for _, req := range []*http.Request{
				nil, {}, {Method: http.MethodHead}, {URL: new(url.URL)}, {Header: http.Header{"Content-Type": {"application/grpc"}}},
				{Header: http.Header{"Content-Type": {"application/connect+json"}}}, {Header: http.Header{"Connect-Protocol-Version": {"1"}}},
			} {
				resp, err := refuse(req, e)
				require.NoError(t, err, name)
				require.NotNil(t, resp.Header, name)
				text, err := io.ReadAll(resp.Body)
				require.NoError(t, err, name)
				require.NotContains(t, string(text), "<nil>", name)
			}
		}
	}
}

func TestAKeyCanBeAskedForOfNothing(t *testing.T) {
	for name, keyOf := range map[string]transport.KeyFunc{
		"upstream": transport.Upstream, "route": transport.PerRoute("GET /"), "no route": transport.PerRoute(),
	} {
		for _, req := range []*http.Request{nil, {}, {Header: http.Header{}}} {
			require.Equal(t, transport.Key{}, keyOf(req), name)
		}
		require.Empty(t, keyOf(&http.Request{URL: new(url.URL)}).Host, name)
	}
}

func TestADiscreetRefusalNamesNeitherTheUpstreamNorWhatFailed(t *testing.T) {
	rt := transport.New(answer(500, ""), transport.WithRefusal(transport.Discreet), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute}))
	because(t, rt)
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		resp, err := rt.RoundTrip(newRequest(t, method, t.Context()))
		require.NoError(t, err)
		require.Equal(t, policy.RefusedOpen, transport.RefusedBecause(resp))
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "60", resp.Header.Get("Retry-After"))
		text, err := httputil.DumpResponse(resp, true)
		require.NoError(t, err)
		for _, secret := range []string{here.Host, "500", "status"} {
			require.NotContains(t, strings.ToLower(string(text)), secret)
		}
	}
}

func TestZeroValuesHaveTheirText(t *testing.T) {
	require.NotEmpty(t, new(transport.RefusedError).Error())
	require.False(t, new(transport.RefusedError).Is(transport.ErrLimit))
	require.False(t, new(transport.RefusedError).RetryableError())
	require.Equal(t, "://", transport.Key{}.String())
	require.NotEmpty(t, transport.StateChange{}.String())
	require.False(t, transport.Refused(nil))
	require.False(t, transport.Refused(new(http.Response)))
}
