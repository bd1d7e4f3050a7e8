// Decisions puts circuit breakers into the same trouble and counts what their decisions cost.
//
//	cd bench && go run ./decisions
//
// Real breakers, at the versions in go.mod, driven by their public API as an http.RoundTripper, meet scripted traffic
// and a scripted upstream in virtual time (testing/synctest). Every subject sees the same arrivals and the same
// coins: whether request i fails at a given share of failures, how long its answer takes, whether and when its
// caller cancels are a hash of seed, scenario, client, i and the number of the try, and of nothing else. A run is the
// same each time, but for peers that draw from a source of chance that cannot be seeded (failsafe-throttler, all of
// rubyist): their means move by a few tenths, single cells by more.
//
// # Regret
//
// The regret of a subject in a scenario is
//
//	max(0, the oracle's good answers - the subject's good answers) + 1/2 × calls wasted
//
// in percent of the requests offered. A request is what a caller wants, its retries are not counted as further ones; an
// answer is good if the status is 200 and the body whole, of any try. A call is wasted if the upstream was in no state
// to serve it when it began: more than two of three such calls fail, or the answer comes after the caller's timeout,
// or the queue is full, or the process is down or crashes by this very call. Retries are calls; so the waste can
// pass 100 %.
//
// The oracle knows the share of failures f of the moment, and makes a call if and only if it pays by the same
// measure: the expected good, 1-f, is at least the expected waste, f/2, which is so up to f = 2/3. Before a queue
// it knows when the answer will be there and makes the call if the caller will be, too. That is exact for upstreams
// that fail by the clock, and an approximation for queues: it takes requests as they come and plans nothing. Its own
// regret is 0 by definition.
//
// Beside the regret: seconds to open, from the trouble's start to the first refusal; seconds to recover, from the
// trouble's end until 95 % of the next second's requests (at least ten) are served; the largest burst of calls in
// flight that were wasted after the first refusal; and the seconds for which failing calls held their callers, per 1000
// requests. The flag -detail prints these.
//
// # What is simulated
//
// Arrivals are Poisson. Latency is lognormal, 30 ms at the median; callers wait 2 s for each try unless the scenario
// says otherwise, and read bodies to the end. Every scenario has healthy time before and after its trouble, whose
// length varies by up to 10 % with the seed, so that no breaker's timer fits it by luck.
//
// A peer sees what its users' RoundTripper sees: headers or an error. 500 and beyond, transport errors and timeouts are
// failures; a caller's cancellation is not counted where the API lets one say so, which is noted where not. No peer
// watches bodies.
//
// # Seeds
//
// Seeds 1 to 9 are for tuning a policy, 301 to 305 are held out to judge it by, and are what a run uses unless told
// otherwise. The table should also hold at scales 0.5 and 2 (-scale 0.5,1,2), which multiply all rates and, with them,
// the capacity of queues.
package main
