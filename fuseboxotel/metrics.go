// Package fuseboxotel shows OpenTelemetry the circuits of a transport.Transport: metrics of all that happens to them,
// and in the trace of a refused request, that its call was never made.
//
//	t := transport.New(nil, fuseboxotel.WithTracing())
//	stop, err := fuseboxotel.Observe(t)
//	client := &http.Client{Transport: otelhttp.NewTransport(t)}
package fuseboxotel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/fusebox-go/fusebox/internal/tally"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const scope = "github.com/fusebox-go/fusebox/fuseboxotel"

// The attributes that are not those of the semantic conventions.
const (
	KeyState     = attribute.Key("fusebox.circuit.state")    // closed, open or half-open; of a transition the new one
	KeyFrom      = attribute.Key("fusebox.circuit.previous") // the state before a transition
	KeyReason    = attribute.Key("fusebox.reason")           // of a transition, refusal, throttle or judged failure
	KeyOutcome   = attribute.Key("fusebox.outcome")          // success, failure, ignored or, in shadow, turned away
	KeyDetail    = attribute.Key("fusebox.detail")           // transport.Key.Detail, if it is not empty
	KeyRefused   = attribute.Key("fusebox.refused")          // true on the span of a request that was refused
	KeyProbe     = attribute.Key("fusebox.probe")            // true on the span of a call that decided about a circuit
	KeyKey       = attribute.Key("fusebox.key")              // transport.Key as text
	KeyWait      = attribute.Key("fusebox.wait")             // seconds, transport.RefusedError.RetryAfter
	KeyWhy       = attribute.Key("fusebox.why")              // of a refusal by a throttle: what it saw
	KeyLastCause = attribute.Key("fusebox.cause")            // of the upstream's last failure
)

// Option changes what Observe does.
type Option func(*options)

type options struct {
	provider metric.MeterProvider
	most     int
}

// WithMeterProvider sets whose meter the instruments are of. The default is the global one.
func WithMeterProvider(p metric.MeterProvider) Option {
	if p == nil {
		panic("fusebox/fuseboxotel: WithMeterProvider got nil; leave it out for the global one")
	}
	return func(o *options) { o.provider = p }
}

// WithMaxKeys bounds how many keys have attributes of their own; the default is 100.
func WithMaxKeys(n int) Option {
	if n <= 0 {
		panic(fmt.Sprintf("fusebox/fuseboxotel: WithMaxKeys got %d; write a positive number", n))
	}
	return func(o *options) { o.most = n }
}

// Observe makes the instruments that show a Transport's circuits, and counts from now on until stop is called. It
// panics if t is nil. All instruments are observed when they are collected: Observe starts no goroutine, and is told of
// what is seldom alone: changes of state, refusals, throttles, failures and probes. A healthy call costs no more with
// it than without.
//
// A circuit is told by the attributes server.address, server.port, url.scheme and fusebox.detail. At most as many keys
// as WithMaxKeys says have attributes of their own; what all others do is counted under the server.address "_OTHER".
// Half of the places are for those who come first, and half are kept for keys whose circuits open. When all are taken,
// a key that nothing ever happened to, or nothing for an hour, gives its place to one whose circuit opens, and one
// whose upstream has never answered (transport.Snapshot.Known) to one whose upstream has; it starts at zero if it comes
// back. What circuits did that the Transport has forgotten stays counted.
//
// The fusebox.reason of a failure is what a classifier said of it (policy.Call.Reason), at most 64 bytes on one line,
// or the status of which it made a failure without a word, such as "status 429"; otherwise it is not there. The first
// eight of each key are told apart; all others are counted under "other".
func Observe(t *transport.Transport, opts ...Option) (stop func() error, err error) {
	if t == nil {
		panic("fusebox/fuseboxotel: Observe got a nil Transport; write the one that transport.New returned")
	}
	o := options{otel.GetMeterProvider(), tally.DefaultMaxKeys}
	for _, option := range opts {
		option(&o)
	}
	meter := o.provider.Meter(scope, metric.WithSchemaURL(semconv.SchemaURL))
	i, all, err := newInstruments(meter)
	if err != nil {
		return nil, fmt.Errorf("fusebox: make instruments: %w", err)
	}
	ta := tally.New(t, o.most)
	ta.Observe()
	registration, err := meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		i.show(ta.Read(), to)
		return nil
	}, all...)
	if err != nil {
		ta.Stop()
		return nil, fmt.Errorf("fusebox: register instruments: %w", err)
	}
	return func() error {
		ta.Stop()
		return registration.Unregister()
	}, nil
}

