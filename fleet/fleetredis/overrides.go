package fleetredis

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/transport"
)

// lookEvery is how often overrides are read though nothing was heard: what is lost of them should not hold for hours.
const lookEvery = 30 * time.Second

// FollowOverrides forces and releases circuits of the Transport as the overrides in Redis say (Admin.Force), until ctx
// is done; then it releases what it has forced, and returns. Without it nobody can: who may write to that Redis can
// open every circuit of those who follow. It listens on a connection, and reads the overrides when it hears of a
// change, and every half minute.
//
// While Redis cannot be reached, what was forced stays so until its time is over. Transport.SaveTo leaves it out: it is
// in Redis. FollowOverrides panics as New does.
func FollowOverrides(ctx context.Context, t *transport.Transport, client redis.UniversalClient, o Options) {
	p := newPlace("FollowOverrides", client, &o)
	tr := trouble{logger: o.Logger, what: "what is forced stays so until its time is over"}
	changed := make(chan struct{}, 1)
	change := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	l := listener{
		client: client, channel: p.overrides(), again: make(chan struct{}, 1),
		ready: func(context.Context) error { change(); return nil },
		heard: func(string) { change() },
		told:  func(err error) { tr.tell(listening, err) },
	}
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { l.run(ctx) })

	f := follower{t: t, logger: o.Logger, applied: make(map[string]applied)}
	defer f.apply(nil)
	var over <-chan struct{} // a call of Redis that is under way
	next := time.Now()       // to read
	for {
		timer := time.NewTimer(time.Until(f.soonest(next)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-changed:
			next = time.Now()
		case <-timer.C:
		}
		timer.Stop()
		f.expire()
		if time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(retryMost)
		if over != nil {
			select {
			case <-over:
			default:
				continue // it is stuck, and one is enough
			}
		}
		var all []Override
		var leftOut int
		var err error
		over, err = within(ctx, func(ctx context.Context) (err error) {
			all, leftOut, err = p.listOverrides(ctx)
			return err
		})
		if ctx.Err() != nil {
			return
		}
		if tr.tell(keeping, err); err == nil {
			f.tell(leftOut + f.apply(all))
			next = time.Now().Add(lookEvery)
		}
	}
}

// follower brings what is forced on a Transport in line with what is to be.
type follower struct {
	t       *transport.Transport
	logger  *slog.Logger
	leftOut int
	applied map[string]applied // by pattern
}

type applied struct {
	transport.Override
	until time.Time
}

// tell tells the logger how many overrides are left out, when there is news.
func (f *follower) tell(leftOut int) {
	if leftOut > 0 && leftOut != f.leftOut {
		f.logger.Warn(
			"fleet: overrides in redis are left out: they make no sense, are too long, or there are too many", "n",
			leftOut,
		)
	}
	f.leftOut = leftOut
}

func (f *follower) apply(all []Override) (leftOut int) {
	gone := maps.Clone(f.applied)
	for _, o := range all {
		delete(gone, o.Pattern)
		have, ok := f.applied[o.Pattern]
		if !ok || have.Override != o.Override {
			if _, err := own.ForceUnsaved(f.t, o.Pattern, o.State); err != nil {
				leftOut++ // tried again the next time
				continue
			}
		}
		f.applied[o.Pattern] = applied{o.Override, time.Now().Add(o.Left)}
	}
	for pattern := range gone {
		f.release(pattern)
	}
	return leftOut
}

func (f *follower) release(pattern string) {
	f.t.Release(pattern)
	delete(f.applied, pattern)
}

// expire releases what is over, whether Redis can be asked or not.
func (f *follower) expire() {
	for pattern, a := range f.applied {
		if !time.Now().Before(a.until) {
			f.release(pattern)
		}
	}
}

// soonest returns when there is something to do.
func (f *follower) soonest(next time.Time) time.Time {
	for _, a := range f.applied {
		if a.until.Before(next) {
			next = a.until
		}
	}
	return next
}
