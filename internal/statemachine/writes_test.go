package statemachine

import (
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/peers"
	"github.com/fusebox-go/fusebox/policy"
)

// TestAHealthyCallChangesNoByteOfTheCircuit compares every byte of a circuit before and after calls that go well. What it points to
// is made when a circuit is new or in trouble, and its rule is not asked, which the rule below would not forgive.
func TestAHealthyCallChangesNoByteOfTheCircuit(t *testing.T) {
	for name, inFleet := range map[string]bool{"by itself": false, "in a fleet": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testHealthyCalls(t, inFleet) })
		})
	}
}

func testHealthyCalls(t *testing.T, inFleet bool) {
	rules := policy.Adaptive{}.Rules()
	rules.Trip = untouchable{}
	c := New(&Config{Rules: validated(rules), Random: func() float64 { return 0 }}, nil, peersIf(inFleet))
	member, _ := c.machine.peers.(*peers.Member)
	require.Equal(t, inFleet, member != nil)
	call := func() {
		p, ok := c.AcquireClosed()
		require.True(t, ok)
		if p.WantsHeaders() {
			p.Headers(time.Now(), 0)
		}
		if !p.Quiet() {
			p.Done(time.Now(), policy.Result{Outcome: policy.Ignored, Cause: policy.Cause{Status: 200}})
		}
	}
	call()
	call() // the canary; for the next 100 ms there is no other
	memory := unsafe.Slice((*byte)(unsafe.Pointer(c)), unsafe.Sizeof(*c))
	before := slices.Clone(memory)
	var shared peers.Member
	if inFleet {
		shared = *member
	}
	for range 1000 {
		call()
	}
	require.Equal(t, before, memory)
	if inFleet {
		require.True(t, reflect.DeepEqual(shared.Joint, member.Joint) && shared.Score == member.Score && shared.Quiet())
	}
}

// untouchable is quiet, and fails the test if it is asked nevertheless.
type untouchable struct{}

func (untouchable) NewTrip() policy.Trip { return untouchable{} }
func (untouchable) Start(time.Time, int) {}
func (untouchable) Quiet() bool          { return true }
func (untouchable) Counts() (int, int)   { return 0, 0 }
func (untouchable) Record(time.Time, policy.Result) bool {
	panic("a healthy call was recorded")
}
