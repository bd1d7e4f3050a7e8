// Package fuseboxprom shows Prometheus the circuits of a transport.Transport.
//
//	prometheus.MustRegister(fuseboxprom.NewCollector(t))
//
// The folder of this package has a dashboard for Grafana, grafana.json, and alert rules, alerts.yml.
package fuseboxprom

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fusebox-go/fusebox/internal/tally"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// Collector is a prometheus.Collector. NewCollector makes it. It starts no goroutine, and is told of what is seldom
// alone: changes of state, refusals, throttles, failures and probes. A healthy call costs no more with it than without.
//
// The label key is the circuit's Key as its String method writes it. At most as many keys as WithMaxKeys says have
// series of their own; what all others do is counted under the key "other". Half of the places are for those who come
// first, and half are kept for keys whose circuits open. When all are taken, a key that nothing ever happened to, or
// nothing for an hour, gives its place to one whose circuit opens, and one whose upstream has never answered
// (transport.Snapshot.Known) to one whose upstream has; it starts at zero if it comes back. What circuits did that the
// Transport has forgotten stays counted.
//
// The label reason of a failure is what a classifier said of it (policy.Call.Reason), at most 64 bytes on one line, or
// the status of which it made a failure without a word, such as "status 429"; otherwise it is empty. The first eight of
// each key are told apart; all others are counted under "other".
//
// What happened before NewCollector is not counted. Of refusals, those are missing that OnRefusal is not told of
// because it is too slow. For several Transports in one registry, give each a label by prometheus.WrapRegistererWith.
type Collector struct{ tally *tally.Tally }

// Option changes what NewCollector makes.
type Option func(*options)

type options struct{ most int }

// WithMaxKeys bounds how many keys have series of their own; the default is 100. A key that was in trouble has about
// 30, and one more for each reason that a classifier gives.
func WithMaxKeys(n int) Option {
	if n <= 0 {
		panic(fmt.Sprintf("fusebox/fuseboxprom: WithMaxKeys got %d; write a positive number", n))
	}
	return func(o *options) { o.most = n }
}

// NewCollector returns a Collector of the Transport's circuits, which counts from now on. It panics if t is nil.
func NewCollector(t *transport.Transport, opts ...Option) *Collector {
	if t == nil {
		panic("fusebox/fuseboxprom: NewCollector got a nil Transport; write the one that transport.New returned")
	}
	o := options{tally.DefaultMaxKeys}
	for _, option := range opts {
		option(&o)
	}
	ta := tally.New(t, o.most)
	ta.Observe()
	return &Collector{ta}
}

// Stop ends the counting. What was counted stays, and the circuits are still shown as they are.
func (c *Collector) Stop() { c.tally.Stop() }

const namespace = "fusebox"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	descState = desc("circuit_state",
		"1 for the state in which the circuit is (closed, open, half-open), 0 for the others.", "key", "state")
	descForced = desc("circuit_forced", "1 if somebody forced the circuit's state, 0 otherwise.", "key")
	descShadow = desc("circuit_shadow", "1 if the circuit is in shadow: it decides, but refuses nothing.", "key")
	descSince  = desc(
		"circuit_trouble_timestamp_seconds",
		"When the trouble began that the circuit is in. "+
			"Not there if it is closed, or nobody has asked for it for five minutes.", "key",
	)
	descAsked = desc(
		"circuit_asked_timestamp_seconds",
		"When the last request came for the circuit. "+
			"Not there if it is closed, or none has come since it was restored or set by hand.", "key",
	)
	descInFlight = desc(
		"circuit_in_flight_calls",
		"Calls let through an open or half-open circuit that are in flight. Not there if it is closed.", "key",
	)
	descLimit = desc(
		"circuit_in_flight_limit_calls",
		"How many calls an open or half-open circuit lets be in flight. Not there if it is closed.", "key",
	)
	descThrottle = desc(
		"circuit_throttle_timestamp_seconds",
		"Since when calls of the closed circuit are throttled. Not there if they are not.", "key",
	)
	descThrottleLimit = desc(
		"circuit_throttle_in_flight_limit_calls",
		"How many calls may be in flight of a closed circuit whose calls are throttled. Not there if any number may.",
		"key",
	)
	descThrottleRate = desc(
		"circuit_throttle_limit_calls_per_second",
		"About how many calls a second that is. Not there if that is not known.", "key",
	)
	descTrouble = desc(
		"circuit_trouble_seconds_total",
		"Time that circuits were not closed, and asked for: up to five minutes after each request.", "key",
	)
	descCircuits = desc(
		"circuits", "Circuits that are kept, whether or not their keys have series of their own.", "state",
	)
	descUnasked = desc(
		"unasked_circuits", "Circuits that nobody has asked for for five minutes, of those that are not closed.",
		"state",
	)
	descOverrides = desc(
		"overrides",
		"States that somebody forced and that are in force, by the state. "+
			"Each can match any number of circuits, or none.", "state",
	)
	descLocal = desc(
		"local_trouble",
		"1 while most of the upstreams in use began to fail together, so that the cause is most likely on this side.",
	)
	descLocals = desc("local_troubles_total", "How many times most of the upstreams in use began to fail together.")

	// descs has what is counted, by event.
	descs = [...]*prometheus.Desc{
		tally.Transitions: desc("circuit_transitions_total", "Changes of state.", "key", "from", "to", "reason"),
		tally.Refusals:    desc("refusals_total", "Requests that were refused.", "key", "reason"),
		tally.Failures: desc(
			"failures_total",
			"Calls that failed, by the class of their cause, and by the reason that a classifier gave.",
			"key", "class", "reason",
		),
		tally.Probes: desc(
			"probes_total", "Calls that decided about an open or half-open circuit.", "key", "outcome",
		),
		tally.ShadowRefusals: desc(
			"shadow_refusals_total", "Requests that would have been refused if the circuit were not in shadow.", "key",
			"reason",
		),
		tally.ShadowCalls: desc(
			"shadow_calls_total",
			"What became of calls that would have been refused if the circuit were not in shadow.", "key", "outcome",
		),
		tally.Throttles: desc(
			"throttles_total", "How many times calls of a closed circuit began to be throttled.", "key", "reason",
		),
		tally.ThrottlesOver: desc(
			"throttles_ended_total", "How many times calls of a circuit were not throttled any more.", "key", "reason",
		),
	}
)

