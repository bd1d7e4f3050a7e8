package dashboard

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/internal/tally"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// table is what the page shows, made anew when somebody looks. It is under Dashboard.mu.
type table struct {
	at    time.Time
	pause time.Duration // to the next time at the soonest
	rows  map[transport.Key]*row
	order []*row // as transport.Circuits has it
	last  uint32 // id
}

// row is a circuit in the table.
type row struct {
	id      uint32 // never used again
	text    string // of its key
	is      marks
	parts   [transitions + 1]members
	version uint64  // grows with each change of a part
	turned  uint64  // the version in which its state or what forced it was last another
	series  *series // nil if it has none
	seen    time.Time
}

// part is one of those in which a circuit is written, since those that change often are small.
type part uint8

const (
	facts part = iota
	asked      // what a refusal changes
	samples
	transitions
)

// members are those of a JSON object, without its braces, and the version of the row since which they are so.
type members struct {
	text  []byte
	since uint64
}

// circuitFacts are a transport.Snapshot without what is in other parts.
type circuitFacts struct {
	transport.Snapshot
	RefusedBecause policy.RefusalReason `json:"refused_because,omitzero"` // of the last refusal

	Asked         *struct{} `json:"asked,omitempty"`
	Refusals      *struct{} `json:"refusals,omitempty"`
	ProbeRequests *struct{} `json:"probe_requests,omitempty"`
	Throttle      *struct{} `json:"throttle,omitempty"`
	Shadow        *struct{} `json:"shadow,omitempty"`
	Samples       *struct{} `json:"samples,omitempty"`
}

type circuitAsked struct {
	Asked         *time.Time        `json:"asked"`
	Refusals      uint64            `json:"refusals"`
	ProbeRequests int               `json:"probe_requests"`
	Throttle      *policy.Throttled `json:"throttle"`
	Shadow        *transport.Shadow `json:"shadow"`
}

type circuitSamples struct {
	Samples []policy.Sample `json:"samples"`
}

type circuitTransitions struct {
	Transitions []transition `json:"transitions"` // the last first
}

// marks tell whether the parts of a circuit are still as they were, without the cost of writing them as JSON.
type marks struct {
	facts   factsMark
	asked   askedMark
	samples samplesMark
	changes uint64
}

type factsMark struct {
	generation, failed, ignored, late, probes, trips     uint64
	failures, successes, evidence, trip, inFlight, limit int
	nextProbe, probeLatest, safeUntil                    time.Time
	forced                                               bool
	forcedBy, policy, own                                string
	reason                                               policy.RefusalReason
}

type askedMark struct {
	at       time.Time
	refusals uint64
	requests int
	throttle policy.Throttled // zero if there is none
	shadowed bool
	shadow   transport.Shadow
}

type samplesMark struct {
	n    int
	last policy.Sample
}

// numbers are a bar: slot, good, failed, refused.
type numbers [4]uint32

// rowMessage is a row as it is sent: with those parts of the circuit and those bars that have changed.
type rowMessage struct {
	ID      uint32          `json:"id"`
	Circuit json.RawMessage `json:"circuit,omitempty"` // the parts that have changed
	Bars    []numbers       `json:"bars,omitempty"`
}

// head is what is sent beside the rows.
type head struct {
	BarSeconds int `json:"bar_seconds"`
	Bars       int `json:"bars"`
	// after a request in which a circuit in trouble is one that is asked for
	Asked     int                  `json:"asked_seconds"`
	GoodCalls bool                 `json:"good_calls"` // they are counted
	Actions   bool                 `json:"actions"`    // the one who asks may act
	Overrides []transport.Override `json:"overrides"`
	Recent    []Action             `json:"recent_actions"` // the last first
	Local     *localTrouble        `json:"local_trouble,omitempty"`
	More      int                  `json:"more_overrides,omitempty"` // that are not listed
}

type localTrouble struct {
	At      time.Time `json:"at"`
	Since   time.Time `json:"since"`
	Tripped int       `json:"tripped"`
	Well    int       `json:"well"`
}

const mostOverrides = 200

// refresh brings the table up to date if it is not.
func (d *Dashboard) refresh() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if now.Sub(d.table.at) < d.table.pause {
		return
	}
	slot := slotOf(now)
	t := &d.table
	if t.rows == nil {
		t.rows = make(map[transport.Key]*row)
	}
	t.order = t.order[:0]
	for _, c := range d.t.Circuits() {
		r := t.rows[c.Key]
		if r == nil {
			t.last++
			r = &row{id: t.last, text: c.Key.String()}
			t.rows[c.Key] = r
		}
		r.seen = now
		r.update(c, &d.store)
		t.order = append(t.order, r)
	}
	kept := make(map[transport.Key]bool, len(t.order))
	for k, r := range t.rows {
		if r.seen != now {
			delete(t.rows, k)
			continue
		}
		kept[k] = true
	}
	d.store.sweep(kept, slot)
	t.at = time.Now()
	t.pause = max(900*time.Millisecond, 10*t.at.Sub(now)) // a ticker of a second may be a little early
}

