package transport

import (
	"crypto/rand"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/internal/peers"
)

const (
	// fleetBatch is how long evidence waits for more of it, so that calls by the thousand are few messages.
	fleetBatch = 10 * time.Millisecond
	// mostKnown bounds what is remembered of keys for which this process has no circuit.
	mostKnown = 4096
	// knownFor is how long it is remembered that a member has a circuit open.
	knownFor = 90 * time.Second
)

// seat is this Transport's membership in a fleet; nil if it is in none.
type seat struct {
	t    *Transport
	link fleet.Link
	left atomic.Bool

	mu      sync.Mutex
	waiting map[*circuit]struct{}                       // that have evidence to send
	known   *bounded.Map[Key, map[string]openElsewhere] // by key and member
	entries int                                         // of all members together
	full    time.Time                                   // nothing is over before
}

type openElsewhere struct {
	fleet.Message
	until time.Time
}

// WithFleet makes the circuits decide together with those of the same keys in other processes: they share what fails,
// that they opened, who probes, that the upstream answers again, and the limit of a recovery, in the background. What a
// process knows by itself weighs more than what others say (see package fleet). New joins the bus at once; LeaveFleet
// leaves it.
//
// What a circuit does by what it hears is told to observers on a goroutine of the bus, where nobody could recover an
// observer's panic: there it is logged, with its stack, at Error by slog.Default(), and the process and its membership
// go on, as net/http's server does with a handler. In a request it is the caller's as ever.
func WithFleet(bus fleet.Bus) Option {
	mustNotBeNil("WithFleet", bus == nil)
	return func(t *Transport) { t.bus = bus }
}

// LeaveFleet ends the membership of WithFleet, and what runs in the background for it, and returns when that has ended:
// at once, or within about a second if the others are still to be told that the open circuits of this member do not
// count any more. The circuits go on by themselves. It is the one thing that an Observer must not call: it may be
// waited for.
func (t *Transport) LeaveFleet() {
	s := t.seat
	if s == nil || s.left.Swap(true) {
		return
	}
	defer s.link.Close()
	for _, c := range t.circuits.all() {
		withdraw := false
		c.WithPeers(func(p peers.Peers) { withdraw = p.(*peers.Member).Leave() })
		if withdraw {
			s.link.Send(fleet.Message{Key: c.key, Kind: fleet.Withdrawn, Known: c.Known()})
		}
	}
}

func (t *Transport) joinFleet() {
	if t.bus == nil {
		return
	}
	t.seat = &seat{
		t: t, waiting: make(map[*circuit]struct{}), known: bounded.New[Key, map[string]openElsewhere](mostKnown),
	}
	ready := make(chan struct{}) // hear may be called before Join returns
	link := t.bus.Join(rand.Text(), func(m fleet.Message) {
		<-ready
		t.seat.hear(m)
	})
	t.seat.link = link
	close(ready)
}

// survive is deferred where observers may be called and no caller is there to hear of their panics.
func survive() {
	if p := recover(); p != nil {
		slog.Error(
			"fusebox: an observer panicked at what other members of the fleet said", "panic", p, "stack",
			string(debug.Stack()),
		)
	}
}

func (s *seat) hear(m fleet.Message) {
	defer survive()
	if k, ok := short(m.Key); !ok || k != m.Key {
		return // no circuit has this key
	}
	now := time.Now()
	c := s.t.circuits.find(m.Key)
	if c != nil {
		c.hear(now, m)
		return
	}
	s.remember(now, m)
	if c = s.t.circuits.find(m.Key); c != nil {
		s.introduce(c) // it was made in the meantime
	}
}

// remember keeps who has a circuit open for which this process has none yet.
func (s *seat) remember(now time.Time, m fleet.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	members, _ := s.known.Get(m.Key)
	_, known := members[m.From]
	switch {
	case (m.Kind == fleet.Recovered || m.Kind == fleet.Withdrawn) && known:
		s.forget(m.Key, members, m.From)
	case m.Kind == fleet.Opened && (known || s.room(now, m.Known)):
		if members, _ = s.known.Get(m.Key); members == nil { // or it made room just now
			members = make(map[string]openElsewhere)
		}
		if _, known = members[m.From]; !known {
			s.entries++
		}
		members[m.From] = openElsewhere{m, now.Add(min(m.For, knownFor))}
		s.known.Put(m.Key, members, m.Known)
	}
}

func (s *seat) forget(key Key, members map[string]openElsewhere, name string) {
	delete(members, name)
	s.entries--
	if len(members) == 0 {
		s.known.Delete(key)
	}
}

// room forgets what does not hold any more if there is no room, once a second at most; and for an upstream that has
// answered, what is remembered of one that has not.
func (s *seat) room(now time.Time, known bool) bool {
	if s.entries >= mostKnown && !now.Before(s.full) {
		s.full = now.Add(time.Second)
		for key, members := range s.known.All() {
			for name, open := range members {
				if !now.Before(open.until) {
					s.forget(key, members, name)
				}
			}
		}
	}
	if s.entries >= mostKnown && known {
		dropped, _ := s.known.DropUnknown()
		s.entries -= len(dropped)
	}
	return s.entries < mostKnown
}

// introduce tells a new circuit what is known of its key.
func (s *seat) introduce(c *circuit) {
	if s == nil {
		return
	}
	s.mu.Lock()
	members, _ := s.known.Get(c.key)
	s.entries -= len(members)
	s.known.Delete(c.key)
	s.mu.Unlock()
	now := time.Now()
	for _, open := range members {
		if left := open.until.Sub(now); left > 0 {
			open.For = left
			c.hear(now, open.Message)
		}
	}
}

func (c *circuit) hear(now time.Time, m fleet.Message) {
	c.WithPeers(func(p peers.Peers) { p.(*peers.Member).Hear(now, m) })
}

// newPeers makes what a circuit has to do with those of other processes.
func (c *circuit) newPeers(m peers.Machine) peers.Peers {
	if c.t.bus == nil {
		return peers.Alone{}
	}
	return peers.NewMember(m, c.share)
}

// share takes what the others are to be told.
func (c *circuit) share(m fleet.Message) {
	s := c.t.seat
	if s == nil || s.left.Load() {
		return
	}
	m.Key, m.Known = c.key, c.Known()
	if m.Kind != fleet.Evidence {
		s.link.Send(m)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		time.AfterFunc(fleetBatch, s.flush)
	}
	s.waiting[c] = struct{}{}
}

// flush sends the evidence that waits, on a goroutine of its own.
func (s *seat) flush() {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = make(map[*circuit]struct{})
	s.mu.Unlock()
	for c := range waiting {
		s.sendEvidence(c)
	}
}

func (s *seat) sendEvidence(c *circuit) {
	defer survive()
	var m fleet.Message
	ok := false
	c.WithPeers(func(p peers.Peers) { m, ok = p.(*peers.Member).TakeEvidence() })
	if ok && !s.left.Load() {
		m.Key, m.Known = c.key, c.Known()
		s.link.Send(m)
	}
}
