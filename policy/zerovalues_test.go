package policy_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// A classifier can be called by anybody, in a test of theirs above all, with what their call happens to have.
func TestEveryClassifierTakesACallOfNothing(t *testing.T) {
	undecided := func(*policy.Call) policy.Outcome { return policy.Undecided }
	judge := func(*http.Response, []byte) policy.Outcome { return policy.Success }
	classifiers := map[string]policy.Classifier{
		"DefaultClassifier": policy.DefaultClassifier, "FirstOf": policy.FirstOf(), "FirstOf one": policy.FirstOf(undecided),
		"When": policy.When(policy.Failure, func(*policy.Call) bool { return true }), "OnStatus": policy.OnStatus(policy.Failure, 500),
		"OnHeader": policy.OnHeader(policy.Failure, "A", "b"), "OnError": policy.OnError(policy.Failure, io.EOF), "OnError none": policy.OnError(policy.Failure),
		"OnErrorType": policy.OnErrorType[*policy.TimeoutError](policy.Failure), "OnSlow": policy.OnSlow(time.Second), "OnBody": policy.OnBody(1, judge),
		"AtEnd": policy.AtEnd(0, undecided), "AtEnd tail": policy.AtEnd(8, undecided), "GRPC": policy.GRPC(), "GRPC code": policy.GRPC("not_found"),
		"Twirp": policy.Twirp(), "JSONRPC": policy.JSONRPC(), "GraphQL": policy.GraphQL(), "ElasticBulk": policy.ElasticBulk(), "S3": policy.S3(),
	}
	requests := []*http.Request{nil, {}, {Header: http.Header{"Content-Type": {"application/grpc"}}}, {Header: http.Header{"Connect-Protocol-Version": {"1"}}}}
	responses := []*http.Response{nil, {}, {StatusCode: 200, Body: http.NoBody}}
	for _, kind := range []string{"application/grpc", "application/grpc-web+proto", "application/connect+json", "application/json", "application/xml"} {
		responses = append(responses, &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {kind}}}, &http.Response{StatusCode: 503, Header: http.Header{"Content-Type": {kind}}})
	}
	for name, classify := range classifiers {
		t.Run(name, func(t *testing.T) {
			for _, req := range requests {
				for _, resp := range responses {
					for _, err := range []error{nil, errors.New("broken"), io.ErrUnexpectedEOF, &policy.TimeoutError{}, &policy.ProxyError{}, net.ErrClosed, context.Canceled} {
						for _, atEnd := range []bool{false, true} {
							for _, size := range []int64{0, 9} {
								c := policy.Call{Request: req, Response: resp, Err: err, BodyErr: err, InBody: err != nil && !atEnd, AtEnd: atEnd, ClosedEarly: atEnd && size > 0, Size: size}
								if size == 9 {
									c.Tail = []byte(`{"a":[1]}`)
								}
								require.LessOrEqual(t, classify(&c), policy.Ignored)
							}
						}
					}
				}
			}
			require.LessOrEqual(t, classify(&policy.Call{}), policy.Ignored)
		})
	}
}

func TestZeroValuesHaveTheirText(t *testing.T) {
	require.NotEmpty(t, new(policy.TimeoutError).Error())
	require.NotEmpty(t, new(policy.ProxyError).Error())
	require.NotEmpty(t, policy.NewProxyError(new(http.Response)).Error())
	require.Empty(t, policy.CauseOf(&policy.Call{}).Phase)
	require.NotPanics(t, func() { _ = policy.Cause{}.String() })
	require.NotEmpty(t, policy.State(99).String())
	require.NotEmpty(t, policy.Outcome(99).String())
	require.NotEmpty(t, policy.RefusalReason(99).String())
	_, asked := new(policy.Call).AskedAtEnd()
	require.False(t, asked)
	new(policy.Call).AskAtEnd(1)
	require.Zero(t, new(policy.Call).Elapsed())
}
