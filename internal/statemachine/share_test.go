package statemachine

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// fellow is a circuit of a member, with what it tells the others.
type fellow struct {
	*Circuit
	*peers.Member
	told   *sharing
	random float64
}

type sharing struct {
	told
	shared []fleet.Message
}

// kinds returns what was told since the last time.
func (s *sharing) kinds() (kinds []fleet.Kind) {
	for _, m := range s.shared {
		kinds = append(kinds, m.Kind)
	}
	s.shared = nil
	return kinds
}

// peersIf returns what makes a member of a circuit from which nobody hears.
func peersIf(inFleet bool) func(peers.Machine) peers.Peers {
	if !inFleet {
		return nil
	}
	return func(m peers.Machine) peers.Peers { return peers.NewMember(m, func(fleet.Message) {}) }
}

func newFellow(rules policy.Rules) *fellow {
	f := &fellow{told: &sharing{}}
	f.Circuit = New(&Config{Rules: rules, Random: func() float64 { return f.random }}, f.told, func(m peers.Machine) peers.Peers {
		f.Member = peers.NewMember(m, func(m fleet.Message) { f.told.shared = append(f.told.shared, m) })
		return f.Member
	})
	return f
}

// limit is how many calls may be in flight.
func (f *fellow) limit() int { return f.machine.recover.Limit() }

func (f *fellow) Hear(now time.Time, m fleet.Message) {
	f.WithPeers(func(peers.Peers) { f.Member.Hear(now, m) })
}

func (f *fellow) TakeEvidence() (m fleet.Message, ok bool) {
	f.WithPeers(func(peers.Peers) { m, ok = f.Member.TakeEvidence() })
	return m, ok
}

func (f *fellow) Leave() (withdraw bool) {
	f.WithPeers(func(peers.Peers) { withdraw = f.Member.Leave() })
	return withdraw
}

func (f *fellow) hear(at time.Duration, from string, kind fleet.Kind) {
	f.Hear(epoch.Add(at), fleet.Message{From: from, Kind: kind, For: 15 * time.Second})
}

func (f *fellow) hearFailures(at time.Duration, from string, failures int) {
	f.Hear(epoch.Add(at), fleet.Message{From: from, Kind: fleet.Evidence, Failures: failures})
}

func (f *fellow) call(at time.Duration, r policy.Result) bool {
	return call(f.Circuit, epoch.Add(at), r)
}

// openFellow has one at 0 by its own failures.
func openFellow(rules policy.Rules) *fellow {
	f := newFellow(rules)
	for f.machine.state == policy.Closed {
		f.call(0, failed)
	}
	f.told.kinds()
	return f
}

// probingOften is due for a probe 100 ms after each that failed, at any request.
var probingOften = policy.Rules{
	Trip:    policy.Consecutive{Failures: 4},
	Probe:   policy.OpenTime{For: 100 * time.Millisecond, Lease: time.Second},
	Recover: afterProbe{policy.Trial{Probes: 2}},
}

func TestEvidenceOfOthersCountsHalfAndThatOfOneHalfAtMost(t *testing.T) {
	for own := range 4 { // of the four failures that trip
		for a := range 12 {
			for b := range 6 {
				for _, ownFirst := range []bool{true, false} {
					f := newFellow(probingOften)
					fail := func() {
						for range own {
							f.call(0, failed)
						}
					}
					if ownFirst {
						fail()
					}
					for range a {
						f.hearFailures(0, "a", 1)
					}
					f.hearFailures(0, "b", b)
					if !ownFirst {
						fail()
					}
					what := fmt.Sprintf("%d own, %d of a, %d of b, own first %v", own, a, b, ownFirst)
					opened := 2*own+min(a, 4)+min(b, 4) >= 8
					require.Equal(t, opened, f.machine.state == policy.Open, what)
					if opened {
						require.Equal(t, policy.ChangeTrippedByFleet, f.told.changes[0].Reason, what)
					}
				}
			}
		}
	}
}

func TestTwoThatOpenedOpenACircuitWithoutCallsOfItsOwn(t *testing.T) {
	for name, rules := range map[string]policy.Rules{
		"adaptive": policy.Adaptive{}.Rules(), "classic": classic,
		"without a gauge": {Trip: policy.FailureShare{}, Probe: policy.Squares{}, Recover: policy.Ramp{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFellow(rules)
			for range 100 {
				f.hear(0, "a", fleet.Opened)
			}
			require.Equal(t, policy.Closed, f.machine.state, "one alone is not enough, however often it says so")
			f.hear(0, "b", fleet.Opened)
			require.Equal(t, policy.Open, f.machine.state)
			require.EqualValues(t, 1, lookAt(f, epoch).Counts.Trips)
			require.Equal(t, []fleet.Kind{fleet.Opened}, f.told.kinds())
		})
	}
}

