package recipes

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

func TestReverseProxy(t *testing.T) {
	server := newTextUpstream(t)
	target, err := url.Parse(server.URL)
	require.NoError(t, err)

	// recipe: reverse-proxy
	breaker := transport.New(nil, transport.WithRefusal(transport.Discreet)) // the default text names the upstream
	proxy := &httputil.ReverseProxy{
		Transport: breaker,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		ModifyResponse: func(resp *http.Response) error {
			if transport.Refused(resp) {
				resp.Header.Del("X-Fusebox") // the place to count it, too
			}
			return nil
		},
	}
	// end

	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	untilRefused(t, breaker, server, func() bool {
		resp, err := front.Client().Get(front.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NotContains(t, resp.Header, "X-Fusebox")
		require.False(t, transport.Refused(resp), "the mark does not pass a network")
		if !strings.HasSuffix(string(body), "try again later\n") {
			return false
		}
		sees(t, "reverse-proxy", resp.Status+"\nRetry-After: "+resp.Header.Get("Retry-After")+"\n\n"+string(body))
		return true
	})
}
