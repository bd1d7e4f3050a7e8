package statemachine

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// What several goroutines do to a circuit at once has to come out as if they had done it one after another: there is an
// order of all their operations, in which none comes before one that had returned when it was called, and in which the
// model gives every answer that the circuit gave and has the same events in the same order (Herlihy and Wing,
// Linearizability, 1990). The search is that of Wing and Gong (Testing and Verifying Concurrent Objects, 1993).

// An invocation is an operation that was called and has returned.
type invocation struct {
	what             string
	called, returned int64
	answer           string
	model            func(*model) string
	reads            bool // with that answer it changes nothing, whenever it comes
}

// copyOf makes a model that goes on by itself. Its rules are those of the textbook.
func copyOf(m *model) *model {
	n := *m
	trip, probe, recover := *m.trip.(textbookTrip).textbook, *m.probe.(textbookProbe).textbook, *m.recover.(textbookRecover).textbook
	n.trip, n.probe, n.recover = textbookTrip{&trip}, textbookProbe{&probe}, textbookRecover{&recover}
	n.calls = make([]*modelCall, len(m.calls))
	for i, call := range m.calls {
		c := *call
		n.calls[i] = &c
	}
	n.events = nil // what m had is compared already
	return &n
}

// search finds an order, or returns false. It remembers what led nowhere.
type search struct {
	history []invocation
	events  []string // what the observer was told
	nowhere map[string]bool
	deepest int
	stuck   strings.Builder // at the deepest
}

// find reports whether there is an order, from a model that nothing has happened to.
func (s *search) find(m *model) bool {
	s.nowhere = map[string]bool{}
	return s.from(m, 0, 0)
}

// from reports whether what is not done has an order.
func (s *search) from(m *model, done uint64, told int) bool {
	if done == 1<<len(s.history)-1 {
		return told == len(s.events)
	}
	key := fmt.Sprint(done, told, fingerprint(m))
	if s.nowhere[key] {
		return false
	}
	s.nowhere[key] = true
	earliest := int64(1 << 62) // return of an operation that is still to come
	for i, o := range s.history {
		if done&(1<<i) == 0 {
			earliest = min(earliest, o.returned)
		}
	}
	type step struct {
		model *model
		done  uint64
		told  int
	}
	var steps []step
	for i, o := range s.history {
		if done&(1<<i) != 0 || o.called > earliest {
			continue
		}
		next := copyOf(m)
		answer := o.model(next)
		if answer != o.answer || !agrees(s.events[told:], next.events) {
			s.remember(told, "%s: %q and not %q, events %q\n", o.what, answer, o.answer, next.events)
			continue
		}
		to := step{next, done | 1<<i, told + len(next.events)}
		if o.reads {
			return s.from(to.model, to.done, to.told) // any order that has it later is one with it here, too
		}
		steps = append(steps, to)
	}
	for _, to := range steps {
		if s.from(to.model, to.done, to.told) {
			return true
		}
	}
	return false
}

// remember writes down what could not come next after so many events, if none got further.
func (s *search) remember(told int, format string, args ...any) {
	if told > s.deepest {
		s.deepest = told
		s.stuck.Reset()
	}
	if told == s.deepest && s.stuck.Len() < 10_000 {
		fmt.Fprintf(&s.stuck, format, args...)
	}
}

func agrees(told, events []string) bool {
	if len(events) > len(told) {
		return false
	}
	for i := range events {
		if events[i] != told[i] {
			return false
		}
	}
	return true
}

func fingerprint(m *model) string {
	var b strings.Builder
	fmt.Fprint(&b, *m.trip.(textbookTrip).textbook, *m.probe.(textbookProbe).textbook, *m.recover.(textbookRecover).textbook)
	fmt.Fprint(&b, m.state, m.forced, m.hastened, m.known, m.generation, m.gone, m.since, m.trouble, m.asked, m.withheld, m.failedAt, m.cause, m.samples, m.counts)
	fmt.Fprintf(&b, "%p %p", m.rules, m.recoverOf)
	calls := make([]string, len(m.calls))
	for i, call := range m.calls {
		calls[i] = fmt.Sprint(*call)
	}
	slices.Sort(calls) // in what order they were granted makes no difference later
	fmt.Fprint(&b, calls)
	return b.String()
}

// A client is a goroutine that does what it likes, and writes down what it did.
type client struct {
	circuit *Circuit
	configs []config
	random  *rand.Rand
	stamps  *atomic.Int64 // of calls and returns
	clock   *atomic.Int64
	deaf    bool
	out     []taken
	history []invocation
}

