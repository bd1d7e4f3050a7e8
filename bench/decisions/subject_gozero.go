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
	register(subject{name: "go-zero", about: "zeromicro/go-zero: client-side throttling over 10 s, a probe a second", new: newGoZero})
}

// newGoZero counts a cancelled call as a success: go-zero knows only the two.
func newGoZero(base http.RoundTripper) http.RoundTripper {
	cb := breaker.NewBreaker()
	return peer.RoundTripper(func(req *http.Request) (resp *http.Response, err error) {
		err = cb.DoWithAcceptable(func() error {
			var err error
			resp, err = base.RoundTrip(req)
			return peer.Error(resp, err)
		}, func(err error) bool { return err == nil || errors.Is(err, context.Canceled) })
		if errors.Is(err, peer.ErrFailed) {
			err = nil
		}
		return resp, err
	})
}
