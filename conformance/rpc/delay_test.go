package rpc

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// delaying is a service that fails with one code and says in one way for how long it wants to be left alone.
type delaying struct {
	health.UnimplementedHealthServer
	code    codes.Code
	headers []string // that go into the trailers
	details []*errdetails.RetryInfo
}

// ways is how to say it: 30 s each, and one that says nothing.
var ways = map[string]struct {
	delaying
	want time.Duration
}{
	"nothing":                     {delaying{}, 0},
	"gRPC's own pushback":         {delaying{headers: []string{"grpc-retry-pushback-ms", "30000"}}, 30 * time.Second},
	"a pushback that forbids it":  {delaying{headers: []string{"grpc-retry-pushback-ms", "-1"}}, 0},
	"Retry-After":                 {delaying{headers: []string{"retry-after", "30"}}, 30 * time.Second},
	"RetryInfo":                   {delaying{details: []*errdetails.RetryInfo{{RetryDelay: durationpb.New(29500 * time.Millisecond)}}}, 29500 * time.Millisecond},
	"RetryInfo of a negative one": {delaying{details: []*errdetails.RetryInfo{{RetryDelay: durationpb.New(-time.Hour)}}}, 0},
	"RetryInfo that is empty":     {delaying{details: []*errdetails.RetryInfo{{}}}, 0},
	"all of them": {delaying{headers: []string{"grpc-retry-pushback-ms", "10000", "retry-after", "30"},
		details: []*errdetails.RetryInfo{{RetryDelay: durationpb.New(20 * time.Second)}}}, 30 * time.Second},
}

func (d delaying) grpcError() error {
	failed := status.New(d.code, reason)
	for _, detail := range d.details {
		failed, _ = failed.WithDetails(&errdetails.ErrorInfo{Reason: "QUOTA"}, detail)
	}
	return failed.Err()
}

func (d delaying) Check(ctx context.Context, _ *health.HealthCheckRequest) (*health.HealthCheckResponse, error) {
	grpc.SetTrailer(ctx, metadata.Pairs(d.headers...))
	return nil, d.grpcError()
}

func (d delaying) Watch(_ *health.HealthCheckRequest, to grpc.ServerStreamingServer[health.HealthCheckResponse]) error {
	to.SetTrailer(metadata.Pairs(d.headers...))
	if err := to.Send(&health.HealthCheckResponse{Status: 1}); err != nil {
		return err
	}
	return d.grpcError()
}

func (d delaying) connectError() error {
	failed := connect.NewError(connect.Code(d.code), errors.New(reason))
	for n := 0; n < len(d.headers); n += 2 {
		failed.Meta().Set(d.headers[n], d.headers[n+1])
	}
	for _, info := range d.details {
		for _, message := range []proto.Message{&errdetails.ErrorInfo{Reason: "QUOTA"}, info} {
			detail, err := connect.NewErrorDetail(message)
			if err != nil {
				return err
			}
			failed.AddDetail(detail)
		}
	}
	return failed
}

func (d delaying) serve(t *testing.T, byGRPCGo bool) string {
	if byGRPCGo {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		server := grpc.NewServer()
		health.RegisterHealthServer(server, d)
		var serving sync.WaitGroup
		serving.Go(func() { server.Serve(listener) })
		t.Cleanup(func() { server.Stop(); serving.Wait() })
		return "http://" + listener.Addr().String()
	}
	mux := http.NewServeMux()
	mux.Handle(checkPath, connect.NewUnaryHandler(checkPath,
		func(context.Context, *connect.Request[health.HealthCheckRequest]) (*connect.Response[health.HealthCheckResponse], error) {
			return nil, d.connectError()
		}, zipped))
	mux.Handle(watchPath, connect.NewServerStreamHandler(watchPath,
		func(_ context.Context, _ *connect.Request[health.HealthCheckRequest], to *connect.ServerStream[health.HealthCheckResponse]) error {
			if err := to.Send(&health.HealthCheckResponse{Status: 1}); err != nil {
				return err
			}
			return d.connectError()
		}, zipped))
	server := httptest.NewUnstartedServer(mux)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

// left returns for how long the circuit leaves its upstream alone; 0 if no longer than it would anyway.
func (c *caller) left(t *testing.T) time.Duration {
	req, err := http.NewRequest("GET", c.url, nil)
	require.NoError(t, err)
	circuit, ok := c.rt.Circuit(transport.Upstream(req))
	require.True(t, ok)
	if circuit.State != policy.Open {
		return -1
	}
	if left := circuit.NextProbe.Sub(circuit.Since); left > time.Second {
		return left
	}
	return 0
}

func TestAServerIsLeftAloneForAsLongAsItSays(t *testing.T) {
	for name, p := range map[string]struct {
		byGRPCGo bool
		opts     []connect.ClientOption
	}{
		"gRPC, of grpc-go": {true, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC, of connect": {false, []connect.ClientOption{connect.WithGRPC()}},
		"gRPC-Web":         {false, []connect.ClientOption{connect.WithGRPCWeb()}},
		"connect":          {false, nil},
	} {
		for way, w := range ways {
			t.Run(name+", "+way, func(t *testing.T) {
				for _, code := range []codes.Code{codes.ResourceExhausted, codes.Unavailable} {
					d := w.delaying
					d.code = code
					url := d.serve(t, p.byGRPCGo)
					for _, shape := range []string{"unary", "stream"} {
						for _, also := range [][]string{nil, {"resource_exhausted"}} {
							c := newCaller(http2(t), url, p.opts, transport.WithClassifier(policy.GRPC(also...)),
								transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Second}))
							want := w.want
							if shape == "unary" {
								require.Equal(t, code, c.unary(code))
								if name == "connect" && code == codes.Unavailable && len(d.details) > 0 { // the status has said it all
									want = 0
									if len(d.headers) > 0 {
										want = w.want
									}
								}
								if name == "connect" && len(d.headers) > 0 && d.headers[0] == "grpc-retry-pushback-ms" && len(d.headers) == 2 {
									want = 0 // it is not gRPC
								}
							} else {
								got, err := c.stream(code, 0, 2)
								require.NoError(t, err)
								require.Equal(t, code, got)
							}
							if code == codes.ResourceExhausted && also == nil {
								want = -1 // no failure by itself, as 429
							}
							require.Equal(t, want, c.left(t), "%v, %s, %v", code, shape, also)
						}
					}
				}
			})
		}
	}
}
