package contract

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// socket is a WebSocket server that gives back what it gets.
func socket(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		return
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 18)
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			return
		}
		if err := conn.Write(r.Context(), kind, message); err != nil {
			return
		}
	}
}

// talk opens a WebSocket, has messages given back, and closes it as it should be.
func talk(t *testing.T, client *http.Client, url string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"echo"}})
	require.NoError(t, err)
	defer conn.CloseNow()
	require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
	require.Equal(t, "echo", conn.Subprotocol())
	conn.SetReadLimit(1 << 18)
	for _, size := range []int{0, 5, 1 << 17} {
		message := strings.Repeat("x", size)
		wrote := make(chan error, 1)
		go func() { wrote <- conn.Write(ctx, websocket.MessageText, []byte(message)) }()
		_, got, err := conn.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, message, string(got))
		require.NoError(t, <-wrote)
	}
	require.NoError(t, conn.Close(websocket.StatusNormalClosure, "bye"))
}

func TestAWebSocketEchoes(t *testing.T) {
	noLeaks(t)
	for _, start := range []func(http.Handler) *httptest.Server{httptest.NewServer, httptest.NewTLSServer} {
		server := start(http.HandlerFunc(socket))
		t.Cleanup(server.Close)
		for _, w := range append(wrappers, bare) {
			base := server.Client().Transport.(*http.Transport).Clone()
			talk(t, &http.Client{Transport: w.wrap(base)}, server.URL)
			base.CloseIdleConnections()
		}
	}
}

func TestARefusedWebSocketSaysSo(t *testing.T) {
	noLeaks(t)
	_, resp, err := websocket.Dial(t.Context(), "ws://upstream.test", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: refusing(http.DefaultTransport)},
	})
	require.ErrorContains(t, err, "503")
	require.True(t, transport.Refused(resp))
}

// A connection that has switched protocols is the caller's for as long as it likes, and holds no place of a circuit.
func TestAnUpgradedConnectionIsDuplexAndHoldsNoPlace(t *testing.T) {
	noLeaks(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		// The first bytes of the new protocol come along with the headers.
		io.WriteString(conn, lines("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: upper", "", "ready\n"))
		for {
			line, err := rw.ReadString('\n')
			if err != nil {
				return
			}
			io.WriteString(conn, strings.ToUpper(line))
		}
	}))
	defer server.Close()
	base := server.Client().Transport.(*http.Transport)
	tripped := halfOpen(base, policy.Classic{})
	for _, rt := range []http.RoundTripper{base, transport.New(base), tripped} {
		req := newRequest(t, http.MethodGet, server.URL)
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "upper")
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, "101 Switching Protocols", resp.Status)
		require.Equal(t, "upper", resp.Header.Get("Upgrade"))
		require.Same(t, req, resp.Request)
		duplex, ok := resp.Body.(io.ReadWriteCloser)
		require.True(t, ok)
		reader := bufio.NewReader(duplex)
		for _, line := range []string{"ready\n", "ONE\n", "TWO\n"} {
			got, err := reader.ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, line, got)
			io.WriteString(duplex, map[string]string{"ready\n": "one\n", "ONE\n": "two\n", "TWO\n": ""}[line])
		}
		if rt == tripped {
			require.Equal(t, policy.Closed, circuitOf(t, tripped).State, "its headers have settled it")
			resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, server.URL))
			require.NoError(t, err)
			resp.Body.Close()
		}
		require.NoError(t, duplex.Close())
		_, err = duplex.Read(make([]byte, 1))
		require.Error(t, err)
	}
	base.CloseIdleConnections()
}
