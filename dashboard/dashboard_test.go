package dashboard_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func TestServedUnderAnyMount(t *testing.T) {
	breaker := transport.New(nil)
	board := dashboard.Handler(breaker)
	defer board.Close()
	mux := http.NewServeMux()
	mux.Handle("/debug/fusebox/", board)
	for name, mount := range map[string]struct {
		handler http.Handler
		prefix  string
	}{
		"root":                      {board, "/"},
		"mux":                       {mux, "/debug/fusebox/"},
		"stripped":                  {http.StripPrefix("/ops/fuses", board), "/ops/fuses/"},
		"stripped to the last part": {http.StripPrefix("/ops/fuses/", board), "/ops/fuses/"},
	} {
		for path, kind := range map[string]string{
			"": "text/html; charset=utf-8", "app.js": "text/javascript; charset=utf-8", "style.css": "text/css; charset=utf-8", "api": "application/json",
		} {
			w := httptest.NewRecorder()
			mount.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, mount.prefix+path, nil))
			assert.Equal(t, http.StatusOK, w.Code, "%s %s", name, path)
			assert.Equal(t, kind, w.Header().Get("Content-Type"), "%s %s", name, path)
			assert.NotEmpty(t, w.Body.String(), "%s %s", name, path)
		}
		for _, path := range []string{"index.html", "assets", "go.mod", "dashboard.go", "api.json"} {
			w := httptest.NewRecorder()
			mount.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, mount.prefix+path, nil))
			assert.Equal(t, http.StatusNotFound, w.Code, "%s %s", name, path)
		}
	}
}

func TestEveryAnswerHasTheHeaders(t *testing.T) {
	w := newWorld(t)
	for _, ask := range []struct {
		method, name string
		status       int
	}{
		{"GET", "", 200}, {"HEAD", "", 200}, {"GET", "api", 200}, {"GET", "no-such", 404}, {"POST", "", 405}, {"PUT", "api", 405},
		{"DELETE", "events", 405}, {"GET", "action", 405}, {"OPTIONS", "action", 405}, {"POST", "action", 403}, {"HEAD", "events", 200},
	} {
		status, _, h := w.do(ask.method, ask.name, "")
		assert.Equal(t, ask.status, status, "%v", ask)
		assert.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'", h.Get("Content-Security-Policy"), "%v", ask)
		assert.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), "%v", ask)
		assert.Equal(t, "no-store", h.Get("Cache-Control"), "%v", ask)
		assert.Empty(t, h.Get("Access-Control-Allow-Origin"), "%v", ask)
	}
}

