package transport

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/visible"
	"github.com/fusebox-go/fusebox/policy"
)

// Override is a state that somebody forced on circuits.
type Override struct {
	Pattern string       `json:"pattern"`
	State   policy.State `json:"state"`
	At      time.Time    `json:"at"`

	unsaved bool
}

type overrides struct {
	any     atomic.Bool // there are some
	mu      sync.Mutex
	kept    []Override // the last that matches a key has the say
	version uint64     // grows with each change
}

// Force keeps the circuits of all keys that match the pattern open (policy.Open) or closed (policy.Closed), those kept now and those made later,
// until Release: an open one refuses everything and probes nothing, a closed one lets everything through, whatever
// fails, but for policy.Limits. A pattern is a key as its String method writes it, in which each * stands for any text: "https://example.com",
// "https://*.example.com*"; Key.Pattern is the one for a single key. What cannot be seen in a pattern is
// escaped as in a key. It returns how many of the circuits kept now match. It panics if the pattern is empty or the state is neither.
func (t *Transport) Force(pattern string, state policy.State) int {
	return t.force(Override{Pattern: visible.Pattern(pattern), State: state})
}

// ForceUnsaved is Force for what is kept elsewhere and ends there, as what fleetredis.FollowOverrides applies: Save leaves it
// out, or it would be forced for good in the process that restores it.
func (t *Transport) ForceUnsaved(pattern string, state policy.State) int {
	return t.force(Override{Pattern: visible.Pattern(pattern), State: state, unsaved: true})
}

func (t *Transport) force(o Override) int {
	if o.Pattern == "" {
		panic(`fusebox/transport: Force got an empty pattern; write "*" for all circuits`)
	}
	if o.State != policy.Open && o.State != policy.Closed {
		panic("fusebox/transport: Force got a state that is neither policy.Open nor policy.Closed")
	}
	t.overrides.mu.Lock()
	t.overrides.drop(o.Pattern)
	o.At = time.Now()
	t.overrides.kept = append(t.overrides.kept, o)
	t.overrides.any.Store(true)
	t.overrides.mu.Unlock()
	return t.override(o.Pattern)
}

// Release ends what Force did with the same pattern, and gives its circuits back to their rules: one that is open is due for
// a probe at once. It returns how many of the circuits kept now match, and 0 if nothing was forced by this pattern.
func (t *Transport) Release(pattern string) int {
	pattern = visible.Pattern(pattern)
	t.overrides.mu.Lock()
	known := t.overrides.drop(pattern)
	t.overrides.mu.Unlock()
	if !known {
		return 0
	}
	return t.override(pattern)
}

// Reset makes the circuits of all keys that match the pattern what they were when they were new: closed, with nothing
// known. Those that are forced stay so. It returns how many match.
func (t *Transport) Reset(pattern string) (n int) {
	pattern = visible.Pattern(pattern)
	now := time.Now()
	for _, c := range t.circuits.all() {
		if matches(pattern, c.text()) {
			n++
			if c.Reset(now) {
				c.shadowed.reset()
			}
		}
	}
	return n
}

// Overrides returns what is forced, in the order in which it was. Where several match a key, the last has the say.
func (t *Transport) Overrides() []Override {
	t.overrides.mu.Lock()
	defer t.overrides.mu.Unlock()
	return slices.Clone(t.overrides.kept)
}

// override brings the circuits that match the pattern into the states that are forced on them now, if any.
func (t *Transport) override(pattern string) (n int) {
	done := false
	defer func() {
		if !done { // an observer panicked, and the others are still to be brought there
			t.override(pattern)
		}
	}()
	for _, c := range t.circuits.all() {
		if matches(pattern, c.text()) {
			n++
			t.applyOverride(c)
		}
	}
	done = true
	return n
}

// applyOverride looks again after it has done what was to be done then, so that of two that meet the later one has the say on
// each circuit. It does it outside the lock, since observers hear of it.
func (t *Transport) applyOverride(c *circuit) {
	for {
		override, version := t.overrides.of(c)
		if override.Pattern != "" {
			c.Force(override.State, time.Now())
		} else {
			c.Release(time.Now())
		}
		if _, latest := t.overrides.of(c); latest == version {
			return
		}
	}
}

func (o *overrides) drop(pattern string) (known bool) {
	before := len(o.kept)
	o.kept = slices.DeleteFunc(o.kept, func(have Override) bool { return have.Pattern == pattern })
	o.any.Store(len(o.kept) > 0)
	o.version++
	return len(o.kept) < before
}

// of returns the override that has the say on a circuit, which has no pattern if there is none, and the version in which
// that is so.
func (o *overrides) of(c *circuit) (override Override, version uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, override := range slices.Backward(o.kept) {
		if matches(override.Pattern, c.text()) {
			return override, o.version
		}
	}
	return Override{}, o.version
}

// Pattern returns the pattern for Force, Release and Reset that matches this key alone.
func (k Key) Pattern() string { return strings.NewReplacer(`\`, `\\`, `*`, `\*`).Replace(k.String()) }

// matches reports whether text is what the pattern describes: itself, but for each * any text. After a backslash each
// character stands for itself.
func matches(pattern, text string) bool {
	parts := split(pattern)
	last := len(parts) - 1
	if last == 0 {
		return parts[0] == text
	}
	text, ok := strings.CutPrefix(text, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1:last] {
		at := strings.Index(text, part)
		if at < 0 {
			return false
		}
		text = text[at+len(part):]
	}
	return strings.HasSuffix(text, parts[last])
}

// split returns what stands between the stars of a pattern.
func split(pattern string) []string {
	parts := []string{""}
	for i := 0; i < len(pattern); i++ {
		last := len(parts) - 1
		if pattern[i] == '*' {
			parts = append(parts, "")
			continue
		}
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		parts[last] += pattern[i : i+1]
	}
	return parts
}
