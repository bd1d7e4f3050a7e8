// Package logs tells a slog.Logger what happens to the circuits of a transport.Transport.
//
//	transport.New(nil, transport.WithObserver(logs.Observer(slog.Default())))
package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	lineEvery = 10 * time.Second // about refusals of one circuit, and about others
	mostKeys  = 1024             // whose refusals are counted apart
)

// Observer returns an Observer that logs changes of state, at Warn if the circuit opens and at Info otherwise, such as
// when one that was forced open is released; local trouble at Warn, and its end at Info; errors of the storage at
// Error; and refusals at Info, a line in ten seconds for each circuit, with the number of those in between. If the
// circuit waits for a request that can be lost (transport.WithSafeProbes), the line says so (waits_for), and until when
// at most.
//
// The refusals of 1,024 circuits at a time are counted apart, of those first that are Known. Those of all others have a
// line in ten seconds together, whose key is "others"; its attribute latest is the key of the last one, and reason,
// wait, cause and the like are that one's.
//
// Of circuits that are not Known, whose hosts somebody may have made up, 32 changes of state have a line in ten seconds, and at their end there is one
// with how many more there were (changes); likewise 32 errors of the storage, of whatever circuits (errors).
//
// What operators do on the dashboard is logged by dashboard.LogActions.
func Observer(logger *slog.Logger) transport.Observer {
	if logger == nil {
		panic("fusebox/logs: Observer got a nil logger; write slog.Default()")
	}
	r := refusals{logger: logger, seen: bounded.New[transport.Key, *refused](mostKeys)}
	var strangers, failures sparing
	return transport.Observer{
		OnStateChange: func(c transport.StateChange) {
			if c.Known || strangers.takes(func(held int) {
				logger.Warn("circuits of upstreams that have never answered changed", "key", "others", "changes", held, "latest", c.Key.String(), "to", c.To.String())
			}) {
				logChange(logger, c)
			}
		},
		OnRefusal: r.observe,
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
	if len(c.Samples) > 0 && c.Samples[0].Trace != "" {
		attrs = append(attrs, slog.String("trace_id", c.Samples[0].Trace))
	}
	if !c.NextProbe.IsZero() {
		attrs = append(attrs, slog.Time("next_probe", c.NextProbe))
	}
	if c.Shadow {
		attrs = append(attrs, slog.Bool("shadow", true))
	}
	logger.LogAttrs(context.Background(), level, text, attrs...)
}

type refused struct {
	next time.Time // a line is due
	held int       // refusals since the last one
}

type refusals struct {
	logger *slog.Logger
	mu     sync.Mutex
	seen   *bounded.Map[transport.Key, *refused]
	rest   refused // of keys that are not among seen
	swept  time.Time
}

func (r *refusals) observe(e transport.RefusalEvent) {
	held, others, due := r.count(e.Key, e.Known, e.At)
	if !due {
		return
	}
	attrs := []slog.Attr{slog.String("key", e.Key.String())}
	if others {
		attrs = []slog.Attr{slog.String("key", "others"), slog.String("latest", e.Key.String())}
	}
	attrs = append(
		attrs,
		slog.Int("refused", held), slog.String("reason", e.Error.Reason.String()), slog.Duration("wait", e.Error.RetryAfter),
	)
	if e.Error.SafeWait > 0 {
		attrs = append(
			attrs,
			slog.String("waits_for", "a request that can be lost"), slog.Time("until", e.At.Add(e.Error.SafeWait)),
		)
	}
	if e.Error.Cause != (policy.Cause{}) {
		attrs = append(attrs, slog.String("cause", e.Error.Cause.String()))
	}
	r.logger.LogAttrs(
		context.Background(), slog.LevelInfo, "requests refused", append(attrs, slog.Bool("shadow", e.Shadow))...,
	)
}

// count returns how many refusals a line is about, if one is due, and whether they are those of many keys.
func (r *refusals) count(k transport.Key, known bool, now time.Time) (n int, others, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.seen.Get(k)
	if !ok {
		if r.seen.Len() >= mostKeys && now.Sub(r.swept) >= lineEvery {
			r.swept = now
			for key, old := range r.seen.All() {
				if now.After(old.next) {
					r.seen.Delete(key)
				}
			}
		}
		s = new(refused)
	}
	if others = !r.seen.Put(k, s, known); others {
		s = &r.rest
	}
	s.held++
	if now.Before(s.next) {
		return 0, others, false
	}
	n, s.held, s.next = s.held, 0, now.Add(lineEvery)
	return n, others, true
}
