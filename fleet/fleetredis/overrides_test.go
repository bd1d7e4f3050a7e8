package fleetredis_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// follow has a Transport follow what is forced over a Redis.
func follow(t *testing.T, addr string, logger *slog.Logger) (tr *transport.Transport, stop func()) {
	tr = transport.New(testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
	}), transport.WithKey(func(req *http.Request) transport.Key { // one of its own, for which any pattern can be forced
		return transport.Upstream(req)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	client := clientOf(t, addr)
	var running sync.WaitGroup
	running.Go(func() { fleetredis.FollowOverrides(ctx, tr, client, fleetredis.Options{Logger: logger}) })
	stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(stop)
	return tr, stop
}

func force(t *testing.T, a *fleetredis.Admin, pattern string, state policy.State, hold time.Duration) {
	_, err := a.Force(t.Context(), pattern, state, hold)
	require.NoError(t, err)
}

func forcedOn(tr *transport.Transport) string {
	var all []string
	for _, o := range tr.Overrides() {
		all = append(all, o.Pattern+" "+o.State.String())
	}
	return strings.Join(all, ", ")
}

func becomes(t *testing.T, tr *transport.Transport, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return forcedOn(tr) == want }, 2*patience, 5*time.Millisecond, "wanted %q, is %q", want, forcedOn(tr))
}

