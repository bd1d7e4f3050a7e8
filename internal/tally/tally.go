// Package tally counts what a Transport tells its observers, key by key and in bounded memory, for the adapters that
// show it as metrics.
package tally

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	DefaultMaxKeys = 100       // for New
	OtherKey       = "other"   // the text of what keys without an entry of their own are called
	partsOf        = 8         // entries, of which one can be of a part of an upstream
	otherReason    = "other"   // what a classifier's reasons without a Series of their own are called
	mostReasons    = 8         // of classifiers that have one, for each entry
	quietFor       = time.Hour // how long nothing was told of an entry before it may give way
	// whose time in trouble is taken; those forgotten in trouble are only found out by a read
	mostTroubled = 1 << 16
)

// AskedFor is how long after the last request a circuit that is not closed is still taken for one in trouble. It is how
// long trouble lasts before alerts.yml tells of it: what nobody has met for that long is not worth an alert, and one
// request in five minutes is still traffic that meets it.
const AskedFor = 5 * time.Minute

// InTrouble reports whether a circuit is not closed since something has failed, and somebody asks for it.
func InTrouble(c *transport.Snapshot, now time.Time) bool {
	return c.State != policy.Closed && !c.Trouble.IsZero() && now.Sub(c.Asked) <= AskedFor
}

// Event is what a Tally counts.
type Event uint8

const (
	Transitions    Event = iota // by from, to and reason
	Refusals                    // by reason
	Failures                    // by class and, of what a classifier says, reason
	Probes                      // by outcome
	ShadowRefusals              // by reason
	ShadowCalls                 // by outcome, or as turnedAway
	Throttles                   // that began, by reason
	ThrottlesOver               // that ended, by reason
)

// turnedAway is what became of calls in shadow that were answered 429 and did not fail by it.
const turnedAway = "turned away"

// Series is one thing that is counted: an Event, and the values by which it is told apart.
type Series struct {
	Event   Event
	A, B, C string
}

// lifecycle is what every circuit in trouble goes through. These are there as zeros before they happen, since the rise
// of a Series from nothing to one is none to those who read it.
var lifecycle = []Series{
	{Transitions, "closed", "open", string(policy.ChangeTripped)}, // of circuits never in trouble this one alone
	{Transitions, "open", "half-open", string(policy.ChangeOpenTimePassed)},
	{Transitions, "open", "half-open", string(policy.ChangeProbeSucceeded)},
	{Transitions, "closed", "open", string(policy.ChangeTrippedByFleet)},
	{Transitions, "open", "half-open", string(policy.ChangeAnsweredInFleet)},
	{Transitions, "half-open", "open", string(policy.ChangeRecoveryFailed)},
	{Transitions, "half-open", "closed", string(policy.ChangeRecovered)},
}

// Tally counts what a Transport tells its observers. Circuits that are forgotten take nothing away from it. Its memory
// is bounded: at most that many keys have an entry of their own, and the rest share one. Half of the entries are for
// whoever comes first, and half for keys whose circuits open; if these are taken too, one of an upstream that has never
// answered gives way to one that has (transport.Snapshot.Known), and one that was not in trouble for an hour to one
// that is. An eighth at most is for parts of upstreams (transport.Snapshot.Part). Its methods can be called by many
// goroutines at once, but for Observe.
type Tally struct {
	t       *transport.Transport
	most    int
	started time.Time
	stop    func()

	mu       sync.Mutex
	entries  map[transport.Key]*entry
	other    *entry
	troubled *bounded.Map[transport.Key, trouble]
	shadows  map[transport.Key]transport.Shadow // as they were when they were last read
	changes  uint64
	reading  bool
	local    bool // the last that was told of local trouble is that there is some
	locals   uint64
}

// trouble is of a circuit that is not closed.
type trouble struct {
	entry *entry
	since time.Time // the time that is to be counted begins
	asked time.Time // the last request; before since if none has come
}

// spent is the time in trouble up to now.
func (t trouble) spent(now time.Time) time.Duration {
	if end := t.asked.Add(AskedFor); end.Before(now) {
		now = end
	}
	return max(0, now.Sub(t.since))
}

type entry struct {
	key     transport.Key
	text    string
	counts  map[Series]uint64
	reasons map[string]bool // of classifiers, that have a Series of their own; nil if there are none
	trouble int             // how many of its circuits are not closed
	spent   time.Duration   // in trouble, but for what is to be counted of those that are troubled
	shown   time.Duration   // what was last read of it
	last    time.Time       // of the latest news; zero if there was none
	known   bool            // an upstream of it has answered
	part    bool            // it is of a part of an upstream
}

