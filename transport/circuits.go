package transport

import (
	"net/http"
	"slices"
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

// circuit is a statemachine.Circuit with its key.
type circuit struct {
	*statemachine.Circuit
	key     Key
	timed   bool // a rule looks at the time that a call took
	keyText atomic.Pointer[string]
}

// text returns the key as text, which is made when it is first asked for: most circuits are never in trouble.
func (c *circuit) text() string {
	if text := c.keyText.Load(); text != nil {
		return *text
	}
	text := c.key.String()
	c.keyText.Store(&text)
	return text
}

// circuits keeps at most max circuits. Finding one is a read of a map; the lock is for adding. What is forgotten to
// make room is found by a clock hand (Corbató's approximation of least recently used): first a closed circuit with
// nothing in view, then any closed one, and one in trouble only if nobody has asked for it for an hour.
type circuits struct {
	make  func(Key) *circuit
	added func(*circuit) // told of a new circuit, outside the lock
	max   int

	// Most keys are an upstream and nothing more, and are found by their host: a string is hashed in half the time
	// that a Key takes.
	http, https sync.Map                    // Key.Host -> *circuit
	near        [64]atomic.Pointer[circuit] // some of them; few services call more hosts
	others      sync.Map                    // Key -> *circuit

	mu   sync.Mutex
	ring []*circuit
	hand int
}

func (cs *circuits) find(k Key) *circuit {
	if k.Detail == "" {
		if c := cs.findHost(k.Scheme, k.Host); c != nil {
			return c
		}
	}
	c, _ := cs.others.Load(k)
	found, _ := c.(*circuit)
	return found
}

// findHost finds the circuit of a key without a Detail, if its scheme is http or https.
func (cs *circuits) findHost(scheme, host string) *circuit {
	near := cs.nearby(scheme, host)
	if c := near.Load(); c != nil && c.key.Host == host && c.key.Scheme == scheme {
		return c
	}
	var c any
	switch scheme {
	case "https":
		c, _ = cs.https.Load(host)
	case "http":
		c, _ = cs.http.Load(host)
	}
	found, _ := c.(*circuit)
	if found != nil && near.Load() == nil {
		near.CompareAndSwap(nil, found)
	}
	return found
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

// place returns the map that a key is in, and what it is called there.
func (cs *circuits) place(k Key) (in *sync.Map, name any) {
	switch {
	case k.Detail == "" && k.Scheme == "https":
		return &cs.https, k.Host
	case k.Detail == "" && k.Scheme == "http":
		return &cs.http, k.Host
	}
	return &cs.others, k
}

// get finds the circuit of a key or adds it. It returns nil if there is no room because all circuits are in trouble.
func (cs *circuits) get(k Key) *circuit {
	if c := cs.find(k); c != nil {
		return c
	}
	return cs.add(k)
}

// add is get with a search under the lock, where no circuit is found that is just being forgotten.
func (cs *circuits) add(k Key) *circuit {
	made := cs.make(k) // outside the lock: it asks functions of the user
	c, added := cs.insert(made)
	if added {
		cs.added(made)
	}
	return c
}

func (cs *circuits) insert(made *circuit) (c *circuit, added bool) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	in, name := cs.place(made.key)
	if c, ok := in.Load(name); ok { // not nearby, where one that was forgotten can show up again
		return c.(*circuit), false
	}
	if len(cs.ring) < cs.max {
		cs.ring = append(cs.ring, made)
	} else if at := cs.forgetOne(); at >= 0 {
		cs.ring[at] = made
	} else {
		return nil, false
	}
	in.Store(name, made)
	return made, true
}

func (cs *circuits) forgetOne() (freed int) {
	now := time.Now()
	for _, how := range []struct {
		evidence bool
		idle     time.Duration
	}{{}, {}, {evidence: true}, {evidence: true, idle: idleTrouble}} {
		for range min(mostSteps, len(cs.ring)) {
			at := cs.hand
			cs.hand = (cs.hand + 1) % len(cs.ring)
			if cs.ring[at].Forget(now, how.evidence, how.idle) {
				in, name := cs.place(cs.ring[at].key)
				in.Delete(name)
				cs.forgotten(cs.ring[at])
				return at
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

// circuitOf finds the circuit of a request: in the common case by what its URL says as it stands, which is
// a circuit's key only if it is canonical. It returns nil if there is no room for one.
func (t *Transport) circuitOf(req *http.Request) *circuit {
	if t.keyOf != nil {
		return t.circuits.get(t.keyOf(req))
	}
	if c := t.circuits.findHost(req.URL.Scheme, req.URL.Host); c != nil {
		return c
	}
	return t.circuits.get(Upstream(req))
}

func (t *Transport) newCircuit(k Key) *circuit {
	config := t.config
	if t.policyFor != nil {
		if p := t.policyFor(k); p != nil {
			config = t.newConfig(p)
		}
	}
	c := &circuit{key: k, timed: config.Rules.Trip.Timed()}
	var observer statemachine.Observer
	if t.observed {
		observer = told{t, c}
	}
	c.Circuit = statemachine.New(config, observer)
	return c
}

func (t *Transport) newConfig(p policy.Policy) *statemachine.Config {
	rules := p.Rules()
	if rules.Trip == nil || rules.Probe == nil || rules.Recover == nil {
		panic("fusebox/transport: a policy has a nil rule; write all three of Trip, Probe and Recover")
	}
	// Rules look at their parameters when they are used; better now than at the first trouble.
	rules.Trip.NewTrip()
	rules.Probe.NewProbe()
	rules.Recover.NewRecover()
	return &statemachine.Config{Rules: rules, Hold: rules.Hold.Validated(), Random: t.random}
}
