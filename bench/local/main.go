// Local is a trial of what a breaker should do when the trouble is on its own side: most of a process's upstreams begin
// to fail together.
//
//	go run ./local
//
// Twenty hosts, called 0.2 to 20 times a second, fail together, by an error at once or by silence that callers bear for
// two seconds; and in two controls three of them fail, or twelve, each by itself and for a time of its own. Three rules
// meet the same arrivals: each circuit by itself; LocalTrouble as the transport has it; and a bound, by which no
// circuit opens while half of those in use are open. Printed is the regret: good answers lost, and half of the calls
// that failed, in percent of the requests. The seeds are flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	hosts    = 20
	patience = 2 * time.Second  // of callers
	before   = 20 * time.Second // the outage
	after    = 60 * time.Second // it
	latency  = 10 * time.Millisecond
)

// trouble is one script: how many hosts fail, how, and from when to when each.
type trouble struct {
	name   string
	hosts  int
	length time.Duration
	apart  time.Duration // between the ends of the outages of two hosts
	silent bool
}

var troubles = []trouble{
	{"all fail, 10 s", hosts, 10 * time.Second, 0, false},
	{"all fail, 1 min", hosts, time.Minute, 0, false},
	{"all fail, 10 min", hosts, 10 * time.Minute, 0, false},
	{"all silent, 10 s", hosts, 10 * time.Second, 0, true},
	{"all silent, 1 min", hosts, time.Minute, 0, true},
	{"control: 3 fail, 1 min", 3, time.Minute, 0, false},
	{"control: 12 fail, end apart", 12, time.Minute, 5 * time.Second, false},
}

var policies = []struct {
	name string
	policy.Policy
}{{"adaptive", policy.Adaptive{}}, {"classic, 30 s", policy.Classic{OpenFor: 30 * time.Second}}}

var rules = []string{"each by itself", "LocalTrouble", "bound of half"}

// world is the base: the hosts as they are now.
type world struct {
	trouble
	start time.Time
}

func (w *world) down(host int, at time.Time) bool {
	since := at.Sub(w.start) - before
	return host%hosts < w.hosts && since >= 0 && since < w.length+time.Duration(host)*w.apart
}

func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	var host int
	fmt.Sscanf(req.URL.Host, "host%d", &host)
	if w.down(host, time.Now()) {
		if !w.silent {
			return nil, syscall.ECONNREFUSED
		}
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	time.Sleep(latency)
	return &http.Response{StatusCode: http.StatusNoContent, Body: http.NoBody, Request: req}, nil
}

// bound closes a circuit that opens while half of the hosts are open.
func bound(rt *transport.Transport) {
	var open atomic.Int64
	rt.Observe(transport.Observer{OnStateChange: func(c transport.StateChange) {
		if c.From == policy.Closed {
			if open.Add(1) > hosts/2 {
				rt.SetState(c.Key, policy.Closed)
			}
		}
		if c.To == policy.Closed {
			open.Add(-1)
		}
	}})
}

func regret(t *testing.T, s trouble, p policy.Policy, rule string, seed uint64) (percent float64) {
	synctest.Test(t, func(*testing.T) {
		random := rand.New(rand.NewPCG(seed, 7))
		jitter := rand.New(rand.NewPCG(seed, 8))
		var mu sync.Mutex
		options := []transport.Option{transport.WithPolicy(p), own.WithRandom(func() float64 {
			mu.Lock()
			defer mu.Unlock()
			return jitter.Float64()
		}).(transport.Option)}
		if rule != "LocalTrouble" {
			options = append(options, transport.WithoutLocalTrouble())
		}
		w := &world{s, time.Now()}
		rt := transport.New(w, options...)
		if rule == "bound of half" {
			bound(rt)
		}
		var all, lost, wasted atomic.Int64
		var calls sync.WaitGroup
		end := before + s.length + hosts*s.apart + after
		for host := range hosts {
			rate := 0.2 * math.Pow(100, float64(host*7%hosts)/(hosts-1)) // the busiest are not those that fail first
			arrivals := rand.New(rand.NewPCG(random.Uint64(), 1))
			calls.Go(func() {
				url := fmt.Sprintf("http://host%d/", host)
				for {
					time.Sleep(time.Duration(arrivals.ExpFloat64() / rate * float64(time.Second)))
					if time.Since(w.start) > end {
						return
					}
					calls.Go(func() {
						ctx, cancel := context.WithTimeout(context.Background(), patience)
						defer cancel()
						req, _ := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
						down := w.down(host, time.Now())
						resp, err := rt.RoundTrip(req)
						all.Add(1)
						switch refused := err == nil && transport.Refused(resp); {
						case refused && !down:
							lost.Add(1)
						case err != nil && down:
							wasted.Add(1)
						case err != nil && !errors.Is(err, context.DeadlineExceeded):
							panic(err)
						}
					})
				}
			})
		}
		calls.Wait()
		percent = 100 * (float64(lost.Load()) + float64(wasted.Load())/2) / float64(all.Load())
	})
	return percent
}

func main() {
	seeds := flag.Int("seeds", 5, "how many seeds to take the mean of")
	first := flag.Uint64("first", 1, "the first of them")
	flag.Parse()
	os.Args = os.Args[:1] // testing.Main has flags of its own
	every := func(pat, str string) (bool, error) { return true, nil }
	testing.Main(every, []testing.InternalTest{{Name: "local", F: func(t *testing.T) {
		table(t, *seeds, *first)
		os.Exit(0)
	}}}, nil, nil)
}

func table(t *testing.T, seeds int, first uint64) {
	for _, p := range policies {
		fmt.Printf("%-30s", p.name)
		for _, rule := range rules {
			fmt.Printf("%16s", rule)
		}
		fmt.Println()
		for _, s := range troubles {
			fmt.Printf("  %-28s", s.name)
			for _, rule := range rules {
				sum := 0.0
				for seed := range uint64(seeds) {
					sum += regret(t, s, p.Policy, rule, first+seed)
				}
				fmt.Printf("%16.2f", sum/float64(seeds))
			}
			fmt.Println()
		}
	}
}
