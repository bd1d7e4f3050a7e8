#!/usr/bin/env bash
# net/http takes 200 for a yes to CONNECT, and no other answer of 2xx; neither does it wait for the final answer after an interim one.
# The error is the text of the status, such as "No Content" or "Early Hints". Seen with
#   Go 1.26.8
# RFC 9110, section 9.3.6: any 2xx (Successful) response indicates that the sender switches to tunnel mode; section 15.2: a client must
# be able to parse 1xx responses before a final one, even if it does not expect one. curl 7.88 takes any 2xx.
# For a circuit breaker it means an error that no upstream has caused, whose text says nothing of a proxy.
# It needs Go, which loads that version. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export GOTOOLCHAIN=go1.26.8
cat >main.go <<'END'
package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
)

// tunnel answers CONNECT with a text, and then is a tunnel.
func tunnel(conn net.Conn, answer string) {
	defer conn.Close()
	reader := bufio.NewReader(conn)
	req, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	upstream, err := net.Dial("tcp", req.Host)
	if err != nil {
		panic(err)
	}
	defer upstream.Close()
	io.WriteString(conn, answer)
	go io.Copy(upstream, reader)
	io.Copy(conn, upstream)
}

func main() {
	log.SetOutput(io.Discard)
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 201 Created\r\n\r\n",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go tunnel(conn, answer)
			}
		}()
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()}),
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
		if resp, err := client.Get(upstream.URL); err != nil {
			fmt.Printf("%q: error %q\n", answer, err.(*url.Error).Err)
		} else {
			resp.Body.Close()
			fmt.Printf("%q: %s\n", answer, resp.Status)
		}
		l.Close()
	}
}
END
go mod init finding >log 2>&1 || { cat log; exit 1; }
seen=$(go run .)
expected='"HTTP/1.1 200 OK\r\n\r\n": 200 OK
"HTTP/1.1 201 Created\r\n\r\n": error "Created"
"HTTP/1.1 204 No Content\r\n\r\n": error "No Content"
"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n": error "Early Hints"'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
