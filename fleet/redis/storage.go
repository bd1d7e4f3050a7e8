package fleetredis

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	mostRecords  = 4096 // at hand, and waiting to be written
	mostPerWrite = 64
)

// Storage is a transport.Storage that keeps a record of each circuit that has changed its state in Redis, as a hash under
// fusebox:{namespace}:v1:circuit:{key} that any tool can read: scheme, host, detail, state ("closed", "open", "half-open"),
// since and next_probe (RFC 3339), failures, successes. The sorted set fusebox:{namespace}:v1:circuits has the keys of all. If
// several processes have a circuit of the same key, the last that changed has its record there.
//
// No request waits for Redis. Save writes in the background, of each circuit the latest record alone, and goes on trying
// while Redis cannot be reached. Load answers from what was there when the Storage was made, and what this process has
// saved since: it is for circuits that outlive a process. Those of processes that run decide together by a Bus.
type Storage struct {
	place
	ttl     time.Duration
	trouble trouble
	ctx     context.Context
	cancel  context.CancelFunc

	mu      sync.Mutex
	atHand  map[transport.Key]held // not closed
	swept   time.Time              // what had expired was last taken out of it
	waiting map[transport.Key]transport.Record
	writing chan struct{} // closed when nothing is written any more; nil if nothing is
	closed  bool
}

type held struct {
	transport.Record
	until time.Time
}

// NewStorage reads up to 4096 records, which it waits for a second at most: a Storage that cannot reach Redis begins with
// nothing, and its logger is told. The client stays the caller's to close, after the Storage. It panics as New does.
func NewStorage(client redis.UniversalClient, o Options) *Storage {
	p := newPlace("NewStorage", client, &o)
	s := &Storage{
		place: p, ttl: o.TTL, trouble: trouble{logger: o.Logger, what: "states of circuits are kept here meanwhile"},
		atHand: make(map[transport.Key]held), waiting: make(map[transport.Key]transport.Record),
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
			s.atHand[r.Key] = held{r.Record, time.Now().Add(r.Expires)}
		}
	}
	return s
}

// Load returns the record of a key from what is at hand, and transport.ErrNoRecord if there is none or it was closed.
func (s *Storage) Load(k transport.Key) (transport.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.atHand[k]; ok && time.Now().Before(h.until) {
		return h.Record, nil
	}
	return transport.Record{}, transport.ErrNoRecord
}

var (
	errWaiting = errors.New("fleet/redis: too many records wait to be written")
	errClosed  = errors.New("fleet/redis: the storage is closed")
)

// Save has the record written in the background. It returns an error if 4096 circuits' records wait already, or after Close.
func (s *Storage) Save(r transport.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if r.State == policy.Closed {
		delete(s.atHand, r.Key)
	} else if _, ok := s.atHand[r.Key]; ok || s.room() {
		s.atHand[r.Key] = held{r, time.Now().Add(s.ttl)}
	}
	if _, ok := s.waiting[r.Key]; !ok && len(s.waiting) >= mostRecords {
		return errWaiting
	}
	s.waiting[r.Key] = r
	if s.writing == nil {
		s.writing = make(chan struct{})
		go s.write(s.writing)
	}
	return nil
}

// room takes out what has expired if there is no room, once a second at most.
func (s *Storage) room() bool {
	now := time.Now()
	if len(s.atHand) >= mostRecords && now.Sub(s.swept) >= time.Second {
		s.swept = now
		maps.DeleteFunc(s.atHand, func(_ transport.Key, h held) bool { return !now.Before(h.until) })
	}
	return len(s.atHand) < mostRecords
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
	if len(s.waiting) == 0 || s.ctx.Err() != nil {
		s.writing = nil
		return nil
	}
	some := make(map[transport.Key]transport.Record)
	for k, r := range s.waiting {
		some[k] = r
		delete(s.waiting, k)
		if len(some) == mostPerWrite {
			break
		}
	}
	return some
}

// giveBack has records written again but for those that have become old.
func (s *Storage) giveBack(some map[transport.Key]transport.Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(some, s.waiting)
	s.waiting = some
}

// save writes a record: KEYS are its hash and the set of all; ARGV the time to live in milliseconds, the name in the
// set, whether there is a next probe, and the fields.
const save = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], unpack(ARGV, 4)) -- first: once a script has written, a full Redis takes more
if ARGV[3] == '' then redis.call('HDEL', KEYS[1], 'next_probe') end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[2])
local last = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
redis.call('PEXPIRE', KEYS[2], string.format('%.0f', last[2] - now))
return 1`

func (s *Storage) put(ctx context.Context, some map[transport.Key]transport.Record) error {
	pipe := s.client.Pipeline()
	for _, r := range some {
		name := r.Key.String()
		args := []any{s.ttl.Milliseconds(), name, "",
			"scheme", r.Key.Scheme, "host", r.Key.Host, "detail", r.Key.Detail, "state", r.State.String(),
			"since", r.Since.Format(time.RFC3339Nano), "failures", r.Failures, "successes", r.Successes,
		}
		if !r.NextProbe.IsZero() {
			args[2] = "next_probe"
			args = append(args, "next_probe", r.NextProbe.Format(time.RFC3339Nano))
		}
		pipe.Eval(ctx, save, []string{s.circuit(name), s.circuits()}, args...)
	}
	_, err := pipe.Exec(ctx)
	return err
}

// recorded returns the names of records, those first that were written last, each followed by how many milliseconds it lives.
var recorded = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local all = redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 2, #all, 2 do all[i] = tostring(math.floor(all[i] - now)) end
return all`)

// Record is what a Storage has written of a circuit.
type Record struct {
	transport.Record
	Expires time.Duration `json:"-"` // from now
}

func (p place) records(ctx context.Context) (all []Record, err error) {
	names, err := recorded.Run(ctx, p.client, []string{p.circuits()}, mostRecords).StringSlice()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	pipe := p.client.Pipeline()
	var hashes []*redis.MapStringStringCmd
	for i := 0; i+1 < len(names); i += 2 {
		hashes = append(hashes, pipe.HGetAll(ctx, p.circuit(names[i])))
	}
	if _, err := pipe.Exec(ctx); err != nil && !isServerError(err) { // one that somebody has put something else in place of
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
	if r.Key == (transport.Key{}) || len(r.Key.Scheme)+len(r.Key.Host)+len(r.Key.Detail) > mostKey || r.State.UnmarshalText([]byte(fields["state"])) != nil {
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
	r.Failures, _ = strconv.Atoi(fields["failures"])
	r.Successes, _ = strconv.Atoi(fields["successes"])
	return r, true
}
