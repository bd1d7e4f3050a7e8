package transport_test

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// shop is an upstream of many members. It takes 5 ms.
type shop struct {
	down   atomic.Bool
	calls  atomic.Int64
	broken func() bool // this call fails; nil if only what is down does
}

func (s *shop) RoundTrip(req *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	time.Sleep(5 * time.Millisecond)
	status := http.StatusNoContent
	if s.down.Load() || s.broken != nil && s.broken() {
		status = http.StatusBadGateway
	}
	return &http.Response{StatusCode: status, Body: http.NoBody, Request: req}, nil
}

const shopHost = "shop.example"

var shopKey = transport.Key{Scheme: "http", Host: shopHost}

// member is a process with a Transport of its own.
type member struct {
	rt *transport.Transport

	mu       sync.Mutex
	changes  []transport.StateChange
	refused  int
	requests int
	served   time.Time     // the last request that was not refused
	heldUp   time.Duration // the longest time between two of them
}

func newMember(base http.RoundTripper, bus fleet.Bus, seed uint64, opts ...transport.Option) *member {
	m := &member{}
	if bus != nil {
		opts = append(opts, transport.WithFleet(bus))
	}
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 1))
	opts = append(opts, transport.WithoutLocalTrouble(), withRandom(func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return random.Float64()
	}), transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.changes = append(m.changes, c)
	}}))
	m.rt = transport.New(base, opts...)
	return m
}

func (m *member) call() (refused bool) {
	resp, err := m.rt.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: shopHost}})
	refused = err == nil && transport.Refused(resp)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests++
	if refused {
		m.refused++
		return true
	}
	now := time.Now()
	if !m.served.IsZero() {
		m.heldUp = max(m.heldUp, now.Sub(m.served))
	}
	m.served = now
	return false
}

func (m *member) circuit() transport.Snapshot {
	c, _ := m.rt.Circuit(transport.Key(shopKey))
	return c
}

// drive makes requests every so often until the time is over, each without waiting for the one before.
func (m *member) drive(every, phase, length time.Duration) {
	var calls sync.WaitGroup
	time.Sleep(phase)
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(every) {
		calls.Go(func() { m.call() })
	}
	calls.Wait()
}

// driveAll drives members side by side, at different times.
func driveAll(members []*member, every, length time.Duration) {
	var all sync.WaitGroup
	for i, m := range members {
		all.Go(func() { m.drive(every, every*time.Duration(i)/time.Duration(len(members)), length) })
	}
	all.Wait()
}

// openFor returns the longest time for which the circuit did not let everything through.
func (m *member) openFor() (longest time.Duration) {
	var from time.Time
	for _, c := range m.changes {
		switch {
		case c.From == policy.Closed:
			from = c.At
		case c.To == policy.Closed:
			longest = max(longest, c.At.Sub(from))
			from = time.Time{}
		}
	}
	if !from.IsZero() {
		longest = max(longest, time.Since(from))
	}
	return longest
}

func newFleet(base http.RoundTripper, bus fleet.Bus, members int) (all []*member) {
	for i := range members {
		all = append(all, newMember(base, bus, uint64(i)))
	}
	return all
}

func leave(members []*member) {
	for _, m := range members {
		m.rt.LeaveFleet()
	}
}

func TestTheLastMemberOpensSoonAfterTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		members := newFleet(&upstream, &fleet.Memory{Delay: 2 * time.Millisecond}, 20)
		defer leave(members)
		driveAll(members, 50*time.Millisecond, 5*time.Second)
		upstream.down.Store(true)
		driveAll(members, 50*time.Millisecond, 2*time.Second)
		var first, last time.Time
		for _, m := range members {
			require.NotEmpty(t, m.changes)
			at := m.changes[0].At
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
		t.Logf("the last one %v after the first", last.Sub(first))
		require.LessOrEqual(t, last.Sub(first), 100*time.Millisecond)
	})
}

func probesOf(members []*member) (n uint64) {
	for _, m := range members {
		n += m.circuit().Probes
	}
	return n
}

