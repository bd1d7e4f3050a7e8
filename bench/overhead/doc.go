// Command overhead measures what a circuit breaker costs a call that goes well, and a refusal: Fusebox and its peers
// side by side in one process, over the same base, through their public APIs.
//
//	go run ./overhead                        # the table; some six minutes
//	go run ./overhead -case serial -rounds 9
//	go test -bench . ./overhead              # the same measurements for benchstat; add -run '^$' -count 10
//
// Every subject stands between a caller that uses one request again and again and a base that returns an answer made
// beforehand. A case is measured in rounds, and in each round every subject and the bare base take turns, so that
// whatever else the machine does falls on all of them. What is printed of a case is the median over the rounds of the
// time over that of the base in the same round, and the ratio to the fastest peer that keeps circuits per host. Where
// the base is not reached (refusal) or is far slower than any breaker (loopback), it is the whole time.
//
// With many hosts, a subject alternates with the base alone, so as not to pay for the memory of the others: there,
// ratios between subjects want a quiet machine. Memory kept per host includes the stacks of goroutines, and not the
// host's name. Floors are what single steps take, to tell what a time can be made of.
//
// Peers have their default values. Those without circuits per host get them as a user would write it, a sync.Map from
// the host of the request to the breaker. They are told what fails: errors and answers of 500 and beyond.
package main