// extremes are numbers that a member can send.
var extremes = []int{0, 1, 3, 1000, -1, -1000, math.MaxInt, math.MinInt, math.MaxInt / 2, math.MinInt / 3}

func anyMessage(t *rapid.T, from string) fleet.Message {
	return fleet.Message{
		From: from, Kind: fleet.Kind(rapid.IntRange(0, 10).Draw(t, "kind")),
		Failures:  rapid.SampledFrom(extremes).Draw(t, "failures"),
		Successes: rapid.SampledFrom(extremes).Draw(t, "successes"),
		Requests:  rapid.SampledFrom(extremes).Draw(t, "requests"),
		For:       time.Duration(rapid.SampledFrom(extremes).Draw(t, "for")),
		Ago:       time.Duration(rapid.SampledFrom(extremes).Draw(t, "ago")),
	}
}

func TestOneMemberAloneOpensNothingWhateverItSays(t *testing.T) {
	for name, rules := range map[string]policy.Rules{
		"adaptive": policy.Adaptive{}.Rules(), "probing": probingOften,
		"that never trips": {Trip: policy.Consecutive{Failures: math.MaxInt}, Probe: policy.OpenTime{}, Recover: policy.Trial{}},
	} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				from := rapid.SampledFrom([]string{"", "a"}).Draw(t, "from")
				f := newFellow(rules)
				now := epoch
				for range rapid.IntRange(1, 40).Draw(t, "n") {
					now = now.Add(steps[rapid.IntRange(0, len(steps)-1).Draw(t, "step")])
					switch rapid.IntRange(0, 3).Draw(t, "do") {
					case 0:
						call(f.Circuit, now, well)
					default:
						f.Hear(now, anyMessage(t, from))
					}
					require.Equal(t, policy.Closed, f.machine.state, "%+v", f.Member)
				}
			})
		})
	}
}

// Negative numbers are nothing.
func TestNegativeEvidenceIsNone(t *testing.T) {
	f := newFellow(probingOften)
	f.hearFailures(0, "a", 3)
	f.Hear(epoch, fleet.Message{From: "b", Kind: fleet.Evidence, Failures: -100, Successes: -100})
	require.Equal(t, 3, f.Score)
	f.hearFailures(0, "b", 1000)
	require.Equal(t, 3+4, f.Score)
	require.Equal(t, policy.Closed, f.machine.state)
}

// Whatever members say, nothing overflows, what is remembered is bounded, and no wait for others is long.
func FuzzFleet(f *testing.F) {
	f.Add([]byte("\x00\x00\x02\x01\x02\x02\x02\x08\x03\x0b\x06\x00"))
	f.Add([]byte("\x00\x02\x00\x02\x01\x10\x03\x0c\x03\x0c\x00\x20\x03\x0c\x05\x00\x05\x01\x10\x06\x06\x00\x06\x01\x10\x08"))
	f.Add([]byte("\x02\x01\x02\x02\x05\x01\x0a\x03\x0b\x00\x09\x11\x09\x22\x09\x33\x0b\x00\x09\x42\x0c\x00\x09\x51\x0b\x01"))
	f.Fuzz(func(t *testing.T, program []byte) {
		rules := []policy.Rules{policy.Adaptive{}.Rules(), probingOften, classic}[len(program)%3]
		m := newFellow(rules)
		now := epoch
		for ; len(program) >= 2; program = program[2:] {
			now = now.Add(time.Millisecond)
			arg := int(program[1])
			switch kind := program[0] % 15; kind {
			case 10:
				now = now.Add(steps[arg%len(steps)])
			case 11:
				call(m.Circuit, now, []policy.Result{well, failed}[arg%2])
			case 12:
				m.Acquire(now, time.Time{}, NotToProbe)
			case 13:
				m.Force(policy.State(arg%2), now)
				m.Release(now)
			default:
				if kind == 14 {
					kind = byte(fleet.Withdrawn)
				}
				number := extremes[arg/16%len(extremes)]
				m.Hear(now, fleet.Message{
					From: string(rune('a' + arg%16)), Kind: fleet.Kind(kind), Failures: number, Successes: extremes[arg%len(extremes)], Requests: number,
					For: time.Duration(number), Ago: time.Duration(number), InFlight: extremes[(arg+1)%len(extremes)], Took: time.Duration(number),
				})
			}
			if s := m.Member; s.Score < 0 || len(s.Others) > peers.MaxOthers || len(s.By) > peers.MaxOthers || len(s.Failing) > peers.MaxOthers {
				t.Fatalf("%+v", s)
			}
			if left := m.Claim.Sub(now); left > m.ProbeLease() {
				t.Fatalf("a claim for %v", left)
			}
			inFlight := 0
			for _, r := range m.Joint.Others {
				inFlight += min(r.InFlight, m.Joint.Believed)
			}
			if j := m.Joint; j.InFlight != inFlight || inFlight < 0 || len(j.Others) > peers.MaxOthers || j.Requests < 0 {
				t.Fatalf("%+v", j)
			}
		}
		lookAt(m, now)
	})
}

