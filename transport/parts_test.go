package transport_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// routes is an upstream of which some paths fail.
type routes struct {
	t     *testing.T
	rt    *transport.Transport
	mu    sync.Mutex
	down  map[string]bool // path -> its calls fail
	calls map[string]int
	told  []string // of changes and refusals
}

var wellPaths = []string{"/a", "/b", "/c", "/d", "/e", "/f", "/g", "/h", "/i"}

func newRoutes(t *testing.T, opts ...transport.Option) *routes {
	s := &routes{t: t, down: map[string]bool{}, calls: map[string]int{}}
	s.rt = transport.New(base(s.answer), append(opts, transport.WithObserver(transport.Observer{
		OnStateChange: func(c transport.StateChange) { s.told = append(s.told, c.String()) },
	}))...)
	return s
}

func (s *routes) answer(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[req.URL.Path]++
	if s.down[req.URL.Path] {
		return answer(500, "")(req)
	}
	return answer(200, "")(req)
}

// get reports whether a request was refused.
func (s *routes) get(path string) (refused bool) {
	resp := s.send(http.MethodGet, path)
	resp.Body.Close()
	return transport.Refused(resp)
}

func (s *routes) send(method, path string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://upstream.test"+path, nil)
	require.NoError(s.t, err)
	resp, err := s.rt.RoundTrip(req)
	require.NoError(s.t, err)
	return resp
}

// visit asks for all paths that are well once, and then for this one.
func (s *routes) visit(path string) (refused bool) {
	s.t.Helper()
	for _, other := range wellPaths {
		require.False(s.t, s.get(other))
	}
	return s.get(path)
}

// cut has a part cut out, and returns its key.
func (s *routes) cut(path string) transport.Key {
	s.t.Helper()
	s.down[path] = true
	for range 4 {
		require.False(s.t, s.visit(path))
	}
	key := partOf(path)
	require.Equal(s.t, policy.Open, circuit(s.t, s.rt, key).State)
	return key
}

func partOf(path string) transport.Key {
	return transport.Key{Scheme: here.Scheme, Host: here.Host, Detail: "GET " + path}
}

func (s *routes) keys() (keys []string) {
	for _, c := range s.rt.Circuits() {
		keys = append(keys, c.Key.String())
	}
	return keys
}

func TestAPartThatFailsAloneIsRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		s.down["/reports/7"] = true
		for range 4 {
			require.False(t, s.visit("/reports/7"))
		}
		require.Equal(t, []string{
			"http://upstream.test GET /reports/*: closed to open, tripped: " +
				"failures weigh 4 (bound 4), and of the rest 0 of 27 calls failed, last: status 500",
		}, s.told)
		require.Equal(t, []string{"http://upstream.test", "http://upstream.test GET /reports/*"}, s.keys())
		require.True(t, s.visit("/reports/7"), "and all of visit's others were let through")
		require.True(t, s.get("/reports/8"), "which is of the same part")
		require.False(t, transport.Refused(s.send(http.MethodPost, "/reports/7")), "another method is another part")
		resp := s.send(http.MethodGet, "/reports/7")
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Contains(t, string(text), "fusebox: circuit open for http://upstream.test GET /reports/*, next probe ")

		part := circuit(t, s.rt, partOf("/reports/*"))
		require.True(t, part.Part)
		require.True(t, part.Known)
		require.EqualValues(t, 3, part.Refusals)
		whole := circuit(t, s.rt, here)
		require.False(t, whole.Part)
		require.Equal(t, policy.Closed, whole.State)
		require.Zero(t, whole.Refusals)

		s.down = map[string]bool{}
		s.told = nil
		for range 300 {
			s.visit("/reports/7")
			time.Sleep(50 * time.Millisecond)
		}
		require.Len(t, s.told, 2)
		require.Contains(t, s.told[0], "GET /reports/*: open to half-open, probe succeeded")
		require.Contains(t, s.told[1], "GET /reports/*: half-open to closed, recovered")
		require.Equal(t, []string{"http://upstream.test"}, s.keys(), "what is closed again is gone")
		require.False(t, s.get("/reports/7"))
	})
}