// taken is a permit, and the number of its call in the model, which is not known before the search.
type taken struct {
	permit Permit
	name   string
}

func (c *client) did(what string, circuit func() string, model func(*model) string) {
	called := c.stamps.Add(1)
	answer := circuit()
	c.history = append(c.history, invocation{what, called, c.stamps.Add(1), answer, model, false})
}

// onlyRead says that what was done last has changed nothing.
func (c *client) onlyRead() { c.history[len(c.history)-1].reads = true }

// named finds the call that an operation of before got.
func (m *model) named(name string) *modelCall {
	for _, call := range m.calls {
		if call.name == name {
			return call
		}
	}
	panic("no call " + name)
}

func answerOf(granted, probing bool, refused string) string {
	if granted {
		return fmt.Sprintf("granted, probing %v", probing)
	}
	return refused
}

// operation does one thing at random.
func (c *client) operation(name string) {
	now := epoch.Add(time.Duration(c.clock.Add(int64(c.random.IntN(3))*int64(time.Second) + 1))) // no two leases end at once
	switch pick := c.random.IntN(18); {
	case pick < 3:
		var p Permit
		c.did("quick "+name, func() string {
			var ok bool
			p, ok = c.circuit.AcquireClosed()
			return fmt.Sprint(ok)
		}, func(m *model) string {
			call := m.quick()
			if call != nil {
				call.name = name
			}
			return fmt.Sprint(call != nil)
		})
		if p.Granted() {
			c.out = append(c.out, taken{p, name})
		} else {
			c.onlyRead()
		}
	case pick < 7:
		var p Permit
		what, good := "ask ", ToProbe
		switch c.random.IntN(8) {
		case 0:
			what, good = "ask for no probe ", NotToProbe
		case 1, 2:
			what, good = "ask for what is better not lost ", LastResort
		}
		c.did(what+name, func() string {
			var refusal Refusal
			p, refusal = c.circuit.Acquire(now, time.Time{}, good)
			if refusal.Gone {
				return "gone"
			}
			return answerOf(p.Granted(), p.Probing(), refusalText(refusal))
		}, func(m *model) string {
			call, refused := m.ask(now, good)
			if call == nil {
				return refused
			}
			call.name = name
			return answerOf(true, call.probe, "")
		})
		if p.Granted() {
			c.out = append(c.out, taken{p, name})
		}
	case pick < 12 && len(c.out) > 0:
		i := c.random.IntN(len(c.out))
		h := c.out[i]
		c.out = append(c.out[:i:i], c.out[i+1:]...)
		r := policy.Result{Outcome: policy.Success + policy.Outcome(c.random.IntN(3))}
		if r.Outcome == policy.Failure {
			r.Cause = statusOf
		}
		c.did(fmt.Sprint("done ", h.name, " ", r.Outcome), func() string {
			return done(h.permit.Done(now, r))
		}, func(m *model) string { return m.done(now, m.named(h.name), r) })
	case pick < 13 && len(c.out) > 0:
		h := &c.out[c.random.IntN(len(c.out))]
		c.did("headers "+h.name, func() string {
			h.permit.Headers(now, 0)
			return ""
		}, func(m *model) string {
			m.gotHeaders(now, m.named(h.name))
			return ""
		})
	case pick < 14 && len(c.out) > 0:
		h := &c.out[c.random.IntN(len(c.out))]
		var quiet bool
		c.did("quiet "+h.name, func() string {
			quiet = h.permit.Quiet()
			return fmt.Sprint(quiet)
		}, func(m *model) string {
			call := m.named(h.name)
			if quiet { // that the upstream is known shows a moment before what made it known does, and harms nobody
				known := *m
				known.known = true
				return fmt.Sprint(known.quiet(call))
			}
			return fmt.Sprint(m.quiet(call))
		})
		c.onlyRead()
	case pick == 15 && c.random.IntN(4) == 0:
		to := policy.State(c.random.IntN(3))
		c.did("set "+to.String(), func() string { return fmt.Sprint(c.circuit.Set(to, now)) }, func(m *model) string { return fmt.Sprint(m.set(to, now)) })
	case pick == 15 && c.random.IntN(8) == 0:
		var forgotten bool
		c.did("forget", func() string {
			forgotten = c.circuit.Forget(now, Quiet, 0)
			return ""
		}, func(m *model) string {
			switch {
			case !forgotten: // it can always be spared because it was just used
			case m.gone || !m.spare(now, Quiet, 0):
				return "it must not be forgotten"
			default:
				m.gone = true
			}
			return ""
		})
	case pick == 16 && c.random.IntN(3) > 0:
		c.byHand(now)
	case pick == 17 && len(c.out) > 0:
		i := c.random.IntN(len(c.out))
		h := c.out[i]
		c.out = append(c.out[:i:i], c.out[i+1:]...)
		c.did("return "+h.name, func() string {
			h.permit.Return(now)
			return ""
		}, func(m *model) string {
			m.returned(m.named(h.name))
			return ""
		})
	default:
		c.did("look", func() string { return c.seen(c.circuit.Snapshot(now)) }, func(m *model) string { return c.seen(m.snapshot(now)) })
		c.onlyRead()
	}
}