func TestWhatIsRememberedOfOthersIsBounded(t *testing.T) {
	f := newFellow(probingOften)
	name := func(i int) string { return fmt.Sprint("member", i) }
	for i := range 2 * peers.MaxOthers {
		f.call(0, well)
		f.hearFailures(0, name(i), 0)
		f.hear(0, name(i), fleet.Opened)
	}
	require.LessOrEqual(t, len(f.By), peers.MaxOthers)
	require.LessOrEqual(t, len(f.Others), peers.MaxOthers)
	f = openFellow(probingOften)
	for i := range 2 * peers.MaxOthers {
		f.hear(0, name(i), fleet.Opened)
		f.hear(0, name(i), fleet.RecoveryFailed)
	}
	require.Len(t, f.Others, peers.MaxOthers)
	require.LessOrEqual(t, len(f.Failing), peers.MaxOthers)
}

func TestACircuitWhoseCallsSucceedIsNotOpenedByOthers(t *testing.T) {
	f := newFellow(probingOften)
	f.hear(0, "a", fleet.Opened)
	f.call(0, well)
	for _, from := range []string{"a", "b", "c", "d"} {
		f.hear(peers.VouchFor-1, from, fleet.Opened)
	}
	require.Equal(t, policy.Closed, f.machine.state)
	f.hear(peers.VouchFor, "a", fleet.Opened)
	require.Equal(t, policy.Open, f.machine.state, "what was good a second ago may not be now")
}

func TestAnOwnFailureEndsThat(t *testing.T) {
	f := newFellow(probingOften)
	f.hear(0, "a", fleet.Opened)
	f.call(0, well)
	f.hear(0, "a", fleet.Opened)
	f.hear(0, "b", fleet.Opened)
	f.hear(0, "c", fleet.Opened)
	require.Equal(t, policy.Closed, f.machine.state)
	f.call(0, failed)
	require.Equal(t, policy.Open, f.machine.state)
	require.Equal(t, policy.ChangeTrippedByFleet, f.told.changes[0].Reason)
	require.Equal(t, statusOf, f.told.changes[0].Cause)

	f = newFellow(probingOften)
	f.hear(0, "a", fleet.Opened)
	f.call(0, well)
	f.call(0, failed) // which is not enough by itself
	require.Equal(t, policy.Closed, f.machine.state)
	f.hear(0, "a", fleet.Opened)
	f.hear(0, "b", fleet.Opened)
	require.Equal(t, policy.Open, f.machine.state, "it does not vouch any more")
}

func TestEvidenceOfOthersExpires(t *testing.T) {
	for _, c := range []struct {
		after time.Duration
		want  policy.State
	}{{peers.EvidenceFor, policy.Open}, {peers.EvidenceFor + 1, policy.Closed}} {
		f := newFellow(probingOften)
		f.hear(0, "a", fleet.Opened)
		f.hear(c.after, "b", fleet.Opened)
		require.Equal(t, c.want, f.machine.state, "of another, after %v", c.after)

		f = newFellow(probingOften)
		f.hear(0, "a", fleet.Opened)
		f.hearFailures(0, "b", 3)
		f.call(c.after, failed)
		require.Equal(t, c.want, f.machine.state, "with an own failure after %v", c.after)
	}
}

