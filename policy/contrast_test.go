package policy_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

var (
	brokenPart = policy.Cause{Kind: policy.KindStatus, Status: 500}
	partWell   = policy.Result{Outcome: policy.Success}
)

// parts plays calls of parts to a Contrast.
type parts struct {
	*policy.Suspects
	random *rand.Rand
	cut    map[uint64]int // part -> number of its failures until then
	failed map[uint64]int
}

func newParts(rule policy.Contrast, seed uint64) *parts {
	return &parts{rule.NewSuspects(), rand.New(rand.NewPCG(seed, 1)), map[uint64]int{}, map[uint64]int{}}
}

func (p *parts) call(part uint64, fails bool) {
	if p.cut[part] > 0 {
		return
	}
	r := policy.Result{Outcome: policy.Success, Part: part}
	if fails {
		p.failed[part]++
		r.Outcome, r.Cause = policy.Failure, brokenPart
	}
	if p.Record(r, p.random.Float64) {
		p.cut[part] = p.failed[part]
	}
}

func TestAPartThatIsDeadIsCutOutAtItsFourthFailure(t *testing.T) {
	p := newParts(policy.Contrast{}, 1)
	for i := range uint64(100) {
		p.call(1+i%10, i%10 == 3)
	}
	require.Equal(t, map[uint64]int{4: 4}, p.cut)
	require.Equal(t, "failures weigh 4 (bound 4), and of the rest 0 of 30 calls failed", p.Explain())
	require.True(t, p.Quiet(), "what is cut out is no suspect")
}

func TestPartsThatAreDeadTogetherAreCutOutAll(t *testing.T) {
	p := newParts(policy.Contrast{}, 1)
	for i := range uint64(100) {
		p.call(1+i%10, i%10 < 4)
	}
	require.Equal(t, map[uint64]int{1: 5, 2: 5, 3: 5, 4: 5}, p.cut, "each is no witness against the others")
}

// A part that fails no more often than the rest is a false alarm, however often that is. Where most calls fail, the
// circuit of the whole is soon open.
func TestWhatFailsEverywhereIsNotCutUp(t *testing.T) {
	for _, share := range []float64{0.1, 0.25, 0.4, 0.6, 0.75, 0.9, 1} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			const calls = 2_000
			cut := 0
			for seed := range uint64(200) {
				p, whole := newParts(policy.Contrast{}, seed), policy.Evidence{}.NewTrip()
				for range calls {
					fails := p.random.Float64() < share
					p.call(1+p.random.Uint64N(10), fails)
					outcome := policy.Success
					if fails {
						outcome = policy.Failure
					}
					if whole.Record(time.Time{}, policy.Result{Outcome: outcome}) {
						break
					}
				}
				cut += len(p.cut)
			}
			t.Logf("%d of 2000 parts cut out", cut)
			require.LessOrEqual(t, cut, 3)
		})
	}
}

func TestNoPartOfFiftyThatFailNowAndThenIsCutOutInAMillionCalls(t *testing.T) {
	seeds := uint64(5)
	if testing.Short() {
		seeds = 1
	}
	for _, share := range []float64{0.0001, 0.001, 0.01, 0.05} {
		for seed := range seeds {
			p := newParts(policy.Contrast{}, seed)
			for range 1_000_000 {
				p.call(1+p.random.Uint64N(50), p.random.Float64() < share)
			}
			require.Empty(t, p.cut, "%v fail", share)
		}
	}
}

func TestWhereNothingElseIsCalledThereIsNoContrast(t *testing.T) {
	p := newParts(policy.Contrast{}, 1)
	for range 1000 {
		p.call(1, true)
	}
	require.Empty(t, p.cut)
	for range 3 {
		p.call(2, false)
		p.call(1, true)
	}
	require.Empty(t, p.cut, "three calls are too few")
}

