// Upstreams whose headers are good, and of whose bodies nothing comes.
package fusebox_test

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// hollow is an upstream that sends headers, and then nothing while it hangs, or a body if it does not.
type hollow struct {
	hangs atomic.Bool
	calls atomic.Int64
	first string // comes at once, whether it hangs or not
}

func (h *hollow) RoundTrip(req *http.Request) (*http.Response, error) {
	h.calls.Add(1)
	time.Sleep(5 * time.Millisecond)
	r, w := io.Pipe()
	stop := context.AfterFunc(req.Context(), func() { w.CloseWithError(req.Context().Err()) })
	go func() {
		if h.first != "" {
			io.WriteString(w, h.first)
		}
		if !h.hangs.Load() {
			io.WriteString(w, "hello")
			w.Close()
			stop()
		}
	}()
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: r, Request: req}, nil
}

// offer has calls begin at a rate, each with a deadline, and returns how many were refused of those that began in the last half.
func (h *hollow) offer(t *testing.T, rt http.RoundTripper, every, deadline, length time.Duration) (refused, of int) {
	t.Helper()
	var count atomic.Int64
	for at := time.Duration(0); at < length; at += every {
		late := at >= length/2
		if late {
			of++
		}
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hollow.test/", nil)
			if err != nil {
				panic(err)
			}
			resp, err := rt.RoundTrip(req)
			if err != nil {
				return
			}
			if transport.Refused(resp) && late {
				count.Add(1)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}()
		time.Sleep(every)
	}
	time.Sleep(deadline + time.Second)
	synctest.Wait()
	return int(count.Load()), of
}

func TestGoodHeadersThatNothingComesAfterOpenTheCircuitWhateverCallersWait(t *testing.T) {
	try := testkit.OneIn(10)
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{}} {
		for _, deadline := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 8 * time.Second, 25 * time.Second} {
			for _, first := range []string{"", "a few bytes"} {
				for _, every := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, time.Second} {
					if !try() {
						continue
					}
					synctest.Test(t, func(t *testing.T) {
						h := &hollow{first: first}
						rt := transport.New(h, transport.WithPolicy(p))
						h.offer(t, rt, every, deadline, 10*time.Second)
						h.hangs.Store(true)
						refused, of := h.offer(t, rt, every, deadline, 4*time.Minute)
						require.Greater(t, refused, of*9/10, "%s, %q, a call each %v that waits %v: refused of %d", name, first, every, deadline, of)
						h.hangs.Store(false)
						h.offer(t, rt, every, deadline, 90*time.Second)
						before := h.calls.Load()
						h.offer(t, rt, every, deadline, 10*time.Second)
						require.GreaterOrEqual(t, int(h.calls.Load()-before), int(10*time.Second/every)-1, "%s: and it is back", name)
					})
				}
			}
		}
	}
}

// stops is an upstream whose bodies come for a time, a piece each 200 ms, and then stop.
type stops struct {
	after atomic.Int64 // nanoseconds; 0 if they come to their end, after as long
	calls atomic.Int64
}

func (s *stops) RoundTrip(req *http.Request) (*http.Response, error) {
	s.calls.Add(1)
	r, w := io.Pipe()
	context.AfterFunc(req.Context(), func() { w.CloseWithError(req.Context().Err()) })
	go func() {
		const gap = 200 * time.Millisecond
		for at := time.Duration(0); ; at += gap {
			after := time.Duration(s.after.Load())
			if after == 0 && at >= 3*time.Second {
				w.Close()
				return
			}
			if after > 0 && at >= after {
				return // and nothing more comes
			}
			time.Sleep(gap)
			io.WriteString(w, "piece")
		}
	}()
	return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: r, Request: req}, nil
}

// A stream may say nothing for minutes. That others were cut, as when a balancer starts anew, does not make it a fault.
func TestQuietStreamsAreTakenUpAgainAfterAllOfThemWereCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		cut := make(chan struct{})
		rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
			if broken.Load() {
				return nil, io.ErrUnexpectedEOF
			}
			r, w := io.Pipe()
			go func() {
				io.WriteString(w, ": hello\n\n")
				<-cut
				w.CloseWithError(io.ErrUnexpectedEOF)
			}()
			return &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Body: r, Request: req}, nil
		}))
		var open atomic.Int64
		connect := func() {
			req, err := http.NewRequest(http.MethodGet, "http://events.test/", nil)
			require.NoError(t, err)
			resp, err := rt.RoundTrip(req)
			if err != nil || transport.Refused(resp) {
				return
			}
			open.Add(1)
			go func() { io.Copy(io.Discard, resp.Body); resp.Body.Close(); open.Add(-1) }()
		}
		for range 100 {
			connect()
		}
		time.Sleep(time.Minute)
		broken.Store(true)
		close(cut)
		time.Sleep(time.Second)
		require.Zero(t, open.Load())
		for range 50 {
			connect()
			time.Sleep(100 * time.Millisecond)
		}
		broken.Store(false)
		cut = make(chan struct{})
		for range 600 {
			if open.Load() < 100 {
				connect()
			}
			time.Sleep(100 * time.Millisecond)
		}
		require.EqualValues(t, 100, open.Load(), "a minute later")
		close(cut)
	})
}

func TestDownloadsThatStopOpenTheCircuitHoweverLateTheyDo(t *testing.T) {
	try := testkit.OneIn(4)
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{}} {
		for _, after := range []time.Duration{400 * time.Millisecond, 1200 * time.Millisecond, 5 * time.Second, 20 * time.Second} {
			if !try() {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				upstream := &stops{}
				rt := transport.New(upstream, transport.WithPolicy(p))
				client := &hollow{}
				deadline := after + 10*time.Second
				client.offer(t, rt, 500*time.Millisecond, deadline, 10*time.Second)
				upstream.after.Store(int64(after))
				refused, of := client.offer(t, rt, 500*time.Millisecond, deadline, 6*time.Minute)
				least := of / 2
				if after > 10*time.Second { // for which a probe is taken for good
					least = of / 4
				}
				require.Greater(t, refused, least, "%s, bodies that stop after %v: refused of %d", name, after, of)
				upstream.after.Store(0)
				client.offer(t, rt, 500*time.Millisecond, deadline, 90*time.Second)
				before := upstream.calls.Load()
				client.offer(t, rt, 500*time.Millisecond, deadline, 10*time.Second)
				require.GreaterOrEqual(t, int(upstream.calls.Load()-before), 19, "%s: and it is back", name)
			})
		}
	}
}
