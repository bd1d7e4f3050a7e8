package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/transport"
)

// jobEnv has the job of a client process.
const jobEnv = "FUSEBOX_EXAMPLE_JOB"

type job struct{ URL, Redis string }

// event is a change of state that a client tells of.
type event struct {
	At time.Time
	To string
}

// runClient is the main of a client process.
func runClient(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var bus fleet.Bus
	if j.Redis != "" {
		conn := redis.NewClient(&redis.Options{Addr: j.Redis})
		defer conn.Close()
		bus = fleetredis.New(conn, fleetredis.Options{Namespace: "example"})
	}
	out := json.NewEncoder(os.Stdout)
	client(ctx, j.URL, bus, func(e event) { out.Encode(e) })
	return nil
}

// client calls the upstream until ctx is done, and tells of its circuit's changes. A nil bus means to be alone.
func client(ctx context.Context, url string, bus fleet.Bus, tell func(event)) {
	options := []transport.Option{transport.WithObserver(transport.Observer{
		OnStateChange: func(c transport.StateChange) { tell(event{c.At, c.To.String()}) },
	})}
	if bus != nil {
		options = append(options, transport.WithFleet(bus))
	}
	rt := transport.New(nil, options...)
	defer rt.CloseIdleConnections()
	defer rt.LeaveFleet()
	c := &http.Client{Transport: rt, Timeout: 5 * time.Second}
	var calls sync.WaitGroup
	defer calls.Wait()
	next := time.Now().Add(rand.N(time.Second / rate))
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(next)):
		}
		next = next.Add(time.Second / rate)
		calls.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				panic(err) // the URL is this program's own
			}
			if resp, err := c.Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
