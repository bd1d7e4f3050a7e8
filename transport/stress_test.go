package transport_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// stress is an upstream, its callers and all who look on, each of whom does what it should not, now and then. Time is
// virtual, so that minutes pass, but the goroutines are real and run at once.
type stress struct {
	t       *testing.T
	rt      *transport.Transport
	hosts   int
	longest time.Duration // that a call takes
	leave   bool          // some bodies are left to themselves, neither read to their end nor closed
	legal   legal
	limit   func(grown int) int // of a half-open circuit, after so many calls that returned
	lease   time.Duration       // of half-open calls, at least
	probe   time.Duration       // lease of probes, at least
	calm    atomic.Bool         // all is well from now on
	hands   func()              // what else is done by hand; nil if nothing is

	histories      histories
	requests       atomic.Int64 // bodies that nobody has closed yet
	responses      atomic.Int64 // the same of responses
	refused        atomic.Int64
	deaths         [7]atomic.Int64
	mu             sync.Mutex
	out            map[generation][]time.Time // when calls started that are in the base, where their generation is known
	grown          map[generation]int         // calls that returned; under 0 those of which it is not known
	mostOut, known int
}

type generation struct {
	key    transport.Key
	number uint64
}

// chaos goes with the context of a request.
type chaos struct {
	key     transport.Key
	before  uint64    // the generation, before the permit
	started time.Time // before the permit, too
	probe   bool
}

type chaosKey struct{}

func chaosOf(req *http.Request) *chaos { return req.Context().Value(chaosKey{}).(*chaos) }

const (
	byBase = iota
	byClassifier
	byObserver
	byCaller
	byBody
	byObserverOfCalls
	byOthers
)

var errDeath = errors.New("the stress test's own")

// die panics or ends the goroutine, once in so many times.
func (s *stress) die(by, seldom int) {
	if s.calm.Load() || rand.IntN(seldom) > 0 {
		return
	}
	s.deaths[by].Add(1)
	if rand.IntN(2) == 0 {
		runtime.Goexit()
	}
	panic(errDeath)
}

// survive runs do in a goroutine that may die.
func (s *stress) survive(do func()) {
	died := make(chan any, 1)
	go func() {
		defer func() { died <- recover() }()
		do()
	}()
	if by := <-died; by != nil && by != errDeath {
		s.t.Errorf("panic: %v", by)
	}
}

// upTo is a random time.
func upTo(d time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(d))) }

// RoundTrip is the base: an upstream that is well for three seconds, and sick for three.
func (s *stress) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	if req.Body != nil {
		req.Body.Close()
	}
	c := chaosOf(req)
	leave := s.enter(c)
	defer func() { leave(resp != nil || err != nil) }() // a classifier can call anything a success
	took := upTo(20 * time.Millisecond)
	if !s.calm.Load() && rand.IntN(20) == 0 {
		took = upTo(s.longest)
	}
	s.die(byBase, 50)
	select {
	case <-time.After(took):
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
	if s.calm.Load() {
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
	}
	sick := time.Now().Unix()/3%2 == 0
	switch pick := rand.IntN(10); {
	case pick < 1, pick < 4 && sick:
		return nil, errors.New("the upstream is sick")
	case pick < 7 && sick:
		return &http.Response{StatusCode: 500, Header: http.Header{}, Body: s.newBody(&s.responses), ContentLength: -1, Request: req}, nil
	case pick < 8:
		return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
	}
	return &http.Response{StatusCode: 200, Body: s.newBody(&s.responses), ContentLength: -1, Request: req}, nil
}

