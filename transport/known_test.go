package transport_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/tried"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// trip has the circuit of an upstream that answers open.
func trip(t *testing.T, rt *transport.Transport, upstream dns, host string) {
	upstream[host] = http.StatusOK
	callHost(t, rt, host)
	upstream[host] = http.StatusInternalServerError
	for range 6 {
		callHost(t, rt, host)
	}
	c, _ := rt.Circuit(hostKey(host))
	require.Equal(t, policy.Open, c.State)
	require.True(t, c.Known)
}

func TestTheRecordOfARealUpstreamIsStoredHoweverManyAreMadeUp(t *testing.T) {
	hosts := 17_000
	if testing.Short() { // those that are saved below are as many
		hosts = 1_000
	}
	synctest.Test(t, func(t *testing.T) {
		upstream := dns{}
		storage := new(transport.MemoryStorage)
		rt := transport.New(upstream, transport.WithStorage(storage))
		trip(t, rt, upstream, "before.test")
		flood(t, rt, hosts, 6)
		trip(t, rt, upstream, "after.test")

		next := transport.New(upstream, transport.WithStorage(storage))
		for _, host := range []string{"before.test", "after.test"} {
			require.True(t, transport.Refused(callHost(t, next, host)), host)
			c, _ := next.Circuit(hostKey(host))
			require.True(t, c.Known, "it has answered elsewhere")
		}
		tried.Row(t, "17,000 made-up hosts, and the record of a real one in a MemoryStorage", "not stored", "stored", "stored")
		for i := range 20_000 { // of Transports that know more of them
			require.NoError(t, storage.Save(transport.Record{Key: hostKey(fmt.Sprint("made-up", i)), State: policy.Open}), "they make room for each other")
		}
		_, err := storage.Load(hostKey("before.test"))
		require.NoError(t, err)
	})
}

func TestWhatIsSavedAndRestoredIsStillMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := dns{}
		rt := transport.New(upstream)
		trip(t, rt, upstream, "real.test")
		flood(t, rt, 4, 6)
		var text bytes.Buffer
		require.NoError(t, rt.SaveTo(&text))
		next := transport.New(upstream)
		opened, err := next.RestoreFrom(&text, 0)
		require.NoError(t, err)
		require.Equal(t, 5, opened)
		for _, c := range next.Circuits() {
			require.Equal(t, c.Key == hostKey("real.test"), c.Known, "%v", c.Key)
		}
	})
}

// What is forced is forced by its pattern, whether its circuit is kept or not.
func TestAFloodOfWhatIsForcedForgetsNoRealUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		upstream := dns{}
		rt := transport.New(upstream, transport.WithMaxCircuits(100))
		trip(t, rt, upstream, "real.test")
		rt.Force("http://*made-up*", policy.Closed)
		flood(t, rt, 1000, 1)
		for _, c := range rt.Circuits() {
			require.Equal(t, c.Key == hostKey("real.test"), c.Known, "%v", c.Key)
		}
		c, ok := rt.Circuit(hostKey("real.test"))
		require.True(t, ok)
		require.Equal(t, policy.Open, c.State)
	})
}

func TestAMemberRemembersWhatIsOpenElsewhereHoweverManyAreMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := new(fleet.Memory)
		upstream := dns{}
		member := func() *transport.Transport {
			rt := transport.New(upstream, transport.WithFleet(bus))
			t.Cleanup(rt.LeaveFleet)
			return rt
		}
		early := member()
		flooded := bus.Join("flooded", func(fleet.Message) {})
		for i := range 6000 {
			flooded.Send(fleet.Message{Key: madeUp(i), Kind: fleet.Opened, For: time.Hour})
			if i%1000 == 999 {
				synctest.Wait()
			}
		}
		flooded.Close()
		sick := []*transport.Transport{member(), member()}
		for _, rt := range sick {
			trip(t, rt, upstream, "real.test")
			synctest.Wait()
		}
		late := member()
		synctest.Wait()
		for _, rt := range []*transport.Transport{early, late} {
			require.True(t, transport.Refused(callHost(t, rt, "real.test")))
		}
		tried.Row(t, "6,000 made-up hosts open in a fleet, and a real one after them", "not heard of", "known to be open", "known to be open")
	})
}

func TestMadeUpHostsAreNoLocalTroubleHoweverSeldomRealOnesAreCalled(t *testing.T) {
	for _, since := range []time.Duration{0, time.Second, time.Minute, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 1, policy.Classic{OpenFor: time.Minute})
			time.Sleep(since)
			s.hosts = []string{"made-up1.example", "made-up2.example", "made-up3.example"}
			s.fail(s.hosts)
			time.Sleep(10 * time.Second)
			require.Empty(t, s.told(), "the one upstream that is called was well %v ago, and nothing says more", since)
		})
	}
	tried.Row(t, "three made-up hosts, while a real one is called seldom", "local trouble", "none", "none")
	synctest.Test(t, func(t *testing.T) { // as when a process starts and finds nothing
		s := newSite(t, 0, policy.Classic{OpenFor: time.Minute})
		s.hosts = []string{"a.example", "b.example", "c.example"}
		s.fail(s.hosts)
		time.Sleep(10 * time.Second)
		require.Len(t, s.told(), 1)
	})
}

// What a proxy answers to CONNECT is no answer of the upstream's.
func TestAnUpstreamIsNotKnownByWhatAProxySays(t *testing.T) {
	for _, status := range []int{401, 403, 404, 407, 429, 500, 502, 503, 504, 511} {
		rt := transport.New(stub(func() (*http.Response, error) {
			return nil, policy.NewProxyError(&http.Response{StatusCode: status, Header: http.Header{}})
		}))
		for range 7 {
			rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://made-up.test/", nil))
		}
		c, _ := rt.Circuit(hostKey("made-up.test"))
		require.False(t, c.Known, "%d", status)
	}
	rt := transport.New(stub(func() (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusProxyAuthRequired, Body: http.NoBody}, nil
	}))
	rt.RoundTrip(httptest.NewRequest(http.MethodGet, "http://made-up.test/", nil))
	c, _ := rt.Circuit(hostKey("made-up.test"))
	require.False(t, c.Known, "a proxy that wants a password over http")
}

func TestWhatOneTransportKnowsNoOtherTakesBackInAStorage(t *testing.T) {
	var storage transport.MemoryStorage
	key := hostKey("real.test")
	for _, step := range []struct {
		known bool
		state policy.State
		want  bool
	}{
		{false, policy.Open, false}, {true, policy.Closed, true}, {false, policy.Open, true}, {false, policy.Closed, true}, {true, policy.Open, true},
	} {
		require.NoError(t, storage.Save(transport.Record{Key: key, State: step.state, Known: step.known}))
		got, err := storage.Load(key)
		require.NoError(t, err)
		require.Equal(t, step.state, got.State)
		require.Equal(t, step.want, got.Known)
	}
	// So the circuit of a process for which it has never answered keeps its place among made-up ones.
	for n := range 20_000 {
		require.NoError(t, storage.Save(transport.Record{Key: hostKey(fmt.Sprint("made-up", n, ".test")), State: policy.Open}))
	}
	_, err := storage.Load(key)
	require.NoError(t, err)
}
