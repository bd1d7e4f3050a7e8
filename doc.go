// Package fusebox is the map of a circuit breaker for HTTP clients.
//
//   - package transport is what most users need: transport.New returns an http.RoundTripper to put into
//     http.Client.Transport. It keeps one circuit per upstream.
//   - package policy has the values that it can be set up with: the rules that say when to trip, when to
//     probe and how to recover, and the classifiers that say what a response or an error tells of the upstream.
//   - internal/statemachine is the circuit itself: three states, permits and generations.
//   - examples has programs that run with no set-up; start with `go run ./examples/quickstart`.
package fusebox
