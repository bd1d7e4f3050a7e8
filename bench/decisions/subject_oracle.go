package main

import (
	"errors"
	"net/http"
)

// An oracle lets a call through if and only if it pays by the measure of this table: f, the share of calls that fail,
// being known, if the expected good answer (1-f) is worth the expected waste (f/2). Before a queue it knows when the
// answer will be there, and lets a call through if its caller still will be. It does not plan ahead: a cleverer one
// would refuse the long jobs before the short ones.
type oracle struct{ wire *wire }

func newOracle(base http.RoundTripper) http.RoundTripper { return oracle{base.(*wire)} }

var errForeseen = errors.New("oracle: the call would not pay")

// RoundTrip implements http.RoundTripper.
func (o oracle) RoundTrip(req *http.Request) (*http.Response, error) {
	if !o.wire.servesNow(tryOf(req.Context())) {
		return nil, errForeseen
	}
	return o.wire.RoundTrip(req)
}