// What the Content-Security-Policy forbids, the page does not do, and no text of a server becomes markup.
func TestAssetsHaveNoMarkupFromData(t *testing.T) {
	assets := os.DirFS("assets")
	read := func(name string) string {
		text, err := fs.ReadFile(assets, name)
		require.NoError(t, err)
		return string(text)
	}
	page, script, style := read("index.html"), read("app.js"), read("style.css")
	assert.NotRegexp(t, regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son\w+=|https?://(?:[^*w]|w[^w])`), page)
	assert.NotRegexp(t, regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|srcdoc|createContextualFragment`), script)
	assert.NotRegexp(t, regexp.MustCompile(`@import|url\(`), style)
	for _, other := range regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.HasPrefix(other[1], "data:") {
			assert.NotContains(t, other[1], "/", "URLs are relative to the page")
		}
	}
}

func TestAPITellsWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(2)
	w.status.Store(http.StatusInternalServerError)
	w.call(8)
	a := w.api()
	require.Len(t, a.Circuits, 1)
	c := a.Circuits[0].Circuit
	assert.Equal(t, w.upstream, c.Key)
	assert.Equal(t, "open", c.State)
	assert.Equal(t, "status 500", c.Cause)
	assert.Equal(t, 3, c.FailedCalls)
	assert.Equal(t, 5, c.Refusals)
	assert.Equal(t, "open", c.RefusedBecause)
	require.Len(t, c.Samples, 1)
	assert.Equal(t, 3, c.Samples[0].Count)
	require.Len(t, c.Transitions, 1)
	assert.Equal(t, "tripped", c.Transitions[0].Reason)
	assert.Equal(t, "closed open status 500 3", fmt.Sprint(c.Transitions[0].From, " ", c.Transitions[0].To, " ", c.Transitions[0].Cause, " ", c.Transitions[0].Failures))
	good, failed, refused := a.Circuits[0].sums()
	assert.Equal(t, []int{2, 3, 5}, []int{good, failed, refused})
	assert.True(t, a.GoodCalls)
	assert.False(t, a.Actions)
	assert.Equal(t, 5, a.BarSeconds)
	assert.Equal(t, 60, a.Bars)
	assert.Empty(t, a.Overrides)

	w.breaker.Force(w.upstream, policy.Closed)
	a = w.await(func(a answer) bool { return a.Circuits[0].Circuit.Forced })
	assert.Equal(t, "closed", a.Circuits[0].Circuit.State)
	assert.Equal(t, "forced", a.Circuits[0].Circuit.Transitions[0].Reason, "the last goes first")
	assert.Equal(t, w.upstream, a.Overrides[0].Pattern)
}

func TestWhatForcesACircuitIsShownAsItChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.circuits("a.test")
	forcedBy := func(pattern string) func(answer) bool {
		return func(a answer) bool { return a.Circuits[0].Circuit.ForcedBy == pattern }
	}
	w.breaker.Force("http://a.test", policy.Open)
	w.await(forcedBy("http://a.test"))
	w.breaker.Force("*", policy.Open) // the state is the same
	w.await(forcedBy("*"))
	w.breaker.Release("http://a.test")
	w.breaker.Release("*")
	w.await(forcedBy(""))
}

func TestGoodCallsAreLeftOut(t *testing.T) {
	w := newWorld(t, dashboard.WithoutGoodCalls())
	w.call(2)
	w.status.Store(http.StatusInternalServerError)
	w.call(4)
	a := w.api()
	good, failed, refused := a.Circuits[0].sums()
	assert.Equal(t, []int{0, 3, 1}, []int{good, failed, refused})
	assert.False(t, a.GoodCalls)
}

func TestOnlyTheLastTransitionsAreKept(t *testing.T) {
	w := newWorld(t)
	for i := range 50 {
		w.breaker.SetState(key("a.test"), policy.State(1+i%2))
	}
	a := w.api()
	require.Len(t, a.Circuits[0].Circuit.Transitions, 16)
	assert.Equal(t, "half-open", a.Circuits[0].Circuit.Transitions[0].To)
	assert.Equal(t, "open", a.Circuits[0].Circuit.Transitions[1].To)
}

func TestCircuitsThatAreForgottenGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	breaker := transport.New(nil, transport.WithMaxCircuits(2))
	w.breaker.CloseIdleConnections()
	w.breaker = breaker
	board := dashboard.Handler(breaker)
	t.Cleanup(board.Close)
	server := httptest.NewServer(board)
	t.Cleanup(server.Close)
	w.url, w.board = server.URL+"/", board
	w.circuits("a.test", "b.test")
	s := w.watch()
	rows, _ := s.start()
	require.Len(t, rows, 2)
	w.circuits("c.test")
	e := s.change()
	require.Len(t, e.Rows, 1)
	assert.Equal(t, "http://c.test", e.Rows[0].Circuit.Key)
	require.Len(t, e.Gone, 1)
	assert.Contains(t, rows, e.Gone[0])
	s.close()
}

func TestLocalTroubleIsShownUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := http.StatusInternalServerError
		breaker := transport.New(base(func(*http.Request) int { return status }), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Minute}))
		board := dashboard.Handler(breaker)
		defer board.Close()
		call := func() {
			for i := range 4 {
				req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test/", i), nil)
				resp, err := breaker.RoundTrip(req)
				require.NoError(t, err)
				resp.Body.Close()
			}
		}
		shown := func() string {
			w := httptest.NewRecorder()
			board.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api", nil))
			return w.Body.String()
		}
		assert.NotContains(t, shown(), "local_trouble")
		call()
		time.Sleep(2 * time.Second)
		assert.Regexp(t, `"local_trouble":\{[^}]*"tripped":4,"well":0\}`, shown())
		time.Sleep(time.Minute)
		status = http.StatusOK
		call()
		time.Sleep(2 * time.Second)
		assert.NotContains(t, shown(), "local_trouble")
	})
}

type base func(*http.Request) int

func (b base) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: b(req), Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func TestCloseEndsAll(t *testing.T) {
	w := newWorld(t)
	w.call(1)
	s := w.watch()
	s.start()
	w.board.Close()
	w.board.Close()
	_, err := s.in.ReadString(0)
	assert.Error(t, err)
	status, _, _ := w.do(http.MethodGet, "api", "")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	again := dashboard.Handler(w.breaker)
	defer again.Close()
	w.call(2)
	recorder := httptest.NewRecorder()
	again.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/api", nil))
	assert.Contains(t, recorder.Body.String(), ",2,0,0]]")
}

func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	breaker := transport.New(base(func(r *http.Request) int {
		if strings.HasPrefix(r.URL.Host, "bad") {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}), transport.WithMaxCircuits(20))
	board := dashboard.Handler(breaker, dashboard.AllowActions(func(*http.Request) bool { return true }))
	length := 1500 * time.Millisecond
	if testing.Short() {
		length /= 5
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s-%d.test/", []string{"bad", "good"}[n%2], (n*7+i)%40), nil)
				if resp, err := breaker.RoundTrip(req); err == nil {
					resp.Body.Close()
				}
			}
		})
	}
	all.Go(func() {
		for ctx.Err() == nil {
			board.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/api", nil))
			for _, do := range []string{"open", "release", "closed", "release", "reset"} {
				r := httptest.NewRequest(http.MethodPost, "/action", strings.NewReader(`{"do":"`+do+`","pattern":"http://good-1*"}`))
				r.Header.Set("Content-Type", "application/json")
				board.ServeHTTP(httptest.NewRecorder(), r)
			}
		}
	})
	for range 2 {
		all.Go(func() {
			board.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/events", nil).WithContext(ctx))
		})
	}
	all.Wait()
	board.Close()
	assert.Empty(t, breaker.Overrides())
}

func ExampleHandler() {
	breaker := transport.New(nil)
	mux := http.NewServeMux() // of a listener that only operators reach
	mux.Handle("/debug/fusebox/", dashboard.Handler(breaker,
		dashboard.AllowActions(func(r *http.Request) bool { return r.Header.Get("X-Forwarded-Groups") == "on-call" }), // set by a proxy
		dashboard.WithActionLog(func(a dashboard.Action) { fmt.Println(a.User, a.Do, a.Pattern) }),
	))
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/fusebox/", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 200 text/html; charset=utf-8
}
