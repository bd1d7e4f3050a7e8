package statemachine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

// ramping is due for a probe 100 ms after each that failed, at any request, and recovers by a ramp.
var ramping = policy.Rules{
	Trip:    policy.Consecutive{Failures: 4},
	Probe:   policy.OpenTime{For: 100 * ms, Lease: time.Second},
	Recover: policy.Ramp{},
}

// recovering has one that is half-open at 1 s, in a fleet of so many members, one of which the upstream has answered.
func recovering(members int) *fellow {
	f := openFellow(ramping)
	for i := range members - 1 {
		f.hear(time.Second, fmt.Sprint("m", i), fleet.Opened)
	}
	f.hear(time.Second, "m0", fleet.Answered)
	p, _ := f.Acquire(epoch.Add(time.Second), time.Time{}, ToProbe)
	p.Return(epoch.Add(time.Second))
	if f.machine.state != policy.HalfOpen {
		panic(f.machine.state)
	}
	f.told.kinds()
	return f
}

func (f *fellow) hearRecovering(at time.Duration, m fleet.Message) {
	m.Kind = fleet.Recovering
	f.Hear(epoch.Add(at), m)
}

// grow has others succeed until the limit is so high.
func (f *fellow) grow(at time.Duration, limit int) {
	for f.limit() < limit {
		f.hearRecovering(at, fleet.Message{From: "m0", Successes: limit - f.limit()})
	}
}

func (f *fellow) asks(at time.Duration) Permit {
	p, _ := f.Acquire(epoch.Add(at), time.Time{}, ToProbe)
	return p
}

// Members that know at once what the others do let through as many as a ramp by itself would.
func TestTheLimitIsOfTheCallsOfAllMembers(t *testing.T) {
	const members = 8
	var all []*fellow
	for range members {
		all = append(all, recovering(members))
	}
	at := time.Second
	say := func(from int, m fleet.Message) {
		m.From = fmt.Sprint("m", from)
		for i, f := range all {
			if i != from {
				f.Hear(epoch.Add(at), m)
			}
		}
	}
	tell := func(from int) {
		if m, ok := all[from].TakeEvidence(); ok {
			say(from, m)
		}
	}
	for want := 2; want <= 64; want *= 2 {
		var calls []Permit
		by := make([]int, members)
		for n := range 10 * members {
			at += peers.Lag / members
			if p := all[n%members].asks(at); p.Granted() {
				calls = append(calls, p)
				by[n%members]++
				tell(n % members)
			}
		}
		require.Len(t, calls, want, "by member %v", by)
		at += 50 * ms
		for i, f := range all {
			for _, p := range calls {
				if p.circuit == f.Circuit {
					p.Done(epoch.Add(at), policy.Result{Outcome: policy.Success, Elapsed: 50 * ms})
				}
			}
			tell(i)
		}
		for _, f := range all {
			require.Equal(t, 2*want, f.limit())
		}
	}
}

func TestWhatIsToldOfARecovery(t *testing.T) {
	f := recovering(2)
	requireTold := func(want fleet.Message) {
		t.Helper()
		require.Equal(t, []fleet.Kind{fleet.Evidence}, f.told.kinds(), "there is something to take")
		got, ok := f.TakeEvidence()
		require.True(t, ok)
		want.Kind = fleet.Recovering
		require.Equal(t, want, got)
	}
	f.TakeEvidence()
	p, q, r := f.asks(time.Second), Permit{}, Permit{}
	requireTold(fleet.Message{Requests: 1, InFlight: 1})
	p.Done(epoch.Add(time.Second), policy.Result{Outcome: policy.Success, Elapsed: 80 * ms})
	requireTold(fleet.Message{Successes: 1, Took: 80 * ms})
	p, q, r = f.asks(time.Second), f.asks(time.Second), f.asks(time.Second)
	require.True(t, p.Granted() && q.Granted() && r.Granted())
	f.asks(time.Second)
	requireTold(fleet.Message{Requests: 4, InFlight: 3, Took: 80 * ms})
	p.Done(epoch.Add(time.Second), failed)
	requireTold(fleet.Message{InFlight: 2, Failures: 1, Took: 80 * ms})
	q.Done(epoch.Add(time.Second), policy.Result{Outcome: policy.Ignored})
	requireTold(fleet.Message{InFlight: 1, Took: 80 * ms})
	lookAt(f, epoch.Add(12*time.Second)) // its lease ends
	requireTold(fleet.Message{Took: 80 * ms})
	r.Done(epoch.Add(12*time.Second), failed)
	require.Empty(t, f.told.kinds())
	f.asks(12 * time.Second)
	requireTold(fleet.Message{Requests: 1, InFlight: 1, Failures: 1, Took: 80 * ms})
}

