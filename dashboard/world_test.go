package dashboard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 2 * time.Minute // with a busy machine, under the race detector

var classic = transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Hour})

// world is a Transport with a real upstream, and its dashboard on a real server.
type world struct {
	t        *testing.T
	breaker  *transport.Transport
	upstream string // URL
	status   atomic.Int64
	board    *dashboard.Dashboard
	server   *httptest.Server
	url      string
	ended    atomic.Int64 // connections of the server
}

func newWorld(t *testing.T, opts ...dashboard.Option) *world {
	w := &world{t: t}
	w.status.Store(http.StatusOK)
	upstream := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(int(w.status.Load())) }))
	w.upstream = upstream.URL
	w.breaker = transport.New(nil, classic)
	w.board = dashboard.Handler(w.breaker, opts...)
	mux := http.NewServeMux()
	mux.Handle("/debug/fusebox/", w.board)
	w.server = httptest.NewServer(mux)
	w.url = w.server.URL + "/debug/fusebox/"
	t.Cleanup(func() {
		w.board.Close()
		w.server.Close()
		w.server.Client().CloseIdleConnections()
		w.breaker.CloseIdleConnections()
		upstream.Close()
	})
	return w
}

// call calls the upstream n times.
func (w *world) call(n int) {
	w.t.Helper()
	for range n {
		resp, err := (&http.Client{Transport: w.breaker}).Get(w.upstream)
		require.NoError(w.t, err)
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// circuits makes n circuits.
func (w *world) circuits(names ...string) {
	for _, name := range names {
		require.True(w.t, w.breaker.SetState(key(name), policy.Closed))
	}
}

func key(host string) transport.Key { return transport.Key{Scheme: "http", Host: host} }

func (w *world) do(method, name, body string, header ...string) (int, string, http.Header) {
	w.t.Helper()
	req, err := http.NewRequest(method, w.url+name, strings.NewReader(body))
	require.NoError(w.t, err)
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.server.Client().Do(req)
	require.NoError(w.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(w.t, err)
	return resp.StatusCode, string(text), resp.Header
}

// circuit is one as it is sent.
type circuit struct {
	Key, State     string
	Forced         bool
	ForcedBy       string `json:"forced_by"`
	Cause          string
	RefusedBecause string `json:"refused_because"`
	Policy         string
	Own            []string
	FailedCalls    int `json:"failed_calls"`
	Refusals       int
	Samples        []struct {
		Cause string
		Count int
	}
	Transitions []struct {
		At               time.Time
		From, To, Reason string
		Cause            string
		Failures         int
	}
}

type row struct {
	ID      uint32
	Circuit *circuit
	Bars    [][4]int
}

func (r row) sums() (good, failed, refused int) {
	for _, bar := range r.Bars {
		good, failed, refused = good+bar[1], failed+bar[2], refused+bar[3]
	}
	return good, failed, refused
}

type head struct {
	BarSeconds int `json:"bar_seconds"`
	Bars       int
	GoodCalls  bool `json:"good_calls"`
	Actions    bool
	Overrides  []struct{ Pattern, State string }
	Recent     []dashboard.Action     `json:"recent_actions"`
	Local      *struct{ Tripped int } `json:"local_trouble"`
}

type answer struct {
	head
	Now      time.Time
	Circuits []row
}

func (w *world) api() (a answer) {
	w.t.Helper()
	status, body, header := w.do(http.MethodGet, "api", "")
	require.Equal(w.t, http.StatusOK, status, body)
	require.Equal(w.t, "application/json", header.Get("Content-Type"))
	require.NoError(w.t, json.Unmarshal([]byte(body), &a))
	return a
}

// await asks the API until it answers what it should.
func (w *world) await(ok func(answer) bool) answer {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		a := w.api()
		if ok(a) {
			return a
		}
		require.True(w.t, time.Now().Before(deadline), "never so: %+v", a)
	}
}

type event struct {
	Now  int64
	Head *head
	Rows []row
	Gone []uint32
	More bool
	size int
}

// stream is a connection of one who watches.
type stream struct {
	t    *testing.T
	resp *http.Response
	in   *bufio.Reader
	end  func()
}

func (w *world) watch() *stream {
	w.t.Helper()
	ctx, end := context.WithCancel(w.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"events", nil)
	require.NoError(w.t, err)
	resp, err := w.server.Client().Do(req)
	require.NoError(w.t, err)
	require.Equal(w.t, http.StatusOK, resp.StatusCode)
	require.Equal(w.t, "text/event-stream", resp.Header.Get("Content-Type"))
	w.t.Cleanup(func() { resp.Body.Close() })
	return &stream{t: w.t, resp: resp, in: bufio.NewReader(resp.Body), end: end}
}

func (s *stream) next() (e event) {
	s.t.Helper()
	for {
		line, err := s.in.ReadString('\n')
		require.NoError(s.t, err)
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			require.NoError(s.t, json.Unmarshal([]byte(data), &e))
			e.size = len(data)
			return e
		}
	}
}

// change reads up to an event that has rows.
func (s *stream) change() event {
	s.t.Helper()
	defer time.AfterFunc(patience, s.end).Stop() // to close the body would wait for the read
	for {
		if e := s.next(); e.Rows != nil {
			return e
		}
	}
}

// start reads the events that tell all.
func (s *stream) start() (rows map[uint32]row, events []event) {
	s.t.Helper()
	rows = make(map[uint32]row)
	for {
		e := s.next()
		events = append(events, e)
		for _, r := range e.Rows {
			rows[r.ID] = r
		}
		if !e.More {
			return rows, events
		}
	}
}

func (s *stream) close() { s.resp.Body.Close() }
