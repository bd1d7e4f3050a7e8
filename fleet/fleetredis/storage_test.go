package fleetredis_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func record(host string, state policy.State) transport.Record {
	return transport.Record{
		Key: transport.Key{Scheme: "https", Host: host, Detail: "GET /x"}, State: state, Failures: 6, Successes: 2,
		Since: time.Now().Round(0), NextProbe: time.Now().Add(time.Second).Round(0), Known: true,
	}
}

// assertSame compares times as times.
func assertSame(t *testing.T, want, got transport.Record) {
	t.Helper()
	assert.True(t, want.Since.Equal(got.Since) && want.NextProbe.Equal(got.NextProbe), "%v is not %v", got, want)
	got.Since, got.NextProbe = want.Since, want.NextProbe
	assert.Equal(t, want, got)
}

func TestARecordOutlivesItsStorage(t *testing.T) {
	s := startRedis(t)
	first := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	open, closed := record("open", policy.Open), record("closed", policy.Closed)
	half := record("half", policy.HalfOpen)
	half.NextProbe = time.Time{}
	before := record("half", policy.Open) // whose next probe is not to stay
	earlier := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	require.NoError(t, earlier.Save(before))
	earlier.Close()
	for _, r := range []transport.Record{open, record("closed", policy.Open), half, closed} {
		require.NoError(t, first.Save(r))
	}
	first.Close()
	assert.Error(t, first.Save(open), "after Close")

	second := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	defer second.Close()
	for _, want := range []transport.Record{open, half} {
		got, err := second.Load(want.Key)
		require.NoError(t, err)
		assertSame(t, want, got)
	}
	_, err := second.Load(closed.Key)
	assert.ErrorIs(t, err, transport.ErrNoRecord)

	// What another tool sees.
	c := s.client(t)
	fields, err := c.HGetAll(t.Context(), "fusebox:{default}:v1:circuit:https://closed GET /x").Result()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"scheme": "https", "host": "closed", "detail": "GET /x", "state": "closed", "failures": "6", "successes": "2", "known": "1",
		"since": closed.Since.Format(time.RFC3339Nano), "next_probe": closed.NextProbe.Format(time.RFC3339Nano),
	}, fields)
	all, err := fleetredis.NewAdmin(c, fleetredis.Options{}).Records(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	assertSame(t, closed, all[0].Record)
	for _, key := range []string{"fusebox:{default}:v1:circuit:https://closed GET /x", "fusebox:{default}:v1:circuits"} {
		left, err := c.TTL(t.Context(), key).Result()
		require.NoError(t, err)
		assert.InDelta(t, 24*time.Hour, left, float64(time.Minute), "TTL of %s", key)
	}
	other := fleetredis.NewStorage(c, fleetredis.Options{Namespace: "other"})
	defer other.Close()
	_, err = other.Load(open.Key)
	assert.ErrorIs(t, err, transport.ErrNoRecord, "in another namespace")
}

// Two tenants whose names look alike have records of their own, and two kinds of a line feed.
func TestNoTwoKeysHaveOneRecord(t *testing.T) {
	s := startRedis(t)
	first := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	var records []transport.Record
	for _, detail := range []string{"acme", "acme ", "acme\n", `acme\n`, "acme\u00a0"} {
		r := record("tenants", policy.Open)
		r.Key.Detail = detail
		require.NoError(t, first.Save(r))
		records = append(records, r)
	}
	first.Close()
	second := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	defer second.Close()
	for _, want := range records {
		got, err := second.Load(want.Key)
		require.NoError(t, err, "%q", want.Key.Detail)
		assertSame(t, want, got)
	}
}

func TestARecordEndsWithItsTTL(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	o := fleetredis.Options{TTL: 500 * time.Millisecond}
	first := fleetredis.NewStorage(s.client(t), o)
	open := record("open", policy.Open)
	require.NoError(t, first.Save(open))
	first.Close()
	second := fleetredis.NewStorage(s.client(t), o)
	defer second.Close()
	require.Eventually(t, func() bool {
		_, err := second.Load(open.Key)
		_, mine := first.Load(open.Key)
		n, _ := s.client(t).DBSize(t.Context()).Result()
		return err == transport.ErrNoRecord && mine == transport.ErrNoRecord && n == 0
	}, patience, 10*time.Millisecond)
}

