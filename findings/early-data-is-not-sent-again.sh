#!/usr/bin/env bash
# A GET in early data (0-RTT) that the server does not take, as it must not after a restart without its old keys, fails with "0-RTT
# rejected". Nothing of it was processed, the server is well and the handshake goes on, but http3's Transport does not send it again: its
# caller has to. Seen with
#   github.com/quic-go/quic-go v0.65.0
# For a circuit breaker it means an error that comes from an upstream that is there. Whether the client has learned of the rejection before
# it sends is chance, so the program restarts the server until that has happened, up to 200 times.
# It needs Go and a module proxy, and UDP on loopback. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >main.go <<'EOF'
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func main() {
	borrowed := httptest.NewUnstartedServer(nil)
	borrowed.StartTLS()
	borrowed.Close()
	roots := x509.NewCertPool()
	roots.AddCert(borrowed.Certificate())
	rejected, handled, later := 0, 0, 0
	for try := 0; try < 200 && rejected == 0; try++ {
		early := 0
		serve := func(port int) (*net.UDPConn, func()) {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
			if err != nil {
				panic(err)
			}
			server := &http3.Server{
				Logger: slog.New(slog.DiscardHandler),
				Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					early++
					io.WriteString(w, "ok")
				}),
				TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: borrowed.TLS.Certificates}),
			}
			done := make(chan struct{})
			go func() { server.Serve(conn); close(done) }()
			return conn, func() { server.Close(); conn.Close(); <-done }
		}
		conn, stop := serve(0)
		port := conn.LocalAddr().(*net.UDPAddr).Port
		rt := &http3.Transport{TLSClientConfig: &tls.Config{
			RootCAs: roots, ServerName: "example.com", ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}}
		get := func(method string) error {
			req, err := http.NewRequest(method, fmt.Sprintf("https://127.0.0.1:%d", port), nil)
			if err != nil {
				panic(err)
			}
			resp, err := rt.RoundTrip(req)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			return err
		}
		if err := get(http.MethodGet); err != nil {
			panic(err)
		}
		rt.CloseIdleConnections()
		stop()
		_, stop = serve(port) // it is another, with keys of its own
		before := early
		if err := get(http3.MethodGet0RTT); errors.Is(err, quic.Err0RTTRejected) {
			rejected++
			handled += early - before
			for range 5 {
				if get(http.MethodGet) == nil {
					later++
					break
				}
			}
		} else if err != nil {
			panic(err)
		}
		rt.Close()
		stop()
	}
	fmt.Println("a GET in early data failed by 0-RTT rejected:", rejected > 0)
	fmt.Println("the server's handler had seen it:", handled > 0)
	fmt.Println("the server answered a plain GET afterwards:", later > 0)
}
EOF
{
	go mod init finding
	go get github.com/quic-go/quic-go@v0.65.0
	go mod tidy
} >log 2>&1 || { cat log; exit 1; }
seen=$(go run . 2>/dev/null)
expected="a GET in early data failed by 0-RTT rejected: true
the server's handler had seen it: false
the server answered a plain GET afterwards: true"
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