// seen is the text of a snapshot. When the last request came is known a moment before it is counted, where no lock is taken.
func (c *client) seen(s Snapshot) string {
	if c.deaf {
		s.Asked = time.Time{}
	}
	return fmt.Sprint(s)
}

// byHand does what somebody does who looks after the circuit.
func (c *client) byHand(now time.Time) {
	switch c.random.IntN(6) {
	case 0:
		to := policy.State(c.random.IntN(2))
		c.did("force "+to.String(), func() string { return fmt.Sprint(c.circuit.Force(to, now)) }, func(m *model) string { return fmt.Sprint(m.force(to, now)) })
	case 1, 2:
		c.did("release", func() string {
			c.circuit.Release(now)
			return ""
		}, func(m *model) string {
			m.release(now)
			return ""
		})
	case 3:
		c.did("reset", func() string { return fmt.Sprint(c.circuit.Reset(now)) }, func(m *model) string { return fmt.Sprint(m.reset(now)) })
	case 4:
		c.did("hasten", func() string {
			c.circuit.Hasten()
			return ""
		}, func(m *model) string {
			m.hastened = m.state == policy.Open
			return ""
		})
	case 5:
		to := c.configs[c.random.IntN(len(c.configs))]
		c.did("configure", func() string {
			c.circuit.Configure(to.circuit, now)
			return ""
		}, func(m *model) string {
			m.configure(to.model, now)
			return ""
		})
	}
}

// observeHistory lets clients loose on a circuit, and returns what they did and what the observer was told.
func observeHistory(seed uint64, clients, operations int) (m *model, history []invocation, events []string) {
	random := rand.New(rand.NewPCG(seed, 1))
	setup := byte(random.Uint32())
	l := &listener{deaf: isDeaf(seed)}
	var configs []config
	for _, other := range []byte{setup, setup ^ 1<<4 ^ 2} {
		t, probeFirst := textbookOf(other)
		t.openFor, t.safeWait = 3*time.Second, 2*time.Second
		rules := t.rules(probeFirst)
		rules.Trip, rules.Probe, rules.Recover = yieldingTrip{rules.Trip}, yieldingProbe{rules.Probe}, yieldingRecover{rules.Recover}
		configs = append(configs, config{&Config{Rules: rules, Random: func() float64 { return 0 }}, t.model(probeFirst)})
	}
	circuit := New(configs[0].circuit, l, nil)
	var stamps, clock atomic.Int64
	all := make([]*client, clients)
	var running sync.WaitGroup
	for i := range all {
		c := &client{circuit: circuit, configs: configs, random: rand.New(rand.NewPCG(seed, uint64(i))), stamps: &stamps, clock: &clock, deaf: l.deaf}
		all[i] = c
		running.Go(func() {
			for n := range operations {
				c.operation(fmt.Sprint(i, ".", n))
			}
		})
	}
	running.Wait()
	for _, c := range all {
		history = append(history, c.history...)
	}
	m = newModel(configs[0].model, func() float64 { return 0 })
	m.deaf = l.deaf
	return m, history, l.events
}

// isDeaf says in which histories nobody is told of refusals, so that they need no lock.
func isDeaf(seed uint64) bool { return seed%2 == 1 }

// The rules are asked in the middle of operations, and let other goroutines have their turn there.
type (
	yieldingTrip          struct{ policy.TripRule }
	yieldingProbe         struct{ policy.ProbeRule }
	yieldingRecover       struct{ policy.RecoverRule }
	yieldingTripMemory    struct{ policy.Trip }
	yieldingProbeMemory   struct{ policy.Probe }
	yieldingRecoverMemory struct{ policy.Recover }
)

func (r yieldingTrip) NewTrip() policy.Trip    { return yieldingTripMemory{r.TripRule.NewTrip()} }
func (r yieldingProbe) NewProbe() policy.Probe { return yieldingProbeMemory{r.ProbeRule.NewProbe()} }
func (r yieldingRecover) NewRecover() policy.Recover {
	return yieldingRecoverMemory{r.RecoverRule.NewRecover()}
}