func TestACircuitOpensAsAnotherProcessLeftIt(t *testing.T) {
	s := startRedis(t)
	var calls atomic.Int64
	base := testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
		calls.Add(1)
		return nil, fmt.Errorf("down")
	})
	storage := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	first := transport.New(base, transport.WithStorage(storage))
	get := func(rt http.RoundTripper) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://api.example.com/", nil)
		require.NoError(t, err)
		if resp, err := rt.RoundTrip(req); err == nil {
			resp.Body.Close()
		}
	}
	for range 10 {
		get(first)
	}
	storage.Close()
	storage = fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	defer storage.Close()
	second := transport.New(base, transport.WithStorage(storage))
	calls.Store(0)
	get(second)
	c, ok := second.Circuit(transport.Key{Scheme: "https", Host: "api.example.com"})
	require.True(t, ok)
	assert.Equal(t, policy.Open, c.State)
	assert.LessOrEqual(t, calls.Load(), int64(1), "a probe at most")
}

func TestTheLatestRecordIsWrittenWhenRedisIsBack(t *testing.T) {
	realRedis(t)
	t.Parallel()
	for name, fault := range map[string][2]func(*testing.T, *server){
		"Killed": {func(_ *testing.T, s *server) { s.kill() }, func(t *testing.T, s *server) { s.start(t) }},
		"Full":   {func(t *testing.T, s *server) { fill(t, s.client(t)) }, func(t *testing.T, s *server) { admin(t, s, "CONFIG", "SET", "maxmemory", "0") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := startRedis(t)
			var log logbook
			storage := fleetredis.NewStorage(s.client(t), fleetredis.Options{Logger: slog.New(&log)})
			defer storage.Close()
			fault[0](t, s)
			start := time.Now()
			for n := range 3000 {
				r := record(fmt.Sprint("host", n%100), policy.Open)
				r.Failures = n
				require.NoError(t, storage.Save(r))
			}
			assert.Less(t, time.Since(start), time.Second, "for 3000 Saves")
			require.Eventually(t, func() bool { return log.count(slog.LevelWarn) == 1 }, patience, 10*time.Millisecond)
			fault[1](t, s)
			a := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
			require.Eventually(t, func() bool {
				all, err := a.Records(t.Context())
				for _, r := range all {
					err = assertLatest(r, err)
				}
				return err == nil && len(all) == 100
			}, patience, 50*time.Millisecond)
			require.Eventually(t, func() bool { return log.count(slog.LevelInfo) == 1 }, patience, 10*time.Millisecond)
			assert.Equal(t, 1, log.count(slog.LevelWarn))
		})
	}
}

func assertLatest(r fleetredis.Record, err error) error {
	if r.Failures < 2900 {
		return fmt.Errorf("%v is an old record", r)
	}
	return err
}

func TestAStorageIsBounded(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	s.kill()
	start := time.Now()
	var log logbook
	storage := fleetredis.NewStorage(s.client(t), fleetredis.Options{Logger: slog.New(&log)})
	assert.Less(t, time.Since(start), 5*time.Second, "to begin with nothing")
	for n := range 6000 {
		made := record(fmt.Sprint("made up", n), policy.Open)
		made.Known = false
		assert.NoError(t, storage.Save(made), "they make room for each other")
	}
	refused := 0
	for n := range 6000 {
		if err := storage.Save(record(fmt.Sprint("host", n), policy.Open)); err != nil {
			refused++
		}
	}
	assert.InDelta(t, 6000-4096, refused, 64)
	start = time.Now()
	storage.Close()
	assert.Less(t, time.Since(start), 5*time.Second, "to close")
	assert.Equal(t, 1, log.count(slog.LevelWarn))
}

