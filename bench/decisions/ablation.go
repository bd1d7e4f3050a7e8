package main

import (
	"net/http"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// ablations returns the oracle, Fusebox, and Fusebox without each of its rules that can be off: what a rule gains is
// the difference.
func ablations() []subject {
	all := []subject{{name: "oracle", about: "knows the upstream's true state", role: roleBound, new: newOracle}}
	for _, a := range []struct {
		name, about string
		policy      policy.Adaptive
	}{
		{"fusebox", "Fusebox with no options", policy.Adaptive{}},
		{"no-throttle", "without a limit while closed", policy.Adaptive{Throttle: policy.Throttle{Off: true}}},
		{"no-full", "whose limit does not hear 503 and 429", policy.Adaptive{Throttle: policy.Throttle{FullOff: true}}},
		{"no-late", "whose limit does not hear late answers",
			policy.Adaptive{Throttle: policy.Throttle{LateOff: true}}},
		{"no-recovery", "that ramps after a queue, too",
			policy.Adaptive{Throttle: policy.Throttle{RecoveryOff: true}}},
		{"no-parts", "that cuts out no parts", policy.Adaptive{Parts: policy.Contrast{Off: true}}},
		{"no-hold", "that holds nothing", policy.Adaptive{Hold: policy.Hold{Off: true}}},
	} {
		all = append(all, subject{
			name: a.name, about: a.about, role: roleOwn, new: func(base http.RoundTripper) http.RoundTripper {
				return transport.New(base, withRandom(seeded()), transport.WithPolicy(a.policy))
			},
		})
	}
	return all
}
