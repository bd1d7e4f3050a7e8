package recipes

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const identity = `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/me</Arn><UserId>ME</UserId><Account>123456789012</Account></GetCallerIdentityResult>
</GetCallerIdentityResponse>`

func newIdentityServer(t *testing.T) *upstream {
	return newUpstream(t, answer(http.StatusOK, "text/xml", identity), answer(http.StatusServiceUnavailable, "text/plain", "out of order\n"))
}

// newSTS stands for every client of the SDK; its retries wait a millisecond at most.
func newSTS(cfg aws.Config, url string) *sts.Client {
	cfg.Region = "eu-central-1"
	cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
	})
	return sts.NewFromConfig(cfg, func(o *sts.Options) {
		o.BaseEndpoint = aws.String(url)
		o.Retryer = retry.AddWithMaxBackoffDelay(o.Retryer, time.Millisecond)
	})
}

func TestAWS(t *testing.T) {
	server := newIdentityServer(t)
	var cfg aws.Config

	// recipe: aws
	client := awshttp.NewBuildableClient().Freeze().(*http.Client) // the SDK's own, with its rules for redirects
	breaker := transport.New(client.Transport, transport.WithRefusalError())
	client.Transport = breaker
	cfg.HTTPClient = client
	// end

	api := newSTS(cfg, server.URL)
	untilRefused(t, breaker, server, func() bool {
		_, err := api.GetCallerIdentity(t.Context(), nil)
		if !isRefused(err) {
			require.Equal(t, server.down.Load(), err != nil, "%v", err)
			return false
		}
		sees(t, "aws", err.Error())
		return true
	})
}

// What the page says of a refusal that is a response.
func TestAWSTriesAResponseAgain(t *testing.T) {
	server := newIdentityServer(t)
	for attempts, options := range map[int][]transport.Option{retry.DefaultMaxAttempts: nil, 1: {transport.WithRefusalError()}} {
		breaker := transport.New(nil, options...)
		t.Cleanup(breaker.CloseIdleConnections)
		refusals := 0
		breaker.Observe(transport.Observer{OnRefusal: func(transport.RefusalEvent) { refusals++ }})
		breaker.Force("*", policy.Open)
		_, err := newSTS(aws.Config{HTTPClient: &http.Client{Transport: breaker}}, server.URL).GetCallerIdentity(t.Context(), nil)
		require.Error(t, err)
		require.Equal(t, attempts, refusals)
	}
	require.Zero(t, server.arrived.Load())
}
