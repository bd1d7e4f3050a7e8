package fleetredis_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/policy"
)

// member joins, counts what is logged, and keeps the last that it heard of each other member.
type member struct {
	fleet.Link
	name string
	log  logbook

	mu    sync.Mutex
	heard map[string]fleet.Message
}

func join(t testing.TB, client redis.UniversalClient, name string) *member {
	m := &member{name: name, heard: make(map[string]fleet.Message)}
	m.Link = fleetredis.New(client, fleetredis.Options{Logger: slog.New(&m.log)}).Join(name, func(msg fleet.Message) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.heard[msg.From] = msg
	})
	t.Cleanup(m.Close)
	return m
}

var words atomic.Int64

// agree waits until each of the members hears the others say something new, and returns how long that took.
func agree(t testing.TB, members ...*member) time.Duration {
	t.Helper()
	word := time.Duration(words.Add(1))
	start := time.Now()
	require.Eventually(t, func() bool {
		for _, m := range members {
			m.Send(fleet.Message{Key: policy.Key{Host: "agree"}, Kind: fleet.Opened, For: time.Second, Ago: word * time.Millisecond})
		}
		for _, m := range members {
			for _, other := range members {
				m.mu.Lock()
				heard := m.heard[other.name].Ago == word*time.Millisecond
				m.mu.Unlock()
				if m != other && !heard {
					return false
				}
			}
		}
		return true
	}, 2*patience, 10*time.Millisecond)
	return time.Since(start)
}

// talk has a member send as in trouble for a time, and fails if one Send takes long.
func talk(t testing.TB, m *member, long time.Duration) {
	t.Helper()
	end := time.Now().Add(long)
	worst := time.Duration(0)
	for n := 0; time.Now().Before(end); n++ {
		start := time.Now()
		for range 100 {
			m.Send(fleet.Message{Key: policy.Key{Host: fmt.Sprint(n % 1000)}, Kind: fleet.Opened, For: time.Minute})
		}
		worst = max(worst, time.Since(start))
		<-time.After(20 * time.Millisecond)
	}
	assert.Less(t, worst, time.Second, "of 100 Sends, which take 20 µs if none blocks")
}

