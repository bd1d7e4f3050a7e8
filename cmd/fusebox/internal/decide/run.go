package decide

import (
	"math/rand/v2"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// Totals is what a policy did.
type Totals struct {
	Opened  int64         // circuits tripped that often
	Refused int64         // calls
	Price   int64         // of them had succeeded
	Gain    int64         // of them had failed
	Spared  time.Duration // in those
}

func (t *Totals) refuse(call *record.Call) {
	t.Refused++
	if call.Refused() {
		return
	}
	switch call.Outcome() {
	case policy.Success:
		t.Price++
	case policy.Failure:
		t.Gain++
		t.Spared += max(0, call.Took())
	}
}

func (t *Totals) add(o Totals) {
	t.Opened += o.Opened
	t.Refused += o.Refused
	t.Price += o.Price
	t.Gain += o.Gain
	t.Spared += o.Spared
}

func (t *Totals) sub(o Totals) {
	t.add(Totals{-o.Opened, -o.Refused, -o.Price, -o.Gain, -o.Spared})
}

// Span is the time from a trip until the circuit is closed again.
type Span struct {
	Key            uint32
	Client         int
	Opened, Closed int64 // in nanoseconds since 1970; Closed is 0 if it is not before the records end
	Calls          int64 // of the key, that had begun when it opened
	Cause          policy.Cause
	Why            string
}

// mostSpans are kept of a policy.
const mostSpans = 10000

// run is the run of one policy over all calls.
type run struct {
	Policy
	Totals
	spans    []Span
	left     int // spans beyond mostSpans
	openFor  time.Duration
	keys     []Totals // by key, as far as any was refused; nil if it is brief
	lanes    []*Lane  // of the strips of truth, the first of all keys; nil where there is none
	axis     Axis
	circuits circuits
	clients  int
	stripOf  []int16                // of truth
	configs  []*statemachine.Config // the first run's, and one for each further seed if chance has a say
	// what was done while there were forks, by the first run and by each fork
	forked Totals
	forks  []Totals
}

func newRun(p Policy, o *Options) *run {
	rules := p.Policy.Rules().Validated()
	r := &run{Policy: p, clients: max(1, o.Clients)}
	if r.circuits.most = defaultCircuits; p.Brief {
		r.circuits.most = briefCircuits
	}
	seeds := 1
	if !p.Brief && jitters(rules) {
		seeds = max(1, o.Seeds)
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(uint64(seed), 0x5eed))
		r.configs = append(r.configs, &statemachine.Config{Rules: rules, Random: random.Float64, Measured: true})
	}
	r.forks = make([]Totals, seeds)
	r.lanes = []*Lane{new(Lane)}
	return r
}

// jitters reports whether chance has a say.
func jitters(rules policy.Rules) bool {
	if open, ok := rules.Probe.(policy.OpenTime); ok {
		return open.JitterPercent > 0
	}
	return true
}

// call plays a call.
func (r *run) call(call *record.Call, known fact) {
	client := 0
	if r.clients > 1 {
		client = int(call.Client) % r.clients
	}
	c := r.circuits.of(r, call.Key, client, r.clients, call.Start)
	if c != nil {
		c.advance(call.Start)
	}
	if c == nil {
		return
	}
	c.number = known.number
	forked := len(c.forks) > 0
	if !c.ask(call, known.deadline) {
		r.Totals.refuse(call)
		if forked {
			r.forked.refuse(call)
		}
		r.show(call)
	}
	if !forked {
		return
	}
	rest := c.AtRest()
	for _, f := range c.forks {
		f.advance(call.Start)
		if !f.ask(call, known.deadline) {
			r.forks[f.seed].refuse(call)
		}
		rest = rest && f.AtRest()
	}
	if rest {
		c.forks = nil
	}
}

// show has a refused call shown where somebody wants to see it.
func (r *run) show(call *record.Call) {
	if !r.Brief {
		for int(call.Key) >= len(r.keys) {
			r.keys = append(r.keys, Totals{})
		}
		r.keys[call.Key].refuse(call)
	}
	column := r.column(call.Start)
	r.lanes[0].refuse(column, call)
	if lane := r.laneOf(call.Key); lane != nil {
		lane.refuse(column, call)
	}
}

func (r *run) column(now int64) int {
	column, joins := r.axis.at(now)
	for range joins {
		for _, lane := range r.lanes {
			if lane != nil {
				lane.join()
			}
		}
	}
	return column
}

// laneOf is the lane of a key's strip; nil if it has none.
func (r *run) laneOf(key uint32) *Lane {
	if int(key) >= len(r.stripOf) || r.stripOf[key] == 0 {
		return nil
	}
	at := int(r.stripOf[key])
	for at >= len(r.lanes) {
		r.lanes = append(r.lanes, nil)
	}
	if r.lanes[at] == nil {
		r.lanes[at] = new(Lane)
	}
	return r.lanes[at]
}

// changed takes notice of a circuit's change of state.
func (r *run) changed(c *circuit, change *statemachine.Change, now int64) {
	trips := change.From == policy.Closed && change.To == policy.Open
	if c.seed > 0 {
		if trips {
			r.forks[c.seed].Opened++
		}
		return
	}
	r.mark(c, now)
	switch {
	case trips:
		r.Opened++
		if len(c.forks) > 0 {
			r.forked.Opened++
		}
		if len(r.spans) >= mostSpans {
			r.left++
			break
		}
		c.span = len(r.spans)
		r.spans = append(r.spans, Span{
			Key: c.key, Client: c.client, Opened: now, Calls: c.number, Cause: change.Cause, Why: change.Why,
		})
	case change.To == policy.Closed && c.span >= 0:
		span := &r.spans[c.span]
		span.Closed, c.span = now, -1
	}
}

// mark has the state shown in which a circuit was until now.
func (r *run) mark(c *circuit, now int64) {
	bit := stateBit(c.state)
	if bit == 0 {
		return
	}
	r.openFor += time.Duration(now - c.since)
	to := r.column(now)
	from := int((max(c.since, r.axis.From) - r.axis.From) / r.axis.Width)
	for _, lane := range []*Lane{r.lanes[0], r.laneOf(c.key)} {
		for column := from; lane != nil && column <= to; column++ {
			lane.States[column] |= bit
		}
	}
}

// tripped has a circuit that has just tripped go on with other chance, too.
func (r *run) tripped(c *circuit, now time.Time, result policy.Result) {
	if c.seed > 0 || len(c.forks) > 0 {
		return
	}
	for seed, config := range r.configs[1:] {
		f := &circuit{run: r, key: c.key, client: c.client, seed: seed + 1, span: -1}
		f.Circuit = c.Fork(now, result, config, f)
		f.sync()
		c.forks = append(c.forks, f)
	}
}

// gone takes notice of a circuit that is forgotten.
func (r *run) gone(c *circuit, now int64) {
	r.mark(c, now)
	if c.span >= 0 {
		r.spans[c.span].Closed = now
	}
}

// finish lets all calls come back that are out.
func (r *run) finish(last int64) {
	for _, c := range r.circuits.ring {
		c.advance(last)
		for _, f := range c.forks {
			f.advance(last)
		}
		r.mark(c, last)
	}
	r.column(last)
}

// seed is what the run of a seed did.
func (r *run) seed(seed int) Totals {
	t := r.Totals
	if seed > 0 {
		t.sub(r.forked)
		t.add(r.forks[seed])
	}
	return t
}
