package policy_test

import (
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// scoreOf is the score that a Trip of policy.Evidence has come to.
func scoreOf(trip policy.Trip) int {
	score, _ := trip.Counts()
	return score
}

// needed is how many failures in a row trip a rule that has just started, at a time.
func needed(t *testing.T, trip policy.Trip, at time.Time) int {
	t.Helper()
	require.Zero(t, scoreOf(trip))
	for n := 1; n <= 1000; n++ {
		if trip.Record(at, failure) {
			return n
		}
	}
	t.Fatal("a thousand failures do not trip it")
	return 0
}

func TestScoreOfEvidence(t *testing.T) {
	cases := []struct {
		name   string
		rule   policy.Evidence
		calls  string
		scores []int // after each call
		trips  []int // the calls, counted from 1, at which Record reports true
	}{
		{"default: six failures", policy.Evidence{}, "FFFFFF", []int{1, 2, 3, 4, 5, 6}, []int{6}},
		{"default: a success is worth three", policy.Evidence{}, "FFFFFSFFFF", []int{1, 2, 3, 4, 5, 2, 3, 4, 5, 6}, []int{10}},
		{"never below zero", policy.Evidence{}, "SSFSFFS", []int{0, 0, 1, 0, 1, 2, 0}, nil},
		{"successes before say nothing", policy.Evidence{}, repeat("S", 9) + "FFFFFF", []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6}, []int{15}},
		{"at the threshold and not before", policy.Evidence{Threshold: 2, Worth: 1}, "FSFFF", []int{1, 0, 1, 2, 3}, []int{4, 5}},
		{"one failure", policy.Evidence{Threshold: 1}, "SF", []int{0, 1}, []int{2}},
		{"a success is worth one", policy.Evidence{Threshold: 4, Worth: 1}, "FFSFFSFF", []int{1, 2, 1, 2, 3, 2, 3, 4}, []int{8}},
		{"a success is worth more than the threshold", policy.Evidence{Threshold: 3, Worth: 9}, "FFSFFF", []int{1, 2, 0, 1, 2, 3}, []int{6}},
		{"a success does not trip, however much there is", policy.Evidence{Threshold: 2, Worth: 1}, "FFFFS", []int{1, 2, 3, 4, 3}, []int{2, 3, 4}},
		{"slow calls are calls", policy.Evidence{Threshold: 3}, "ffsf", []int{1, 2, 0, 1}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trip := c.rule.NewTrip()
			var scores, trips []int
			for i, r := range results(c.calls) {
				if trip.Record(epoch, r) {
					trips = append(trips, i+1)
				}
				failures, successes := trip.Counts()
				require.Zero(t, successes)
				scores = append(scores, failures)
				require.Equal(t, failures == 0, trip.Quiet(), "quiet when a success would change nothing, and only then")
			}
			require.Equal(t, c.scores, scores)
			require.Equal(t, c.trips, trips)
		})
	}
}

// Whatever the parameters and the calls, the rule is the few lines of this model.
func TestEvidenceIsACUSUM(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		threshold, worth := rapid.IntRange(1, 20).Draw(t, "threshold"), rapid.IntRange(1, 20).Draw(t, "worth")
		trip := policy.Evidence{Threshold: threshold, Worth: worth}.NewTrip()
		score, now := 0, epoch
		for i, fails := range rapid.SliceOfN(rapid.Bool(), 0, 200).Draw(t, "fails") {
			now = now.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(30*time.Second)-1).Draw(t, "step")))
			result := success
			if fails {
				result, score = failure, score+1
			} else {
				score = max(0, score-worth)
			}
			require.Equal(t, fails && score >= threshold, trip.Record(now, result), "call %d", i)
			require.Equal(t, score, scoreOf(trip), "call %d", i)
		}
	})
}

func TestWhereTrafficIsThinAFailureCountsFiveTimes(t *testing.T) {
	const s = time.Second
	cases := []struct {
		name   string
		calls  string
		gaps   []time.Duration // before each call
		scores []int
		trips  bool // at the last call
	}{
		{"half a minute: the second trips", "FF", []time.Duration{0, 30 * s}, []int{1, 6}, true},
		{"and not before", "FF", []time.Duration{0, 30*s - 1}, []int{1, 2}, false},
		{"one that follows at once counts once", "FFF", []time.Duration{0, 29 * s, 29 * s}, []int{1, 2, 3}, false},
		{"not the first", "SFSF", []time.Duration{0, time.Hour, time.Hour, time.Hour}, []int{0, 1, 0, 1}, false},
		{"a call between", "FFFFSF", []time.Duration{0, 0, 0, 0, 20 * s, 20 * s}, []int{1, 2, 3, 4, 1, 2}, false},
		{"not after a success", "FFFFSF", []time.Duration{0, 0, 0, 0, 0, time.Minute}, []int{1, 2, 3, 4, 1, 2}, false},
		{"time that runs backwards", "FF", []time.Duration{0, -time.Hour}, []int{1, 2}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trip, now, tripped := policy.Evidence{}.NewTrip(), epoch, false
			var scores []int
			for i, r := range results(c.calls) {
				now = now.Add(c.gaps[i])
				tripped = trip.Record(now, r)
				scores = append(scores, scoreOf(trip))
			}
			require.Equal(t, c.scores, scores)
			require.Equal(t, c.trips, tripped)
		})
	}
}