func TestAFleetProbesAboutAsOftenAsOneMemberWouldWithAllRequests(t *testing.T) {
	const fellows, every = 20, 50 * time.Millisecond
	during := time.Minute
	if testkit.Brief() {
		during = 20 * time.Second
	}
	probes := map[string]uint64{}
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		upstream.down.Store(true)
		members := newFleet(&upstream, &fleet.Memory{Delay: 2 * time.Millisecond}, fellows)
		defer leave(members)
		driveAll(members, every, during)
		probes["fleet"] = probesOf(members)
		members = newFleet(&upstream, nil, fellows)
		driveAll(members, every, during)
		probes["each by itself"] = probesOf(members)
		one := newFleet(&upstream, nil, 1)
		driveAll(one, every/fellows, during)
		probes["one"] = probesOf(one)
	})
	t.Log(probes)
	require.LessOrEqual(t, probes["fleet"], 3*probes["one"])
	require.Greater(t, probes["fleet"], probes["one"]/3, "and not much more seldom")
	require.Greater(t, probes["each by itself"], 3*probes["one"], "which is something")
}

func TestAFleetIsBackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		members := newFleet(&upstream, &fleet.Memory{Delay: 2 * time.Millisecond}, 20)
		defer leave(members)
		outage := time.Minute
		if testkit.Brief() {
			outage /= 3
		}
		upstream.down.Store(true)
		driveAll(members, 50*time.Millisecond, outage)
		upstream.down.Store(false)
		driveAll(members, 50*time.Millisecond, 5*time.Second)
		for i, m := range members {
			require.Equal(t, policy.Closed, m.circuit().State, "member %d", i)
		}
	})
}

// As many calls as of one ramp reach an upstream that is back, though each of twenty members would ramp it up by itself.
func TestTheRampOfAFleetIsOne(t *testing.T) {
	const members, takes, every = 20, 100 * time.Millisecond, 10 * time.Millisecond
	outage := 20 * time.Second
	if testkit.Brief() {
		outage /= 3
	}
	peaks := func(bus fleet.Bus) (peaks [8]int) {
		synctest.Test(t, func(t *testing.T) {
			var down atomic.Bool
			var mu sync.Mutex
			var inFlight int
			var back time.Time
			upstream := base(func(req *http.Request) (*http.Response, error) {
				mu.Lock()
				inFlight++
				if down.Load() {
					back = time.Time{}
				} else if back.IsZero() {
					back = time.Now()
				}
				if round := int(time.Since(back) / takes); !back.IsZero() && round < len(peaks) {
					peaks[round] = max(peaks[round], inFlight)
				}
				mu.Unlock()
				time.Sleep(takes)
				mu.Lock()
				defer mu.Unlock()
				inFlight--
				status := http.StatusNoContent
				if down.Load() {
					status = http.StatusBadGateway
				}
				return &http.Response{StatusCode: status, Body: http.NoBody, Request: req}, nil
			})
			fellows := newFleet(upstream, bus, members)
			defer leave(fellows)
			down.Store(true)
			driveAll(fellows, every, outage)
			down.Store(false)
			driveAll(fellows, every, 3*time.Second)
			for i, m := range fellows {
				require.Equal(t, policy.Closed, m.circuit().State, "member %d", i)
			}
		})
		return peaks
	}
	together := peaks(&fleet.Memory{Delay: 2 * time.Millisecond})
	apart := peaks(nil)
	t.Logf("calls in flight in each round, in a fleet %v, apart %v", together, apart)
	for round, peak := range together {
		require.LessOrEqual(t, peak, 3<<round+4, "round %d", round)
	}
	require.Greater(t, together[7], 1<<5, "and it is back soon") // 53 is the least of 240 runs, 48 of 100 brief ones
	require.GreaterOrEqual(t, apart[0], members)
}

