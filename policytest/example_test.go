package policytest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/policytest"
)

// Every is a ProbeRule of one's own: while the circuit is open, one request of so many is let through.
type Every int

func (e Every) NewProbe() policy.Probe {
	if e < 1 {
		panic(fmt.Errorf("Every is %d; write how many requests there are for each probe", e))
	}
	return &every{of: e}
}

type every struct {
	of, came Every
	due      time.Time
}

func (e *every) Trip(now time.Time, _ policy.Result, _ float64) { e.came, e.due = 0, now }
func (e *every) Fail(now time.Time, r policy.Result, _ float64) { e.Trip(now, r, 0) }
func (e *every) Resume(_, due time.Time)                        { e.came, e.due = 0, due }
func (e *every) Due() time.Time                                 { return e.due }
func (*every) Lease() time.Duration                             { return time.Second }

func (e *every) Ask(now time.Time) bool {
	e.came++
	return e.came >= e.of && !now.Before(e.due)
}

// In a file like every_test.go, beside the rule.
func Example() {
	_ = func(t *testing.T) { // func TestEvery(t *testing.T)
		policytest.TestProbe(t, Every(10), Every(0), Every(-1))
	}
}
