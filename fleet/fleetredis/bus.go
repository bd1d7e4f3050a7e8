// Package fleetredis carries the messages of a fleet over Redis 7 or Valkey: one pub/sub channel for those who are
// there, and a sorted set, with a TTL, for those who join late.
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}})
//	transport.New(nil, transport.WithFleet(fleetredis.New(client, fleetredis.Options{Namespace: "shop"})))
//
// A single server, Sentinel, Cluster, TLS and users are the client's to set up. While nothing fails, a member sends no
// command at all: it listens on one connection (and keeps one more, idle). In trouble it sends one script for all that
// it has to say in five milliseconds, so 200 a second at most: a few for each circuit and second while it is open, and
// up to 100 while it recovers.
//
// If Redis is gone, slow or full, no request waits for it: what cannot be sent within a second or two is dropped, the
// circuits go on by themselves, the logger is told once, and again when Redis is back. Then a member first says which
// of its circuits opened or closed meanwhile, and some seconds later asks what others have open, so that a circuit that
// has recovered without Redis is not opened by what is still written there. (The client's library has a log of its own,
// see redis.SetLogger.)
//
// A Storage keeps the states of circuits in the same Redis, where other tools can read them. FollowOverrides lets those
// who may write to it force circuits. The command fusebox-circuits and an Admin show and do both.
//
// Whoever may publish on the channel can speak as any number of members. The README beside this file says what a user
// of an ACL needs, and why this is built on go-redis.
package fleetredis

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/bounded"
	"github.com/fusebox-go/fusebox/policy"
)

// Options are what the parts of this package can be told. The zero value is ready to use.
type Options struct {
	// Namespace keeps fleets apart that share a Redis. Empty means "default". It must not contain braces.
	Namespace string
	// Logger is told that Redis is in trouble, at Warn, once a minute at most; and that it is back, at Info. Nil means
	// slog.Default().
	Logger *slog.Logger
	// TTL is how long a Storage's record outlives its last change; 0 means 24 hours.
	TTL time.Duration
}

const (
	callFor    = time.Second            // a call of Redis may take; after it nothing waits for it any more
	retryLeast = 100 * time.Millisecond // between attempts
	retryMost  = 2 * time.Second
)

// place is where in a Redis a namespace is. Braces make all its keys those of one slot of a cluster.
type place struct {
	client redis.UniversalClient
	prefix string
}

// newPlace panics if the client is nil or the options make no sense, and fills in the defaults.
func newPlace(caller string, client redis.UniversalClient, o *Options) place {
	if client == nil {
		panic("fusebox/fleet/fleetredis: " + caller + " got a nil client; write redis.NewUniversalClient(...)")
	}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if strings.ContainsAny(o.Namespace, "{}") {
		panic(
			"fusebox/fleet/fleetredis: Options.Namespace has braces, which would put its keys in several slots",
		)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.TTL < 0 {
		panic("fusebox/fleet/fleetredis: Options.TTL is negative; write a positive time, or 0 for 24 hours")
	}
	if o.TTL == 0 {
		o.TTL = 24 * time.Hour
	}
	return place{client, "fusebox:{" + o.Namespace + "}:v1"}
}

func (p place) channel() string           { return p.prefix }
func (p place) open() string              { return p.prefix + ":open" }
func (p place) openUnknown() string       { return p.prefix + ":open-unknown" }
func (p place) since() string             { return p.prefix + ":since" }
func (p place) circuits() string          { return p.prefix + ":circuits" }
func (p place) unknown() string           { return p.prefix + ":circuits-unknown" }
func (p place) circuit(key string) string { return p.prefix + ":circuit:" + key }
func (p place) overrides() string         { return p.prefix + ":overrides" }

// Bus is a fleet.Bus over Redis. It is safe for concurrent use, and starts nothing before somebody joins.
type Bus struct {
	place
	logger *slog.Logger
}

// New returns a Bus that uses the client, which stays the caller's to close, after all members have left. It panics if
// the client is nil or the namespace has braces.
func New(client redis.UniversalClient, o Options) *Bus {
	p := newPlace("New", client, &o)
	return &Bus{place: p, logger: o.Logger}
}

// Join makes a member of the caller. It starts three goroutines, which end with the Link's Close; one that waits for
// Redis just then, as soon as the client gives up.
func (b *Bus) Join(member string, hear func(fleet.Message)) fleet.Link {
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{
		place: b.place, member: member, hear: hear, cancel: cancel,
		trouble: trouble{logger: b.logger, what: "circuits go on by themselves"},
		owed:    bounded.New[policy.Key, queued](mostQueued), owedAt: time.Now(),
		in:   make(chan fleet.Message, mostQueued),
		wake: make(chan struct{}, 1), sent: make(chan struct{}),
	}
	l.listener = listener{
		client: b.client, channel: b.channel(), ready: l.catchUp, heard: l.take, again: make(chan struct{}, 1),
		told: func(err error) { l.trouble.tell(listening, err) },
	}
	l.delivering.Go(func() { l.deliver(ctx) })
	go l.send(ctx)
	go l.listener.run(ctx)
	return l
}

// within makes a call and waits for it for a second at most: the client's own timeouts may be longer, and it need not
// look at ctx. Over is closed when the call has ended.
func within(ctx context.Context, call func(context.Context) error) (over <-chan struct{}, err error) {
	ctx, cancel := context.WithTimeout(ctx, callFor)
	done, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		defer cancel()
		result <- call(ctx)
	}()
	select {
	case err = <-result:
	case <-ctx.Done():
		select {
		case err = <-result: // it ended, and ctx with it
		default:
			err = ctx.Err()
		}
	}
	return done, err
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
