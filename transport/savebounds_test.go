package transport_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What is read from elsewhere, and what it may cost.

func TestOfMoreSavedCircuitsThanThereIsRoomForTheFirstAreTakenUp(t *testing.T) {
	before := map[string]string{"open": "22 s", "open, no room": "7.7 s", "closed": "0.3 s", "one host": "0.5 s", "no such host": "0.4 s"}
	for name, c := range map[string]struct {
		saved, max, opened int
		entry              func(i int) string
	}{
		"open":          {200_000, 16384, 16384, func(i int) string { return fmt.Sprintf(`{"scheme":"http","host":"host-%d.test","state":"open"}`, i) }},
		"open, no room": {200_000, 1000, 1000, func(i int) string { return fmt.Sprintf(`{"scheme":"http","host":"host-%d.test","state":"open"}`, i) }},
		"closed":        {200_000, 16384, 0, func(i int) string { return fmt.Sprintf(`{"scheme":"http","host":"host-%d.test","state":"closed"}`, i) }},
		"one host":      {200_000, 16384, 1, func(int) string { return `{"scheme":"http","host":"host.test","state":"open"}` }},
		"no such host": {60_000, 16384, 0, func(i int) string {
			return fmt.Sprintf(`{"scheme":"http","host":"%d%s","state":"open"}`, i, strings.Repeat("x", 512))
		}},
	} {
		if testkit.Brief() {
			c.saved /= 10 // still more than there is room for
		}
		var saved strings.Builder
		saved.WriteString(`{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[`)
		for i := range c.saved {
			if i > 0 {
				saved.WriteByte(',')
			}
			saved.WriteString(c.entry(i))
		}
		saved.WriteString("]}")
		rt := transport.New(everyHost(200), transport.WithMaxCircuits(c.max))
		began := time.Now()
		opened, err := rt.RestoreFrom(strings.NewReader(saved.String()), 0)
		took := time.Since(began)
		require.NoError(t, err)
		require.Equal(t, c.opened, opened, name)
		require.LessOrEqual(t, len(rt.Circuits()), c.max)
		tried.Row(t, fmt.Sprint(c.saved, " saved circuits restored into ", c.max, ": ", name), before[name], "10 s", "%v", took.Round(time.Millisecond))
		require.Less(t, took, 10*time.Second)
	}
}

// endless is a file without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	e.read += len(p)
	return len(p), nil
}

func TestARestoreReadsNoMoreThanASaveWrites(t *testing.T) {
	e := new(endless)
	_, err := transport.New(nil).RestoreFrom(e, 0)
	require.EqualError(t, err, "fusebox: restore circuits: there are more than 67108864 bytes")
	require.LessOrEqual(t, e.read, 64<<20+1)
	if testkit.Brief() {
		return // a save of that size takes seconds
	}

	const circuits = 12_000
	rt := transport.New(nil)
	for i := range circuits {
		require.True(t, rt.SetState(transport.Key{
			Scheme: "http", Host: fmt.Sprint(i, strings.Repeat("\x01", 500)), Detail: strings.Repeat("\x01", 512),
		}, policy.Open))
	}
	saved := savedBy(t, rt)
	require.Less(t, len(saved), 64<<20)
	require.Greater(t, len(saved), 60<<20)
	opened := restoreInto(t, transport.New(nil), saved)
	require.Greater(t, opened, circuits/2)
	require.Less(t, opened, circuits, "or this test is of nothing")
}

