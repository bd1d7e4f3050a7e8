package fleetredis

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	mostRecords  = 4096 // at hand, and waiting to be written
	mostPerWrite = 64
)

// Storage is a transport.Storage that keeps a record of each circuit that has changed its state in Redis, as a hash
// under fusebox:{namespace}:v1:circuit:{key} that any tool can read: scheme, host, detail, state ("closed", "open",
// "half-open"), since and next_probe (RFC 3339), failures, successes, and known (1 or 0; transport.Snapshot.Known). The
// sorted set fusebox:{namespace}:v1:circuits has the keys of all that are known, and
// fusebox:{namespace}:v1:circuits-unknown of the last 2048 others; records of those before them are deleted. If several
// processes have a circuit of the same key, the last that changed has its record there, and it is known if it is in one
// of them.
//
// No request waits for Redis. Save writes in the background, of each circuit the latest record alone, and goes on
// trying while Redis cannot be reached. Load answers from what was there when the Storage was made, and what this
// process has saved since: it is for circuits that outlive a process. Those of processes that run decide together by a
// Bus.
type Storage struct {
	place
	ttl     time.Duration
	trouble trouble
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	atHand  *bounded.Map[transport.Key, held] // not closed
	swept   time.Time                         // what had expired was last taken out of it
	waiting *bounded.Map[transport.Key, transport.Record]
	taken   map[transport.Key]transport.Record // out of it, to be written
	writing chan struct{}                      // closed when nothing is written any more; nil if nothing is
	closed  bool
}

type held struct {
	transport.Record
	until time.Time
}

// NewStorage reads up to 4096 records, which it waits for a second at most: a Storage that cannot reach Redis begins
// with nothing, and its logger is told. The client stays the caller's to close, after the Storage. It panics as New
// does.
func NewStorage(client redis.UniversalClient, o Options) *Storage {
	p := newPlace("NewStorage", client, &o)
	s := &Storage{
		place: p, ttl: o.TTL, trouble: trouble{logger: o.Logger, what: "states of circuits are kept here meanwhile"},
		atHand:  bounded.New[transport.Key, held](mostRecords),
		waiting: bounded.New[transport.Key, transport.Record](mostRecords),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	var all []Record
	_, err := within(s.ctx, func(ctx context.Context) (err error) {
		all, err = p.records(ctx)
		return err
	})
	if s.trouble.tell(keeping, err); err != nil {
		return s
	}
	for _, r := range all {
		if r.State != policy.Closed {
			s.atHand.Put(r.Key, held{r.Record, time.Now().Add(r.Expires)}, r.Known)
		}
	}
	return s
}

// Load returns the record of a key from what is at hand, and transport.ErrNoRecord if there is none or it was closed.
func (s *Storage) Load(k transport.Key) (transport.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.atHand.Get(k); ok && time.Now().Before(h.until) {
		return h.Record, nil
	}
	return transport.Record{}, transport.ErrNoRecord
}

var (
	errWaiting = errors.New("fleet/fleetredis: too many records wait to be written")
	errClosed  = errors.New("fleet/fleetredis: the storage is closed")
)

// Save has the record written in the background. It returns an error if 4096 records of
// circuits that are Known wait already, or after Close; those of others make room for each other and for them.
func (s *Storage) Save(r transport.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	r.Known = r.Known || s.known(r.Key) // by another Transport
	if r.State == policy.Closed {
		s.atHand.Delete(r.Key)
	} else {
		s.keep(held{r, time.Now().Add(s.ttl)})
	}
	if !s.waiting.Put(r.Key, r, r.Known) {
		if _, ok := s.waiting.DropUnknown(); !ok {
			return errWaiting
		}
		s.waiting.Put(r.Key, r, r.Known)
	}
	if s.writing == nil {
		s.writing = make(chan struct{})
		go s.write(s.writing)
	}
	return nil
}

// known reports whether what is here of a key says so. What is written says so in Redis.
func (s *Storage) known(k transport.Key) bool {
	waits, _ := s.waiting.Get(k)
	held, _ := s.atHand.Get(k)
	return waits.Known || held.Known || s.taken[k].Known
}

// keep has a record at hand. If there is no room, what has expired makes some, once a second at most, or else what is
// unknown.
func (s *Storage) keep(h held) {
	now := time.Now()
	if s.atHand.Len() >= mostRecords && now.Sub(s.swept) >= time.Second {
		s.swept = now
		for k, old := range s.atHand.All() {
			if !now.Before(old.until) {
				s.atHand.Delete(k)
			}
		}
	}
	if !s.atHand.Put(h.Key, h, h.Known) {
		s.atHand.DropUnknown()
		s.atHand.Put(h.Key, h, h.Known)
	}
}

// Close writes what waits, for a second at most, and ends what runs in the background.
func (s *Storage) Close() {
	s.mu.Lock()
	s.closed = true
	writing := s.writing
	s.mu.Unlock()
	if writing != nil {
		select {
		case <-writing:
		case <-time.After(callFor):
		}
	}
	s.cancel()
}

// write ends when nothing waits any more.
func (s *Storage) write(done chan struct{}) {
	defer close(done)
	wait := retryLeast
	for {
		some := s.take()
		if some == nil {
			return
		}
		over, err := within(s.ctx, func(ctx context.Context) error { return s.put(ctx, some) })
		if s.ctx.Err() != nil {
			return
		}
		if s.trouble.tell(keeping, err); err == nil {
			wait = retryLeast
			continue
		}
		s.giveBack(some)
		select {
		case <-over:
		case <-s.ctx.Done():
		}
		pause(s.ctx, wait)
		wait = min(2*wait, retryMost)
	}
}

// take returns nil if there is nothing, and no other goroutine is needed for what comes.
func (s *Storage) take() map[transport.Key]transport.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting.Len() == 0 || s.ctx.Err() != nil {
		s.writing = nil
		return nil
	}
	some := make(map[transport.Key]transport.Record)
	for k, r := range s.waiting.All() {
		some[k] = r
		s.waiting.Delete(k)
		if len(some) == mostPerWrite {
			break
		}
	}
	s.taken = some
	return some
}

