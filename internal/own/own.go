// Package own is what the modules of this project do with a Transport and nobody else needs. Package transport sets the
// variables; they are functions of any, since it imports this one.
package own

import "github.com/fusebox-go/fusebox/policy"

var (
	// WithRandom returns a transport.Option that sets the source of the jitter of waits, uniform in [0,1), for
	// simulations that must be repeatable. It is called by many goroutines at once, under a lock.
	WithRandom func(random func() float64) any
	// ForceUnsaved is Force of a *transport.Transport for what is kept elsewhere and ends there, as what
	// fleetredis.FollowOverrides applies: SaveTo leaves it out, or it would be forced for good in the process that
	// takes it up.
	ForceUnsaved func(t any, pattern string, state policy.State) (matched int, err error)
)
