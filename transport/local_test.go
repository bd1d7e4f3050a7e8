package transport_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// cut is a base that answers until the network on this side is cut.
type cut struct {
	down    map[string]bool
	silent  map[string]bool // and nothing says so before release
	release chan struct{}
}

func (b *cut) RoundTrip(req *http.Request) (*http.Response, error) {
	if b.silent[req.URL.Host] {
		<-b.release
	}
	if b.down[req.URL.Host] {
		return nil, io.ErrUnexpectedEOF
	}
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}, nil
}

type site struct {
	*testing.T
	base  *cut
	rt    *transport.Transport
	mu    sync.Mutex
	heard []transport.LocalTrouble
	hosts []string
}

func newSite(t *testing.T, hosts int, p policy.Policy, opts ...transport.Option) *site {
	s := &site{T: t, base: &cut{map[string]bool{}, map[string]bool{}, make(chan struct{})}}
	s.rt = transport.New(s.base, append(opts, transport.WithPolicy(p), transport.WithObserver(transport.Observer{
		OnLocalTrouble: func(l transport.LocalTrouble) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.heard = append(s.heard, l)
		},
	}))...)
	for i := range hosts {
		s.hosts = append(s.hosts, fmt.Sprintf("host%d.example", i))
		s.call(s.hosts[i])
	}
	return s
}

func (s *site) told() []transport.LocalTrouble {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

// call reports whether the request was refused.
func (s *site) call(host string) (refused bool) {
	req, err := http.NewRequest(http.MethodGet, "http://"+host+"/", nil)
	require.NoError(s, err)
	resp, _ := s.rt.RoundTrip(req)
	return transport.Refused(resp)
}

func (s *site) fail(hosts []string) {
	for _, host := range hosts {
		s.base.down[host] = true
	}
	for range 20 {
		for _, host := range s.hosts {
			s.call(host)
		}
		time.Sleep(100 * time.Millisecond)
	}
	synctest.Wait()
}

func TestMostUpstreamsFailingTogetherIsLocalTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 9, policy.Classic{OpenFor: time.Minute})
		s.fail(s.hosts[:5])
		require.Len(t, s.told(), 1)
		require.Equal(t, 5, s.told()[0].Tripped)
		require.Equal(t, 4, s.told()[0].Well)

		// One that answers again is a sign for all of them, long before their time.
		s.base.down = map[string]bool{}
		require.True(t, s.call(s.hosts[1]), "still open")
		s.rt.SetState(transport.Key{Scheme: "http", Host: s.hosts[0]}, policy.HalfOpen)
		require.False(t, s.call(s.hosts[0]))
		require.Len(t, s.told(), 2)
		require.True(t, s.told()[1].Over)
		for _, host := range s.hosts {
			require.False(t, s.call(host), host)
		}
	})
}

func TestLocalTroubleEndsByHandAndByTime(t *testing.T) {
	for name, end := range map[string]func(*site){
		"reset":         func(s *site) { s.rt.Reset("*") },
		"forced closed": func(s *site) { s.rt.Force("*", policy.Closed) },
		"closed one by one": func(s *site) {
			for _, host := range s.hosts[:5] {
				require.Len(s, s.told(), 1, "not while one of them is open")
				s.rt.SetState(transport.Key{Scheme: "http", Host: host}, policy.Closed)
			}
		},
		"an hour": func(*site) { time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t, 9, policy.Classic{OpenFor: time.Minute})
				s.fail(s.hosts[:5])
				require.Len(t, s.told(), 1)
				end(s)
				synctest.Wait()
				require.Len(t, s.told(), 2)
				require.True(t, s.told()[1].Over)
				require.Equal(t, s.told()[0].Since, s.told()[1].Since)
				time.Sleep(2 * time.Hour)
				require.Len(t, s.told(), 2)
			})
		})
	}
}

func TestMadeUpHostsAreNoLocalTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 5, policy.Classic{OpenFor: time.Minute})
		for i := range 9 {
			s.hosts = append(s.hosts, fmt.Sprintf("made-up%d.example", i))
		}
		s.fail(s.hosts[5:])
		require.Empty(t, s.told(), "five upstreams are well, and the others never answered")
		s.fail(s.hosts[:5])
		require.Len(t, s.told(), 1)
		require.Equal(t, 5, s.told()[0].Tripped)
	})
}

func TestCircuitsOfOneUpstreamAreNoLocalTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tenants := 0
		key := func(req *http.Request) transport.Key {
			k := transport.Upstream(req)
			tenants++
			k.Detail = fmt.Sprint(tenants % 4)
			return k
		}
		s := newSite(t, 3, policy.Classic{OpenFor: time.Minute, Failures: 2}, transport.WithKey(func(req *http.Request) transport.Key {
			if req.URL.Host == "host0.example" {
				return key(req)
			}
			return transport.Upstream(req)
		}))
		for range 4 {
			s.call("host0.example")
		}
		s.fail(s.hosts[:1])
		require.Len(t, s.rt.Circuits(), 6)
		require.Empty(t, s.told())
	})
}

func TestFewUpstreamsFailingTogetherAreToBlameThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 9, policy.Classic{OpenFor: time.Minute})
		s.fail(s.hosts[:4])
		require.Empty(t, s.told(), "four of nine are not most")
		s.rt.SetState(transport.Key{Scheme: "http", Host: s.hosts[0]}, policy.HalfOpen)
		s.base.down = map[string]bool{}
		require.False(t, s.call(s.hosts[0]))
		require.True(t, s.call(s.hosts[1]), "nobody's recovery is a sign for others")
	})
}

// A success is part of a share, so that no circuit that is judged by one has nothing in view.
func TestUpstreamsJudgedByAShareCanBeWell(t *testing.T) {
	share := policy.Classic{OpenFor: time.Minute}.Rules()
	share.Trip = policy.FailureShare{Calls: 4}
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 9, share)
		s.fail(s.hosts[:4])
		require.Empty(t, s.told(), "five are well")
		s.fail(s.hosts[:5])
		require.Len(t, s.told(), 1, "and now four are")
		require.Equal(t, 4, s.told()[0].Well)
	})
}

func TestAnUpstreamThatHasNotAnsweredSinceIsNotWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 9, policy.Adaptive{})
		s.fail(nil)
		for i, host := range s.hosts {
			if s.base.down[host] = true; i >= 4 {
				s.base.silent[host] = true // the network is cut, and these connections do not know it yet
			}
		}
		for range 30 {
			for _, host := range s.hosts {
				go s.call(host)
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Len(t, s.told(), 1)
		require.Equal(t, 4, s.told()[0].Tripped)
		require.Zero(t, s.told()[0].Well)
		close(s.base.release)
	})
}

func TestAnUpstreamThatFailedAndAnsweredSinceIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 9, policy.Classic{OpenFor: time.Minute})
		s.fail(nil)
		for round := range 30 {
			for i, host := range s.hosts {
				s.base.down[host] = i < 4 || round%4 == 0
				s.call(host)
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.Empty(t, s.told(), "five of nine answer most calls")
	})
}

func TestACircuitForcedClosedThatAnswersIsWell(t *testing.T) {
	for name, answers := range map[string]bool{"answers": true, "fails": false} {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t, 9, policy.Classic{OpenFor: time.Minute})
			for _, host := range s.hosts[4:] {
				s.rt.Force("http://"+host, policy.Closed)
				s.base.down[host] = !answers
			}
			s.fail(s.hosts[:4])
			require.Equal(t, answers, len(s.told()) == 0, name)
		})
	}
}

func TestUpstreamsThatFailFarApartAreToBlameThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 6, policy.Classic{OpenFor: time.Hour})
		for i := range s.hosts {
			s.fail(s.hosts[i : i+1])
			time.Sleep(4 * time.Second) // and two have passed in fail
		}
		require.Empty(t, s.told())
	})
}

func TestTwoUpstreamsAreTooFewForLocalTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, 2, policy.Classic{OpenFor: time.Hour})
		s.fail(s.hosts)
		require.Empty(t, s.told())
	})
}
