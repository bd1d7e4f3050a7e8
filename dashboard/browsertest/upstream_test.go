package browsertest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/transport"
)

// world is a Transport with real upstreams on loopback under names of their own, and its dashboard.
type world struct {
	t       *testing.T
	breaker *transport.Transport
	client  *http.Client
	board   *dashboard.Dashboard
	url     string
	server  *httptest.Server
	through atomic.Pointer[func(http.Handler) http.Handler] // around the dashboard; nil for none

	mu    sync.Mutex
	addrs map[string]string
}

// upstream answers with a status after a time.
type upstream struct {
	url    string
	status atomic.Int64
	takes  atomic.Int64
}

func newWorld(t *testing.T, opts ...transport.Option) *world {
	w := &world{t: t, addrs: make(map[string]string)}
	base := &http.Transport{DialContext: w.dial, MaxIdleConnsPerHost: 16}
	t.Cleanup(base.CloseIdleConnections)
	w.look(transport.New(base, opts...))
	return w
}

// look serves the dashboard of a Transport.
func (w *world) look(breaker *transport.Transport) {
	w.breaker = breaker
	w.client = &http.Client{Transport: w.breaker, Timeout: 2 * time.Second}
	w.board = dashboard.Handler(w.breaker, dashboard.AllowActions(func(*http.Request) bool { return true }),
		dashboard.WithUser(func(*http.Request) string { return "operator" }))
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/fusebox/", func(rw http.ResponseWriter, r *http.Request) {
		if through := w.through.Load(); through != nil {
			(*through)(w.board).ServeHTTP(rw, r)
			return
		}
		w.board.ServeHTTP(rw, r)
	})
	w.server = httptest.NewServer(mux)
	w.url = w.server.URL + "/debug/fusebox/"
	w.t.Cleanup(func() {
		w.board.Close()
		w.server.CloseClientConnections()
		w.server.Close()
	})
}

func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	real, ok := w.addrs[addr]
	w.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("no upstream %s", addr)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, real)
}

func (w *world) upstream(host string) *upstream {
	u := &upstream{url: "http://" + host}
	u.status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if takes := time.Duration(u.takes.Load()); takes > 0 {
			select {
			case <-time.After(takes):
			case <-r.Context().Done():
			}
		}
		rw.WriteHeader(int(u.status.Load()))
	}))
	w.t.Cleanup(server.Close)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.addrs[host+":80"] = strings.TrimPrefix(server.URL, "http://")
	return u
}

const trace = "4bf92f3577b34da6a3ce929d0e0e4736"

// get calls n times and returns the last status, and whether it was refused.
func (w *world) get(url string, n int) (status int, refused bool) {
	w.t.Helper()
	for range n {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		require.NoError(w.t, err)
		req.Header.Set("Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
		resp, err := w.client.Do(req)
		require.NoError(w.t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		status, refused = resp.StatusCode, transport.Refused(resp)
	}
	return status, refused
}
