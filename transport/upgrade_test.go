package transport_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// switching answers everything with a 101 and lines of the protocol, a tick a second, for a minute.
func switching(protocol string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n")
		for range 60 {
			if _, err := io.WriteString(conn, "tick\n"); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}
}

// asks is what a request says of protocols, and whether a switch to "echo" is what it asked for.
var asks = map[string]struct {
	method   string
	header   http.Header
	protocol string
	solicits bool
}{
	"a plain GET":                       {method: "GET", protocol: "echo"},
	"a HEAD":                            {method: "HEAD", protocol: "echo"},
	"an Upgrade that is not of the hop": {method: "GET", header: http.Header{"Upgrade": {"echo"}}, protocol: "echo"},
	"a Connection without an Upgrade":   {method: "GET", header: http.Header{"Connection": {"Upgrade"}}, protocol: "echo"},
	"another protocol":                  {method: "GET", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, protocol: "echo"},
	"one more than was asked for":       {method: "GET", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}, protocol: "echo, other"},
	"a part of another's name":          {method: "GET", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo2"}}, protocol: "echo"},
	"the protocol":                      {method: "GET", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}, protocol: "echo", solicits: true},
	"in other letters":                  {method: "GET", header: http.Header{"Connection": {"keep-alive, upgrade"}, "Upgrade": {"Echo"}}, protocol: "echo", solicits: true},
	"one of several":                    {method: "GET", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"h9, echo", "other"}}, protocol: "echo", solicits: true},
	"several":                           {method: "GET", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"other, echo"}}, protocol: "echo, other", solicits: true},
	"by a POST":                         {method: "POST", header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"tcp"}}, protocol: "tcp", solicits: true},
}

func request(t *testing.T, method string, header http.Header) *http.Request {
	req := newRequest(t, method, t.Context())
	for name, values := range header {
		req.Header[name] = values
	}
	return req
}

func TestASwitchThatNobodyAskedForHoldsAPlace(t *testing.T) {
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			bubble.Serve(t, protocols(1), switching(ask.protocol), func(t *testing.T, base *http.Transport) {
				defer time.Sleep(time.Minute) // until the handlers have ended
				rt := transport.New(base, limited(policy.Limits{InFlight: 2}))
				var out []io.Closer
				refused := 0
				for range 6 {
					resp, err := rt.RoundTrip(request(t, ask.method, ask.header))
					require.NoError(t, err)
					if transport.RefusedBecause(resp) == policy.RefusedLimit {
						refused++
						continue
					}
					require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
					out = append(out, resp.Body)
				}
				if ask.solicits {
					require.Zero(t, refused, "a connection of the caller's own is in nobody's way")
				} else {
					require.Equal(t, 4, refused)
					tried.Row(t, "six plain calls answered by 101, InFlight: 2", "six in flight", "two in flight", "%d in flight", len(out))
				}
				for _, body := range out {
					body.Close()
				}
				resp, err := rt.RoundTrip(request(t, ask.method, ask.header))
				require.NoError(t, err)
				require.False(t, transport.Refused(resp), "and the places are given back")
				resp.Body.Close()
			})
		})
	}
}

func TestASwitchThatNobodyAskedForIsWithinTimeoutBody(t *testing.T) {
	const timeout = 3500 * time.Millisecond
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			bubble.Serve(t, protocols(1), switching(ask.protocol), func(t *testing.T, base *http.Transport) {
				defer time.Sleep(time.Minute) // until the handlers have ended
				rt := transport.New(base, limited(policy.Limits{Timeout: timeout, TimeoutBody: true}))
				began := time.Now()
				resp, err := rt.RoundTrip(request(t, ask.method, ask.header))
				require.NoError(t, err)
				require.Implements(t, (*io.ReadWriteCloser)(nil), resp.Body, "as net/http has it")
				got, err := io.ReadAll(resp.Body)
				if ask.solicits {
					require.NoError(t, err)
					require.Equal(t, 60, strings.Count(string(got), "tick"))
				} else {
					var late *policy.TimeoutError
					require.ErrorAs(t, err, &late)
					require.True(t, late.Body)
					require.Equal(t, timeout, time.Since(began))
					tried.Row(t, "a body of a minute behind such a 101, TimeoutBody: 3.5 s", "a minute", "3.5 s", "%v", timeout)
					require.Equal(t, 4, strings.Count(string(got), "tick"))
					require.EqualValues(t, 1, circuit(t, rt, here).FailedCalls)
				}
				resp.Body.Close()
			})
		})
	}
}

func TestTheConnectionOfASwitchThatNobodyAskedForEndsWithItsContext(t *testing.T) {
	for name, ask := range asks {
		t.Run(name, func(t *testing.T) {
			bubble.Serve(t, protocols(1), switching(ask.protocol), func(t *testing.T, base *http.Transport) {
				defer time.Sleep(time.Minute) // until the handlers have ended
				rt := transport.New(base, limited(policy.Limits{InFlight: 1}))
				req := request(t, ask.method, ask.header)
				ctx, cancel := context.WithCancel(t.Context())
				resp, err := rt.RoundTrip(req.WithContext(ctx))
				require.NoError(t, err)
				cancel()
				synctest.Wait()
				_, err = io.ReadAll(resp.Body)
				if ask.solicits {
					require.NoError(t, err, "as net/http has it")
				} else {
					require.Error(t, err, "or its place would be given back while it is there")
				}
				resp.Body.Close()
			})
		})
	}
}

// Net/http reads the tunnel of a CONNECT as a body, which holds its place; a base that makes a connection of it means it to be the caller's.
func TestATunnelIsTheCallersIfItCanBeWrittenTo(t *testing.T) {
	connect := func(t *testing.T, body io.ReadCloser) policy.RefusalReason {
		rt := transport.New(withBody(200, body), limited(policy.Limits{InFlight: 1}))
		first, err := rt.RoundTrip(newRequest(t, http.MethodConnect, t.Context()))
		require.NoError(t, err)
		defer first.Body.Close()
		return because(t, rt)
	}
	require.Equal(t, policy.NotRefused, connect(t, duplexBody{&countedBody{Reader: strings.NewReader("")}}))
	require.Equal(t, policy.RefusedLimit, connect(t, &countedBody{Reader: strings.NewReader("")}))
}

func TestWhatNobodyAskedForCanBeWrittenToAllTheSame(t *testing.T) {
	rt := transport.New(withBody(101, duplexBody{&countedBody{Reader: strings.NewReader("hello")}}), limited(policy.Limits{InFlight: 1}))
	resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, t.Context()))
	require.NoError(t, err)
	require.Equal(t, policy.RefusedLimit, because(t, rt))
	_, err = io.WriteString(resp.Body.(io.Writer), "hello")
	require.NoError(t, err)
	require.ErrorIs(t, resp.Body.(interface{ CloseWrite() error }).CloseWrite(), http.ErrNotSupported)
	got, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "hello", string(got))
	require.Equal(t, policy.NotRefused, because(t, rt))
}
