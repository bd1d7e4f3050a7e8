package dashboard_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

var all = dashboard.AllowActions(func(*http.Request) bool { return true })

// act posts an action to the handler itself, so that what panics does so here. It returns what the panic was about.
func (w *world) act(ctx context.Context, do, pattern string) (answer *httptest.ResponseRecorder, panicked any) {
	body, err := json.Marshal(map[string]string{"do": do, "pattern": pattern})
	require.NoError(w.t, err)
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/action", bytes.NewReader(body))
	r.Header.Set("Content-Type", asJSON)
	answer = httptest.NewRecorder()
	defer func() { panicked = recover() }()
	w.board.ServeHTTP(answer, r)
	return answer, nil
}

func (w *world) forced(host string) bool {
	c, ok := w.breaker.Circuit(key(host))
	require.True(w.t, ok)
	return c.Forced
}

func TestAnActionIsToldBeforeItIsDoneAndThenWhatCameOfIt(t *testing.T) {
	var w *world
	var told []string
	w = newWorld(t, all, dashboard.WithUser(func(*http.Request) string { return "night shift" }), dashboard.WithActionLog(func(a dashboard.Action) {
		assert.Equal(t, a.Stage == dashboard.Done, w.forced("a.test"))
		told = append(told, a.Stage+" "+a.Do+" "+a.Pattern+" "+a.User)
	}))
	w.circuits("a.test")
	answer, _ := w.act(t.Context(), "open", "http://a.test")
	require.Equal(t, http.StatusOK, answer.Code)
	require.Contains(t, answer.Body.String(), `"stage":"done"`)
	require.Equal(t, []string{"asked open http://a.test night shift", "done open http://a.test night shift"}, told)
	require.Len(t, w.api().Recent, 1)
}

func TestWhoPanicsBeforeAnActionLeavesItUndone(t *testing.T) {
	told := 0
	for name, option := range map[string]dashboard.Option{
		"who finds out the user": dashboard.WithUser(func(*http.Request) string { panic("no session") }),
		"the log":                dashboard.WithActionLog(func(dashboard.Action) { panic("no disk") }),
	} {
		t.Run(name, func(t *testing.T) {
			for _, do := range []string{"open", "closed", "reset"} {
				w := newWorld(t, all, dashboard.WithActionLog(func(dashboard.Action) { told++ }), option)
				w.circuits("a.test")
				w.breaker.SetState(key("a.test"), policy.Open)
				_, panicked := w.act(t.Context(), do, "*")
				require.NotNil(t, panicked)
				require.False(t, w.forced("a.test"), do)
				require.Empty(t, w.breaker.Overrides())
				c, _ := w.breaker.Circuit(key("a.test"))
				require.Equal(t, policy.Open, c.State)
				require.Empty(t, w.api().Recent)
			}
		})
	}
	require.Zero(t, told, "there is nothing to tell of")
}

func TestAnActionThatPanicsIsToldToBeBrokenOff(t *testing.T) {
	var text bytes.Buffer
	w := newWorld(t, all, dashboard.WithActionLog(dashboard.LogActions(slog.New(slog.NewTextHandler(&text, nil)))))
	w.circuits("a.test")
	w.breaker.Observe(transport.Observer{OnStateChange: func(transport.StateChange) { panic("observer") }})
	_, panicked := w.act(t.Context(), "open", "*")
	require.Equal(t, "observer", panicked)
	lines := strings.Split(text.String(), "\n")
	require.Len(t, lines, 3)
	assert.Contains(t, lines[0], `level=INFO msg="circuits by hand, asked for" do=open pattern=*`)
	assert.Contains(t, lines[1], `level=ERROR msg="circuits by hand, broken off" do=open pattern=*`)
	require.Equal(t, "broken off", w.api().Recent[0].Stage)
}

// failing is a Storage on the far side of a network that is down.
type failing struct{ panics bool }

func (*failing) Load(transport.Key) (transport.Record, error) {
	return transport.Record{}, transport.ErrNoRecord
}

