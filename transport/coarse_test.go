package transport

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestACoarseClockGoesWhileItIsReadAndStandsStillOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c coarseClock
		for range 5 {
			for range 100 {
				behind := time.Now().UnixNano() - c.now()
				require.GreaterOrEqual(t, behind, int64(0))
				require.LessOrEqual(t, behind, int64(coarseTick))
				time.Sleep(coarseTick / 7)
			}
			time.Sleep(2 * coarseTick)
			synctest.Wait()
			require.Zero(t, c.time.Load(), "it goes though nobody reads it")
			require.Equal(t, time.Now().UnixNano(), c.now(), "it is right when it starts")
			time.Sleep(time.Hour)
		}
	})
}

func TestACoarseClockIsReadWithoutMemory(t *testing.T) {
	var c coarseClock
	require.Zero(t, testing.AllocsPerRun(10_000, func() { c.now() }))
}

func BenchmarkCoarseClock(b *testing.B) {
	var c coarseClock
	for b.Loop() {
		c.now()
	}
}

func BenchmarkRealClock(b *testing.B) {
	for b.Loop() {
		time.Now().UnixNano()
	}
}
