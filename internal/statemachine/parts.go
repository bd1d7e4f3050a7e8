package statemachine

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// What fails while the rest of an upstream is well is a matter of a part of it (policy.Contrast). The machine knows
// suspects and what is cut out by numbers (policy.Result.Part), and has no circuit for them: the user of the Circuit
// makes one for each part that is cut out (TakeCut), which is open at first (TripPart) and has the last say over the
// part's calls until it is closed (Mended).

// parts are what is known of those in trouble.
type parts struct {
	suspects *policy.Suspects // nil while there are none
	cut      []cutPart
}

type cutPart struct {
	part  uint64
	why   string
	taken bool // by TakeCut
}

// outside reports whether a result is no matter of the whole upstream, since its part is cut out, which this very
// result may have done.
func (m *machine) outside(r policy.Result) bool {
	p, rule := m.parts, m.config.Rules.Parts
	switch {
	case m.config.Part == nil:
		return false
	case r.Outcome == policy.Success && p == nil:
		return false
	case r.Outcome == policy.Failure && p.has(r.Part):
		return true
	case p == nil || p.suspects == nil:
		if !m.known || !rule.Blames(r) {
			return false
		}
		if p == nil {
			m.remember()
			p = new(parts)
			m.parts = p
		}
		p.suspects = rule.NewSuspects()
	}
	cut := p.suspects.Record(r, m.config.Random) && len(p.cut) < rule.Parts
	if cut {
		p.cut = append(p.cut, cutPart{part: r.Part, why: p.suspects.Explain()})
	}
	m.forgetParts()
	return cut
}

// has reports whether a part is cut out.
func (p *parts) has(part uint64) bool { return p.find(part) >= 0 }

func (p *parts) find(part uint64) int {
	if p == nil || part == 0 {
		return -1
	}
	return slices.IndexFunc(p.cut, func(c cutPart) bool { return c.part == part })
}

// forgetParts lets go of what is not needed any more.
func (m *machine) forgetParts() {
	p := m.parts
	if p == nil {
		return
	}
	if p.suspects != nil && p.suspects.Quiet() {
		p.suspects = nil
	}
	if p.suspects == nil && len(p.cut) == 0 {
		m.parts = nil
	}
}

// suspectNone forgets suspects, if there are parts at all: what is known of them is of another state or rule.
func (m *machine) suspectNone() {
	m.parts.suspects = nil
	m.forgetParts()
}

// Parted reports whether parts of the upstream are in trouble, or suspected to be, and the circuit is not forced. It
// takes no lock.
func (c *Circuit) Parted() bool { return c.word.Load()&partsBit != 0 }

// TakeCut reports, once, that a part has been cut out, and why.
func (c *Circuit) TakeCut(part uint64) (why string, ok bool) {
	c.lock()
	defer c.quietly()
	p := c.machine.parts
	at := p.find(part)
	if at < 0 || p.cut[at].taken {
		return "", false
	}
	p.cut[at].taken = true
	return p.cut[at].why, true
}

// Mended says that a part is not cut out any more.
func (c *Circuit) Mended(part uint64) {
	c.lock()
	defer c.quietly()
	m := &c.machine
	if at := m.parts.find(part); at >= 0 {
		m.parts.cut = slices.Delete(m.parts.cut, at, at+1)
		m.forgetParts()
	}
}

// TripPart opens a new circuit, which is that of a part: the circuit of the whole has tripped it by a result.
func (c *Circuit) TripPart(now time.Time, r policy.Result, why string) {
	c.lock()
	defer c.unlock()
	m := &c.machine
	m.known = true
	if m.forced || m.generation > 0 {
		return
	}
	m.remember()
	m.failed(now, r)
	m.trip = &byContrast{why: why}
	m.change(policy.Open, now, policy.ChangeTripped, r)
}

// ByContrast is the trip rule of the circuit of a part, which the circuit of the whole trips.
type ByContrast struct{}

// NewTrip makes the memory of a circuit.
func (ByContrast) NewTrip() policy.Trip { return &byContrast{} }

type byContrast struct{ why string }

func (*byContrast) Start(time.Time, int)                 {}
func (*byContrast) Record(time.Time, policy.Result) bool { return false }
func (*byContrast) Quiet() bool                          { return true }
func (*byContrast) Counts() (int, int)                   { return 0, 0 }
func (b *byContrast) Explain() string                    { return b.why }
