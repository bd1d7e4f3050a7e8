package fleetredis_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet/fleetredis"
	"github.com/fusebox-go/fusebox/transport"
)

// memberEnv has the job of a test binary that is a member of a fleet, as JSON.
const memberEnv = "FUSEBOX_FLEET_MEMBER"

// job is what a client process does until its standard input ends.
type job struct {
	Redis string  // address; empty to be alone
	URL   string  // of the upstream
	Rate  float64 // calls a second
	Name  string
}

// event is a line that a client process writes: a change of state, or at its end its warnings.
type event struct {
	At       time.Time
	To       string
	Reason   string
	Warnings []string // but for timeouts
}

// runMember is the main of a client process.
func runMember() {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(memberEnv)), &j); err != nil {
		panic(err)
	}
	var log logbook
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	tell := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		out.Encode(e)
	}
	options := []transport.Option{transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) {
		tell(event{At: c.At, To: c.To.String(), Reason: string(c.Reason)})
	}})}
	if j.Redis != "" {
		client := redis.NewClient(&redis.Options{Addr: j.Redis})
		options = append(options, transport.WithFleet(fleetredis.New(client, fleetredis.Options{Logger: slog.New(&log)})))
	}
	rt := transport.New(&http.Transport{MaxIdleConnsPerHost: 100}, options...)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	client := &http.Client{Transport: rt, Timeout: 10 * time.Second}
	gap := time.Duration(float64(time.Second) / j.Rate)
	var calls sync.WaitGroup
	next := time.Now().Add(rand.N(gap))
	for ctx.Err() == nil {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
		case <-timer.C:
			next = next.Add(gap)
			calls.Go(func() {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.URL, nil)
				if err != nil {
					panic(err)
				}
				req.Header.Set("Member", j.Name)
				if resp, err := client.Do(req); err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		}
	}
	calls.Wait()
	rt.LeaveFleet()
	tell(event{At: time.Now(), To: "end", Warnings: log.unexplained()})
}

// clientProcess is a client process, and what it has told.
type clientProcess struct {
	name    string
	command *exec.Cmd
	stdin   io.Closer

	mu     sync.Mutex
	events []event
	ended  chan struct{}
}

func startClient(t *testing.T, j job) *clientProcess {
	text, err := json.Marshal(j)
	require.NoError(t, err)
	p := &clientProcess{name: j.Name, command: exec.Command(os.Args[0]), ended: make(chan struct{})}
	p.command.Env = append(os.Environ(), memberEnv+"="+string(text))
	p.command.Stderr = os.Stderr
	p.stdin, err = p.command.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.command.Start())
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				p.mu.Lock()
				p.events = append(p.events, e)
				p.mu.Unlock()
			}
		}
		p.command.Wait()
	}()
	t.Cleanup(func() {
		p.command.Process.Kill()
		<-p.ended
	})
	return p
}

// stop has the process end, and waits for that.
func (p *clientProcess) stop() {
	p.stdin.Close()
	<-p.ended
}

// first returns the first change to a state since a time.
func (p *clientProcess) first(to string, since time.Time) (event, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.events {
		if e.To == to && !e.At.Before(since) {
			return e, true
		}
	}
	return event{}, false
}

// await waits until all have changed to a state since a time, and returns when the first and the last did.
func await(t *testing.T, clients []*clientProcess, to string, since time.Time) (first, last time.Time) {
	t.Helper()
	require.Eventually(t, func() bool {
		first, last = time.Time{}, time.Time{}
		for _, c := range clients {
			e, ok := c.first(to, since)
			if !ok {
				return false
			}
			if first.IsZero() || e.At.Before(first) {
				first = e.At
			}
			if e.At.After(last) {
				last = e.At
			}
		}
		return true
	}, 2*patience, 10*time.Millisecond, "not all are %s", to)
	return first, last
}

// upstream is a server that can be down, and counts the calls that reach it then.
type upstream struct {
	url    string
	down   atomic.Bool
	hang   atomic.Bool // calls get no answer at all
	calls  atomic.Int64
	wasted atomic.Int64

	mu     sync.Mutex
	by     map[string]int // calls, by member
	hung   chan string    // the member whose call hangs; has room
	served http.Server
}

func startUpstream(t *testing.T) *upstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	u := &upstream{url: "http://" + l.Addr().String(), by: make(map[string]int), hung: make(chan string, 10_000)}
	u.served.Handler = u
	var running sync.WaitGroup
	running.Go(func() { u.served.Serve(l) })
	t.Cleanup(func() {
		u.served.Close()
		running.Wait()
	})
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.calls.Add(1)
	u.mu.Lock()
	u.by[r.Header.Get("Member")]++
	u.mu.Unlock()
	switch {
	case u.hang.Load():
		u.wasted.Add(1)
		u.hung <- r.Header.Get("Member")
		<-r.Context().Done()
	case u.down.Load():
		u.wasted.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	default:
		fmt.Fprint(w, "well")
	}
}

// members returns how many have called.
func (u *upstream) members() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.by)
}
