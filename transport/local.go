package transport

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/internal/statemachine"
	"github.com/fusebox-go/fusebox/policy"
)

const (
	localSpan  = 10 * time.Second // how far apart circuits may trip and still do so together
	localLook  = time.Second      // from the trip that makes one look to the look: who is in use shows by then
	localLeast = 3                // circuits that trip together, or it means nothing
	localMost  = 1024             // circuits remembered
	localFor   = time.Hour        // how long a suspicion lasts if no upstream answers again
	localAgain = time.Minute      // from one Cause that was told to the next
)

// LocalTrouble says that most of the upstreams in use began to fail together, within ten seconds and three of them at
// least: the cause is most likely on this side, such as the network, the resolver or a processor that is too busy. The
// circuits open as ever, since waiting for what cannot come helps nobody. But the first upstream that answers again is
// taken as a sign for all of them: the next request to each is a probe.
//
// Or it says, by its Cause, that a call failed by what this machine itself says or its forward proxy, which opens no
// circuit. Of all such calls only one is told, until one to the same upstream is well and a minute has passed.
type LocalTrouble struct {
	At      time.Time
	Since   time.Time // the first of them opened
	Tripped int       // how many have a circuit that opened: of those that are Known, or of all if no upstream is
	Well    int       // how many others have answered well since, and not failed after that; while it is not Over
	// a call to that upstream was well; or one of them has answered again, somebody has closed them all, or an hour has
	// passed
	Over  bool
	Cause policy.Cause // of the call; zero if upstreams began to fail together
}

// local looks for local trouble. It is told of every circuit that opens or recovers, which is seldom.
type local struct {
	ailing atomic.Pointer[circuit] // a call of it failed by this machine, which was told; changes under mu
	off    bool

	mu        sync.Mutex
	since     time.Time
	tripped   map[*circuit]struct{} // since then
	looking   bool                  // a look is to come
	suspected bool
	expiry    *time.Timer  // of the suspicion
	trouble   LocalTrouble // that was told, while suspected
	waiting   []LocalTrouble

	ailment LocalTrouble // the last that was told
	relief  *time.Timer  // of ailing
	telling bool
}

func (l *local) observe(t *Transport, c *circuit, change statemachine.Change) {
	switch {
	case l.off:
	case change.Reason == policy.ChangeTripped:
		l.trip(t, c, change.At)
	case change.Reason == policy.ChangeProbeSucceeded, change.Reason == policy.ChangeRecovered:
		l.leave(t, c, change.At, true)
	case change.To == policy.Closed:
		l.leave(t, c, change.At, false)
	}
}

// trip takes notice of a circuit that opened, and of that one alone: who is well is asked when there is reason to look.
func (l *local) trip(t *Transport, c *circuit, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	age := at.Sub(l.since)
	if l.since.IsZero() || !l.suspected && age > localSpan {
		l.since, l.tripped, l.suspected = at, make(map[*circuit]struct{}), false
		age = 0
	}
	if age <= localSpan && len(l.tripped) < localMost {
		l.tripped[c] = struct{}{}
	}
	l.lookSoon(t)
}

// lookSoon is called under mu.
func (l *local) lookSoon(t *Transport) {
	if len(l.tripped) >= localLeast && !l.suspected && !l.looking {
		l.looking = true
		time.AfterFunc(localLook, func() { l.look(t) })
	}
}

func (l *local) look(t *Transport) {
	l.mu.Lock()
	since, together := l.since, make(company, len(l.tripped))
	for c := range l.tripped {
		together[c] = c.Known()
	}
	l.mu.Unlock()
	well, known := together.others(&t.circuits, since)
	l.saw(t, since, together, well, known)
}

// saw ends a look. Circuits may have come and gone since it began.
func (l *local) saw(t *Transport, since time.Time, together company, well upstreams, known bool) {
	l.mu.Lock()
	l.looking = false
	came := len(l.tripped) > len(together)
	for c := range together {
		if _, still := l.tripped[c]; !still {
			delete(together, c)
		}
	}
	tripped := together.upstreams(known)
	if l.suspected = len(tripped) >= localLeast && len(tripped) > len(well); l.suspected {
		l.expiry = time.AfterFunc(localFor, func() { l.expire(t, since) })
		l.trouble = LocalTrouble{At: time.Now(), Since: since, Tripped: len(tripped), Well: len(well)}
		l.waiting = append(l.waiting, l.trouble)
	} else if came { // and found that there was a look
		l.lookSoon(t)
	}
	l.unlock(t)
}

