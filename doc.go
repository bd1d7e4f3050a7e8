// Package fusebox is the home of an HTTP client circuit breaker. There is nothing to import here; the packages are
//
//	transport             the http.RoundTripper to put into http.Client
//	policy                what counts as a failure, and the rules by which circuits trip, probe and recover
//	fuseboxtest           a kit for tests of services that have a Transport in them
//	policytest            a suite for rules of your own
//	fleet                 circuits of one upstream in many processes that decide together; fleettest tests a bus
//	dashboard             a live page of all circuits
//	logs, vars            circuits for log/slog and expvar
//	internal/statemachine the circuit itself; internal/peers is what those of other processes say of it
//	examples              programs to run
//
// and, in modules of their own,
//
//	prometheus, otel      metrics, and spans that say that a call was never made
//	fleet/fleetredis           a fleet over Redis or Valkey
//	conformance           exchanges with and without a Transport, faults made for real, RPC, HTTP/3 and real proxies
//	bench                 what decisions cost, and what calls cost, beside other breakers
package fusebox
