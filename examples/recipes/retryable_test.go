package recipes

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/fusebox-go/fusebox/transport"
)

func TestRetryable(t *testing.T) {
	server := newTextUpstream(t)

	// recipe: retryable
	breaker := transport.New(nil)
	retries := retryablehttp.NewClient()
	retries.HTTPClient.Transport = breaker
	retries.CheckRetry = func(ctx context.Context, resp *http.Response, err error) (bool, error) {
		if transport.Refused(resp) {
			return false, nil // a refusal is final
		}
		return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
	}
	client := retries.StandardClient()
	// end

	retries.Logger = nil
	retries.RetryWaitMin, retries.RetryWaitMax = time.Millisecond, time.Millisecond
	untilRefused(t, breaker, server, func() bool {
		resp, err := client.Get(server.URL)
		if err != nil {
			return false // the retries gave up
		}
		return refusedResponse(t, "retryable", resp)
	})
}
