package fusebox_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/transport"
)

// TestAPartInTroubleIsSeenByItsName has one of ten paths fail, by a real server and client.
func TestAPartInTroubleIsSeenByItsName(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/users/17/orders" {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer server.Close()
	var log bytes.Buffer
	rt := transport.New(nil, transport.WithObserver(logs.Observer(slog.New(slog.NewTextHandler(&log, nil)))))
	page := dashboard.Handler(rt)
	defer page.Close()
	client := &http.Client{Transport: rt}
	for range 6 {
		for _, path := range []string{"/", "/a", "/b", "/c", "/d", "/e", "/f", "/users/17", "/g", "/users/17/orders"} {
			get(t, client, server.URL+path+"?page=2")
		}
	}
	name := server.URL + " GET /users/*/orders"
	require.Contains(t, log.String(), `msg="circuit open" key="`+name+`" from=closed to=open reason=tripped`)
	require.Contains(t, log.String(), `cause="status 502" why="failures weigh 4 (bound 4), and of the rest 0 of 27 calls failed"`)
	require.Contains(t, log.String(), `msg="requests refused" key="`+name+`"`)
	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api", nil))
	require.Contains(t, w.Body.String(), `{"key":"`+name+`","part":true,"state":"open"`)
	require.Contains(t, w.Body.String(), `{"key":"`+server.URL+`","state":"closed"`)
}