func TestAFalseAlarmMakesWary(t *testing.T) {
	const m = time.Minute
	type start struct {
		at           time.Duration
		failedProbes int
	}
	cases := []struct {
		name   string
		rule   policy.Evidence
		starts []start
		at     time.Duration
		want   int // failures in a row
	}{
		{"before any", policy.Evidence{}, nil, 0, 6},
		{"one", policy.Evidence{}, []start{{0, 0}}, 0, 18},
		{"one failed probe is one still", policy.Evidence{}, []start{{0, 1}}, 0, 18},
		{"four failed probes too", policy.Evidence{}, []start{{0, 4}}, 0, 18},
		{"five are none", policy.Evidence{}, []start{{0, 5}}, 0, 6},
		{"a hundred are none", policy.Evidence{}, []start{{0, 100}}, 0, 6},
		{"for ten minutes", policy.Evidence{}, []start{{0, 0}}, 10*m - 1, 18},
		{"and no longer", policy.Evidence{}, []start{{0, 0}}, 10 * m, 6},
		{"two", policy.Evidence{}, []start{{0, 0}, {m, 0}}, m, 30},
		{"many are five times at most", policy.Evidence{}, []start{{0, 0}, {m, 0}, {2 * m, 0}, {3 * m, 1}, {4 * m, 4}}, 4 * m, 30},
		{"ten minutes from the last", policy.Evidence{}, []start{{0, 0}, {9 * m, 0}}, 19*m - 1, 30},
		{"and no longer, of two", policy.Evidence{}, []start{{0, 0}, {9 * m, 0}}, 19 * m, 6},
		{"the first is forgotten by then", policy.Evidence{}, []start{{0, 0}, {10 * m, 0}}, 10 * m, 18},
		{"eight failed probes confirm no outage", policy.Evidence{}, []start{{0, 0}, {m, 5}, {m, 8}}, m, 18},
		{"and do not make it last longer", policy.Evidence{}, []start{{0, 0}, {m, 8}}, 10 * m, 6},
		{"nine do, which ends it", policy.Evidence{}, []start{{0, 0}, {m, 9}}, m, 6},
		{"and one after the outage is the first", policy.Evidence{}, []start{{0, 0}, {m, 0}, {2 * m, 20}, {3 * m, 0}}, 3 * m, 18},
		{"of another threshold", policy.Evidence{Threshold: 1}, []start{{0, 0}}, 0, 3},
		{"of another threshold, at most", policy.Evidence{Threshold: 1}, []start{{0, 0}, {0, 0}, {0, 0}}, 0, 5},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trip := c.rule.NewTrip()
			for _, s := range c.starts {
				trip.Start(epoch.Add(s.at), s.failedProbes)
			}
			require.Equal(t, c.want, needed(t, trip, epoch.Add(c.at)))
		})
	}
}

func TestWarinessEndsWhileThereIsEvidence(t *testing.T) {
	trip := policy.Evidence{}.NewTrip()
	trip.Start(epoch, 0)
	for range 10 {
		require.False(t, trip.Record(epoch.Add(10*time.Minute-1), failure))
	}
	require.True(t, trip.Record(epoch.Add(10*time.Minute), failure), "the eleventh: six are enough by now")
}

func TestStartForgetsTheEvidence(t *testing.T) {
	trip := policy.Evidence{}.NewTrip()
	for _, failedProbes := range []int{5, 0} {
		for range 5 {
			require.False(t, trip.Record(epoch, failure))
		}
		trip.Start(epoch, failedProbes)
		require.Zero(t, scoreOf(trip))
		require.True(t, trip.Quiet())
	}
}

func TestCircuitsOfOneEvidenceShareNoMemory(t *testing.T) {
	rule := policy.Evidence{Threshold: 2}
	one, other := rule.NewTrip(), rule.NewTrip()
	one.Start(epoch, 0)
	require.False(t, one.Record(epoch, failure))
	require.Equal(t, 2, needed(t, other, epoch))
}

func TestSenselessEvidencePanics(t *testing.T) {
	require.Contains(t, messageOfPanic(t, func() { policy.Evidence{Threshold: -1}.NewTrip() }),
		"Evidence.Threshold is -1; write a positive value, or 0 for the default of 6")
	require.Contains(t, messageOfPanic(t, func() { policy.Evidence{Worth: -1}.NewTrip() }),
		"Evidence.Worth is -1; write a positive value, or 0 for the default of 3")
}

