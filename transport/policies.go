package transport

import (
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// Settings is what a key can have of its own (WithSettingsFor). What is zero is the Transport's.
type Settings struct {
	Policy policy.Policy // in place of that of WithPolicy; Limits are part of it
	// Classifier is asked before those of WithClassifier, which are asked where it is Undecided. One that ends with
	// policy.DefaultClassifier never is: policy.FirstOf(mine, policy.DefaultClassifier) keeps the others out.
	Classifier policy.Classifier
	Refusal    RefusalFunc // in place of that of WithRefusal or WithRefusalError
}

// names says which fields are set.
func (s *Settings) names() (names []string) {
	for _, field := range []struct {
		name string
		set  bool
	}{{"policy", s.Policy != nil}, {"classifier", s.Classifier != nil}, {"refusal", s.Refusal != nil}} {
		if field.set {
			names = append(names, field.name)
		}
	}
	return names
}

// policies is what circuits go by.
type policies struct {
	policy policy.Policy
	config *statemachine.Config // of that
	forKey func(Key) Settings   // nil if that is all
}

// SetPolicy replaces the policy of WithPolicy while calls are under way; nil means the default, policy.Adaptive{}. The
// circuits kept now go on in their states, with the new rules: a closed one weighs calls afresh, an open one is due for
// a probe when it was, or sooner if the new rule does not wait as long, and a recovery under way goes on by the rule by
// which it began. It panics as the option does if the policy makes no sense, and then changes nothing. Keys that have a
// policy of their own keep it (SetSettingsFor).
func (t *Transport) SetPolicy(p policy.Policy) {
	if p == nil {
		p = policy.Adaptive{}
	}
	config := t.newConfig(p)
	t.setPolicies(func(by *policies) { by.policy, by.config = p, config })
}

// SetSettingsFor replaces what WithSettingsFor set while calls are under way; nil means the default, with which no key
// has settings of its own. Circuits go on as SetPolicy has it. It panics if a policy of a circuit kept now makes no
// sense, and then changes nothing.
func (t *Transport) SetSettingsFor(settingsFor func(Key) Settings) {
	t.setPolicies(func(by *policies) { by.forKey = settingsFor })
}

func (t *Transport) setPolicies(change func(*policies)) {
	tried := *t.policies.Load()
	change(&tried)
	for _, c := range t.circuits.all() {
		t.settingsOf(&tried, c.key) // panics here, where nothing has changed
	}
	t.configuring.Lock()
	next := *t.policies.Load()
	change(&next)
	t.policies.Store(&next)
	t.configuring.Unlock()
	for _, c := range t.circuits.all() {
		t.configure(c)
	}
}

// configure makes a circuit go by the latest policies. What is a function of the user is asked outside the lock.
func (t *Transport) configure(c *circuit) {
	for by := t.policies.Load(); c.by.Load() != by; by = t.policies.Load() {
		own, config := t.settingsOf(by, c.key)
		t.configureBy(c, by, own, config)
	}
}

func (t *Transport) configureBy(c *circuit, by *policies, own *Settings, config *statemachine.Config) {
	t.configuring.Lock()
	defer t.configuring.Unlock() // though a rule or the source of jitter panics
	if t.policies.Load() == by {
		c.own.Store(own)
		t.classifyLatest(c)
		c.Configure(config, time.Now())
		c.by.Store(by)
		for _, p := range c.parts() {
			t.configurePart(p)
		}
	}
}

// noSettings are those of all keys that have none of their own.
var noSettings Settings

func (t *Transport) settingsOf(by *policies, k Key) (own *Settings, config *statemachine.Config) {
	if by.forKey == nil {
		return &noSettings, by.config
	}
	settings := by.forKey(k)
	if settings.Policy == nil {
		return &settings, by.config
	}
	return &settings, t.newConfig(settings.Policy)
}

func (t *Transport) newConfig(p policy.Policy) *statemachine.Config {
	rules := p.Rules()
	if rules.Trip == nil || rules.Probe == nil || rules.Recover == nil {
		panic("fusebox/transport: a policy has a nil rule; write all three of Trip, Probe and Recover")
	}
	// Rules look at their parameters when they are used; better now than at the first trouble.
	timed, ok := rules.Trip.NewTrip().(policy.Timed)
	looks := ok && timed.Timed()
	rules.Probe.NewProbe()
	rules.Recover.NewRecover()
	rules = rules.Validated()
	config := &statemachine.Config{
		Rules: rules, Random: t.random,
		Measured: true, Timed: looks, Attended: looks || rules.Limits != policy.Limits{},
	}
	if !rules.Parts.Off && t.keyOf == nil {
		config.Part = partConfig(config)
	}
	return config
}

// SetClassifier replaces the classifiers of WithClassifier while calls are under way; none means the default, for which
// policy.DefaultClassifier decides alone. Those that a key has of its own are asked before them all the same. It panics
// as the option does, and then changes nothing.
func (t *Transport) SetClassifier(classifiers ...policy.Classifier) {
	if len(classifiers) == 0 {
		t.classify.Store(nil)
	} else {
		WithClassifier(classifiers...)(t)
	}
	for _, c := range t.all() {
		t.classifyLatest(c)
	}
}

// classifyLatest looks again after it has done what was to be done then, as applyOverride does.
func (t *Transport) classifyLatest(c *circuit) {
	for {
		all, own := t.classify.Load(), c.own.Load()
		switch {
		case own.Classifier == nil:
			c.classify.Store(all)
		case all == nil:
			c.classify.Store(&own.Classifier)
		default:
			both := policy.FirstOf(own.Classifier, *all)
			c.classify.Store(&both)
		}
		if t.classify.Load() == all && c.own.Load() == own {
			return
		}
	}
}