// enter counts a call that is in the base with the others of its generation. That is known where it was the same before
// the permit as it is now.
func (s *stress) enter(c *chaos) (leave func(returned bool)) {
	after, _ := s.rt.Circuit(c.key)
	now, all := time.Now(), generation{key: c.key}
	g := generation{c.key, after.Generation}
	known := c.probe && after.Generation == c.before && after.State != policy.Closed
	s.mu.Lock()
	defer s.mu.Unlock()
	if known {
		limit, lease := 1, s.probe
		if after.State == policy.HalfOpen {
			limit, lease = s.limit(s.grown[g]+s.grown[all]), s.lease
		}
		unexpired := 1
		for _, start := range s.out[g] {
			if now.Sub(start) < lease {
				unexpired++
			}
		}
		if unexpired > limit && now.Sub(c.started) < lease {
			s.t.Errorf("%d calls in flight of one generation, %v, and the limit is %d", unexpired, after.State, limit)
		}
		s.mostOut = max(s.mostOut, unexpired)
		s.known++
		s.out[g] = append(s.out[g], c.started)
	}
	return func(returned bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if known {
			s.out[g] = slices.Delete(s.out[g], slices.Index(s.out[g], c.started), slices.Index(s.out[g], c.started)+1)
		} else {
			g = all
		}
		if returned && c.probe {
			s.grown[g]++
		}
	}
}

// stressBody is the body of a request or, a few reads long, of a response.
type stressBody struct {
	s      *stress
	open   *atomic.Int64 // one of requests and responses
	left   int
	closed atomic.Bool
}

func (s *stress) newBody(open *atomic.Int64) *stressBody {
	open.Add(1)
	return &stressBody{s: s, open: open, left: 3}
}

func (b *stressBody) Read(p []byte) (int, error) {
	b.s.die(byBody, 20)
	time.Sleep(upTo(10 * time.Millisecond))
	if b.left == 0 {
		return 0, io.EOF
	}
	if b.left--; rand.IntN(20) == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return copy(p, "x"), nil
}

func (b *stressBody) Close() error {
	if !b.closed.Swap(true) {
		b.open.Add(-1)
	}
	return nil
}

// call makes a request, and does something with its response.
func (s *stress) call(host int) (refused bool) {
	c := &chaos{key: transport.Key{Scheme: "http", Host: fmt.Sprintf("host%d.test", host)}}
	ctx := context.WithValue(context.Background(), chaosKey{}, c)
	if !s.calm.Load() {
		switch rand.IntN(10) {
		case 0:
			canceled, cancel := context.WithCancel(ctx)
			ctx = canceled
			time.AfterFunc(upTo(20*time.Millisecond), cancel)
		case 1:
			timed, cancel := context.WithTimeout(ctx, upTo(50*time.Millisecond))
			ctx = timed
			defer cancel()
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.key.Host, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	s.survive(func() { // an observer can have its turn here, too
		before, _ := s.rt.Circuit(c.key)
		c.before, c.started = before.Generation, time.Now()
	})
	if rand.IntN(4) == 0 {
		req.Method, req.Body = http.MethodPost, s.newBody(&s.requests)
	}
	s.survive(func() {
		resp, err := s.rt.RoundTrip(req)
		if err != nil {
			return
		}
		if refused = transport.Refused(resp); refused {
			s.refused.Add(1)
		}
		if s.leave && !s.calm.Load() && rand.IntN(10) == 0 {
			return
		}
		defer resp.Body.Close()
		for range rand.IntN(6) {
			s.die(byCaller, 100)
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
				break
			}
		}
	})
	return refused
}

func (s *stress) observer() transport.Observer {
	return transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			time.Sleep(upTo(time.Millisecond)) // so that more is waiting to be told
			s.histories.add(c)
			s.rt.Circuits()
			s.die(byObserver, 20)
		},
		OnRefusal: func(transport.RefusalEvent) { s.die(byObserver, 200) },
		OnCall: func(c transport.CallStart) {
			chaosOf(c.Request).probe = c.Probe
			s.die(byObserverOfCalls, 100)
		},
		OnOutcome: func(transport.CallEnd) { s.die(byObserverOfCalls, 100) },
	}
}

func (s *stress) classify(*policy.Call) policy.Outcome {
	s.die(byClassifier, 20)
	if rand.IntN(20) == 0 {
		return policy.Success + policy.Outcome(rand.IntN(3))
	}
	return policy.Undecided
}

