package transport

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/fusebox-go/fusebox/policy"
)

// saved is the format of SaveTo.
type saved[O savedOverride | json.RawMessage] struct {
	Version   int               `json:"version"`
	At        time.Time         `json:"at"`
	Circuits  []json.RawMessage `json:"circuits"`
	Overrides []O               `json:"overrides"`
}

type savedOverride struct {
	Pattern string        `json:"pattern"`
	State   *policy.State `json:"state"` // nil if it is missing
}

// savedCircuit has a key in parts, for whoever reads it.
type savedCircuit struct {
	Scheme    string       `json:"scheme"`
	Host      string       `json:"host"`
	Detail    string       `json:"detail,omitempty"`
	State     policy.State `json:"state"`
	Trouble   time.Time    `json:"trouble"`
	NextProbe time.Time    `json:"next_probe,omitzero"`
	Known     bool         `json:"known,omitempty"`

	Samples []savedSample `json:"samples,omitempty"` // the latest first
}

type savedSample struct {
	Cause savedCause `json:"cause"`
	Count uint64     `json:"count"`
	At    time.Time  `json:"at"`
	Trace string     `json:"trace,omitempty"`
}

// savedCause is a policy.Cause in parts, whose text cannot be taken apart again either.
type savedCause struct {
	Phase    string `json:"phase,omitempty"`
	Kind     string `json:"kind"`
	Deadline string `json:"deadline,omitempty"`
	Status   int    `json:"status,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func saveSamples(seen []policy.Sample) (saved []savedSample) {
	for _, s := range seen {
		c := s.Cause
		saved = append(saved, savedSample{savedCause{
			c.Phase.String(), c.Kind.String(), c.Deadline.String(), c.Status, c.Reason,
		}, s.Count, s.At, s.Trace})
	}
	return saved
}

// restoreSamples leaves the parts of a cause out that are not known here.
func restoreSamples(saved []savedSample, now time.Time) (seen []policy.Sample) {
	for _, s := range saved {
		cause := policy.Cause{
			Phase: named(s.Cause.Phase, policy.PhaseNone), Kind: named(s.Cause.Kind, policy.KindOther),
			Deadline: named(s.Cause.Deadline, policy.DeadlineNone), Status: s.Cause.Status,
			Reason: reasonOf(s.Cause.Reason),
		}
		seen = append(
			seen, policy.Sample{Cause: cause, Count: s.Count, At: believed(s.At, now), Trace: traceText(s.Trace)},
		)
	}
	return seen
}

// named returns the value whose text is name, and otherwise if there is none.
func named[T interface {
	~uint8
	String() string
}](name string, otherwise T) T {
	for v := T(0); v.String() != "invalid"; v++ {
		if v.String() == name {
			return v
		}
	}
	return otherwise
}

const (
	savedVersion = 1
	// mostSaved bounds what SaveTo writes and RestoreFrom reads, in bytes: some 40,000 circuits with all that a circuit
	// remembers.
	mostSaved = 64 << 20
)

// SaveTo writes the circuits in trouble, with samples of what failed, and what is forced by Force, as JSON, for the
// RestoreFrom of the process that comes after this one. Keys that are not UTF-8 are left out, and so is what is beyond
// 64 MiB.
func (t *Transport) SaveTo(w io.Writer) error {
	s := saved[json.RawMessage]{
		Version: savedVersion, At: time.Now(), Circuits: []json.RawMessage{}, Overrides: []json.RawMessage{},
	}
	room := mostSaved - 1<<10
	add := func(to *[]json.RawMessage, record any) {
		text, err := json.Marshal(record)
		// an error, of a time that JSON cannot hold, costs this record alone
		if room -= len(text) + 1; err == nil && room >= 0 {
			*to = append(*to, text)
		}
	}
	for _, o := range t.Overrides() {
		if !o.unsaved {
			add(&s.Overrides, savedOverride{o.Pattern, &o.State})
		}
	}
	all := t.Circuits()
	slices.SortStableFunc(all, func(a, b Snapshot) int { return knownFirst(a.Known, b.Known) })
	for _, c := range all {
		text := c.Key.Scheme + c.Key.Host + c.Key.Detail
		if c.State != policy.Closed && !c.Forced && !c.Part && utf8.ValidString(text) { // JSON has no other text
			add(&s.Circuits, savedCircuit{
				Scheme: c.Key.Scheme, Host: c.Key.Host, Detail: c.Key.Detail,
				State: c.State, Trouble: c.Trouble, NextProbe: c.NextProbe, Known: c.Known,
				Samples: saveSamples(c.Samples),
			})
		}
	}
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return fmt.Errorf("fusebox: save circuits: %w", err)
	}
	return nil
}

// knownFirst is the order in which there is room: what has never answered may be made up.
func knownFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// believed returns a time of the past that was read somewhere. One that is to come is taken for now, and one before all
// calendars is not known: they would break what is done with them, JSON above all.
func believed(at, now time.Time) time.Time {
	switch {
	case at.After(now):
		return now
	case at.Year() < 1:
		return time.Time{}
	}
	return at.Local() // no zone that nobody knows
}

// RestoreFrom takes up what SaveTo wrote: the circuits open that were open or half-open then, due for a probe when they
// were, and knowing what failed; and what was forced is forced again. Circuits that have changed their state here
// already stay as they are. What was saved more than maxAge ago is left out but for what is forced; 0 means 5 minutes.
// Of more circuits than WithMaxCircuits allows, the first are taken up. It returns how many circuits it opened.
//
// A circuit that cannot be read, as one in a state that only a newer version knows or of a time that there is not, is
// left out; all else is restored, and the error says how many they were. What is forced is forced altogether or not at
// all: if that is malformed or more than Force allows, or the whole is malformed or has more than 64 MiB, RestoreFrom
// returns an error and changes nothing.
func (t *Transport) RestoreFrom(r io.Reader, maxAge time.Duration) (opened int, err error) {
	var s saved[savedOverride]
	text, err := io.ReadAll(io.LimitReader(r, mostSaved+1))
	if err == nil && len(text) > mostSaved {
		err = fmt.Errorf("there are more than %d bytes", mostSaved)
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return 0, fmt.Errorf("fusebox: restore circuits: %w", err)
	}
	if s.Version != savedVersion {
		return 0, fmt.Errorf(
			"fusebox: restore circuits: version is %d, and only %d is known here", s.Version, savedVersion,
		)
	}
	var force []Override
	for _, o := range s.Overrides {
		if o.Pattern == "" || o.State == nil || *o.State == policy.HalfOpen {
			return 0, fmt.Errorf(
				"fusebox: restore circuits: what %q is forced to is malformed; it takes a pattern, and closed or open",
				o.Pattern,
			)
		}
		force = append(force, Override{Pattern: visiblePattern(o.Pattern), State: *o.State})
	}
	forced, err := t.overrides.add(force)
	if err != nil {
		return 0, fmt.Errorf("fusebox: restore circuits: %w", err)
	}
	t.override(forced...)
	if maxAge == 0 {
		maxAge = 5 * time.Minute
	}
	now := time.Now()
	if now.Sub(s.At) > maxAge {
		return 0, nil
	}
	var circuits []savedCircuit
	var bad error // the first
	for _, text := range s.Circuits {
		var c savedCircuit
		if err := json.Unmarshal(text, &c); err == nil {
			circuits = append(circuits, c)
		} else if bad == nil {
			bad = err
		}
	}
	room := t.circuits.max
	slices.SortStableFunc(circuits, func(a, b savedCircuit) int { return knownFirst(a.Known, b.Known) })
	for _, kept := range circuits {
		if kept.State == policy.Closed {
			continue
		}
		if room--; room < 0 {
			break
		}
		due := kept.NextProbe
		if due.IsZero() {
			due = now
		}
		c := t.circuits.get(Key{Scheme: kept.Scheme, Host: kept.Host, Detail: kept.Detail})
		if c == nil {
			continue
		}
		c.Recall(restoreSamples(kept.Samples, now)) // before, so that who is told that it opens is told why
		if c.Restore(now, due, believed(kept.Trouble, now), kept.Known) {
			opened++
		}
	}
	if bad != nil {
		return opened, fmt.Errorf(
			"fusebox: restore circuits: %d of %d cannot be read and are left out, the first by: %w",
			len(s.Circuits)-len(circuits), len(s.Circuits), bad,
		)
	}
	return opened, nil
}
