// Package fleettest is the conformance suite for a fleet.Bus.
package fleettest

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
)

// patience is how long a message may take; a Bus that keeps its promises never makes a test wait that long.
const patience = 20 * time.Second

// Run tests what package fleet says of a Bus and its Links. It calls newBus once for each test, for a Bus on which
// nobody is yet; two calls of the connect that it returns give two ends of that Bus, as two processes would have them.
func Run(t *testing.T, newBus func(t *testing.T) (connect func() fleet.Bus)) {
	for _, test := range []struct {
		name string
		test func(*testing.T, func() fleet.Bus)
	}{
		{"AllOthersHear", allOthersHear},
		{"NothingIsLostOfAMessage", nothingIsLostOfAMessage},
		{"MessagesOfAMemberStayInOrder", messagesStayInOrder},
		{"OneGoroutineHears", oneGoroutineHears},
		{"LatecomersHearWhatIsOpen", latecomersHearWhatIsOpen},
		{"LatecomersHearForHowLongItHasBeenOpen", latecomersHearForHowLong},
		{"LatecomersDoNotHearWhatHasRecovered", latecomersDoNotHearWhatIsTakenBack(fleet.Recovered)},
		{"LatecomersDoNotHearWhatWasWithdrawn", latecomersDoNotHearWhatIsTakenBack(fleet.Withdrawn)},
		{"LatecomersDoNotHearWhatIsOver", latecomersDoNotHearWhatIsOver},
		{"NothingIsHeardAfterClose", nothingIsHeardAfterClose},
		{"WhatWasSaidBeforeCloseIsHeard", whatWasSaidBeforeCloseIsHeard},
		{"AMemberThatDoesNotHearHoldsNobodyUp", aSlowMemberHoldsNobodyUp},
	} {
		t.Run(test.name, func(t *testing.T) { test.test(t, newBus(t)) })
	}
}

// member joins and keeps what it hears.
type member struct {
	fleet.Link
	name string

	mu    sync.Mutex
	heard []fleet.Message
	more  chan struct{} // has room for one
}

func join(t *testing.T, bus fleet.Bus, name string) *member {
	m := &member{name: name, more: make(chan struct{}, 1)}
	m.Link = bus.Join(name, func(msg fleet.Message) {
		m.mu.Lock()
		m.heard = append(m.heard, msg)
		m.mu.Unlock()
		select {
		case m.more <- struct{}{}:
		default:
		}
	})
	t.Cleanup(m.Close)
	return m
}

// hears waits until enough of what the member has heard is as ok says, and returns that.
func (m *member) hears(t *testing.T, enough int, ok func(fleet.Message) bool) []fleet.Message {
	t.Helper()
	deadline := time.After(patience)
	for {
		var found []fleet.Message
		m.mu.Lock()
		for _, msg := range m.heard {
			if ok(msg) {
				found = append(found, msg)
			}
		}
		m.mu.Unlock()
		if len(found) >= enough {
			return found
		}
		select {
		case <-m.more:
		case <-deadline:
			t.Fatalf("%s has heard %d messages of %d in %v", m.name, len(found), enough, patience)
		}
	}
}

// meet returns when each of the members hears all the others.
func meet(t *testing.T, members ...*member) {
	t.Helper()
	key := policy.Key{Scheme: "meeting"}
	for _, m := range members {
		others := make(map[string]bool)
		deadline := time.After(patience)
		for len(others) < len(members)-1 {
			for _, other := range members {
				if other != m {
					other.Send(fleet.Message{Key: key, Kind: fleet.Evidence, Failures: 1})
				}
			}
			select {
			case <-m.more:
			case <-time.After(50 * time.Millisecond): // a member that is not there yet has missed it
			case <-deadline:
				t.Fatalf("%s hears only %v after %v", m.name, others, patience)
			}
			m.mu.Lock()
			for _, msg := range m.heard {
				if msg.Key == key {
					others[msg.From] = true
				}
			}
			m.mu.Unlock()
		}
	}
}

func of(k policy.Key) func(fleet.Message) bool {
	return func(m fleet.Message) bool { return m.Key == k }
}

var key = policy.Key{Scheme: "https", Host: "api.example.com"}

