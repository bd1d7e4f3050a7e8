package fusebox_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/transport"
)

func TestNoneOfAMillionRequestsToAHealthyUpstreamIsRefused(t *testing.T) {
	requests := 1_000_000
	if testkit.Brief() {
		requests /= 10
	}
	for _, share := range []float64{0.001, 0.01, 0.05} {
		t.Run(fmt.Sprintf("%v %% fail", 100*share), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				coin := rand.New(rand.NewPCG(1, uint64(1000*share)))
				good := &http.Response{StatusCode: 200, Body: http.NoBody}
				bad := &http.Response{StatusCode: 503, Body: http.NoBody}
				rt := transport.New(roundTripper(func(*http.Request) (*http.Response, error) {
					if coin.Float64() < share {
						return bad, nil
					}
					return good, nil
				}))
				req := httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil)
				for i := range requests {
					if i%10 == 0 {
						time.Sleep(time.Millisecond)
					}
					rt.RoundTrip(req)
				}
				c, _ := rt.Circuit(here)
				require.Zero(t, c.Refusals)
			})
		})
	}
}

// The calls are spread over fifty paths, of which no two are alike popular, and fail by whatever status.
func TestNoneOfAMillionRequestsToFiftyPathsIsRefused(t *testing.T) {
	for _, share := range []float64{0.001, 0.01, 0.05} {
		t.Run(fmt.Sprintf("%v %% fail", 100*share), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				coin := rand.New(rand.NewPCG(2, uint64(1000*share)))
				rt := transport.New(roundTripper(func(*http.Request) (*http.Response, error) {
					status := 200
					if coin.Float64() < share {
						status = 500 + coin.IntN(5)
					}
					return &http.Response{StatusCode: status, Body: http.NoBody}, nil
				}))
				var paths []*http.Request
				for i := range 50 {
					for range 50 / (i + 1) {
						paths = append(paths, httptest.NewRequest(http.MethodGet, fmt.Sprintf("http://upstream.test/%c/%c", 'a'+i%7, 'a'+i/7), nil))
					}
				}
				for i := range 1_000_000 {
					if i%10 == 0 {
						time.Sleep(time.Millisecond)
					}
					resp, err := rt.RoundTrip(paths[coin.IntN(len(paths))])
					require.NoError(t, err)
					if transport.Refused(resp) {
						t.Fatalf("request %d is refused", i)
					}
				}
				require.Len(t, rt.Circuits(), 1)
			})
		})
	}
}

// TestAHardOutageAtFiftyRequestsASecond holds the default policy to what docs/decisions.md promises of it. An outage of n
// requests sees about √n probes, so what is wasted of it falls with its length.
func TestAHardOutageAtFiftyRequestsASecond(t *testing.T) {
	for outage, wastedPercent := range map[time.Duration]float64{10 * time.Second: 6, time.Minute: 2, 10 * time.Minute: 1} {
		t.Run(outage.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				down, wasted := false, 0
				var firstRefusal, lastRefusal time.Time
				wastedAtOpen := 0
				rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
					if down {
						wasted++
						return nil, io.ErrUnexpectedEOF
					}
					return answer(200, "hello")(req)
				}))
				requests := func(during time.Duration) (n int) {
					for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
						n++
						if resp, err := request(t, rt, t.Context()); err == nil && transport.Refused(resp) {
							if firstRefusal.IsZero() {
								firstRefusal, wastedAtOpen = time.Now(), wasted
							}
							lastRefusal = time.Now()
						}
					}
					return n
				}
				requests(10 * time.Second)
				require.True(t, firstRefusal.IsZero())
				down = true
				offered := requests(outage)
				down = false
				end := time.Now()
				requests(time.Minute)

				require.LessOrEqual(t, wastedAtOpen, 10, "open within ten calls")
				require.Less(t, float64(wasted), wastedPercent/100*float64(offered), "wasted")
				require.Less(t, lastRefusal.Sub(end), outage/50+500*time.Millisecond, "back to full traffic")
				t.Logf("open after %d calls, %d of %d wasted, recovered %v after the outage",
					wastedAtOpen, wasted, offered, max(0, lastRefusal.Sub(end)))
			})
		})
	}
}
