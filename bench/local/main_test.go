package main

import "testing"

func TestOneAnswerIsASignForAllIfMostFailedTogether(t *testing.T) {
	for _, p := range policies {
		alone, together := regret(t, troubles[1], p.Policy, rules[0], 11), regret(t, troubles[1], p.Policy, rules[1], 11)
		if together >= alone {
			t.Errorf("%s: regret %.2f with LocalTrouble, %.2f without", p.name, together, alone)
		}
	}
}

func TestAFewThatFailTogetherAreTreatedEachByItself(t *testing.T) {
	for _, p := range policies {
		alone, together := regret(t, troubles[5], p.Policy, rules[0], 11), regret(t, troubles[5], p.Policy, rules[1], 11)
		if together != alone {
			t.Errorf("%s: regret %.2f with LocalTrouble, %.2f without", p.name, together, alone)
		}
	}
}
