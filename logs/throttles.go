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

// throttles tell when calls of a circuit begin to be throttled, and when that is over: two lines a minute for each
// circuit at most. What begins less than a minute after the last one had its line waits for it until a request is
// refused then; if it is over by that time it has none, and the next line says how many times it began.
type throttles struct {
	logger *slog.Logger

	mu    sync.Mutex
	seen  *bounded.Map[transport.Key, *throttled]
	rest  throttled // of keys that are not among seen, whose ends have no lines
	swept time.Time
}

// throttled is what is known of a circuit.
type throttled struct {
	next  time.Time // a line of a beginning is due
	times int       // that it began since the last one
	waits bool      // it began, and has no line yet
	began transport.ThrottleEvent
	told  bool // it began, and has a line
}

func newThrottles(logger *slog.Logger) *throttles {
	return &throttles{logger: logger, seen: bounded.New[transport.Key, *throttled](mostKeys)}
}

func (t *throttles) observe(e transport.ThrottleEvent) {
	if e.Over {
		t.end(e)
		return
	}
	t.mu.Lock()
	c, others := t.of(e.Key, e.Known, e.At)
	c.times++
	c.waits, c.began = true, e
	t.mu.Unlock()
	t.tell(c, others, e.At)
}

// of is called under mu.
func (t *throttles) of(k transport.Key, known bool, now time.Time) (c *throttled, others bool) {
	c, ok := t.seen.Get(k)
	if !ok {
		if t.seen.Len() >= mostKeys && now.Sub(t.swept) >= throttleLineEvery {
			t.swept = now
			for key, old := range t.seen.All() {
				if now.After(old.next) && !old.told && !old.waits {
					t.seen.Delete(key)
				}
			}
		}
		c = new(throttled)
	}
	if !t.seen.Put(k, c, known) {
		return &t.rest, true
	}
	return c, false
}

// refused has the line written that has waited for its time.
func (t *throttles) refused(e transport.RefusalEvent) {
	if e.Error == nil || e.Error.Reason != policy.RefusedThrottled {
		return
	}
	t.mu.Lock()
	c, ok := t.seen.Get(e.Key)
	t.mu.Unlock()
	if ok {
		t.tell(c, false, e.At)
	}
}

// tell writes the line of a beginning if it is due.
func (t *throttles) tell(c *throttled, others bool, now time.Time) {
	t.mu.Lock()
	if !c.waits || now.Before(c.next) {
		t.mu.Unlock()
		return
	}
	e, times := c.began, c.times
	c.waits, c.told, c.times, c.next = false, true, 0, now.Add(throttleLineEvery)
	t.mu.Unlock()

	attrs := append(keyAttrs(e.Key, others), slog.String("reason", string(e.Reason)), slog.String("why", e.Why))
	if e.InFlight > 0 {
		attrs = append(attrs, slog.Int("in_flight", e.InFlight))
	}
	if e.PerSecond > 0 {
		attrs = append(attrs, slog.Float64("per_second", e.PerSecond))
	}
	if times > 1 {
		attrs = append(attrs, slog.Int("times", times))
	}
	if !now.Equal(e.At) {
		attrs = append(attrs, slog.Time("since", e.At))
	}
	level, text := slog.LevelWarn, "calls throttled"
	if e.Shadow {
		level, text = slog.LevelInfo, "calls would be throttled, and none is refused"
		attrs = append(attrs, slog.Bool("shadow", true))
	}
	t.logger.LogAttrs(context.Background(), level, text, attrs...)
}

// end writes the line of the end, if the beginning has one.
func (t *throttles) end(e transport.ThrottleEvent) {
	t.mu.Lock()
	c, ok := t.seen.Get(e.Key)
	told := ok && c.told
	if ok {
		c.told, c.waits = false, false
	}
	t.mu.Unlock()
	if !told {
		return
	}
	attrs := []slog.Attr{slog.String("key", e.Key.String()), slog.String("reason", string(e.Reason))}
	if e.Why != "" {
		attrs = append(attrs, slog.String("why", e.Why))
	}
	attrs = append(attrs,
		slog.Uint64("refused", e.Refused), slog.String("lasted", e.At.Sub(e.Since).Round(time.Millisecond).String()),
	)
	text := "calls no longer throttled"
	if e.Shadow {
		text = "calls would no longer be throttled"
		attrs = append(attrs, slog.Bool("shadow", true))
	}
	t.logger.LogAttrs(context.Background(), slog.LevelInfo, text, attrs...)
}
