package fuseboxprom_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// TestFailuresHaveTheClassOfWhatHappened has real servers on loopback, and faults of real connections.
func TestFailuresHaveTheClassOfWhatHappened(t *testing.T) {
	plain := func(handle http.HandlerFunc) func(*testing.T) string {
		return func(t *testing.T) string {
			server := httptest.NewServer(handle)
			t.Cleanup(server.Close)
			return server.URL
		}
	}
	release := make(chan struct{})
	for _, c := range []struct {
		class, reason string

		serve func(*testing.T) (url string)
		opts  []transport.Option
	}{
		{class: "5xx", serve: plain(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })},
		{class: "judged", reason: "status 429", serve: plain(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }),
			opts: []transport.Option{transport.WithClassifier(policy.OnStatus(policy.Failure, http.StatusTooManyRequests))}},
		{class: "refused", serve: func(t *testing.T) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			l.Close()
			return "http://" + l.Addr().String()
		}},
		{class: "reset", serve: plain(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		})},
		{class: "body", serve: plain(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "ten bytes.")
		})},
		{class: "timeout", serve: plain(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		})},
		{class: "tls", serve: func(t *testing.T) string {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Config.ErrorLog = nil
			server.StartTLS()
			t.Cleanup(server.Close)
			return server.URL
		}},
		{class: "dns", serve: func(*testing.T) string { return "http://upstream.invalid" }},
	} {
		t.Run(c.class, func(t *testing.T) {
			url := c.serve(t)
			s := newSite(t, nil)
			s.registry.Unregister(s.collector)
			base := &http.Transport{DialContext: (&net.Dialer{Resolver: noHosts}).DialContext}
			s.rt = transport.New(base, append([]transport.Option{classic}, c.opts...)...)
			t.Cleanup(s.rt.CloseIdleConnections)
			s.collect()
			client := &http.Client{Transport: s.rt}
			if c.class == "timeout" {
				client.Timeout = 50 * time.Millisecond
			}
			if resp, err := client.Get(url); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			require.Equal(t, 1.0, s.scrape()[`failures_total{class="`+c.class+`",key="`+url+`",reason="`+c.reason+`"}`])
		})
	}
	close(release)
}

// noHosts is a resolver whose server knows no host: it is a real one on loopback, and says so.
var noHosts = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer theirs.Close()
		query := make([]byte, 1024)
		n, err := theirs.Read(query)
		if err != nil {
			return
		}
		answer := query[:n]
		answer[4], answer[5] = answer[4]|0x81, answer[5]|0x83 // after the length: a response, and no such name
		theirs.Write(answer)
	}()
	return ours, nil
}}
