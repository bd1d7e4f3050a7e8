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

// Forget tells the circuit that it is no longer that of its key, if it is one of those to spare and was not used since
// it was last asked so, and reports whether it is this call that did. Idle is the time of that name.
func (c *Circuit) Forget(now time.Time, spare Spare, idle time.Duration) bool {
	if !mayBeSpared(c.word.Load(), spare) {
		return false // and it stays as used as it was for when it may
	}
	if c.word.And(^uint64(touchedBit))&touchedBit != 0 {
		return false
	}
	c.lock()
	defer c.quietly() // the caller may hold a lock of its own, and tells observers by Tell
	word, m := c.word.Load(), &c.machine
	if m.gone || word&touchedBit != 0 || !mayBeSpared(word, spare) || m.parts != nil && len(m.parts.cut) > 0 {
		return false
	}
	if spare == Idle && m.state != policy.Closed {
		asked := m.since
		if m.state == policy.Open && !m.forced {
			asked = m.probe.Due()
		}
		if len(m.leases.places) > 0 || now.Sub(asked) < idle {
			return false
		}
	}
	m.gone = true
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