func (m yieldingTripMemory) Record(now time.Time, r policy.Result) bool {
	defer runtime.Gosched()
	return m.Trip.Record(now, r)
}

func (m yieldingTripMemory) Counts() (int, int) {
	defer runtime.Gosched()
	return m.Trip.Counts()
}

func (m yieldingTripMemory) Gauge(now time.Time) (int, int) { return m.Trip.(policy.Gauge).Gauge(now) }

func (m yieldingProbeMemory) Ask(now time.Time) bool {
	defer runtime.Gosched()
	return m.Probe.Ask(now)
}

func (m yieldingProbeMemory) InVain(n int) {
	defer runtime.Gosched()
	m.Probe.(policy.InVain).InVain(n)
}

func (m yieldingRecoverMemory) InVain(n int) { m.Recover.(policy.InVain).InVain(n) }

func (m yieldingProbeMemory) Due() time.Time {
	defer runtime.Gosched()
	return m.Probe.Due()
}

func (m yieldingRecoverMemory) Admit(inFlight int) (int, bool) {
	defer runtime.Gosched()
	return m.Recover.Admit(inFlight)
}

func (m yieldingRecoverMemory) Limit() int {
	defer runtime.Gosched()
	return m.Recover.Limit()
}

func (m yieldingRecoverMemory) Record(now time.Time, mark int, r policy.Result) policy.Verdict {
	defer runtime.Gosched()
	return m.Recover.Record(now, mark, r)
}

func TestWhatManyDoAtOnceIsOneHistory(t *testing.T) {
	const clients, operations = 5, 9
	histories := 120
	if testing.Short() {
		histories = 12
	}
	overlaps := 0
	for seed := range uint64(histories) {
		m, history, events := observeHistory(seed, clients, operations)
		s := &search{history: history, events: events}
		require.True(t, s.find(m), "seed %d: no order of these explains the answers and events:\n%s\nevents:\n%s\nwhat could not come next:\n%s",
			seed, inLines(history), strings.Join(events, "\n"), &s.stuck)
		for i, o := range history {
			for _, other := range history[i+1:] {
				if o.called < other.returned && other.called < o.returned {
					overlaps++
				}
			}
		}
	}
	require.Greater(t, overlaps, 10*histories, "operations that were under way at once")
}

func inLines(history []invocation) string {
	var b strings.Builder
	for _, o := range history {
		fmt.Fprintf(&b, "%3d to %3d: %s → %q\n", o.called, o.returned, o.what, o.answer)
	}
	return b.String()
}

// The search itself: it accepts what can be, and nothing else.
func TestTheSearchForAnOrder(t *testing.T) {
	book, probeFirst := textbookOf(0) // one failure trips
	fail := policy.Result{Outcome: policy.Failure, Cause: statusOf}
	quick := func(name string, called, returned int64, granted bool) invocation {
		return invocation{"quick " + name, called, returned, fmt.Sprint(granted), func(m *model) string {
			call := m.quick()
			if call != nil {
				call.name = name
			}
			return fmt.Sprint(call != nil)
		}, !granted}
	}
	failing := func(name string, called, returned int64) invocation {
		return invocation{"fail " + name, called, returned, "opened", func(m *model) string { return m.done(epoch, m.named(name), fail) }, false}
	}
	tripped := newTextbookModel(book, probeFirst)
	tripped.done(epoch, tripped.quick(), fail)
	cases := []struct {
		name    string
		history []invocation
		events  []string
		want    bool
	}{
		{"one after another", []invocation{quick("a", 1, 2, true), failing("a", 3, 4), quick("b", 5, 6, false)}, tripped.events, true},
		{"granted after the trip returned", []invocation{quick("a", 1, 2, true), failing("a", 3, 4), quick("b", 5, 6, true)}, tripped.events, false},
		{"granted while it trips", []invocation{quick("a", 1, 2, true), failing("a", 3, 6), quick("b", 4, 5, true)}, tripped.events, true},
		{"refused while it trips", []invocation{quick("a", 1, 2, true), failing("a", 3, 6), quick("b", 4, 5, false)}, tripped.events, true},
		{"refused, then granted, while it trips", []invocation{quick("a", 1, 2, true), failing("a", 3, 8), quick("b", 4, 5, false), quick("c", 6, 7, true)}, tripped.events, false},
		{"an event too few", []invocation{quick("a", 1, 2, true), failing("a", 3, 4)}, nil, false},
		{"an event too many", []invocation{quick("a", 1, 2, true)}, tripped.events, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := &search{history: c.history, events: c.events}
			require.Equal(t, c.want, s.find(newTextbookModel(book, probeFirst)))
		})
	}
}
