package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/fleet"
)

// upstream is a server that can be down.
type upstream struct {
	*httptest.Server
	down   atomic.Bool
	wasted atomic.Int64 // calls that came meanwhile
}

func startUpstream() *upstream {
	u := new(upstream)
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if u.down.Load() {
			u.wasted.Add(1)
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		fmt.Fprintln(w, "well")
	}))
	return u
}

// fleetOf is ten clients of an upstream.
type fleetOf struct {
	name     string
	upstream *upstream
	stop     func()

	mu     sync.Mutex
	events [clients][]event
}

// startFleet starts clients: processes that share a Redis, or nothing if its address is empty; or goroutines that share
// a bus, or nothing if that is nil.
func startFleet(ctx context.Context, name string, processes bool, redisAddr string, bus fleet.Bus) (*fleetOf, error) {
	f := &fleetOf{name: name, upstream: startUpstream()}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	f.stop = func() {
		cancel()
		running.Wait()
		f.upstream.Close()
	}
	var err error
	for i := range clients {
		told := func(e event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.events[i] = append(f.events[i], e)
		}
		run := func() { client(ctx, f.upstream.URL, bus, told) }
		if processes {
			if run, err = startProcess(ctx, job{f.upstream.URL, redisAddr}, told); err != nil {
				break
			}
		}
		running.Go(run)
	}
	if err != nil {
		f.stop()
	}
	return f, err
}

// startProcess starts this program as a client, which ends with its standard input.
func startProcess(ctx context.Context, j job, told func(event)) (wait func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	process := exec.CommandContext(ctx, self)
	process.Env = append(os.Environ(), jobEnv+"="+string(text))
	process.Stderr = os.Stderr
	stdin, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	process.Cancel = stdin.Close
	process.WaitDelay = 2 * time.Second
	stdout, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	return func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				told(e)
			}
		}
		io.Copy(io.Discard, stdout)
		process.Wait()
	}, nil
}

// last returns when the last of the clients changed to a state, in time since then; 0 if not all have.
func (f *fleetOf) last(state string, since time.Time) (last time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, events := range f.events {
		changed := time.Duration(0)
		for _, e := range events {
			if took := e.At.Sub(since); e.To == state && took > 0 && changed == 0 {
				changed = took
			}
		}
		if changed == 0 {
			return 0
		}
		last = max(last, changed)
	}
	return last
}