// New returns a Tally of a Transport, in which at most that many keys have an entry of their own. It counts from
// Observe on.
func New(t *transport.Transport, most int) *Tally {
	return &Tally{
		t: t, most: most, started: time.Now(),
		entries:  make(map[transport.Key]*entry),
		other:    &entry{text: OtherKey, counts: make(map[Series]uint64)},
		troubled: bounded.New[transport.Key, trouble](mostTroubled), shadows: make(map[transport.Key]transport.Shadow),
	}
}

// Observe begins to count. No observer is added that costs a healthy call anything.
func (ta *Tally) Observe() {
	ta.stop = ta.t.Observe(transport.Observer{
		OnStateChange: ta.changed,
		OnRefusal:     ta.refused,
		OnThrottle:    ta.throttled,
		OnFailure: func(c transport.CallEnd) {
			ta.count(c, Series{Event: Failures, A: classOf(c.Cause), B: reasonOf(c.Cause)})
		},
		OnProbe: func(c transport.CallEnd) {
			ta.count(c, Series{Event: Probes, A: c.Outcome.String()})
		},
		OnLocalTrouble: ta.localTrouble,
	})
}

// Stop ends the counting. What was counted stays.
func (ta *Tally) Stop() { ta.stop() }

func (ta *Tally) changed(c transport.StateChange) {
	ta.mu.Lock()
	defer ta.mu.Unlock()
	ta.changes++
	e := ta.entry(c.Key, c.Known, c.Part, c.To != policy.Closed, c.At)
	e.counts[Series{Transitions, c.From.String(), c.To.String(), string(c.Reason)}]++
	if c.Trouble.IsZero() { // closed, or so by hand
		ta.troubleOver(c.Key, c.At)
		return
	}
	ta.inTrouble(c.Key, c.Known, e, c.At)
	if c.Reason == policy.ChangeTripped { // by a call, whose caller was there until now
		ta.askedFor(c.Key, c.At)
	}
}

func (ta *Tally) inTrouble(k transport.Key, known bool, e *entry, since time.Time) {
	if _, ok := ta.troubled.Get(k); ok {
		return
	}
	if ta.troubled.Len() >= mostTroubled && known {
		if t, ok := ta.troubled.DropUnknown(); ok {
			t.entry.trouble--
			t.entry.spent += t.spent(since)
		}
	}
	if ta.troubled.Put(k, trouble{entry: e, since: since}, known) {
		e.trouble++
	}
}

// askedFor takes notice of a request. The time in which nobody met the trouble is left out.
func (ta *Tally) askedFor(k transport.Key, at time.Time) {
	t, ok := ta.troubled.Get(k)
	if !ok || !at.After(t.asked) {
		return
	}
	if at.Sub(t.asked) > AskedFor && at.After(t.since) {
		t.entry.spent += t.spent(at)
		t.since = at
	}
	t.asked = at
	ta.troubled.Put(k, t, false)
}

func (ta *Tally) troubleOver(k transport.Key, at time.Time) {
	if was, ok := ta.troubled.Get(k); ok {
		ta.troubled.Delete(k)
		was.entry.trouble--
		was.entry.spent += was.spent(at)
	}
}

func (ta *Tally) refused(r transport.RefusalEvent) {
	of := Refusals
	if r.Shadow {
		of = ShadowRefusals
	}
	ta.mu.Lock()
	defer ta.mu.Unlock()
	ta.entry(r.Key, r.Known, r.Part, false, r.At).counts[Series{Event: of, A: r.Error.Reason.String()}]++
	ta.askedFor(r.Key, r.At)
}

func (ta *Tally) throttled(e transport.ThrottleEvent) {
	of := Throttles
	if e.Over {
		of = ThrottlesOver
	}
	ta.mu.Lock()
	defer ta.mu.Unlock()
	ta.entry(e.Key, e.Known, false, false, e.At).counts[Series{Event: of, A: string(e.Reason)}]++
}

func (ta *Tally) count(c transport.CallEnd, s Series) {
	now := time.Now()
	ta.mu.Lock()
	defer ta.mu.Unlock()
	e := ta.entry(c.Key, c.Known, c.Part, false, now)
	if s.Event == Failures {
		s.B = e.reason(s.B)
	}
	e.counts[s]++
	if s.Event == Probes {
		ta.askedFor(c.Key, now)
	}
}

func (ta *Tally) localTrouble(l transport.LocalTrouble) {
	if l.Cause != (policy.Cause{}) {
		return // its calls are counted as ignored
	}
	ta.mu.Lock()
	defer ta.mu.Unlock()
	ta.local = !l.Over
	if ta.local {
		ta.locals++
	}
}

