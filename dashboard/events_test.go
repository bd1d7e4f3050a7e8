package dashboard_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestStreamTellsAllAndThenWhatChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.circuits("a.test", "b.test", "c.test")
	s := w.watch()
	rows, events := s.start()
	require.Len(t, rows, 3)
	require.NotNil(t, events[0].Head)
	assert.InDelta(t, time.Now().UnixMilli(), events[0].Now, 60_000)
	w.breaker.SetState(key("b.test"), policy.Open)
	e := s.change()
	require.Len(t, e.Rows, 1, "only what has changed")
	assert.Equal(t, "http://b.test", e.Rows[0].Circuit.Key)
	assert.Equal(t, "open", e.Rows[0].Circuit.State)
	assert.Equal(t, "http://b.test", rows[e.Rows[0].ID].Circuit.Key, "the same id")
	assert.Nil(t, e.Head)
	w.breaker.Force("http://c*", policy.Open)
	for e = s.next(); e.Head == nil; e = s.next() {
	}
	assert.Equal(t, "http://c*", e.Head.Overrides[0].Pattern)
	s.close()
}

func TestOtherSettingsAreSentThoughNothingElseHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.circuits("a.test")
	s := w.watch()
	rows, _ := s.start()
	for _, r := range rows {
		assert.Equal(t, "policy.Classic", r.Circuit.Policy)
		assert.Empty(t, r.Circuit.Own)
	}
	w.breaker.SetSettingsFor(func(transport.Key) transport.Settings {
		return transport.Settings{Refusal: transport.RPCUnavailable}
	})
	assert.Equal(t, []string{"refusal"}, s.change().Rows[0].Circuit.Own)
	w.breaker.SetPolicy(policy.Classic{Failures: 3, OpenFor: time.Hour}.Rules()) // the same by another name
	assert.Equal(t, "policy.Rules", s.change().Rows[0].Circuit.Policy)
	s.close()
}

func TestStripsAreSentAsTheyGrow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(1)
	s := w.watch()
	rows, _ := s.start()
	require.Len(t, rows, 1)
	var id uint32
	for id = range rows {
	}
	bars := make(map[int][4]int)
	merge := func(r row) {
		require.Equal(t, id, r.ID)
		for _, bar := range r.Bars {
			bars[bar[0]] = bar
		}
	}
	merge(rows[id])
	w.call(4)
	w.status.Store(http.StatusInternalServerError)
	w.call(5)
	for {
		var all row
		for _, bar := range bars {
			all.Bars = append(all.Bars, bar)
		}
		if good, failed, refused := all.sums(); good == 5 && failed == 3 && refused == 2 {
			break
		}
		for _, r := range s.next().Rows {
			merge(r)
		}
	}
	w.status.Store(http.StatusOK)
	w.breaker.SetState(key(strings.TrimPrefix(w.upstream, "http://")), policy.Closed)
	w.call(3) // good ones alone are told when their bar is complete
	for sum := 0; sum < 8; {
		for _, r := range s.next().Rows {
			merge(r)
		}
		sum = 0
		for _, bar := range bars {
			sum += bar[1]
		}
	}
	s.close()
}

func TestEventsAreBoundedWithThousandsOfCircuits(t *testing.T) {
	t.Parallel()
	const n = 3000
	w := newWorld(t)
	for i := range n {
		w.circuits(fmt.Sprintf("host-%d.test", i))
	}
	s := w.watch()
	rows, events := s.start()
	assert.Len(t, rows, n)
	largest := 0
	for _, e := range events {
		largest = max(largest, e.size)
	}
	assert.Less(t, largest, 80<<10)
	t.Logf("%d circuits in %d events, the largest of %d bytes", n, len(events), largest)
	w.breaker.SetState(key("host-7.test"), policy.Open)
	e := s.change()
	assert.Len(t, e.Rows, 1)
	assert.Less(t, e.size, 2000)
	s.close()
}

