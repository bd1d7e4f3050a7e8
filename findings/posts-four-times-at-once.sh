#!/usr/bin/env bash
# go-elasticsearch, as it comes, posts a request again three times for any error of its transport and for 502, 503 and 504, without a
# pause, a POST that is not idempotent too. Seen with
#   github.com/elastic/go-elasticsearch/v9 v9.5.2 (github.com/elastic/elastic-transport-go/v8 v8.9.0)
# For a circuit breaker below it, it means that one call of a program is four, and that its refusal is asked for four times: RetryOnError is
# to be set. It needs Go and a module proxy. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >main.go <<'EOF'
package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v9"
)

type base func(*http.Request) (*http.Response, error)

func (b base) RoundTrip(req *http.Request) (*http.Response, error) { return b(req) }

func main() {
	try := func(name string, answer base, opts ...elastictransport.Option) {
		posts := 0
		counted := base(func(req *http.Request) (*http.Response, error) { posts++; return answer(req) })
		client, err := elasticsearch.New(elasticsearch.WithAddresses("http://127.0.0.1:9"),
			elasticsearch.WithTransportOptions(append(opts, elastictransport.WithTransport(counted))...))
		if err != nil {
			panic(err)
		}
		start := time.Now()
		client.Bulk(strings.NewReader("{\"index\":{\"_index\":\"a\"}}\n{}\n"))
		fmt.Printf("%s: posted %d times, within 100 ms: %v\n", name, posts, time.Since(start) < 100*time.Millisecond)
	}
	fails := func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset by peer") }
	try("an error", fails)
	try("a 503", func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 503, Header: http.Header{}, Body: http.NoBody}, nil
	})
	try("an error, with RetryOnError", fails, elastictransport.WithRetryOnError(func(*http.Request, error) bool { return false }))
}
EOF
{
	go mod init finding
	go get github.com/elastic/go-elasticsearch/v9@v9.5.2 github.com/elastic/elastic-transport-go/v8@v8.9.0
	go mod tidy
} >log 2>&1 || { cat log; exit 1; }
seen=$(go run .)
expected='an error: posted 4 times, within 100 ms: true
a 503: posted 4 times, within 100 ms: true
an error, with RetryOnError: posted 1 times, within 100 ms: true'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