func TestRecordsOfMadeUpHostsMakeRoomForThoseOfRealOnes(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	c := s.client(t)
	storage := fleetredis.NewStorage(c, fleetredis.Options{})
	real := []transport.Record{record("before", policy.Open), record("after", policy.Open)}
	require.NoError(t, storage.Save(real[0]))
	const most = 2048
	for n := range 3 * most {
		made := record(fmt.Sprint("made up", n), policy.Open)
		made.Known = false
		require.NoError(t, storage.Save(made))
		if n%1024 == 1023 { // so that all are written
			require.Eventually(t, func() bool {
				r, err := c.HGet(t.Context(), "fusebox:{default}:v1:circuit:"+made.Key.String(), "state").Result()
				return err == nil && r == "open"
			}, patience, 10*time.Millisecond)
		}
	}
	require.NoError(t, storage.Save(real[1]))
	again := real[1]
	again.Known, again.Failures = false, 9 // a process for which it has never answered
	storage.Close()
	other := fleetredis.NewStorage(c, fleetredis.Options{})
	require.NoError(t, other.Save(again))
	other.Close()

	keys, err := c.Keys(t.Context(), "fusebox:*:circuit:*").Result()
	require.NoError(t, err)
	require.Len(t, keys, most+2, "no more is kept")
	tried.Row(t, "6,144 records of made-up hosts, and two real ones", "all, for a day", "2,050 records", "%d records", len(keys))
	for _, key := range []string{"circuits", "circuits-unknown"} {
		left, err := c.TTL(t.Context(), "fusebox:{default}:v1:"+key).Result()
		require.NoError(t, err)
		require.InDelta(t, 24*time.Hour, left, float64(time.Minute))
	}
	next := fleetredis.NewStorage(c, fleetredis.Options{})
	defer next.Close()
	got, err := next.Load(real[0].Key)
	require.NoError(t, err)
	assertSame(t, real[0], got)
	got, err = next.Load(real[1].Key)
	require.NoError(t, err)
	require.Equal(t, 9, got.Failures, "the last word")
	require.True(t, got.Known, "but it has answered somebody")
}

// What has expired makes room at hand.
func TestAStorageHasRoomAgainWhenRecordsExpire(t *testing.T) {
	s := startRedis(t)
	storage := fleetredis.NewStorage(s.client(t), fleetredis.Options{TTL: time.Second})
	defer storage.Close()
	for n := range 4096 {
		require.NoError(t, storage.Save(record(fmt.Sprint("host", n), policy.Open)))
	}
	next := record("next", policy.Open)
	require.Eventually(t, func() bool {
		if storage.Save(next) != nil {
			return false // they wait to be written
		}
		_, err := storage.Load(next.Key)
		return err == nil
	}, patience, 50*time.Millisecond)
}

func TestRecordsThatMakeNoSenseAreLeftOut(t *testing.T) {
	s := startRedis(t)
	c := s.client(t)
	storage := fleetredis.NewStorage(c, fleetredis.Options{})
	require.NoError(t, storage.Save(record("good", policy.Open)))
	storage.Close()
	const prefix = "fusebox:{default}:v1:circuit"
	for name, fields := range map[string][]any{
		"no state": {"host", "a", "since", "2026-01-01T00:00:00Z"}, "state": {"host", "a", "state", "ajar", "since", "2026-01-01T00:00:00Z"},
		"since": {"host", "a", "state", "open", "since", "now"}, "no key": {"state", "open", "since", "2026-01-01T00:00:00Z"},
		"next": {"host", "a", "state", "open", "since", "2026-01-01T00:00:00Z", "next_probe", "soon"},
	} {
		require.NoError(t, c.HSet(t.Context(), prefix+":"+name, fields...).Err())
		require.NoError(t, c.Do(t.Context(), "ZADD", prefix+"s", 1e13, name).Err())
	}
	require.NoError(t, c.Set(t.Context(), prefix+":text", "no hash", 0).Err())
	require.NoError(t, c.Do(t.Context(), "ZADD", prefix+"s", 1e13, "text", 1e13, strings.Repeat("gone", 100)).Err())
	all, err := fleetredis.NewAdmin(c, fleetredis.Options{}).Records(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	assert.Equal(t, "good", all[0].Key.Host)
}

func TestWhatOneTransportKnowsNoOtherTakesBackBeforeItIsWrittenEither(t *testing.T) {
	s := startRedis(t)
	s.kill()
	storage := fleetredis.NewStorage(s.client(t), fleetredis.Options{})
	defer storage.Close()
	for host, first := range map[string]policy.State{"open": policy.Open, "closed": policy.Closed} {
		known := record(host, first)
		require.NoError(t, storage.Save(known))
		other := record(host, policy.HalfOpen)
		other.Known = false
		require.NoError(t, storage.Save(other))
		got, err := storage.Load(other.Key)
		require.NoError(t, err)
		require.Equal(t, policy.HalfOpen, got.State)
		require.True(t, got.Known, "%s first", host)
	}
}
