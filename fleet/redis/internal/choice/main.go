// Choice measures the two libraries that fleet/redis could have been built on, against a redis-server of its own:
//
//	go run -C fleet/redis/internal/choice .
//
// For each: the commands that ten idle subscribers send, and the time from a publish to its arrival. It is a module of its
// own, so that nobody who uses fleet/redis downloads both.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
)

const (
	subscribers = 10
	settle      = 2 * time.Second
	idle        = 15 * time.Second
	publishes   = 1000
	channel     = "choice"
)

// library is a way to subscribe and to publish. Subscribe returns when it listens.
type library struct {
	name      string
	subscribe func(ctx context.Context, addr string, hear func()) error
	publisher func(addr string) (publish func(context.Context) error, err error)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "choice:", err)
		os.Exit(1)
	}
}

func run() error {
	fmt.Printf("%-10s %-40s %10s %10s\n", "", fmt.Sprintf("commands of %d idle subscribers in %v", subscribers, idle), "median", "p99")
	for _, l := range []library{goRedis, rueidisLibrary} {
		if err := measure(l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

func measure(l library) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := listener.Addr().String()
	listener.Close()
	server := exec.CommandContext(ctx, "redis-server", "--bind", "127.0.0.1", "--port", addr[strings.LastIndex(addr, ":")+1:], "--save", "")
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Wait()
	defer server.Process.Kill()
	admin := redis.NewClient(&redis.Options{Addr: addr})
	defer admin.Close()
	for admin.Ping(ctx).Err() != nil && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	heard := make(chan struct{}, publishes)
	for range subscribers {
		hear := func() { heard <- struct{}{} }
		if err := l.subscribe(ctx, addr, hear); err != nil {
			return err
		}
	}
	time.Sleep(settle)
	before, err := calls(ctx, admin)
	if err != nil {
		return err
	}
	time.Sleep(idle)
	after, err := calls(ctx, admin)
	if err != nil {
		return err
	}
	var sent []string
	for name, n := range after {
		if n -= before[name]; n > 0 && name != "info" {
			sent = append(sent, fmt.Sprint(name, " ", n))
		}
	}
	slices.Sort(sent)
	publish, err := l.publisher(addr)
	if err != nil {
		return err
	}
	var took []time.Duration
	for range publishes {
		start := time.Now()
		if err := publish(ctx); err != nil {
			return err
		}
		for range subscribers {
			select {
			case <-heard:
			case <-ctx.Done():
				return errors.New("not heard")
			}
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	what := strings.Join(sent, ", ")
	if what == "" {
		what = "none"
	}
	fmt.Printf("%-10s %-40s %10v %10v\n", l.name, what, took[publishes/2].Round(time.Microsecond), took[publishes*99/100].Round(time.Microsecond))
	return nil
}

// calls returns how often each command was called.
func calls(ctx context.Context, admin *redis.Client) (map[string]int, error) {
	text, err := admin.Info(ctx, "commandstats").Result()
	if err != nil {
		return nil, err
	}
	all := make(map[string]int)
	for line := range strings.Lines(text) {
		var n int
		name, rest, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if _, err := fmt.Sscanf(rest, "calls=%d", &n); err == nil {
			all[name] = n
		}
	}
	return all, nil
}

var goRedis = library{
	name: "go-redis",
	subscribe: func(ctx context.Context, addr string, hear func()) error {
		sub := redis.NewClient(&redis.Options{Addr: addr}).Subscribe(ctx, channel)
		if _, err := sub.Receive(ctx); err != nil {
			return err
		}
		go func() {
			for {
				if _, err := sub.ReceiveMessage(ctx); err != nil {
					return
				}
				hear()
			}
		}()
		return nil
	},
	publisher: func(addr string) (func(context.Context) error, error) {
		client := redis.NewClient(&redis.Options{Addr: addr})
		return func(ctx context.Context) error { return client.Publish(ctx, channel, "x").Err() }, nil
	},
}

var rueidisLibrary = library{
	name: "rueidis",
	subscribe: func(ctx context.Context, addr string, hear func()) error {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}})
		if err != nil {
			return err
		}
		ready := make(chan struct{})
		ctx = rueidis.WithOnSubscriptionHook(ctx, func(rueidis.PubSubSubscription) { close(ready) })
		go client.Receive(ctx, client.B().Subscribe().Channel(channel).Build(), func(rueidis.PubSubMessage) { hear() })
		<-ready
		return nil
	},
	publisher: func(addr string) (func(context.Context) error, error) {
		client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{addr}})
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			return client.Do(ctx, client.B().Publish().Channel(channel).Message("x").Build()).Error()
		}, nil
	},
}
