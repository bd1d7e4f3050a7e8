package main

import (
	"context"
	"errors"
	"net/http"
)

// errFailed stands for an answer of 500 and beyond in peers whose breaker looks at errors only.
var errFailed = errors.New("upstream failed")

// callFailed is the classification that every peer is given.
func callFailed(resp *http.Response, err error) bool {
	if err != nil {
		return !errors.Is(err, context.Canceled)
	}
	return resp.StatusCode >= 500
}

// callError is the same, for peers that take an error: nil, the call's error, or errFailed.
func callError(resp *http.Response, err error) error {
	if err == nil && callFailed(resp, nil) {
		return errFailed
	}
	return err
}

// A roundTripper is a function as an http.RoundTripper.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
