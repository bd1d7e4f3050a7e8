package recipes

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v9"
	"github.com/gorilla/rpc/v2/json2"
	"github.com/machinebox/graphql"
	"github.com/stretchr/testify/require"
	"github.com/twitchtv/twirp"
	"github.com/twitchtv/twirp/example"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

type none = connect.Request[emptypb.Empty]

func TestConnect(t *testing.T) {
	const path = "/test.Service/Do"
	handler := func(err error) http.HandlerFunc {
		return connect.NewUnaryHandler(path, func(context.Context, *none) (*connect.Response[emptypb.Empty], error) {
			return connect.NewResponse(&emptypb.Empty{}), err
		}).ServeHTTP
	}
	for name, opts := range map[string][]connect.ClientOption{"connect": nil, "gRPC-Web": {connect.WithGRPCWeb()}} {
		server := newUpstream(t, handler(nil), handler(connect.NewError(connect.CodeUnavailable, errors.New("no backend"))))

		// recipe: connect
		breaker := transport.New(nil,
			transport.WithClassifier(policy.GRPC()),         // codes are in trailers, or in the last bytes of a body
			transport.WithRefusal(transport.RPCUnavailable), // in the protocol of the request
		)
		client := &http.Client{Transport: breaker}
		refused := func(err error) bool {
			var failed *connect.Error
			return errors.As(err, &failed) && transport.Refused(&http.Response{Header: failed.Meta()})
		}
		// end

		api := connect.NewClient[emptypb.Empty, emptypb.Empty](client, server.URL+path, opts...)
		untilRefused(t, breaker, server, func() bool {
			_, err := api.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
			require.Equal(t, server.down.Load(), err != nil)
			if !refused(err) {
				return false
			}
			require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err))
			if name == "gRPC-Web" {
				sees(t, "connect", err.Error())
			}
			return true
		})
	}
}

type hats struct{ err error }

func (h hats) MakeHat(context.Context, *example.Size) (*example.Hat, error) {
	return &example.Hat{}, h.err
}

func TestTwirp(t *testing.T) {
	server := newUpstream(t, example.NewHaberdasherServer(hats{}).ServeHTTP,
		example.NewHaberdasherServer(hats{twirp.NewError(twirp.DeadlineExceeded, "no backend in time")}).ServeHTTP) // a 408

	// recipe: twirp
	breaker := transport.New(nil, transport.WithClassifier(policy.Twirp()), transport.WithRefusalError())
	client := &http.Client{Transport: breaker}
	// end

	api := example.NewHaberdasherProtobufClient(server.URL, client)
	untilRefused(t, breaker, server, func() bool {
		_, err := api.MakeHat(t.Context(), &example.Size{})
		require.Equal(t, server.down.Load(), err != nil)
		if !isRefused(err) {
			return false
		}
		sees(t, "twirp", err.Error())
		return true
	})
}

const (
	stored    = `{"errors":false,"took":1,"items":[{"index":{"_index":"a","status":201}}]}`
	notStored = `{"errors":true,"took":1,"items":[{"index":{"_index":"a","status":503,"error":{"type":"unavailable_shards_exception"}}}]}`
)

// ofElastic adds what go-elasticsearch looks for.
func ofElastic(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Elastic-Product", "Elasticsearch")
		h(w, r)
	}
}