func TestACircuitIsQuietAgainWhenTheEvidenceIsGone(t *testing.T) {
	f := newFellow(probingOften)
	f.call(0, well)
	quiet := func() bool {
		p, ok := f.AcquireClosed()
		require.True(t, ok)
		return p.Quiet()
	}
	require.True(t, quiet())
	f.hearFailures(0, "a", 4)
	require.False(t, quiet(), "a success would vouch for the upstream")
	f.call(0, well)
	require.True(t, quiet())
	f.hearFailures(0, "a", 4)
	f.hearFailures(0, "b", 3)
	f.call(0, well)
	require.False(t, quiet(), "a success is worth three failures")
	f.call(0, well)
	require.True(t, quiet())
	f.hearFailures(0, "a", 3)
	f.Hear(epoch, fleet.Message{From: "b", Kind: fleet.Evidence, Successes: 1})
	require.True(t, quiet(), "those of others, too")
}

func TestTheProbeOfAnotherHoldsOwnOnes(t *testing.T) {
	const ms = time.Millisecond
	asks := func(f *fellow, at time.Duration) bool {
		p, _ := f.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		return p.Granted()
	}
	t.Run("until its lease ends", func(t *testing.T) {
		f := openFellow(probingOften)
		f.Hear(epoch.Add(90*ms), fleet.Message{From: "a", Kind: fleet.ProbeStarted, For: 300 * ms})
		require.False(t, asks(f, 100*ms))
		require.False(t, asks(f, 390*ms-1))
		require.True(t, asks(f, 390*ms))
	})
	t.Run("which is the circuit's own at most", func(t *testing.T) {
		f := openFellow(probingOften)
		f.Hear(epoch.Add(90*ms), fleet.Message{From: "a", Kind: fleet.ProbeStarted, For: math.MaxInt64})
		require.False(t, asks(f, 1090*ms-1))
		require.True(t, asks(f, 1090*ms))
	})
	t.Run("or until it failed, and then as long as after an own one", func(t *testing.T) {
		f := openFellow(probingOften)
		f.hear(0, "a", fleet.Opened)
		f.hear(90*ms, "a", fleet.ProbeStarted)
		f.hear(150*ms, "b", fleet.ProbeFailed) // not its probe
		require.False(t, asks(f, 200*ms))
		f.hear(300*ms, "a", fleet.ProbeFailed)
		require.Equal(t, epoch.Add(400*ms), lookAt(f, epoch).Due)
		require.False(t, asks(f, 400*ms-1))
		require.True(t, asks(f, 400*ms))
	})
	t.Run("not one that is out already", func(t *testing.T) {
		f := openFellow(probingOften)
		p, _ := f.Acquire(epoch.Add(100*ms), time.Time{}, ToProbe)
		f.hear(100*ms, "a", fleet.ProbeStarted)
		f.hear(100*ms, "a", fleet.ProbeFailed)
		require.Equal(t, epoch.Add(100*ms), lookAt(f, epoch).Due)
		p.Done(epoch.Add(200*ms), well)
		require.Equal(t, policy.HalfOpen, f.machine.state)
	})
	t.Run("and a failure is told once", func(t *testing.T) {
		f := openFellow(probingOften)
		f.hear(0, "a", fleet.Opened)
		f.hear(100*ms, "a", fleet.ProbeStarted)
		f.hear(100*ms, "a", fleet.ProbeFailed)
		f.hear(150*ms, "a", fleet.ProbeFailed)
		require.True(t, asks(f, 200*ms))
	})
}

// Liars are members that say all they can, each millisecond. A circuit that they claim to be probing for, or whose probes
// they say have failed, has its next probe within two leases after it was due all the same.
func TestNobodyHoldsTheProbesOfOthersForLong(t *testing.T) {
	try := testkit.OneIn(8)
	for name, rules := range map[string]policy.Rules{
		"open time": probingOften, "adaptive": policy.Adaptive{}.Rules(), "growing waits": {
			Trip: policy.Consecutive{Failures: 4}, Recover: policy.Ramp{},
			Probe: policy.OpenTime{For: 100 * time.Millisecond, Factor: 2, Lease: time.Second},
		},
	} {
		for lie, kinds := range map[string][]fleet.Kind{
			"claims":                 {fleet.ProbeStarted},
			"claims and fails":       {fleet.ProbeStarted, fleet.ProbeFailed},
			"fails and claims":       {fleet.ProbeFailed, fleet.ProbeStarted},
			"recoveries that fail":   {fleet.RecoveryFailed, fleet.ProbeStarted},
			"evidence and openings":  {fleet.Evidence, fleet.Opened, fleet.ProbeStarted},
			"nothing that makes any": {0, 99},
		} {
			for _, liars := range []int{1, 4} {
				for _, others := range []bool{false, true} { // requests that are to be no probes
					if !try() {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s, %d liars, others %v", name, lie, liars, others), func(t *testing.T) {
						f := openFellow(rules)
						for at := time.Millisecond; ; at += time.Millisecond {
							for i := range liars {
								for _, kind := range kinds {
									f.hear(at, fmt.Sprint("liar", i), kind)
								}
							}
							if others {
								f.Acquire(epoch.Add(at), time.Time{}, NotToProbe)
							}
							if at%(10*time.Millisecond) == 0 {
								if p, _ := f.Acquire(epoch.Add(at), time.Time{}, ToProbe); p.Granted() {
									return
								}
							}
							require.Less(t, at, 100*time.Millisecond+2*time.Second+20*time.Millisecond, "no probe has gone")
						}
					})
				}
			}
		}
	}
}