func TestARecordOfAFarTimeCostsNobodyElse(t *testing.T) {
	storage := new(transport.MemoryStorage)
	far := map[string]time.Time{
		"year-12000.test": time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC), "before-all.test": time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
		"year-9999.test": time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), "end.test": time.Unix(1<<62, 0), "zone.test": time.Unix(1, 0).In(time.FixedZone("", 99*3600)),
		"good.test": time.Now().Add(-time.Minute),
	}
	for host, at := range far {
		for _, state := range []policy.State{policy.Open, policy.HalfOpen} {
			require.NoError(t, storage.Save(transport.Record{Key: hostKey(host + fmt.Sprint(state)), State: state, Since: at, NextProbe: at}))
		}
	}
	rt := transport.New(everyHost(500), transport.WithStorage(storage))
	for host := range far {
		for _, state := range []policy.State{policy.Open, policy.HalfOpen} {
			callHost(t, rt, host+fmt.Sprint(state))
		}
	}
	var saved strings.Builder
	require.NoError(t, rt.SaveTo(&saved))
	next := transport.New(everyHost(200))
	require.Equal(t, 2*len(far), restoreInto(t, next, saved.String()))
	for _, rt := range []*transport.Transport{rt, next} {
		for _, c := range rt.Circuits() {
			require.False(t, c.Trouble.After(time.Now()), "%v since %v", c.Key, c.Trouble)
			require.False(t, c.NextProbe.After(time.Now().Add(time.Minute)), "%v at %v", c.Key, c.NextProbe)
		}
		_, err := json.Marshal(rt.Circuits())
		require.NoError(t, err)
	}
	c, _ := next.Circuit(hostKey("good.testopen"))
	require.WithinDuration(t, far["good.test"], c.Trouble, 0, "what can be is believed")
}

func TestWhatIsSavedOfACircuitIsBounded(t *testing.T) {
	samples := make([]string, 10_000)
	for i := range samples {
		samples[i] = `{"cause":{"kind":"status","status":500},"count":1,"at":"3000-01-01T00:00:00Z","trace":"` + strings.Repeat("t", 1000) + `"}`
	}
	saved := `{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[{"scheme":"http","host":"a.test","detail":"` + strings.Repeat("d", 1<<20) +
		`","state":"open","trouble":"9999-12-31T23:59:59-23:59","samples":[` + strings.Join(samples, ",") + `]}]}`
	rt := transport.New(everyHost(200))
	before := testkit.LiveHeap()
	require.Equal(t, 1, restoreInto(t, rt, saved))
	grown := testkit.LiveHeap() - before
	require.Less(t, grown, int64(64<<10))
	c := rt.Circuits()[0]
	require.Len(t, c.Samples, 8)
	for _, s := range c.Samples {
		require.Len(t, s.Trace, 128)
		require.False(t, s.At.After(time.Now()))
	}
	runtime.KeepAlive(rt)
	runtime.KeepAlive(saved)
}

func TestWhatACallerSendsAsItsTraceIsKeptCut(t *testing.T) {
	rt := transport.New(everyHost(500), transport.WithTraceID(func(req *http.Request) string { return req.Header.Get("X-Request-Id") }))
	before := testkit.LiveHeap()
	for i := range 64 {
		req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://host-%d.test", i), nil)
		require.NoError(t, err)
		req.Header.Set("X-Request-Id", fmt.Sprint(i)+strings.Repeat("x", 1<<20))
		_, err = rt.RoundTrip(req)
		require.NoError(t, err)
	}
	require.Less(t, testkit.LiveHeap()-before, int64(4<<20))
	require.Len(t, rt.Circuits()[0].Samples[0].Trace, 128)
}

func TestWhatCannotBeForcedIsNotRestored(t *testing.T) {
	rt := transport.New(everyHost(200))
	manyOverrides(rt, 1024)
	before := rt.Overrides()
	for text, overrides := range map[string]string{
		"fusebox: restore circuits: fusebox: a pattern has 8192 bytes at most": `{"pattern":"http://*","state":"open"},{"pattern":"` + strings.Repeat("*", 8193) + `","state":"open"}`,
		"fusebox: restore circuits: fusebox: no more than 1024 patterns":       `{"pattern":"` + before[7].Pattern + `","state":"closed"},{"pattern":"*","state":"open"}`,
	} {
		_, err := rt.RestoreFrom(strings.NewReader(`{"version":1,"overrides":[`+overrides+`]}`), 0)
		require.ErrorContains(t, err, text)
		require.Equal(t, before, rt.Overrides(), "nothing has changed")
	}
	next := transport.New(everyHost(200))
	restoreInto(t, next, savedBy(t, rt))
	require.Equal(t, patterns(rt), patterns(next), "as many as there can be, in their order")
	restoreInto(t, next, `{"version":1,"overrides":[{"pattern":"`+before[7].Pattern+`","state":"closed"}]}`)
	require.Equal(t, before[7].Pattern, patterns(next)[1023], "which is no more of them")
}
