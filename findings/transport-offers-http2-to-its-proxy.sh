#!/usr/bin/env bash
# net/http offers HTTP/2 to a forward proxy behind TLS, and cannot speak it there. If the proxy takes the offer, no call through it is
# well: over https the CONNECT is sent as HTTP/1.1 all the same, over http nothing is. Seen with
#   Go 1.26.8, http.DefaultTransport's settings (ForceAttemptHTTP2), and its own http.Server as the proxy
# It is known since 2018 (golang/go issue 26479). For a circuit breaker it means that the error, whose text says nothing of a proxy,
# looks like one of every upstream. What helps: a transport for the proxy without ForceAttemptHTTP2 that has a TLSClientConfig.
# It needs Go, which loads that version. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export GOTOOLCHAIN=go1.26.8
cat >main.go <<'END'
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
)

func proxy(w http.ResponseWriter, req *http.Request) {
	if req.Method != http.MethodConnect {
		io.WriteString(w, "through the proxy")
		return
	}
	upstream, err := net.Dial("tcp", req.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer upstream.Close()
	conn, both, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	go io.Copy(upstream, both)
	io.Copy(conn, upstream)
}

func main() {
	log.SetOutput(io.Discard)
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	for _, takes := range []bool{false, true} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(proxy))
		server.EnableHTTP2 = takes
		server.Config.ErrorLog = log.Default()
		server.StartTLS()
		at, err := url.Parse(server.URL)
		if err != nil {
			panic(err)
		}
		for _, offers := range []bool{false, true} {
			for _, target := range []string{upstream.URL, "http://upstream.test/"} {
				client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at), ForceAttemptHTTP2: offers,
					TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
				to, err := url.Parse(target)
				if err != nil {
					panic(err)
				}
				said := ""
				if resp, err := client.Get(target); err != nil {
					said = err.(*url.Error).Err.Error()
					if said == "unexpected EOF" || strings.HasPrefix(said, "malformed HTTP response ") { // chance has it
						said = "unexpected EOF or malformed HTTP response"
					}
				} else {
					said = resp.Status
					resp.Body.Close()
				}
				client.CloseIdleConnections()
				fmt.Printf("the transport offers HTTP/2 %v, the proxy takes it %v, %s: %s\n", offers, takes, to.Scheme, said)
			}
		}
		server.Close()
	}
}
END
go mod init finding >log 2>&1 || { cat log; exit 1; }
seen=$(go run .)
expected='the transport offers HTTP/2 false, the proxy takes it false, https: 200 OK
the transport offers HTTP/2 false, the proxy takes it false, http: 200 OK
the transport offers HTTP/2 true, the proxy takes it false, https: 200 OK
the transport offers HTTP/2 true, the proxy takes it false, http: 200 OK
the transport offers HTTP/2 false, the proxy takes it true, https: 200 OK
the transport offers HTTP/2 false, the proxy takes it true, http: 200 OK
the transport offers HTTP/2 true, the proxy takes it true, https: unexpected EOF or malformed HTTP response
the transport offers HTTP/2 true, the proxy takes it true, http: http2: unencrypted HTTP/2 not enabled'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