func TestTroubleWithRedisIsNoTroubleForMembers(t *testing.T) {
	realRedis(t)
	for _, test := range []struct {
		name      string
		breaks    func(*testing.T, *server, *proxy)
		mends     func(*testing.T, *server, *proxy)
		unnoticed bool // members hear each other all the time
		quiet     bool // and nobody is warned
	}{
		{
			name:   "Killed",
			breaks: func(_ *testing.T, s *server, _ *proxy) { s.kill() },
			mends:  func(t *testing.T, s *server, _ *proxy) { s.start(t) },
		},
		{
			name:   "Paused",
			breaks: func(t *testing.T, s *server, _ *proxy) { s.pause(t) },
			mends:  func(t *testing.T, s *server, _ *proxy) { s.goOn(t) },
		},
		{
			name:   "CutSilently",
			breaks: func(_ *testing.T, _ *server, p *proxy) { p.become(drops) },
			mends:  func(_ *testing.T, _ *server, p *proxy) { p.become(passes) },
		},
		{
			name:   "Refused",
			breaks: func(_ *testing.T, _ *server, p *proxy) { p.become(refuses) },
			mends:  func(_ *testing.T, _ *server, p *proxy) { p.become(passes) },
		},
		{
			name: "Flapping",
			breaks: func(_ *testing.T, _ *server, p *proxy) {
				for range 10 {
					p.become(refuses)
					<-time.After(100 * time.Millisecond)
					p.become(passes)
					<-time.After(200 * time.Millisecond)
				}
			},
			mends: func(*testing.T, *server, *proxy) {},
		},
		{
			name:   "Babbling",
			breaks: func(_ *testing.T, _ *server, p *proxy) { p.become(babbles) },
			mends: func(_ *testing.T, _ *server, p *proxy) {
				p.become(refuses)
				p.become(passes)
			},
		},
		{
			name: "Full",
			breaks: func(t *testing.T, s *server, _ *proxy) {
				fill(t, s.client(t))
			},
			mends:     func(t *testing.T, s *server, _ *proxy) { admin(t, s, "CONFIG", "SET", "maxmemory", "0") },
			unnoticed: true,
		},
		{
			name:      "ReadOnly",
			breaks:    func(t *testing.T, s *server, _ *proxy) { admin(t, s, "REPLICAOF", "127.0.0.1", "1") },
			mends:     func(t *testing.T, s *server, _ *proxy) { admin(t, s, "REPLICAOF", "NO", "ONE") },
			unnoticed: true,
		},
		{
			name: "Wiped",
			breaks: func(t *testing.T, s *server, _ *proxy) {
				admin(t, s, "FLUSHALL")
				admin(t, s, "SCRIPT", "FLUSH")
			},
			mends:     func(*testing.T, *server, *proxy) {},
			unnoticed: true, quiet: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			p := startProxy(t, s.addr)
			a, b := join(t, clientOf(t, p.Addr().String()), "a"), join(t, clientOf(t, p.Addr().String()), "b")
			leaver := join(t, clientOf(t, p.Addr().String()), "leaver")
			agree(t, a, b, leaver)
			test.breaks(t, s, p)
			talk(t, a, 3*time.Second)
			if test.unnoticed {
				took := agree(t, a, b)
				t.Logf("in trouble, they agree after %v", took)
				assert.Less(t, took, 10*time.Second)
			}
			leaver.Send(fleet.Message{Key: policy.Key{Host: "agree"}, Kind: fleet.Withdrawn})
			leaves := time.Now()
			leaver.Close()
			assert.Less(t, time.Since(leaves), 2*time.Second, "to leave, with something to say")
			test.mends(t, s, p)
			took := agree(t, a, b)
			t.Logf("agree %v after it is mended", took)
			assert.Less(t, took, 15*time.Second)
			for _, m := range []*member{a, b} {
				warned := m.log.count(slog.LevelWarn)
				assert.LessOrEqual(t, warned, 1, "warnings of %s", m.name)
				require.Eventually(t, func() bool {
					m.Send(fleet.Message{Key: policy.Key{Host: "again"}, Kind: fleet.Opened, For: time.Second})
					return m.log.count(slog.LevelInfo) == m.log.count(slog.LevelWarn)
				}, patience, 10*time.Millisecond, "%s is not told that Redis is back", m.name)
			}
			if !test.quiet {
				assert.Equal(t, 1, a.log.count(slog.LevelWarn), "warnings of the one who has to say something")
			}
		})
	}
}

func admin(t testing.TB, s *server, command ...any) {
	require.NoError(t, s.client(t).Do(context.Background(), command...).Err())
}

