package dashboard

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func keyOf(i int) transport.Key {
	return transport.Key{Scheme: "http", Host: fmt.Sprintf("host-%d.test", i)}
}

// pass lets time pass, and the clock's timer be heard.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestBarsAreOfFiveSecondsAndForgottenAfterFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &store{}
		count := func() (bars []numbers) {
			in, _ := s.all.Load(keyOf(1))
			return (&row{series: in.(*series)}).barsSince(0, slotOf(time.Now()))
		}
		first := slotOf(time.Now())
		for range 3 {
			s.ended(transport.CallEnd{Key: keyOf(1), Outcome: policy.Success})
		}
		s.ended(transport.CallEnd{Key: keyOf(1), Outcome: policy.Ignored})
		pass(barFor)
		s.ended(transport.CallEnd{Key: keyOf(1), Outcome: policy.Failure})
		s.refused(transport.RefusalEvent{Key: keyOf(1), Error: &transport.RefusedError{Reason: policy.RefusedOpen}})
		s.refused(transport.RefusalEvent{Key: keyOf(1), Error: &transport.RefusedError{Reason: policy.RefusedOpen}, Shadow: true})
		assert.Equal(t, []numbers{{first, 3, 0, 0}, {first + 1, 0, 1, 1}}, count())
		pass((mostBars - 1) * barFor)
		assert.Equal(t, []numbers{{first + 1, 0, 1, 1}}, count())
		s.ended(transport.CallEnd{Key: keyOf(1), Outcome: policy.Success})
		assert.Equal(t, []numbers{{first + 1, 0, 1, 1}, {first + mostBars, 1, 0, 0}}, count(), "in the place of the oldest")
		pass(time.Hour)
		assert.Empty(t, count())
	})
}

func TestSeriesAreBoundedAndLeaveRoomForTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, asked := map[transport.Key]bool{}, 0
		for i := range 2 * mostSeries {
			kept[keyOf(i)] = true
		}
		s := &store{kept: func() map[transport.Key]bool { asked++; return kept }}
		for i := range mostSeries {
			s.ended(transport.CallEnd{Key: keyOf(i), Outcome: policy.Success})
		}
		assert.EqualValues(t, mostGoodSeries, s.n.Load())
		for i := range 2 * mostSeries {
			s.ended(transport.CallEnd{Key: keyOf(i), Outcome: policy.Failure})
		}
		assert.EqualValues(t, mostSeries, s.n.Load())
		synctest.Wait()
		assert.Equal(t, 1, asked, "all circuits are looked at once in a minute")
		for i := range 100 {
			delete(kept, keyOf(i))
		}
		pass(sweepEvery * barFor)
		s.changed(transport.StateChange{Key: keyOf(2*mostSeries - 1), To: policy.Closed})
		synctest.Wait()
		assert.EqualValues(t, mostSeries-100, s.n.Load())
		s.changed(transport.StateChange{Key: keyOf(2*mostSeries - 1), To: policy.Open})
		in, ok := s.all.Load(keyOf(2*mostSeries - 1))
		require.True(t, ok, "what the transport has dropped makes room")
		assert.Len(t, in.(*series).transitions, 1)
		assert.EqualValues(t, mostSeries-99, s.n.Load())
	})
}

func TestAThrottleIsAmongTheLastChangesAndLeavesRoomForOthers(t *testing.T) {
	var s store
	began := time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)
	for range mostTransitions {
		s.changed(transport.StateChange{Key: keyOf(0), From: policy.Closed, To: policy.Open, Reason: policy.ChangeTripped})
	}
	for range 100 {
		s.throttled(transport.ThrottleEvent{Key: keyOf(0), At: began, Reason: policy.ThrottledBy503, Why: "8 of 9"})
		s.throttled(transport.ThrottleEvent{
			Key: keyOf(0), At: began.Add(time.Minute), Over: true, Reason: policy.ThrottleCalm, Why: "none", Since: began, Refused: 7,
		})
	}
	found, ok := s.all.Load(keyOf(0))
	require.True(t, ok)
	last := found.(*series).transitions
	require.Len(t, last, mostTransitions)
	trips := 0
	for _, t := range last {
		if t.Reason == policy.ChangeTripped {
			trips++
		}
	}
	require.Equal(t, mostTransitions/2, trips, "a throttle that comes and goes hides no trip")
	begin, end := last[mostTransitions-2], last[mostTransitions-1]
	require.Equal(t, transition{throttle: true, At: began, Reason: "throttled: 503", Why: "8 of 9"}, begin)
	require.Equal(t, transition{
		throttle: true, At: began.Add(time.Minute), Reason: "no longer throttled: calm", Why: "none; 7 refused in 1m0s",
	}, end)
}