// An outage of a part is hours long, and nothing of it is told to the upstream's circuit.
func TestWhatIsCutOutDoesNotOpenTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		s.cut("/dead")
		failed := circuit(t, s.rt, here).FailedCalls
		for range 4000 {
			s.get("/dead") // and no success of others makes up for it
			time.Sleep(time.Second)
		}
		require.Greater(t, s.calls["/dead"], 20, "probes")
		require.Less(t, s.calls["/dead"], 120)
		require.Equal(t, failed, circuit(t, s.rt, here).FailedCalls)
		require.False(t, s.visit("/another"))
	})
}

func TestAnUpstreamThatIsDownIsOpenAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		s.visit("/a")
		for _, path := range wellPaths {
			s.down[path] = true
		}
		for i := range 100 {
			s.get(wellPaths[i%len(wellPaths)])
		}
		require.Equal(t, []string{"http://upstream.test"}, s.keys())
		require.Equal(t, policy.Open, circuit(t, s.rt, here).State)
		for _, path := range wellPaths {
			s.down[path] = false
		}
		for i := range 1000 {
			s.get(wellPaths[i%len(wellPaths)])
			time.Sleep(50 * time.Millisecond)
		}
		require.Equal(t, policy.Closed, circuit(t, s.rt, here).State)
	})
}

// Both are open: requests of the part, and those of others, can be probes of the upstream.
func TestAPartAndItsUpstreamRecoverTogetherAndInEitherOrder(t *testing.T) {
	for _, first := range []string{"/dead", "/a"} {
		t.Run(first, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newRoutes(t)
				key := s.cut("/dead")
				s.rt.SetState(here, policy.Open)
				for _, path := range wellPaths {
					s.down[path] = true
				}
				for range 200 {
					s.get("/dead")
					s.get("/a")
					time.Sleep(time.Second)
				}
				require.Equal(t, policy.Open, circuit(t, s.rt, here).State)
				require.Equal(t, policy.Open, circuit(t, s.rt, key).State)
				s.down = map[string]bool{}
				for range 3000 { // there are no other requests
					s.get(first)
					time.Sleep(time.Second)
				}
				require.Equal(t, policy.Closed, circuit(t, s.rt, here).State)
				for range 3000 {
					s.get("/dead")
					time.Sleep(time.Second)
				}
				require.Equal(t, []string{"http://upstream.test"}, s.keys())
			})
		})
	}
}

// A part that has been cut out fails for as long as it takes, and the upstream recovers meanwhile.
func TestAFailedProbeOfAPartFailsNoProbeOfItsUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		s.cut("/dead")
		s.rt.SetState(here, policy.Open)
		s.told = nil
		for range 200 {
			s.get("/dead")
			time.Sleep(time.Second)
		}
		require.Empty(t, s.told, "every probe was of the part, too, and failed")
		require.False(t, s.get("/a"), "a probe is due still")
		require.Len(t, s.told, 1)
		require.Contains(t, s.told[0], "http://upstream.test: open to half-open, probe succeeded")
	})
}

func TestAProbeOfAPartThatItsUpstreamRefusesIsStillToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		key := s.cut("/dead")
		s.rt.SetState(key, policy.Open)
		time.Sleep(time.Second)
		s.rt.SetState(here, policy.Open)
		require.Equal(t, policy.RefusedOpen, transport.RefusedBecause(s.send(http.MethodGet, "/dead")))
		part := circuit(t, s.rt, key)
		require.Zero(t, part.InFlight)
		require.Zero(t, part.Probes)
		s.rt.SetState(here, policy.Closed)
		require.False(t, s.get("/dead"))
	})
}

func TestASuspectIsForgottenWhenTheStateOfItsUpstreamChanges(t *testing.T) {
	s := newRoutes(t)
	s.down["/dead"] = true
	for range 3 {
		s.visit("/dead")
	}
	s.rt.SetState(here, policy.Open)
	s.rt.SetState(here, policy.Closed)
	for range 4 {
		require.False(t, s.visit("/dead"))
	}
	require.True(t, s.visit("/dead"))
}

func TestThereIsOneProbeOfAPartAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		s.cut("/dead")
		var out, most, probes atomic.Int32
		slow := transport.Observer{OnCall: func(c transport.CallStart) {
			if c.Key.Detail == "GET /dead" && c.Probe {
				probes.Add(1)
				most.Store(max(most.Load(), out.Add(1)))
				time.Sleep(200 * time.Millisecond)
				out.Add(-1)
			}
		}}
		defer s.rt.Observe(slow)()
		for range 500 {
			go s.send(http.MethodGet, "/dead")
			time.Sleep(20 * time.Millisecond)
		}
		synctest.Wait()
		time.Sleep(time.Minute)
		require.EqualValues(t, 1, most.Load())
		require.Greater(t, probes.Load(), int32(5))
		require.Zero(t, circuit(t, s.rt, partOf("/dead")).InFlight)
	})
}

func TestCallsOfAPartThatWereOutWhenItWasCutOutAreNotHeldAgainstTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newRoutes(t)
		s.rt = transport.New(base(func(req *http.Request) (*http.Response, error) {
			if req.URL.RawQuery == "late" {
				<-release
			}
			return s.answer(req)
		}))
		for range 50 {
			go func() {
				req, _ := http.NewRequest(http.MethodGet, "http://upstream.test/dead?late", nil)
				s.rt.RoundTrip(req)
			}()
		}
		synctest.Wait()
		s.visit("/a")
		s.cut("/dead")
		failed := circuit(t, s.rt, here).Evidence
		close(release)
		synctest.Wait()
		require.Equal(t, policy.Closed, circuit(t, s.rt, here).State)
		require.Equal(t, failed, circuit(t, s.rt, here).Evidence)
		require.True(t, s.visit("/dead"))
	})
}

func TestWhereAStateIsForcedOnAnUpstreamItsPartsHaveNoSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		key := s.cut("/dead")
		force := func(pattern string, state policy.State) {
			t.Helper()
			_, err := s.rt.Force(pattern, state)
			require.NoError(t, err)
		}
		force("http://upstream.test", policy.Closed)
		for range 20 {
			require.False(t, s.visit("/dead"))
		}
		force("http://upstream.test", policy.Open)
		require.Equal(t, policy.RefusedForced, transport.RefusedBecause(s.send(http.MethodGet, "/dead")))
		_, err := s.rt.Release("http://upstream.test")
		require.NoError(t, err)
		require.True(t, s.get("/dead"))
		for range 100 { // the upstream closes
			s.get("/a")
			time.Sleep(time.Second)
		}

		force(key.Pattern(), policy.Closed)
		require.Equal(t, []string{"http://upstream.test"}, s.keys())
		for range 20 {
			require.False(t, s.visit("/dead"), "it is not cut out again")
		}
		_, err = s.rt.Release(key.Pattern())
		require.NoError(t, err)
		for range 4 {
			s.visit("/dead")
		}
		require.True(t, s.visit("/dead"))
		s.down = map[string]bool{}
		force(key.Pattern(), policy.Open)
		for range 100 {
			require.True(t, s.visit("/dead"), "it probes nothing")
			time.Sleep(time.Second)
		}
		require.Equal(t, key.Pattern(), circuit(t, s.rt, key).ForcedBy)
		_, err = s.rt.Release("*")
		require.NoError(t, err)
		matched, err := s.rt.Release(key.Pattern())
		require.NoError(t, err)
		require.Equal(t, 1, matched)
		require.False(t, s.visit("/dead"), "the next is a probe")
	})
}

func TestAPartThatIsSetClosedOrResetIsGone(t *testing.T) {
	s := newRoutes(t)
	end := map[string]func(transport.Key){
		"set":          func(k transport.Key) { require.True(t, s.rt.SetState(k, policy.Closed)) },
		"reset":        func(k transport.Key) { s.rt.Reset(k.Pattern()) },
		"with the all": func(transport.Key) { s.rt.Reset("http://upstream.test") },
	}
	for name, end := range end {
		key := s.cut("/dead")
		require.True(t, s.get("/dead"), name)
		end(key)
		require.Equal(t, []string{"http://upstream.test"}, s.keys(), name)
		require.False(t, s.get("/dead"), name)
		s.rt.Reset("*")
	}
}

func TestPartsGoByTheLatestPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		key := s.cut("/dead")
		s.rt.SetPolicy(policy.Adaptive{Probe: policy.Squares{Wait: time.Hour}})
		require.Equal(t, policy.Open, circuit(t, s.rt, key).State)
		s.calls = map[string]int{}
		for range 10 {
			s.visit("/dead")
			time.Sleep(time.Minute)
		}
		require.LessOrEqual(t, s.calls["/dead"], 2, "one more probe, and none for an hour after it")
		for _, off := range []policy.Policy{
			policy.Adaptive{Parts: policy.Contrast{Off: true}}, policy.Classic{},
			policy.Rules{Trip: policy.Evidence{}, Probe: policy.Squares{}, Recover: policy.Ramp{}},
		} {
			s.rt.SetPolicy(off)
			require.Equal(t, []string{"http://upstream.test"}, s.keys())
			for range 20 {
				require.False(t, s.visit("/dead"))
			}
			s.rt.SetPolicy(nil)
			s.cut("/dead")
		}
	})
}

func TestKeysOfTheUsersOwnHaveNoParts(t *testing.T) {
	for name, key := range map[string]transport.KeyFunc{
		"routes": transport.PerRoute("GET /a"), "hosts": transport.Upstream,
	} {
		t.Run(name, func(t *testing.T) {
			s := newRoutes(t, transport.WithKey(key))
			s.down["/dead"] = true
			for range 100 {
				require.False(t, s.visit("/dead"))
			}
		})
	}
}

func TestInShadowAPartRefusesNothingAndIsCounted(t *testing.T) {
	s := newRoutes(t, transport.WithShadow(), transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{Timeout: time.Hour}}))
	key := s.cut("/dead")
	failed := circuit(t, s.rt, here).FailedCalls
	for range 5 {
		require.False(t, s.get("/dead"))
	}
	require.Equal(t, &transport.Shadow{On: true, Refused: 5, Failed: 5}, circuit(t, s.rt, key).Shadow)
	require.Equal(t, failed, circuit(t, s.rt, here).FailedCalls, "they change nothing")
	s.rt.SetShadow(func(k transport.Key) bool {
		require.Empty(t, k.Detail, "it is asked for upstreams")
		return false
	})
	require.True(t, s.get("/dead"))
}

func TestWhatAPartWouldHaveRefusedTakesNoPlaceInShadow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := newRoutes(t, transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 1}}))
		answer := s.answer
		s.rt = transport.New(base(func(req *http.Request) (*http.Response, error) {
			if req.URL.RawQuery == "late" {
				<-release
			}
			return answer(req)
		}), transport.WithShadow(), transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 1}}))
		s.cut("/dead")
		go func() {
			req, _ := http.NewRequest(http.MethodGet, "http://upstream.test/dead?late", nil)
			s.rt.RoundTrip(req)
		}()
		synctest.Wait()
		refused := circuit(t, s.rt, here).Refusals
		s.get("/a")
		require.Equal(t, refused, circuit(t, s.rt, here).Refusals, "as if the first had not been made")
		close(release)
	})
}

func TestPartsAreNeitherSavedNorStored(t *testing.T) {
	storage := new(transport.MemoryStorage)
	s := newRoutes(t, transport.WithStorage(storage))
	key := s.cut("/dead")
	var saved bytes.Buffer
	require.NoError(t, s.rt.SaveTo(&saved))
	require.NotContains(t, saved.String(), "/dead")
	_, err := storage.Load(key)
	require.ErrorIs(t, err, transport.ErrNoRecord)
}

func TestAPartThatRefusesTakesNoPlaceOfItsUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t, transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 1}}))
		s.cut("/dead")
		for range 10 {
			require.Equal(t, policy.RefusedOpen, transport.RefusedBecause(s.send(http.MethodGet, "/dead")))
			require.False(t, s.get("/a"))
		}
		s.down = map[string]bool{}
		for range 100 {
			s.get("/dead")
			require.False(t, s.get("/a"))
			time.Sleep(time.Second)
		}
		require.Equal(t, []string{"http://upstream.test"}, s.keys())
	})
}