func fill(t testing.TB, c redis.UniversalClient) {
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	require.NoError(t, c.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	for _, size := range []int{10 << 10, 100} {
		err := error(nil)
		for n := 0; err == nil && n < 10_000; n++ {
			err = c.Set(t.Context(), fmt.Sprint("ballast", size, n), strings.Repeat("x", size), 0).Err()
		}
		require.ErrorContains(t, err, "OOM")
	}
}

func TestAMemberJoinsBeforeRedisIsThere(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	s.kill()
	start := time.Now()
	a, b := join(t, s.client(t), "a"), join(t, s.client(t), "b")
	assert.Less(t, time.Since(start), time.Second, "to join")
	require.Eventually(t, func() bool { return a.log.count(slog.LevelWarn) == 1 }, patience, 10*time.Millisecond)
	s.start(t)
	t.Logf("agree after %v", agree(t, a, b))
}

// A member whose other connections work notices all the same that its subscription is dead.
func TestADeadSubscriptionIsNoticed(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	p := startProxy(t, s.addr)
	var dialed atomic.Int64
	client := redis.NewClient(&redis.Options{Addr: s.addr, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dialed.Add(1) == 1 { // a member that has nothing to say dials to listen
			addr = p.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}})
	defer client.Close()
	a := join(t, client, "a")
	require.Eventually(t, func() bool { return dialed.Load() > 1 }, patience, time.Millisecond) // it asks what is open
	b := join(t, s.client(t), "b")
	agree(t, a, b)
	p.become(drops)
	took := agree(t, a, b)
	t.Logf("agree after %v", took)
	assert.Greater(t, took, time.Second, "the subscription was not dead")
	assert.Less(t, took, 10*time.Second)
	a.Close()
}

func TestGarbageOnTheChannelIsLeftOut(t *testing.T) {
	s := startRedis(t)
	a, b := join(t, s.client(t), "a"), join(t, s.client(t), "b")
	agree(t, a, b)
	raw := s.client(t)
	publish := func(payload string) {
		require.NoError(t, raw.Publish(t.Context(), "fusebox:{default}:v1", payload).Err())
	}
	for _, payload := range []string{
		"", "null", "[]", "{", "\x00\xff", `{"f":1}`, `{"f":"x","m":{}}`, `{"f":"x","m":[1]}`, `{"f":"x","m":[{"t":300}]}`,
		`{"f":"x","m":[{"t":1,"b":-1}]}`, `{"f":"x","m":[{"t":1,"g":-1000000}]}`, `{"f":"x","m":[{"t":2,"l":-1}]}`, `{"f":"x","m":[{"t":1,"b":1e99}]}`,
		`{"f":"x","m":[{"k":{"h":"` + strings.Repeat("h", 9<<10) + `"},"t":1,"b":1}]}`, `{"f":"` + strings.Repeat("f", 300) + `","m":[{"t":1,"b":1}]}`,
		strings.Repeat("[", 1<<20), strings.Repeat(" ", 2<<20) + `{"f":"x","m":[{"t":1,"b":1}]}`,
	} {
		publish(payload)
	}
	require.NoError(t, raw.ZAdd(t.Context(), "fusebox:{default}:v1:open",
		redis.Z{Score: 1e13, Member: "junk"}, redis.Z{Score: 1e13, Member: `{"f":"y","t":1,"b":100}`}, redis.Z{Score: 1e308, Member: `{"f":"z","t":2,"k":{"h":"z"}}`},
	).Err())
	// What is not known yet is ignored, and what comes with it is not lost.
	publish(`{"f":"newer","x":1,"m":[{"t":1,"b":"many"},{"k":"h"},{"k":{"h":"h","x":2},"t":2,"l":1000000000,"a":7,"x":[3]},{"t":[]}]}`)
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.heard["newer"].Ago == 7
	}, patience, time.Millisecond)
	b.mu.Lock()
	assert.ElementsMatch(t, []string{"a", "newer"}, slices.Collect(maps.Keys(b.heard)))
	b.mu.Unlock()
	late := join(t, s.client(t), "late")
	agree(t, a, b, late)
	late.mu.Lock()
	defer late.mu.Unlock()
	assert.Empty(t, late.heard["y"])
	for _, m := range []*member{a, b, late} {
		assert.Empty(t, m.log.unexplained(), "warnings of %s", m.name)
	}
}

// history keeps what a member hears of a key, and from whom.
type history struct {
	fleet.Link
	mu    sync.Mutex
	heard []fleet.Message
}

func joinFor(t testing.TB, client redis.UniversalClient, name string, key policy.Key) *history {
	h := &history{}
	h.Link = fleetredis.New(client, fleetredis.Options{Logger: slog.New(&logbook{})}).Join(name, func(m fleet.Message) {
		h.mu.Lock()
		defer h.mu.Unlock()
		if m.Key == key {
			h.heard = append(h.heard, m)
		}
	})
	t.Cleanup(h.Close)
	return h
}

func (h *history) count(kind fleet.Kind) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.heard {
		if m.Kind == kind {
			n++
		}
	}
	return n
}

// hosts returns of which circuits it is written that they are open.
func hosts(t testing.TB, s *server) (hosts []string) {
	open, err := fleetredis.NewAdmin(s.client(t), fleetredis.Options{}).Open(t.Context())
	require.NoError(t, err)
	for _, o := range open {
		hosts = append(hosts, o.Member+" "+o.Key.Host)
	}
	return hosts
}