func postBulk(api *elasticsearch.Client) error {
	resp, err := api.Bulk(strings.NewReader("{\"index\":{\"_index\":\"a\"}}\n{}\n"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = new(bytes.Buffer).ReadFrom(resp.Body)
	return err
}

func TestElasticsearch(t *testing.T) {
	server := newUpstream(t, ofElastic(answer(http.StatusOK, "application/json", stored)), ofElastic(answer(http.StatusOK, "application/json", notStored)))
	url := server.URL

	// recipe: elasticsearch
	breaker := transport.New(nil, transport.WithClassifier(policy.ElasticBulk()), transport.WithRefusalError())
	client, err := elasticsearch.New(elasticsearch.WithAddresses(url), elasticsearch.WithTransportOptions(
		elastictransport.WithTransport(breaker),
		elastictransport.WithRetryOnError(func(_ *http.Request, err error) bool { // without it every error is posted again three times, at once
			return !errors.Is(err, transport.ErrOpen) && !errors.Is(err, transport.ErrLimit)
		}),
	))
	if err != nil {
		t.Fatal(err)
	}
	// end

	untilRefused(t, breaker, server, func() bool {
		err := postBulk(client)
		if !isRefused(err) {
			require.NoError(t, err)
			return false
		}
		sees(t, "elasticsearch", err.Error())
		return true
	})
}

// What the page says of its own rules, and of the older way to set it up.
func TestElasticsearchPostsARefusalFourTimes(t *testing.T) {
	for name, options := range map[string][]transport.Option{"a response": nil, "an error": {transport.WithRefusalError()}} {
		breaker := transport.New(nil, options...)
		breaker.Force("*", policy.Open)
		refusals := 0
		breaker.Observe(transport.Observer{OnRefusal: func(transport.RefusalEvent) { refusals++ }})
		//lint:ignore SA1019 it is what most programs have
		cfg := elasticsearch.Config{Addresses: []string{"http://upstream.test"}, Transport: breaker}
		//lint:ignore SA1019 the same
		api, err := elasticsearch.NewClient(cfg)
		require.NoError(t, err)
		err = postBulk(api)
		require.Equal(t, name == "an error", err != nil)
		require.Equal(t, 4, refusals, name)

		cfg.RetryOnError = func(_ *http.Request, err error) bool { return !errors.Is(err, transport.ErrOpen) }
		//lint:ignore SA1019 the same
		api, err = elasticsearch.NewClient(cfg)
		require.NoError(t, err)
		refusals = 0
		err = postBulk(api)
		require.Equal(t, name == "an error", err != nil)
		require.Equal(t, map[bool]int{true: 1, false: 4}[err != nil], refusals, name)
	}
}

func TestJSONRPC(t *testing.T) {
	server := newUpstream(t, answer(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"result":7}`),
		answer(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no backend"}}`))

	// recipe: json-rpc
	breaker := transport.New(nil, transport.WithClassifier(policy.JSONRPC()), transport.WithRefusalError())
	client := &http.Client{Transport: breaker}
	// end

	untilRefused(t, breaker, server, func() bool {
		body, err := json2.EncodeClientRequest("Service.Do", nil)
		require.NoError(t, err)
		resp, err := client.Post(server.URL, "application/json", bytes.NewReader(body))
		if isRefused(err) {
			sees(t, "json-rpc", err.Error())
			return true
		}
		require.NoError(t, err)
		defer resp.Body.Close()
		var reply int
		require.Equal(t, server.down.Load(), json2.DecodeClientResponse(resp.Body, &reply) != nil)
		return false
	})
}

func TestGraphQL(t *testing.T) {
	server := newUpstream(t, answer(http.StatusOK, "application/json", `{"data":{"well":"yes"}}`),
		answer(http.StatusOK, "application/json", `{"data":null,"errors":[{"message":"no backend","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`))

	// recipe: graphql
	breaker := transport.New(nil, transport.WithClassifier(policy.GraphQL()), transport.WithRefusalError())
	client := &http.Client{Transport: breaker}
	// end

	api := graphql.NewClient(server.URL, graphql.WithHTTPClient(client))
	untilRefused(t, breaker, server, func() bool {
		var reply any
		err := api.Run(t.Context(), graphql.NewRequest("{ well }"), &reply)
		require.Equal(t, server.down.Load(), err != nil)
		if !isRefused(err) {
			return false
		}
		sees(t, "graphql", err.Error())
		return true
	})
}
