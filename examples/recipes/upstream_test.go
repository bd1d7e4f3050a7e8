package recipes

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

// upstream is a server that answers by well until it is down, and then by a 503.
type upstream struct {
	*httptest.Server
	down    atomic.Bool
	arrived atomic.Int64
}

func newUpstream(t *testing.T, well, ill http.HandlerFunc) *upstream {
	u := new(upstream)
	u.Server = httptest.NewServer(u.serve(well, ill))
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) serve(well, ill http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		u.arrived.Add(1)
		if u.down.Load() {
			ill(w, r)
			return
		}
		well(w, r)
	}
}

func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

func newTextUpstream(t *testing.T) *upstream {
	return newUpstream(t, answer(http.StatusOK, "text/plain", "hello\n"), answer(http.StatusServiceUnavailable, "text/plain", "out of order\n"))
}

// untilRefused lets the upstream fail and calls until a call is refused. Call tells whether its client saw a refusal.
// Every refusal of the breaker has to be seen, and to be final: a client that tries again brings more than one.
func untilRefused(t *testing.T, breaker *transport.Transport, server *upstream, call func() (refused bool)) {
	t.Helper()
	t.Cleanup(breaker.CloseIdleConnections)
	require.False(t, call(), "the upstream is well")
	require.EqualValues(t, 1, server.arrived.Load(), "a call is one request")

	server.down.Store(true)
	var refusals atomic.Int64
	stop := breaker.Observe(transport.Observer{OnRefusal: func(transport.RefusalEvent) { refusals.Add(1) }})
	defer stop()
	for range 100 {
		refused := call()
		if refused {
			require.EqualValues(t, 1, refusals.Load(), "the refusal is final")
			return
		}
		require.Zero(t, refusals.Load(), "the refusal is seen as one")
	}
	require.Fail(t, "nothing was refused")
}

func isRefused(err error) bool {
	return errors.Is(err, transport.ErrOpen) || errors.Is(err, transport.ErrLimit)
}
