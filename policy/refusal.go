package policy

// RefusalReason is why a request was refused.
type RefusalReason uint8

const (
	NotRefused    RefusalReason = iota
	RefusedOpen                 // the circuit is open
	RefusedRamp                 // it is half-open, and as many calls are in flight as may be
	RefusedHeld                 // it is closed, and the upstream has fallen silent or behind (Hold)
	RefusedLimit                // as many calls are in flight as Limits.InFlight lets
	RefusedForced               // somebody forced it open
	// it is closed, and as many calls are out as an upstream carries that gets too much (Throttle)
	RefusedThrottled
)

// String returns "open", "half-open", "held", "limit", "forced open" or "throttled", and "" for NotRefused.
func (r RefusalReason) String() string {
	return nameOf(r, "", "open", "half-open", "held", "limit", "forced open", "throttled")
}

// MarshalText writes what String returns.
func (r RefusalReason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
