#!/usr/bin/env bash
# RoundTrippers that wrap an http.Transport and have no CloseIdleConnections: http.Client.CloseIdleConnections then does nothing,
# without an error, and dead connections in the pool below stay where they are. Seen with
#   go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp v0.72.0
#   github.com/hashicorp/go-retryablehttp v0.7.8
#   github.com/failsafe-go/failsafe-go/failsafehttp v0.9.8
# For a circuit breaker above them it means that a probe cannot be given a new connection by closing the old ones.
# It needs Go and a module proxy. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >main.go <<'EOF'
package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"

	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"github.com/hashicorp/go-retryablehttp"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
)

func main() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	defer server.Close()
	try := func(name string, rt http.RoundTripper) {
		client := &http.Client{Transport: rt}
		reused := false
		get := func() {
			req, err := http.NewRequest(http.MethodGet, server.URL, nil)
			if err != nil {
				panic(err)
			}
			trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }}
			resp, err := client.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
			if err != nil {
				panic(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		get()
		client.CloseIdleConnections()
		get()
		fmt.Printf("%s: used again after CloseIdleConnections: %v\n", name, reused)
	}
	try("http.Transport", &http.Transport{})
	try("otelhttp", otelhttp.NewTransport(&http.Transport{}))
	retrying := retryablehttp.NewClient()
	retrying.Logger = nil
	try("retryablehttp", &retryablehttp.RoundTripper{Client: retrying})
	try("failsafehttp", failsafehttp.NewRoundTripper(&http.Transport{}, retrypolicy.NewWithDefaults[*http.Response]()))
}
EOF
{
	go mod init finding
	go get go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp@v0.72.0 github.com/hashicorp/go-retryablehttp@v0.7.8 \
		github.com/failsafe-go/failsafe-go@v0.9.8
	go mod tidy
} >log 2>&1 || { cat log; exit 1; }
seen=$(go run .)
expected='http.Transport: used again after CloseIdleConnections: false
otelhttp: used again after CloseIdleConnections: true
retryablehttp: used again after CloseIdleConnections: true
failsafehttp: used again after CloseIdleConnections: true'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