func TestFollowersForceWhatTheAdminForces(t *testing.T) {
	s := startRedis(t)
	a := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
	one, _ := follow(t, s.addr, slog.Default())
	one.Force("https://mine.example.com", policy.Closed) // of which nobody else knows
	force(t, a, "https://*", policy.Open, time.Hour)
	becomes(t, one, "https://mine.example.com closed, https://* open")
	<-time.After(2 * time.Millisecond) // the order is by milliseconds
	force(t, a, "https://good*", policy.Closed, time.Hour)
	becomes(t, one, "https://mine.example.com closed, https://* open, https://good* closed")
	two, stop := follow(t, s.addr, slog.Default())
	becomes(t, two, "https://* open, https://good* closed")

	all, err := a.Overrides(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	assert.Equal(t, "https://*", all[0].Pattern)
	assert.InDelta(t, time.Hour, all[0].Left, float64(time.Minute))

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://bad.example.com/", nil)
	require.NoError(t, err)
	resp, err := two.RoundTrip(req)
	require.NoError(t, err)
	assert.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	resp.Body.Close()

	known, err := a.Release(t.Context(), "https://*")
	require.NoError(t, err)
	assert.True(t, known)
	becomes(t, one, "https://mine.example.com closed, https://good* closed")
	becomes(t, two, "https://good* closed")
	known, err = a.Release(t.Context(), "https://*")
	require.NoError(t, err)
	assert.False(t, known)

	stop()
	assert.Empty(t, forcedOn(two), "after it has stopped to follow")
}

// Or a namespace that is misspelled would look as if all had heard.
func TestWhoForcesIsToldHowManyFollow(t *testing.T) {
	s := startRedis(t)
	a := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
	for want := range 3 {
		require.Eventually(t, func() bool {
			followers, err := a.Force(t.Context(), "x", policy.Open, time.Hour)
			return err == nil && followers == want
		}, patience, 10*time.Millisecond)
		follow(t, s.addr, slog.Default())
	}
}

func TestWhatIsForcedEndsByItself(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	a := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
	force(t, a, "long", policy.Open, time.Hour)
	force(t, a, "short", policy.Open, 2*time.Second)
	var log logbook
	one, _ := follow(t, s.addr, slog.New(&log))
	becomes(t, one, "long open, short open")
	s.kill() // its end does not need a Redis
	start := time.Now()
	becomes(t, one, "long open")
	assert.Less(t, time.Since(start), 10*time.Second)
	s.start(t) // empty
	becomes(t, one, "")
	assert.Equal(t, 1, log.count(slog.LevelWarn))
	force(t, a, "again", policy.Closed, time.Minute)
	becomes(t, one, "again closed")
}

func TestAFollowerThatHasMissedAChangeCatchesUp(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	p := startProxy(t, s.addr)
	a := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
	force(t, a, "x", policy.Open, time.Hour)
	one, _ := follow(t, p.Addr().String(), slog.New(&logbook{}))
	becomes(t, one, "x open")
	p.become(refuses)
	_, err := a.Release(t.Context(), "x")
	require.NoError(t, err)
	p.become(passes)
	start := time.Now()
	becomes(t, one, "")
	assert.Less(t, time.Since(start), 15*time.Second, "it looks every half minute in any case")
}

// Whoever can write to that Redis can write anything.
func TestAFollowerLeavesOutWhatItCannotForce(t *testing.T) {
	s := startRedis(t)
	c := s.client(t)
	const hash = "fusebox:{default}:v1:overrides"
	for _, pattern := range []string{"", strings.Repeat("p", 8193), strings.Repeat("*", 1<<20)} {
		require.NoError(t, c.HSet(t.Context(), hash, pattern, `{"state":"open","at":1,"until":10000000000000}`).Err())
	}
	force(t, fleetredis.NewAdmin(c, fleetredis.Options{}), "good", policy.Open, time.Hour)
	var log logbook
	one, _ := follow(t, s.addr, slog.New(&log))
	becomes(t, one, "good open")
	require.Eventually(t, func() bool { return log.count(slog.LevelWarn) == 1 }, patience, 10*time.Millisecond, "it is told")

	// There are as many as can be, and some that this process has forced itself.
	for i := range 1200 {
		require.NoError(t, c.HSet(t.Context(), hash, fmt.Sprint("many-", i), `{"state":"open","at":1,"until":10000000000000}`).Err())
	}
	_, err := one.Force("mine", policy.Closed)
	require.NoError(t, err)
	force(t, fleetredis.NewAdmin(c, fleetredis.Options{}), "good", policy.Closed, time.Hour) // by which it looks
	require.Eventually(t, func() bool { return len(one.Overrides()) == 1024 }, patience, 10*time.Millisecond)
	assert.Contains(t, forcedOn(one), "mine closed")
	require.Eventually(t, func() bool { return log.count(slog.LevelWarn) == 2 }, patience, 10*time.Millisecond)
}

func TestOverridesThatMakeNoSenseAreLeftOut(t *testing.T) {
	s := startRedis(t)
	c := s.client(t)
	const hash = "fusebox:{default}:v1:overrides"
	for pattern, text := range map[string]string{
		"a": "", "b": "{", "c": `[]`, "d": `{"state":"half-open","until":1e13}`, "e": `{"state":"ajar","until":10000000000000}`,
		"f": `{"state":"open"}`, "g": `{"state":"open","until":1}`, "h": `{"until":10000000000000}`, "i": `{"state":"open","until":"x"}`,
		strings.Repeat("p", 9<<10): `{"state":"open","at":1,"until":10000000000000}`,
	} {
		require.NoError(t, c.HSet(t.Context(), hash, pattern, text).Err())
	}
	a := fleetredis.NewAdmin(c, fleetredis.Options{})
	force(t, a, `"quoted" \ * %s`, policy.Open, time.Hour)
	all, err := a.Overrides(t.Context())
	require.NoError(t, err)
	all = slices.DeleteFunc(all, func(o fleetredis.Override) bool { return o.Pattern == `"quoted" \ * %s` })
	assert.Empty(t, all)

	// What is forced counts, but not times that nobody could write down.
	for pattern, text := range map[string]string{
		"past": `{"state":"open","at":-9223372036854775808,"until":9223372036854775807}`, "future": `{"state":"open","at":9223372036854775807,"until":9000000000000000000}`,
	} {
		require.NoError(t, c.HSet(t.Context(), hash, pattern, text).Err())
	}
	all, err = a.Overrides(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	for _, o := range all {
		_, err := json.Marshal(o)
		require.NoError(t, err)
		assert.LessOrEqual(t, o.Left, 30*24*time.Hour)
		assert.Positive(t, o.Left)
		assert.False(t, o.At.After(time.Now().Add(time.Minute)))
	}
	for name, force := range map[string]func() (int, error){
		"state":   func() (int, error) { return a.Force(t.Context(), "x", policy.HalfOpen, time.Hour) },
		"pattern": func() (int, error) { return a.Force(t.Context(), "", policy.Open, time.Hour) },
		"short":   func() (int, error) { return a.Force(t.Context(), "x", policy.Open, 0) },
		"long":    func() (int, error) { return a.Force(t.Context(), "x", policy.Open, 100*24*time.Hour) },
	} {
		_, err := force()
		assert.Error(t, err, name)
	}
}

// Or it would be forced for good in the process that comes after.
func TestWhatIsForcedOverRedisIsNotSaved(t *testing.T) {
	s := startRedis(t)
	a := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
	force(t, a, "x", policy.Open, time.Hour)
	one, _ := follow(t, s.addr, slog.Default())
	becomes(t, one, "x open")
	var file bytes.Buffer
	require.NoError(t, one.SaveTo(&file))
	next := transport.New(nil)
	_, err := next.RestoreFrom(&file, 0)
	require.NoError(t, err)
	assert.Empty(t, next.Overrides())
}
