package transport

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Override is a state that somebody forced on circuits.
type Override struct {
	Pattern string       `json:"pattern"`
	State   policy.State `json:"state"`
	At      time.Time    `json:"at"`

	unsaved bool
}

// mostOverrides bounds what a new circuit may have to be held against, and one of a fleet's can all be followed.
const mostOverrides = 1024

// overrides is what is forced. Who looks takes no lock.
type overrides struct {
	now atomic.Pointer[overrideSet] // nil if there is none
	mu  sync.Mutex                  // held while it changes
}

// overrideSet does not change. The last that matches a key has the say.
type overrideSet struct {
	kept     []Override
	patterns []*pattern // of those kept

	exact              map[string]int // what a text is -> index in kept
	prefixes, suffixes affixes
	others             []int // the indexes of all that has to be tried, in order
}

// affixes are found by their length: few lengths are in use.
type affixes struct {
	lengths []int
	index   map[string]int
}

func (a *affixes) add(text string, index int) {
	if a.index == nil {
		a.index = make(map[string]int)
	}
	a.index[text] = index
	if !slices.Contains(a.lengths, len(text)) {
		a.lengths = append(a.lengths, len(text))
	}
}

func newOverrideSet(kept []Override, patterns []*pattern) *overrideSet {
	if len(kept) == 0 {
		return nil
	}
	s := &overrideSet{kept: kept, patterns: patterns, exact: make(map[string]int)}
	for i, p := range patterns {
		switch {
		case p.exact:
			s.exact[p.first] = i
		case p.prefix():
			s.prefixes.add(p.first, i)
		case p.suffix():
			s.suffixes.add(p.last, i)
		default:
			s.others = append(s.others, i)
		}
	}
	return s
}

// of returns the override that has the say on the key with this text, which has no pattern if there is none.
func (s *overrideSet) of(text string) Override {
	if s == nil {
		return Override{}
	}
	last := -1
	found := func(index int, known bool) {
		if known {
			last = max(last, index)
		}
	}
	lookUp := func(index map[string]int, text string) { i, known := index[text]; found(i, known) }
	lookUp(s.exact, text)
	for _, n := range s.prefixes.lengths {
		if n <= len(text) {
			lookUp(s.prefixes.index, text[:n])
		}
	}
	for _, n := range s.suffixes.lengths {
		if n <= len(text) {
			lookUp(s.suffixes.index, text[len(text)-n:])
		}
	}
	for _, i := range slices.Backward(s.others) {
		if i < last {
			break
		}
		if s.patterns[i].matches(text) {
			last = i
			break
		}
	}
	if last < 0 {
		return Override{}
	}
	return s.kept[last]
}

// Force keeps the circuits of all keys that match the pattern open (policy.Open) or closed (policy.Closed), those kept
// now and those made later, until Release: an open one refuses everything and probes nothing, a closed one lets
// everything through, whatever fails, but for policy.Limits. A pattern is a key as its String method writes it, in
// which each * stands for any text: "https://example.com", "https://*.example.com*". What cannot be seen in a pattern
// is escaped as in a key, and can be copied from one, such as \n or \u202e. A star or a backslash of the key itself,
// which String writes as * and as two backslashes, stands behind one more for each: \* and \\\\. Key.Pattern does that,
// and is the pattern for a single key whatever is in it.
//
// It returns how many of the circuits kept now match. It forces nothing and returns an error if no key can match since
// keys are canonical, as none matches "https://Example.com" or "https://example.com:443", and says what to write; if
// the pattern is empty, or has more than 8192 bytes, which is longer than that of any key; or if 1024 others are forced
// already. With a KeyFunc of your own, whose keys cannot be known, an error of the first kind is only for what matches
// no circuit kept now while its canonical form does. It panics if the state is neither.
func (t *Transport) Force(pattern string, state policy.State) (matched int, err error) {
	return t.force(Override{Pattern: pattern, State: state})
}

func (t *Transport) force(o Override) (matched int, err error) {
	if o.State != policy.Open && o.State != policy.Closed {
		panic("fusebox/transport: Force got a state that is neither policy.Open nor policy.Closed")
	}
	o.Pattern = visiblePattern(o.Pattern)
	p, err := parsePattern(o.Pattern)
	if err == nil {
		err = t.possible(o.Pattern, p)
	}
	if err != nil {
		return 0, err
	}
	added, err := t.overrides.add([]Override{o})
	if err != nil {
		return 0, err
	}
	return t.override(added[0]), nil
}

