package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var (
	success = policy.Result{Outcome: policy.Success}
	failure = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindStatus, Status: 500}}
)

// results reads a string of S and F; s and f are the same but slow.
func results(letters string) []policy.Result {
	byLetter := map[rune]policy.Result{
		'S': success, 'F': failure,
		's': {Outcome: policy.Success, Elapsed: 2 * time.Second}, 'f': {Outcome: policy.Failure, Elapsed: 2 * time.Second},
	}
	all := make([]policy.Result, 0, len(letters))
	for _, letter := range letters {
		all = append(all, byLetter[letter])
	}
	return all
}

// repeat returns n times the letters.
func repeat(letters string, n int) string {
	text := ""
	for range n {
		text += letters
	}
	return text
}

func TestWhenTripRulesTrip(t *testing.T) {
	perCall := func(percent, calls, minimum int) policy.TripRule {
		return policy.FailureShare{Percent: percent, Calls: calls, Minimum: minimum}
	}
	slow := policy.SlowShare{Slower: time.Second, Percent: 50, Calls: 4, Minimum: 4}
	cases := []struct {
		name  string
		rule  policy.TripRule
		calls string
		trips []int // the calls, counted from 1, at which Record reports true
	}{
		{"default is five in a row", policy.Consecutive{}, "FFFFFF", []int{5, 6}},
		{"one in a row", policy.Consecutive{Failures: 1}, "SF", []int{2}},
		{"a success starts the row anew", policy.Consecutive{Failures: 3}, "FFSFFSFFF", []int{9}},
		{"failures that never are in a row", policy.Consecutive{Failures: 2}, "FSFSFSFSFS", nil},

		{"no share before the minimum", perCall(50, 10, 4), "FFFF", []int{4}},
		{"default minimum is ten", perCall(100, 0, 0), "FFFFFFFFFF", []int{10}},
		{"default minimum is no more than the calls in view", perCall(100, 3, 0), "FFF", []int{3}},
		{"default share is half", perCall(0, 4, 4), "SSSFF", []int{5}},
		{"exactly the share", perCall(50, 4, 4), "SSFF", []int{4}},
		{"a call short of the share", perCall(75, 4, 4), "SSFF", nil},
		{"no failure, no trip", perCall(1, 10, 1), "SSSSSSSSSSSS", nil},
		{"57 of 100 is 57 %", perCall(57, 100, 100), repeat("S", 43) + repeat("F", 57), []int{100}},
		{"56 of 100 is not 57 %", perCall(57, 100, 100), repeat("S", 44) + repeat("F", 56), nil},
		{"29 of 100 is 29 %", perCall(29, 100, 100), repeat("S", 71) + repeat("F", 29), []int{100}},
		{"1 of 3 is not 34 %", perCall(34, 3, 3), "FSS", nil},
		{"1 of 3 is 33 %", perCall(33, 3, 3), "SSF", []int{3}},
		{"calls out of view do not count", perCall(100, 2, 2), "FSFSF", nil},
		{"successes leave the view too", perCall(100, 3, 3), "SSSFFF", []int{6}},
		{"the view of the share is a hundred calls by default", perCall(51, 0, 0), repeat("S", 10) + repeat("F", 10) + repeat("S", 90) + repeat("F", 51), []int{161}},

		{"slow calls, whether they succeed or fail", slow, "SSsf", []int{4}},
		{"fast failures are not slow", slow, "FFFFFFFF", nil},
		{"as long as Slower is not longer", policy.SlowShare{Slower: 2 * time.Second, Percent: 1, Calls: 4, Minimum: 1}, "ssss", nil},

		{"any of: the first", policy.AnyOf(policy.Consecutive{Failures: 2}, slow), "FF", []int{2}},
		{"any of: the second", policy.AnyOf(policy.Consecutive{Failures: 2}, slow), "ssss", []int{4}},
		{"any of: the others see what tripped the first", policy.AnyOf(
			policy.SlowShare{Slower: time.Second, Percent: 100, Calls: 1}, policy.Consecutive{Failures: 2},
		), "fF", []int{1, 2}},
		{"any of: none", policy.AnyOf(policy.Consecutive{Failures: 2}, slow), "FSFSsSSs", []int{8}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trip := c.rule.NewTrip()
			var trips []int
			for i, r := range results(c.calls) {
				if trip.Record(epoch, r) {
					trips = append(trips, i+1)
				}
			}
			require.Equal(t, c.trips, trips)
		})
	}
}