// Circuits that recover while Redis does not answer are not opened again by what is still written there when it does.
func TestWhatIsOverIsNotOpenAgainWhenRedisIsBack(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	key := policy.Key{Host: "shop"}
	a, b, c := joinFor(t, s.client(t), "a", key), joinFor(t, s.client(t), "b", key), joinFor(t, s.client(t), "c", key)
	opened := fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute}
	require.Eventually(t, func() bool {
		a.Send(opened)
		b.Send(opened)
		return c.count(fleet.Opened) > 1 && a.count(fleet.Opened) > 0 && len(hosts(t, s)) == 2
	}, patience, 10*time.Millisecond)
	<-time.After(100 * time.Millisecond) // what is under way
	before := []int{a.count(fleet.Opened), b.count(fleet.Opened), c.count(fleet.Opened)}
	s.pause(t)
	for _, m := range []*history{a, b} {
		m.Send(fleet.Message{Key: key, Kind: fleet.Asked, Requests: 1}) // has the sender wait for Redis
	}
	<-time.After(100 * time.Millisecond)
	for _, m := range []*history{a, b} {
		m.Send(fleet.Message{Key: key, Kind: fleet.Recovered})
	}
	<-time.After(3 * time.Second) // longer than what is to be sent waits
	s.goOn(t)
	require.Eventually(t, func() bool { return len(hosts(t, s)) == 0 }, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool { return c.count(fleet.Withdrawn) >= 2 }, patience, 10*time.Millisecond)
	assert.Zero(t, c.count(fleet.Recovered), "it would be old news")
	<-time.After(7 * time.Second) // by then they have asked what is open
	assert.Equal(t, before, []int{a.count(fleet.Opened), b.count(fleet.Opened), c.count(fleet.Opened)}, "heard again")
}

// What others opened while a member was cut off it hears when it is back, though nobody says it again.
func TestWhatOpenedMeanwhileIsHeardInTheEnd(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	p := startProxy(t, s.addr)
	key := policy.Key{Host: "shop"}
	a, b := joinFor(t, clientOf(t, p.Addr().String()), "a", key), joinFor(t, s.client(t), "b", key)
	require.Eventually(t, func() bool {
		b.Send(fleet.Message{Key: key, Kind: fleet.Asked, Requests: 1})
		return a.count(fleet.Asked) > 0
	}, patience, 10*time.Millisecond)
	p.become(refuses)
	b.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute})
	require.Eventually(t, func() bool { return len(hosts(t, s)) == 1 }, patience, 10*time.Millisecond)
	p.become(passes)
	require.Eventually(t, func() bool { return a.count(fleet.Opened) == 1 }, patience, 10*time.Millisecond)
}

// A Redis that is full takes nothing new, but lets go of what is over.
func TestWhatIsOverIsTakenOutOfARedisThatIsFull(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	a := joinFor(t, s.client(t), "a", policy.Key{})
	open := func(host string) {
		a.Send(fleet.Message{Key: policy.Key{Host: host}, Kind: fleet.Opened, For: time.Minute})
	}
	require.Eventually(t, func() bool {
		open("first")
		return slices.Equal(hosts(t, s), []string{"a first"})
	}, patience, 50*time.Millisecond)
	fill(t, s.client(t))
	open("second")
	<-time.After(300 * time.Millisecond) // it is refused
	require.Equal(t, []string{"a first"}, hosts(t, s))
	a.Send(fleet.Message{Key: policy.Key{Host: "first"}, Kind: fleet.Recovered})
	require.Eventually(t, func() bool { return len(hosts(t, s)) == 0 }, patience, 50*time.Millisecond)
}

func TestLatecomersAreToldSinceWhen(t *testing.T) {
	s := startRedis(t)
	a, b := join(t, s.client(t), "a"), join(t, s.client(t), "b")
	agree(t, a, b)
	a.Send(fleet.Message{Key: policy.Key{Host: "since"}, Kind: fleet.Opened, For: time.Minute, Ago: time.Hour})
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.heard["a"].Key.Host == "since"
	}, patience, time.Millisecond)
	open, err := fleetredis.NewAdmin(s.client(t), fleetredis.Options{}).Open(t.Context())
	require.NoError(t, err)
	for _, o := range open {
		if o.Key.Host == "since" {
			assert.Equal(t, "a", o.Member)
			assert.InDelta(t, time.Hour, o.For, float64(time.Minute))
			return
		}
	}
	t.Fatalf("open is %v", open)
}

func TestMessagesAreShort(t *testing.T) {
	m := fleet.Message{Key: policy.Key{Scheme: "https", Host: "api.example.com"}, Kind: fleet.Evidence, Failures: 3}
	text, err := json.Marshal(m)
	require.NoError(t, err)
	require.Less(t, len(text), 100)
}
