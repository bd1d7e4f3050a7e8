package transport

import (
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

// policies is what circuits go by.
type policies struct {
	config *statemachine.Config    // of the policy for all
	forKey func(Key) policy.Policy // nil if that is all
}

// SetPolicy replaces the policies of WithPolicy and WithPolicyFor while calls are under way; nil means the default,
// which is policy.Adaptive{} and no policy of a key's own. The circuits kept now go on in their states, with the new
// rules: a closed one weighs calls afresh, an open one is due for a probe when it was, or sooner if the new rule does
// not wait as long, and a recovery under way goes on by the rule by which it began. It panics as the options do if a
// policy makes no sense, and then changes nothing.
func (t *Transport) SetPolicy(p policy.Policy, policyFor func(Key) policy.Policy) {
	if p == nil {
		p = policy.Adaptive{}
	}
	next := &policies{t.newConfig(p), policyFor}
	for _, c := range t.circuits.all() {
		t.configOf(next, c.key) // panics here, where nothing has changed
	}
	t.policies.Store(next)
	for _, c := range t.circuits.all() {
		t.configure(c)
	}
}

// configure makes a circuit go by the latest policies. What is a function of the user is asked outside the lock.
func (t *Transport) configure(c *circuit) {
	for by := t.policies.Load(); c.by.Load() != by; by = t.policies.Load() {
		t.configureBy(c, by, t.configOf(by, c.key))
	}
}

func (t *Transport) configureBy(c *circuit, by *policies, config *statemachine.Config) {
	t.configuring.Lock()
	defer t.configuring.Unlock() // though a rule or the source of jitter panics
	if t.policies.Load() == by {
		c.Configure(config, time.Now())
		c.by.Store(by)
	}
}

func (t *Transport) configOf(by *policies, k Key) *statemachine.Config {
	if by.forKey != nil {
		if p := by.forKey(k); p != nil {
			return t.newConfig(p)
		}
	}
	return by.config
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
	return &statemachine.Config{
		Rules: rules, Random: t.random,
		Measured: true, Timed: looks, Attended: looks || rules.Limits != policy.Limits{},
	}
}
