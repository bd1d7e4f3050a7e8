package fleetredis

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
)

const (
	batchEvery  = 5 * time.Millisecond // at most one command in that time
	stale       = 2 * time.Second      // what is older is not sent any more, but for how own circuits are
	owedFor     = 3 * time.Minute      // and that not after this; no circuit is said to be open for longer
	settle      = 5 * time.Second      // in which those who lost their Redis together say how their circuits are
	echoWithin  = 2 * time.Second      // what a member sends it also hears, or its subscription is dead
	mostHeld    = 24 * time.Hour       // that something is told to those who join late
	mostQueued  = 4096                 // messages that wait to be sent or heard, and keys of which something is owed
	mostUnknown = 2048                 // circuits of upstreams that have never answered, in what is kept in Redis
	mostBatch   = 256                  // messages in an envelope
	mostName    = 256                  // bytes of a member's name
	mostKey     = 8 << 10              // bytes of a key
	mostKeys    = 64 << 10             // bytes of all keys in an envelope, before one more
	mostPaid    = 1 << 20              // bytes of an envelope
)

// envelope is what is published. Its version is in the name of the channel, too.
type envelope[M fleet.Message | json.RawMessage] struct {
	From     string `json:"f"`
	Messages []M    `json:"m"`
}

// send publishes an envelope, and keeps what is open for those who join late: KEYS are the set of what is open, the
// hash of since when, and the set of what is open of upstreams that have never answered, which is bounded; ARGV the
// channel, the envelope, how many may be in that set, and four at a time: a time to hold, the time that the trouble has
// lasted, both in milliseconds, which of the sets, and a message; a time of 0 takes the message out. Time is Redis's
// own, so the clocks of members do not matter.
var send = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local sets = {known = KEYS[1], unknown = KEYS[3]}
for i = 4, #ARGV, 4 do
  local hold, into, text = tonumber(ARGV[i]), sets[ARGV[i + 2]], ARGV[i + 3]
  if hold > 0 then
    redis.call('ZADD', into, now + hold, text)
    redis.call('HSET', KEYS[2], text, now - tonumber(ARGV[i + 1]))
  else
    redis.call('HDEL', KEYS[2], text)
  end
  for _, set in pairs(sets) do
    if hold == 0 or set ~= into then redis.call('ZREM', set, text) end
  end
end
local function drop(set, some)
  for _, text in ipairs(some) do
    redis.call('ZREM', set, text)
    redis.call('HDEL', KEYS[2], text)
  end
end
drop(KEYS[3], redis.call('ZRANGE', KEYS[3], 0, -1 - tonumber(ARGV[3])))
local longest = 0
for _, set in pairs(sets) do
  drop(set, redis.call('ZRANGEBYSCORE', set, '-inf', now))
  local last = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')
  if last[2] then
    local left = math.ceil(math.min(last[2] - now, 86400000))
    redis.call('PEXPIRE', set, left)
    longest = math.max(longest, left)
  end
end
if longest > 0 then redis.call('PEXPIRE', KEYS[2], longest) end
return redis.call('PUBLISH', ARGV[1], ARGV[2])`)

// opened returns what is open, that of the first set first: a time to hold, the time that the trouble has lasted, and a
// message.
var opened = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local result = {}
for _, set in ipairs({KEYS[1], KEYS[3]}) do
  local all = redis.call('ZREVRANGEBYSCORE', set, '+inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, ARGV[1] - #result / 3)
  for i = 1, #all, 2 do
    local since = tonumber(redis.call('HGET', KEYS[2], all[i]) or now) or now
    result[#result + 1] = math.floor(math.min(all[i + 1] - now, 86400000))
    result[#result + 1] = math.floor(now - since)
    result[#result + 1] = all[i]
  end
end
return result`)

type queued struct {
	fleet.Message
	at time.Time
}

