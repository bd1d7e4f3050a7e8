package rpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	connect2 "connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What is true of connect is true of its second version, which has another API and other defaults.

var (
	check2 = connect2.Spec{Procedure: checkPath, StreamType: connect2.StreamTypeUnary, IdempotencyLevel: connect2.IdempotencyNoSideEffects}
	watch2 = connect2.Spec{Procedure: watchPath, StreamType: connect2.StreamTypeServer}
)

// connect2Server speaks all three protocols.
func connect2Server(t *testing.T, opts ...connecthttp.Option) string {
	serve := func(_ context.Context, spec connect2.Spec, stream connect2.ServerStream) error {
		var r health.HealthCheckRequest
		if err := stream.Receive(&r); err != nil {
			return err
		}
		code, messages := planned(&r)
		if code == 0 && spec.StreamType == connect2.StreamTypeUnary {
			messages = 1
		}
		for range messages {
			if err := stream.Send(&health.HealthCheckResponse{Status: 1}); err != nil {
				return err
			}
		}
		if code != 0 {
			return connect2.NewError(connect2.Code(code), reason)
		}
		return nil
	}
	of := connect2.NewServer()
	of.Register(connect2.Method{Spec: check2, Handler: serve}, connect2.Method{Spec: watch2, Handler: serve})
	mux := http.NewServeMux()
	connecthttp.Mount(mux, of, opts...)
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

type protocol2 struct {
	name string
	base func(*testing.T) *http.Transport
	opts []connecthttp.Option
	url  func(t *testing.T) string
}

var protocols2 = []protocol2{
	{"gRPC, of grpc-go", http2, []connecthttp.Option{connecthttp.WithGRPC()}, grpcServer},
	{"gRPC", http2, []connecthttp.Option{connecthttp.WithGRPC()}, func(t *testing.T) string { return connect2Server(t) }},
	{"gRPC-Web", http2, []connecthttp.Option{connecthttp.WithGRPCWeb()}, func(t *testing.T) string { return connect2Server(t) }},
	{"gRPC-Web over HTTP/1.1, not compressed", overHTTP1, []connecthttp.Option{connecthttp.WithGRPCWeb()},
		func(t *testing.T) string { return connect2Server(t, connecthttp.WithCompressMinBytes(1<<20)) }},
	{"connect", http2, nil, func(t *testing.T) string { return connect2Server(t) }},
	{"connect over HTTP/1.1, not compressed, JSON", overHTTP1, []connecthttp.Option{connecthttp.WithProtoJSON()},
		func(t *testing.T) string { return connect2Server(t, connecthttp.WithCompressMinBytes(1<<20)) }},
	{"connect by GET", http2, []connecthttp.Option{connecthttp.WithHTTPGet()}, func(t *testing.T) string { return connect2Server(t) }},
	{"connect, of its first version", http2, nil, func(t *testing.T) string { return connectServer(t) }},
}

type caller2 struct {
	*caller
	client *connect2.Client
}

func newCaller2(base http.RoundTripper, url string, opts []connecthttp.Option, more ...transport.Option) caller2 {
	c := newCaller(base, url, nil, more...)
	return caller2{c, connect2.NewClient(connecthttp.NewTransport(c.client, url, opts...))}
}

func (c caller2) unary(ctx context.Context, code codes.Code) error {
	return c.client.CallUnary(ctx, check2, plan(code, 0), new(health.HealthCheckResponse))
}

// stream makes a call and reads up to most messages of it.
func (c caller2) stream(ctx context.Context, code codes.Code, messages, most int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.client.CallServerStream(ctx, watch2, plan(code, messages))
	if err != nil {
		return err
	}
	defer stream.Close()
	for range most {
		if err := stream.Receive(new(health.HealthCheckResponse)); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
	return nil
}

func code2(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return codes.Code(connect2.CodeOf(err))
}

func TestEveryCodeIsJudgedThatConnect2Meets(t *testing.T) {
	for _, p := range protocols2 {
		t.Run(p.name, func(t *testing.T) {
			url, base := p.url(t), p.base(t)
			for code := codes.OK; code <= codes.Unauthenticated; code++ {
				want := policy.Success
				if failing[code] {
					want = policy.Failure
				}
				for shape, call := range map[string]func(caller2) error{
					"unary":               func(c caller2) error { return c.unary(t.Context(), code) },
					"a stream of nothing": func(c caller2) error { return c.stream(t.Context(), code, 0, 1) },
					"a stream of three":   func(c caller2) error { return c.stream(t.Context(), code, 3, 4) },
				} {
					c := newCaller2(base, url, p.opts, transport.WithClassifier(policy.GRPC()), transport.WithPolicy(policy.Classic{Failures: 3}))
					require.Equal(t, code, code2(call(c)), "what the client sees of %s", shape)
					require.Len(t, c.ends, 1, "%v, %s", code, shape)
					require.Equal(t, want, c.ends[0].Outcome, "%v, %s: %v", code, shape, c.ends[0].Cause)
				}
			}
			c := newCaller2(base, url, p.opts, transport.WithClassifier(policy.GRPC()))
			for range 6 {
				require.Equal(t, codes.Unavailable, code2(c.stream(t.Context(), codes.Unavailable, 1, 2)))
			}
			require.Equal(t, policy.Open, c.rt.Circuits()[0].State)

			c = newCaller2(base, url, p.opts, transport.WithClassifier(policy.GRPC()))
			require.NoError(t, c.stream(t.Context(), codes.OK, 100_000, 1), "it has enough of it")
			require.Len(t, c.ends, 1)
			require.NotEqual(t, policy.Failure, c.ends[0].Outcome)
		})
	}
}

// Its errors have no metadata: those of a refusal are in the CallInfo that its caller puts into the context.
func TestRefusalsAreUnderstoodByConnect2(t *testing.T) {
	for _, p := range protocols2 {
		t.Run(p.name, func(t *testing.T) {
			c := newCaller2(p.base(t), "http://upstream.test", p.opts, transport.WithRefusal(transport.RPCUnavailable),
				transport.WithPolicy(policy.Classic{OpenFor: time.Hour}))
			req, err := http.NewRequest("GET", c.url, nil)
			require.NoError(t, err)
			c.rt.SetState(transport.Upstream(req), policy.Open)
			for shape, call := range map[string]func(context.Context) error{
				"unary":  func(ctx context.Context) error { return c.unary(ctx, 0) },
				"stream": func(ctx context.Context) error { return c.stream(ctx, 0, 0, 1) },
			} {
				ctx, info := connect2.NewClientContext(t.Context())
				err := call(ctx)
				var seen *connect2.Error
				require.True(t, errors.As(err, &seen), shape)
				require.Equal(t, connect2.CodeUnavailable, seen.Code(), "%s: %v", shape, err)
				require.Contains(t, seen.Message(), "fusebox: circuit open for http://upstream.test, next probe in ")
				header := http.Header{}
				for _, from := range []*connect2.Header{info.ResponseHeader(), info.ResponseTrailer()} {
					for name, values := range from.All() {
						header[http.CanonicalHeaderKey(name)] = values
					}
				}
				require.Equal(t, policy.RefusedOpen, transport.RefusedBecause(&http.Response{Header: header}), shape)
				require.Equal(t, strconv.Itoa(3600), header.Get("Retry-After"), shape)
			}
			require.Empty(t, c.ends)
		})
	}
}
