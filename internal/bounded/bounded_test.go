package bounded

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUnknownKeysMakeRoomForKnownOnes(t *testing.T) {
	m := New[int, string](3)
	for k := range 3 {
		require.True(t, m.Put(k, "made up", false))
	}
	require.False(t, m.Put(3, "made up", false), "and not for each other")
	require.True(t, m.Put(1, "changed", false))
	for k := 10; k < 13; k++ {
		require.True(t, m.Put(k, "real", true))
		require.Equal(t, 3, m.Len())
	}
	require.False(t, m.Put(13, "real", true))
	require.False(t, m.Put(4, "made up", false))
	_, ok := m.DropUnknown()
	require.False(t, ok)
	m.Delete(11)
	require.True(t, m.Put(4, "made up", false))
	require.True(t, m.Put(4, "it answered", true))
	require.True(t, m.Put(4, "and is still known", false))
	require.False(t, m.Put(14, "real", true))
	v, ok := m.Get(4)
	require.True(t, ok)
	require.Equal(t, "and is still known", v)
}

// Whatever is done, no more is kept than may be, no known key gives way, and what was put is what is there.
func TestWhatIsKeptIsWhatWasPut(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		most := 1 + random.IntN(8)
		m := New[int, int](most)
		known := make(map[int]bool)
		last := make(map[int]int)
		for step := range 200 {
			k := random.IntN(12)
			switch random.IntN(5) {
			case 0:
				m.Delete(k)
				delete(known, k)
			case 1:
				if _, ok := m.DropUnknown(); !ok {
					require.Len(t, known, m.Len())
				}
			default:
				is := random.IntN(2) == 0
				full := m.Len() >= most
				_, had := m.Get(k)
				if kept := m.Put(k, step, is); kept {
					last[k] = step
					known[k] = known[k] || is
				} else {
					require.True(t, full && !had && (!is || len(known) == most))
				}
			}
			require.LessOrEqual(t, m.Len(), most)
			n := 0
			for k, v := range m.All() {
				require.Equal(t, last[k], v)
				n++
			}
			require.Equal(t, n, m.Len())
			for k, is := range known {
				if _, ok := m.Get(k); !ok {
					require.False(t, is, "a known key gave way")
					delete(known, k)
				}
			}
			for k, is := range known {
				if !is {
					delete(known, k)
				}
			}
		}
	}
}
