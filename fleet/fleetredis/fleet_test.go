package fleetredis_test

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// startFleet starts client processes and waits until all of them call the upstream and listen.
func startFleet(t *testing.T, s *server, u *upstream, n int, rate float64) (fleet []*clientProcess) {
	for i := range n {
		fleet = append(fleet, startClient(t, job{Redis: s.addr, URL: u.url, Rate: rate, Name: fmt.Sprint("member ", i)}))
	}
	c := s.client(t)
	require.Eventually(t, func() bool {
		listening, err := c.PubSubNumSub(t.Context(), "fusebox:{default}:v1").Result()
		return err == nil && listening["fusebox:{default}:v1"] == int64(n) && u.members() == n
	}, 3*patience, 10*time.Millisecond)
	return fleet
}

var outage = flag.Duration("outage", 20*time.Second, "how long the upstream of TestAFleetMeetsAnOutageAsOne is down")

// Twenty processes meet an outage as one that has all their traffic does.
func TestAFleetMeetsAnOutageAsOne(t *testing.T) {
	realRedis(t)
	const members, rate = 20, 20
	s := startRedis(t)
	u, baseline := startUpstream(t), startUpstream(t)
	fleet := startFleet(t, s, u, members, rate)
	alone := startClient(t, job{URL: baseline.url, Rate: members * rate, Name: "alone"})
	require.Eventually(t, func() bool { return baseline.calls.Load() > 2*members*rate }, patience, 10*time.Millisecond)

	down := time.Now()
	u.down.Store(true)
	baseline.down.Store(true)
	first, last := await(t, fleet, "open", down)
	t.Logf("the last of %d opens %v after the first, and that %v after the upstream is down", members, last.Sub(first), first.Sub(down))
	assert.LessOrEqual(t, last.Sub(first), slower*100*time.Millisecond)
	await(t, []*clientProcess{alone}, "open", down)
	tripped, trippedAlone := u.wasted.Load(), baseline.wasted.Load()

	before := commands(t, s.client(t))
	<-time.After(time.Until(down.Add(*outage)))
	probes, probesAlone := u.wasted.Load()-tripped, baseline.wasted.Load()-trippedAlone
	after := commands(t, s.client(t))
	t.Logf("in %v: %d calls wasted by the fleet until all are open and %d alone; then %d probes by the fleet and %d alone",
		*outage, tripped, trippedAlone, probes, probesAlone)
	t.Logf("published: %.1f/s", float64(after["publish"]-before["publish"])/time.Since(last).Seconds())
	assert.LessOrEqual(t, probes, 3*probesAlone)
	assert.Positive(t, probes)

	well := time.Now()
	u.down.Store(false)
	baseline.down.Store(false)
	firstWell, lastWell := await(t, fleet, "closed", well)
	t.Logf("the first is closed %v after the upstream is back, the last %v after", firstWell.Sub(well), lastWell.Sub(well))
	for _, c := range append(fleet, alone) {
		c.stop()
		if e, ok := c.first("end", well); assert.True(t, ok, "%s did not end well", c.name) {
			assert.Empty(t, e.Warnings)
		}
	}
}

func TestAFleetGoesOnWithoutItsRedis(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	u := startUpstream(t)
	fleet := startFleet(t, s, u, 5, 20)
	down := time.Now()
	u.down.Store(true)
	await(t, fleet, "open", down)
	s.kill()
	u.down.Store(false)
	well := time.Now()
	_, last := await(t, fleet, "closed", well)
	t.Logf("without Redis, the last is closed %v after the upstream is back", last.Sub(well))
	down = time.Now()
	u.down.Store(true)
	_, last = await(t, fleet, "open", down)
	t.Logf("without Redis, the last is open %v after the upstream is down", last.Sub(down))
	s.start(t)
	c := s.client(t)
	require.Eventually(t, func() bool {
		listening, err := c.PubSubNumSub(t.Context(), "fusebox:{default}:v1").Result()
		return err == nil && listening["fusebox:{default}:v1"] == 5
	}, patience, 10*time.Millisecond)
	well = time.Now()
	u.down.Store(false)
	await(t, fleet, "closed", well)
	down = time.Now()
	u.down.Store(true)
	first, last := await(t, fleet, "open", down)
	t.Logf("with Redis again, the last opens %v after the first", last.Sub(first))
	for _, c := range fleet {
		c.stop()
		e, ok := c.first("end", down)
		require.True(t, ok)
		assert.LessOrEqual(t, len(e.Warnings), 1, "warnings of %s: %v", c.name, e.Warnings)
	}
}

