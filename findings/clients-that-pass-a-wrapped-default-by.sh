#!/usr/bin/env bash
# http.DefaultTransport may be any http.RoundTripper, and one that wraps the usual one is how a process has all its calls traced,
# limited or broken off. Clients that were told of no transport, called after that:
#   github.com/elastic/go-elasticsearch/v8 v8.19.7 is not made at all: an error
#   github.com/minio/minio-go/v7 v7.0.95 and github.com/hashicorp/consul/api v1.32.0 go past the wrapper without a word
# beside
#   github.com/opensearch-project/opensearch-go/v4 v4.5.0, whose calls go through it
# For a circuit breaker it means that the upstreams of some libraries have no circuit, and nothing says so.
# It needs Go and a module proxy. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >main.go <<'EOF'
package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"

	"github.com/elastic/go-elasticsearch/v8"
	consul "github.com/hashicorp/consul/api"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/opensearch-project/opensearch-go/v4"
	"github.com/opensearch-project/opensearch-go/v4/opensearchapi"
)

type counting struct {
	base  http.RoundTripper
	calls int
}

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	c.calls++
	return c.base.RoundTrip(req)
}

func main() {
	reached := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached++
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{}`)
	}))
	defer server.Close()
	at, _ := url.Parse(server.URL)
	wrapper := &counting{base: http.DefaultTransport}
	http.DefaultTransport = wrapper
	say := func(name string, err error) {
		fmt.Printf("%s: error %v, reached the server %v, through http.DefaultTransport %v\n", name, err, reached > 0, wrapper.calls > 0)
		reached, wrapper.calls = 0, 0
	}

	_, err := elasticsearch.NewClient(elasticsearch.Config{Addresses: []string{server.URL}})
	say("elasticsearch", err)

	store, err := minio.New(at.Host, &minio.Options{Creds: credentials.NewStaticV4("a", "b", ""), Region: "x"})
	if err != nil {
		panic(err)
	}
	store.BucketExists(context.Background(), "bucket")
	say("minio", nil)

	client, err := consul.NewClient(&consul.Config{Address: at.Host})
	if err != nil {
		panic(err)
	}
	client.Catalog().Services(nil)
	say("consul", nil)

	search, err := opensearchapi.NewClient(opensearchapi.Config{Client: opensearch.Config{Addresses: []string{server.URL}}})
	if err != nil {
		panic(err)
	}
	search.Info(context.Background(), nil)
	say("opensearch", nil)
}
EOF
{
	go mod init finding && go get github.com/elastic/go-elasticsearch/v8@v8.19.7 github.com/minio/minio-go/v7@v7.0.95 \
		github.com/hashicorp/consul/api@v1.32.0 github.com/opensearch-project/opensearch-go/v4@v4.5.0 && go mod tidy
} >log 2>&1 || { cat log; exit 1; }
seen=$(go run .)
expected='elasticsearch: error error creating transport: cannot clone http.DefaultTransport, reached the server false, through http.DefaultTransport false
minio: error <nil>, reached the server true, through http.DefaultTransport false
consul: error <nil>, reached the server true, through http.DefaultTransport false
opensearch: error <nil>, reached the server true, through http.DefaultTransport true'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