func TestAMemberThatJoinsLateOpensByWhatItHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		upstream.down.Store(true)
		bus := &fleet.Memory{Delay: 2 * time.Millisecond}
		members := newFleet(&upstream, bus, 3)
		driveAll(members, 50*time.Millisecond, 10*time.Second)
		late := newMember(&upstream, bus, 99)
		defer leave(append(members, late))
		time.Sleep(10 * time.Millisecond)
		before := upstream.calls.Load()
		require.True(t, late.call(), "its first request is refused")
		require.Equal(t, before, upstream.calls.Load())
		require.Equal(t, policy.ChangeTrippedByFleet, late.changes[0].Reason)
	})
}

func TestAMemberThatJoinsAfterTheOutageHearsNothingOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		upstream.down.Store(true)
		bus := &fleet.Memory{}
		members := newFleet(&upstream, bus, 3)
		driveAll(members, 50*time.Millisecond, 10*time.Second)
		upstream.down.Store(false)
		time.Sleep(91 * time.Second) // nobody said again that it is open: they may as well be dead
		late := newMember(&upstream, bus, 99)
		defer leave(append(members, late))
		time.Sleep(10 * time.Millisecond)
		require.False(t, late.call())
		require.Empty(t, late.changes)
	})
}

// countingBus counts what is sent and complains of what is sent or heard when it is too late for that.
type countingBus struct {
	fleet.Bus
	sends, closes, late atomic.Int64
	hear                func(fleet.Message) // of the last that joined
}

type countingLink struct {
	fleet.Link
	bus    *countingBus
	closed atomic.Bool
}

func (b *countingBus) Join(name string, hear func(fleet.Message)) fleet.Link {
	b.hear = hear
	return &countingLink{Link: b.Bus.Join(name, hear), bus: b}
}

func (l *countingLink) Send(m fleet.Message) {
	l.bus.sends.Add(1)
	if l.closed.Load() {
		l.bus.late.Add(1)
	}
	l.Link.Send(m)
}

func (l *countingLink) Close() {
	l.closed.Store(true)
	l.bus.closes.Add(1)
	l.Link.Close()
}

func TestNothingIsSentWhileAllIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		bus := &countingBus{Bus: &fleet.Memory{}}
		members := newFleet(&upstream, bus, 10)
		driveAll(members, 20*time.Millisecond, time.Minute)
		leave(members)
		require.Zero(t, bus.sends.Load())
		require.EqualValues(t, 10, bus.closes.Load())
	})
}

func TestAFailureNowAndThenIsFewMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		upstream := shop{broken: func() bool { return n.Add(1)%20 == 0 }} // 5 % fail
		bus := &countingBus{Bus: &fleet.Memory{}}
		members := newFleet(&upstream, bus, 10)
		driveAll(members, 20*time.Millisecond, time.Minute)
		leave(members)
		t.Logf("%d messages of %d failures", bus.sends.Load(), n.Load()/20)
		require.Less(t, bus.sends.Load(), n.Load()/20/2)
		for _, m := range members {
			require.Zero(t, m.refused)
		}
	})
}

func TestWhoLeftTheFleetTellsAndHearsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		upstream.down.Store(true)
		bus := &countingBus{Bus: &fleet.Memory{Delay: time.Millisecond}}
		m := newMember(&upstream, bus, 1, transport.WithPolicy(policy.Classic{Failures: 2, OpenFor: time.Second}))
		other := bus.Bus.Join("other", func(fleet.Message) {})
		defer other.Close()
		m.call() // evidence that is to be sent in 10 ms
		m.rt.LeaveFleet()
		before := bus.sends.Load()
		m.drive(100*time.Millisecond, 0, 20*time.Second)
		require.NotEmpty(t, m.changes, "the circuits go on by themselves")
		require.Equal(t, before, bus.sends.Load(), "messages to a bus that it has left")
		require.Zero(t, bus.late.Load())
		changes := len(m.changes)
		for range 3 {
			other.Send(fleet.Message{Key: shopKey, Kind: fleet.Answered})
			other.Send(fleet.Message{Key: shopKey, Kind: fleet.Opened, For: time.Minute})
			time.Sleep(time.Second)
		}
		require.Len(t, m.changes, changes)
		m.rt.LeaveFleet() // twice is once
	})
	transport.New(nil).LeaveFleet() // and without a fleet it is nothing
}

