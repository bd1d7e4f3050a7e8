package record

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"github.com/fusebox-go/fusebox/policy"
)

func TestACallIsOf24Bytes(t *testing.T) {
	if size := unsafe.Sizeof(Call{}); size != 24 {
		t.Errorf("%d bytes", size)
	}
}

func TestWhatIsSetOfACallIsWhatItSays(t *testing.T) {
	for _, took := range []time.Duration{0, 1, time.Millisecond, time.Hour, 30 * time.Hour} {
		for kind := policy.KindNone; kind <= policy.KindNoAnswer; kind++ {
			for phase := policy.PhaseNone; phase <= policy.PhaseBody; phase++ {
				for deadline := policy.DeadlineNone; deadline <= policy.DeadlineLimit; deadline++ {
					for _, outcome := range []policy.Outcome{policy.Success, policy.Failure, policy.Ignored} {
						cause := policy.Cause{Kind: kind, Phase: phase, Deadline: deadline, Status: 504}
						var c Call
						c.SetOutcome(outcome)
						c.SetCause(cause)
						c.SetTook(took)
						if c.Cause() != cause || c.Outcome() != outcome || c.Took() != took || c.Refused() {
							t.Fatalf("%v %v %v, of %v %v %v", c.Cause(), c.Outcome(), c.Took(), cause, outcome, took)
						}
						c.SetRefused()
						if c.Cause() != cause || c.Outcome() != outcome || !c.Refused() {
							t.Fatal("refused changes something else, or nothing")
						}
					}
				}
			}
		}
	}
}

func TestHowLongACallTookMayNotBeKnown(t *testing.T) {
	c := Call{Start: 7}
	c.SetTook(-time.Hour)
	if c.Took() != -1 || c.End() != 7 {
		t.Errorf("took %v, ended %d", c.Took(), c.End())
	}
	c.SetTook(1000 * time.Hour)
	if c.Took() != longest {
		t.Errorf("took %v", c.Took())
	}
}

func TestKeysBeyondTheBoundShareOne(t *testing.T) {
	var keys Keys
	for i := range 2 * MostKeys {
		keys.Number(fmt.Sprint(i))
	}
	if keys.Len() != MostKeys {
		t.Errorf("%d keys", keys.Len())
	}
	if name := keys.Name(keys.Number("one more")); name != Others {
		t.Errorf("it is %q", name)
	}
	if keys.Name(keys.Number("12")) != "12" {
		t.Error("a key of before has another name")
	}
}
