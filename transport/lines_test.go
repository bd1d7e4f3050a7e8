package transport

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestWhatAHealthyCallReadsIsTogether: of a circuit and of its Transport one line of memory each, which begins where the allocator has
// them begin. What a call reads beside them is in the host's text, and where its circuit is found.
func TestWhatAHealthyCallReadsIsTogether(t *testing.T) {
	const line = 64
	var c circuit
	require.LessOrEqual(t, unsafe.Offsetof(c.key)+unsafe.Sizeof(c.key), uintptr(line))
	require.LessOrEqual(t, unsafe.Offsetof(c.classify)+unsafe.Sizeof(c.classify), uintptr(line))
	const word = 8 // the first thing in a Circuit
	require.LessOrEqual(t, unsafe.Offsetof(c.Circuit)+word, uintptr(line))

	var rt Transport
	require.LessOrEqual(t, unsafe.Offsetof(rt.base)+unsafe.Sizeof(rt.base), uintptr(line))
	require.LessOrEqual(t, unsafe.Offsetof(rt.keyOf)+unsafe.Sizeof(rt.keyOf), uintptr(line))
	require.LessOrEqual(t, unsafe.Offsetof(rt.observers)+unsafe.Sizeof(rt.observers), uintptr(line))
	require.LessOrEqual(t, unsafe.Offsetof(rt.local)+unsafe.Offsetof(rt.local.ailing)+unsafe.Sizeof(rt.local.ailing), uintptr(line))
}