func (r *row) update(c transport.Snapshot, s *store) {
	if found, ok := s.all.Load(c.Key); ok {
		r.series = found.(*series)
	}
	is := marks{
		facts: factsMark{
			generation: c.Generation, failed: c.FailedCalls, ignored: c.IgnoredCalls, late: c.LateCalls,
			probes: c.Probes,
			trips:  c.Trips, failures: c.Failures, successes: c.Successes, evidence: c.Evidence, trip: c.Trip,
			inFlight: c.InFlight,
			limit:    c.Limit, nextProbe: c.NextProbe, probeLatest: c.ProbeLatest, safeUntil: c.SafeProbeUntil,
			forced: c.Forced, forcedBy: c.ForcedBy, policy: c.Policy, own: strings.Join(c.Own, " "),
		},
		asked:   askedMark{at: c.Asked, refusals: c.Refusals, requests: c.ProbeRequests},
		samples: samplesMark{n: len(c.Samples)},
	}
	if c.Throttle != nil {
		is.asked.throttle = *c.Throttle
	}
	if c.Shadow != nil {
		is.asked.shadowed, is.asked.shadow = true, *c.Shadow
	}
	if len(c.Samples) > 0 {
		is.samples.last = c.Samples[0]
	}
	changes := []transition{}
	if r.series != nil {
		is.facts.reason = policy.RefusalReason(r.series.reason.Load())
		r.series.mu.Lock()
		is.changes = r.series.changes
		if r.version == 0 || is.changes != r.is.changes {
			changes = append(changes, r.series.transitions...)
		}
		r.series.mu.Unlock()
	}
	was, isNew := r.is, r.version == 0
	if !isNew && is == was {
		return
	}
	r.version++
	r.is = is
	if isNew || is.facts != was.facts {
		r.write(facts, circuitFacts{Snapshot: c, RefusedBecause: is.facts.reason})
	}
	if isNew || is.asked != was.asked {
		r.write(asked, circuitAsked{orNil(c.Asked), c.Refusals, c.ProbeRequests, c.Throttle, c.Shadow})
	}
	if isNew || is.samples != was.samples {
		r.write(samples, circuitSamples{append([]policy.Sample{}, c.Samples...)})
	}
	if isNew || is.changes != was.changes {
		slices.Reverse(changes)
		r.write(transitions, circuitTransitions{changes})
	}
	if isNew || is.facts.generation != was.facts.generation || is.facts.forcedBy != was.facts.forcedBy {
		r.turned = r.version
	}
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (r *row) write(p part, content any) {
	text, err := json.Marshal(content)
	if err != nil {
		return // a time beyond the year 9999: the part stays as it was
	}
	r.parts[p] = members{text[1 : len(text)-1], r.version}
}

// changed returns those parts of the circuit as JSON that are others than in a version, or nil if there are none.
func (r *row) changed(since uint64) json.RawMessage {
	var circuit []byte
	for _, p := range r.parts {
		if p.since > since {
			circuit = append(append(circuit, ','), p.text...)
		}
	}
	if circuit == nil {
		return nil
	}
	circuit[0] = '{'
	return append(circuit, '}')
}

// barsSince returns the bars from a slot on that have something in them.
func (r *row) barsSince(from, now uint32) (bars []numbers) {
	if r.series == nil {
		return nil
	}
	if oldest := now - mostBars + 1; from < oldest {
		from = oldest
	}
	for slot := from; slot <= now; slot++ {
		b := &r.series.bars[slot%mostBars]
		n := numbers{slot, b.good.Load(), b.failed.Load(), b.refused.Load()}
		if b.slot.Load() == slot && n[1]+n[2]+n[3] > 0 {
			bars = append(bars, n)
		}
	}
	return bars
}

func (d *Dashboard) head(r *http.Request) head {
	h := head{
		BarSeconds: int(barFor / time.Second), Bars: mostBars, Asked: int(
			tally.AskedFor / time.Second,
		), GoodCalls: !d.opts.noGoodCalls,
		Actions: d.opts.allow != nil && d.opts.allow(r), Overrides: d.t.Overrides(), Recent: []Action{},
	}
	if h.Overrides == nil {
		h.Overrides = []transport.Override{}
	}
	if n := len(h.Overrides) - mostOverrides; n > 0 {
		h.Overrides, h.More = h.Overrides[n:], n
	}
	if l := d.local.Load(); l != nil {
		h.Local = &localTrouble{At: l.At, Since: l.Since, Tripped: l.Tripped, Well: l.Well}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	h.Recent = append(h.Recent, d.actions...)
	slices.Reverse(h.Recent)
	return h
}
