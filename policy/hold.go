package policy

import "time"

// Hold refuses calls of a closed circuit that would only wait in vain, long before timeouts tell of it.
//
//   - Silence: at least InFlight calls are out, none has come back, and one is overdue: it has been out for Silence and
//     for half of the time that its caller waits by the deadline of its context, or a minute if it has none. (So long
//     wait common proxies unless they are told otherwise. That calls were quick until now says little of one that is
//     slow by nature, and what the caller expects is known by its deadline alone.) An upstream that is slow is not
//     held: it has to be three times as long as calls usually take, and a quarter longer than the longest of the last
//     ten minutes; and where none has come back yet nobody knows.
//   - A queue too long: calls take ever longer, and at the pace at which they are answered, those ahead take longer
//     than nine tenths of the time that this call's caller will wait by the deadline of its context (Little's law,
//     1961). That needs no failure, and leaves a slow upstream alone, whose calls take long but not ever longer.
//
// What is held is refused until an answer is back in time; meanwhile one call a second is let through; in a silence
// over a new connection if it can be, and the next one sooner if it could not. To a healthy call Hold costs nothing:
// one call at a time, and ten a second at most, is a canary that is timed, and only if it is late, beyond 100 ms and
// one and a half times the usual time, are calls counted at all. The zero value holds by the defaults, wherever it
// stands: as Adaptive.Hold and as &Hold{} in Rules. What holds nothing is a Hold that is Off, and Rules without one.
type Hold struct {
	Off      bool          // nothing is held, and the other fields mean nothing
	Silence  time.Duration // 0 means 1 s
	InFlight int           // 0 means 10
}

// Validated returns h with its defaults filled in; the Silence of one that is Off is 0. It panics if the values make no
// sense.
func (h Hold) Validated() Hold {
	h.Silence = positiveOr(h.Silence, time.Second, "Hold.Silence")
	if h.Off {
		h.Silence = 0
	}
	h.InFlight = positiveOr(h.InFlight, 10, "Hold.InFlight")
	return h
}
