package fusebox_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What an operator gets to read who did not know that a closed circuit can be throttled. Servers and clients are real, and
// time is virtual.

// workers serves calls in a time each, so many at once; who finds no worker waits for one, or is answered by a status if
// that is not 0 and room for those who wait is full.
func workers(n, room int, takes time.Duration, full int) http.HandlerFunc {
	var working, waiting chan struct{}
	var begin sync.Once
	return func(w http.ResponseWriter, r *http.Request) {
		begin.Do(func() { working, waiting = make(chan struct{}, n), make(chan struct{}, n+room) }) // in the bubble
		if full != 0 {
			select {
			case waiting <- struct{}{}:
				defer func() { <-waiting }()
			default:
				w.WriteHeader(full)
				return
			}
		}
		select {
		case working <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		defer func() { <-working }()
		time.Sleep(takes)
	}
}

// watched is a Transport, and all that is told of it.
type watched struct {
	breaker  *transport.Transport
	log      bytes.Buffer // under mu, as the rest
	mu       sync.Mutex
	refusal  *transport.RefusedError // the last one
	header   string                  // Retry-After of the last one
	text     string                  // its body
	err      error                   // of a call, the last one
	refused  int
	good     int
	throttle []transport.ThrottleEvent
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

// before is how many requests were refused in throttles that are over.
func (w *watched) before() (refused uint64) {
	for _, e := range w.throttle {
		if e.Over {
			refused += e.Refused
		}
	}
	return refused
}

// lines are those of the log that are about throttles.
func (w *watched) lines() (lines []map[string]any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range strings.Lines(w.log.String()) {
		var l map[string]any
		if json.Unmarshal([]byte(line), &l) == nil && strings.Contains(l["msg"].(string), "throttled") {
			lines = append(lines, l)
		}
	}
	return lines
}

// offer makes calls a gap apart for a time, by callers who wait for that long.
func (w *watched) offer(t *testing.T, lasts, gap, patience time.Duration) {
	client := &http.Client{Transport: w.breaker}
	var all sync.WaitGroup
	for end := time.Now().Add(lasts); time.Now().Before(end); time.Sleep(gap) {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test/", nil)
			require.NoError(t, err)
			resp, err := client.Do(req)
			if err != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.err = err
				return
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			w.mu.Lock()
			defer w.mu.Unlock()
			switch {
			case transport.RefusedBecause(resp) == policy.RefusedThrottled: // and not held
				w.refused++
				w.header, w.text = resp.Header.Get("Retry-After"), string(text)
			case resp.StatusCode == http.StatusOK:
				w.good++
			}
		})
	}
	all.Wait()
}

// serve has an upstream called by a client that is watched.
func serve(t *testing.T, upstream http.HandlerFunc, test func(t *testing.T, w *watched), options ...transport.Option) {
	bubble.Serve(t, nil, upstream, func(t *testing.T, base *http.Transport) {
		w := &watched{}
		w.breaker = transport.New(base, append([]transport.Option{
			transport.WithObserver(logs.Observer(slog.New(slog.NewJSONHandler(w, nil)))),
			transport.WithObserver(transport.Observer{
				OnRefusal: func(r transport.RefusalEvent) {
					w.mu.Lock()
					defer w.mu.Unlock()
					if r.Error.Reason == policy.RefusedThrottled {
						w.refusal = r.Error
					}
				},
				OnThrottle: func(e transport.ThrottleEvent) {
					w.mu.Lock()
					defer w.mu.Unlock()
					w.throttle = append(w.throttle, e)
				},
			}),
		}, options...)...)
		test(t, w)
	})
}

func (w *watched) circuit(t *testing.T) transport.Snapshot {
	c, ok := w.breaker.Circuit(transport.Key{Scheme: "http", Host: "upstream.test"})
	require.True(t, ok)
	return c
}