// A made-up path fails once, and so do a thousand others between two calls of the part that is dead.
func TestAFloodOfMadeUpPartsHidesNoRealOne(t *testing.T) {
	for _, flood := range []int{1, 10, 30} {
		t.Run(fmt.Sprint(flood), func(t *testing.T) {
			most := 0
			for seed := range uint64(50) {
				p := newParts(policy.Contrast{}, seed)
				for i := uint64(0); p.cut[1] == 0; i++ {
					p.call(1, true)
					for j := range 3 * flood {
						p.call(2+uint64(j)%9, false)
					}
					for j := range flood {
						p.call(1_000+i*1000+uint64(j), true)
					}
					require.Less(t, i, uint64(2000), "it is never found")
				}
				require.Len(t, p.cut, 1)
				most = max(most, p.cut[1])
			}
			t.Logf("after %d failures at most", most)
		})
	}
}

func TestASuspectThatIsWellAgainOrNotCalledAnyMoreIsNone(t *testing.T) {
	p := newParts(policy.Contrast{}, 1)
	p.call(1, true)
	require.False(t, p.Quiet())
	p.call(1, false)
	require.True(t, p.Quiet())
	p.call(1, true)
	for range 1024 {
		require.False(t, p.Quiet())
		p.call(2, false)
	}
	for range 64 { // it is looked for now and then
		p.call(2, false)
	}
	require.True(t, p.Quiet())
}

func TestWhatMakesASuspect(t *testing.T) {
	of := func(part uint64, cause policy.Cause) policy.Result {
		return policy.Result{Outcome: policy.Failure, Part: part, Cause: cause}
	}
	for _, r := range []policy.Result{
		of(1, brokenPart),
		of(1, policy.Cause{Kind: policy.KindStatus, Status: 503}),
		of(1, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindTimeout}),
		of(1, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindReset}),
		of(1, policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindReset, Status: 200}),
		of(1, policy.Cause{Kind: policy.KindJudged, Status: 200}),
	} {
		require.True(t, policy.Contrast{}.Blames(r), "%v", r)
	}
	for _, r := range []policy.Result{
		partWell,
		of(0, brokenPart),
		of(1, policy.Cause{Kind: policy.KindStatus, Status: 429}),
		of(1, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindTimeout}),
		of(1, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindRefused}),
		of(1, policy.Cause{Phase: policy.PhaseDNS, Kind: policy.KindNotFound}),
		of(1, policy.Cause{Phase: policy.PhaseTLS, Kind: policy.KindCertificate}),
		of(1, policy.Cause{Kind: policy.KindLease}),
		of(1, policy.Cause{Phase: policy.PhaseHeaders, Kind: policy.KindNoAnswer}),
	} {
		require.False(t, policy.Contrast{}.Blames(r), "%v", r)
	}
	p := newParts(policy.Contrast{}, 1)
	for range 100 { // they are held against the rest
		require.False(t, p.Record(of(1, policy.Cause{Kind: policy.KindStatus, Status: 429}), p.random.Float64))
	}
	require.True(t, p.Quiet())
	p.call(2, true)
	for range 8 {
		p.call(2, true)
	}
	require.Empty(t, p.cut)
}

func TestContrastValidated(t *testing.T) {
	require.Equal(t, policy.Contrast{Failures: 4, Worth: 3, Parts: 16}, policy.Contrast{}.Validated())
	for field, c := range map[string]policy.Contrast{
		"Failures": {Failures: -1}, "Worth": {Worth: -1}, "Parts": {Parts: -1},
	} {
		require.Contains(t, messageOfPanic(t, func() { c.Validated() }), "Contrast."+field+" is -1; write a positive value")
	}
	require.Contains(t, messageOfPanic(t, func() { policy.Contrast{Parts: 65}.Validated() }), "write 64 or less")
	rules := policy.Rules{Trip: policy.Evidence{}, Probe: policy.Squares{}, Recover: policy.Ramp{}}
	require.True(t, rules.Validated().Parts.Off, "rules without one cut nothing out")
	rules.Parts = &policy.Contrast{}
	require.Equal(t, *policy.Adaptive{}.Rules().Parts, *rules.Validated().Parts)
}