func TestFailureShareOverAWindow(t *testing.T) {
	const ms = time.Millisecond
	type moment struct {
		at                  time.Duration
		calls               string
		trips               bool // the last of the calls
		failures, successes int
	}
	cases := []struct {
		name    string
		moments []moment
	}{
		{"a call is in view for a window", []moment{
			{0, "FFF", false, 3, 0},
			{999 * ms, "F", true, 4, 0},
		}},
		{"and out of it after", []moment{
			{0, "FFF", false, 3, 0},
			{1000 * ms, "F", false, 1, 0},
		}},
		{"slots leave one by one", []moment{
			{0, "F", false, 1, 0},
			{100 * ms, "F", false, 2, 0},
			{250 * ms, "S", false, 2, 1},
			{1000 * ms, "S", false, 1, 2},
			{1100 * ms, "S", false, 0, 3},
			{1199 * ms, "S", false, 0, 4},
			{1200 * ms, "S", false, 0, 4},
		}},
		{"a slot is a tenth from the first call on, not from the last", []moment{
			{0, "F", false, 1, 0},
			{150 * ms, "F", false, 2, 0},
			{1090 * ms, "S", false, 1, 1},
			{1100 * ms, "S", false, 0, 2},
		}},
		{"a gap larger than the window empties it", []moment{
			{0, "FFFFF", true, 5, 0},
			{time.Hour, "S", false, 0, 1},
			{time.Hour + 500*ms, "SFF", true, 2, 2},
		}},
		{"a gap of a window less a slot leaves the newest", []moment{
			{0, "FF", false, 2, 0},
			{900 * ms, "S", false, 2, 1},
			{1000 * ms, "S", false, 0, 2},
		}},
		{"time that runs backwards counts in the newest slot", []moment{
			{500 * ms, "F", false, 1, 0},
			{0, "F", false, 2, 0},
			{-time.Hour, "F", false, 3, 0},
			{1499 * ms, "F", true, 4, 0},
			{1500 * ms, "S", false, 1, 1},
		}},
		{"the minimum is of the calls in view", []moment{
			{0, "SSSSSSSS", false, 0, 8},
			{1000 * ms, "FFF", false, 3, 0},
			{1001 * ms, "F", true, 4, 0},
		}},
		{"a share in integers", []moment{
			{0, "SSSS", false, 0, 4},
			{900 * ms, "FFF", false, 3, 4},
			{950 * ms, "F", true, 4, 4},
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trip := policy.FailureShare{Percent: 50, Window: time.Second, Minimum: 4}.NewTrip()
			for _, m := range c.moments {
				tripped := false
				for _, r := range results(m.calls) {
					tripped = trip.Record(epoch.Add(m.at), r)
				}
				failures, successes := trip.Counts()
				require.Equal(t, m, moment{m.at, m.calls, tripped, failures, successes})
			}
		})
	}
}

func TestTinyWindowDoesNotDivideByZero(t *testing.T) {
	trip := policy.FailureShare{Window: time.Nanosecond, Minimum: 2}.NewTrip()
	require.False(t, trip.Record(epoch, failure))
	require.True(t, trip.Record(epoch, failure))
	require.False(t, trip.Record(epoch.Add(time.Second), failure))
}

func TestStartForgetsEverything(t *testing.T) {
	rules := map[string]policy.TripRule{
		"Consecutive":            policy.Consecutive{Failures: 4},
		"FailureShare of calls":  policy.FailureShare{Calls: 8, Minimum: 4},
		"FailureShare of time":   policy.FailureShare{Window: time.Second, Minimum: 4},
		"AnyOf":                  policy.AnyOf(policy.FailureShare{Calls: 8, Minimum: 4}, policy.Consecutive{Failures: 4}),
		"SlowShare of slow time": policy.SlowShare{Slower: time.Second, Window: time.Second, Minimum: 4},
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			trip := rule.NewTrip()
			for range 2 {
				for _, r := range results("fff") {
					require.False(t, trip.Record(epoch, r))
				}
				failures, successes := trip.Counts()
				require.Equal(t, []int{3, 0}, []int{failures, successes})
				trip.Start(time.Time{}, 0)
				failures, successes = trip.Counts()
				require.Zero(t, failures+successes)
			}
		})
	}
}

