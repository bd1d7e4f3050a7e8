package testkit

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// Incident is the one of docs/operations.md: an upstream that is down, then slow, then limits its callers, and gets
// over each. It is the base of the Transport that meets it.
type Incident struct {
	// Speed is how many times as fast it is as on that page, but for Retry-After, which is in whole seconds.
	Speed  time.Duration
	status atomic.Int64
	takes  atomic.Int64
}

// Rules are those by which the circuit goes: the default, and one of slowness.
func (i *Incident) Rules() policy.Rules {
	rules := policy.Adaptive{}.Rules()
	slow := policy.SlowShare{Slower: 2 * time.Second / i.Speed, Percent: 80, Calls: 10}
	rules.Trip = policy.AnyOf(policy.Evidence{}, slow)
	return rules
}

// RoundTrip answers as the upstream does at this time of the incident.
func (i *Incident) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(time.Duration(i.takes.Load()))
	resp := &http.Response{StatusCode: int(i.status.Load()), Header: http.Header{}, Body: http.NoBody, Request: req}
	if resp.StatusCode == http.StatusTooManyRequests {
		resp.Header.Set("Retry-After", "3")
	}
	return resp, nil
}

// Play calls the upstream through rt, one call after the other, until the incident is over.
func (i *Incident) Play(rt http.RoundTripper) error {
	const quick = 10 * time.Millisecond
	for _, phase := range []struct {
		status       int
		takes, lasts time.Duration
	}{
		{http.StatusOK, quick, 5 * time.Second},
		{http.StatusServiceUnavailable, quick, 15 * time.Second},
		{http.StatusOK, quick, 10 * time.Second},
		{http.StatusOK, 3 * time.Second, 45 * time.Second},
		{http.StatusOK, quick, 10 * time.Second},
		{http.StatusTooManyRequests, quick, 5 * time.Second},
		{http.StatusOK, quick, 10 * time.Second},
	} {
		i.status.Store(int64(phase.status))
		i.takes.Store(int64(phase.takes / i.Speed))
		end := time.Now().Add(phase.lasts / i.Speed)
		for ; time.Now().Before(end); time.Sleep(40 * time.Millisecond / i.Speed) {
			if err := i.Call(rt); err != nil {
				return err
			}
		}
	}
	return nil
}

// Call makes one call.
func (i *Incident) Call(rt http.RoundTripper) error {
	req, err := http.NewRequest(http.MethodGet, "https://pay.example/charges", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