func TestSeriesOfRealUpstreamsTakeTheRoomOfMadeUpOnes(t *testing.T) {
	const most = 1000
	var s store
	for i := range 2 * most {
		s.of(keyOf(i), false, 0, most)
	}
	require.EqualValues(t, most, s.n.Load())
	s.of(keyOf(0), true, 0, most) // it was real
	real := func(i int) transport.Key { return keyOf(100_000 + i) }
	for i := range most + 100 {
		s.of(real(i), true, 0, most)
	}
	require.EqualValues(t, most, s.n.Load())
	for _, k := range []transport.Key{keyOf(0), real(0), real(most - 2)} {
		_, ok := s.all.Load(k)
		require.True(t, ok, "%v", k)
	}
	_, ok := s.all.Load(real(most - 1))
	require.False(t, ok, "there is nobody left to make room")
}

func TestWatchingNobodyKeepsNoTable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := Handler(transport.New(nil))
		defer d.Close()
		kept := func() bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.table.rows != nil
		}
		for range 3 {
			require.True(t, d.join(&d.watchers, mostWatchers))
			d.refresh()
			pass(2 * defaultKeep)
			require.True(t, kept(), "somebody watches")
			require.True(t, d.join(&d.answers, mostAnswers))
			d.leave(&d.watchers)
			pass(2 * defaultKeep)
			require.True(t, kept(), "somebody is answered")
			d.leave(&d.answers)
			pass(defaultKeep - time.Second)
			require.True(t, kept(), "for whoever looks every few seconds")
			require.True(t, d.join(&d.answers, mostAnswers))
			pass(defaultKeep)
			require.True(t, kept(), "and has come again")
			d.leave(&d.answers)
			pass(defaultKeep)
			require.False(t, kept())
		}
	})
}

func TestNothingIsKeptOfACircuitThatIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		breaker := transport.New(nil, transport.WithMaxCircuits(1))
		d := Handler(breaker)
		defer d.Close()
		for i := range 3 {
			require.True(t, breaker.SetState(keyOf(i), policy.Open))
			require.True(t, breaker.SetState(keyOf(i), policy.Closed))
			pass(barFor)
			d.refresh()
			assert.Len(t, d.table.rows, 1)
			assert.EqualValues(t, 1, d.store.n.Load())
		}
	})
}

func TestClosedDashboardObservesNothing(t *testing.T) {
	breaker := transport.New(good{&http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}})
	open, closed := Handler(breaker), Handler(breaker)
	defer open.Close()
	closed.Close()
	req, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
	require.NoError(t, err)
	breaker.RoundTrip(req)
	assert.EqualValues(t, 1, open.store.n.Load())
	assert.Zero(t, closed.store.n.Load())
}

type good struct{ resp *http.Response }

func (g good) RoundTrip(*http.Request) (*http.Response, error) { return g.resp, nil }

// BenchmarkCall is a healthy call, whose base costs nothing, and a refusal.
func BenchmarkCall(b *testing.B) {
	for _, with := range []struct {
		name string
		opts []Option
		none bool
	}{{name: "no dashboard", none: true}, {name: "dashboard"}, {name: "without good calls", opts: []Option{WithoutGoodCalls()}}} {
		for _, state := range []policy.State{policy.Closed, policy.Open} {
			b.Run(with.name+"/"+state.String(), func(b *testing.B) {
				t := transport.New(good{&http.Response{StatusCode: http.StatusOK, Body: http.NoBody}})
				if !with.none {
					defer Handler(t, with.opts...).Close()
				}
				if state == policy.Open {
					t.Force("*", policy.Open)
				}
				req, err := http.NewRequest(http.MethodGet, "http://a.test/", nil)
				require.NoError(b, err)
				b.ReportAllocs()
				for b.Loop() {
					t.RoundTrip(req)
				}
			})
		}
	}
}

// BenchmarkRefresh is what a watcher costs in a second, with 5,000 circuits of which nothing has changed.
func BenchmarkRefresh(b *testing.B) {
	t := transport.New(nil)
	for i := range 5000 {
		t.SetState(keyOf(i), policy.Closed)
	}
	d := Handler(t)
	defer d.Close()
	for b.Loop() {
		d.refresh()
		d.table.pause = 0
	}
}
