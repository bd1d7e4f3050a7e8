package transport

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/fusebox-go/fusebox/policy"
)

// saved is the format of Save.
type saved struct {
	Version   int             `json:"version"`
	At        time.Time       `json:"at"`
	Circuits  []savedCircuit  `json:"circuits"`
	Overrides []savedOverride `json:"overrides"`
}

type savedOverride struct {
	Pattern string        `json:"pattern"`
	State   *policy.State `json:"state"` // nil if it is missing
}

// savedCircuit has a key in parts: its text cannot be taken apart again.
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
		saved = append(saved, savedSample{savedCause{c.Phase.String(), c.Kind.String(), c.Deadline.String(), c.Status, c.Reason}, s.Count, s.At, s.Trace})
	}
	return saved
}

// restoreSamples leaves the parts of a cause out that are not known here.
func restoreSamples(saved []savedSample) (seen []policy.Sample) {
	for _, s := range saved {
		cause := policy.Cause{
			Phase: named(s.Cause.Phase, policy.NoPhase), Kind: named(s.Cause.Kind, policy.Other),
			Deadline: named(s.Cause.Deadline, policy.NoDeadline), Status: s.Cause.Status,
			Reason: reasonOf(s.Cause.Reason),
		}
		seen = append(seen, policy.Sample{Cause: cause, Count: s.Count, At: s.At, Trace: traceText(s.Trace)})
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

const savedVersion = 1

// Save writes the circuits in trouble, with samples of what failed, and what is forced by Force, as JSON, for the Restore of the
// process that comes after this one. Keys that are not UTF-8 are left out.
func (t *Transport) Save(w io.Writer) error {
	s := saved{Version: savedVersion, At: time.Now(), Circuits: []savedCircuit{}, Overrides: []savedOverride{}}
	for _, o := range t.Overrides() {
		if !o.unsaved {
			s.Overrides = append(s.Overrides, savedOverride{o.Pattern, &o.State})
		}
	}
	for _, c := range t.Circuits() {
		text := c.Key.Scheme + c.Key.Host + c.Key.Detail
		if c.State != policy.Closed && !c.Forced && utf8.ValidString(text) { // JSON has no other text
			s.Circuits = append(s.Circuits, savedCircuit{
				Scheme: c.Key.Scheme, Host: c.Key.Host, Detail: c.Key.Detail, State: c.State, Trouble: c.Trouble, NextProbe: c.NextProbe, Known: c.Known,
				Samples: saveSamples(c.Samples),
			})
		}
	}
	if err := json.NewEncoder(w).Encode(s); err != nil {
		return fmt.Errorf("fusebox: save circuits: %w", err)
	}
	return nil
}

// Restore takes up what Save wrote: the circuits open that were open or half-open then, due for a probe when they were, and
// knowing what failed; and what was forced is forced again. Circuits that have changed their state here already stay as they are. What was
// saved more than maxAge ago is left out but for what is forced; 0 means 5 minutes. It returns how many circuits it
// opened. If what it reads is malformed, it returns an error and changes nothing.
func (t *Transport) Restore(r io.Reader, maxAge time.Duration) (opened int, err error) {
	var s saved
	text, err := io.ReadAll(r)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return 0, fmt.Errorf("fusebox: restore circuits: %w", err)
	}
	if s.Version != savedVersion {
		return 0, fmt.Errorf("fusebox: restore circuits: version is %d, and only %d is known here", s.Version, savedVersion)
	}
	for _, o := range s.Overrides {
		if o.Pattern == "" || o.State == nil || *o.State == policy.HalfOpen {
			return 0, fmt.Errorf("fusebox: restore circuits: what %q is forced to is malformed; it takes a pattern, and closed or open", o.Pattern)
		}
	}
	for _, o := range s.Overrides {
		t.Force(o.Pattern, *o.State)
	}
	if maxAge == 0 {
		maxAge = 5 * time.Minute
	}
	now := time.Now()
	if now.Sub(s.At) > maxAge {
		return 0, nil
	}
	for _, kept := range s.Circuits {
		if kept.State == policy.Closed {
			continue
		}
		due := kept.NextProbe
		if due.IsZero() {
			due = now
		}
		c := t.circuits.get(Key{kept.Scheme, kept.Host, kept.Detail})
		if c == nil {
			continue
		}
		c.Recall(restoreSamples(kept.Samples)) // before, so that who is told that it opens is told why
		if c.Restore(now, due, kept.Trouble, kept.Known) {
			opened++
		}
	}
	return opened, nil
}
