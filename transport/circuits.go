package transport

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

const (
	// defaultMaxCircuits bounds what a process spends on circuits to a few megabytes.
	defaultMaxCircuits = 16384
	// idleTrouble is how long nobody has asked for a circuit in trouble before it may be forgotten, and that only
	// if there is no other to forget.
	idleTrouble = time.Hour
	// mostSteps bounds the search for a circuit to forget.
	mostSteps = 256
)

// circuit is a statemachine.Circuit with its key, and what is counted outside its lock.
type circuit struct {
	// These, and of the Circuit the word, are what a healthy call reads, and one line of memory.
	key      Key
	classify atomic.Pointer[policy.Classifier] // nil for policy.DefaultClassifier

	statemachine.Circuit
	own      atomic.Pointer[Settings] // of its key; not nil
	t        *Transport
	by       atomic.Pointer[policies]
	inFlight atomic.Int32 // calls, if their number is limited
	http2    atomic.Bool  // an answer came over it
	shadow   atomic.Bool
	kept     bool                 // it can be found by others, or could; does not change from then on
	some     atomic.Pointer[some] // nil if it has none of that
}

// some is what only some circuits have.
type some struct {
	keyText  atomic.Pointer[string]
	shadowed shadowed
	said     atomic.Pointer[said]  // in refusals at once; nil if nothing has been yet
	broken   atomic.Pointer[event] // nil if no call has failed by an error yet
	madeBy   *overrideSet          // what was forced when it was made, and is applied

	of  *circuit                  // that of the upstream, if this is of a part that is cut out of it
	cut atomic.Pointer[[]cutPart] // of this upstream; nil if none is
}

// also returns what only some circuits have, of this one, too.
func (c *circuit) also() *some {
	if s := c.some.Load(); s != nil {
		return s
	}
	c.some.CompareAndSwap(nil, new(some))
	return c.some.Load()
}

// text returns the key as text, which is made when it is first asked for: most circuits are never in trouble.
func (c *circuit) text() string {
	s := c.also()
	if text := s.keyText.Load(); text != nil {
		return *text
	}
	text := c.key.String()
	s.keyText.Store(&text)
	return text
}

// circuits keeps at most max circuits. Finding one is a read of a table; the lock is for adding. What is forgotten to
// make room is found by a clock hand (Corbató's approximation of least recently used): first a circuit whose upstream
// has never answered, whatever its state, so that made-up hosts make room for each other; then a closed one with
// nothing in view; then any closed one; and one in trouble only if nobody has asked for it for an hour.
type circuits struct {
	make  func(Key) *circuit
	added func(*circuit)  // told of a new circuit, outside the lock
	idle  func(time.Time) // has circuits forgotten of what nobody asks for, but for those kept here
	max   int

	table table
	near  [64]atomic.Pointer[circuit] // some of them; few services call more hosts

	mu   sync.Mutex
	ring []*circuit
	hand int
}

func (cs *circuits) find(k Key) *circuit {
	k, ok := short(k)
	if !ok {
		return nil
	}
	return cs.table.find(&k)
}

// findHost finds the circuit of a key without a Detail, and keeps it near from then on if there is room.
func (cs *circuits) findHost(scheme, host string) *circuit {
	c := cs.table.find(&Key{Scheme: scheme, Host: host})
	if near := cs.nearby(scheme, host); c != nil && near.Load() == nil {
		near.CompareAndSwap(nil, c)
	}
	return c
}

// nearby is where a host's circuit is found without a map, if no other was there first.
func (cs *circuits) nearby(scheme, host string) *atomic.Pointer[circuit] {
	sum := uint(len(scheme))
	if n := len(host); n > 0 {
		sum += uint(n)*31 + uint(host[0]) + uint(host[n/2])*7 + uint(host[n-1])*17
	}
	return &cs.near[sum%uint(len(cs.near))]
}

// forgotten makes sure that a circuit is not found nearby any more.
func (cs *circuits) forgotten(c *circuit) {
	cs.nearby(c.key.Scheme, c.key.Host).CompareAndSwap(c, nil)
}

// get finds the circuit of a key or adds it. It returns nil if there is no room because all circuits are in trouble, or
// if the key is too long for one.
func (cs *circuits) get(k Key) *circuit {
	k, ok := short(k)
	if !ok {
		return nil
	}
	if c := cs.find(k); c != nil {
		return c
	}
	return cs.add(k)
}

// add is get with a search under the lock, where no circuit is found that is just being forgotten.
func (cs *circuits) add(k Key) *circuit {
	k, ok := short(k)
	if !ok {
		return nil
	}
	// not the whole URL
	k.Scheme, k.Host, k.Detail = schemeOf(k.Scheme), strings.Clone(k.Host), strings.Clone(k.Detail)
	// outside the lock: it asks functions of the user
	made := cs.make(k)
	c, added, forgotten := cs.insert(made)
	if forgotten != nil {
		forgotten.Tell()
	}
	if added {
		cs.added(made)
	}
	return c
}

