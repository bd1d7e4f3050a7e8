// Package peer is how every breaker is told what fails, in all of the benchmarks alike.
package peer

import (
	"context"
	"errors"
	"net/http"
)

// ErrFailed stands for an answer of 500 and beyond in peers whose breaker looks at errors only.
var ErrFailed = errors.New("upstream failed")

// Failed is the classification that every peer is given: transport errors, timeouts and answers of 500 and beyond
// are failures; a caller's cancellation is not.
func Failed(resp *http.Response, err error) bool {
	if err != nil {
		return !errors.Is(err, context.Canceled)
	}
	return resp.StatusCode >= 500
}

// Error is the same, for peers that take an error: nil, the call's error, or ErrFailed.
func Error(resp *http.Response, err error) error {
	if err == nil && Failed(resp, nil) {
		return ErrFailed
	}
	return err
}

// withoutFailed is what a caller gets of an error that a breaker has passed on: an answer of 500 is none.
func withoutFailed(err error) error {
	if err == ErrFailed {
		return nil
	}
	return err
}

// A RoundTripper is a function as an http.RoundTripper.
type RoundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f RoundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
