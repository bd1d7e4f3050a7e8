package policy

import "time"

// Classic is the textbook policy, as Nygard describes it in 'Release It!': Failures failures in a row open the
// circuit; after OpenFor it is half-open and lets Probes calls through; if all succeed it closes, if one
// fails it opens again. The zero value is usable and has pybreaker's defaults.
//
// What it does not have a field for is a Rules value of FailureShare, SlowShare, OpenTime and Trial.
type Classic struct {
	Failures  int           // in a row; 0 means 5
	OpenFor   time.Duration // 0 means 60 s
	Probes    int           // half-open calls in flight at most; 0 means 1
	Successes int           // successes that close the circuit; 0 means Probes
	Limits    Limits
	SafeWait  time.Duration // as Rules.SafeWait
}

// Rules returns Consecutive, OpenTime, Trial, Limits and SafeWait with the values of c.
func (c Classic) Rules() Rules {
	return Rules{
		Trip:    Consecutive{Failures: c.Failures},
		Probe:   OpenTime{For: c.OpenFor},
		Recover: Trial{Probes: c.Probes, Successes: c.Successes},
		Limits:  c.Limits,

		SafeWait: c.SafeWait,
	}
}
