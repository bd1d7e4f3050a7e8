package policy

import "time"

// Adaptive is Fusebox's own policy and the default. Its fields are its rules; the zero value of each is its default,
// and their comments say what the fields mean and why the values are what they are. The project's decision table
// measures it against other breakers, and takes other values by flags.
//
//	policy.Adaptive{Limits: policy.Limits{InFlight: 100}}              // the default, and no more calls at a time
//	policy.Adaptive{Trip: policy.Evidence{Threshold: 20}}              // more patient
//	policy.Adaptive{Hold: policy.Hold{Off: true}}                      // nothing is refused before calls have failed
//	policy.Adaptive{Parts: policy.Contrast{Off: true}}                 // an upstream is open as a whole or not at all
type Adaptive struct {
	Trip     Evidence
	Probe    Squares
	Recover  Ramp
	Hold     Hold
	Parts    Contrast
	Limits   Limits
	Throttle Throttle
	SafeWait time.Duration // as Rules.SafeWait
}

// Rules returns the rules of a. It panics if the values of its Hold or Parts make no sense.
func (a Adaptive) Rules() Rules {
	hold, parts := a.Hold.Validated(), a.Parts.Validated()
	return Rules{
		Trip: a.Trip, Probe: a.Probe, Recover: a.Recover, Hold: &hold, Parts: &parts, Limits: a.Limits,
		Throttle: &a.Throttle,
		SafeWait: a.SafeWait,
	}
}