func TestProbesAreAsOftenAsIfAllRequestsWereOwnOnes(t *testing.T) {
	rules := policy.Adaptive{Probe: policy.Squares{Spacing: 1, Wait: 1}}.Rules()
	probes := func(others int) (n int) {
		f := openFellow(rules)
		f.random = 0.5
		for i := range others {
			f.hear(0, fmt.Sprint(i), fleet.Opened)
		}
		for i := range 200 {
			at := time.Duration(i) * time.Millisecond
			f.Hear(epoch.Add(at), fleet.Message{From: "0", Kind: fleet.Asked, Requests: others})
			if p, _ := f.Acquire(epoch.Add(at), time.Time{}, ToProbe); p.Granted() {
				p.Done(epoch.Add(at), failed)
				n++
			}
		}
		return n
	}
	squares := func(requests float64) float64 { return math.Sqrt(requests+3) - 1 } // as policy.Squares says
	require.InDelta(t, squares(200), probes(0), 1)
	require.InDelta(t, squares(4*200), probes(3), 2, "four times the requests")
	require.InDelta(t, squares(16*200), probes(15), 3)
}

func TestACircuitAloneFollowsAtTheNextRequest(t *testing.T) {
	for _, kind := range []fleet.Kind{fleet.Answered, fleet.Recovered} {
		f := openFellow(probing)
		f.hear(0, "a", kind)
		require.Equal(t, policy.Open, f.machine.state, "without a request there is nothing to let through")
		p, _ := f.Acquire(epoch, time.Time{}, ToProbe)
		require.True(t, p.Probing())
		require.Equal(t, policy.HalfOpen, f.machine.state)
	}
}

func TestTwoRecoveriesThatFailedStopThoseWhoHaveNotFollowedYet(t *testing.T) {
	f := openFellow(probing)
	follows := func(at time.Duration, failed ...string) bool {
		f.hear(at, "a", fleet.Answered)
		for _, from := range failed {
			f.hear(at, from, fleet.RecoveryFailed)
		}
		p, _ := f.Acquire(epoch.Add(at+time.Second), time.Time{}, ToProbe)
		if p.Granted() {
			f.Set(policy.Closed, epoch)
			f.Set(policy.Open, epoch)
		}
		return p.Granted()
	}
	require.True(t, follows(0))
	require.True(t, follows(time.Second, "a"))
	require.True(t, follows(2*time.Second, "b", "b", "b"), "one says nothing of the upstream")
	require.False(t, follows(3*time.Second, "a", "b"))
	require.True(t, follows(4*time.Second), "until it answers again")
}

// Or one that says so all the time has a dead upstream called all the time.
func TestWhoseRecoveryFailedFollowsNobodyWithoutAnOwnProbe(t *testing.T) {
	f := openFellow(probing) // for 10 s
	const s = time.Second
	f.hear(s, "a", fleet.Answered)
	require.True(t, f.call(s, failed))
	require.Equal(t, policy.ChangeRecoveryFailed, f.told.changes[2].Reason)
	f.hear(2*s, "a", fleet.Answered)
	require.False(t, f.call(11*s-1, well))
	require.True(t, f.call(11*s, well))
	require.Equal(t, policy.ChangeProbeSucceeded, f.told.changes[3].Reason)
}

func TestARuleWithoutAProbeFirstIsHastenedByAnAnswer(t *testing.T) {
	f := openFellow(classic)
	f.hear(time.Second, "a", fleet.Answered)
	require.Equal(t, policy.Open, f.machine.state)
	p, _ := f.Acquire(epoch.Add(time.Second), time.Time{}, ToProbe)
	require.True(t, p.Probe())
	require.Equal(t, policy.HalfOpen, f.machine.state)
	require.Equal(t, policy.ChangeOpenTimePassed, f.told.changes[1].Reason)
}