// meddle looks, swaps classifiers and sets states by hand.
func (s *stress) meddle(most int) {
	if s.hands != nil {
		s.hands()
	}
	switch rand.IntN(4) {
	case 0:
		s.rt.SetClassifier()
	case 1:
		s.rt.SetClassifier(policy.OnSlow(time.Second), s.classify)
	case 2:
		if rand.IntN(5) == 0 {
			s.rt.SetState(transport.Key{Scheme: "http", Host: fmt.Sprintf("host%d.test", rand.IntN(s.hosts))}, policy.State(rand.IntN(3)))
		}
	case 3:
		all := s.rt.Circuits()
		kept := 0 // of upstreams; parts have a bound of their own
		for _, c := range all {
			if !c.Part {
				kept++
			}
			if c.State == policy.Open && c.InFlight > 1 {
				s.t.Errorf("%d probes: %+v", c.InFlight, c)
			}
		}
		if kept > most {
			s.t.Errorf("%d circuits, and there may be %d", kept, most)
		}
	}
}

// run is many goroutines for about ten seconds of virtual time, and then quiet.
func (s *stress) run(most int, opts ...transport.Option) {
	const goroutines, rounds, meddlers = 2000, 3, 10
	s.out, s.grown = map[generation][]time.Time{}, map[generation]int{}
	opts = append(opts, transport.WithObserver(s.observer()), transport.WithClassifier(s.classify), transport.WithMaxCircuits(most))
	s.rt = transport.New(s, append(opts, transport.WithoutLocalTrouble())...) // by which probes may go before they are due
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for range rounds {
				time.Sleep(upTo(3 * time.Second))
				s.call(rand.IntN(s.hosts))
			}
		})
	}
	for range meddlers {
		all.Go(func() {
			for range 10 * rounds {
				time.Sleep(upTo(300 * time.Millisecond))
				s.survive(func() { s.meddle(most) })
			}
		})
	}
	all.Wait()
	s.calm.Store(true)
	s.rt.SetClassifier()
	s.rt.Circuits() // tells observers what one that died left over

	for by := range s.deaths {
		if by == byOthers && s.hands == nil {
			continue
		}
		require.Positive(s.t, s.deaths[by].Load(), "who did not die: %d", by)
	}
	require.Positive(s.t, s.refused.Load())
	assert.Zero(s.t, s.requests.Load(), "bodies of requests that were not closed")
	if s.leave {
		time.Sleep(s.lease + 2*s.longest) // leases are as long where calls take long
	} else {
		assert.Zero(s.t, s.responses.Load(), "bodies of responses that were not closed")
	}
	for _, c := range s.rt.Circuits() {
		require.Zero(s.t, c.InFlight, "a permit was not given back: %+v", c)
	}
}

