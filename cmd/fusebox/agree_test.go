package main

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/read"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/rules"
	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/recorder"
	"github.com/fusebox-go/fusebox/transport"
)

const sec = time.Second

// script is an upstream that has an outage of errors from 10 s on, and one of silence from 40 s on. No call ends when
// another begins, since nobody knows which is first.
func script(start time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch at := time.Since(start); {
		case at > 10*sec && at < 20*sec:
			time.Sleep(7 * time.Millisecond)
			w.WriteHeader(http.StatusServiceUnavailable)
		case at > 40*sec && at < 55*sec:
			<-r.Context().Done()
		default:
			time.Sleep(17 * time.Millisecond)
		}
	}
}

// offer makes 50 calls a second for 80 s, whose callers wait for 3 s, and returns which were refused.
func offer(breaker *transport.Transport) (refused map[int]bool) {
	refused = map[int]bool{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range 80 * 50 {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 3003*time.Millisecond)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://upstream.example/", nil)
			resp, err := breaker.RoundTrip(req)
			if err == nil {
				if transport.Refused(resp) {
					mu.Lock()
					refused[i] = true
					mu.Unlock()
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
		time.Sleep(20 * time.Millisecond)
	}
	all.Wait()
	return refused
}

// inBubble makes the calls of the script by a Transport.
func inBubble(t *testing.T, with func(breaker *transport.Transport, refused map[int]bool), options ...transport.Option) {
	var start time.Time
	bubble.Serve(t, nil, func(w http.ResponseWriter, r *http.Request) { script(start)(w, r) },
		func(t *testing.T, base *http.Transport) {
			start = time.Now()
			breaker := transport.New(base, options...)
			with(breaker, offer(breaker))
		})
}

// played replays files by a policy, and returns the calls, too.
func played(t *testing.T, p policy.Policy, files ...string) (*decide.Result, []record.Call) {
	t.Helper()
	result, calls, _ := replayed(t, p, files...)
	return result, calls
}

// sampled replays a file, and returns what its keys are called.
func sampled(t *testing.T, p policy.Policy, file string) (*decide.Result, func(uint32) string) {
	t.Helper()
	result, _, name := replayed(t, p, file)
	return result, name
}

func replayed(t *testing.T, p policy.Policy, files ...string) (*decide.Result, []record.Call, func(uint32) string) {
	t.Helper()
	source, err := read.Open(t.Context(), read.Options{Own: []read.Own{recorded}}, files...)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	r := decide.New(decide.Options{Policies: []decide.Policy{{Name: "it", Policy: p}}})
	var calls []record.Call
	buf := make([]record.Call, 500)
	for {
		n, err := source.Next(buf)
		if err == io.EOF {
			return r.Finish(), calls, source.Keys().Name
		}
		if err != nil {
			t.Fatal(err)
		}
		r.Calls(buf[:n])
		calls = append(calls, buf[:n]...)
	}
}

// near reports whether n is in a range, or beside it by no more than 2 % and 3.
func near(n int64, r decide.Range) bool {
	return n >= r.Least-r.Least/50-3 && n <= r.Most+r.Most/50+3
}

func TestAReplayAgreesWithTheLiveTransportAndItsShadow(t *testing.T) {
	for text, exact := range map[string]bool{
		"default": false, "adaptive hold=off": false, "classic failures=5 openfor=3s": true,
		"share percent=50 window=5s openfor=2s": true,
	} {
		t.Run(text, func(t *testing.T) {
			p, err := rules.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(t.TempDir(), "calls")
			// In shadow all calls are made, and all are recorded with what came of them.
			var shadow transport.Snapshot
			var calls *recorder.Recorder
			inBubble(t, func(breaker *transport.Transport, _ map[int]bool) {
				shadow = breaker.Circuits()[0]
				if err := calls.Close(); err != nil || calls.Lost() > 0 {
					t.Errorf("%v, %d calls lost", err, calls.Lost())
				}
			}, transport.WithPolicy(p), transport.WithShadow(), func(breaker *transport.Transport) {
				if calls, err = recorder.Open(path, recorder.Options{}); err != nil {
					t.Fatal(err)
				}
				breaker.Observe(calls.Observer())
			})
			result, seen := played(t, p, path)
			o := &result.Outcomes[0]
			made := int64(len(seen))
			if made != 80*50 || result.Total.Calls != made {
				t.Fatalf("%d calls are read, of %d", made, 80*50)
			}
			t.Logf("replay: refused %d (%v), price %d (%v), gain %d (%v), opened %d, spared %v", o.Refused, o.RefusedRange,
				o.Price, o.PriceRange, o.Gain, o.GainRange, o.Opened, o.Spared)
			t.Logf("shadow: refused %d, price %d, gain %d", shadow.Shadow.Refused, shadow.Shadow.Succeeded, shadow.Shadow.Failed)
			check := func(who, what string, n int64, r decide.Range) {
				t.Helper()
				if exact && (n < r.Least || n > r.Most) || !near(n, r) {
					t.Errorf("%s: %s %d; the replay has %v", who, what, n, r)
				}
			}
			check("shadow", "refused", int64(shadow.Shadow.Refused), o.RefusedRange)
			check("shadow", "price", int64(shadow.Shadow.Succeeded), o.PriceRange)
			check("shadow", "gain", int64(shadow.Shadow.Failed), o.GainRange)
			if o.Refused < 300 || o.Gain < 300 {
				t.Errorf("refused %d, gain %d: this is no test", o.Refused, o.Gain)
			}

			// The same calls, by a Transport that refuses.
			inBubble(t, func(breaker *transport.Transport, refused map[int]bool) {
				price, gain := int64(0), int64(0)
				for i := range refused {
					if seen[i].Outcome() == policy.Success {
						price++
					} else {
						gain++
					}
				}
				t.Logf("live: refused %d, price %d, gain %d", len(refused), price, gain)
				check("live", "refused", int64(len(refused)), o.RefusedRange)
				check("live", "price", price, o.PriceRange)
				check("live", "gain", gain, o.GainRange)
			}, transport.WithPolicy(p))
		})
	}
}