func TestAForcedCircuitNeitherTellsNorHears(t *testing.T) {
	everything := func(f *fellow) {
		for _, from := range []string{"a", "b", "c"} {
			for kind := range fleet.Kind(11) {
				f.Hear(epoch, fleet.Message{From: from, Kind: kind, Failures: 1000, For: time.Hour})
			}
		}
	}
	for _, state := range []policy.State{policy.Closed, policy.Open} {
		t.Run(state.String(), func(t *testing.T) {
			f := newFellow(probing)
			f.hearFailures(0, "a", 1)
			f.call(0, failed)
			f.told.kinds()
			f.Force(state, epoch)
			everything(f)
			for at := time.Duration(0); at < time.Minute; at += 100 * time.Millisecond {
				f.call(at, failed)
				everything(f)
			}
			require.Equal(t, state, f.machine.state)
			require.Empty(t, f.told.kinds())
			require.Len(t, f.told.changes, 1)
			_, ok := f.TakeEvidence()
			require.False(t, ok)
			require.Zero(t, f.Score)
			require.Zero(t, f.Claim)
		})
	}
}

func TestWhatIsToldOfAnOutage(t *testing.T) {
	const s = time.Second
	f := newFellow(probing) // trips at two, waits for 10 s, closes by two
	require.True(t, f.call(0, failed))
	require.Equal(t, []fleet.Kind{fleet.Evidence}, f.told.kinds())
	f.call(s, failed)
	require.Equal(t, []fleet.Message{{Kind: fleet.Opened, For: peers.OpenedFor}}, f.told.shared)
	f.told.kinds()
	ask := func(at time.Duration) Permit {
		p, _ := f.Acquire(epoch.Add(at), time.Time{}, ToProbe)
		require.True(t, p.Granted())
		return p
	}
	p := ask(11 * s)
	require.Equal(t, []fleet.Message{{Kind: fleet.ProbeStarted, For: 2 * s}}, f.told.shared)
	p.Done(epoch.Add(12*s), failed)
	require.Equal(t, []fleet.Kind{fleet.ProbeStarted, fleet.ProbeFailed}, f.told.kinds())
	ask(22 * s)
	lookAt(f, epoch.Add(24*s))
	require.Equal(t, []fleet.Kind{fleet.ProbeStarted, fleet.ProbeFailed}, f.told.kinds(), "a lease that ends")
	at := peers.OpenedFor // so late that it is told again that it is open
	ask(at).Done(epoch.Add(at), well)
	require.Equal(t, []fleet.Kind{fleet.ProbeStarted, fleet.Answered}, f.told.kinds())
	ask(at).Done(epoch.Add(at), failed)
	require.Equal(t, []fleet.Message{{Kind: fleet.Evidence}, {Kind: fleet.RecoveryFailed}, {Kind: fleet.Opened, For: peers.OpenedFor, Ago: at - s}}, f.told.shared)
	f.told.kinds()
	at += 10 * s
	ask(at).Done(epoch.Add(at), well)
	p, q := ask(at), ask(at)
	p.Done(epoch.Add(at), well)
	q.Done(epoch.Add(at), well)
	require.Equal(t, []fleet.Kind{fleet.ProbeStarted, fleet.Answered, fleet.Evidence, fleet.Recovered}, f.told.kinds())
}

func TestOpenedIsToldAgainWhileRequestsCome(t *testing.T) {
	f := openFellow(policy.Classic{OpenFor: time.Hour}.Rules())
	var told []time.Duration
	const again = peers.OpenedFor / 3
	for at := again / 10; at <= 4*again; at += again / 10 {
		f.call(at, failed)
		for _, m := range f.told.shared {
			require.Equal(t, fleet.Message{Kind: fleet.Opened, For: peers.OpenedFor, Ago: at}, m)
			told = append(told, at)
		}
		f.told.kinds()
	}
	require.Equal(t, []time.Duration{again, 2 * again, 3 * again, 4 * again}, told)
	lookAt(f, epoch.Add(30*time.Minute))
	require.Empty(t, f.told.kinds(), "no request, no word")
}

func TestWhatIsRestoredIsToldOnlyAgain(t *testing.T) {
	f := newFellow(classic)
	f.Restore(epoch, epoch.Add(time.Hour), epoch.Add(-time.Hour), true)
	require.Empty(t, f.told.kinds(), "it is what others said before")
	f.call(time.Second, failed)
	require.Equal(t, []fleet.Message{{Kind: fleet.Opened, For: peers.OpenedFor, Ago: time.Hour + time.Second}}, f.told.shared)
}