// recover checks that all circuits close when all is well, and let all through. A part that gets nothing but what is
// better not lost is probed after a minute.
func (s *stress) recover() {
	for range 2 {
		for range 200 {
			for host := range s.hosts {
				s.call(host)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(time.Minute)
	}
	for _, c := range s.rt.Circuits() {
		require.Equal(s.t, policy.Closed, c.State, "%+v", c)
	}
	for host := range s.hosts {
		require.False(s.t, s.call(host))
	}
}

// requireHistories checks what observers were told of circuits that were never forgotten, and adds to reasons why they changed.
func (s *stress) requireHistories(reasons map[policy.ChangeReason]int) {
	for _, c := range s.rt.Circuits() {
		if c.Part { // another can have had its key before
			continue
		}
		changes := s.histories.of[c.Key]
		require.NoError(s.t, s.legal.judge(changes))
		require.EqualValues(s.t, c.Generation, len(changes))
		require.Equal(s.t, c.State, changes[len(changes)-1].To)
		for _, change := range changes {
			reasons[change.Reason]++
		}
	}
}

// afterProbe is policy.Trial for a circuit that stays open until a probe succeeds.
type afterProbe struct{ policy.Trial }

func (afterProbe) AfterProbe() bool { return true }

func TestUnderStress(t *testing.T) {
	const half, hour = 500 * time.Millisecond, time.Hour
	trip := policy.Consecutive{Failures: 3}
	three := func(int) int { return 3 }
	textbook := legal{failures: 3, successes: 5, waitMin: half, waitMost: half}
	probeFirst := textbook
	probeFirst.probeFirst = true
	lateToo := probeFirst
	lateToo.late = true
	cases := map[string]struct {
		policy policy.Policy
		stress func() *stress
	}{
		"textbook": {
			policy.Rules{Trip: trip, Probe: policy.OpenTime{For: half}, Recover: policy.Trial{Probes: 3, Successes: 5, Lease: hour}},
			func() *stress { return &stress{longest: 3 * time.Second, legal: textbook, limit: three, lease: hour} },
		},
		"a probe first": {
			policy.Rules{Trip: trip, Probe: policy.OpenTime{For: half, Lease: hour}, Recover: afterProbe{policy.Trial{Probes: 3, Successes: 5, Lease: hour}}},
			func() *stress {
				return &stress{longest: time.Second, legal: probeFirst, limit: three, lease: hour, probe: hour}
			},
		},
		"leases that end": {
			policy.Rules{Trip: trip, Probe: policy.OpenTime{For: half, Lease: half}, Recover: afterProbe{policy.Trial{Probes: 3, Successes: 5, Lease: half}}},
			func() *stress {
				return &stress{longest: 3 * time.Second, leave: true, legal: lateToo, limit: three, lease: half, probe: half}
			},
		},
		"adaptive": {
			policy.Adaptive{},
			func() *stress {
				return &stress{
					longest: 3 * time.Second, leave: true, limit: func(grown int) int { return 6 + grown }, lease: 10 * time.Second, probe: 100 * time.Millisecond,
					legal: legal{probeFirst: true, late: true, failures: 6, successes: 2, waitMin: 50 * time.Millisecond, waitMost: 100 * time.Millisecond},
				}
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			reasons := map[policy.ChangeReason]int{}
			for attempt := 0; attempt < 5 && len(reasons) < 5; attempt++ { // chance can leave out one in an attempt
				synctest.Test(t, func(t *testing.T) {
					s := c.stress()
					s.t, s.hosts = t, 4
					s.run(100, transport.WithPolicy(c.policy))
					s.requireHistories(reasons)
					require.Greater(t, s.known, 50, "calls of which the generation is known")
					require.Greater(t, s.mostOut, 2)
					s.recover()
					s.requireHistories(reasons)
				})
			}
			require.Len(t, reasons, 5, "all kinds of changes happened")
		})
	}
}

// dyingStorage is one of the things that users bring along and TestUnderStress leaves out.
type dyingStorage struct {
	s  *stress
	in transport.MemoryStorage
}

func (d *dyingStorage) Load(k transport.Key) (transport.Record, error) {
	d.s.die(byOthers, 100)
	return d.in.Load(k)
}

func (d *dyingStorage) Save(r transport.Record) error {
	d.s.die(byOthers, 100)
	return d.in.Save(r)
}

func TestUnderStressByHand(t *testing.T) {
	for name, most := range map[string]int{"circuits that are kept": 100, "circuits that are forgotten": 8} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { stressByHand(t, most) }) })
	}
}

