package fleet

import (
	"slices"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
)

// Memory is a Bus for the Transports of one process. The zero value is ready to use and has no delay.
type Memory struct {
	// Delay is the time from Send to hear. It is not to be changed once somebody has joined.
	Delay time.Duration

	mu      sync.Mutex
	members []*memoryLink
	full    time.Time                 // nothing that is open is over before
	opened  *bounded.Map[whose, open] // nil if nothing was ever open
}

// whose is a member's circuit.
type whose struct {
	member string
	key    policy.Key
}

// open is an Opened message that holds until then.
type open struct {
	Message
	until time.Time
}

// mostWaiting bounds what waits for a member that hears slowly.
const mostWaiting = 4096

// mostOpen bounds what is kept for those who join late.
const mostOpen = 4096

// Join makes a member of the caller.
func (m *Memory) Join(member string, hear func(Message)) Link {
	l := &memoryLink{memory: m, member: member, hear: hear}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = append(m.members, l)
	now := time.Now()
	for _, o := range m.holding(now) {
		if left := o.until.Sub(now); left > 0 && o.From != member {
			o.Ago += o.For - left
			o.For = left
			l.put(o.Message, now.Add(m.Delay))
		}
	}
	return l
}

type memoryLink struct {
	memory *Memory
	member string
	hear   func(Message)

	mu      sync.Mutex
	waiting []delayed
	running bool // a goroutine delivers
	closed  bool
	done    sync.WaitGroup
}

type delayed struct {
	Message
	due time.Time
}

func (l *memoryLink) Send(msg Message) {
	m := l.memory
	now := time.Now()
	msg.From = l.member
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.members, l) {
		return
	}
	switch msg.Kind {
	case Opened:
		m.keep(now, msg)
	case Recovered, Withdrawn:
		if m.opened != nil {
			m.opened.Delete(whose{msg.From, msg.Key})
		}
	}
	for _, other := range m.members {
		if other.member != l.member {
			other.put(msg, now.Add(m.Delay))
		}
	}
}

// keep keeps an Opened message for those who join late. Only what holds no more makes room, and what is of unknown
// upstreams.
func (m *Memory) keep(now time.Time, msg Message) {
	if m.opened == nil {
		m.opened = bounded.New[whose, open](mostOpen)
	}
	at, what := whose{msg.From, msg.Key}, open{msg, now.Add(msg.For)}
	if !m.opened.Put(at, what, msg.Known) && !now.Before(m.full) {
		m.full = now.Add(time.Second)
		m.holding(now)
		m.opened.Put(at, what, msg.Known)
	}
}

// holding drops what holds no more, and returns the rest.
func (m *Memory) holding(now time.Time) (all []open) {
	if m.opened == nil {
		return nil
	}
	for at, o := range m.opened.All() {
		if now.Before(o.until) {
			all = append(all, o)
		} else {
			m.opened.Delete(at)
		}
	}
	return all
}

// put keeps a message for the goroutine that delivers, and starts it if there is none.
func (l *memoryLink) put(msg Message, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.waiting) >= mostWaiting {
		return
	}
	l.waiting = append(l.waiting, delayed{msg, due})
	if !l.running {
		l.running = true
		l.done.Go(l.deliver)
	}
}

// deliver ends when nothing waits any more.
func (l *memoryLink) deliver() {
	for {
		l.mu.Lock()
		if l.closed || len(l.waiting) == 0 {
			l.running = false
			l.mu.Unlock()
			return
		}
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.mu.Unlock()
		if wait := time.Until(next.due); wait > 0 {
			time.Sleep(wait)
		}
		l.mu.Lock()
		closed := l.closed
		l.mu.Unlock()
		if !closed {
			l.hear(next.Message)
		}
	}
}

func (l *memoryLink) Close() {
	l.memory.mu.Lock()
	l.memory.members = slices.DeleteFunc(l.memory.members, func(have *memoryLink) bool { return have == l })
	l.memory.mu.Unlock()
	l.mu.Lock()
	l.closed, l.waiting = true, nil
	l.mu.Unlock()
	l.done.Wait()
}
