package contract

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// counting is a server that counts the connections opened to it and the requests that it gets.
type counting struct {
	*httptest.Server
	conns, requests atomic.Int32
	status          atomic.Int32
}

func newCounting(t *testing.T, http2 bool) *counting {
	c := new(counting)
	c.status.Store(http.StatusOK)
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(int(c.status.Load()))
		io.WriteString(w, "answer")
	}))
	c.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.conns.Add(1)
		}
	}
	c.EnableHTTP2 = http2
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

// ask makes a request and reports whether its connection was used before.
func (c *counting) ask(t *testing.T, rt http.RoundTripper) (status int, reused bool) {
	req := newRequest(t, http.MethodGet, c.URL)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	}))
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, reused
}

func TestARefusalOpensNoConnectionAndKeepsThoseThereAre(t *testing.T) {
	noLeaks(t)
	for _, http2 := range []bool{false, true} {
		c := newCounting(t, http2)
		rt := transport.New(c.Client().Transport, transport.WithPolicy(policy.Classic{}), oneCircuit)
		rt.SetState(transport.Key{}, policy.Open)
		refuse := func() {
			for range 10 {
				status, _ := c.ask(t, rt)
				require.Equal(t, http.StatusServiceUnavailable, status)
			}
		}
		refuse()
		require.Zero(t, c.conns.Load(), "a refused request opens none")

		rt.SetState(transport.Key{}, policy.Closed)
		status, reused := c.ask(t, rt)
		require.Equal(t, http.StatusOK, status)
		require.False(t, reused)
		rt.SetState(transport.Key{}, policy.Open)
		refuse()
		rt.SetState(transport.Key{}, policy.HalfOpen)
		status, reused = c.ask(t, rt)
		require.Equal(t, http.StatusOK, status)
		require.True(t, reused, "the connection from before the refusals")
		require.EqualValues(t, 1, c.conns.Load())
		require.EqualValues(t, 2, c.requests.Load())
		rt.CloseIdleConnections()
	}
}

func TestConnectionsAreReusedOverFailures(t *testing.T) {
	noLeaks(t)
	for _, http2 := range []bool{false, true} {
		for _, w := range append(wrappers, bare) {
			c := newCounting(t, http2)
			rt := w.wrap(c.Client().Transport)
			for i := range 5 {
				c.status.Store(int32(500 + i))
				status, reused := c.ask(t, rt)
				require.Equal(t, 500+i, status)
				require.Equal(t, i > 0, reused, w.name)
			}
			require.EqualValues(t, 1, c.conns.Load(), w.name)
			c.CloseClientConnections()
		}
	}
}

func TestTheBasesLimitOfConnectionsHolds(t *testing.T) {
	noLeaks(t)
	for _, w := range append(wrappers, bare) {
		c := newCounting(t, false)
		base := c.Client().Transport.(*http.Transport)
		base.MaxConnsPerHost, base.MaxIdleConnsPerHost = 2, 2
		rt := w.wrap(base)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, c.URL))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		}
		all.Wait()
		require.LessOrEqual(t, c.conns.Load(), int32(2), w.name)
		require.EqualValues(t, 20, c.requests.Load())
		base.CloseIdleConnections()
	}
}

func TestCloseIdleConnectionsClosesTheBases(t *testing.T) {
	noLeaks(t)
	for _, w := range wrappers {
		c := newCounting(t, false)
		client := &http.Client{Transport: w.wrap(c.Client().Transport)}
		c.ask(t, client.Transport)
		_, reused := c.ask(t, client.Transport)
		require.True(t, reused)
		client.CloseIdleConnections()
		_, reused = c.ask(t, client.Transport)
		require.False(t, reused, w.name)
		require.EqualValues(t, 2, c.conns.Load())
		client.CloseIdleConnections()
	}
}
