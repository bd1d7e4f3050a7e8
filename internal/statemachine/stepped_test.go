package statemachine

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// asked is what a circuit said to a call.
type asked struct {
	refused policy.RefusalReason
	probing bool
	watched bool
}

// askStepped asks a circuit that is Stepped as the live one is asked.
func askStepped(c *Circuit, now, deadline time.Time) (Permit, asked) {
	if at, wants := c.WakeAt(); wants && !at.After(now) {
		c.Wake(at)
	}
	p, ok := c.AcquireClosedAt(now)
	var refusal Refusal
	if !ok {
		p, refusal = c.Acquire(now, deadline, ToProbe)
	}
	return p, asked{refusal.Reason, p.Probing(), p.Watched()}
}

func askLive(c *Circuit, now, deadline time.Time) (Permit, asked) {
	p, ok := c.AcquireClosed()
	var refusal Refusal
	if !ok {
		p, refusal = c.Acquire(now, deadline, ToProbe)
	}
	return p, asked{refusal.Reason, p.Probing(), p.Watched()}
}

// Outages by errors, by silence and by slowness, one after the other.
func troubled(at time.Duration, random *rand.Rand) (took time.Duration, failed bool) {
	took = 10*ms + time.Duration(random.IntN(30))*ms
	switch in := at % (40 * sec); {
	case in > 5*sec && in < 12*sec:
		return took, random.IntN(10) > 0
	case in > 20*sec && in < 27*sec:
		return 3 * sec, true
	case in > 33*sec && in < 35*sec:
		return 400*ms + took, random.IntN(4) == 0
	case in > 36*sec && in%sec < 250*ms: // false alarms
		return took, true
	}
	return took, random.IntN(200) == 0
}

func TestASteppedCircuitDoesWhatALiveOneDoes(t *testing.T) {
	for name, rules := range map[string]policy.Rules{
		"adaptive": policy.Adaptive{}.Rules().Validated(),
		"classic":  policy.Classic{OpenFor: 3 * sec}.Rules().Validated(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				config := func() *Config {
					return &Config{Rules: rules, Random: func() float64 { return 0.3 }, Measured: true}
				}
				var live, stepped told
				a, b := New(config(), &live, nil), Stepped(config(), &stepped)
				w := &world{t: t, start: time.Now()}
				random := rand.New(rand.NewPCG(3, 4))
				var forks []*Circuit // of b, one for each time that it has tripped
				refusals := map[policy.RefusalReason]int{}
				for at := time.Duration(0); at < 2*time.Minute; at += time.Duration(1+random.IntN(20)) * ms {
					w.at(at, func() {
						now := time.Now()
						deadline := now.Add(3 * sec)
						p, said := askLive(a, now, deadline)
						q, same := askStepped(b, now, deadline)
						require.Equal(t, said, same, "at %v", at)
						var forked []Permit
						for _, fork := range forks {
							o, same := askStepped(fork, now, deadline)
							require.Equal(t, said, same, "a fork, at %v", at)
							forked = append(forked, o)
						}
						refusals[said.refused]++
						if said.refused != policy.NotRefused {
							return
						}
						took, failed := troubled(at, random)
						r := policy.Result{Outcome: policy.Success, Elapsed: took}
						if failed {
							r.Outcome, r.Cause = policy.Failure, statusOf
						}
						w.at(at+took, func() {
							now := time.Now()
							opened, _ := p.Done(now, r)
							if at, wants := b.WakeAt(); wants && !at.After(now) {
								b.Wake(at)
							}
							again, _ := q.Done(now, r)
							require.Equal(t, opened, again)
							for i, o := range forked {
								if at, wants := forks[i].WakeAt(); wants && !at.After(now) {
									forks[i].Wake(at)
								}
								again, _ = o.Done(now, r)
								require.Equal(t, opened, again)
							}
							if opened && b.Snapshot(now).Counts.Trips > uint64(len(forks)) {
								forks = append(forks, b.Fork(now, r, config(), nil))
							}
						})
					})
				}
				w.runTo(2*time.Minute + 10*sec)
				require.NotZero(t, refusals[policy.RefusedOpen])
				if name == "adaptive" {
					require.NotZero(t, refusals[policy.RefusedHeld])
				}
				require.Equal(t, live.lines, stepped.lines)
				require.Greater(t, len(forks), 3)
			})
		})
	}
}
