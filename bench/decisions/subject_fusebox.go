package main

import (
	"flag"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// The policies of the two subjects, as the flags set them.
var (
	adaptive policy.Adaptive // no field set: New's own default
	classic  = policy.Classic{Failures: 5, OpenFor: 30 * time.Second, Probes: 3}
)

// fuseboxFlags adds the parameters of Fusebox's own policies to the flags.
func fuseboxFlags(fs *flag.FlagSet) {
	fs.IntVar(&adaptive.Trip.Threshold, "adaptive.trip.threshold", 0,
		"fusebox: policy.Adaptive with this `Threshold` of its Trip; likewise the next ones")
	fs.IntVar(&adaptive.Trip.Worth, "adaptive.trip.worth", 0, "`Worth`")
	fs.Float64Var(&adaptive.Probe.Spacing, "adaptive.probe.spacing", 0, "`Spacing`")
	fs.DurationVar(&adaptive.Probe.Wait, "adaptive.probe.wait", 0, "`Wait`")
	fs.DurationVar(&adaptive.Probe.RetryAfterMax, "adaptive.probe.retryaftermax", 0, "`RetryAfterMax`")
	fs.DurationVar(&adaptive.Probe.Lease, "adaptive.probe.lease", 0, "`Lease`")
	fs.DurationVar(&adaptive.Probe.MaxGap, "adaptive.probe.maxgap", 0, "`MaxGap`")
	fs.IntVar(&adaptive.Recover.Reopen, "adaptive.recover.reopen", 0, "`Reopen`")
	fs.IntVar(&adaptive.Recover.Worth, "adaptive.recover.worth", 0, "`Worth`")
	fs.IntVar(&adaptive.Recover.Health, "adaptive.recover.health", 0, "`Health`")
	fs.DurationVar(&adaptive.Recover.Lease, "adaptive.recover.lease", 0, "`Lease`")
	fs.BoolVar(&adaptive.Parts.Off, "adaptive.parts.off", false, "cut out nothing")
	fs.IntVar(&adaptive.Parts.Failures, "adaptive.parts.failures", 0, "`Failures`")
	fs.IntVar(&adaptive.Parts.Worth, "adaptive.parts.worth", 0, "`Worth`")
	fs.IntVar(&adaptive.Parts.Parts, "adaptive.parts.parts", 0, "`Parts`")
	fs.BoolVar(&adaptive.Hold.Off, "adaptive.hold.off", false, "hold nothing")
	fs.DurationVar(&adaptive.Hold.Silence, "adaptive.hold.silence", 0, "`Silence`")
	fs.BoolVar(&adaptive.Throttle.Off, "adaptive.throttle.off", false, "limit no calls of a closed circuit")
	fs.BoolVar(&adaptive.Throttle.FullOff, "adaptive.throttle.fulloff", false, "nor because of those turned away")
	fs.BoolVar(&adaptive.Throttle.LateOff, "adaptive.throttle.lateoff", false, "nor because of late ones")
	fs.BoolVar(&adaptive.Throttle.RecoveryOff, "adaptive.throttle.recoveryoff", false,
		"no recovery by a limit that grows")
	fs.IntVar(&adaptive.Hold.InFlight, "adaptive.hold.inflight", 0, "`InFlight`")

	fs.IntVar(&classic.Failures, "classic.failures", classic.Failures,
		"fusebox-classic: `failures` in a row that open the circuit")
	fs.DurationVar(&classic.OpenFor, "classic.openfor", classic.OpenFor,
		"fusebox-classic: `time` that the circuit stays open")
	fs.IntVar(&classic.Probes, "classic.probes", classic.Probes, "fusebox-classic: half-open `calls` at a time")
}

func init() {
	register(
		subject{
			name: "fusebox", about: "Fusebox with no options, or the flags' policy.Adaptive", role: roleOwn,
			new: func(base http.RoundTripper) http.RoundTripper {
				options := []transport.Option{withRandom(seeded())}
				if adaptive != (policy.Adaptive{}) {
					options = append(options, transport.WithPolicy(adaptive))
				}
				return transport.New(base, options...)
			},
		},
		subject{
			name: "fusebox-fleet", about: "the same, the clients in a fleet in memory with a delay of 2 ms",
			role: roleOwn, fleet: sharing(2 * time.Millisecond),
		},
		subject{
			name: "fusebox-fleet-late", about: "the same with a delay of half a second",
			role: roleOwn, apart: true, fleet: sharing(500 * time.Millisecond),
		},
		subject{
			name: "fusebox-classic", about: "Fusebox with policy.Classic", role: roleOwn,
			new: func(base http.RoundTripper) http.RoundTripper {
				return transport.New(base, withRandom(seeded()), transport.WithPolicy(classic))
			},
		},
	)
}

// sharing returns clients in a fleet whose messages come with a delay.
func sharing(delay time.Duration) func() func(http.RoundTripper) http.RoundTripper {
	return func() func(http.RoundTripper) http.RoundTripper {
		bus := &fleet.Memory{Delay: delay}
		return func(base http.RoundTripper) http.RoundTripper {
			return transport.New(base, withRandom(seeded()), transport.WithPolicy(adaptive), transport.WithFleet(bus))
		}
	}
}

// withRandom sets the source of the jitter of waits.
func withRandom(random func() float64) transport.Option {
	return own.WithRandom(random).(transport.Option)
}

// seeded returns a repeatable source of chance. In a bubble the time is repeatable, and no two clients start at once.
func seeded() func() float64 {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	return func() float64 {
		mu.Lock()
		defer mu.Unlock()
		return rng.Float64()
	}
}
