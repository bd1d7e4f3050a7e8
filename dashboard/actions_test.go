package dashboard_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/policy"
)

const asJSON = "application/json"

func TestActions(t *testing.T) {
	var told []dashboard.Action
	w := newWorld(t, dashboard.AllowActions(func(r *http.Request) bool { return r.Header.Get("Authorization") == "of an operator" }),
		dashboard.WithUser(func(r *http.Request) string { return r.Header.Get("X-User") }),
		dashboard.WithActionLog(func(a dashboard.Action) {
			if a.Stage == dashboard.Done {
				told = append(told, a)
			}
		}))
	w.circuits("a.test", "b.test")
	act := func(do, pattern string) string {
		t.Helper()
		status, body, _ := w.do(http.MethodPost, "action", `{"do":"`+do+`","pattern":"`+pattern+`"}`,
			"Content-Type", asJSON, "Authorization", "of an operator", "X-User", "night shift", "Origin", w.server.URL, "Sec-Fetch-Site", "same-origin")
		require.Equal(t, http.StatusOK, status, body)
		return body
	}
	state := func(host string) (policy.State, bool) {
		c, ok := w.breaker.Circuit(key(host))
		require.True(t, ok)
		return c.State, c.Forced
	}
	assert.Contains(t, act("open", "http://a.test"), `"matched":1`)
	s, forced := state("a.test")
	assert.Equal(t, policy.Open, s)
	assert.True(t, forced)
	assert.Contains(t, act("closed", "*"), `"matched":2`)
	s, forced = state("a.test")
	assert.Equal(t, policy.Closed, s)
	assert.True(t, forced)
	act("release", "*")
	act("release", "http://a.test")
	_, forced = state("a.test")
	assert.False(t, forced)
	w.breaker.SetState(key("b.test"), policy.Open)
	act("reset", "http://b*")
	s, _ = state("b.test")
	assert.Equal(t, policy.Closed, s)

	require.Len(t, told, 5)
	assert.Equal(t, "open http://a.test night shift", told[0].Do+" "+told[0].Pattern+" "+told[0].User)
	assert.True(t, strings.HasPrefix(told[0].Remote, "127.0.0.1:"))
	assert.False(t, told[0].At.IsZero())
	recent := w.api().Recent
	require.Len(t, recent, 5)
	assert.Equal(t, "reset", recent[0].Do)
}

func TestAPatternThatNoKeyCanMatchIsAnsweredByWhatToWrite(t *testing.T) {
	w := newWorld(t, dashboard.AllowActions(func(*http.Request) bool { return true }))
	for _, do := range []string{"open", "closed", "reset"} {
		status, body, _ := w.do(http.MethodPost, "action", `{"do":"`+do+`","pattern":"https://Example.com:443"}`,
			"Content-Type", asJSON, "Origin", w.server.URL, "Sec-Fetch-Site", "same-origin")
		assert.Equal(t, http.StatusBadRequest, status)
		assert.Contains(t, body, "write https://example.com\n")
	}
}

func TestActionsAreLogged(t *testing.T) {
	var text bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "remote" {
			return slog.Attr{}
		}
		return a
	}}))
	w := newWorld(t, dashboard.AllowActions(func(*http.Request) bool { return true }),
		dashboard.WithUser(func(r *http.Request) string { return r.Header.Get("X-User") }), dashboard.WithActionLog(dashboard.LogActions(logger)))
	w.circuits("a.test", "b.test")
	act := func(body, user string) {
		t.Helper()
		status, answer, _ := w.do(http.MethodPost, "action", body, "Content-Type", asJSON, "X-User", user)
		require.Equal(t, http.StatusOK, status, answer)
	}
	act(`{"do":"open","pattern":"*"}`, "night shift")
	act(`{"do":"release","pattern":"http://a.test"}`, "")
	assert.Equal(t, `level=INFO msg="circuits by hand, asked for" do=open pattern=* user="night shift"
level=INFO msg="circuits by hand" do=open pattern=* matched=2 user="night shift"
level=INFO msg="circuits by hand, asked for" do=release pattern=http://a.test
level=WARN msg="circuits by hand" do=release pattern=http://a.test matched=0
`, text.String())
}

func TestOnlyTheLastActionsAreKept(t *testing.T) {
	w := newWorld(t, dashboard.AllowActions(func(*http.Request) bool { return true }))
	for range 60 {
		status, _, _ := w.do(http.MethodPost, "action", `{"do":"reset","pattern":"*"}`, "Content-Type", asJSON)
		require.Equal(t, http.StatusOK, status)
	}
	assert.Len(t, w.api().Recent, 50)
}