// instruments are up-down counters where sums over processes make sense, as the semantic conventions have it for
// states, and gauges where they do not.
type instruments struct {
	state, forced, shadow, circuits, unasked, overrides, inFlight, limit, local metric.Int64ObservableUpDownCounter

	since   metric.Float64ObservableGauge
	asked   metric.Float64ObservableGauge
	trouble metric.Float64ObservableCounter

	throttle      metric.Float64ObservableGauge
	throttleLimit metric.Int64ObservableUpDownCounter
	throttleRate  metric.Float64ObservableGauge

	locals metric.Int64ObservableCounter
	counts [tally.ThrottlesOver + 1]metric.Int64ObservableCounter
}

func newInstruments(m metric.Meter) (i instruments, all []metric.Observable, err error) {
	var errs []error
	upDown := func(name, unit, text string) metric.Int64ObservableUpDownCounter {
		made, err := m.Int64ObservableUpDownCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		all, errs = append(all, made), append(errs, err)
		return made
	}
	counter := func(name, unit, text string) metric.Int64ObservableCounter {
		made, err := m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		all, errs = append(all, made), append(errs, err)
		return made
	}
	i.state = upDown(
		"fusebox.circuit.status", "{circuit}", "1 for the state in which the circuit is, 0 for the others.",
	)
	i.forced = upDown("fusebox.circuit.forced", "{circuit}", "1 if somebody forced the circuit's state, 0 otherwise.")
	i.shadow = upDown(
		"fusebox.circuit.shadow", "{circuit}", "1 if the circuit is in shadow: it decides, but refuses nothing.",
	)
	i.circuits = upDown(
		"fusebox.circuit.count", "{circuit}",
		"Circuits that are kept, whether or not they have attributes of their own.",
	)
	i.unasked = upDown(
		"fusebox.circuit.unasked.count", "{circuit}",
		"Circuits that nobody has asked for for five minutes, of those that are not closed.",
	)
	i.overrides = upDown(
		"fusebox.override.count", "{override}",
		"States that somebody forced and that are in force, by the state. "+
			"Each can match any number of circuits, or none.",
	)
	i.inFlight = upDown(
		"fusebox.circuit.call.active", "{request}",
		"Calls let through an open or half-open circuit that are in flight.",
	)
	i.limit = upDown(
		"fusebox.circuit.call.limit", "{request}", "How many calls an open or half-open circuit lets be in flight.",
	)
	i.throttleLimit = upDown(
		"fusebox.circuit.throttle.limit", "{request}",
		"How many calls may be in flight of a closed circuit whose calls are throttled.",
	)
	i.local = upDown(
		"fusebox.local_trouble.active", "{process}",
		"1 while most of the upstreams in use began to fail together, so that the cause is most likely on this side.",
	)
	i.locals = counter(
		"fusebox.local_trouble.occurrences", "{occurrence}",
		"How many times most of the upstreams in use began to fail together.",
	)
	i.counts = [...]metric.Int64ObservableCounter{
		tally.Transitions: counter("fusebox.circuit.transitions", "{transition}", "Changes of state."),
		tally.Refusals:    counter("fusebox.refusals", "{request}", "Requests that were refused."),
		tally.Failures: counter(
			"fusebox.failures", "{request}",
			"Calls that failed, by the class of their cause, and by the reason that a classifier gave.",
		),
		tally.Probes: counter(
			"fusebox.probes", "{request}", "Calls that decided about an open or half-open circuit.",
		),
		tally.ShadowRefusals: counter(
			"fusebox.shadow.refusals", "{request}",
			"Requests that would have been refused if the circuit were not in shadow.",
		),
		tally.ShadowCalls: counter(
			"fusebox.shadow.calls", "{request}",
			"What became of calls that would have been refused if the circuit were not in shadow.",
		),
		tally.Throttles: counter(
			"fusebox.throttles", "{throttle}", "How many times calls of a closed circuit began to be throttled.",
		),
		tally.ThrottlesOver: counter(
			"fusebox.throttles.ended", "{throttle}", "How many times calls of a circuit were not throttled any more.",
		),
	}
	i.since, err = m.Float64ObservableGauge("fusebox.circuit.trouble.duration", metric.WithUnit("s"),
		metric.WithDescription("How long the circuit has been in the trouble that it is in. "+
			"Not there if nobody has asked for it for five minutes."))
	all, errs = append(all, i.since), append(errs, err)
	i.asked, err = m.Float64ObservableGauge("fusebox.circuit.unasked.duration", metric.WithUnit("s"),
		metric.WithDescription("How long ago the last request came for a circuit that is not closed."))
	all, errs = append(all, i.asked), append(errs, err)
	i.throttle, err = m.Float64ObservableGauge("fusebox.circuit.throttle.duration", metric.WithUnit("s"),
		metric.WithDescription("How long calls of the closed circuit have been throttled. Not there if they are not."))
	all, errs = append(all, i.throttle), append(errs, err)
	i.throttleRate, err = m.Float64ObservableGauge("fusebox.circuit.throttle.rate", metric.WithUnit("{request}/s"),
		metric.WithDescription("About how many calls a second may go while calls of a closed circuit are throttled."))
	all, errs = append(all, i.throttleRate), append(errs, err)
	i.trouble, err = m.Float64ObservableCounter("fusebox.circuit.trouble.time", metric.WithUnit("s"),
		metric.WithDescription(
			"Time that circuits were not closed, and asked for: up to five minutes after each request.",
		))
	all, errs = append(all, i.trouble), append(errs, err)
	return i, all, errors.Join(errs...)
}