// add puts overrides behind all others, or none of them if there is no room or a pattern is too long.
func (o *overrides) add(all []Override) (added []*pattern, err error) {
	for _, override := range all {
		p, err := parsePattern(override.Pattern)
		if err != nil {
			return nil, err
		}
		added = append(added, p)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var kept []Override
	var patterns []*pattern
	keep := func(override Override, p *pattern) {
		kept, patterns = append(kept, override), append(patterns, p)
	}
	last := make(map[string]int)
	for i, override := range all {
		last[override.Pattern] = i
	}
	if s := o.now.Load(); s != nil {
		for i, have := range s.kept {
			if _, again := last[have.Pattern]; !again {
				keep(have, s.patterns[i])
			}
		}
	}
	for i, override := range all {
		if last[override.Pattern] == i {
			override.At = time.Now()
			keep(override, added[i])
		}
	}
	if len(kept) > mostOverrides {
		return nil, fmt.Errorf("fusebox: no more than %d patterns can be forced; release some", mostOverrides)
	}
	o.now.Store(newOverrideSet(kept, patterns))
	return added, nil
}

// drop takes out the override of a pattern, and returns what it was taken apart to; nil if there is none.
func (o *overrides) drop(text string) (dropped *pattern) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.now.Load()
	if s == nil {
		return nil
	}
	at := slices.IndexFunc(s.kept, func(have Override) bool { return have.Pattern == text })
	if at < 0 {
		return nil
	}
	o.now.Store(newOverrideSet(
		slices.Delete(slices.Clone(s.kept), at, at+1), slices.Delete(slices.Clone(s.patterns), at, at+1),
	))
	return s.patterns[at]
}

// Release ends what Force did with the same pattern, and gives its circuits back to their rules: one that is open is
// due for a probe at once. It returns how many of the circuits kept now match, and 0 if nothing was forced by this
// pattern; and an error if the pattern has more than 8192 bytes.
func (t *Transport) Release(pattern string) (matched int, err error) {
	pattern = visiblePattern(pattern)
	if _, err := parsePattern(pattern); err != nil {
		return 0, err
	}
	if dropped := t.overrides.drop(pattern); dropped != nil {
		return t.override(dropped), nil
	}
	return 0, nil
}

// Reset makes the circuits of all keys that match the pattern what they were when they were new: closed, with nothing
// known. Those that are forced stay so. It returns how many match, and an error where Force
// has one over the pattern.
func (t *Transport) Reset(pattern string) (matched int, err error) {
	pattern = visiblePattern(pattern)
	p, err := parsePattern(pattern)
	if err == nil {
		err = t.possible(pattern, p)
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	for _, c := range t.all() {
		if p.matches(c.text()) {
			matched++
			if c.Reset(now) {
				c.also().shadowed.reset()
				for _, part := range c.parts() {
					part.Reset(now)
				}
			}
		}
	}
	return matched, nil
}

// Overrides returns what is forced, in the order in which it was. Where several match a key, the last has the say.
func (t *Transport) Overrides() []Override {
	if s := t.overrides.now.Load(); s != nil {
		return slices.Clone(s.kept)
	}
	return nil
}

// override brings the circuits that match one of the patterns into the states that are forced on them now, if any.
func (t *Transport) override(by ...*pattern) (matched int) {
	done := false
	defer func() {
		if !done { // an observer panicked, and the others are still to be brought there
			t.override(by...)
		}
	}()
	for _, c := range t.all() {
		if slices.ContainsFunc(by, func(p *pattern) bool { return p.matches(c.text()) }) {
			matched++
			t.applyOverride(c)
		}
	}
	done = true
	return matched
}

// applyOverride looks again after it has done what was to be done then, so that of two that meet the later one has the
// say on each circuit. It returns what it did it by.
func (t *Transport) applyOverride(c *circuit) *overrideSet {
	for {
		s := t.overrides.now.Load()
		if override := s.of(c.text()); override.Pattern != "" {
			c.Force(override.State, time.Now())
		} else {
			c.Release(time.Now())
		}
		if t.overrides.now.Load() == s {
			return s
		}
	}
}
