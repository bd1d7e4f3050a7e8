package recipes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

// serveHTTP3 answers over HTTP/3 as a server answers, at its address.
func serveHTTP3(t *testing.T, server *upstream) (url string, tlsConfig *tls.Config) {
	secure := httptest.NewUnstartedServer(nil)
	secure.StartTLS()
	secure.Close()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	over := &http3.Server{
		Handler: server.Config.Handler, Logger: slog.New(slog.DiscardHandler),
		TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: secure.TLS.Certificates}),
	}
	go over.Serve(conn)
	t.Cleanup(func() { over.Close(); conn.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	return "https://" + conn.LocalAddr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com"}
}

func TestHTTP3(t *testing.T) {
	server := newTextUpstream(t)
	url, tlsConfig := serveHTTP3(t, server)

	// recipe: http3
	base := &http3.Transport{
		TLSClientConfig: tlsConfig,
		QUICConfig: &quic.Config{
			HandshakeIdleTimeout: 2 * time.Second,  // a port at which nobody listens does not refuse: it is silent
			MaxIdleTimeout:       10 * time.Second, // so is an upstream that was killed
		},
	}
	defer base.Close()
	breaker := transport.New(base)
	client := &http.Client{Transport: breaker, Timeout: 10 * time.Second}
	// end

	untilRefused(t, breaker, server, func() bool {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
		require.NoError(t, err)
		resp, err := client.Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		if !transport.Refused(resp) {
			require.Equal(t, 3, resp.ProtoMajor)
			return false
		}
		sees(t, "http3", resp.Status+"\nRetry-After: "+resp.Header.Get("Retry-After")+"\n\n"+string(text))
		return true
	})
}
