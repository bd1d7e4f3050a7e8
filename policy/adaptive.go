package policy

import "time"

// Adaptive is Fusebox's own policy and the default: Evidence to trip, Squares to probe, Ramp to recover, and Hold. The
// zero value is the default of all of them; the rules' comments say what the fields mean and why the values are what
// they are. The project's decision table measures it against other breakers, and takes other values by flags.
type Adaptive struct {
	Evidence int // as Evidence.Threshold
	Worth    int // as Evidence.Worth

	Spacing       float64       // as Squares.Spacing
	Wait          time.Duration // as Squares.Wait
	RetryAfterMax time.Duration // as Squares.RetryAfterMax
	ProbeLease    time.Duration // as Squares.Lease
	MaxGap        time.Duration // as Squares.MaxGap

	Reopen int           // as Ramp.Reopen
	Health int           // as Ramp.Health
	Lease  time.Duration // as Ramp.Lease

	Silence  time.Duration // as Hold.Silence; 0 means 1 s. To hold nothing, use Rules and set its Hold to Hold{}
	InFlight int           // as Hold.InFlight

	Limits Limits

	SafeWait time.Duration // as Rules.SafeWait
}

// Rules returns Evidence, Squares, Ramp, Hold, Limits and SafeWait with the values of a.
func (a Adaptive) Rules() Rules {
	return Rules{
		Trip: Evidence{Threshold: a.Evidence, Worth: a.Worth},
		Probe: Squares{
			Spacing: a.Spacing, Wait: a.Wait, RetryAfterMax: a.RetryAfterMax, Lease: a.ProbeLease, MaxGap: a.MaxGap,
		},
		Recover: Ramp{Reopen: a.Reopen, Worth: a.Worth, Health: a.Health, Lease: a.Lease},
		Hold:    Hold{Silence: positiveOr(a.Silence, time.Second, "Adaptive.Silence"), InFlight: a.InFlight},
		Limits:  a.Limits,

		SafeWait: a.SafeWait,
	}
}
