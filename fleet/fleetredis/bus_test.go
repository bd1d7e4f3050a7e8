package fleetredis_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/fleet/fleettest"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
)

func TestMain(m *testing.M) {
	if os.Getenv(memberEnv) != "" {
		runMember()
		return
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // they wait most of the time, for timeouts and processes
	goleak.VerifyTestMain(m)
}

func TestABusOverRedis(t *testing.T) {
	s := startRedis(t)
	fleettest.Run(t, func(t *testing.T) func() fleet.Bus {
		namespace := strings.NewReplacer("/", "-").Replace(t.Name())
		return func() fleet.Bus { return fleetredis.New(s.client(t), fleetredis.Options{Namespace: namespace}) }
	})
}

func TestNonsenseInOptionsPanics(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	for name, make := range map[string]func(){
		"no client": func() { fleetredis.New(nil, fleetredis.Options{}) },
		"braces":    func() { fleetredis.New(client, fleetredis.Options{Namespace: "a}b"}) },
		"ttl":       func() { fleetredis.NewStorage(client, fleetredis.Options{TTL: -1}) },
	} {
		t.Run(name, func(t *testing.T) { require.Panics(t, make) })
	}
}

func TestAHealthyMemberSendsNoCommand(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	for i := range 5 {
		l := fleetredis.New(s.client(t), fleetredis.Options{}).Join(fmt.Sprint(i), func(fleet.Message) {})
		t.Cleanup(l.Close)
	}
	admin := s.client(t)
	// Each has asked for what is open, and hears.
	require.Eventually(t, func() bool { return commands(t, admin)["zrevrangebyscore"] >= 10 }, patience, 10*time.Millisecond)
	before := sum(commands(t, admin))
	<-time.After(3 * time.Second) // what is tested is that nothing happens
	require.Equal(t, before, sum(commands(t, admin)))
}

// commands returns how often each command was called, without those that ask for it.
func commands(t testing.TB, client redis.UniversalClient) map[string]int {
	text, err := client.Info(context.Background(), "commandstats").Result()
	require.NoError(t, err)
	all := make(map[string]int)
	for line := range strings.Lines(text) {
		var n int
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if _, err := fmt.Sscanf(rest, "calls=%d", &n); err == nil && name != "info" {
			all[name] = n
		}
	}
	return all
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func TestWhatIsOpenOfRealUpstreamsIsHeardHoweverManyAreMadeUp(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	bus := fleetredis.New(s.client(t), fleetredis.Options{})
	opened := func(name string, known bool) fleet.Message {
		return fleet.Message{Key: policy.Key{Scheme: "http", Host: name}, Kind: fleet.Opened, For: time.Minute, Known: known}
	}
	admin := fleetredis.NewAdmin(s.client(t), fleetredis.Options{})
	count := func() int {
		open, err := admin.Open(t.Context())
		require.NoError(t, err)
		return len(open)
	}
	flooded := bus.Join("flooded", func(fleet.Message) {})
	flooded.Send(opened("real", true))
	const most = 2048
	for n := range 3 * most {
		flooded.Send(opened(fmt.Sprint("made up", n), false))
		if n%1024 == 1023 {
			require.Eventually(t, func() bool { return count() == 1+min(n+1, most) }, patience, 10*time.Millisecond)
		}
	}
	flooded.Send(opened("was made up", false))
	flooded.Send(opened("was made up", true)) // and has answered
	heard := make(chan fleet.Message, 1+2*most)
	require.Eventually(t, func() bool { return count() == most+2 }, patience, 10*time.Millisecond)
	late := bus.Join("late", func(m fleet.Message) { heard <- m })
	defer late.Close()
	first := []string{(<-heard).Key.Host, (<-heard).Key.Host}
	require.ElementsMatch(t, []string{"real", "was made up"}, first, "and before all others")
	tried.Row(t, "6,144 made-up hosts said to be open over Redis, and two real ones", "", "2,050 open, the real ones first", "%d open", count())
	flooded.Close() // which takes nothing back
	taken := fleet.Message{Key: policy.Key{Scheme: "http", Host: "real"}, Kind: fleet.Recovered, Known: true}
	again := bus.Join("flooded", func(fleet.Message) {})
	again.Send(taken)
	require.Eventually(t, func() bool { return count() == most+1 }, patience, 10*time.Millisecond)
	again.Close()
}
