package transport_test

import (
	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/transport"
)

// withRandom sets the source of the jitter of waits, for tests that must be repeatable.
func withRandom(random func() float64) transport.Option {
	return own.WithRandom(random).(transport.Option)
}
