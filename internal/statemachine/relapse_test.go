package statemachine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// starts is a RecoverRule that writes down what its recoveries were told at their beginning.
type starts struct {
	policy.RecoverRule
	lasted *[]time.Duration
}

type startsMemory struct {
	policy.Recover
	lasted *[]time.Duration
}

func (r starts) NewRecover() policy.Recover {
	return startsMemory{r.RecoverRule.NewRecover(), r.lasted}
}

func (m startsMemory) Start(now time.Time, probe policy.Result) {
	*m.lasted = append(*m.lasted, probe.Lasted)
	m.Recover.Start(now, probe)
}

// The circuit trips at 0 s, is probed at 10 s, and its recovery begins at 12 s. Later times are those of the cases.
func TestARecoveryIsToldHowLongTheOneBeforeHasLasted(t *testing.T) {
	const s = time.Second
	closes := []step{{14 * s, "ask a", ""}, {14 * s, "ok a", ""}, {15 * s, "ask b", ""}, {15 * s, "ok b", ""}}
	trips := func(at time.Duration) []step {
		return []step{{at, "ask c", ""}, {at, "fail c", ""}, {at, "ask d", ""}, {at, "fail d", ""}}
	}
	for _, c := range []struct {
		name  string
		steps [][]step
		again time.Duration // a probe may go, and succeeds two seconds later
		want  time.Duration
	}{
		{"it failed", [][]step{{{17 * s, "ask a", ""}, {17 * s, "fail a", ""}}}, 30 * s, 5 * s},
		{"the circuit closed and trips two seconds later at most", [][]step{closes, trips(17*s - 1)}, 40 * s, 5*s - 1},
		{"and after that", [][]step{closes, trips(17 * s)}, 40 * s, 0},
		{"somebody opens it", [][]step{closes, {{20 * s, "set open", ""}}}, 40 * s, 0},
		{"somebody has closed it", [][]step{{{14 * s, "set closed", ""}}, trips(16 * s)}, 40 * s, 0},
		{"somebody has reset it", [][]step{closes, {{16 * s, "reset", ""}}, trips(17 * s)}, 40 * s, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lasted []time.Duration
			rules := probing
			rules.Recover = starts{probing.Recover, &lasted}
			r := newRig(rules)
			for _, at := range trips(0) {
				r.do(at.at, at.operation)
			}
			r.do(10*s, "ask p")
			require.Equal(t, "half-open", r.do(12*s, "ok p"))
			for _, steps := range c.steps {
				for _, at := range steps {
					r.do(at.at, at.operation)
				}
			}
			require.Equal(t, "probe, open", r.do(c.again, "ask p"))
			require.Equal(t, "half-open", r.do(c.again+2*s-1, "ok p"))
			require.Equal(t, []time.Duration{0, c.want}, lasted)
		})
	}
}
