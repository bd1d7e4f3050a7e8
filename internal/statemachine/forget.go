package statemachine

import (
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Spare says which circuits may be forgotten.
type Spare uint8

const (
	Unknown   Spare = iota // has never answered: there may be no such upstream
	Quiet                  // closed, and the rule has nothing in view
	AnyClosed              // closed
	Idle                   // or in trouble, and nobody has asked for it for a time
)

// Forget tells the circuit that it is no longer that of its key, if it is one of those to spare and was not used since it
// was last asked so. Idle is the time of that name.
func (c *Circuit) Forget(now time.Time, spare Spare, idle time.Duration) bool {
	if !mayBeSpared(c.word.Load(), spare) {
		return false // and it stays as used as it was for when it may
	}
	if c.word.And(^uint64(touchedBit))&touchedBit != 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock() // the caller may hold a lock of its own, and tells observers by Tell
	word := c.word.Load()
	if word&touchedBit != 0 || !mayBeSpared(word, spare) {
		return false
	}
	if spare == Idle && c.state() != policy.Closed {
		asked := c.since
		if c.state() == policy.Open && !c.forced {
			asked = c.probe.Due()
		}
		if len(c.places) > 0 || now.Sub(asked) < idle {
			return false
		}
	}
	c.word.Or(goneBit)
	return true
}

func mayBeSpared(word uint64, spare Spare) bool {
	switch spare {
	case Unknown:
		return word&knownBit == 0
	case Quiet:
		return word&(stateBits|quietBit) == uint64(policy.Closed)|quietBit
	case AnyClosed:
		return word&stateBits == uint64(policy.Closed)
	}
	return true
}

// Known reports whether the upstream has ever answered, or somebody has set its state by hand (Set).
func (c *Circuit) Known() bool { return c.word.Load()&knownBit != 0 }