func TestEvidenceIsToldOnceUntilItIsTaken(t *testing.T) {
	f := newFellow(policy.Classic{Failures: 100}.Rules())
	for range 5 {
		f.call(0, failed)
	}
	require.Equal(t, []fleet.Kind{fleet.Evidence}, f.told.kinds())
	m, ok := f.TakeEvidence()
	require.True(t, ok)
	require.Equal(t, fleet.Message{Kind: fleet.Evidence, Failures: 5}, m)
	require.Empty(t, f.told.kinds())
	_, ok = f.TakeEvidence()
	require.False(t, ok, "it was taken")
	f.call(0, well)
	require.Empty(t, f.told.kinds())
	_, ok = f.TakeEvidence()
	require.False(t, ok, "nobody asks for successes")
	f.hearFailures(0, "a", 100)
	f.call(0, well)
	require.Empty(t, f.told.kinds())
	m, ok = f.TakeEvidence()
	require.True(t, ok, "unless somebody suspects the upstream")
	require.Equal(t, fleet.Message{Kind: fleet.Evidence, Successes: 1}, m)
}

func TestAFailureAmongSuccessesIsToldSeldom(t *testing.T) {
	f := newFellow(classic)
	told := 0
	for at := time.Duration(0); at < time.Minute; at += time.Second { // never two in a row
		f.call(at, failed)
		told += len(f.told.kinds())
		f.call(at, well)
		f.TakeEvidence()
	}
	require.Equal(t, 1, told, "the first after a long time")
	f.call(time.Minute-time.Second+peers.Seldom, failed)
	require.Equal(t, []fleet.Kind{fleet.Evidence}, f.told.kinds())
}

func TestEvidenceOfACircuitThatOpenedIsNone(t *testing.T) {
	f := newFellow(classic)
	f.call(0, failed)
	f.call(0, failed)
	_, ok := f.TakeEvidence()
	require.False(t, ok)
}

func TestAForgottenCircuitHearsNothing(t *testing.T) {
	f := newFellow(classic)
	require.True(t, f.Forget(epoch, Quiet, 0))
	for _, from := range []string{"a", "b"} {
		f.hear(0, from, fleet.Opened)
	}
	require.Equal(t, policy.Closed, f.machine.state)
	require.Empty(t, f.told.changes)
}

// What others opened is followed by what they say of its end, and then they are not counted any more.
func TestMembersAreThoseThatSaidSoOfLate(t *testing.T) {
	f := openFellow(probing)
	require.Equal(t, 1, f.Members(epoch))
	f.hear(0, "a", fleet.Opened)
	f.Hear(epoch, fleet.Message{From: "b", Kind: fleet.Opened, For: 2 * time.Second})
	f.Hear(epoch, fleet.Message{From: "c", Kind: fleet.Opened, For: time.Hour})
	f.Hear(epoch, fleet.Message{From: "d", Kind: fleet.Opened, For: -time.Hour})
	require.Equal(t, 4, f.Members(epoch))
	require.Equal(t, 3, f.Members(epoch.Add(2*time.Second)))
	f.hear(3*time.Second, "a", fleet.Recovered)
	require.Equal(t, 2, f.Members(epoch.Add(3*time.Second)))
	require.Equal(t, 1, f.Members(epoch.Add(peers.OpenedFor)), "however long it says that it holds")
	require.False(t, slices.Contains(f.told.kinds(), fleet.Recovered))
}

// What somebody does by hand says nothing of the upstream, and what was told before does not hold any more.
func TestWhoIsClosedByHandIsNotCountedAmongTheOpenAnyMore(t *testing.T) {
	byHand := map[string]func(*fellow){
		"reset":         func(f *fellow) { f.Reset(epoch) },
		"set closed":    func(f *fellow) { f.Set(policy.Closed, epoch) },
		"forced closed": func(f *fellow) { f.Force(policy.Closed, epoch); f.Release(epoch) },
		"forced open":   func(f *fellow) { f.Force(policy.Open, epoch) },
	}
	for name, close := range byHand {
		t.Run(name, func(t *testing.T) {
			f := openFellow(classic)
			close(f)
			require.Equal(t, []fleet.Message{{Kind: fleet.Withdrawn}}, f.told.shared)
			f.told.kinds()
			close(f)
			require.Empty(t, f.told.kinds(), "once")
			require.False(t, f.Leave())

			f = newFellow(classic)
			close(f)
			require.Empty(t, f.told.kinds(), "nobody takes it for open")
		})
	}
	t.Run("half-open by hand", func(t *testing.T) {
		f := newFellow(ramping)
		f.Set(policy.HalfOpen, epoch)
		f.call(0, well)
		_, ok := f.TakeEvidence()
		require.True(t, ok, "which makes it one of those that are open")
		f.told.kinds()
		f.Reset(epoch)
		require.Equal(t, []fleet.Kind{fleet.Withdrawn}, f.told.kinds())
	})
}

