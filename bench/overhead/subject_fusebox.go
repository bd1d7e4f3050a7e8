package main

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/fusebox-go/fusebox/dashboard"
	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fuseboxprom"
	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func fuseboxes() []subject {
	healthy := []string{"serial", "parallel", "body"}
	refusing := []string{"refusal", "refusals", "refusals-half-open"}
	limits := policy.Adaptive{Limits: policy.Limits{InFlight: 1000, Timeout: time.Minute}}
	return []subject{
		fusebox("fusebox", "Fusebox with no options", nil),
		fusebox("fusebox-classic", "Fusebox with policy.Classic", nil, transport.WithPolicy(policy.Classic{})),
		fusebox("fusebox-observer", "Fusebox with an observer of everything, which does nothing", nil,
			transport.WithObserver(observer)),
		watched("fusebox-logs", "Fusebox with logs.Observer",
			func(t *transport.Transport) { t.Observe(logs.Observer(slog.New(slog.DiscardHandler))) }),
		watched("fusebox-prometheus", "Fusebox with the Collector of module fuseboxprom",
			func(t *transport.Transport) { fuseboxprom.NewCollector(t) }),
		watched("fusebox-dashboard", "Fusebox with dashboard.Handler, which counts good calls, too",
			func(t *transport.Transport) { dashboard.Handler(t) }),
		fusebox("fusebox-fleet", "Fusebox with WithFleet, and another member", healthy,
			transport.WithFleet(busOfTwo())),
		fusebox("fusebox-limits", "Fusebox with Limits of 1000 calls in flight and a minute", healthy,
			transport.WithPolicy(limits)),
		fusebox("fusebox-timeout", "Fusebox with Limits of a minute alone", healthy,
			transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{Timeout: time.Minute}})),
		fusebox("fusebox-outcome", "Fusebox with an observer of outcomes alone, and of their time", healthy,
			transport.WithObserver(transport.Observer{OnOutcome: func(transport.CallEnd) {}})),
		fusebox("fusebox-error", "Fusebox with WithRefusalError", refusing, transport.WithRefusalError()),
		fusebox("fusebox-unbounded", "Fusebox with WithMaxCircuits(1 << 20), as the peers forget no host",
			[]string{"hosts-100000", "random-1000", "random-100000"}, transport.WithMaxCircuits(1<<20)),
	}
}

func fusebox(name, about string, only []string, opts ...transport.Option) subject {
	return subject{
		name: name, about: about, own: true, perHost: true, native: true, only: only, probes: 1,
		new: func(base http.RoundTripper) http.RoundTripper {
			return transport.New(base, opts...)
		},
	}
}

func watched(name, about string, watch func(*transport.Transport)) subject {
	s := fusebox(name, about, []string{"serial", "parallel", "body", "refusal", "refusals"})
	s.new = func(base http.RoundTripper) http.RoundTripper {
		t := transport.New(base)
		watch(t)
		return t
	}
	return s
}

func busOfTwo() fleet.Bus {
	bus := new(fleet.Memory)
	bus.Join("the other", func(fleet.Message) {})
	return bus
}

var observer = transport.Observer{
	OnStateChange: func(transport.StateChange) {},
	OnRefusal:     func(transport.RefusalEvent) {},
	OnCall:        func(transport.CallStart) {},
	OnOutcome:     func(transport.CallEnd) {},
}