func TestNothingRunsOnAfterLeaveFleet(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	bus := &fleet.Memory{Delay: time.Millisecond}
	base := base(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusBadGateway, Body: http.NoBody, Request: req}, nil
	})
	members := newFleet(base, bus, 4)
	for range 20 {
		for _, m := range members {
			m.call()
		}
	}
	leave(members)
	goleak.VerifyNone(t, ignore)
}

// listenTo makes a member, and returns what is called with the messages of others.
func listenTo(base http.RoundTripper) (*member, func(fleet.Message)) {
	bus := &countingBus{Bus: &fleet.Memory{}}
	m := newMember(base, bus, 1)
	return m, bus.hear
}

func TestMessagesOfKindsThatAreNotKnownAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		m, hear := listenTo(&upstream)
		defer m.rt.LeaveFleet()
		unknown := func() {
			for _, from := range []string{"a", "b", ""} {
				for kind := range 256 {
					if kind == 0 || kind > int(fleet.Withdrawn) {
						hear(fleet.Message{From: from, Key: shopKey, Kind: fleet.Kind(kind), Failures: 1000, For: time.Hour})
					}
				}
			}
		}
		unknown()
		require.False(t, m.call())
		before := m.circuit()
		unknown()
		require.Equal(t, before, m.circuit())
		require.Empty(t, m.changes)
	})
}

// An opening holds for a few minutes unless it is told again, whatever it says, and also where no request has come yet.
func TestAnOpeningThatSaysItHoldsForEverDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		m, hear := listenTo(&upstream)
		defer m.rt.LeaveFleet()
		for _, from := range []string{"a", "b"} {
			hear(fleet.Message{From: from, Key: shopKey, Kind: fleet.Opened, For: math.MaxInt64})
		}
		time.Sleep(4 * time.Minute)
		require.False(t, m.call())
		require.Empty(t, m.changes)
	})
}

func TestWhatIsKnownOfOthersIsBounded(t *testing.T) {
	for name, flood := range map[string]func(i int) fleet.Message{
		"many keys":    func(i int) fleet.Message { return fleet.Message{From: "a", Key: madeUp(i)} },
		"many members": func(i int) fleet.Message { return fleet.Message{From: fmt.Sprint("member", i), Key: madeUp(i % 32)} },
		"long keys": func(i int) fleet.Message {
			return fleet.Message{From: "a", Key: transport.Key{Scheme: "http", Host: "a.test", Detail: fmt.Sprint(i, strings.Repeat("x", 1<<13))}}
		},
		"many of both": func(i int) fleet.Message {
			return fleet.Message{From: fmt.Sprint("member", i/4096), Key: madeUp(i % 4096)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m, hear := listenTo(base(func(*http.Request) (*http.Response, error) { return nil, http.ErrHandlerTimeout }))
			defer m.rt.LeaveFleet()
			before := testkit.LiveHeap()
			messages := 100_000
			if strings.HasSuffix(name, "keys") {
				messages = 8192
			}
			for i := range messages {
				message := flood(i)
				message.Kind, message.For = fleet.Opened, time.Hour
				hear(message)
			}
			grown := testkit.LiveHeap() - before
			t.Logf("%d KiB", grown>>10)
			require.Less(t, grown, int64(16<<20), "bytes")
			require.Empty(t, m.rt.Circuits(), "no message makes a circuit")
		})
	}
}

func madeUp(i int) transport.Key {
	return transport.Key{Scheme: "http", Host: fmt.Sprintf("made-up-%d.test", i)}
}

