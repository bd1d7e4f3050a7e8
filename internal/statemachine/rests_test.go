package statemachine

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// rester is a circuit whose canary is back, and when its rest is over. It has no alarm of its own.
func rester() (*Circuit, moment) {
	c := Stepped(&Config{Rules: validated(policy.Adaptive{}.Rules()), Random: func() float64 { return 0 }}, nil)
	for range 2 { // the second one is a canary
		p, _ := c.AcquireClosedAt(time.Now())
		giveBack(p, succeeded)
	}
	return c, c.machine.canary.wake
}

func TestThoseWhoRestAreWokenInTimeByOneTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r rests
		var out sync.WaitGroup
		for _, after := range []time.Duration{0, 0, together / 2, 70 * ms, 30 * ms, 400 * ms, 10 * ms, time.Hour} {
			time.Sleep(after) // in the longer ones, the timer stops, since nobody is left
			c, until := rester()
			r.add(c, until)
			out.Go(func() {
				for watchOf(c).phase == resting {
					require.Less(t, momentOf(time.Now()), until+moment(together+together/4), "%v after the one before", after)
					time.Sleep(together / 4)
				}
				require.GreaterOrEqual(t, momentOf(time.Now()), until, "%v after the one before", after)
			})
		}
		out.Wait()
		synctest.Wait()
		require.False(t, r.set)
		require.Empty(t, r.queue)
	})
}

// TestOutsideOfBubblesACircuitThatRestsHasNoAlarm goes by the real clock, and does not wait on it.
func TestOutsideOfBubblesACircuitThatRestsHasNoAlarm(t *testing.T) {
	c := held(holding)
	for range 2 {
		p, _ := c.AcquireClosed()
		giveBack(p, succeeded)
	}
	require.Nil(t, alarmOf(c))
	resters.mu.Lock()
	defer resters.mu.Unlock()
	isResting := func(r rested) bool { return r.circuit == c }
	require.True(t, slices.ContainsFunc(resters.queue, isResting) || watchOf(c).phase == wanting, "it is woken, or will be")
}