func stressByHand(t *testing.T, most int) {
	s := &stress{t: t, hosts: 12, longest: time.Second, leave: true, lease: 10 * time.Second, limit: func(int) int { return math.MaxInt }, probe: 100 * time.Millisecond}
	all := []policy.Policy{
		policy.Adaptive{}, policy.Adaptive{Limits: policy.Limits{InFlight: 3, Timeout: 20 * time.Millisecond}},
		policy.Classic{OpenFor: 500 * time.Millisecond, Probes: 3}, policy.Classic{Failures: 1, OpenFor: time.Second, Limits: policy.Limits{Timeout: time.Second, TimeoutBody: true}},
	}
	settingsFor := func(transport.Key) transport.Settings {
		s.die(byOthers, 50)
		return transport.Settings{Policy: all[rand.IntN(len(all))], Classifier: policy.OnSlow(time.Second)}
	}
	pattern := func() string {
		return []string{"*", "*1*", fmt.Sprintf("http://host%d.test", rand.IntN(s.hosts))}[rand.IntN(3)]
	}
	s.hands = func() {
		switch rand.IntN(12) {
		case 0:
			s.rt.Force(pattern(), policy.State(rand.IntN(2)))
		case 1, 2, 3, 4:
			for _, o := range s.rt.Overrides() {
				s.rt.Release(o.Pattern)
			}
		case 5:
			s.rt.Reset(pattern())
		case 6:
			s.rt.SetPolicy(all[rand.IntN(len(all))])
			s.rt.SetSettingsFor(settingsFor)
		case 7:
			s.rt.SetShadow(func(k transport.Key) bool {
				s.die(byOthers, 200)
				return rand.IntN(4) == 0
			})
		case 8:
			s.rt.SetShadow(nil)
		case 9:
			var saved bytes.Buffer
			if err := s.rt.SaveTo(&saved); err != nil {
				s.t.Error(err)
			}
			if _, err := s.rt.RestoreFrom(&saved, time.Minute); err != nil {
				s.t.Error(err)
			}
		case 10:
			s.rt.Observe(transport.Observer{OnRefusal: func(transport.RefusalEvent) { s.die(byOthers, 300) }})()
		case 11:
			s.rt.CloseIdleConnections()
		}
	}
	s.run(most, transport.WithSettingsFor(settingsFor), transport.WithStorage(&dyingStorage{s: s}), transport.WithTraceID(func(*http.Request) string {
		s.die(byOthers, 50)
		return "trace"
	}), transport.WithRefusal(func(req *http.Request, e *transport.RefusedError) (*http.Response, error) {
		s.die(byOthers, 50)
		return transport.Response(503, nil, "")(req, e)
	}), withRandom(func() float64 {
		s.die(byOthers, 100)
		return rand.Float64()
	}), transport.WithHealthCheck(func(k transport.Key) *http.Request {
		s.die(byOthers, 50)
		return nil
	}), transport.WithSafeProbes())

	for _, o := range s.rt.Overrides() {
		s.rt.Release(o.Pattern)
	}
	s.rt.SetShadow(nil)
	s.rt.SetSettingsFor(nil)
	s.rt.SetPolicy(policy.Adaptive{})
	s.recover()
	if most < s.hosts {
		return // a key has several circuits, one after another
	}
	for _, c := range s.rt.Circuits() {
		changes, state := s.histories.of[c.Key], policy.Closed
		require.EqualValues(t, c.Generation, len(changes))
		for _, change := range changes {
			require.Equal(t, state, change.From, "%v", change)
			state = change.To
		}
		require.Equal(t, c.State, state)
	}
}

// Where circuits are forgotten all the time, a key has one after another. They begin closed, and are forgotten closed if they
// were ever answered.
func TestUnderStressWhereCircuitsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stress{t: t, hosts: 40, longest: time.Second, limit: func(int) int { return math.MaxInt }}
		rules := policy.Rules{Trip: policy.Consecutive{Failures: 3}, Probe: policy.OpenTime{For: 500 * time.Millisecond}, Recover: policy.Trial{Probes: 3, Lease: time.Hour}}
		s.run(8, transport.WithPolicy(rules))
		require.Greater(t, len(s.histories.of), 8, "circuits that were told of")
		for key, changes := range s.histories.of {
			left, entered := [3]int{1: 0}, [3]int{policy.Closed: 1}
			for _, c := range changes {
				left[c.From]++
				entered[c.To]++
			}
			now, _ := s.rt.Circuit(key)
			left[now.State]++
			// One that has never had an answer makes room in any state, and the next of its key begins closed.
			open, halfOpen := entered[policy.Open]-left[policy.Open], entered[policy.HalfOpen]-left[policy.HalfOpen]
			require.GreaterOrEqual(t, open, 0, "%v: %+v", key, changes)
			require.GreaterOrEqual(t, halfOpen, 0, "%v: %+v", key, changes)
			require.Equal(t, open+halfOpen, left[policy.Closed]-entered[policy.Closed], "%v: %+v", key, changes)
		}
		for range 200 {
			for _, c := range s.rt.Circuits() {
				var host int
				fmt.Sscanf(c.Key.Host, "host%d.test", &host)
				s.call(host)
			}
			time.Sleep(50 * time.Millisecond)
		}
		for _, c := range s.rt.Circuits() {
			require.Equal(t, policy.Closed, c.State, "%+v", c)
		}
	})
}