func TestAThrottledCircuitExplainsItself(t *testing.T) {
	for _, c := range []struct {
		name     string
		upstream http.HandlerFunc
		gap      time.Duration
		patience time.Duration
		reason   policy.ThrottleReason
		why      string // a part of it
	}{
		{"503", workers(2, 2, 40*time.Millisecond, 503), 10 * time.Millisecond, time.Minute,
			policy.ThrottledBy503, "calls turned away, the last by 503 (they weigh 8"},
		{"429", workers(2, 2, 40*time.Millisecond, 429), 10 * time.Millisecond, time.Minute,
			policy.ThrottledBy429, "calls turned away, the last by 429 (they weigh 8"},
		{"late", workers(2, 0, 40*time.Millisecond, 0), 18 * time.Millisecond, 2 * time.Second,
			policy.ThrottledLate, "of the 2s that its caller waits (bound 35 %)"},
		{"queue", workers(2, 0, 40*time.Millisecond, 0), 8 * time.Millisecond, 2 * time.Second,
			policy.ThrottledQueue, "of the 2s that its caller waits (bound 70 %)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			serve(t, c.upstream, func(t *testing.T, w *watched) {
				w.offer(t, time.Second, 100*time.Millisecond, c.patience) // all is well
				require.Nil(t, w.circuit(t).Throttle)
				w.offer(t, 20*time.Second, c.gap, c.patience)

				// who looks at the circuits
				s := w.circuit(t).Throttle
				require.NotNil(t, s, "%d refused", w.refused)
				require.WithinRange(t, s.Since, time.Now().Add(-25*time.Second), time.Now())
				before := w.before()
				require.WithinRange(t, s.Until, time.Now(), time.Now().Add(30*time.Second))
				require.EqualValues(t, w.refused, before+s.Refused, "%v", w.throttle)
				if s.InFlight > 0 {
					most := 75.0
					if c.reason == policy.ThrottledQueue { // of which a limit for late answers lets some wait
						most = 150
					}
					require.True(t, s.PerSecond > 25 && s.PerSecond < most, "it carries 50: %+v", s)
				}

				// who gets a refusal
				require.Contains(t, w.text, s.Since.UTC().Format("since 2006-01-02 15:04:05 UTC"))
				require.NotContains(t, w.text, "probe")
				require.Equal(t, policy.RefusedThrottled, w.refusal.Reason)
				require.Positive(t, w.refusal.RetryAfter)
				require.LessOrEqual(t, w.refusal.RetryAfter, 2*time.Second)
				seconds, err := strconv.Atoi(w.header)
				require.NoError(t, err)
				require.Equal(t, (w.refusal.RetryAfter + time.Second - 1).Truncate(time.Second), time.Duration(seconds)*time.Second)

				// who observes
				first, began := w.throttle[0], w.throttle[len(w.throttle)-1]
				require.False(t, began.Over)
				require.Equal(t, c.reason, first.Reason)
				require.Contains(t, first.Why, c.why)
				require.Equal(t, s.Since, began.At)

				// and after a calm half minute
				w.offer(t, 40*time.Second, time.Second, c.patience)
				require.Nil(t, w.circuit(t).Throttle)
				over := w.throttle[len(w.throttle)-1]
				require.True(t, over.Over)
				require.Equal(t, policy.ThrottleCalm, over.Reason)
				require.EqualValues(t, w.refused, w.before())
				require.Equal(t, began.At, over.Since)

				// who reads the log
				lines := w.lines()
				require.GreaterOrEqual(t, len(lines), 2)
				require.Equal(t, "WARN", lines[0]["level"])
				require.Equal(t, "calls throttled", lines[0]["msg"])
				require.Equal(t, first.Why, lines[0]["why"])
				require.Equal(t, string(c.reason), lines[0]["reason"])
				if over := w.throttle[1]; over.Reason == policy.ThrottleCalm { // as mostly: a queue can be taken for a slow upstream
					require.Len(t, lines, 2)
					require.Equal(t, "INFO", lines[1]["level"])
					require.Equal(t, "calls no longer throttled", lines[1]["msg"])
					require.Equal(t, "calm", lines[1]["reason"])
					require.EqualValues(t, w.refused, lines[1]["refused"])
					require.Equal(t, over.At.Sub(over.Since).String(), lines[1]["lasted"])
				}
				if testing.Verbose() {
					text, _ := json.Marshal(s)
					t.Logf("%s\n%s\n%s", w.text, text, w.log.String())
				}
			})
		})
	}
}

