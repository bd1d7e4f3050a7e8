package statemachine

import "github.com/fusebox-go/fusebox/policy"

// The word is what can be known of a circuit without its lock: the generation, and below it these bits. All but
// touchedBit are the machine's, as it was when the lock was last released.
const (
	stateBits   = 0b0000000011 // a policy.State
	quietBit    = 0b0000000100 // closed, and a success would change nothing
	touchedBit  = 0b0000001000 // used since the last Forget: a hint, which is written without the lock
	goneBit     = 0b0000010000 // forgotten: no longer the circuit of its key
	canaryBit   = 0b0000100000 // closed, and the next call is to be a canary
	watchBit    = 0b0001000000 // closed, and every call is counted: a canary is late, or there is too much
	knownBit    = 0b0010000000 // the upstream has answered a call, or somebody set the state by hand (Set)
	failingBit  = 0b0100000000 // closed, and the last call that said something did not succeed
	attendedBit = 0b1000000000 // closed, and somebody looks at every call (Config.Attended)
	partsBit    = 1 << 10      // not forced, and parts of the upstream are in trouble, or suspected to be
	generation  = 11           // bits below the generation

	generationMask = 1<<(64-generation) - 1
)

// word is what the word of a circuit says of its machine.
func (m *machine) word() uint64 {
	word := m.generation<<generation | uint64(m.state)
	if m.known {
		word |= knownBit
	}
	if m.gone {
		word |= goneBit
	}
	if m.parts != nil && !m.forced {
		word |= partsBit
	}
	if m.state != policy.Closed {
		return word
	}
	if m.config.Attended {
		word |= attendedBit
	}
	if m.config.hold().Silence > 0 || m.config.Measured {
		switch m.canary.phase {
		case wanting:
			word |= canaryBit
		case watching:
			word |= watchBit
		}
	}
	if m.throttle.memory != nil && m.counting() {
		word |= watchBit
	}
	switch {
	case m.quiet():
		word |= quietBit
	case m.hints.failing:
		word |= failingBit
	}
	return word
}

// publish brings the word in line with the machine. It writes only what has changed; what changes is used, but for what
// is forgotten.
func (c *Circuit) publish() {
	now := c.machine.word()
	if !c.machine.gone {
		now |= touchedBit
	}
	for {
		word := c.word.Load()
		if (word^now)&^touchedBit == 0 || c.word.CompareAndSwap(word, now) {
			return
		}
	}
}
