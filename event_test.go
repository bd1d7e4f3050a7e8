package fusebox_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// holding is a server over HTTP/2 whose calls wait until they are let go, before their headers or in their body.
type holding struct {
	*httptest.Server
	arrived chan struct{}
	release chan struct{}
	base    *http.Transport
}

func newHolding(t *testing.T) *holding {
	h := &holding{arrived: make(chan struct{}, 100), release: make(chan struct{})}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/headers":
		case "/body":
			io.WriteString(w, "some of it")
			w.(http.Flusher).Flush()
		default:
			return
		}
		h.arrived <- struct{}{}
		select {
		case <-h.release:
		case <-r.Context().Done():
		}
	}))
	h.EnableHTTP2 = true
	h.StartTLS()
	t.Cleanup(h.Close)
	h.base = h.Client().Transport.(*http.Transport)
	t.Cleanup(h.base.CloseIdleConnections)
	return h
}

// breakAll ends all connections at once, without a word over HTTP/2.
func (h *holding) breakAll() { h.CloseClientConnections() }

// Six calls fail by it, and one thing has happened.
func TestAConnectionThatBreaksWithManyCallsOnItIsOneFailure(t *testing.T) {
	for _, path := range []string{"/headers", "/body"} {
		for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{}} {
			t.Run(name+path, func(t *testing.T) {
				h := newHolding(t)
				rt := transport.New(h.base, transport.WithPolicy(p))
				req, err := http.NewRequest(http.MethodGet, h.URL, nil)
				require.NoError(t, err)
				resp, err := rt.RoundTrip(req) // by which it is known that the upstream speaks HTTP/2
				require.NoError(t, err)
				resp.Body.Close()
				var calls sync.WaitGroup
				errs := make(chan error, 6)
				for range 6 {
					calls.Go(func() {
						req, err := http.NewRequest(http.MethodGet, h.URL+path, nil)
						require.NoError(t, err)
						resp, err := rt.RoundTrip(req)
						if err == nil {
							require.Equal(t, 2, resp.ProtoMajor)
							_, err = io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
						}
						errs <- err
					})
				}
				for range 6 {
					<-h.arrived
				}
				h.breakAll()
				calls.Wait()
				for range 6 {
					require.Error(t, <-errs)
				}
				c := rt.Circuits()[0]
				require.Equal(t, policy.Closed, c.State, "%+v", c)
				require.Equal(t, 1, c.Failures)
				require.EqualValues(t, 6, c.FailedCalls)
			})
		}
	}
}

// An outage is seen as soon as before by those who call meanwhile: calls that begin after the first has failed are events of
// their own, whatever their error.
func TestCallsThatBeginAfterAFailureAreFailuresOfTheirOwn(t *testing.T) {
	gone := &net.OpError{Op: "read", Net: "tcp", Err: errors.New("gone")}
	for name, err := range map[string]error{"a value of its kind": io.ErrUnexpectedEOF, "a pointer": gone, "within another": &tls.CertificateVerificationError{Err: gone}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt := transport.New(roundTripper(func(*http.Request) (*http.Response, error) { return nil, err }))
				for n := range 6 {
					require.Equal(t, n, circuitOrNone(rt).Failures)
					_, got := request(t, rt, t.Context())
					require.Equal(t, err, got)
				}
				require.Equal(t, policy.Open, stateOf(t, rt, here), "though no time has passed between them")
			})
		})
	}
	t.Run("as do those that were out, a while later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int32
			rt := transport.New(roundTripper(func(*http.Request) (*http.Response, error) {
				time.Sleep(time.Second + time.Duration(n.Add(1))*150*time.Millisecond)
				return nil, gone
			}))
			var calls sync.WaitGroup
			for range 6 {
				calls.Go(func() { request(t, rt, t.Context()) })
			}
			calls.Wait()
			require.Equal(t, policy.Open, stateOf(t, rt, here))
		})
	})
}

func circuitOrNone(rt *transport.Transport) transport.Snapshot {
	c, _ := rt.Circuit(here)
	return c
}