func TestWhatIsReleasedIsNotToldToBeOpenBeforeAnOwnCallFailed(t *testing.T) {
	f := newFellow(probing)
	f.Force(policy.Open, epoch)
	f.Release(epoch)
	f.Acquire(epoch, time.Time{}, NotToProbe)
	require.Empty(t, f.told.kinds())
	f.call(0, failed) // a probe
	require.Equal(t, []fleet.Kind{fleet.ProbeStarted, fleet.ProbeFailed}, f.told.kinds())
	f.Acquire(epoch, time.Time{}, NotToProbe)
	require.Equal(t, []fleet.Kind{fleet.Opened}, f.told.kinds())
}

func TestWhoWithdrewIsNoMember(t *testing.T) {
	f := openFellow(classic)
	f.hear(0, "a", fleet.Opened)
	f.hear(0, "b", fleet.Opened)
	require.Equal(t, 3, f.Members(epoch))
	f.hear(0, "a", fleet.Withdrawn)
	require.Equal(t, 2, f.Members(epoch))
	p, _ := f.Acquire(epoch, time.Time{}, ToProbe)
	require.False(t, p.Granted(), "it says nothing of the upstream")
}

func TestWhoLeavesSaysSoIfItIsOpen(t *testing.T) {
	f := newFellow(classic)
	require.False(t, f.Leave())
	f = openFellow(classic)
	require.True(t, f.Leave())
	require.False(t, f.Leave(), "once")
}

// One that lies all the time costs a circuit whose rule has no probe before its trial one call more in each gap.
func TestWhoSaysThatTheUpstreamAnswersHasItProbedOnceInAGap(t *testing.T) {
	for _, lie := range []fleet.Kind{fleet.Answered, fleet.Recovered} {
		f := openFellow(policy.Classic{Failures: 4, OpenFor: 10 * time.Second, Probes: 3}.Rules())
		calls := 0
		for at := time.Duration(0); at < time.Minute; at += 10 * ms {
			f.hear(at, fmt.Sprint("liar", at%(50*ms)), lie)
			if p, _ := f.Acquire(epoch.Add(at), time.Time{}, ToProbe); p.Granted() {
				p.Done(epoch.Add(at), failed)
				calls++
			}
		}
		require.InDelta(t, 7, calls, 4, "those of its own are 5")
	}
}

// Whoever says so hears of it even after an own probe has failed: it may have been too early.
func TestAnAnswerIsFollowedAfterAnOwnProbeThatFailed(t *testing.T) {
	f := openFellow(classic)
	due := lookAt(f, epoch).Due
	at := due.Sub(epoch)
	require.True(t, f.call(at, failed))
	f.hear(at+time.Second, "a", fleet.Answered)
	require.True(t, f.call(at+time.Second, well))
}

// What two have seen whose rules open at once, and stay open for long, is no reason for others not to look.
func TestWhoOpensWithoutAFailureOfItsOwnIsSoonDueForAProbe(t *testing.T) {
	lenient := policy.Classic{Failures: 1000, OpenFor: time.Hour}.Rules()
	f := newFellow(lenient)
	f.hear(0, "a", fleet.Opened)
	f.hear(0, "b", fleet.Opened)
	require.Equal(t, policy.Open, f.machine.state)
	require.Equal(t, epoch.Add(peers.TrySoon), lookAt(f, epoch).Due)
	require.Equal(t, epoch.Add(peers.TrySoon), f.told.changes[0].Due, "and so says its observer")
	require.False(t, f.call(peers.TrySoon-1, failed))
	require.True(t, f.call(peers.TrySoon, failed))
	require.Equal(t, epoch.Add(peers.TrySoon+time.Hour), lookAt(f, epoch).Due, "then by its rule")

	f = newFellow(lenient)
	f.hear(0, "a", fleet.Opened)
	f.call(0, failed)
	f.hear(0, "b", fleet.Opened)
	require.Equal(t, policy.Open, f.machine.state)
	require.Equal(t, epoch.Add(time.Hour), lookAt(f, epoch).Due, "it has seen it itself")
}