func TestAThrottleThatIsOfNoUseSaysSo(t *testing.T) {
	for _, status := range []int{503, 429} {
		n := 0
		var mu sync.Mutex
		serve(t, func(rw http.ResponseWriter, _ *http.Request) {
			time.Sleep(30 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			if n++; n%2 == 0 { // whatever is sent
				rw.WriteHeader(status)
			}
		}, func(t *testing.T, w *watched) {
			w.offer(t, 20*time.Second, 10*time.Millisecond, time.Minute)
			require.Len(t, w.throttle, 2)
			require.Equal(t, policy.ThrottleNoUse, w.throttle[1].Reason)
			require.Contains(t, w.throttle[1].Why, "(bound", "%+v", w.throttle[1])
			require.Less(t, w.throttle[1].At.Sub(w.throttle[1].Since), 10*time.Second)
			lines := w.lines()
			require.Len(t, lines, 2)
			require.Equal(t, "no use", lines[1]["reason"])
			require.Equal(t, w.throttle[1].Why, lines[1]["why"])
			require.Nil(t, w.circuit(t).Throttle)
		})
	}
}

// One endpoint of an API is over its quota, and says so by 429; the others are well, and never called less for it. If all are
// over the quota, they are, and so is one that is called alone.
func TestAQuotaOfOneEndpointThrottlesNoOther(t *testing.T) {
	for name, over := range map[string]string{"search alone": "/search", "all": "/", "there is no other": "/s"} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			n := 0
			bubble.Serve(t, nil, func(rw http.ResponseWriter, r *http.Request) {
				time.Sleep(30 * time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				if n++; strings.HasPrefix(r.URL.Path, over) && n%3 != 0 { // a quota that is nearly used up
					rw.Header().Set("Retry-After", "45")
					rw.WriteHeader(http.StatusTooManyRequests)
				}
			}, func(t *testing.T, base *http.Transport) {
				rt := transport.New(base)
				refused := map[string]int{}
				call := func(path string) {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://upstream.test"+path, nil)
					require.NoError(t, err)
					resp, err := rt.RoundTrip(req)
					require.NoError(t, err)
					resp.Body.Close()
					if transport.Refused(resp) {
						refused[path]++
					}
				}
				for range 200 { // 3 a second to one and 2 to the other, for 80 s
					for _, path := range []string{"/search", "/core", "/search", "/core", "/search"} {
						if over == "/s" {
							path = "/search"
						}
						call(path)
						time.Sleep(50 * time.Millisecond)
					}
				}
				switch over {
				case "/search":
					require.Empty(t, refused)
				case "/":
					require.NotZero(t, refused["/core"])
				case "/s":
					require.NotZero(t, refused["/search"])
				}
			})
		})
	}
}

// An API of which each client gets so many calls in each half minute, and is told when the next one begins.
func TestAThrottleComesBackWhenAnAPISays(t *testing.T) {
	for name, says := range map[string]func(left time.Duration) string{
		"in seconds": func(left time.Duration) string { return strconv.Itoa(int(left/time.Second) + 1) },
		"as a date": func(left time.Duration) string {
			return time.Now().Add(left + time.Second).UTC().Format(http.TimeFormat)
		},
	} {
		t.Run(name, func(t *testing.T) {
			const each, calls = 30 * time.Second, 300
			var mu sync.Mutex
			window, left, turnedAway := int64(-1), 0, 0
			serve(t, func(rw http.ResponseWriter, _ *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				now := time.Now().UnixNano()
				if now/int64(each) != window {
					window, left = now/int64(each), calls
				}
				if left--; left < 0 {
					turnedAway++
					rw.Header().Set("Retry-After", says(each-time.Duration(now%int64(each))))
					rw.WriteHeader(http.StatusTooManyRequests)
				}
			}, func(t *testing.T, w *watched) {
				time.Sleep(each - time.Duration(time.Now().UnixNano()%int64(each)))
				w.offer(t, 2*each-5*time.Second, 50*time.Millisecond, time.Minute) // 600 in each window
				s := w.circuit(t).Throttle
				require.NotNil(t, s)
				require.Equal(t, policy.ThrottledBy429, s.Reason)
				require.Contains(t, s.Why, "8 calls in a row turned away by 429 (bound 8), the last was told to wait for 1", "of 15 s")
				next := time.Now().Add(5 * time.Second)
				require.WithinRange(t, s.Until, next.Add(-time.Second), next.Add(2*time.Second))
				require.WithinRange(t, time.Now().Add(w.refusal.RetryAfter), next.Add(-time.Second), next.Add(2*time.Second))
				require.Contains(t, w.text, "and all from "+s.Until.UTC().Format("15:04:05"))

				w.offer(t, 2*each+5*time.Second, 50*time.Millisecond, time.Minute)
				require.GreaterOrEqual(t, w.good, 4*calls-2*25, "in four windows, of which two begin with a second too late")
				require.LessOrEqual(t, turnedAway, 4*(8+15+2), "eight in each window, and one a second")
				for _, e := range w.throttle {
					if e.Over {
						require.Equal(t, policy.ThrottleCalm, e.Reason, e.Why)
						require.Equal(t, "the time is over for which the upstream said to wait", e.Why)
					}
				}
			})
		})
	}
}