func TestSuccessZeroesTheCount(t *testing.T) {
	trip := policy.Consecutive{}.NewTrip()
	trip.Record(epoch, failure)
	trip.Record(epoch, failure)
	failures, successes := trip.Counts()
	require.Equal(t, []int{2, 0}, []int{failures, successes})
	trip.Record(epoch, success)
	failures, successes = trip.Counts()
	require.Equal(t, []int{0, 0}, []int{failures, successes})
}

// A rule that is quiet is not told of successes, so none may matter to it.
func TestQuietIsWhenASuccessWouldChangeNothing(t *testing.T) {
	cases := []struct {
		name  string
		rule  policy.TripRule
		calls string
		quiet bool
	}{
		{"nothing failed", policy.Consecutive{}, "SS", true},
		{"a failure in view", policy.Consecutive{}, "F", false},
		{"a success after it", policy.Consecutive{}, "FS", true},
		{"a share counts successes", policy.FailureShare{}, "", false},
		{"a slow share counts fast calls", policy.SlowShare{Slower: 1}, "", false},
		{"any of quiet rules", policy.AnyOf(policy.Consecutive{}, policy.Consecutive{Failures: 9}), "", true},
		{"any of rules one of which is not", policy.AnyOf(policy.Consecutive{}, policy.FailureShare{}), "", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			trip := c.rule.NewTrip()
			for _, r := range results(c.calls) {
				trip.Record(epoch, r)
			}
			require.Equal(t, c.quiet, trip.Quiet())
		})
	}
}

func TestOnlyRulesThatLookAtTheTimeAreTimed(t *testing.T) {
	slow := policy.SlowShare{Slower: time.Second}
	for _, timed := range []policy.TripRule{slow, policy.AnyOf(policy.Consecutive{}, slow), policy.AnyOf(policy.AnyOf(slow))} {
		require.True(t, isTimed(timed), timed)
	}
	for _, untimed := range []policy.TripRule{
		policy.Evidence{}, policy.Consecutive{}, policy.FailureShare{}, policy.AnyOf(policy.Consecutive{}, policy.FailureShare{}),
	} {
		require.False(t, isTimed(untimed), untimed)
	}
}

func isTimed(rule policy.TripRule) bool {
	timed, ok := rule.NewTrip().(policy.Timed)
	return ok && timed.Timed()
}

func TestTheGaugeOfAnyOfIsThatOfTheRuleNearestToTripping(t *testing.T) {
	gauge := func(rules ...policy.TripRule) []int {
		trip := policy.AnyOf(rules...).NewTrip()
		for _, r := range results("FFF") {
			trip.Record(epoch, r)
		}
		value, trips := trip.(policy.Gauge).Gauge(epoch)
		return []int{value, trips}
	}
	require.Equal(t, []int{3, 4}, gauge(policy.FailureShare{}, policy.Consecutive{Failures: 9}, policy.Consecutive{Failures: 4}, policy.Evidence{}))
	require.Equal(t, []int{3, 6}, gauge(policy.Evidence{}, policy.Consecutive{Failures: 9}))
	require.Equal(t, []int{0, 0}, gauge(policy.FailureShare{}), "no rule can tell")
}

func TestAnyOfCountsWhatItsFirstRuleCounts(t *testing.T) {
	trip := policy.AnyOf(policy.Consecutive{}, policy.FailureShare{}).NewTrip()
	for _, r := range results("SSFF") {
		trip.Record(epoch, r)
	}
	failures, successes := trip.Counts()
	require.Equal(t, []int{2, 0}, []int{failures, successes})
}

func TestCircuitsOfOneRuleShareNoMemory(t *testing.T) {
	rules := map[string]policy.TripRule{
		"Consecutive":  policy.Consecutive{Failures: 2},
		"FailureShare": policy.FailureShare{Calls: 2},
		"AnyOf":        policy.AnyOf(policy.Consecutive{Failures: 2}),
	}
	for name, rule := range rules {
		t.Run(name, func(t *testing.T) {
			one, other := rule.NewTrip(), rule.NewTrip()
			require.False(t, one.Record(epoch, failure))
			require.False(t, other.Record(epoch, failure))
			require.True(t, one.Record(epoch, failure))
		})
	}
}