func TestWhoHasNotHeardOfAnAnswerHearsOfTheRecovery(t *testing.T) {
	f := openFellow(ramping)
	f.hearRecovering(time.Second, fleet.Message{From: "a", InFlight: 2, Failures: 2})
	f.hear(time.Second, "a", fleet.ProbeStarted)
	require.False(t, f.asks(time.Second).Granted())
	f.hearRecovering(time.Second, fleet.Message{From: "a", Successes: 1})
	require.True(t, f.asks(time.Second).Granted())
	require.Equal(t, policy.HalfOpen, f.machine.state)
}

func TestWhatOthersHaveInFlightTakesPlacesUntilItIsOver(t *testing.T) {
	full := func(say func(f *fellow)) bool {
		f := recovering(3)
		f.hearRecovering(time.Second, fleet.Message{From: "m0", InFlight: 1})
		f.hearRecovering(time.Second, fleet.Message{From: "m1", InFlight: 1})
		require.False(t, f.asks(time.Second+peers.Lag).Granted(), "a limit of two")
		say(f)
		return !f.asks(time.Second + 2*peers.Lag).Granted()
	}
	require.True(t, full(func(f *fellow) { f.hear(time.Second, "m1", fleet.Answered) }))
	require.False(t, full(func(f *fellow) { f.hearRecovering(time.Second, fleet.Message{From: "m1"}) }))
	require.False(t, full(func(f *fellow) { f.hear(time.Second, "m1", fleet.RecoveryFailed) }))
	require.False(t, full(func(f *fellow) { f.hear(time.Second, "m1", fleet.Recovered) }))

	f := recovering(40)
	for i := range 30 {
		f.hearRecovering(time.Second, fleet.Message{From: fmt.Sprint("m", i), InFlight: 1})
	}
	lease := policy.Ramp{}.NewRecover().Lease()
	f.Joint.Admitted = epoch.Add(time.Second + lease) // it is not its turn
	f.hear(time.Second+lease-peers.Lag, "m0", fleet.Asked)
	require.False(t, f.asks(time.Second+lease-peers.Lag).Granted())
	require.True(t, f.asks(time.Second+lease).Granted(), "those who said so are gone")
}