func TestAFloodOfMadeUpPathsNeitherGrowsNorHidesAPartInTrouble(t *testing.T) {
	s := newRoutes(t)
	s.rt = transport.New(base(func(req *http.Request) (*http.Response, error) {
		if strings.HasPrefix(req.URL.Path, "/made-up/") {
			return answer(500, "")(req)
		}
		return s.answer(req)
	}))
	s.cut("/dead")
	s.down["/cutOff"] = true
	for i := 0; !s.get("/cutOff"); i++ {
		require.Less(t, i, 300, "it is never found")
		for j := range 10 {
			for _, path := range append(wellPaths, wellPaths...) {
				require.False(t, s.get(path))
			}
			s.get(fmt.Sprintf("/made-up/%c%c%c%c", 'a'+i%26, 'a'+i/26%26, 'a'+i/676, 'a'+j))
		}
	}
	require.Equal(t, []string{
		"http://upstream.test", "http://upstream.test GET /cutOff", "http://upstream.test GET /dead",
	}, s.keys())
}

func TestNoMoreThanSixteenPartsOfAnUpstreamAreCutOut(t *testing.T) {
	s := newRoutes(t)
	for i := range 16 {
		s.cut(fmt.Sprintf("/dead/%c", 'a'+i))
	}
	s.down["/dead/z"] = true
	for range 20 {
		require.False(t, s.visit("/dead/z"))
	}
	require.Len(t, s.rt.Circuits(), 17)
}

// At the bound of all parts those make room that nobody has asked for for an hour.
func TestWhatNobodyAsksForMakesRoomForAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t, transport.WithMaxCircuits(100)) // a sixteenth is less than 16, which can be in any case
		for i := range 16 {
			s.cut(fmt.Sprintf("/dead/%c", 'a'+i))
		}
		visit := func(host, path string) bool {
			req, _ := http.NewRequest(http.MethodGet, "http://"+host+path, nil)
			resp, err := s.rt.RoundTrip(req)
			require.NoError(t, err)
			return transport.Refused(resp)
		}
		other := func() (refused bool) {
			for _, path := range wellPaths {
				require.False(t, visit("other.test", path))
			}
			return visit("other.test", "/dead/a")
		}
		for range 20 {
			require.False(t, other(), "there is no room")
		}
		time.Sleep(2 * time.Hour)
		for range 8 {
			if other() {
				return
			}
		}
		t.Fatal("there is no room after two hours")
	})
}

func TestAnUpstreamIsNotForgottenWhileAPartOfItIsCutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t, transport.WithMaxCircuits(20))
		key := s.cut("/dead")
		flood := func() {
			for i := range 100 {
				req, _ := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%d.test/a", i), nil)
				_, err := s.rt.RoundTrip(req)
				require.NoError(t, err)
			}
		}
		flood()
		require.True(t, s.get("/dead"))
		require.Equal(t, policy.Open, circuit(t, s.rt, key).State)
		require.Len(t, s.rt.Circuits(), 21)
	})
}

func TestARedirectBlamesTheRequestThatFailed(t *testing.T) {
	s := newRoutes(t)
	s.rt = transport.New(base(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/go" {
			resp, err := answer(302, "")(req)
			resp.Header = http.Header{"Location": {"/dead"}}
			return resp, err
		}
		return s.answer(req)
	}))
	client := &http.Client{Transport: s.rt}
	s.down["/dead"] = true
	for range 10 {
		s.visit("/a")
		resp, err := client.Get("http://upstream.test/go")
		require.NoError(t, err)
		resp.Body.Close()
	}
	require.Equal(t, []string{"http://upstream.test", "http://upstream.test GET /dead"}, s.keys())
	require.False(t, s.get("/go"))
}

func TestObserversHearOfAPartByItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		var told []string
		tell := func(what string, k transport.Key) { told = append(told, what+" "+k.Detail) }
		key := s.cut("/dead")
		s.rt.Observe(transport.Observer{
			OnRefusal: func(r transport.RefusalEvent) { tell("refusal", r.Key); require.Equal(t, r.Key, r.Error.Key) },
			OnRefuse:  func(_ *http.Request, e *transport.RefusedError) { tell("refuse", e.Key) },
			OnCall:    func(c transport.CallStart) { tell("call", c.Key) },
			OnFailure: func(c transport.CallEnd) { tell("failure", c.Key) },
			OnProbe:   func(c transport.CallEnd) { tell("probe", c.Key); require.True(t, c.Probe) },
		})
		s.get("/dead")
		require.Equal(t, []string{"refusal GET /dead", "refuse GET /dead"}, told)
		s.rt.SetState(key, policy.Open) // its first request is a probe after a tenth of a second
		time.Sleep(time.Second)
		told = nil
		s.get("/dead")
		require.Equal(t, []string{"call GET /dead", "failure GET /dead", "probe GET /dead"}, told)
		told = nil
		s.get("/a")
		require.Equal(t, []string{"call "}, told)
	})
}