// What does not hold any more makes room.
func TestThereIsRoomForWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		m, hear := listenTo(&upstream)
		defer m.rt.LeaveFleet()
		for i := range 10_000 {
			hear(fleet.Message{From: "liar", Key: madeUp(i), Kind: fleet.Opened, For: math.MaxInt64})
		}
		time.Sleep(4 * time.Minute)
		for _, from := range []string{"a", "b"} {
			hear(fleet.Message{From: from, Key: shopKey, Kind: fleet.Opened, For: 15 * time.Second})
		}
		require.True(t, m.call(), "two members have it open")
	})
}

// lies are messages that are never true at once, and numbers that nobody has.
func lies(random *rand.Rand) fleet.Message {
	numbers := []int{0, 1, 100, math.MaxInt, math.MinInt, -1}
	number := func() int { return numbers[random.IntN(len(numbers))] }
	return fleet.Message{
		Key: shopKey, Kind: fleet.Kind(random.IntN(11)), Failures: number(), Successes: number(), Requests: number(),
		For: time.Duration(number()), Ago: time.Duration(number()), InFlight: number(), Took: time.Duration(number()),
	}
}

const lieEvery = 20 * time.Millisecond

// liar sends what it is told to, hundreds of times or more, until the time is over.
func liar(bus fleet.Bus, name string, say func(*rand.Rand) fleet.Message, length time.Duration) {
	link := bus.Join(name, func(fleet.Message) {})
	defer link.Close()
	random := rand.New(rand.NewPCG(uint64(len(name)), 7))
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(lieEvery) {
		link.Send(say(random))
	}
}

func always(kinds ...fleet.Kind) func(*rand.Rand) fleet.Message {
	return func(random *rand.Rand) fleet.Message {
		return fleet.Message{Key: shopKey, Kind: kinds[random.IntN(len(kinds))], Failures: 1000, For: 15 * time.Second}
	}
}

// Three of ten members lie. The other seven reach the upstream, which is well, or almost.
func TestLiarsDoNotHoldTheCircuitsOfOthersOpen(t *testing.T) {
	lied := map[string]func(*rand.Rand) fleet.Message{
		"anything":         lies,
		"failures":         always(fleet.Evidence),
		"openings":         always(fleet.Opened),
		"openings, probes": always(fleet.Opened, fleet.ProbeStarted, fleet.ProbeFailed),
		"recoveries":       always(fleet.Opened, fleet.Answered, fleet.RecoveryFailed),
		"failed, going on": always(fleet.Opened, fleet.Recovering),
		"full, going on": func(random *rand.Rand) fleet.Message {
			return fleet.Message{Key: shopKey, Kind: []fleet.Kind{fleet.Opened, fleet.Recovering, fleet.Recovering}[random.IntN(3)], For: 15 * time.Second, InFlight: 1000, Requests: 1000, Took: time.Hour}
		},
		"fast, going on": func(random *rand.Rand) fleet.Message {
			return fleet.Message{Key: shopKey, Kind: []fleet.Kind{fleet.Opened, fleet.Recovering, fleet.Recovering}[random.IntN(3)], For: 15 * time.Second, Successes: 1, Took: 1}
		},
	}
	withoutHold := policy.Adaptive{}.Rules()
	withoutHold.Hold = nil
	try := testkit.OneIn(8)
	for _, c := range []struct {
		name    string
		policy  policy.Policy
		every   time.Duration
		seldom  int64         // one call in so many fails; 0 for none
		percent int           // refused at most
		held    time.Duration // without a call, at most
		length  time.Duration
	}{
		{"adaptive", policy.Adaptive{}, 50 * time.Millisecond, 0, 1, 3 * time.Second, 10 * time.Second},
		{"without hold", withoutHold, 50 * time.Millisecond, 0, 1, 3 * time.Second, 10 * time.Second},
		{"one in a hundred fails", policy.Adaptive{}, 50 * time.Millisecond, 100, 20, 3 * time.Second, 40 * time.Second},
		{"classic", policy.Classic{OpenFor: time.Second}, 50 * time.Millisecond, 0, 1, 3 * time.Second, 10 * time.Second},
		{"thin traffic", policy.Adaptive{}, 3 * time.Second, 0, 20, 30 * time.Second, 2 * time.Minute},
	} {
		for name, say := range lied {
			if !try() {
				continue
			}
			t.Run(c.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var n atomic.Int64
					upstream := shop{broken: func() bool { return c.seldom > 0 && n.Add(1)%c.seldom == 0 }}
					bus := &fleet.Memory{Delay: time.Millisecond}
					var members []*member
					for i := range 7 {
						members = append(members, newMember(&upstream, bus, uint64(i), transport.WithPolicy(c.policy)))
					}
					defer leave(members)
					driveAll(members, c.every, time.Second)
					var liars sync.WaitGroup
					for _, name := range []string{"x", "yy", "zzz"} {
						liars.Go(func() { liar(bus, name, say, c.length) })
					}
					driveAll(members, c.every, c.length)
					liars.Wait()
					var refused, requests, changes int
					var longest time.Duration
					for _, m := range members {
						refused, requests, changes = refused+m.refused, requests+m.requests, changes+len(m.changes)
						longest = max(longest, m.heldUp)
					}
					t.Logf("%d of %d refused, %d changes, held up for %v at most", refused, requests, changes, longest)
					for i, m := range members {
						require.LessOrEqual(t, m.refused, m.requests*c.percent/100+1, "member %d", i)
						require.Less(t, m.heldUp, c.held, "member %d", i)
					}
				})
			})
		}
	}
}