// What TestUnderStress finds by chance, and what it cannot see.

func respond(resp *http.Response) stub {
	return func() (*http.Response, error) { return resp, nil }
}

func TestABodyIsClosedThoughAnObserverPanics(t *testing.T) {
	closes := 0
	base := respond(&http.Response{StatusCode: 200, ContentLength: -1, Body: closer(func() { closes++ })})
	rt := transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(transport.CallEnd) { panic(errDeath) }}))
	req, err := http.NewRequest(http.MethodGet, "http://a.test", nil)
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	require.Panics(t, func() { resp.Body.Close() })
	require.Equal(t, 1, closes, "or its connection is lost")
}

func TestARequestBodyIsClosedThoughNoCircuitIsFound(t *testing.T) {
	for name, option := range map[string]transport.Option{
		"key":    transport.WithKey(func(*http.Request) transport.Key { panic(errDeath) }),
		"policy": transport.WithSettingsFor(func(transport.Key) transport.Settings { panic(errDeath) }),
	} {
		t.Run(name, func(t *testing.T) {
			closes := 0
			req, err := http.NewRequest(http.MethodPost, "http://a.test", closer(func() { closes++ }))
			require.NoError(t, err)
			rt := transport.New(respond(&http.Response{StatusCode: 200, Body: http.NoBody}), option)
			require.PanicsWithValue(t, errDeath, func() { rt.RoundTrip(req) })
			require.Equal(t, 1, closes)
		})
	}
}

// closer is a body that never ends.
type closer func()

func (closer) Read(p []byte) (int, error) { return len(p), nil }
func (c closer) Close() error             { c(); return nil }

// An observer died and left events behind. Whoever tells them must hold no lock, or the observer waits for itself.
func TestObserversAreToldOutsideTheLockOfAllCircuits(t *testing.T) {
	a, b := transport.Key{Scheme: "http", Host: "a.test"}, transport.Key{Scheme: "http", Host: "b.test"}
	var rt *transport.Transport
	var told []string
	rt = transport.New(respond(&http.Response{StatusCode: 200, Body: http.NoBody}), transport.WithMaxCircuits(1), transport.WithObserver(transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			told = append(told, c.Key.Host+" "+c.To.String())
			switch len(told) {
			case 1:
				rt.SetState(a, policy.Closed) // to be told after this one
				panic(errDeath)
			case 2:
				rt.Circuits()
			}
		},
	}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		assert.Panics(t, func() { rt.SetState(a, policy.Open) })
		rt.SetState(b, policy.Open) // a makes room
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		require.Fail(t, "an observer that calls Circuits waits for good", "%v", told)
	}
	require.Equal(t, []string{"a.test open", "a.test closed", "b.test open"}, told)
}

// A call's circuit was forgotten, and it opens the one in its place. The refusal that it gets for that is of that one.
func TestTheCallThatTripsASuccessorGetsTheRefusalOfThatOne(t *testing.T) {
	var rt *transport.Transport
	b := transport.Key{Scheme: "http", Host: "b.test"}
	base := stub(func() (*http.Response, error) {
		rt.SetState(b, policy.Closed) // a is forgotten
		return &http.Response{StatusCode: 500, Body: http.NoBody}, nil
	})
	rt = transport.New(base, transport.WithMaxCircuits(1), transport.WithPolicy(policy.Classic{Failures: 1}),
		transport.WithRefusalOnTrip(), transport.WithRefusalError())
	req, err := http.NewRequest(http.MethodGet, "http://a.test", nil)
	require.NoError(t, err)
	_, err = rt.RoundTrip(req)
	var refusal *transport.RefusedError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, policy.Open, refusal.State, "%v", refusal)
}