func TestAMemberHasItsEvenShareWhateverOthersSay(t *testing.T) {
	const members = 4
	f := recovering(members)
	f.random = 1 - 1e-9 // no chance to get in by chance
	lie := func(at time.Duration) {
		for i := range members - 1 {
			f.hearRecovering(at, fleet.Message{From: fmt.Sprint("m", i), InFlight: math.MaxInt, Requests: math.MaxInt, Failures: math.MaxInt, Took: math.MaxInt64})
		}
	}
	lie(time.Second)
	asks := func(at time.Duration) Permit {
		f.hear(at, "m0", fleet.Asked) // so that they are still there
		return f.asks(at)
	}
	require.False(t, asks(time.Second).Granted(), "none is left for each")
	require.False(t, asks(3*time.Second-1).Granted())
	p := asks(3 * time.Second)
	require.True(t, p.Granted(), "but as many as the limit in so many seconds as there are members")
	require.False(t, asks(9*time.Second).Granted(), "one at a time")
	p.Return(epoch.Add(3 * time.Second))
	require.False(t, asks(5*time.Second-1).Granted())
	p = asks(5 * time.Second)
	require.True(t, p.Granted())
	p.Return(epoch.Add(5 * time.Second))
	f.machine.canary.usual = 100 * ms
	require.False(t, asks(5800*ms-1).Granted())
	require.True(t, asks(5800*ms).Granted(), "or four times as long as calls usually take")

	f = recovering(members)
	f.random = 1 - 1e-9
	f.grow(time.Second, 3*members)
	for range 100 {
		lie(time.Second)
	}
	require.GreaterOrEqual(t, f.limit(), members)
	for n := range f.limit() / members {
		require.True(t, f.asks(time.Second+time.Duration(n)).Granted())
	}
	require.False(t, f.asks(time.Second+50).Granted())
}

// What one says it has in flight is believed up to four times what most have.
func TestOneMemberCannotFillTheLimitByItself(t *testing.T) {
	f := recovering(5)
	f.grow(time.Second, 19)
	for i := range 4 {
		f.hearRecovering(time.Second, fleet.Message{From: fmt.Sprint("m", i), InFlight: 2})
	}
	f.hearRecovering(time.Second+peers.Lag, fleet.Message{From: "m0", InFlight: 1000})
	require.Equal(t, 3*2+4*2+1, f.Joint.InFlight)
}

func TestFreePlacesAreSharedOutByChance(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		perSecond, inFlight int
		want                float64 // share of requests that get in
	}{
		{2000, 0, 4.0 / 50}, // 50 in the time in which nobody knows of the others
		{2000, 2, 2.0 / 50},
		{400, 0, 4.0 / 10},
		{100, 0, 1},
		{1000, 4, 0},
	} {
		f := recovering(20)
		f.grow(time.Second, 4)
		f.Joint.Requests, f.Joint.Counting = c.perSecond, epoch
		for n := range c.inFlight {
			f.hearRecovering(time.Second, fleet.Message{From: fmt.Sprint("m", n), InFlight: 1})
		}
		in := 0
		const tries = 10_000
		for range tries {
			f.random = random.Float64()
			if p := f.asks(time.Second); p.Granted() {
				in++
				p.Return(epoch.Add(time.Second))
			}
			f.Joint.Requests = c.perSecond
		}
		require.InDelta(t, c.want, float64(in)/tries, 0.02, "%+v", c)
	}
}

func TestRequestsOfAllMembersAreCountedOverTheLastSecondOrTwo(t *testing.T) {
	var j peers.Joint
	rate := func(at time.Duration) float64 {
		return float64(j.Requests) / epoch.Add(at).Sub(j.Counting).Seconds()
	}
	j.CountRequests(epoch, 1)
	for n := range 5000 {
		at := time.Duration(n) * 10 * ms
		j.CountRequests(epoch.Add(at), 3)
		if at > time.Second {
			require.InDelta(t, 300, rate(at), 10)
		}
	}
	j.CountRequests(epoch.Add(time.Hour), 3)
	require.Equal(t, 3, j.Requests)
	j.CountRequests(epoch.Add(time.Hour), math.MinInt)
	j.CountRequests(epoch.Add(time.Hour), math.MaxInt)
	require.Equal(t, 3+peers.MaxAsked, j.Requests)
}

func TestFailuresOfAMemberCountTwiceBetweenTwoOwnSuccesses(t *testing.T) {
	var j peers.Joint
	take := func(member string, failures int) int { return j.Take(member, peers.Report{}, failures) }
	require.Equal(t, 1, take("a", 1))
	require.Equal(t, 0, take("a", 0))
	require.Equal(t, 1, take("a", math.MaxInt))
	require.Equal(t, 0, take("a", 1))
	require.Equal(t, 2, take("b", 100))
	j.Successes++
	require.Equal(t, 2, take("a", 100))
	require.Equal(t, 0, take("a", 100))
}