// entry returns the entry for news of a key, and makes one if there is room.
func (ta *Tally) entry(k transport.Key, known, part, inTrouble bool, at time.Time) *entry {
	e := ta.entries[k]
	if e == nil {
		e = ta.make(k, known, part, inTrouble, at)
	}
	e.known = e.known || known
	if at.After(e.last) {
		e.last = at
	}
	return e
}

func (ta *Tally) make(k transport.Key, known, part, inTrouble bool, now time.Time) *entry {
	most := (ta.most + 1) / 2
	if inTrouble {
		most = ta.most
	}
	text := k.String()
	if part && !ta.roomForPart(now) {
		return ta.other
	}
	if text == OtherKey || len(ta.entries) >= most && !ta.makeRoom(known, inTrouble, most, now) {
		return ta.other
	}
	e := &entry{key: k, text: text, counts: make(map[Series]uint64), known: known, part: part}
	ta.entries[k] = e
	return e
}

// roomForPart reports whether one more part can have an entry of its own: an eighth of all are for them at most, since
// their names can be made up. One that was not in trouble for long enough gives way.
func (ta *Tally) roomForPart(now time.Time) bool {
	var quiet *entry
	parts := 0
	for _, e := range ta.entries {
		if !e.part {
			continue
		}
		parts++
		if e.trouble == 0 && now.Sub(e.last) >= quietFor && (quiet == nil || e.last.Before(quiet.last)) {
			quiet = e
		}
	}
	switch {
	case parts < max(1, ta.most/partsOf):
	case quiet != nil:
		ta.drop(quiet)
	default:
		return false
	}
	return true
}

// reason returns by what a classifier's reason is counted: the first few by themselves, since it may be made of what an
// upstream sends. Each key has its own few, so that one upstream takes up none of another.
func (e *entry) reason(text string) string {
	if text == "" || e.reasons[text] {
		return text
	}
	if len(e.reasons) >= mostReasons {
		return otherReason
	}
	if e.reasons == nil {
		e.reasons = make(map[string]bool)
	}
	e.reasons[text] = true
	return text
}

// makeRoom drops the entry of which nothing was heard the longest: for a known key, of those that are not known, unless
// so many are as may be; for one in trouble, of those that were not for long enough.
func (ta *Tally) makeRoom(known, inTrouble bool, most int, now time.Time) bool {
	var unknown, quiet *entry
	all := 0
	for _, e := range ta.entries {
		if e.known {
			all++
		} else if unknown == nil || e.last.Before(unknown.last) {
			unknown = e
		}
		if e.trouble == 0 && now.Sub(e.last) >= quietFor && (quiet == nil || e.last.Before(quiet.last)) {
			quiet = e
		}
	}
	switch {
	case known && unknown != nil && all < most:
		ta.drop(unknown)
	case inTrouble && quiet != nil:
		ta.drop(quiet)
	default:
		return false
	}
	return true
}

// drop takes an entry away. What is not over of it is that of others.
func (ta *Tally) drop(e *entry) {
	delete(ta.entries, e.key)
	if e.trouble == 0 {
		return
	}
	for k, t := range ta.troubled.All() {
		if t.entry == e {
			t.entry = ta.other
			ta.other.trouble++
			ta.troubled.Put(k, t, false)
		}
	}
}

// Row is what there is to say of one entry.
type Row struct {
	Key     transport.Key
	Text    string              // of the key
	Circuit *transport.Snapshot // nil if none is kept, and of the entry that keys share
	Counts  map[Series]uint64
	Trouble time.Duration // time spent in trouble
}

// Summary is what there is to say at one moment.
type Summary struct {
	At     time.Time
	Rows   []Row
	States [policy.HalfOpen + 1]int // how many circuits are in each
	Asked  [policy.HalfOpen + 1]int // of these, those that are InTrouble
	Forced [policy.HalfOpen + 1]int // how many overrides there are to each, whatever they match
	Local  bool                     // there is local trouble
	Locals uint64                   // how many times there was
}