func TestAMemberThatDiesWithAProbeCostsSeconds(t *testing.T) {
	realRedis(t)
	t.Parallel()
	s := startRedis(t)
	u := startUpstream(t)
	fleet := startFleet(t, s, u, 5, 10)
	down := time.Now()
	u.down.Store(true)
	await(t, fleet, "open", down)
	u.hang.Store(true)
	var prober *clientProcess
	select {
	case name := <-u.hung:
		for _, c := range fleet {
			if c.name == name {
				prober = c
			}
		}
	case <-time.After(patience):
		t.Fatal("nobody probes")
	}
	prober.command.Process.Kill()
	killed := time.Now()
	var rest []*clientProcess
	for _, c := range fleet {
		if c != prober {
			rest = append(rest, c)
		}
	}
	u.hang.Store(false)
	u.down.Store(false)
	first, last := await(t, rest, "closed", killed)
	t.Logf("the first of the others is closed %v after its death, the last %v after", first.Sub(killed), last.Sub(killed))
	assert.Less(t, last.Sub(killed), 10*time.Second)
}

// Fifty members with a thousand hosts in trouble are too many for the one machine of a test, since each hears of fifty thousand
// circuits: there are fewer of the ones or of the others then.
func TestAThousandHostsAskLittleOfRedis(t *testing.T) {
	realRedis(t)
	t.Parallel()
	for _, c := range []struct {
		members, hosts int
		trouble        bool
	}{{50, 1000, false}, {5, 1000, true}, {50, 20, true}} {
		t.Run(fmt.Sprint(c.members, " members, ", c.hosts, " hosts"), func(t *testing.T) { hostsAskLittle(t, c.members, c.hosts, c.trouble) })
	}
}

func hostsAskLittle(t *testing.T, members, hosts int, trouble bool) {
	s := startRedis(t)
	var down atomic.Bool
	base := testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
		if down.Load() {
			return nil, errors.New("down")
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
	})
	stop := make(chan struct{})
	var calling sync.WaitGroup
	var calls, rounds atomic.Int64
	var fleet []*transport.Transport
	for range members {
		tr := transport.New(base, transport.WithFleet(fleetredis.New(s.client(t), fleetredis.Options{})), transport.WithoutLocalTrouble())
		fleet = append(fleet, tr)
		t.Cleanup(tr.LeaveFleet)
		calling.Go(func() { // all together make 5,000 calls a second
			tick := time.NewTicker(time.Duration(members) * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				for range 5 {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://host%d.example.com/", n%hosts), nil)
					if !assert.NoError(t, err) {
						return
					}
					if resp, err := tr.RoundTrip(req); err == nil {
						resp.Body.Close()
					}
					calls.Add(1)
					if n++; n%hosts == 0 {
						rounds.Add(1)
					}
				}
			}
		})
	}
	t.Cleanup(calling.Wait)
	t.Cleanup(func() { close(stop) })
	c := s.client(t)
	require.Eventually(t, func() bool { return commands(t, c)["zrevrangebyscore"] >= members && rounds.Load() >= int64(members) }, patience, 10*time.Millisecond)
	// Members join anew whom a busy machine kept from Redis for a second. Once all are there, nobody says anything.
	healthy := -1
	for end := time.Now().Add(2 * patience); healthy != 0 && time.Now().Before(end); {
		before, called := commands(t, c), calls.Load()
		<-time.After(3 * time.Second)
		healthy = sum(commands(t, c)) - sum(before)
		t.Logf("healthy: %d commands and %d calls in 3 s", healthy, calls.Load()-called)
		require.NotEqual(t, called, calls.Load())
	}
	require.Zero(t, healthy)
	if !trouble {
		return
	}

	before, start := commands(t, c), time.Now()
	down.Store(true)
	<-time.After(6 * time.Second)
	open := 0
	// All are open by now, unless the machine is too busy to make the calls.
	assert.Eventually(t, func() bool {
		open = 0
		for _, tr := range fleet {
			for _, circuit := range tr.Circuits() {
				if circuit.State == policy.Open {
					open++
				}
			}
		}
		return open == members*hosts
	}, time.Minute, 500*time.Millisecond)
	after, took := commands(t, c), time.Since(start)
	envelopes := after["publish"] - before["publish"] // by scripts or alone
	perMember := float64(envelopes) / took.Seconds() / float64(members)
	t.Logf("%d circuits open: %.0f envelopes a second of each member", open, perMember)
	assert.LessOrEqual(t, perMember, 200.0, "one in five milliseconds")
}
