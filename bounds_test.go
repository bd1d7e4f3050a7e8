// What callers and upstreams cannot make of a Transport, however many they are.
package fusebox_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// someExist is a base for which hosts ending in ".real" answer with a status, and others do not exist.
func someExist(status map[string]int) roundTripper {
	return func(req *http.Request) (*http.Response, error) {
		if strings.HasSuffix(req.URL.Host, ".real") {
			return answer(max(status[req.URL.Host], 200), "")(req)
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: req.URL.Host, IsNotFound: true}}
	}
}

func callReal(rt http.RoundTripper, host string) (refused bool) {
	resp, err := rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://"+host+"/", nil))
	return err == nil && transport.Refused(resp)
}

func makeUpHosts(rt http.RoundTripper, hosts, times int) {
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range hosts / 4 {
				for range times {
					callReal(rt, fmt.Sprintf("made-up-%d-%d.test", g, i))
				}
			}
		})
	}
	wg.Wait()
}

func TestAFloodOfMadeUpHostsForgetsNothingOfRealOnes(t *testing.T) {
	bounds, madeUp := []int{100, 16384}, 8_000
	if testing.Short() {
		bounds, madeUp = bounds[:1], 2_000
	}
	for _, max := range bounds {
		for _, times := range []int{1, 7} {
			t.Run(fmt.Sprintf("%d circuits, %d times", max, times), func(t *testing.T) {
				status := map[string]int{"suspect.real": 500, "open.real": 500, "wary.real": 500}
				rt := transport.New(someExist(status), transport.WithMaxCircuits(max))
				key := func(host string) transport.Key { return transport.Key{Scheme: "http", Host: host} }
				for range 6 {
					callReal(rt, "wary.real") // trips
				}
				delete(status, "wary.real")
				for c, _ := rt.Circuit(key("wary.real")); c.State != policy.Closed; c, _ = rt.Circuit(key("wary.real")) {
					callReal(rt, "wary.real") // a false alarm
				}
				for range 5 {
					callReal(rt, "suspect.real")
				}
				for range 7 {
					callReal(rt, "open.real")
				}
				callReal(rt, "well.real")
				var before []transport.Snapshot
				for _, host := range []string{"wary.real", "suspect.real", "open.real", "well.real"} {
					c, ok := rt.Circuit(key(host))
					require.True(t, ok)
					before = append(before, c)
				}
				makeUpHosts(rt, max+madeUp, times)
				for _, b := range before {
					after, ok := rt.Circuit(b.Key)
					require.True(t, ok, "%v is forgotten", b.Key)
					require.Equal(t, b, after)
				}
				status["wary.real"] = 500
				for range 17 {
					require.False(t, callReal(rt, "wary.real"), "three times the evidence, after a false alarm")
				}
				callReal(rt, "suspect.real")
				require.True(t, callReal(rt, "suspect.real"), "the sixth failure trips, the flood in between notwithstanding")
			})
		}
	}
}

func TestAFloodOfMadeUpHostsLeavesRoomForARealOne(t *testing.T) {
	status := map[string]int{}
	rt := transport.New(someExist(status), transport.WithMaxCircuits(1000))
	makeUpHosts(rt, 2000, 7) // all circuits are open
	require.False(t, callReal(rt, "new.real"))
	status["new.real"] = 500
	for range 6 {
		callReal(rt, "new.real")
	}
	require.True(t, callReal(rt, "new.real"), "a new upstream in trouble is refused")
	require.Len(t, rt.Circuits(), 1000)
}

// A Key's Host is a piece of the URL's text, and keeps all of it.
func TestACircuitKeepsItsKeyAndNotTheURL(t *testing.T) {
	rt := transport.New(answer(200, ""))
	path := strings.Repeat("x", 1<<20)
	before := testkit.LiveHeap()
	for i := range 16 {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/%s", i, path), nil)
		require.NoError(t, err)
		_, err = rt.RoundTrip(req)
		require.NoError(t, err)
	}
	require.Less(t, testkit.LiveHeap()-before, int64(4<<20))
	require.Len(t, rt.Circuits(), 16)
}

// No DNS name is longer than 253 bytes.
func TestAHostLongerThanAnyNameIsNotKept(t *testing.T) {
	rt := transport.New(someExist(nil))
	before := testkit.LiveHeap()
	for i := range 16 {
		for range 2 {
			callReal(rt, fmt.Sprintf("%d.%s.test", i, strings.Repeat("x", 1<<20)))
		}
	}
	require.Less(t, testkit.LiveHeap()-before, int64(4<<20))
	runtime.KeepAlive(rt)
}