// schemeOf is a copy of a scheme, which the common ones need not have.
func schemeOf(scheme string) string {
	switch scheme {
	case "https":
		return "https"
	case "http":
		return "http"
	}
	return strings.Clone(scheme)
}

func (cs *circuits) insert(made *circuit) (c *circuit, added bool, forgotten *circuit) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c := cs.table.find(&made.key); c != nil { // not nearby, where one that was forgotten can show up again
		return c, false, nil
	}
	if len(cs.ring) < cs.max {
		cs.ring = append(cs.ring, made)
	} else if at := cs.forgetOne(); at >= 0 {
		forgotten, cs.ring[at] = cs.ring[at], made
	} else {
		return nil, false, nil
	}
	made.kept = true
	cs.table.put(made)
	return made, true, forgotten
}

func (cs *circuits) forgetOne() (freed int) {
	now := time.Now()
	for _, spare := range []statemachine.Spare{
		statemachine.Unknown, statemachine.Quiet, statemachine.AnyClosed, statemachine.Idle,
	} {
		if spare == statemachine.Idle {
			cs.idle(now) // of parts, since an upstream is not forgotten while any is cut out
		}
		start := cs.hand
		for range 2 { // the second time, those that were used before the first one can be spared too
			cs.hand = start
			for range min(mostSteps, len(cs.ring)) {
				at := cs.hand
				cs.hand = (cs.hand + 1) % len(cs.ring)
				if cs.ring[at].inFlight.Load() == 0 && cs.ring[at].Forget(now, spare, idleTrouble) {
					cs.table.remove(cs.ring[at])
					cs.forgotten(cs.ring[at])
					return at
				}
			}
		}
	}
	return -1
}

func (cs *circuits) all() []*circuit {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return slices.Clone(cs.ring)
}

// each calls f for circuits until it returns false, and holds the lock for some of them at a time. Those that are added
// or forgotten meanwhile may be among them.
func (cs *circuits) each(f func(*circuit) bool) {
	var some [256]*circuit
	for from := 0; ; from += len(some) {
		cs.mu.Lock()
		n := copy(some[:], cs.ring[min(from, len(cs.ring)):])
		cs.mu.Unlock()
		for _, c := range some[:n] {
			if !f(c) {
				return
			}
		}
		if n < len(some) {
			return
		}
	}
}

// circuitOf finds the circuit of a request: in the common case by what its URL says as it stands, which is
// a circuit's key only if it is canonical. It returns nil if there is no room for one, and none is forced.
func (t *Transport) circuitOf(req *http.Request) *circuit {
	if t.keyOf == nil {
		scheme, host := req.URL.Scheme, req.URL.Host
		c := t.circuits.nearby(scheme, host).Load()
		if c != nil && c.key.Host == host && c.key.Scheme == scheme && c.key.Detail == "" {
			return c
		}
		if c = t.circuits.findHost(scheme, host); c != nil {
			return c
		}
	}
	return t.findOrMake(req)
}

func (t *Transport) findOrMake(req *http.Request) (c *circuit) {
	done := false
	defer func() {
		if !done { // a function of the user panicked
			closeBody(req)
		}
	}()
	keyOf := t.keyOf
	if keyOf == nil {
		keyOf = Upstream
	}
	key := keyOf(req)
	c = t.circuits.get(key)
	if forced := t.overrides.now.Load(); c == nil && forced != nil {
		key, _ = short(key)
		if forced.of(key.String()).State == policy.Open {
			c = t.passing(key)
		}
	}
	done = true
	return c
}

// passing makes a circuit for one call, where there is no room to keep it. Observers hear of refusals and of no state.
func (t *Transport) passing(k Key) *circuit {
	k, _ = short(k)
	c := t.newCircuit(k)
	c.Tell()
	return c
}

// newCircuit makes a circuit of which observers hear nothing before Tell.
func (t *Transport) newCircuit(k Key) *circuit {
	c := &circuit{t: t, key: k}
	by := t.policies.Load()
	own, config := t.settingsOf(by, k)
	c.by.Store(by)
	c.own.Store(own)
	t.classifyLatest(c)
	c.Init(config, c, c.newPeers)
	c.Hush()
	if t.overrides.now.Load() != nil {
		c.also().madeBy = t.applyOverride(c) // before anybody can find it
	}
	return c
}

// added catches up with what changed while a circuit was made, and gives it what is remembered of it. Policies, shadow
// and storage are functions of the user: if one of them panics, the rest is done all the same.
func (t *Transport) added(c *circuit) {
	defer c.Tell()
	defer func() {
		var by *overrideSet
		if s := c.some.Load(); s != nil {
			by = s.madeBy
		}
		if t.overrides.now.Load() != by {
			t.applyOverride(c)
		}
	}()
	defer t.seat.introduce(c)
	defer t.restore(c)
	defer t.shade(c)
	defer t.classifyLatest(c)
	t.configure(c)
}

// shade puts a new circuit into shadow if that is where it belongs, or if it cannot be told.
func (t *Transport) shade(c *circuit) {
	if t.shadow.Load() != nil {
		c.shadow.Store(true)
		t.shadeLatest(c)
	}
}
