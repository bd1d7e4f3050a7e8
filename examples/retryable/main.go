// Retryable shows how Fusebox and retries stack, with hashicorp/go-retryablehttp: retries outside, Fusebox inside.
//
//	go run -C examples/retryable .
//
// Inside, the circuit sees every attempt, opens after as many as its policy says, and the attempts left are refused
// without the upstream. A refusal is final: CheckRetry says so, or the retries would wait for the Retry-After of the
// refusal, which is the time to the next probe. The Retry-After of an upstream's own 429 or 503 they wait for all the
// same, as without Fusebox; docs/recipes.md bounds that. The other way round, the circuit sees one failure where the
// upstream got four requests, and opens four times as late.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "retryable:", err)
		os.Exit(1)
	}
}

// retryButNoRefusal is the retryablehttp.CheckRetry to use with Fusebox.
func retryButNoRefusal(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if transport.Refused(resp) || errors.Is(err, transport.ErrOpen) {
		return false, nil
	}
	return retryablehttp.DefaultRetryPolicy(ctx, resp, err)
}

func newRetries() *retryablehttp.Client {
	retries := retryablehttp.NewClient()
	retries.Logger = nil
	retries.RetryMax = 3
	retries.RetryWaitMin, retries.RetryWaitMax = 5*time.Millisecond, 20*time.Millisecond
	retries.ErrorHandler = retryablehttp.PassthroughErrorHandler // the last response, and no error in its place
	return retries
}

func newBreaker(base http.RoundTripper) *transport.Transport {
	return transport.New(base, transport.WithPolicy(policy.Classic{Failures: 5, OpenFor: time.Minute}))
}

func run() error {
	var arrived, hiccups atomic.Int64 // hiccups is how many requests more are to fail
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if hiccups.Add(-1) >= 0 {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "hello")
	}))
	defer server.Close()

	// Retries outside, Fusebox inside.
	retries := newRetries()
	retries.HTTPClient.Transport = newBreaker(nil)
	retries.CheckRetry = retryButNoRefusal
	right := retries.StandardClient()
	defer right.CloseIdleConnections()

	fmt.Println("Two failures in a row, retries outside:")
	hiccups.Store(2)
	resp, _, err := call(right, server.URL, &arrived)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New("the retries should get over two failures, and the circuit should stay closed")
	}

	fmt.Println("The server is down, retries outside:")
	hiccups.Store(1 << 30)
	outside, err := callUntilRefused(right, server.URL, &arrived)
	if err != nil {
		return err
	}

	// The wrong way round, to compare.
	outermost := newBreaker(newRetries().StandardClient().Transport)
	wrong := &http.Client{Transport: outermost}
	defer wrong.CloseIdleConnections()
	fmt.Println("The server is down, retries inside (the wrong way round):")
	inside, err := callUntilRefused(wrong, server.URL, &arrived)
	if err != nil {
		return err
	}

	fmt.Printf(
		"Until the circuit was open, the server got %d requests with retries outside and %d with retries inside.\n",
		outside, inside,
	)
	if outside != 5 || inside != 20 {
		return errors.New("it should be 5 and 20")
	}
	return nil
}

// callUntilRefused returns how many requests arrived at the server before a call was refused.
func callUntilRefused(client *http.Client, url string, arrived *atomic.Int64) (int64, error) {
	before := arrived.Load()
	for range 10 {
		resp, took, err := call(client, url, arrived)
		if err != nil {
			return 0, err
		}
		if !transport.Refused(resp) {
			continue
		}
		if took > time.Second {
			return 0, errors.New("a refusal was waited on")
		}
		return arrived.Load() - before, nil
	}
	return 0, errors.New("no call was refused")
}

func call(client *http.Client, url string, arrived *atomic.Int64) (*http.Response, time.Duration, error) {
	before, start := arrived.Load(), time.Now()
	resp, err := client.Get(url)
	if err != nil {
		return nil, 0, err
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	took := time.Since(start)
	note := ""
	if transport.Refused(resp) {
		note = " (refused)"
	}
	fmt.Printf("  %d%s, requests to the server: %d\n", resp.StatusCode, note, arrived.Load()-before)
	return resp, took, nil
}