// giveBack has records written again but for those that have become old.
func (s *Storage) giveBack(some map[transport.Key]transport.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range some {
		newer, ok := s.waiting.Get(k)
		if !ok {
			newer = r
		}
		newer.Known = newer.Known || r.Known
		s.waiting.Put(k, newer, newer.Known)
	}
}

// save writes a record: KEYS are its hash, the set of those that are known and the set of those that are not, which is
// bounded; ARGV the time to live in milliseconds, the name in the set, whether there is a next probe, whether it is
// known, how many may be in the second set, what the names of hashes begin with, and the fields. Hashes that it deletes
// are in the slot of its KEYS.
const save = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], unpack(ARGV, 7)) -- first: once a script has written, a full Redis takes more
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'next_probe') end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
local set, other = KEYS[2], KEYS[3]
if ARGV[4] == '1' then
  redis.call('HSET', KEYS[1], 'known', 1)
elseif redis.call('HGET', KEYS[1], 'known') ~= '1' then
  redis.call('HSET', KEYS[1], 'known', 0)
  set, other = other, set
end
redis.call('ZREM', other, ARGV[2])
redis.call('ZADD', set, now + ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYSCORE', set, '-inf', now)
local last = redis.call('ZRANGE', set, -1, -1, 'WITHSCORES')
redis.call('PEXPIRE', set, string.format('%.0f', last[2] - now))
for _, name in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1 - ARGV[5])) do
  redis.call('ZREM', KEYS[3], name)
  redis.call('PEXPIRE', ARGV[6] .. name, 0)
end
return 1`

func (s *Storage) put(ctx context.Context, some map[transport.Key]transport.Record) error {
	pipe := s.client.Pipeline()
	for _, r := range some {
		name := r.Key.String()
		args := []any{
			s.ttl.Milliseconds(), name, "", r.Known, mostUnknown, s.circuit(""),
			"scheme", r.Key.Scheme, "host", r.Key.Host, "detail", r.Key.Detail, "state", r.State.String(),
			"since", r.Since.Format(time.RFC3339Nano), "failures", r.Failures, "successes", r.Successes,
		}
		if !r.NextProbe.IsZero() {
			args[2] = "next_probe"
			args = append(args, "next_probe", r.NextProbe.Format(time.RFC3339Nano))
		}
		pipe.Eval(ctx, save, []string{s.circuit(name), s.circuits(), s.unknown()}, args...)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// recorded returns the names of records, those of the first set first, and of each those that were written last, each
// followed by how many milliseconds it lives.
var recorded = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local result = {}
for _, set in ipairs(KEYS) do
  local all = redis.call('ZREVRANGEBYSCORE', set, '+inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, ARGV[1] - #result / 2)
  for i = 1, #all, 2 do
    result[#result + 1] = all[i]
    result[#result + 1] = tostring(math.floor(all[i + 1] - now))
  end
end
return result`)

// Record is what a Storage has written of a circuit.
type Record struct {
	transport.Record
	Expires time.Duration `json:"-"` // from now
}

func (p place) records(ctx context.Context) (all []Record, err error) {
	names, err := recorded.Run(ctx, p.client, []string{p.circuits(), p.unknown()}, mostRecords).StringSlice()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	pipe := p.client.Pipeline()
	var hashes []*redis.MapStringStringCmd
	for i := 0; i+1 < len(names); i += 2 {
		hashes = append(hashes, pipe.HGetAll(ctx, p.circuit(names[i])))
	}
	// one that somebody has put something else in place of
	if _, err := pipe.Exec(ctx); err != nil && !isServerError(err) {
		return nil, err
	}
	for i, hash := range hashes {
		r, ok := recordOf(hash.Val())
		if left, err := strconv.ParseInt(names[2*i+1], 10, 64); ok && err == nil {
			r.Expires = time.Duration(left) * time.Millisecond
			all = append(all, r)
		}
	}
	return all, nil
}

// recordOf leaves out what makes no sense.
func recordOf(fields map[string]string) (r Record, ok bool) {
	r.Key = transport.Key{Scheme: fields["scheme"], Host: fields["host"], Detail: fields["detail"]}
	if r.Key == (transport.Key{}) || len(r.Key.Scheme)+len(r.Key.Host)+len(r.Key.Detail) > mostKey ||
		r.State.UnmarshalText([]byte(fields["state"])) != nil {
		return r, false
	}
	var err error
	if r.Since, err = time.Parse(time.RFC3339Nano, fields["since"]); err != nil {
		return r, false
	}
	if text, there := fields["next_probe"]; there {
		if r.NextProbe, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return r, false
		}
	}
	r.Known = fields["known"] == "1"
	r.Failures, _ = strconv.Atoi(fields["failures"])
	r.Successes, _ = strconv.Atoi(fields["successes"])
	return r, true
}
