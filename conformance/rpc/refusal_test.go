package rpc

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"
	health "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestRefusalsAreUnderstoodByClientsOfEveryProtocol(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			for _, reason := range []policy.RefusalReason{policy.RefusedForced, policy.RefusedOpen} {
				c := newCaller(p.base(t), "http://upstream.test", p.opts, transport.WithRefusal(transport.RPCUnavailable),
					transport.WithPolicy(policy.Classic{OpenFor: time.Hour}))
				req, err := http.NewRequest("GET", c.url, nil)
				require.NoError(t, err)
				text, wait := "fusebox: circuit open for http://upstream.test, next probe in ", "3600"
				if reason == policy.RefusedForced {
					c.rt.Force("*", policy.Open)
					text, wait = "fusebox: circuit forced open for http://upstream.test", ""
				} else {
					c.rt.SetState(transport.Upstream(req), policy.Open)
				}

				unary := connect.NewClient[health.HealthCheckRequest, health.HealthCheckResponse](c.client, c.url+checkPath, c.opts...)
				_, err = unary.CallUnary(context.Background(), connect.NewRequest(plan(0, 0)))
				var seen *connect.Error
				require.True(t, errors.As(err, &seen))
				require.Equal(t, connect.CodeUnavailable, seen.Code(), "%v", err)
				require.Contains(t, seen.Message(), text)
				require.Equal(t, wait, seen.Meta().Get("Retry-After"))
				require.Equal(t, reason, transport.RefusedBecause(&http.Response{Header: seen.Meta()}))

				streams := connect.NewClient[health.HealthCheckRequest, health.HealthCheckResponse](c.client, c.url+watchPath, c.opts...)
				stream, err := streams.CallServerStream(context.Background(), connect.NewRequest(plan(0, 0)))
				require.NoError(t, err)
				require.False(t, stream.Receive())
				require.True(t, errors.As(stream.Err(), &seen))
				require.Equal(t, connect.CodeUnavailable, seen.Code(), "%v", stream.Err())
				require.Contains(t, seen.Message(), text)
				require.Equal(t, wait, seen.Meta().Get("Retry-After"))
				require.Equal(t, reason, transport.RefusedBecause(&http.Response{Header: stream.ResponseHeader()}))
				require.NoError(t, stream.Close())
				require.Empty(t, c.ends)
			}
		})
	}
}

// A circuit outside that judges by gRPC's codes knows the refusal of one inside for what it is.
func TestARefusalByRPCSaysNothingToACircuitOutside(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			inner := transport.New(p.base(t), transport.WithRefusal(transport.RPCUnavailable))
			inner.Force("*", policy.Open)
			c := newCaller(inner, "http://upstream.test", p.opts, transport.WithClassifier(policy.GRPC()))
			c.unary(0)
			c.stream(0, 1, 1)
			require.Len(t, c.ends, 2)
			for _, end := range c.ends {
				require.Equal(t, policy.Ignored, end.Outcome)
			}
		})
	}
}
