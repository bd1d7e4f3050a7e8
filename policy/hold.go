package policy

import "time"

// Hold notices silence before timeouts tell of it: when a closed circuit has at least InFlight calls out and none has come
// back for Silence, new ones are refused until one does. An upstream that is slow by nature is not held: the silence has
// to last three times as long as calls usually take, and where no call has come back yet nobody knows.
// While it holds, a call a second is let through. The zero value holds nothing.
type Hold struct {
	Silence  time.Duration // 0 means never to hold
	InFlight int           // 0 means 10
}

// Validated returns h with its defaults filled in. It panics if the values make no sense.
func (h Hold) Validated() Hold {
	h.Silence = positiveOr(h.Silence, 0, "Hold.Silence")
	h.InFlight = positiveOr(h.InFlight, 10, "Hold.InFlight")
	return h
}
