package transport

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// A part of an upstream that fails while the rest is well is cut out (policy.Contrast): it has a circuit of its own,
// whose Detail is its name, until that is closed. The circuit of the upstream knows suspects, and that one is cut out;
// here are the circuits.

// parts are the circuits of all parts that are cut out.
type parts struct {
	mu  sync.Mutex
	all []*circuit
}

// cutPart is one of them, as the circuit of its upstream has it.
type cutPart struct {
	number  uint64
	circuit *circuit
}

// fewestParts can be cut out of all upstreams together, however few circuits there may be.
const fewestParts = 16

// mostParts is how many can be: each weighs as much as a circuit.
func (t *Transport) mostParts() int { return max(fewestParts, t.circuits.max/16) }

// all returns the circuits of upstreams, and those of parts.
func (t *Transport) all() []*circuit {
	all := t.circuits.all()
	t.parts.mu.Lock()
	defer t.parts.mu.Unlock()
	return append(all, t.parts.all...)
}

// find returns the circuit of a key, if there is one.
func (t *Transport) find(k Key) *circuit {
	if c := t.circuits.find(k); c != nil || k.Detail == "" || t.keyOf != nil {
		return c
	}
	if k, ok := short(k); ok {
		t.parts.mu.Lock()
		defer t.parts.mu.Unlock()
		if at := slices.IndexFunc(t.parts.all, func(p *circuit) bool { return p.key == k }); at >= 0 {
			return t.parts.all[at]
		}
	}
	return nil
}

// whose returns the circuit of the upstream of a part, and otherwise the circuit itself: what a user says by key.
func (c *circuit) whose() *circuit {
	if s := c.some.Load(); s != nil && s.of != nil {
		return s.of
	}
	return c
}

// isPart reports whether the circuit is of a part that is cut out of its upstream.
func (c *circuit) isPart() bool { return c.whose() != c }

// cutParts returns what is cut out of an upstream. It is not to be changed.
func (c *circuit) cutParts() []cutPart {
	if s := c.some.Load(); s != nil {
		if cut := s.cut.Load(); cut != nil {
			return *cut
		}
	}
	return nil
}

// part is the permit of a call that is for a part that is cut out.
type part struct {
	*circuit
	permit statemachine.Permit
}

// headers and bytes are those of the permit, if there is one.
func (p *part) headers(now time.Time) {
	if p != nil {
		p.permit.Headers(now, 0)
	}
}

func (p *part) bytes(now time.Time) (again time.Duration) {
	if p == nil {
		return 0
	}
	return p.permit.Bytes(now)
}

// soonest is the lesser of two times of which 0 is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// probing reports whether the call decides about an open or half-open circuit, and whose that circuit of, or otherwise
// that of the upstream.
func (k *call) probing() bool {
	return k.permit.Probing() || k.part != nil && k.part.permit.Probing()
}

func (k *call) whose() *circuit {
	if k.part != nil && k.part.permit.Probing() {
		return k.part.circuit
	}
	return k.c
}

// number is that of the part of its upstream that the call is for; 0 if no parts are told apart.
func (k *call) number() uint64 {
	if k.check != nil || k.c.Config().Part == nil {
		return 0
	}
	return partNumber(k.req)
}

// cutOut returns the circuit of the part that a request is for; nil if that is not cut out.
func (c *circuit) cutOut(req *http.Request) *circuit {
	cut := c.cutParts()
	if cut == nil || !c.Parted() {
		return nil
	}
	number := partNumber(req)
	for _, p := range cut {
		if p.number == number {
			return p.circuit
		}
	}
	return nil
}

// enterPart asks the circuit of the part that the call is for, if that is cut out. One that is forgotten has no say.
func (k *call) enterPart() (refusal statemachine.Refusal) {
	of := k.c.cutOut(k.req)
	if of == nil || k.check != nil {
		return statemachine.Refusal{}
	}
	good := statemachine.ToProbe
	if k.t.safeProbes && !canBeLost(k.req) {
		good = statemachine.LastResort
	}
	permit, refusal := of.Acquire(time.Now(), time.Time{}, good) // nobody holds its calls, whatever their deadlines
	switch {
	case refusal.Gone:
		return statemachine.Refusal{}
	case refusal.Reason != policy.NotRefused:
		k.c = of
	default:
		k.part = &part{of, permit}
	}
	return refusal
}

// leavePart gives the permit of the part back of a call that is not made.
func (k *call) leavePart() {
	k.part.permit.Return(time.Now())
	k.part = nil
}

