package main

import (
	"net/http"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func fuseboxes() []subject {
	return []subject{
		fusebox("fusebox", "Fusebox with no options", nil),
		fusebox("fusebox-classic", "Fusebox with policy.Classic", nil, transport.WithPolicy(policy.Classic{})),
		fusebox("fusebox-observer", "Fusebox with an observer of everything, which does nothing", nil, transport.WithObserver(observer)),
		fusebox("fusebox-error", "Fusebox with WithRefusalError", []string{"refusal"}, transport.WithRefusalError()),
		fusebox("fusebox-unbounded", "Fusebox with WithMaxCircuits(1 << 20), as the peers forget no host", []string{"hosts-100000"},
			transport.WithMaxCircuits(1<<20)),
	}
}

func fusebox(name, about string, only []string, opts ...transport.Option) subject {
	return subject{name: name, about: about, own: true, perHost: true, native: true, only: only, new: func(base http.RoundTripper) http.RoundTripper {
		return transport.New(base, opts...)
	}}
}

var observer = transport.Observer{
	OnStateChange: func(transport.StateChange) {},
	OnRefusal:     func(transport.Refusal) {},
	OnCall:        func(transport.CallStart) {},
	OnOutcome:     func(transport.CallEnd) {},
}
