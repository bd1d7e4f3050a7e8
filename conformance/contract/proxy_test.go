package contract

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// proxied gives a reverse proxy to an upstream, by a wrapped base.
func proxied(t *testing.T, upstream http.HandlerFunc, wrap func(http.RoundTripper) http.RoundTripper) (proxy, server *httptest.Server) {
	server = httptest.NewServer(upstream)
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	base := new(http.Transport)
	t.Cleanup(base.CloseIdleConnections)
	proxy = httptest.NewServer(&httputil.ReverseProxy{
		Transport: wrap(base),
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(target) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, describe(err))
		},
		ErrorLog: log.New(io.Discard, "", 0),
	})
	t.Cleanup(proxy.Close)
	return proxy, server
}

func TestAWebSocketEchoesThroughAReverseProxy(t *testing.T) {
	noLeaks(t)
	for _, w := range append(wrappers, bare) {
		proxy, _ := proxied(t, socket, w.wrap)
		talk(t, proxy.Client(), proxy.URL)
	}
}

// The upstream sends the next event when the client has the last one, so one that is kept back would stop the test.
func TestEventsComeOneByOneThroughAReverseProxy(t *testing.T) {
	noLeaks(t)
	for _, w := range append(wrappers, bare) {
		next := make(chan int)
		proxy, _ := proxied(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			for i := range next {
				fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
			}
		}, w.wrap)
		resp, err := proxy.Client().Get(proxy.URL)
		require.NoError(t, err)
		lines := bufio.NewReader(resp.Body)
		for i := range 20 {
			next <- i
			line, err := lines.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, fmt.Sprintf("data: %d\n", i), line, w.name)
			_, err = lines.ReadString('\n')
			require.NoError(t, err)
		}
		close(next)
		_, err = lines.ReadByte()
		require.Equal(t, io.EOF, err)
		resp.Body.Close()
	}
}

func TestTheErrorHandlerOfAReverseProxyGetsTheBasesError(t *testing.T) {
	noLeaks(t)
	var want string
	for _, w := range append([]wrapper{bare}, wrappers...) {
		proxy, server := proxied(t, nil, w.wrap)
		server.Close()
		resp, err := proxy.Client().Get(proxy.URL)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadGateway, resp.StatusCode)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		resp.Body.Close()
		if w.name == bare.name {
			want = string(text)
			require.Contains(t, want, "connection refused")
		}
		require.Equal(t, want, string(text), w.name)
	}
}

func TestARefusalPassesAReverseProxyAsA503(t *testing.T) {
	noLeaks(t)
	calls := 0
	proxy, _ := proxied(t, func(http.ResponseWriter, *http.Request) { calls++ }, func(base http.RoundTripper) http.RoundTripper {
		rt := transport.New(base, oneCircuit, transport.WithPolicy(policy.Classic{}))
		rt.SetState(transport.Key{}, policy.Open)
		return rt
	})
	resp, err := proxy.Client().Get(proxy.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.NotEmpty(t, resp.Header.Get("Retry-After"))
	require.Contains(t, string(text), "fusebox: circuit open")
	require.False(t, transport.Refused(resp), "it came over a network")
	require.Zero(t, calls)
}