// link is a member's end of a Bus.
//
// What is sent late, or not at all, is no loss but for this: a circuit that is closed again would be open for all who
// ask Redis what is, once it is back. So the last word on each own circuit is owed until it is said, and after a time
// without Redis a member first says what it owes, gives the others time to do so, and only then asks what is open.
type link struct {
	place
	member     string
	hear       func(fleet.Message)
	cancel     context.CancelFunc
	delivering sync.WaitGroup
	in         chan fleet.Message
	listener   listener
	trouble    trouble
	joined     bool          // it has asked what is open once
	keepAgain  time.Time     // to keep what is open, after Redis would not
	wake       chan struct{} // has room for one: there is something to send, or to ask
	sent       chan struct{} // closed when nothing is sent any more
	// held while messages are passed on, and while it is asked what is open, so that neither overtakes the other
	passing sync.Mutex

	mu     sync.Mutex
	queue  []queued // to be sent, in order
	owed   *bounded.Map[policy.Key, queued]
	owedAt time.Time   // not before it is what is owed sent
	lookAt time.Time   // to ask what is open; zero if not at all
	busy   bool        // something is being sent
	closed bool        // nothing more comes to be sent
	echo   *time.Timer // of what was sent and not heard yet
}

// Send drops the message if its key is too long or no text; and if too many wait, those that do.
func (l *link) Send(m fleet.Message) {
	m.From = l.member
	if !sane(m) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.queue) >= mostQueued {
		for _, q := range l.queue {
			l.owe(q)
		}
		l.queue = nil
	}
	l.queue = append(l.queue, queued{m, time.Now()})
	l.wakeUp()
}

func (l *link) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// says reports whether a message is a word on how an own circuit is.
func says(m fleet.Message) bool {
	return m.Kind == fleet.Opened || m.Kind == fleet.Recovered || m.Kind == fleet.Withdrawn
}

// lastWords returns the last such word on each key.
func lastWords(messages []queued) map[policy.Key]queued {
	last := make(map[policy.Key]queued)
	for _, q := range messages {
		if says(q.Message) {
			last[q.Key] = q
		}
	}
	return last
}

// owe keeps such a word, which is the last on its key, to be sent late. By then it is old news that an upstream has
// answered.
func (l *link) owe(q queued) {
	if !says(q.Message) {
		return
	}
	if q.Kind == fleet.Recovered {
		q.Kind = fleet.Withdrawn
	}
	l.owed.Put(q.Key, q, q.Known)
}

// oweAgain takes back what could not be said, but for what is not the last word on its key any more. It is to be said
// at a time.
func (l *link) oweAgain(words []queued, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, q := range lastWords(words) {
		if _, newer := l.owed.Get(key); !newer {
			l.owe(q)
		}
	}
	l.owedAt = at
}

func sane(m fleet.Message) bool {
	k := m.Key
	return len(m.From) <= mostName && len(k.Scheme)+len(k.Host)+len(k.Detail) <= mostKey &&
		// JSON would make others of them
		utf8.ValidString(k.Scheme) && utf8.ValidString(k.Host) && utf8.ValidString(k.Detail) &&
		m.Failures >= 0 && m.Successes >= 0 && m.For >= 0
}

// Close waits until what was sent before is, for a second at most.
func (l *link) Close() {
	l.mu.Lock()
	l.closed, l.owedAt = true, time.Now()
	some := l.busy || len(l.queue) > 0 || l.owed.Len() > 0
	l.wakeUp()
	l.mu.Unlock()
	if some {
		select {
		case <-l.sent:
		case <-time.After(callFor):
		}
	}
	l.cancel()
	l.delivering.Wait()
	l.echoed()
}

func (l *link) send(ctx context.Context) {
	defer close(l.sent)
	wait := retryLeast
	for l.await(ctx) {
		batch := l.batch()
		if len(batch) == 0 {
			wait = l.lookAgain(ctx, wait)
			continue
		}
		l.expectEcho()
		over, err := within(ctx, func(ctx context.Context) error { return l.publish(ctx, batch) })
		if ctx.Err() != nil {
			return
		}
		l.trouble.tell(sending, err)
		if err == nil {
			wait = retryLeast
		} else {
			l.oweAgain(batch, time.Now().Add(wait))
			wait = min(2*wait, retryMost)
			if !isServerError(err) {
				l.listener.resubscribe() // whatever it is, the other connection may not have noticed
			}
		}
		select {
		case <-over:
		case <-ctx.Done():
			return
		}
		pause(ctx, batchEvery)
	}
}

