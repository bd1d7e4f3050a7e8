// Package logs tells a slog.Logger what happens to the circuits of a transport.Transport.
//
//	transport.New(nil, transport.WithObserver(logs.Observer(slog.Default())))
package logs

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	lineEvery      = 10 * time.Second // about refusals of one circuit, and about others
	probeLineEvery = time.Minute      // about probes of one circuit that failed
	mostKeys       = 1024             // whose refusals, probes and throttles are counted apart

	throttleLineEvery = time.Minute // about the begin of a throttle of one circuit, and as often about its end
)

// Observer returns an Observer that logs changes of state, at Warn if the circuit opens and at Info otherwise, such as
// when one that was forced open is released, or is in shadow; local trouble at Warn, and its end at Info; errors of the
// storage at Error; refusals at Info, a line in ten seconds for each circuit, with the number of those in between, and
// probes that failed likewise, a line in a minute. That calls of a closed circuit begin to be throttled is logged at
// Warn, and at Info in shadow; that they are not any more at Info, with how long that has lasted and how many were
// refused; a pair of lines in a minute for each circuit. A change says why (what the rule saw, and against what bound),
// and like a refusal when the next probe is (next_probe), in the words of transport.RefusedError. If the circuit waits
// for a request that can be lost (transport.WithSafeProbes), the line says so (waits_for), and until when at most.
//
// The refusals of 1,024 circuits at a time are counted apart, of those first that are Known. Those of all others have a
// line in ten seconds together, whose key is "others"; its attribute latest is the key of the last one, and reason,
// next_probe, cause and the like are that one's. So it is with probes.
//
// Of circuits that are not Known, whose hosts somebody may have made up, 32 changes of state have a line in ten
// seconds, and at their end there is one with how many more there were (changes); likewise 32 errors of the storage, of
// whatever circuits (errors).
//
// What operators do on the dashboard is logged by dashboard.LogActions.
func Observer(logger *slog.Logger) transport.Observer {
	if logger == nil {
		panic("fusebox/logs: Observer got a nil logger; write slog.Default()")
	}
	refused := refusals{logger, newTimes(lineEvery)}
	probes := failedProbes{logger, newTimes(probeLineEvery)}
	throttles := newThrottles(logger)
	var strangers, failures sparing
	return transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			if c.To == policy.Closed { // what is left of this trouble is not told in the next one
				refused.flush(c.Key, c.Shadow)
				probes.end(c)
			}
			if c.Known || strangers.takes(func(held int) {
				logger.Warn(
					"circuits of upstreams that have never answered changed", "key", "others", "changes", held,
					"latest", c.Key.String(), "to", c.To.String(),
				)
			}) {
				logChange(logger, c)
			}
		},
		OnRefusal: func(e transport.RefusalEvent) {
			throttles.refused(e)
			refused.observe(e)
		},
		OnThrottle: func(e transport.ThrottleEvent) {
			if e.Over {
				refused.flush(e.Key, e.Shadow)
			}
			throttles.observe(e)
		},
		OnProbe: probes.observe,
		OnLocalTrouble: func(l transport.LocalTrouble) {
			switch {
			case l.Cause != (policy.Cause{}) && l.Over:
				logger.Info(
					"calls no longer fail by this machine or its forward proxy",
					"cause", l.Cause.String(), "since", l.Since,
				)
				return
			case l.Cause != (policy.Cause{}):
				logger.Warn(
					"calls fail by this machine or its forward proxy, which opens no circuit",
					"cause", l.Cause.String(), "status", l.Cause.Status,
				)
				return
			case l.Over:
				logger.Info(
					"the upstreams that began to fail together are looked at one by one again",
					"tripped", l.Tripped, "since", l.Since,
				)
				return
			}
			logger.Warn("most upstreams in use began to fail together: the cause is most likely here",
				"tripped", l.Tripped, "well", l.Well, "since", l.Since)
		},
		OnStorageError: func(e transport.StorageError) {
			if failures.takes(func(held int) {
				logger.Error("circuit storage", "key", "others", "errors", held, "latest", e.Key.String(), "err", e.Err)
			}) {
				logger.Error("circuit storage", "key", e.Key.String(), "err", e.Err)
			}
		},
	}
}

