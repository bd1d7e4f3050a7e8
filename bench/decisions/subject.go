package main

import (
	"net/http"
	"slices"
)

// What a subject is in the table for.
type role int

const (
	rolePeer  role = iota // a known breaker
	roleOwn               // Fusebox
	roleBound             // the oracle and no breaker at all: the ends of the scale
)

// A subject is a set-up of a breaker.
type subject struct {
	name  string
	about string
	role  role

	apart bool // not in the table of scripts, but in the draws of families

	// leaks: the breaker starts goroutines that cannot be stopped.
	leaks bool
	// dice: the breaker draws from a source of chance that cannot be seeded, so that its numbers vary from run to run.
	dice bool

	// new returns a breaker, as one client process would have it.
	new func(base http.RoundTripper) http.RoundTripper
	// fleet, in place of new, is called once for all clients of a simulation and returns their new.
	fleet func() func(base http.RoundTripper) http.RoundTripper
}

// subjects returns all of them. The oracle comes first: the others are measured against it.
func subjects() []subject {
	return append([]subject{
		{name: "oracle", about: "knows the upstream's true state", role: roleBound, new: newOracle},
		{name: "none", about: "no breaker",
			role: roleBound, new: func(base http.RoundTripper) http.RoundTripper { return base }},
	}, registered...)
}

// registered is filled by the init functions of the files that hold one make of breaker each.
var registered []subject

func register(s ...subject) { registered = append(registered, s...) }

// scripted returns those of subjects that are in the table of scripts.
func scripted(all []subject) []subject {
	return slices.DeleteFunc(all, func(s subject) bool { return s.apart })
}