// await waits until there is something to do, and reports whether there ever will be.
func (l *link) await(ctx context.Context) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.mu.Lock()
		l.busy = false
		now, at := time.Now(), l.lookAt
		if l.owed.Len() > 0 && (at.IsZero() || l.owedAt.Before(at)) {
			at = l.owedAt
		}
		if len(l.queue) > 0 {
			at = now
		}
		over := l.closed && len(l.queue) == 0 && l.owed.Len() == 0
		l.mu.Unlock()
		switch {
		case over:
			return false
		case at.IsZero():
		case !now.Before(at):
			return true
		default:
			timer.Reset(at.Sub(now))
		}
		select {
		case <-ctx.Done():
			return false
		case <-l.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// batch takes what is to be sent: first what is owed, if it is time for that.
func (l *link) batch() (batch []queued) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, bytes := time.Now(), 0
	add := func(q queued) {
		batch = append(batch, q)
		bytes += len(q.Key.Scheme) + len(q.Key.Host) + len(q.Key.Detail)
	}
	full := func() bool { return len(batch) >= mostBatch || bytes >= mostKeys }
	for len(l.queue) > 0 && now.Sub(l.queue[0].at) > stale {
		l.owe(l.queue[0])
		l.queue = l.queue[1:]
	}
	if !now.Before(l.owedAt) {
		for key, q := range l.owed.All() {
			if full() {
				break
			}
			l.owed.Delete(key)
			late := now.Sub(q.at)
			if q.Kind == fleet.Opened {
				q.For, q.Ago = q.For-late, q.Ago+late
			}
			if late < owedFor && q.For >= 0 {
				add(q)
			}
		}
	}
	for len(l.queue) > 0 && !full() {
		q := l.queue[0]
		l.queue = l.queue[1:]
		add(q)
		if says(q.Message) {
			l.owed.Delete(q.Key)
		}
	}
	l.busy = len(batch) > 0
	return batch
}

func (l *link) publish(ctx context.Context, batch []queued) error {
	messages := make([]fleet.Message, len(batch))
	for i, q := range batch {
		messages[i] = q.Message
	}
	text, err := json.Marshal(envelope[fleet.Message]{l.member, messages})
	if err != nil {
		return err
	}
	// Those that take something out come first: a Redis that is full lets them, and after them the others.
	args, holds, ends := []any{l.channel(), text, mostUnknown}, []any{}, []queued{}
	for _, q := range lastWords(batch) {
		// As a member of the set, a message is who and which, so that it replaces the last of its kind.
		kept, err := json.Marshal(fleet.Message{From: l.member, Key: q.Key, Kind: fleet.Opened})
		if err != nil {
			return err
		}
		if q.Kind == fleet.Opened {
			of := "unknown"
			if q.Known {
				of = "known"
			}
			holds = append(holds, max(1, min(q.For, mostHeld).Milliseconds()), q.Ago.Milliseconds(), of, kept)
			continue
		}
		args = append(args, 0, 0, "", kept)
		ends = append(ends, q)
	}
	if args = append(args, holds...); len(args) > 3 {
		if !time.Now().Before(l.keepAgain) {
			err = send.Run(ctx, l.client, []string{l.open(), l.since(), l.openUnknown()}, args...).Err()
			if err != nil && !isServerError(err) {
				return err
			}
			l.trouble.tell(keeping, err)
			if err == nil {
				return nil
			}
			// Redis is full, or it may not be written to: those who are there can still be told, and soon, which the
			// client is not with what it tries again.
			l.keepAgain = time.Now().Add(retryMost)
		}
		l.oweAgain(ends, l.keepAgain)
	}
	return l.client.Publish(ctx, l.channel(), text).Err()
}

