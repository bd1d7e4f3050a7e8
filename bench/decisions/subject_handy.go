package main

import (
	"net/http"

	"github.com/streadway/handy/breaker"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// Its other settings cannot be tuned: the With methods change a copy that the breaker, already running, never sees.
// Its transport counts a cancelled call as a failure.
func init() {
	register(subject{
		name: "handy", about: "streadway/handy: more than 50 % of more than 10 in 5 s, 1 s", leaks: true,
		new: func(base http.RoundTripper) http.RoundTripper {
			valid := func(resp *http.Response) bool { return !peer.Failed(resp, nil) }
			return breaker.Transport(breaker.NewBreaker(0.5), valid, base)
		},
	})
}
