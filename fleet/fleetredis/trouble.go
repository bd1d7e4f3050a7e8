package fleetredis

import (
	"log/slog"
	"sync"
	"time"
)

// warnEvery is how seldom the logger is warned if Redis comes and goes.
const warnEvery = time.Minute

// part is something that can go wrong by itself.
type part int

const (
	listening part = iota
	sending
	keeping // what is open, for those who join late, or the records of a Storage
	parts
)

// trouble tells a logger that Redis is in trouble, and that it is back.
type trouble struct {
	logger *slog.Logger
	what   string // happens meanwhile

	mu     sync.Mutex
	errs   [parts]error
	told   bool
	warned time.Time
}

// tell takes how a part is doing, nil if well. It is told again and again, and tells the logger when there is news.
func (t *trouble) tell(p part, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.errs[p] = err
	for _, err := range t.errs {
		if err == nil {
			continue
		}
		if !t.told && (t.warned.IsZero() || time.Since(t.warned) >= warnEvery) {
			t.told, t.warned = true, time.Now()
			t.logger.Warn("fleet: redis is in trouble; "+t.what, "err", err)
		}
		return
	}
	if t.told {
		t.told = false
		t.logger.Info("fleet: redis is back")
	}
}