func isServerError(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// expectEcho has the subscription made anew if what is sent is not heard in time: a connection whose other end is gone
// can look alive for long.
func (l *link) expectEcho() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.echo == nil {
		l.echo = time.AfterFunc(echoWithin, func() {
			l.echoed()
			l.listener.resubscribe()
		})
	}
}

func (l *link) echoed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.echo != nil {
		l.echo.Stop()
		l.echo = nil
	}
}

// catchUp has a member hear what is open, once the subscription stands.
func (l *link) catchUp(ctx context.Context) error {
	l.echoed()
	if !l.joined {
		if err := l.look(ctx); err != nil {
			return err
		}
		l.joined = true
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owedAt, l.lookAt = time.Now(), time.Now().Add(settle)
	l.wakeUp()
	return nil
}

// lookAgain asks what is open if it is time for that, and returns how long to wait before the next attempt at anything.
func (l *link) lookAgain(ctx context.Context, wait time.Duration) time.Duration {
	l.mu.Lock()
	at := l.lookAt
	l.mu.Unlock()
	if at.IsZero() || time.Now().Before(at) {
		return wait
	}
	err, again := l.look(ctx), time.Time{}
	if err != nil {
		l.trouble.tell(keeping, err)
		again = time.Now().Add(wait)
		wait = min(2*wait, retryMost)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lookAt == at { // or it has subscribed anew
		l.lookAt = again
	}
	return wait
}

// look hears what is open.
func (l *link) look(ctx context.Context) error {
	l.passing.Lock()
	defer l.passing.Unlock()
	var all []fleet.Message
	_, err := within(ctx, func(ctx context.Context) (err error) {
		all, err = l.listOpen(ctx)
		return err
	})
	if err != nil && !redis.IsPermissionError(err) && !redis.IsOOMError(err) {
		return err
	}
	if l.trouble.tell(keeping, err); err != nil {
		return nil // trying again does not help, and what is sent from now on can be heard
	}
	for _, m := range all {
		if m.From != l.member {
			l.pass(m)
		}
	}
	l.trouble.tell(sending, nil)
	return nil
}

// listOpen returns who has what open: Opened messages.
func (p place) listOpen(ctx context.Context) (all []fleet.Message, err error) {
	list, err := opened.Run(ctx, p.client, []string{p.open(), p.since(), p.openUnknown()}, mostQueued).Slice()
	if err != nil {
		return nil, err
	}
	for i := 0; i+2 < len(list); i += 3 {
		hold, _ := list[i].(int64)
		ago, _ := list[i+1].(int64)
		text, _ := list[i+2].(string)
		var m fleet.Message
		if json.Unmarshal([]byte(text), &m) != nil || m.Kind != fleet.Opened || hold <= 0 {
			continue
		}
		ago = max(0, min(ago, time.Duration(math.MaxInt64).Milliseconds()))
		m.For, m.Ago = time.Duration(hold)*time.Millisecond, time.Duration(ago)*time.Millisecond
		if sane(m) {
			all = append(all, m)
		}
	}
	return all, nil
}

// take reads what came over the channel. What is not understood is left out: it may be of another version, or garbage.
func (l *link) take(payload string) {
	var e envelope[json.RawMessage]
	if len(payload) > mostPaid || json.Unmarshal([]byte(payload), &e) != nil {
		return
	}
	if e.From == l.member {
		l.echoed()
		return
	}
	l.passing.Lock()
	defer l.passing.Unlock()
	for _, text := range e.Messages {
		var m fleet.Message
		if json.Unmarshal(text, &m) == nil {
			m.From = e.From
			l.pass(m)
		}
	}
}

// pass drops the message if it makes no sense, or too many wait already.
func (l *link) pass(m fleet.Message) {
	if !sane(m) {
		return
	}
	select {
	case l.in <- m:
	default:
	}
}

func (l *link) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-l.in:
			if ctx.Err() == nil {
				l.hear(m)
			}
		}
	}
}
