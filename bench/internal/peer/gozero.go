package peer

import (
	"context"
	"errors"
	"net/http"

	"github.com/zeromicro/go-zero/core/breaker"
	"github.com/zeromicro/go-zero/core/stat"
)

func init() {
	stat.DisableLog()
	stat.SetReporter(nil)
}

// GoZero is a breaker of zeromicro/go-zero. It counts a cancelled call as a success: go-zero knows only the two. It
// does without go-zero's own registry of breakers by name, which is one map under a lock, for the whole process, from
// which nothing is ever removed.
func GoZero(base http.RoundTripper) http.RoundTripper {
	cb := breaker.NewBreaker()
	return RoundTripper(func(req *http.Request) (resp *http.Response, err error) {
		err = cb.DoWithAcceptable(func() error {
			var err error
			resp, err = base.RoundTrip(req)
			return Error(resp, err)
		}, func(err error) bool { return err == nil || errors.Is(err, context.Canceled) })
		return resp, withoutFailed(err)
	})
}