func TestAThrottleEndsWhenItsCircuitOpensAndGoesOnWhenThatHasRecovered(t *testing.T) {
	var down sync.Map
	busy := workers(2, 2, 40*time.Millisecond, 503)
	serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if _, is := down.Load("down"); is {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		busy(rw, r)
	}, func(t *testing.T, w *watched) {
		w.offer(t, 10*time.Second, 10*time.Millisecond, time.Minute)
		down.Store("down", true)
		w.offer(t, 2*time.Second, 10*time.Millisecond, time.Minute)
		require.Equal(t, policy.Open, w.circuit(t).State)
		require.Nil(t, w.circuit(t).Throttle)
		down.Clear()
		w.offer(t, 20*time.Second, 10*time.Millisecond, time.Minute)
		var reasons []policy.ThrottleReason
		for i, e := range w.throttle {
			require.Equal(t, i%2 == 1, e.Over, "begin and end in turn")
			reasons = append(reasons, e.Reason)
		}
		require.Equal(t, policy.ThrottledBy503, reasons[0])
		require.Equal(t, policy.ThrottleOpened, reasons[1])
		require.Equal(t, policy.ThrottledAgain, reasons[2])
	})
}

// A shadow refuses nothing, so that as much comes as ever: what would become of less, it cannot know.
func TestAShadowDoesNotConcludeThatAThrottleIsOfNoUse(t *testing.T) {
	for _, status := range []int{503, 429} {
		serve(t, workers(2, 2, 40*time.Millisecond, status), func(t *testing.T, w *watched) {
			w.offer(t, 40*time.Second, 10*time.Millisecond, time.Minute)
			require.Zero(t, w.refused)
			require.Len(t, w.throttle, 1, "it ends when there is calm: %+v", w.throttle)
			require.True(t, w.throttle[0].Shadow)
			c := w.circuit(t)
			require.NotNil(t, c.Throttle)
			require.Contains(t, c.Throttle.Why, "in shadow nobody can tell whether that helps")
			require.InDelta(t, 50, c.Throttle.PerSecond, 25, "what it carries: %+v", c.Throttle)
			require.Equal(t, c.Shadow.Refused, c.Shadow.Throttled)
			require.InDelta(t, 2000, float64(c.Shadow.Refused), 1000, "half of what comes")
			require.Equal(t, c.Shadow.Refused, c.Shadow.Succeeded+c.Shadow.Failed+c.Shadow.TurnedAway)
			if status == 429 {
				require.Zero(t, c.Shadow.Failed)
				require.NotZero(t, c.Shadow.TurnedAway, "which is no good answer")
			} else {
				require.Zero(t, c.Shadow.TurnedAway, "a failure is counted as one")
				require.NotZero(t, c.Shadow.Failed)
			}
			lines := w.lines()
			require.Equal(t, "INFO", lines[0]["level"])
			require.Equal(t, "calls would be throttled, and none is refused", lines[0]["msg"])

			// From now on for real, it finds out anew.
			w.breaker.SetShadow(nil)
			w.offer(t, 10*time.Second, 10*time.Millisecond, time.Minute)
			require.NotZero(t, w.refused)
			require.Equal(t, policy.ThrottleByHand, w.throttle[1].Reason)
			require.NotContains(t, w.circuit(t).Throttle.Why, "shadow")
		}, transport.WithShadow())
	}
}

func TestARefusalByErrorSaysWhatTheThrottleKnows(t *testing.T) {
	serve(t, workers(2, 2, 40*time.Millisecond, 503), func(t *testing.T, w *watched) {
		w.offer(t, 5*time.Second, 10*time.Millisecond, time.Minute)
		var refused *transport.RefusedError
		require.True(t, errors.As(w.err, &refused))
		require.NotNil(t, refused.Throttle)
		require.Equal(t, policy.ThrottledBy503, refused.Throttle.Reason)
		require.Contains(t, w.err.Error(), refused.Throttle.Why)
	}, transport.WithRefusalError())
}
