// Fleet shows one outage as ten client processes meet it: each by itself, and as a fleet that shares a Redis.
//
//	go run -C examples/fleet .
//
// It starts the processes, an upstream for each of the two fleets and a redis-server of its own. Where there is no
// redis-server or valkey-server, the clients are Transports of one process, which share a fleet.Memory. It takes ten
// seconds.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
)

const (
	clients = 10
	rate    = 5 // calls a second of each
	warmUp  = 2 * time.Second
	outage  = 5 * time.Second
	patient = 8 * time.Second // until all are well again
)

func main() {
	if text := os.Getenv(jobEnv); text != "" { // this is one of the client processes
		exitOn(runClient(text))
		return
	}
	exitOn(run())
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleet:", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	redisAddr, stop, err := startRedis(ctx)
	if err != nil {
		return err
	}
	defer stop()
	processes := redisAddr != ""
	if processes {
		fmt.Printf("two fleets of %d client processes, one of which shares the Redis at %s\n", clients, redisAddr)
	} else {
		fmt.Printf(
			"no redis-server here: two fleets of %d Transports in this process, one of which shares a fleet.Memory\n",
			clients,
		)
	}
	alone, err := startFleet(ctx, "each by itself", processes, "", nil)
	if err != nil {
		return err
	}
	defer alone.stop()
	shared, err := startFleet(ctx, "sharing", processes, redisAddr, new(fleet.Memory))
	if err != nil {
		return err
	}
	defer shared.stop()

	time.Sleep(warmUp)
	fmt.Printf("their upstreams go down for %v, under %d calls a second\n\n", outage, clients*rate)
	down := time.Now()
	alone.upstream.down.Store(true)
	shared.upstream.down.Store(true)
	time.Sleep(outage)
	opened := map[*fleetOf]time.Duration{alone: alone.last("open", down), shared: shared.last("open", down)}
	back := time.Now()
	alone.upstream.down.Store(false)
	shared.upstream.down.Store(false)
	for time.Since(back) < patient && (alone.last("closed", back) == 0 || shared.last("closed", back) == 0) {
		time.Sleep(10 * time.Millisecond)
	}

	fmt.Printf("%-16s%15s%21s%24s\n", "", "calls wasted", "last circuit open", "last circuit recovered")
	for _, f := range []*fleetOf{alone, shared} {
		fmt.Printf(
			"%-16s%15d%21s%24s\n", f.name, f.upstream.wasted.Load(), after(opened[f]), after(f.last("closed", back)),
		)
	}
	return nil
}

func after(d time.Duration) string {
	if d == 0 {
		return "not in time"
	}
	return "after " + d.Round(time.Millisecond).String()
}

// startRedis returns no address if there is no server to start.
func startRedis(ctx context.Context) (addr string, stop func(), err error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		addr := l.Addr().String()
		l.Close()
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			return "", nil, err
		}
		server := exec.CommandContext(
			ctx, path, "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no",
		)
		if err := server.Start(); err != nil {
			return "", nil, err
		}
		stop = func() {
			server.Process.Kill()
			server.Wait()
		}
		for ctx.Err() == nil {
			if conn, err := net.Dial("tcp", addr); err == nil {
				conn.Close()
				return addr, stop, nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		return "", nil, errors.New("redis does not start")
	}
	return "", func() {}, nil
}