// Each of these is refused, and nothing is forced by it.
func TestAttacks(t *testing.T) {
	const good = `{"do":"open","pattern":"*"}`
	for _, attack := range []struct {
		name, method, body string
		header             []string
		status             int
	}{
		{"a link", "GET", "", nil, 405},
		{"another method", "PUT", good, []string{"Content-Type", asJSON}, 405},
		{"a preflight", "OPTIONS", "", []string{"Origin", "https://evil.example", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type"}, 405},
		{"a form of another site", "POST", "do=open&pattern=*", []string{"Content-Type", "application/x-www-form-urlencoded", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"a form of the same site", "POST", "do=open&pattern=*", []string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}, 415},
		{"JSON as text", "POST", good, []string{"Content-Type", "text/plain", "Sec-Fetch-Site", "same-origin"}, 415},
		{"no type", "POST", good, []string{"Sec-Fetch-Site", "same-origin"}, 415},
		{"type with JSON in it", "POST", good, []string{"Content-Type", "text/plain; application/json"}, 415},
		{"script of another site", "POST", good, []string{"Content-Type", asJSON, "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"}, 403},
		{"script of a sibling", "POST", good, []string{"Content-Type", asJSON, "Origin", "https://evil.example", "Sec-Fetch-Site", "same-site"}, 403},
		{"old browser, another origin", "POST", good, []string{"Content-Type", asJSON, "Origin", "https://evil.example"}, 403},
		{"origin null", "POST", good, []string{"Content-Type", asJSON, "Origin", "null"}, 403},
		{"cookies and no origin", "POST", good, []string{"Content-Type", asJSON, "Cookie", "session=1"}, 403},
		{"not an operator", "POST", good, []string{"Content-Type", asJSON, "Sec-Fetch-Site", "same-origin", "X-Who", "visitor"}, 403},
		{"unknown action", "POST", `{"do":"explode","pattern":"*"}`, []string{"Content-Type", asJSON}, 400},
		{"half-open", "POST", `{"do":"half-open","pattern":"*"}`, []string{"Content-Type", asJSON}, 400},
		{"no pattern", "POST", `{"do":"open"}`, []string{"Content-Type", asJSON}, 400},
		{"unknown field", "POST", `{"do":"open","pattern":"*","state":1}`, []string{"Content-Type", asJSON}, 400},
		{"no JSON", "POST", `do=open`, []string{"Content-Type", asJSON}, 400},
		{"two", "POST", good + good, []string{"Content-Type", asJSON}, 400},
		{"too much", "POST", `{"do":"open","pattern":"` + strings.Repeat("x", 1<<20) + `"}`, []string{"Content-Type", asJSON}, 400},
	} {
		t.Run(attack.name, func(t *testing.T) {
			told := 0
			w := newWorld(t, dashboard.AllowActions(func(r *http.Request) bool { return r.Header.Get("X-Who") != "visitor" }),
				dashboard.WithActionLog(func(dashboard.Action) { told++ }))
			w.circuits("a.test")
			status, _, header := w.do(attack.method, "action", attack.body, attack.header...)
			assert.Equal(t, attack.status, status)
			assert.Empty(t, header.Get("Access-Control-Allow-Origin"))
			assert.Empty(t, header.Get("Access-Control-Allow-Methods"))
			assert.Empty(t, w.breaker.Overrides())
			c, _ := w.breaker.Circuit(key("a.test"))
			assert.Equal(t, policy.Closed, c.State)
			assert.Zero(t, told)
		})
	}
}

func TestActionsAreOffByDefault(t *testing.T) {
	w := newWorld(t)
	w.circuits("a.test")
	status, body, _ := w.do(http.MethodPost, "action", `{"do":"open","pattern":"*"}`, "Content-Type", asJSON, "Sec-Fetch-Site", "same-origin")
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, body, "AllowActions")
	assert.Empty(t, w.breaker.Overrides())
	assert.False(t, w.api().Actions)
}

func TestRebindingIsStoppedByAllowHosts(t *testing.T) {
	w := newWorld(t, dashboard.AllowHosts("127.0.0.1"), dashboard.AllowActions(func(*http.Request) bool { return true }))
	// The other site's name resolves to this server's address now, so that its page is of the same origin.
	status, _, _ := w.do(http.MethodPost, "action", `{"do":"open","pattern":"*"}`, "Content-Type", asJSON,
		"Host", "evil.example", "Origin", "http://evil.example", "Sec-Fetch-Site", "same-origin")
	assert.Equal(t, http.StatusMisdirectedRequest, status)
	assert.Empty(t, w.breaker.Overrides())
	status, _, _ = w.do(http.MethodPost, "action", `{"do":"open","pattern":"*"}`, "Content-Type", asJSON)
	assert.Equal(t, http.StatusOK, status, "a command line has neither Origin nor cookies")
}

func TestOptionsThatMakeNoSensePanic(t *testing.T) {
	for _, f := range []func(){
		func() { dashboard.Handler(nil) }, func() { dashboard.AllowActions(nil) }, func() { dashboard.WithUser(nil) },
		func() { dashboard.WithActionLog(nil) }, func() { dashboard.LogActions(nil) }, func() { dashboard.AllowHosts() },
	} {
		assert.Panics(t, f)
	}
}