func TestWhoRecoversIsAMember(t *testing.T) {
	f := recovering(1)
	require.Equal(t, 1, f.Members(epoch.Add(time.Second)))
	f.hearRecovering(time.Second, fleet.Message{From: "x"})
	require.Equal(t, 2, f.Members(epoch.Add(time.Second)))
	f.hearRecovering(time.Minute, fleet.Message{From: "x"})
	require.Equal(t, 2, f.Members(epoch.Add(time.Minute+peers.OpenedFor-1)))
	require.Equal(t, 1, f.Members(epoch.Add(time.Minute+2*peers.OpenedFor)))
}

func TestOwnSuccessesAreTakenIn(t *testing.T) {
	f := recovering(2)
	succeeds := func(elapsed time.Duration) {
		f.asks(time.Second).Done(epoch.Add(time.Second), policy.Result{Outcome: policy.Success, Elapsed: elapsed})
	}
	succeeds(80 * ms)
	require.Equal(t, 80*ms, f.Joint.Own)
	require.Equal(t, 2, f.Joint.Take("a", peers.Report{}, 9))
	require.Equal(t, 0, f.Joint.Take("a", peers.Report{}, 9))
	f.Joint.Own = 80 * ms
	succeeds(160 * ms)
	require.Equal(t, 90*ms, f.Joint.Own, "a moving mean of an eighth")
	require.Equal(t, 2, f.Joint.Take("a", peers.Report{}, 9))
}

// What others have in flight shows that all that a ramp allows is needed.
func TestACircuitDoesNotCloseWhileOthersNeedTheLimit(t *testing.T) {
	for inFlight, closes := range map[int]bool{2: true, 7: false} {
		f := recovering(2)
		f.grow(time.Second, 8)
		f.hearRecovering(time.Second, fleet.Message{From: "m0", InFlight: inFlight})
		for n := range 4 {
			at := time.Second + time.Duration(n+1)*peers.Lag
			p := f.asks(at) // its even share
			require.True(t, p.Granted())
			p.Done(epoch.Add(at), well)
		}
		require.Equal(t, closes, f.machine.state == policy.Closed, "%d of others", inFlight)
	}
}

// Or they would be waited for while a bus is gone.
func TestWhoHearsNothingForASecondRecoversByItself(t *testing.T) {
	f := recovering(20)
	for i := range 19 {
		f.hearRecovering(time.Second, fleet.Message{From: fmt.Sprint("m", i), InFlight: 1, Requests: 1000})
	}
	require.False(t, f.asks(2*time.Second-1).Granted())
	require.True(t, f.asks(2*time.Second).Granted())
	require.True(t, f.asks(2*time.Second).Granted())
	f.hear(2*time.Second, "m0", fleet.Asked)
	require.False(t, f.asks(2*time.Second).Granted())
}

func TestReportsAreBounded(t *testing.T) {
	var j peers.Joint
	for range 2 {
		for i := range 2 * peers.MaxOthers {
			j.Take(fmt.Sprint(i), peers.Report{InFlight: 1}, 0)
		}
	}
	require.Len(t, j.Others, peers.MaxOthers)
}