func logChange(logger *slog.Logger, c transport.StateChange) {
	level, text := slog.LevelInfo, "circuit "+c.To.String()
	switch {
	case c.Reason == policy.ChangeReleased:
		text = "circuit released" // by hand, into the state in which it is
	case c.Shadow && c.Reason != policy.ChangeForced:
		text = "circuit would be " + c.To.String() + ", and refuses nothing"
	case c.To == policy.Open:
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("key", c.Key.String()), slog.String("from", c.From.String()), slog.String("to", c.To.String()),
		slog.String("reason", string(c.Reason)), slog.Int("failures", c.Failures), slog.Int("successes", c.Successes),
	}
	if c.Cause != (policy.Cause{}) {
		attrs = append(attrs, slog.String("cause", c.Cause.String()))
	}
	if len(c.Samples) > 0 && c.Samples[0].Cause == c.Cause && c.Samples[0].Trace != "" {
		attrs = append(attrs, slog.String("trace_id", c.Samples[0].Trace))
	}
	if c.Why != "" {
		attrs = append(attrs, slog.String("why", c.Why))
	}
	if when := when(c.When()); when != "" {
		attrs = append(attrs, slog.String("next_probe", when))
	}
	if c.Shadow {
		attrs = append(attrs, slog.Bool("shadow", true))
	}
	logger.LogAttrs(context.Background(), level, text, attrs...)
}

// when leaves out what the name of the attribute says.
func when(text string) string { return strings.TrimPrefix(text, "next probe ") }

type refusals struct {
	logger *slog.Logger
	times  *times
}

func (r *refusals) observe(e transport.RefusalEvent) {
	if e.Error == nil {
		return // it is nobody's
	}
	held, others, due := r.times.count(e.Key, e.Known, e.At)
	if !due {
		return
	}
	attrs := append(keyAttrs(e.Key, others), slog.Int("refused", held), slog.String("reason", e.Error.Reason.String()))
	if when := when(e.Error.NextProbe()); when != "" && e.Error.SafeWait == 0 {
		attrs = append(attrs, slog.String("next_probe", when))
	}
	if e.Error.SafeWait > 0 {
		attrs = append(
			attrs,
			slog.String("waits_for", "a request that can be lost"), slog.Time("until", e.At.Add(e.Error.SafeWait)),
		)
	}
	if e.Error.Cause != (policy.Cause{}) {
		attrs = append(attrs, slog.String("cause", e.Error.Cause.String()))
	}
	if t := e.Error.Throttle; t != nil {
		attrs = append(attrs, slog.String("why", t.Why))
		if t.InFlight > 0 {
			attrs = append(attrs, slog.Int("in_flight", t.InFlight), slog.Float64("per_second", t.PerSecond))
		}
	}
	attrs = append(attrs, slog.Bool("shadow", e.Shadow))
	r.logger.LogAttrs(context.Background(), slog.LevelInfo, refusedText(e.Shadow), attrs...)
}

// keyAttrs names the circuit of a line, or the last one of the others.
func keyAttrs(key transport.Key, others bool) []slog.Attr {
	if others {
		return []slog.Attr{slog.String("key", "others"), slog.String("latest", key.String())}
	}
	return []slog.Attr{slog.String("key", key.String())}
}

// flush tells of what no line has told yet.
func (r *refusals) flush(key transport.Key, shadow bool) {
	if n := r.times.end(key); n > 0 {
		r.logger.LogAttrs(
			context.Background(), slog.LevelInfo, refusedText(shadow),
			slog.String("key", key.String()), slog.Int("refused", n), slog.Bool("shadow", shadow),
		)
	}
}

func refusedText(shadow bool) string {
	if shadow {
		return "requests would have been refused"
	}
	return "requests refused"
}

// failedProbes are those of circuits that stay open, which is no change of state.
type failedProbes struct {
	logger *slog.Logger
	times  *times
}

func (p *failedProbes) observe(e transport.CallEnd) {
	if e.Outcome != policy.Failure {
		return
	}
	failed, others, due := p.times.count(e.Key, e.Known, time.Now())
	if !due {
		return
	}
	attrs := append(keyAttrs(e.Key, others), slog.Int("failed", failed), slog.String("cause", e.Cause.String()))
	p.logger.LogAttrs(context.Background(), slog.LevelInfo, "probes failed", attrs...)
}

func (p *failedProbes) end(c transport.StateChange) {
	if n := p.times.end(c.Key); n > 0 {
		p.logger.LogAttrs(
			context.Background(), slog.LevelInfo, "probes failed",
			slog.String("key", c.Key.String()), slog.Int("failed", n),
		)
	}
}