func (f *failing) Save(transport.Record) error {
	if f.panics {
		panic("storage")
	}
	return errors.New("connection refused")
}

func TestAnActionThatAStorageDoesNotTakeIsTold(t *testing.T) {
	for stage, panics := range map[string]bool{dashboard.Done: false, dashboard.BrokenOff: true} {
		var told []string
		storage := new(failing)
		breaker := transport.New(nil, transport.WithStorage(storage))
		breaker.SetState(key("a.test"), policy.Closed)
		storage.panics = panics
		w := &world{t: t, breaker: breaker, board: dashboard.Handler(breaker, all,
			dashboard.WithActionLog(func(a dashboard.Action) { told = append(told, a.Stage) }))}
		_, panicked := w.act(t.Context(), "open", "*")
		require.Equal(t, panics, panicked != nil)
		require.Equal(t, []string{dashboard.Asked, stage}, told)
		require.True(t, w.forced("a.test"))
		w.board.Close()
	}
}

func TestAnActionIsNotDoneForARequestThatIsOver(t *testing.T) {
	var told []string
	ctx, cancel := context.WithCancel(t.Context())
	w := newWorld(t, all, dashboard.WithActionLog(func(a dashboard.Action) {
		told = append(told, a.Stage)
		cancel() // the log took its time, and whoever asked has been told that nothing came of it
	}))
	w.circuits("a.test")
	answer, _ := w.act(ctx, "open", "*")
	require.Equal(t, http.StatusServiceUnavailable, answer.Code)
	require.Equal(t, []string{"asked", "given up"}, told)
	require.False(t, w.forced("a.test"))
	require.Equal(t, "given up", w.api().Recent[0].Stage)
}

// What turns the direction of a line or takes no room is shown as what it is, wherever a pattern, a user or an address is.
func TestWhoActsIsSeen(t *testing.T) {
	var text bytes.Buffer
	var told []dashboard.Action
	log := dashboard.LogActions(slog.New(slog.NewJSONHandler(&text, nil)))
	w := newWorld(t, all, dashboard.WithUser(func(*http.Request) string { return "ad\u200bmin\u202e" + strings.Repeat("\u2066", 1<<20) }),
		dashboard.WithActionLog(func(a dashboard.Action) { told = append(told, a); log(a) }))
	hidden := "http://a.test*\u202e*"
	real := w.board // behind what believes a header, as proxies' middleware does
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = r.Header.Get("X-Forwarded-For") + r.RemoteAddr
		real.ServeHTTP(rw, r)
	}))
	defer server.Close()
	body, err := json.Marshal(map[string]string{"do": "open", "pattern": hidden})
	require.NoError(t, err)
	req, err := http.NewRequest(http.MethodPost, server.URL+"/action", bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", asJSON)
	req.Header.Set("X-Forwarded-For", "10.0.0.1\u202e")
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, "%s", answer)

	w.breaker.SetState(transport.Key{Scheme: "http", Host: "a.test", Detail: "\u202egnp"}, policy.Closed)
	_, api, _ := w.do(http.MethodGet, "api", "")
	for name, made := range map[string]string{"answer": string(answer), "log": text.String(), "api": api} {
		assert.NotContains(t, made, "\u202e", name)
		assert.NotContains(t, made, "\u200b", name)
		assert.NotContains(t, made, "\u2066", name)
		assert.Contains(t, made, `ad\\u200bmin\\u202e`, name)
		assert.Contains(t, made, `10.0.0.1\\u202e`, name)
		assert.Contains(t, made, `http://a.test*\\\\u202e*`, name)
		assert.Less(t, len(made), 10_000, name)
	}
	assert.Equal(t, `ad\u200bmin\u202e`, told[0].User[:17])
	assert.Equal(t, `http://a.test*\\u202e*`, told[0].Pattern)
	require.Len(t, w.breaker.Overrides(), 1)
	status, _, _ := w.do(http.MethodPost, "action", `{"do":"release","pattern":"`+hidden+`"}`, "Content-Type", asJSON)
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, w.breaker.Overrides())
}