func allOthersHear(t *testing.T, connect func() fleet.Bus) {
	var members []*member
	for i := range 5 {
		members = append(members, join(t, connect(), fmt.Sprint("member ", i)))
	}
	meet(t, members...)
	members[2].Send(fleet.Message{Key: key, Kind: fleet.Answered})
	members[0].Send(fleet.Message{Key: key, Kind: fleet.RecoveryFailed})
	for i, m := range members {
		want := 2
		if i == 2 || i == 0 {
			want = 1 // not what it said itself
		}
		for _, msg := range m.hears(t, want, of(key)) {
			if msg.From == m.name {
				t.Errorf("%s hears itself", m.name)
			}
			if msg.Kind == fleet.Answered && msg.From != members[2].name {
				t.Errorf("%q comes from %q", msg.Kind, msg.From)
			}
		}
	}
}

func nothingIsLostOfAMessage(t *testing.T, connect func() fleet.Bus) {
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	for i, k := range []policy.Key{
		key, {Scheme: "http", Host: "[::1]:8080", Detail: "GET /users/{id}"}, {Host: strings.Repeat("long.", 200)},
		{Scheme: "s", Host: "h\r\nx: y", Detail: "ünïcödé \x00 \" \\ * {}"}, {Detail: "tenant|a:b"},
	} {
		sent := fleet.Message{
			From: "a", Key: k, Kind: fleet.Kind(1 + i), Failures: 3 + i, Successes: min(1<<40, math.MaxInt),
			Requests: 5 + i, InFlight: 7 + i, Took: 11*time.Millisecond + 1,
			For: time.Hour + time.Nanosecond, Ago: 3 * time.Millisecond,
		}
		a.Send(sent)
		if got := b.hears(t, 1, of(k))[0]; got != sent {
			t.Errorf("sent  %+v\nheard %+v", sent, got)
		}
	}
}

func messagesStayInOrder(t *testing.T, connect func() fleet.Bus) {
	a, b, c := join(t, connect(), "a"), join(t, connect(), "b"), join(t, connect(), "c")
	meet(t, a, b, c)
	const each = 200
	var sending sync.WaitGroup
	for _, m := range []*member{a, b} {
		sending.Go(func() {
			for n := range each {
				m.Send(fleet.Message{Key: key, Kind: fleet.Evidence, Failures: 1 + n})
			}
		})
	}
	sending.Wait()
	last := make(map[string]int)
	for _, msg := range c.hears(t, 2*each, of(key)) {
		if msg.Failures != last[msg.From]+1 {
			t.Fatalf("of %s, message %d comes after %d", msg.From, msg.Failures, last[msg.From])
		}
		last[msg.From] = msg.Failures
	}
}

func oneGoroutineHears(t *testing.T, connect func() fleet.Bus) {
	var mu sync.Mutex
	count, done := 0, make(chan struct{})
	const all = 100
	l := connect().Join("listener", func(m fleet.Message) {
		if m.Key != key {
			return
		}
		if !mu.TryLock() {
			t.Error("two messages at once")
			return
		}
		defer mu.Unlock()
		if count++; count == all {
			close(done)
		}
	})
	t.Cleanup(l.Close)
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	opened := fleet.Message{Key: policy.Key{Scheme: "ready"}, Kind: fleet.Opened, For: time.Minute}
	a.Send(opened)
	var sending sync.WaitGroup
	for _, m := range []*member{a, b} {
		sending.Go(func() {
			for range all {
				m.Send(fleet.Message{Key: key, Kind: fleet.Evidence, Failures: 1})
			}
		})
	}
	sending.Wait()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("messages are missing")
	}
}

func latecomersHearWhatIsOpen(t *testing.T, connect func() fleet.Bus) {
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	a.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute, Ago: time.Second})
	b.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute})
	a.hears(t, 1, of(key))
	b.hears(t, 1, of(key))
	from := make(map[string]bool)
	for _, msg := range join(t, connect(), "late").hears(t, 2, of(key)) {
		if msg.Kind != fleet.Opened || msg.For <= 0 || msg.For > time.Minute {
			t.Errorf("heard %+v", msg)
		}
		from[msg.From] = true
	}
	if len(from) != 2 {
		t.Errorf("open at %v, and only that is known", from)
	}
}

