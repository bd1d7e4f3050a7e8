package recipes

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
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

// An upstream's own Retry-After is go-retryablehttp's matter, with a Transport and without, in shadow as well.
func TestRetryableKeepsTheTwoRetryAftersApart(t *testing.T) {
	server := newTextUpstream(t)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		server.arrived.Add(1)
		w.Header().Set("Retry-After", "3600")
		http.Error(w, "slow down", http.StatusTooManyRequests)
	})
	breaker := transport.New(nil, transport.WithShadow())
	t.Cleanup(breaker.CloseIdleConnections)
	retries := retryablehttp.NewClient()
	retries.HTTPClient.Transport = breaker
	retries.Logger = nil
	retries.RetryMax = 2
	retries.RetryWaitMin, retries.RetryWaitMax = time.Millisecond, 5*time.Millisecond
	retries.ErrorHandler = retryablehttp.PassthroughErrorHandler

	// recipe: retryable-backoff
	retries.Backoff = func(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
		return min(retryablehttp.DefaultBackoff(least, most, attempt, resp), most) // RetryWaitMax is the most for a Retry-After, too
	}
	// end

	var asked []time.Duration
	bounded := retries.Backoff
	retries.Backoff = func(least, most time.Duration, attempt int, resp *http.Response) time.Duration {
		require.False(t, transport.Refused(resp), "a refusal is not waited for")
		asked = append(asked, retryablehttp.DefaultBackoff(least, most, attempt, resp))
		return bounded(least, most, attempt, resp)
	}
	breaker.SetState(transport.Key{Scheme: "http", Host: strings.TrimPrefix(server.URL, "http://")}, policy.Open) // which is nothing in shadow
	resp, err := retries.StandardClient().Get(server.URL)
	require.NoError(t, err)
	resp.Body.Close()
	require.EqualValues(t, 3, server.arrived.Load())
	require.Equal(t, []time.Duration{time.Hour, time.Hour}, asked, "what it waits for by itself is the upstream's hour")
}