func (i *instruments) show(s tally.Summary, to metric.Observer) {
	for state, n := range s.States {
		with := metric.WithAttributes(KeyState.String(policy.State(state).String()))
		to.ObserveInt64(i.circuits, int64(n), with)
		if state != int(policy.Closed) {
			to.ObserveInt64(i.unasked, int64(n-s.Asked[state]), with)
		}
	}
	for _, state := range []policy.State{policy.Closed, policy.Open} {
		to.ObserveInt64(i.overrides, int64(s.Forced[state]), metric.WithAttributes(KeyState.String(state.String())))
	}
	to.ObserveInt64(i.local, oneIf(s.Local))
	to.ObserveInt64(i.locals, int64(s.Locals))
	for _, r := range s.Rows {
		key := attributesOf(r)
		with := func(more ...attribute.KeyValue) metric.MeasurementOption {
			return metric.WithAttributeSet(attribute.NewSet(append(key[:len(key):len(key)], more...)...))
		}
		for of, n := range r.Counts {
			to.ObserveInt64(i.counts[of.Event], int64(n), with(seriesAttributes(of)...))
		}
		to.ObserveFloat64(i.trouble, r.Trouble.Seconds(), with())
		c := r.Circuit
		if c == nil {
			continue
		}
		for state := range policy.HalfOpen + 1 {
			to.ObserveInt64(i.state, oneIf(c.State == state), with(KeyState.String(state.String())))
		}
		to.ObserveInt64(i.forced, oneIf(c.Forced), with())
		to.ObserveInt64(i.shadow, oneIf(c.Shadow != nil && c.Shadow.On), with())
		if throttle := c.Throttle; throttle != nil {
			to.ObserveFloat64(i.throttle, s.At.Sub(throttle.Since).Seconds(), with())
			if throttle.InFlight > 0 {
				to.ObserveInt64(i.throttleLimit, int64(throttle.InFlight), with())
			}
			if throttle.PerSecond > 0 {
				to.ObserveFloat64(i.throttleRate, throttle.PerSecond, with())
			}
		}
		if c.State != policy.Closed {
			if tally.InTrouble(c, s.At) {
				to.ObserveFloat64(i.since, s.At.Sub(c.Trouble).Seconds(), with())
			}
			if !c.Asked.IsZero() {
				to.ObserveFloat64(i.asked, s.At.Sub(c.Asked).Seconds(), with())
			}
			to.ObserveInt64(i.inFlight, int64(c.InFlight), with())
			to.ObserveInt64(i.limit, int64(c.Limit), with())
		}
	}
}

func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

func seriesAttributes(s tally.Series) []attribute.KeyValue {
	switch s.Event {
	case tally.Transitions:
		return []attribute.KeyValue{KeyFrom.String(s.A), KeyState.String(s.B), KeyReason.String(s.C)}
	case tally.Refusals, tally.ShadowRefusals, tally.Throttles, tally.ThrottlesOver:
		return []attribute.KeyValue{KeyReason.String(s.A)}
	case tally.Failures:
		if s.B == "" {
			return []attribute.KeyValue{semconv.ErrorTypeKey.String(s.A)}
		}
		return []attribute.KeyValue{semconv.ErrorTypeKey.String(s.A), KeyReason.String(s.B)}
	}
	return []attribute.KeyValue{KeyOutcome.String(s.A)}
}

func attributesOf(r tally.Row) []attribute.KeyValue {
	if r.Text == tally.OtherKey {
		// as the conventions have it for what is out of bounds
		return []attribute.KeyValue{semconv.ServerAddress("_OTHER")}
	}
	return keyAttributes(r.Key)
}

func keyAttributes(k transport.Key) (attributes []attribute.KeyValue) {
	if k.Host != "" {
		host, port := k.Host, defaultPort(k.Scheme)
		if h, p, err := net.SplitHostPort(k.Host); err == nil {
			host, port = h, 0
			if n, err := strconv.ParseUint(p, 10, 16); err == nil {
				port = int(n)
			}
		}
		attributes = append(attributes, semconv.ServerAddress(strings.Trim(host, "[]")))
		if port != 0 {
			attributes = append(attributes, semconv.ServerPort(port))
		}
	}
	if k.Scheme != "" {
		attributes = append(attributes, semconv.URLScheme(k.Scheme))
	}
	if k.Detail != "" {
		attributes = append(attributes, KeyDetail.String(k.Detail))
	}
	return attributes
}

func defaultPort(scheme string) int {
	switch scheme {
	case "http":
		return 80
	case "https":
		return 443
	}
	return 0
}
