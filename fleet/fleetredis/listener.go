package fleetredis

import (
	"context"
	"math/rand/v2"

	"github.com/redis/go-redis/v9"
)

// listener listens on a channel, and subscribes again whenever that fails.
type listener struct {
	client  redis.UniversalClient
	channel string
	// called when it listens, before anything is heard; fails if it has to be tried again
	ready func(context.Context) error
	heard func(payload string)
	told  func(error)   // how it goes
	again chan struct{} // has room for one: to subscribe anew
}

// resubscribe has the listener subscribe anew.
func (l *listener) resubscribe() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

func (l *listener) run(ctx context.Context) {
	wait := retryLeast
	for ctx.Err() == nil {
		subscribed, err := l.listen(ctx)
		if ctx.Err() != nil {
			return
		}
		l.told(err)
		if subscribed {
			wait = retryLeast
		}
		pause(ctx, wait/2+rand.N(wait)) // members of a fleet lose their Redis all at once
		wait = min(2*wait, retryMost)
	}
}

// listen listens until something goes wrong.
func (l *listener) listen(ctx context.Context) (subscribed bool, err error) {
	ctx, stop := context.WithCancel(ctx) // also ends a reconnection that the client makes by itself
	defer stop()
	sub := l.client.Subscribe(ctx, l.channel)
	defer sub.Close()
	select {
	case <-l.again: // that is just being done
	default:
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-l.again:
			stop()
		}
		sub.Close() // ends ReceiveMessage
	}()
	// The confirmation, so that nothing is missed between it and what ready asks for.
	if _, err := sub.ReceiveTimeout(ctx, 3*callFor); err != nil {
		return false, err
	}
	if err := l.ready(ctx); err != nil {
		return false, err
	}
	l.told(nil)
	for {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return true, err
		}
		l.heard(m.Payload)
	}
}