// watchSlowly connects one who watches and never reads, by way of buffers that are soon full.
func (w *world) watchSlowly() (ended chan struct{}) {
	for i := range 3000 {
		w.circuits(fmt.Sprintf("%s-%d.test", strings.Repeat("x", 200), i))
	}
	ended = make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer close(ended)
		w.board.ServeHTTP(rw, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		c.(*net.TCPConn).SetWriteBuffer(4096)
		return ctx
	}
	server.Start()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server.URL, "http://"))
	require.NoError(w.t, err)
	w.t.Cleanup(func() {
		conn.Close()
		server.Close()
	})
	require.NoError(w.t, conn.(*net.TCPConn).SetReadBuffer(4096))
	fmt.Fprintf(conn, "GET /events HTTP/1.1\r\nHost: x\r\n\r\n")
	line, err := bufio.NewReaderSize(conn, 16).ReadString('\n')
	require.NoError(w.t, err)
	require.Contains(w.t, line, "200 OK")
	return ended
}

func TestSlowWatcherBlocksNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.board.SetPatience(time.Hour)
	slow := w.watchSlowly()

	s := w.watch()
	rows, _ := s.start()
	assert.Len(t, rows, 3000)
	began := time.Now()
	w.call(100)
	w.status.Store(http.StatusInternalServerError)
	w.call(100)
	assert.Less(t, time.Since(began), 5*time.Second)
	for sent := false; !sent; {
		for _, r := range s.next().Rows {
			sent = sent || r.Circuit != nil && r.Circuit.Key == w.upstream && r.Circuit.State == "open"
		}
	}
	s.close()
	select {
	case <-slow:
		assert.Fail(t, "it was not slow")
	default:
	}
}

func TestTimeoutsOfTheServerDoNotEndTheStream(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){
		"plain":  (*httptest.Server).Start,
		"TLS":    (*httptest.Server).StartTLS,
		"HTTP/2": func(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.board.SetPatience(200 * time.Millisecond)
			w.call(1)
			server := httptest.NewUnstartedServer(w.board)
			server.Config.WriteTimeout, server.Config.ReadTimeout = time.Second, time.Second
			start(server)
			plain := w.server
			defer func() {
				server.Close()
				w.server = plain
			}()
			w.server, w.url = server, server.URL+"/"
			s := w.watch()
			s.start()
			assert.Equal(t, name == "HTTP/2", s.resp.ProtoMajor == 2)
			changes := 3
			if testing.Short() {
				changes = 2
			}
			for i := range changes { // a second apart
				w.breaker.SetState(key("a.test"), policy.State(i%2))
				s.change()
			}
			s.close()
		})
	}
}

func TestWatcherWhoDoesNotReadIsLetGo(t *testing.T) {
	w := newWorld(t)
	w.board.SetPatience(200 * time.Millisecond)
	select {
	case <-w.watchSlowly():
	case <-time.After(patience):
		require.FailNow(t, "it is still served")
	}
}

func TestNothingIsLeftOfWatchers(t *testing.T) {
	w := newWorld(t)
	w.call(1)
	during := goleak.IgnoreCurrent()
	for range 3 {
		one, two := w.watch(), w.watch()
		one.start()
		two.start()
		one.close()
		two.close()
	}
	w.server.Client().CloseIdleConnections()
	require.NoError(t, goleak.Find(during))
}

func TestThereIsABoundToWatchers(t *testing.T) {
	w := newWorld(t)
	var all []*stream
	for range 64 {
		s := w.watch()
		s.start()
		all = append(all, s)
	}
	status, _, header := w.do(http.MethodGet, "events", "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Equal(t, "10", header.Get("Retry-After"))
	for _, s := range all {
		s.close()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		resp, err := w.server.Client().Get(w.url + "events")
		require.NoError(t, err)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			break
		}
		require.True(t, time.Now().Before(deadline), "places are given back")
	}
}

func TestStreamIsNotForOtherSites(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"api", "events"} {
		status, _, _ := w.do(http.MethodGet, name, "", "Sec-Fetch-Site", "cross-site")
		assert.Equal(t, http.StatusForbidden, status, name)
	}
	status, _, _ := w.do(http.MethodGet, "", "", "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, http.StatusOK, status, "a link to the page works")
}

func TestAllowHosts(t *testing.T) {
	w := newWorld(t, dashboard.AllowHosts("localhost", "Ops.example.com:8443", "::1"))
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:81": 200, "ops.example.com:8443": 200, "[::1]:80": 200,
		"ops.example.com": 421, "evil.example": 421, "localhost.evil.example": 421, "127.0.0.1": 421,
	} {
		status, _, _ := w.do(http.MethodGet, "api", "", "Host", host)
		assert.Equal(t, want, status, host)
	}
}
