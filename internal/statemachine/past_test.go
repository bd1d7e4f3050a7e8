package statemachine

import (
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

// TestMain fails if any test has had a circuit write to the past that all share who have none.
func TestMain(m *testing.M) {
	code := m.Run()
	if !reflect.DeepEqual(unharmed, past{peers: peers.Alone{}}) {
		fmt.Printf("the past of those who have none is %+v\n", unharmed)
		code = 1
	}
	os.Exit(code)
}

func TestACircuitRemembersNothingBeforeTheFirstFailure(t *testing.T) {
	rules := policy.Adaptive{}.Rules()
	rules.Hold = nil
	c := New(&Config{Rules: rules, Random: func() float64 { return 0 }}, nil, nil)
	call := func(at time.Duration, r policy.Result) {
		p, ok := c.AcquireClosed()
		require.True(t, ok)
		p.Done(epoch.Add(at), r)
	}
	for range 10 {
		call(time.Second, policy.Result{Outcome: policy.Success})
	}
	c.Snapshot(epoch)
	c.Configure(&Config{Rules: rules, Random: func() float64 { return 0 }}, epoch)
	require.Same(t, &unharmed, c.machine.past)
	require.True(t, c.Known())
	call(time.Minute, policy.Result{Outcome: policy.Failure, Cause: statusOf})
	require.NotSame(t, &unharmed, c.machine.past)
	require.Equal(t, 1, c.Snapshot(epoch).Failures)
}

// TestACircuitThatIsWellIsSmall is a guard of memory that does not depend on the machine.
func TestACircuitThatIsWellIsSmall(t *testing.T) {
	require.LessOrEqual(t, unsafe.Sizeof(Circuit{}), uintptr(176))
}
