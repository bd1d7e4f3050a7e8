package transport_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// dns is a base for which some hosts exist and answer with a status, and all others do not exist.
type dns map[string]int

func (d dns) RoundTrip(req *http.Request) (*http.Response, error) {
	if status, ok := d[req.URL.Host]; ok {
		return &http.Response{StatusCode: status, Body: http.NoBody}, nil
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: req.URL.Host, IsNotFound: true}}
}

func callHost(t *testing.T, rt http.RoundTripper, host string) *http.Response {
	resp, err := rt.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: host}})
	var notFound *net.DNSError
	if err != nil && !errors.As(err, &notFound) {
		t.Errorf("%s: %v", host, err)
	}
	return resp
}

// flood calls hosts that do not exist, each one times times, from several goroutines.
func flood(t *testing.T, rt http.RoundTripper, hosts, times int) {
	const goroutines = 4
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range hosts / goroutines {
				for range times {
					callHost(t, rt, fmt.Sprintf("made-up-%d-%d.test", g, i))
				}
			}
		})
	}
	wg.Wait()
}

func hostKey(host string) transport.Key { return transport.Key{Scheme: "http", Host: host} }

func TestAFloodOfMadeUpHostsForgetsNoCircuitInTrouble(t *testing.T) {
	bounds := map[int]int{4: 5_000, 100: 5_000, 16384: 20_000}
	if testing.Short() {
		bounds = map[int]int{4: 1_000, 1000: 2_000}
	}
	for max, hosts := range bounds {
		for _, times := range []int{1, 7} { // what does not exist fails once, or until its circuit is open
			t.Run(fmt.Sprintf("%d circuits, %d times", max, times), func(t *testing.T) {
				rt := transport.New(dns{"open.test": 500}, transport.WithMaxCircuits(max))
				for range 7 {
					callHost(t, rt, "open.test")
				}
				rt.SetState(hostKey("half-open.test"), policy.HalfOpen)
				open, _ := rt.Circuit(hostKey("open.test"))
				halfOpen, _ := rt.Circuit(hostKey("half-open.test"))
				require.Equal(t, policy.Open, open.State)
				require.EqualValues(t, 6, open.FailedCalls)

				flood(t, rt, hosts, times)

				for _, before := range []transport.Snapshot{open, halfOpen} {
					after, ok := rt.Circuit(before.Key)
					require.True(t, ok, "%v is forgotten", before.Key)
					require.Equal(t, before, after, "its history too is what it was")
				}
				require.LessOrEqual(t, len(rt.Circuits()), max)
			})
		}
	}
}

func TestAFloodIsRefusedAndWatchedAsAnybodyIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // so that no probe is due before the last call, however busy the machine is
		rt := transport.New(dns{"well.test": 200}, transport.WithMaxCircuits(1000))
		flood(t, rt, 500, 7)
		for _, c := range rt.Circuits() {
			require.Equal(t, policy.Open, c.State)
			require.EqualValues(t, 6, c.FailedCalls)
			require.EqualValues(t, 1, c.Refusals)
		}
		require.Len(t, rt.Circuits(), 500)
		require.Equal(t, 200, callHost(t, rt, "well.test").StatusCode)
	})
}

// everyHost answers for all hosts, as a wildcard in the DNS of whoever makes them up.
type everyHost int

func (status everyHost) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: int(status), Body: http.NoBody}, nil
}

func TestMemoryStaysWithinTheBoundHoweverManyHostsThereAre(t *testing.T) {
	kept, share := 16384, 1
	if testing.Short() {
		kept, share = kept/8, 8
	}
	for _, c := range []struct {
		name         string
		base         http.RoundTripper
		hosts, times int
		most         int64 // bytes a circuit
	}{
		{"well", everyHost(200), 100_000, 1, 320},
		{"failed once", dns{}, 20_000, 1, 900},
		{"open", dns{}, 17_000, 7, 1880},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := transport.New(c.base, transport.WithMaxCircuits(kept))
			before := testkit.LiveHeap()
			flood(t, rt, c.hosts/share, c.times)
			grown := testkit.LiveHeap() - before
			require.Len(t, rt.Circuits(), kept)
			require.Less(t, grown, int64(kept)*c.most+64<<10, "and what all of them share")
			t.Logf("%d hosts: %d bytes a circuit, %.1f MiB", c.hosts/share, grown/int64(kept), float64(grown)/(1<<20))
		})
	}
}

func TestWhatIsNoLongerInFlightLeavesNothingBehind(t *testing.T) {
	rt := transport.New(everyHost(500), transport.WithMaxCircuits(1), transport.WithRefusalError())
	text := strings.Repeat("x", 1<<20)
	before := testkit.LiveHeap()
	for range 20 { // one circuit, which is open from the sixth on
		req, err := http.NewRequest(http.MethodGet, "http://upstream.test/"+text, nil)
		require.NoError(t, err)
		req.Header.Set("X", text+text)
		rt.RoundTrip(req)
	}
	require.Less(t, testkit.LiveHeap()-before, int64(4<<20))
	require.NotZero(t, rt.Circuits()[0].Refusals)
}
