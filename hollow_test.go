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
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{}} {
		for _, deadline := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 8 * time.Second, 25 * time.Second} {
			for _, first := range []string{"", "a few bytes"} {
				for _, every := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond, time.Second} {
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