// company is circuits that tripped together, and whether each was known at the time of the look.
type company map[*circuit]bool

// upstreams are those of all, or of the known alone.
func (together company) upstreams(known bool) upstreams {
	u := make(upstreams)
	for c, is := range together {
		if is || !known {
			u.add(c)
		}
	}
	return u
}

// others looks for upstreams of other circuits that have been well since then, until there are as many as those that
// tripped and were known: then these are not most. And it reports whether any upstream is known at all, however seldom
// it is called: then those that are not may be made up, and count for nothing.
func (together company) others(all *circuits, since time.Time) (well upstreams, known bool) {
	enough := max(1, len(together.upstreams(true)))
	well = make(upstreams)
	for c := range all.each {
		known = known || c.Known()
		if _, tripped := together[c]; !tripped && c.Well(since) {
			if well.add(c); len(well) == enough {
				break
			}
		}
	}
	return well, known
}

// upstreams are those of some circuits, of which one can have several (Key.Detail).
type upstreams map[Key]struct{}

func (u upstreams) add(c *circuit) { u[Key{Scheme: c.key.Scheme, Host: c.key.Host}] = struct{}{} }

// leave takes a circuit out of those that have tripped together: by the answer of its upstream, which is a sign for the
// others, or by hand.
func (l *local) leave(t *Transport, c *circuit, at time.Time, answered bool) {
	l.mu.Lock()
	_, ok := l.tripped[c]
	delete(l.tripped, c)
	if !ok || !l.suspected || !answered && len(l.tripped) > 0 {
		l.mu.Unlock()
		return
	}
	others := l.tripped
	l.end(at)
	l.mu.Unlock()
	for other := range others {
		other.Hasten()
	}
	l.mu.Lock()
	l.unlock(t)
}

func (l *local) expire(t *Transport, since time.Time) {
	l.mu.Lock()
	if l.suspected && l.since.Equal(since) {
		l.end(time.Now())
	}
	l.unlock(t)
}

func (l *local) end(at time.Time) {
	l.expiry.Stop()
	l.waiting = append(l.waiting, LocalTrouble{At: at, Since: l.since, Tripped: l.trouble.Tripped, Over: true})
	l.since, l.tripped, l.suspected = time.Time{}, nil, false
}

// ails takes notice of a call that failed by this machine.
func (l *local) ails(t *Transport, c *circuit, cause policy.Cause) {
	if l.off || l.ailing.Load() != nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	if l.ailing.Load() == nil && now.Sub(l.ailment.At) >= localAgain {
		l.ailing.Store(c)
		l.ailment = LocalTrouble{At: now, Since: now, Cause: cause}
		l.waiting = append(l.waiting, l.ailment)
		l.relief = time.AfterFunc(localFor, func() { l.heals(t, c) })
	}
	l.unlock(t)
}

// heals takes notice of a call that was well where one had failed by this machine.
func (l *local) heals(t *Transport, c *circuit) {
	l.mu.Lock()
	if l.ailing.CompareAndSwap(c, nil) {
		l.relief.Stop()
		l.waiting = append(
			l.waiting, LocalTrouble{At: time.Now(), Since: l.ailment.Since, Cause: l.ailment.Cause, Over: true},
		)
	}
	l.unlock(t)
}

// unlock tells observers, outside the lock, and in order by one goroutine at a time.
func (l *local) unlock(t *Transport) {
	defer l.mu.Unlock()
	if l.telling {
		return
	}
	l.telling = true
	defer func() { l.telling = false }()
	for len(l.waiting) > 0 {
		next := l.waiting[0]
		l.waiting = l.waiting[1:]
		l.tell(t, next)
	}
}

func (l *local) tell(t *Transport, trouble LocalTrouble) {
	l.mu.Unlock()
	defer l.mu.Lock()
	t.tellLocal(trouble)
}

func (t *Transport) tellLocal(trouble LocalTrouble) {
	for _, o := range t.observers.all() {
		if o.OnLocalTrouble != nil {
			o.OnLocalTrouble(trouble)
		}
	}
}