func TestTheCallThatCutsAPartOutGetsItsRefusal(t *testing.T) {
	s := newRoutes(t, transport.WithRefusalOnTrip(), transport.WithRefusalError())
	s.down["/dead"] = true
	var err error
	for range 4 {
		require.NoError(t, err)
		for _, path := range wellPaths {
			s.get(path)
		}
		req, _ := http.NewRequest(http.MethodGet, "http://upstream.test/dead", nil)
		_, err = s.rt.RoundTrip(req)
	}
	var refused *transport.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, partOf("/dead"), refused.Key)
}

func TestAPartIsProbedByRequestsThatCanBeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checks := 0
		s := newRoutes(t, transport.WithSafeProbes(), transport.WithHealthCheck(func(transport.Key) *http.Request {
			checks++
			req, _ := http.NewRequest(http.MethodGet, "http://upstream.test/health", nil)
			return req
		}))
		s.down["/dead"] = true
		for range 4 {
			for _, path := range wellPaths {
				s.get(path)
			}
			s.send(http.MethodPost, "/dead")
		}
		require.True(t, transport.Refused(s.send(http.MethodPost, "/dead")))
		time.Sleep(time.Second)
		require.True(t, transport.Refused(s.send(http.MethodPost, "/dead")), "it waits for one that can be lost")
		for range 7 {
			time.Sleep(10 * time.Second)
			s.send(http.MethodPost, "/dead")
		}
		require.Equal(t, 5, s.calls["/dead"], "a minute later any request is the probe")
		require.Zero(t, checks, "a health check says nothing of a part")
	})
}

func TestAPlaceOfAPartIsGivenBackWhateverHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		s.rt = transport.New(base(func(req *http.Request) (*http.Response, error) {
			switch req.URL.RawQuery {
			case "panic":
				panic("in the base")
			case "gone":
				<-req.Context().Done()
				return nil, req.Context().Err()
			case "body":
				resp, err := answer(200, "text")(req)
				resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("te"), cutOff{}))
				return resp, err
			}
			return s.answer(req)
		}))
		key := s.cut("/dead")
		probe := func(query string) {
			s.rt.SetState(key, policy.Open)
			time.Sleep(time.Second)
			defer func() { recover() }()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test/dead?"+query, nil)
			resp, err := s.rt.RoundTrip(req)
			if err == nil {
				require.False(t, transport.Refused(resp))
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
		for _, query := range []string{"panic", "gone", "body", ""} {
			failed := circuit(t, s.rt, here).FailedCalls
			probe(query)
			c := circuit(t, s.rt, key)
			require.Zero(t, c.InFlight, query)
			require.Zero(t, c.Expired, query)
			require.Equal(t, policy.Open, c.State, query)
			require.Equal(t, failed, circuit(t, s.rt, here).FailedCalls, query)
		}
	})
}

type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A stream that is well says so a second after its headers, and a part of which some streams break is no suspect then.
func TestStreamsThatLastSayThatTheirPartIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRoutes(t)
		n := 0
		s.rt = transport.New(base(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path != "/streams" {
				return s.answer(req)
			}
			resp, err := answer(200, "stream")(req)
			if n++; n%2 == 0 {
				resp.Body = io.NopCloser(cutOff{})
			} else {
				resp.Body = io.NopCloser(stream{})
			}
			resp.ContentLength = -1
			return resp, err
		}))
		for range 40 {
			s.visit("/a")
			resp := s.send(http.MethodGet, "/streams")
			require.False(t, transport.Refused(resp))
			resp.Body.Read(make([]byte, 1))
			time.Sleep(2 * time.Second)
		}
		require.Equal(t, []string{"http://upstream.test"}, s.keys())
	})
}

type stream struct{}

func (stream) Read(p []byte) (int, error) { return len(p), nil }
