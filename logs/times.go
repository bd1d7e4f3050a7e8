package logs

import (
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/transport"
)

// times counts what happens to circuits so often that there is a line about it now and then.
type times struct {
	every time.Duration // a line, for one circuit

	mu    sync.Mutex
	seen  *bounded.Map[transport.Key, *counted]
	rest  counted // of keys that are not among seen
	swept time.Time
}

type counted struct {
	next time.Time // a line is due
	held int       // times since the last one
}

func newTimes(every time.Duration) *times {
	return &times{every: every, seen: bounded.New[transport.Key, *counted](mostKeys)}
}

// end forgets a circuit, and returns how many times there has been no line about.
func (t *times) end(k transport.Key) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, ok := t.seen.Get(k); ok {
		n = c.held
		t.seen.Delete(k)
	}
	return n
}

// count returns how many times a line is about, if one is due, and whether they are those of many keys.
func (t *times) count(k transport.Key, known bool, now time.Time) (n int, others, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.seen.Get(k)
	if !ok {
		if t.seen.Len() >= mostKeys && now.Sub(t.swept) >= t.every {
			t.swept = now
			for key, old := range t.seen.All() {
				if now.After(old.next) {
					t.seen.Delete(key)
				}
			}
		}
		c = new(counted)
	}
	if others = !t.seen.Put(k, c, known); others {
		c = &t.rest
	}
	c.held++
	if now.Before(c.next) {
		return 0, others, false
	}
	n, c.held, c.next = c.held, 0, now.Add(t.every)
	return n, others, true
}
