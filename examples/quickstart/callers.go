package main

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/transport"
)

// answer is what a caller got.
type answer int

const (
	answered answer = iota
	failed
	refused
)

// caller is one call on its way.
type caller struct {
	line    *timeline
	started time.Time
	part    *part // of the timeline, in which it is counted
}

type callerKey struct{}

func callerOf(ctx context.Context) *caller { return ctx.Value(callerKey{}).(*caller) }

// letThrough moves a call that was let through to the part that it began in: a probe's is half-open, though its circuit
// was open when the caller came.
func (c *caller) letThrough() { c.part = c.line.move(c.part) }

// callers call without pause, each in a goroutine of its own, whatever becomes of those before.
type callers struct {
	quit chan struct{}
	all  sync.WaitGroup
}

func callEvery(every time.Duration, client *http.Client, url string, line *timeline) *callers {
	c := &callers{quit: make(chan struct{})}
	c.all.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-c.quit:
				return
			case <-tick.C:
				c.all.Go(func() { callOnce(client, url, line) })
			}
		}
	})
	return c
}

func (c *callers) stop() {
	close(c.quit)
	c.all.Wait()
}

func callOnce(client *http.Client, url string, line *timeline) {
	me := &caller{line: line, started: time.Now(), part: line.join()}
	req, err := http.NewRequestWithContext(
		context.WithValue(context.Background(), callerKey{}, me), http.MethodGet, url, nil,
	)
	if err != nil {
		panic(err) // the URL is our own
	}
	before := time.Now()
	resp, err := client.Do(req)
	took := time.Since(before)
	got := failed
	if err == nil {
		switch {
		case transport.Refused(resp):
			got = refused
		case resp.StatusCode == http.StatusOK:
			got = answered
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	line.leave(me, got, took)
}