func TestMemoryStorageIsBounded(t *testing.T) {
	rt := transport.New(someExist(nil), transport.WithMaxCircuits(1000), transport.WithStorage(new(transport.MemoryStorage)))
	makeUpHosts(rt, 1000, 7)
	before := testkit.LiveHeap()
	hosts := 17_000
	if testing.Short() { // those that are set by hand are as many
		hosts = 1_000
	}
	makeUpHosts(rt, hosts, 7)
	for i := range 17_000 {
		rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprint(i)}, policy.Open)
		rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprint(i)}, policy.Closed)
	}
	require.Less(t, testkit.LiveHeap()-before, int64(10<<20))
	runtime.KeepAlive(rt)
}

// What net/http refuses to send, for what the caller put into the request, is no failure of the upstream: six such requests
// would open its circuit for all.
func TestWhatNetHTTPDoesNotSendIsNotTheUpstreamsFault(t *testing.T) {
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	h1 := httptest.NewServer(handler)
	defer h1.Close()
	h2 := httptest.NewUnstartedServer(handler)
	h2.EnableHTTP2, h2.Config.MaxHeaderBytes = true, 4096
	h2.StartTLS()
	defer h2.Close()
	chunked := func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), -1 }
	for name, c := range map[string]struct {
		server *httptest.Server
		spoil  func(*http.Request)
	}{
		"headers larger than HTTP/2's peer takes": {h2, func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 64<<10)) }},
		"trailer, HTTP/1":                         {h1, func(r *http.Request) { chunked(r); r.Trailer = http.Header{"Content-Length": nil} }},
		"trailer, HTTP/2":                         {h2, func(r *http.Request) { chunked(r); r.Trailer = http.Header{"Content-Length": nil} }},
		"opaque URL, HTTP/2":                      {h2, func(r *http.Request) { r.URL.Opaque = "x" }},
		"path without slash, HTTP/2":              {h2, func(r *http.Request) { r.URL.Path = "x" }},
	} {
		t.Run(name, func(t *testing.T) {
			base := c.server.Client().Transport.(*http.Transport).Clone()
			defer base.CloseIdleConnections()
			rt := transport.New(base)
			for range 6 {
				warm, err := http.NewRequest(http.MethodGet, c.server.URL, nil) // so that the peer's limits are known
				require.NoError(t, err)
				resp, err := base.RoundTrip(warm)
				require.NoError(t, err)
				resp.Body.Close()
				req, err := http.NewRequest(http.MethodPost, c.server.URL+"/x", nil)
				require.NoError(t, err)
				c.spoil(req)
				_, err = rt.RoundTrip(req)
				require.Error(t, err)
			}
			require.Equal(t, policy.Closed, rt.Circuits()[0].State)
			require.Zero(t, rt.Circuits()[0].FailedCalls, "%v", rt.Circuits()[0].Cause)
		})
	}
}

// The errors of net/http quote what the upstream sent, and atFault looks for words of net/http in them.
func TestAnUpstreamCannotPassItsFailureOffAsTheCallers(t *testing.T) {
	for _, wire := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: http: ContentLength=\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: invalid Host header\r\n\r\n",
	} {
		url := rawServer(t, func(conn net.Conn) { io.WriteString(conn, wire) })
		client, rt := newClient(t)
		_, err := client.Get(url)
		require.Error(t, err)
		require.EqualValues(t, 1, rt.Circuits()[0].FailedCalls, "%v", err)
	}
}

// TestARecoveryWhoseFirstAnswersAreFastEnds is of an upstream that is well: after it is back, ten answers take 2 ms (they
// are small, or come from a cache), and all others 20 ms.
func TestARecoveryWhoseFirstAnswersAreFastEnds(t *testing.T) {
	for _, usual := range []time.Duration{8 * time.Millisecond, 20 * time.Millisecond} { // four and ten times the least
		synctest.Test(t, func(t *testing.T) {
			var n atomic.Int64
			rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
				if n.Add(1) > 10 {
					time.Sleep(usual)
				} else {
					time.Sleep(2 * time.Millisecond)
				}
				return answer(200, "")(req)
			}))
			rt.SetState(here, policy.HalfOpen)
			for range 100 { // many callers wait
				go request(t, rt, t.Context())
				time.Sleep(200 * time.Microsecond)
			}
			for range 60 * 200 { // and then 200 a second
				go request(t, rt, t.Context())
				time.Sleep(5 * time.Millisecond)
			}
			time.Sleep(time.Second)
			c, _ := rt.Circuit(here)
			require.Equal(t, policy.Closed, c.State, "after a minute: limit %d, %d refused", c.Limit, c.Refusals)
		})
	}
}

// The line of an empty body is plain text, and a body of another type stays empty.
func TestTheGeneratedLineIsNeverHTML(t *testing.T) {
	rt := transport.New(answer(200, ""), transport.WithRefusal(transport.Response(503, http.Header{"Content-Type": {"text/html"}}, "")))
	req := httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil)
	req.URL.Host = "<script>alert(1)<"
	rt.SetState(transport.Upstream(req), policy.Open)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.False(t, strings.Contains(string(body), "<script>") && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html"))
}