func TestARecoveryBeginsAnew(t *testing.T) {
	f := openFellow(ramping)
	f.random = 1 - 1e-9
	begin := func(at time.Duration) Permit {
		for i := range 9 {
			f.hear(at, fmt.Sprint("m", i), fleet.Opened)
			f.hearRecovering(at, fleet.Message{From: fmt.Sprint("m", i), InFlight: 1, Requests: 1000, Failures: 2})
		}
		f.hear(at, "m0", fleet.Answered)
		p := f.asks(at)
		require.Equal(t, policy.HalfOpen, f.machine.state)
		return p
	}
	require.False(t, begin(time.Hour).Granted(), "the limit is not this one's since long ago")
	p := f.asks(time.Hour + 5*time.Second)
	require.True(t, p.Granted())
	p.Done(epoch.Add(time.Hour), well)
	require.NotZero(t, f.Joint.Own)
	f.Set(policy.Open, epoch.Add(time.Hour))
	require.False(t, begin(2*time.Hour).Granted())
	require.Zero(t, f.Joint.Own)
	f.hearRecovering(2*time.Hour, fleet.Message{From: "m0", Failures: 2})
	f.Set(policy.Open, epoch.Add(2*time.Hour))
	begin(3 * time.Hour)
	require.Equal(t, 2, f.Joint.Take("m0", peers.Report{}, 2))
}

func TestFailuresOfOthersHalveALimitThatLeavesOneForEach(t *testing.T) {
	for limit, halved := range map[int]int{7: 7, 8: 4, 20: 10} {
		f := recovering(4)
		f.grow(time.Second, limit)
		for range 10 {
			f.hearRecovering(time.Second, fleet.Message{From: "m0", Failures: 10})
		}
		require.Equal(t, limit, f.limit(), "one alone halves nothing")
		f.Joint.Successes++ // what others succeeded with before weighs as much as failures
		for i := range 3 {
			for range 10 {
				f.hearRecovering(time.Second, fleet.Message{From: fmt.Sprint("m", i), Failures: 10})
				f.Joint.Successes++
			}
		}
		require.Equal(t, halved, f.limit())
		require.Equal(t, policy.HalfOpen, f.machine.state)
	}
}

func TestWhatACallTakesAtMostMembers(t *testing.T) {
	for name, c := range map[string]struct {
		usual, own time.Duration
		others     []time.Duration
		members    int
		want       time.Duration
	}{
		"the median":                     {100 * ms, 100 * ms, []time.Duration{80 * ms, 90 * ms, 110 * ms, 1}, 5, 90 * ms},
		"no own one":                     {100 * ms, 0, []time.Duration{80 * ms, 90 * ms, 110 * ms}, 4, 90 * ms},
		"too few say anything":           {100 * ms, 0, []time.Duration{80 * ms, 90 * ms, 0, 0}, 5, 0},
		"two are all there are":          {100 * ms, 90 * ms, []time.Duration{110 * ms}, 2, 110 * ms},
		"far less than usual":            {100 * ms, 100 * ms, []time.Duration{1, 1, 1, 1}, 5, 50 * ms},
		"far less, and nothing is usual": {0, 60 * ms, []time.Duration{1, 1, 1, 1}, 5, 30 * ms},
		"nothing to compare it with":     {0, 0, []time.Duration{1, 1, 1, 1}, 5, 0},
		"far more":                       {100 * ms, 60 * ms, []time.Duration{math.MaxInt64, math.MaxInt64, math.MaxInt64}, 4, 180 * ms},
	} {
		t.Run(name, func(t *testing.T) {
			f := recovering(c.members)
			f.machine.canary.usual, f.Joint.Own = c.usual, c.own
			for i, took := range c.others {
				f.Joint.Take(fmt.Sprint("m", i), peers.Report{Took: took, Until: epoch.Add(time.Hour)}, 0)
			}
			f.Sweep(epoch.Add(2 * time.Second))
			require.Equal(t, c.want, f.Joint.Took)
		})
	}
}

// A trial of a few probes is not shared out: each member makes its own.
func TestOthersTakeNoPlaceOfATrial(t *testing.T) {
	f := openFellow(classic)
	require.True(t, f.asks(time.Hour).Granted())
	require.Equal(t, policy.HalfOpen, f.machine.state)
	for i := range 10 {
		f.hearRecovering(time.Hour, fleet.Message{From: fmt.Sprint("m", i), InFlight: 10})
	}
	require.True(t, f.asks(time.Hour).Granted())
}