// One that is cut off from the upstream says so, and what it says is true for itself.
func TestMembersThatAreCutOffDoNotOpenTheCircuitsOfOthers(t *testing.T) {
	for _, cutOff := range []int{1, 3} {
		t.Run(fmt.Sprint(cutOff), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var upstream, wall shop
				wall.down.Store(true)
				bus := &fleet.Memory{Delay: time.Millisecond}
				members := append(newFleet(&upstream, bus, 10-cutOff), newFleet(&wall, bus, cutOff)...)
				defer leave(members)
				driveAll(members, 50*time.Millisecond, time.Minute)
				for i, m := range members[:10-cutOff] {
					t.Logf("member %d: %d of %d refused, %d changes, open for %v at most", i, m.refused, m.requests, len(m.changes), m.openFor())
					require.Less(t, m.refused, m.requests/100, "member %d", i)
					require.Less(t, m.openFor(), 3*time.Second)
				}
				for _, m := range members[10-cutOff:] {
					require.NotEqual(t, policy.Closed, m.circuit().State)
				}
			})
		})
	}
}

// outage has all members open their circuits, and the upstream well again without them having seen it.
func outage(upstream *shop, members []*member) {
	driveAll(members, 50*time.Millisecond, 6*time.Second)
	upstream.down.Store(true)
	driveAll(members, 50*time.Millisecond, 2*time.Second)
	upstream.down.Store(false)
}

// Who joins after an operator has closed all circuits, or all members have left, does not refuse anything for their sake.
func TestWhatIsTakenBackOpensNoLatecomer(t *testing.T) {
	for name, end := range map[string]func(*member){
		"reset":        func(m *member) { m.rt.Reset("*") },
		"set closed":   func(m *member) { m.rt.SetState(transport.Key(shopKey), policy.Closed) },
		"forced":       func(m *member) { m.rt.Force("*", policy.Closed) },
		"forced open":  func(m *member) { m.rt.Force("*", policy.Open) },
		"and released": func(m *member) { m.rt.Force("*", policy.Closed); m.rt.Release("*") },
		"left":         func(m *member) { m.rt.LeaveFleet() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var upstream shop
				bus := &fleet.Memory{Delay: 2 * time.Millisecond}
				members := newFleet(&upstream, bus, 3)
				defer leave(members)
				idle, hear := listenTo(&upstream) // has no circuit yet
				defer idle.rt.LeaveFleet()
				relay := bus.Join("relay", hear)
				defer relay.Close()
				outage(&upstream, members)
				for i, m := range members {
					require.Equal(t, policy.Open, m.circuit().State, "member %d", i)
					end(m)
				}
				time.Sleep(10 * time.Millisecond)
				late := newMember(&upstream, bus, 99)
				defer late.rt.LeaveFleet()
				time.Sleep(10 * time.Millisecond)
				require.False(t, late.call())
				require.Empty(t, late.changes)
				require.False(t, idle.call(), "who was there all the time but asked for nothing")
				require.Empty(t, idle.changes)
			})
		})
	}
}

