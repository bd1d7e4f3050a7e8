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
	"github.com/fusebox-go/fusebox/fleet/fleettest"
	fleetredis "github.com/fusebox-go/fusebox/fleet/redis"
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
	require.Eventually(t, func() bool { return commands(t, admin)["zrevrangebyscore"] >= 5 }, patience, 10*time.Millisecond)
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
