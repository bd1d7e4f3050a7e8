package statemachine

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

func failedBy(status int, trace string) policy.Result {
	return policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindStatus, Status: status}, Trace: trace}
}

func TestSamplesAreTheLatestEightCauses(t *testing.T) {
	var s samples
	require.Empty(t, s.list())
	for i := range 20 {
		s.add(epoch.Add(time.Duration(i)*time.Second), failedBy(500+i, ""))
	}
	require.Len(t, s.kept, maxSamples)
	for i, sample := range s.list() {
		require.Equal(t, policy.Sample{Cause: failedBy(519-i, "").Cause, Count: 1, At: epoch.Add(time.Duration(19-i) * time.Second)}, sample)
	}
	s.add(epoch.Add(time.Hour), failedBy(514, "trace")) // one in the middle comes to the front
	var statuses []int
	for _, sample := range s.list() {
		statuses = append(statuses, sample.Cause.Status)
	}
	require.Equal(t, []int{514, 519, 518, 517, 516, 515, 513, 512}, statuses)
	require.Equal(t, policy.Sample{Cause: failedBy(514, "").Cause, Count: 2, At: epoch.Add(time.Hour), Trace: "trace"}, s.list()[0])
	s.add(epoch.Add(2*time.Hour), failedBy(514, ""))
	require.Equal(t, "trace", s.list()[0].Trace, "the last that had one")
	require.EqualValues(t, 3, s.list()[0].Count)
}

func TestCausesThatDifferInAnythingAreSamplesOfTheirOwn(t *testing.T) {
	var s samples
	for _, cause := range []policy.Cause{
		{Kind: policy.KindTimeout}, {Kind: policy.KindTimeout, Phase: policy.PhaseBody},
		{Kind: policy.KindTimeout, Deadline: policy.DeadlineLimit}, {Kind: policy.KindTimeout, Status: 200},
	} {
		s.add(epoch, policy.Result{Cause: cause})
	}
	require.Len(t, s.list(), 4)
}

// TestSamplesAsANaiveListHasThem compares with a list that is sorted anew each time, and makes sure that no list which was
// given away changes.
func TestSamplesAsANaiveListHasThem(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s samples
		var naive []policy.Sample // the latest first
		var given, copies [][]policy.Sample
		for i := range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "look") {
				given, copies = append(given, s.list()), append(copies, slices.Clone(s.list()))
				continue
			}
			now := epoch.Add(time.Duration(i) * time.Second)
			r := failedBy(rapid.IntRange(500, 511).Draw(t, "status"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "trace"))
			s.add(now, r)
			sample := policy.Sample{Cause: r.Cause}
			if at := slices.IndexFunc(naive, func(k policy.Sample) bool { return k.Cause == r.Cause }); at >= 0 {
				sample = naive[at]
				naive = slices.Delete(naive, at, at+1)
			}
			sample.Count, sample.At = sample.Count+1, now
			if r.Trace != "" {
				sample.Trace = r.Trace
			}
			naive = slices.Insert(naive, 0, sample)
			naive = naive[:min(len(naive), maxSamples)]
			require.Equal(t, naive, s.kept)
		}
		for i := range given {
			require.Equal(t, copies[i], given[i])
		}
	})
}

func TestAnUnreadListOfSamplesIsNotCopied(t *testing.T) {
	var s samples
	for i := range maxSamples {
		s.add(epoch, failedBy(500+i, ""))
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { s.add(epoch, failedBy(503, "")) }))
}

func TestALeaseThatEndsIsASample(t *testing.T) {
	r := newRig(classic)
	r.Set(policy.HalfOpen, epoch)
	_, refusal := r.Acquire(epoch, time.Time{}, ToProbe)
	require.Equal(t, policy.NotRefused, refusal.Reason)
	lookAt(r, epoch.Add(time.Hour))
	samples := r.told.changes[len(r.told.changes)-1].Samples
	require.Len(t, samples, 1)
	require.Equal(t, policy.KindLease, samples[0].Cause.Kind)
}