// A member that takes one failure for an outage, and for one of an hour, decides for itself. Two of them have one that takes
// a thousand look for itself: its circuit opens, and it makes the first call that comes a second later.
func TestMembersOfDifferentPoliciesGoOnByTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		bus := &fleet.Memory{Delay: 2 * time.Millisecond}
		var hasty []*member
		for i := range 2 {
			hasty = append(hasty, newMember(&upstream, bus, uint64(i), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Hour})))
		}
		patient := newMember(&upstream, bus, 9, transport.WithPolicy(policy.Classic{Failures: 1000, OpenFor: time.Hour}))
		adaptive := newMember(&upstream, bus, 10)
		all := append(hasty, patient, adaptive)
		defer leave(all)
		for _, m := range all {
			m.call()
		}
		time.Sleep(6 * time.Second)
		upstream.down.Store(true)
		for _, m := range hasty {
			m.call()
		}
		upstream.down.Store(false)
		time.Sleep(100 * time.Millisecond)
		for _, m := range all {
			require.Equal(t, policy.Open, m.circuit().State)
		}
		patient.drive(time.Second, 0, 10*time.Minute)
		adaptive.drive(time.Second, 0, time.Minute)
		require.LessOrEqual(t, patient.refused, 2)
		require.LessOrEqual(t, adaptive.refused, 2)
		for _, m := range hasty {
			m.call() // hastened by the patient one's recovery
			require.Equal(t, policy.Closed, m.circuit().State)
		}
	})
}

// A message from outside does not end the process because an observer of it panics, and what the observer did is not hidden.
func TestAnObserverThatPanicsAtAMessageIsLogged(t *testing.T) {
	var logged bytes.Buffer
	defer log.SetFlags(log.Flags())
	defer log.SetOutput(log.Writer()) // which SetDefault changes
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	synctest.Test(t, func(t *testing.T) {
		var upstream shop
		bus := &fleet.Memory{}
		changes := 0
		rt := transport.New(&upstream, transport.WithFleet(bus), transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) {
			changes++
			panic("my observer: " + c.Reason)
		}}))
		m := &member{rt: rt}
		m.call()
		time.Sleep(10 * time.Second)
		for _, from := range []string{"a", "b"} {
			link := bus.Join(from, func(fleet.Message) {})
			defer link.Close()
			link.Send(fleet.Message{Key: shopKey, Kind: fleet.Opened, For: time.Minute})
		}
		synctest.Wait()
		require.Equal(t, policy.Open, m.circuit().State)
		require.Equal(t, 1, changes)
		rt.LeaveFleet()
	})
	require.Contains(t, logged.String(), "level=ERROR")
	require.Contains(t, logged.String(), "my observer: tripped by fleet")
	require.Contains(t, logged.String(), "fleet_test.go", "the stack")
}

// What is kept elsewhere would be forced for good where it is restored: nobody there knows when it ends.
func TestWhatIsForcedFromElsewhereIsNotSaved(t *testing.T) {
	before := transport.New(nil)
	before.Force("http://mine", policy.Closed)
	own.ForceUnsaved(before, "http://*", policy.Open)
	require.Len(t, before.Overrides(), 2)
	_, err := own.ForceUnsaved(before, "", policy.Open)
	require.Error(t, err)
	var file bytes.Buffer
	require.NoError(t, before.SaveTo(&file))
	after := transport.New(nil)
	_, err = after.RestoreFrom(&file, 0)
	require.NoError(t, err)
	require.Len(t, after.Overrides(), 1)
	require.Equal(t, "http://mine", after.Overrides()[0].Pattern)
}
