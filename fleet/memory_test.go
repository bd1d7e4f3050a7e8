package fleet_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fleet/fleettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemoryIsABus(t *testing.T) {
	for _, delay := range []time.Duration{0, 2 * time.Millisecond} {
		t.Run(delay.String(), func(t *testing.T) {
			fleettest.Run(t, func(*testing.T) func() fleet.Bus {
				bus := &fleet.Memory{Delay: delay}
				return func() fleet.Bus { return bus }
			})
		})
	}
}
