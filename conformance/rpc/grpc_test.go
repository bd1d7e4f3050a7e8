package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// The service that is called is gRPC's own health service, since its messages are there already. The name of the
// service that is asked for says how the call is to go: the code that it ends with, and how many messages come before.
const (
	checkPath = "/grpc.health.v1.Health/Check"
	watchPath = "/grpc.health.v1.Health/Watch"
)

func plan(code codes.Code, messages int) *health.HealthCheckRequest {
	return &health.HealthCheckRequest{Service: fmt.Sprintf("%d/%d", code, messages)}
}

func planned(r *health.HealthCheckRequest) (code uint32, messages int) {
	first, second, _ := strings.Cut(r.Service, "/")
	n, _ := strconv.Atoi(first)
	messages, _ = strconv.Atoi(second)
	return uint32(n), messages
}

const reason = "as it was asked to, with a message that is long enough to be worth compressing, and that has : and \"quotes\""

// grpcGo is the service in grpc-go.
type grpcGo struct {
	health.UnimplementedHealthServer
}

func (grpcGo) Check(_ context.Context, r *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	if code, _ := planned(r); code != 0 {
		return nil, status.Error(codes.Code(code), reason)
	}
	return &health.HealthCheckResponse{}, nil
}

func (grpcGo) Watch(r *health.HealthCheckRequest, to grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
	code, messages := planned(r)
	for range messages {
		if err := to.Send(&health.HealthCheckResponse{Status: 1}); err != nil {
			return err
		}
	}
	if code != 0 {
		return status.Error(codes.Code(code), reason)
	}
	return nil
}

