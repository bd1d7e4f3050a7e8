package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/zeromicro/go-zero/core/breaker"
	"github.com/zeromicro/go-zero/core/stat"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

func init() {
	stat.DisableLog()
	stat.SetReporter(nil)
}

// gozero does without go-zero's own registry of breakers by name: it is one map under a lock, for the whole process, from
// which nothing is ever removed.
var gozero = subject{name: "go-zero", about: "zeromicro/go-zero's core/breaker", perHost: true, new: func(base http.RoundTripper) http.RoundTripper {
	return perHost(func() http.RoundTripper { return newGozero(base) })
}}

func newGozero(base http.RoundTripper) http.RoundTripper {
	cb := breaker.NewBreaker()
	return peer.RoundTripper(func(req *http.Request) (resp *http.Response, err error) {
		err = cb.DoWithAcceptable(func() error {
			var err error
			resp, err = base.RoundTrip(req)
			return peer.Error(resp, err)
		}, func(err error) bool { return err == nil || errors.Is(err, context.Canceled) })
		if err == peer.ErrFailed {
			err = nil
		}
		return resp, err
	})
}