// Read returns what there is to say now.
func (ta *Tally) Read() Summary {
	ta.mu.Lock()
	changes, alone := ta.changes, !ta.reading
	ta.reading = true
	ta.mu.Unlock()
	if alone {
		defer func() {
			ta.mu.Lock()
			ta.reading = false
			ta.mu.Unlock()
		}()
	}
	circuits := ta.t.Circuits() // outside the lock: it may have observers told
	overrides := ta.t.Overrides()
	now := time.Now()

	ta.mu.Lock()
	defer ta.mu.Unlock()
	if alone {
		ta.readShadows(circuits, now)
		if ta.changes == changes {
			ta.correct(circuits, now)
		}
	}
	s := Summary{At: now, Local: ta.local, Locals: ta.locals}
	for _, o := range overrides {
		s.Forced[o.State]++
	}
	byEntry := make(map[*entry]*transport.Snapshot)
	for i := range circuits {
		c := &circuits[i]
		s.States[c.State]++
		if InTrouble(c, now) {
			s.Asked[c.State]++
		}
		e := ta.entries[c.Key]
		if e == nil {
			e = ta.make(c.Key, c.Known, c.Part, c.State != policy.Closed, now)
		}
		e.known = e.known || c.Known
		if have := byEntry[e]; e != ta.other && (have == nil || have.State == policy.Closed) {
			byEntry[e] = c
		}
	}
	spent := make(map[*entry]time.Duration)
	for _, t := range ta.troubled.All() {
		spent[t.entry] += t.spent(now)
	}
	for _, e := range ta.entries {
		s.Rows = append(s.Rows, e.row(byEntry[e], spent[e]))
	}
	s.Rows = append(s.Rows, ta.other.row(nil, spent[ta.other]))
	return s
}

func (e *entry) row(c *transport.Snapshot, spent time.Duration) Row {
	e.shown = max(e.shown, e.spent+spent) // what happened before now may be told after
	r := Row{e.key, e.text, c, maps.Clone(e.counts), e.shown}
	if e.text == OtherKey {
		return r
	}
	zeros := lifecycle[:1]
	if len(e.counts) > 0 {
		zeros = lifecycle
	}
	for _, s := range zeros {
		r.Counts[s] += 0
	}
	return r
}

// correct brings the times of trouble in line with the circuits as they are: some were in trouble before anybody was
// told, and those forgotten in trouble tell nobody.
func (ta *Tally) correct(circuits []transport.Snapshot, now time.Time) {
	kept := make(map[transport.Key]bool, len(circuits))
	for _, c := range circuits {
		if c.Trouble.IsZero() {
			continue
		}
		kept[c.Key] = true
		since := c.Trouble
		if since.Before(ta.started) {
			since = ta.started
		}
		ta.inTrouble(c.Key, c.Known, ta.entry(c.Key, c.Known, c.Part, true, since), since)
		ta.askedFor(c.Key, c.Asked)
	}
	for k := range ta.troubled.All() {
		if !kept[k] {
			ta.troubleOver(k, now)
		}
	}
}

// readShadows counts what became of calls in shadow since the last time. Only the circuits know.
func (ta *Tally) readShadows(circuits []transport.Snapshot, at time.Time) {
	before := ta.shadows
	ta.shadows = make(map[transport.Key]transport.Shadow)
	for _, c := range circuits {
		if c.Shadow == nil {
			continue
		}
		now, last := *c.Shadow, before[c.Key]
		if now.Succeeded < last.Succeeded || now.Failed < last.Failed || now.TurnedAway < last.TurnedAway {
			last = transport.Shadow{} // it was reset, or made anew
		}
		ta.shadows[c.Key] = now
		if succeeded, failed := now.Succeeded-last.Succeeded, now.Failed-last.Failed; succeeded+failed > 0 {
			e := ta.entry(c.Key, c.Known, c.Part, false, at)
			e.counts[Series{Event: ShadowCalls, A: policy.Success.String()}] += succeeded
			e.counts[Series{Event: ShadowCalls, A: policy.Failure.String()}] += failed
		}
		if n := now.TurnedAway - last.TurnedAway; n > 0 {
			e := ta.entry(c.Key, c.Known, c.Part, false, at)
			e.counts[Series{Event: ShadowCalls, A: turnedAway}] += n
		}
	}
}

// classOf says what a failure is like, in a few words of which there are few: phase or kind.
func classOf(c policy.Cause) string {
	switch {
	case c.Phase == policy.PhaseBody:
		return "body"
	case c.Phase == policy.PhaseDNS, c.Kind == policy.KindNotFound:
		return "dns"
	case c.Phase == policy.PhaseTLS, c.Kind == policy.KindCertificate:
		return "tls"
	case c.Kind == policy.KindStatus && c.Status < 600:
		return "5xx"
	case c.Kind == policy.KindJudged:
		return "judged"
	}
	return c.Kind.String()
}

// reasonOf says why a classifier made a failure of a call: by its own words or, without any, by the status that it saw.
func reasonOf(c policy.Cause) string {
	if c.Reason == "" && c.Kind == policy.KindJudged && c.Status != 0 && c.Status != http.StatusOK {
		return "status " + strconv.Itoa(c.Status)
	}
	return c.Reason
}
