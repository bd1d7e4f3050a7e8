package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// turned plays five seconds of 429s to a part of an upstream, and so many good answers and 429s of another one beside
// each three of them.
func turned(part uint64, good, away int) *policy.Throttling {
	m := policy.Throttle{}.NewThrottle()
	for n := range 100 {
		at := began.Add(time.Duration(n) * 100 * time.Millisecond)
		for range 3 {
			m.TurnedAway(at, policy.Pass{}, true, 0, part)
		}
		for range good {
			m.Answered(at, policy.Pass{}, time.Millisecond, 8)
		}
		for range away {
			m.TurnedAway(at, policy.Pass{}, true, 0, 8)
		}
	}
	return m
}

func TestAThrottleIsNotForOnePartOfAnUpstreamAlone(t *testing.T) {
	for name, c := range map[string]struct {
		part       uint64
		good, away int
		limits     bool
	}{
		"one part, and the rest is well":     {7, 2, 0, false},
		"nothing of the rest came":           {7, 0, 0, true},
		"some of the rest are turned away":   {7, 2, 1, true},
		"nobody tells parts apart":           {0, 2, 0, true},
		"the part that is well is that part": {8, 2, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := turned(c.part, c.good, c.away)
			require.Equal(t, c.limits, m.Limit() > 0)
			_, reason, why := m.Ended(began.Add(time.Minute))
			require.Equal(t, !c.limits, reason == policy.ThrottleNoUse, why)
			if !c.limits {
				require.Contains(t, why, "one part of the upstream alone is turned away, and ")
			}
		})
	}
}
