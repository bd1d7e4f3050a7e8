package policy

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Numbers that an int of 32 bits can hold, and whose products it cannot.

func TestAShareOfManyCallsIsAShare(t *testing.T) {
	const many = math.MaxInt32
	require.True(t, share(many, many, 100))
	require.False(t, share(many-1, many, 100))
	require.True(t, share(many/2+1, many, 50))
	require.False(t, share(many/2, many, 50))
	require.False(t, share(many/100, many, 1))
	require.True(t, share(many/100+1, many, 1))
}

type gauged struct {
	Trip
	value, trips int
}

func (g gauged) NewTrip() Trip { return g }

func (g gauged) Gauge(time.Time) (value, trips int) { return g.value, g.trips }

func TestTheGaugeNearestToTrippingIsShownWhateverItCounts(t *testing.T) {
	near, far := gauged{value: math.MaxInt32 - 1, trips: math.MaxInt32}, gauged{value: 3, trips: 1 << 30}
	for _, rule := range []TripRule{AnyOf(near, far), AnyOf(far, near)} {
		value, trips := rule.NewTrip().(Gauge).Gauge(time.Time{})
		require.Equal(t, [2]int{near.value, near.trips}, [2]int{value, trips})
	}
}