// Describe is that of prometheus.Collector.
func (c *Collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descState, descForced, descShadow, descSince, descAsked, descInFlight, descLimit, descThrottle,
		descThrottleLimit, descThrottleRate, descTrouble, descCircuits,
		descUnasked, descOverrides, descLocal, descLocals,
	} {
		to <- d
	}
	for _, d := range descs {
		to <- d
	}
}

// Collect is that of prometheus.Collector.
func (c *Collector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	s := c.tally.Read()
	for state, n := range s.States {
		gauge(descCircuits, float64(n), policy.State(state).String())
		if state != int(policy.Closed) {
			gauge(descUnasked, float64(n-s.Asked[state]), policy.State(state).String())
		}
	}
	for _, state := range []policy.State{policy.Closed, policy.Open} {
		gauge(descOverrides, float64(s.Forced[state]), state.String())
	}
	gauge(descLocal, oneIf(s.Local))
	counter(descLocals, float64(s.Locals))
	for _, r := range s.Rows {
		for of, n := range r.Counts {
			labels := append(make([]string, 0, 4), r.Text, of.A, of.B, of.C)
			switch of.Event {
			case tally.Transitions:
			case tally.Failures:
				labels = labels[:3]
			default:
				labels = labels[:2]
			}
			counter(descs[of.Event], float64(n), labels...)
		}
		counter(descTrouble, r.Trouble.Seconds(), r.Text)
		if r.Circuit == nil {
			continue
		}
		for state := range policy.HalfOpen + 1 {
			gauge(descState, oneIf(r.Circuit.State == state), r.Text, state.String())
		}
		gauge(descForced, oneIf(r.Circuit.Forced), r.Text)
		gauge(descShadow, oneIf(r.Circuit.Shadow != nil && r.Circuit.Shadow.On), r.Text)
		if throttle := r.Circuit.Throttle; throttle != nil {
			gauge(descThrottle, seconds(throttle.Since), r.Text)
			if throttle.InFlight > 0 {
				gauge(descThrottleLimit, float64(throttle.InFlight), r.Text)
			}
			if throttle.PerSecond > 0 {
				gauge(descThrottleRate, throttle.PerSecond, r.Text)
			}
		}
		if r.Circuit.State != policy.Closed {
			if tally.InTrouble(r.Circuit, s.At) {
				gauge(descSince, seconds(r.Circuit.Trouble), r.Text)
			}
			if !r.Circuit.Asked.IsZero() {
				gauge(descAsked, seconds(r.Circuit.Asked), r.Text)
			}
			gauge(descInFlight, float64(r.Circuit.InFlight), r.Text)
			gauge(descLimit, float64(r.Circuit.Limit), r.Text)
		}
	}
}

func seconds(t time.Time) float64 {
	return float64(t.UnixMilli()) / float64(time.Second/time.Millisecond)
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
