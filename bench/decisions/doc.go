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
// # Families
//
//	cd bench && go run ./decisions -families 32
//
// Constants that fit scripts need not fit anything else. A family is a kind of trouble whose parameters are drawn at
// random: 32 draws of each family here. The draw of a seed is the same for every subject, and -draw takes single
// seeds. All families weigh the same. What is drawn from what range, and why, is written at each draw* function in
// families_clock.go (upstreams that fail by the clock), families_queue.go (those with a capacity) and families_url.go
// (those of which a part fails); what they share, such as rates, deadlines, retries and seasons of load, is in
// families.go.
//
// Draws have what scripts have not: deadlines that vary from caller to caller, latencies with heavy tails, loads that
// swell or come in bursts, streams whose bodies last, URL spaces with ids, and limits by 429. Long outages come at
// low rates, so that a draw has 250 to some thousands of requests. A slow answer that comes after its caller's
// deadline is a failure that the oracle knows the chance of.
//
// Where a little more than two of three calls fail, each call counts as wasted, also one that succeeds, and what it
// brought beyond the oracle's good answers counts nothing: a step in the regret, from 0 to half of all calls, which
// draws meet more often than scripts. The column net has no step: what the oracle is worth more, good answers less half
// of the wasted calls that failed.
//
// Refusals are wrong if the call would have paid at that moment; the column says how many requests ended in one. In
// the families paths and urls these are the false alarms of whoever tells parts of an upstream apart.
//
// Behind the mean is the interval that nine of ten bootstrap resamples of the draws lie in; a ratio to the best peer
// is resampled over the same draws of both. The best peer is the one with the least mean over all families, and
// "there" that of one family. Single draws are compared with the best of three peers that were chosen beforehand
// (rivals in draws.go): the best of thirty is the best by luck. How much luck there is to choose says the line below
// the means, which has the mean of those peers that turned out to be the best in each family, and in each draw.
//
// Peers that limit calls in flight are only here. limit-fits knows what suits the queue that it is before, as nobody
// does who has not measured it and whose upstream never changes. It, limit-10, vegas and gradient2 are around
// gobreaker-tuned, failsafe-go's limiter and throttler around failsafe-rate. envoy-* are models after Envoy's
// sources, not Envoy. 429 is no failure to breakers, and a reason to send less to limiters.
//
// There are three sets of seeds: -set tune, from 10000 on; look, from 20000 on, to see now and then whether what was
// tuned holds; and final, from 30000 on, to be run when all is done. A run of one of the last two appends a line to
// looks.txt, that the looks can be counted. -out writes families.svg, the draws as points; -json prints every draw,
// and -from shows what it printed, again and without a run. -before takes what -json printed of an earlier run, and
// says what has changed over the same draws, with its interval: the way to tell a constant that does something.
//
// What is not simulated: servers that drop the work of callers who have gone, that share a processor or serve the
// last first; hosts of which one is bad; and requests that can wait in the client.
//
// # Seeds of scripts
//
// Seeds 1 to 9 are for tuning a policy, 301 to 305 are held out to judge it by, and are what a run uses unless told
// otherwise. The table should also hold at scales 0.5 and 2 (-scale 0.5,1,2), which multiply all rates and, with them,
// the capacity of queues.
package main