// callsToTrip is how many calls it takes on average, from score 0, until a rule trips by calls of which a share fails.
// The score is a Markov chain. From the score s it takes e(s) = 1 + share·e(s+1) + (1-share)·e(max(0, s-worth)) calls,
// and e(threshold) = 0. Written in d(s) = e(0) - e(s), which is 0 at 0, this gives d(s+1) from those before it, and
// d(threshold) is e(0).
func callsToTrip(threshold, worth int, share float64) float64 {
	d := make([]float64, threshold+1)
	for s := range threshold {
		d[s+1] = (1 + d[s] - (1-share)*d[max(0, s-worth)]) / share
	}
	return d[threshold]
}

func TestCallsToTripOfCasesThatAreKnown(t *testing.T) {
	require.Equal(t, 6.0, callsToTrip(6, 3, 1), "all fail")
	require.InDelta(t, 10, callsToTrip(1, 3, 0.1), 1e-9, "the first failure: geometric")
	// A success that takes back all is a run of n failures: (1-p^n) / ((1-p) p^n).
	require.InDelta(t, 62, callsToTrip(5, 5, 0.5), 1e-9, "five heads in a row")
	require.InEpsilon(t, (1-math.Pow(0.9, 8))/(0.1*math.Pow(0.9, 8)), callsToTrip(8, 8, 0.9), 1e-9)
	// A success that is worth a failure is a fair walk with a floor: n(n+1).
	require.InDelta(t, 20*21, callsToTrip(20, 1, 0.5), 1e-6)
}

// simulated counts the calls until the rule itself trips, on average over trials.
func simulated(rule policy.Evidence, share float64, trials int, random *rand.Rand) float64 {
	calls := 0
	for range trials {
		trip := rule.NewTrip()
		for tripped := false; !tripped; calls++ {
			result := success
			if random.Float64() < share {
				result = failure
			}
			tripped = trip.Record(epoch, result)
		}
	}
	return float64(calls) / float64(trials)
}

func TestEvidenceTakesAsManyCallsAsItsChainSays(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		rule   policy.Evidence
		shares []float64
	}{
		{policy.Evidence{Threshold: 6, Worth: 3}, []float64{1, 0.9, 0.8, 0.75, 0.67, 0.5, 0.3}},
		{policy.Evidence{Threshold: 8, Worth: 3}, []float64{1, 0.9, 0.75, 0.5}},
		{policy.Evidence{Threshold: 5, Worth: 1}, []float64{1, 0.7, 0.5, 0.4}},
		{policy.Evidence{Threshold: 4, Worth: 7}, []float64{1, 0.5, 0.3}},
	} {
		for _, share := range c.shares {
			want := callsToTrip(c.rule.Threshold, c.rule.Worth, share)
			trials := int(min(10_000, 1e6/want)) // the standard deviation is about the mean
			got := simulated(c.rule, share, trials, random)
			require.InEpsilon(t, want, got, 4/math.Sqrt(float64(trials)), "%+v, share %v", c.rule, share)
		}
	}
}

func TestHowLongTheDefaultEvidenceTakes(t *testing.T) {
	for percent, want := range map[float64]float64{
		100: 6, 90: 8.41896, 80: 12.97974, 75: 16.84499, 67: 27.53956, 50: 116, 30: 1898.573, 10: 1.10922e6, 5: 6.735284e7, 1: 1.010099e12,
	} {
		require.InEpsilon(t, want, callsToTrip(6, 3, percent/100), 1e-6, "%v %%", percent)
	}
	require.InEpsilon(t, 5238, callsToTrip(18, 3, 0.6), 1e-4, "after a false alarm, as the doc comment says")
}

// The table in Evidence's doc comment is what the rule does.
func TestTheTableOfEvidenceIsRight(t *testing.T) {
	source, err := os.ReadFile("evidence.go")
	require.NoError(t, err)
	row := regexp.MustCompile(`^//\t\s*(\d+(?:\.\d+)?) %\s+([0-9.,e+]+)$`)
	rows := 0
	for line := range strings.Lines(string(source)) {
		cells := row.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if cells == nil {
			continue
		}
		rows++
		percent, err := strconv.ParseFloat(cells[1], 64)
		require.NoError(t, err, "%s", line)
		calls, err := strconv.ParseFloat(strings.ReplaceAll(cells[2], ",", ""), 64)
		require.NoError(t, err, "%s", line)
		require.InEpsilon(t, callsToTrip(6, 3, percent/100), calls, 0.01, "%s", line)
	}
	require.NotZero(t, rows, "no line of evidence.go is a row of the table, such as \"//\\t 50 %%          202\"")
}
