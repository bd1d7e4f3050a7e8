package next

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhenTheNextProbeIs(t *testing.T) {
	for want, p := range map[string]Probe{
		"":                                 {},
		"next probe in 5s":                 {Soonest: 5 * time.Second},
		"next probe in 1ms":                {Soonest: time.Microsecond},
		"next probe in 1m30s":              {Soonest: 89*time.Second + 700*time.Millisecond},
		"next probe with the next request": {Requests: 1, Latest: time.Minute},
		"next probe in 50ms":               {Requests: 1, Soonest: 50 * time.Millisecond, Latest: time.Minute},
		"next probe with the 2nd request from now":                                         {Requests: 2},
		"next probe with the 13th request from now, at the latest in 1m30s":                {Requests: 13, Latest: 90 * time.Second},
		"next probe with the 22nd request from now, not before 5s, at the latest in 1m30s": {Requests: 22, Soonest: 5 * time.Second, Latest: 90 * time.Second},
		"next probe with the 111th request from now, at the latest in 2ms":                 {Requests: 111, Latest: 2 * time.Millisecond},
		"next probe with the 1003rd request from now, at the latest in 1s":                 {Requests: 1003, Latest: time.Second},
		"next probe with the 101st request from now":                                       {Requests: 101},
	} {
		require.Equal(t, want, p.String())
	}
}

func TestTimesAreRoundedAsTheirPackageDoes(t *testing.T) {
	rounded := func(d time.Duration) string {
		step := time.Millisecond
		if d >= 10*time.Second {
			step = time.Second
		}
		return max(step, d.Round(step)).String()
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		d := time.Duration(1 + random.Int64N(1<<(1+random.IntN(61))))
		require.Equal(t, rounded(d), string(appendRounded(nil, d)), int64(d))
	}
	for _, edge := range []time.Duration{
		1, time.Millisecond, time.Second, 10 * time.Second, time.Minute, time.Hour, 1500 * time.Millisecond,
	} {
		for _, d := range []time.Duration{edge - time.Millisecond/2 - 1, edge - time.Millisecond/2, edge - 1, edge, edge + 1, edge + time.Millisecond/2} {
			if d > 0 {
				require.Equal(t, rounded(d), string(appendRounded(nil, d)), int64(d))
			}
		}
	}
}