// cut makes the circuit of the part that a call is for, if its failure has just cut it out, and returns it.
func (t *Transport) cut(of *circuit, req *http.Request, r policy.Result, now time.Time) *circuit {
	if r.Part == 0 || !of.Parted() {
		return nil
	}
	why, ok := of.TakeCut(r.Part)
	if !ok {
		return nil
	}
	p := t.newPart(of, partName(req))
	p.TripPart(now, r, why)
	if p.Snapshot(now).State == policy.Closed || !t.parts.add(t, p, r.Part, now) { // forced, or there is no room
		of.Mended(r.Part)
		return nil
	}
	t.settlePart(p)
	p.Tell()
	return p
}

// newPart makes the circuit of a part, of which observers hear nothing before Tell.
func (t *Transport) newPart(of *circuit, name string) *circuit {
	k, _ := short(Key{Scheme: of.key.Scheme, Host: of.key.Host, Detail: name})
	p := &circuit{t: t, key: k, kept: true}
	p.also().of = of // before anybody can find it
	p.by.Store(of.by.Load())
	p.own.Store(of.own.Load())
	t.classifyLatest(p)
	p.shadow.Store(of.shadow.Load())
	config := of.Config()
	if config.Part == nil { // since a moment ago, and the part is about to go
		config = partConfig(config)
	} else {
		config = config.Part
	}
	p.Init(config, p, nil)
	p.Hush()
	t.applyOverride(p)
	return p
}

// partConfig is what the circuits of parts go by where those of upstreams go by config: the same rules of probes and
// recoveries, and no limits, since those are of all calls to the upstream together.
func partConfig(config *statemachine.Config) *statemachine.Config {
	rules := config.Rules
	rules = policy.Rules{
		Trip: statemachine.ByContrast{}, Probe: rules.Probe, Recover: rules.Recover, SafeWait: rules.SafeWait,
	}
	return &statemachine.Config{Rules: rules.Validated(), Random: config.Random, Measured: true}
}

// settlePart catches up with what changed while the circuit of a part was made.
func (t *Transport) settlePart(p *circuit) {
	t.applyOverride(p)
	t.configurePart(p)
	p.shadow.Store(p.whose().shadow.Load())
}

// configurePart makes the circuit of a part go by what that of its upstream goes by now.
func (t *Transport) configurePart(p *circuit) {
	of := p.whose()
	p.own.Store(of.own.Load())
	p.by.Store(of.by.Load())
	t.classifyLatest(p)
	if config := of.Config().Part; config != nil {
		p.Configure(config, time.Now())
	} else {
		t.parts.drop(p)
	}
}

// add reports whether there is room. At the bound, parts make room that nobody has asked for for an hour.
func (ps *parts) add(t *Transport, p *circuit, number uint64, now time.Time) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if len(ps.all) >= t.mostParts() {
		if ps.dropIdle(now); len(ps.all) >= t.mostParts() {
			return false
		}
	}
	ps.all = append(ps.all, p)
	of := p.whose()
	cut := append(slices.Clone(of.cutParts()), cutPart{number, p})
	of.also().cut.Store(&cut)
	return true
}

// drop takes out the circuit of a part, which is not cut out any more.
func (ps *parts) drop(p *circuit) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if at := slices.Index(ps.all, p); at >= 0 {
		ps.remove(at)
	}
}

func (ps *parts) remove(at int) {
	p := ps.all[at]
	ps.all = slices.Delete(ps.all, at, at+1)
	of := p.whose()
	cut := slices.Clone(of.cutParts())
	mine := slices.IndexFunc(cut, func(c cutPart) bool { return c.circuit == p })
	number := cut[mine].number
	if cut = slices.Delete(cut, mine, mine+1); len(cut) > 0 {
		of.also().cut.Store(&cut)
	} else {
		of.also().cut.Store(nil)
	}
	of.Mended(number)
}

// forgetIdle forgets those that nobody has asked for for an hour.
func (ps *parts) forgetIdle(now time.Time) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.dropIdle(now)
}

// dropIdle is called under mu.
func (ps *parts) dropIdle(now time.Time) {
	for range 2 { // the second time, those that were used before the first one can be spared too
		for at := len(ps.all) - 1; at >= 0; at-- {
			if ps.all[at].Forget(now, statemachine.Idle, idleTrouble) {
				ps.remove(at)
			}
		}
	}
}

// parts returns the circuits of the parts of an upstream.
func (c *circuit) parts() (circuits []*circuit) {
	for _, p := range c.cutParts() {
		circuits = append(circuits, p.circuit)
	}
	return circuits
}

// mended takes notice that the circuit of a part has changed, since closed it is not cut out any more.
func (t *Transport) mended(p *circuit, change statemachine.Change) {
	if change.To == policy.Closed {
		t.parts.drop(p)
	}
}