func grpcServer(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	health.RegisterHealthServer(server, grpcGo{})
	var serving sync.WaitGroup
	serving.Go(func() { server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return "http://" + listener.Addr().String()
}

// connectServer speaks all three protocols.
func connectServer(t *testing.T, opts ...connect.HandlerOption) string {
	mux := http.NewServeMux()
	failure := func(code uint32) error { return connect.NewError(connect.Code(code), errors.New(reason)) }
	mux.Handle(checkPath, connect.NewUnaryHandler(checkPath,
		func(_ context.Context, r *connect.Request[health.HealthCheckRequest]) (*connect.Response[health.HealthCheckResponse], error) {
			if code, _ := planned(r.Msg); code != 0 {
				return nil, failure(code)
			}
			return connect.NewResponse(&health.HealthCheckResponse{}), nil
		}, opts...))
	mux.Handle(watchPath, connect.NewServerStreamHandler(watchPath,
		func(_ context.Context, r *connect.Request[health.HealthCheckRequest], to *connect.ServerStream[health.HealthCheckResponse]) error {
			code, messages := planned(r.Msg)
			for range messages {
				if err := to.Send(&health.HealthCheckResponse{Status: 1}); err != nil {
					return err
				}
			}
			if code != 0 {
				return failure(code)
			}
			return nil
		}, opts...))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// http2 is a base that speaks HTTP/2 without TLS.
func http2(t *testing.T) *http.Transport {
	base := &http.Transport{Protocols: new(http.Protocols)}
	base.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(base.CloseIdleConnections)
	return base
}

// overHTTP1 is what connect and gRPC-Web do with, too.
func overHTTP1(t *testing.T) *http.Transport {
	base := new(http.Transport)
	t.Cleanup(base.CloseIdleConnections)
	return base
}

type caller struct {
	ends   []transport.CallEnd
	rt     *transport.Transport
	opts   []connect.ClientOption
	url    string
	client connect.HTTPClient
}

func newCaller(base http.RoundTripper, url string, opts []connect.ClientOption, more ...transport.Option) *caller {
	c := &caller{url: url, opts: opts}
	c.rt = transport.New(base, append([]transport.Option{
		transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { c.ends = append(c.ends, e) }}),
	}, more...)...)
	c.client = &http.Client{Transport: c.rt}
	return c
}

// unary makes a call and returns the code it ended with.
func (c *caller) unary(code codes.Code) codes.Code {
	client := connect.NewClient[health.HealthCheckRequest, health.HealthCheckResponse](c.client, c.url+checkPath, c.opts...)
	_, err := client.CallUnary(context.Background(), connect.NewRequest(plan(code, 0)))
	return codeOf(err)
}

// stream makes a call and reads up to most messages of it.
func (c *caller) stream(code codes.Code, messages, most int) (codes.Code, error) {
	client := connect.NewClient[health.HealthCheckRequest, health.HealthCheckResponse](c.client, c.url+watchPath, c.opts...)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stream, err := client.CallServerStream(ctx, connect.NewRequest(plan(code, messages)))
	if err != nil {
		return codeOf(err), nil
	}
	read := 0
	for read < most && stream.Receive() {
		read++
	}
	if err := stream.Close(); err != nil {
		return 0, err
	}
	return codeOf(stream.Err()), nil
}

func codeOf(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	return codes.Code(connect.CodeOf(err))
}

var failing = map[codes.Code]bool{
	codes.Unknown: true, codes.DeadlineExceeded: true, codes.Internal: true, codes.Unavailable: true, codes.DataLoss: true,
}

var (
	zipped = connect.WithCompressMinBytes(0)
	whole  = connect.WithCompressMinBytes(1 << 20)
)

type protocol struct {
	name string
	base func(*testing.T) *http.Transport
	opts []connect.ClientOption
	url  func(t *testing.T) string
}

var protocols = []protocol{
	{"gRPC, of grpc-go", http2, []connect.ClientOption{connect.WithGRPC()}, grpcServer},
	{"gRPC, of connect", http2, []connect.ClientOption{connect.WithGRPC()}, func(t *testing.T) string { return connectServer(t) }},
	{"gRPC-Web", http2, []connect.ClientOption{connect.WithGRPCWeb()}, func(t *testing.T) string { return connectServer(t, zipped) }},
	{"gRPC-Web over HTTP/1.1, not compressed", overHTTP1, []connect.ClientOption{connect.WithGRPCWeb()}, func(t *testing.T) string { return connectServer(t, whole) }},
	{"connect", http2, nil, func(t *testing.T) string { return connectServer(t, zipped) }},
	{"connect over HTTP/1.1, not compressed, JSON", overHTTP1, []connect.ClientOption{connect.WithProtoJSON()}, func(t *testing.T) string { return connectServer(t, whole) }},
	{"connect by GET", http2, []connect.ClientOption{connect.WithHTTPGet(), connect.WithIdempotency(connect.IdempotencyNoSideEffects)},
		func(t *testing.T) string {
			return connectServer(t, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
		}},
}

func TestEveryCodeOfEveryProtocolIsJudged(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			url, base := p.url(t), p.base(t)
			for code := codes.OK; code <= codes.Unauthenticated; code++ {
				want := policy.Success
				if failing[code] {
					want = policy.Failure
				}
				for _, shape := range []string{"unary", "a stream of nothing", "a stream of three", "a stream of ten thousand"} {
					c := newCaller(base, url, p.opts, transport.WithClassifier(policy.GRPC()), transport.WithPolicy(policy.Classic{Failures: 3}))
					var got codes.Code
					var err error
					switch shape {
					case "unary":
						got = c.unary(code)
					case "a stream of nothing":
						got, err = c.stream(code, 0, 1)
					case "a stream of three":
						got, err = c.stream(code, 3, 4)
					default:
						if code != codes.OK && code != codes.Unavailable {
							continue
						}
						got, err = c.stream(code, 10_000, 10_001)
					}
					require.NoError(t, err)
					require.Equal(t, code, got, "what the client sees of %s", shape)
					require.Len(t, c.ends, 1, "%v, %s", code, shape)
					require.Equal(t, want, c.ends[0].Outcome, "%v, %s: %v", code, shape, c.ends[0].Cause)
					if cause := c.ends[0].Cause; want == policy.Failure && cause.Kind != policy.KindStatus {
						require.Equal(t, "judged so: grpc code "+connect.Code(code).String(), cause.String())
					}
				}
			}
		})
	}
}

func TestAnUpstreamThatIsUnavailableByGRPCIsRefused(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			c := newCaller(p.base(t), p.url(t), p.opts, transport.WithClassifier(policy.GRPC()))
			for range 6 {
				_, err := c.stream(codes.Unavailable, 1, 2)
				require.NoError(t, err)
			}
			req, err := http.NewRequest("GET", c.url, nil)
			require.NoError(t, err)
			circuit, _ := c.rt.Circuit(transport.Upstream(req))
			require.Equal(t, policy.Open, circuit.State)
		})
	}
}

func TestAStreamThatItsCallerHasEnoughOfIsNoFailure(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			c := newCaller(p.base(t), p.url(t), p.opts, transport.WithClassifier(policy.GRPC()))
			c.stream(codes.OK, 100_000, 1)
			require.Len(t, c.ends, 1)
			require.NotEqual(t, policy.Failure, c.ends[0].Outcome)
		})
	}
}