func latecomersHearForHowLong(t *testing.T, connect func() fleet.Bus) {
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	start := time.Now()
	a.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute, Ago: time.Second})
	b.hears(t, 1, of(key))
	for n := 0; ; n++ {
		heard := join(t, connect(), fmt.Sprint("late ", n)).hears(t, 1, of(key))[0]
		passed := time.Since(start)
		if heard.Ago > time.Second+passed+time.Millisecond || heard.For < time.Minute-passed-time.Millisecond {
			t.Fatalf("after %v, heard %+v", passed, heard)
		}
		if heard.Ago > time.Second && heard.For < time.Minute {
			return
		}
		if passed > patience {
			t.Fatalf("after %v, still heard %+v", passed, heard)
		}
	}
}

func latecomersDoNotHearWhatIsTakenBack(kind fleet.Kind) func(*testing.T, func() fleet.Bus) {
	return func(t *testing.T, connect func() fleet.Bus) {
		a, b := join(t, connect(), "a"), join(t, connect(), "b")
		meet(t, a, b)
		a.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute})
		a.Send(fleet.Message{Key: key, Kind: kind})
		b.hears(t, 2, of(key))
		late := join(t, connect(), "late")
		meet(t, a, b, late)
		late.hearsNothing(t, key)
	}
}

func (m *member) hearsNothing(t *testing.T, k policy.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, msg := range m.heard {
		if msg.Key == k {
			t.Errorf("%s has heard %+v", m.name, msg)
		}
	}
}

func whatWasSaidBeforeCloseIsHeard(t *testing.T, connect func() fleet.Bus) {
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	a.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Minute})
	a.Send(fleet.Message{Key: key, Kind: fleet.Withdrawn})
	a.Close()
	b.hears(t, 2, of(key))
	late := join(t, connect(), "late")
	meet(t, b, late)
	late.hearsNothing(t, key)
}

func latecomersDoNotHearWhatIsOver(t *testing.T, connect func() fleet.Bus) {
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	a.Send(fleet.Message{Key: key, Kind: fleet.Opened, For: time.Millisecond})
	b.hears(t, 1, of(key))
	deadline := time.Now().Add(patience)
	for n := 0; ; n++ {
		late := join(t, connect(), fmt.Sprint("late ", n))
		meet(t, a, late)
		late.mu.Lock()
		over := true
		for _, msg := range late.heard {
			over = over && msg.Key != key
		}
		late.mu.Unlock()
		if over {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still heard after %v", patience)
		}
	}
}

func nothingIsHeardAfterClose(t *testing.T, connect func() fleet.Bus) {
	a, b, c := join(t, connect(), "a"), join(t, connect(), "b"), join(t, connect(), "c")
	meet(t, a, b, c)
	b.Close()
	b.Close()
	b.mu.Lock()
	before := len(b.heard)
	b.mu.Unlock()
	a.Send(fleet.Message{Key: key, Kind: fleet.Answered})
	c.hears(t, 1, of(key))
	b.Send(fleet.Message{Key: key, Kind: fleet.Answered}) // harmless
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.heard) != before {
		t.Errorf("heard %+v", b.heard[before:])
	}
}

func aSlowMemberHoldsNobodyUp(t *testing.T, connect func() fleet.Bus) {
	release := make(chan struct{})
	slow := connect().Join("slow", func(fleet.Message) { <-release })
	t.Cleanup(slow.Close)
	t.Cleanup(func() { close(release) })
	a, b := join(t, connect(), "a"), join(t, connect(), "b")
	meet(t, a, b)
	const burst = 20000
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for n := range burst {
			a.Send(fleet.Message{Key: key, Kind: fleet.Evidence, Failures: n})
		}
	}()
	select {
	case <-sent:
	case <-time.After(patience):
		t.Fatal("Send blocks")
	}
	last := policy.Key{Scheme: "last"}
	deadline := time.After(patience)
	for { // what was sent in such a burst may be dropped, but not what is sent after it
		a.Send(fleet.Message{Key: last, Kind: fleet.Answered})
		b.mu.Lock()
		heard := b.heard
		b.mu.Unlock()
		for _, msg := range heard {
			if msg.Key == last {
				return
			}
		}
		select {
		case <-b.more:
		case <-deadline:
			t.Fatal("nothing is heard after a burst")
		}
	}
}
