package transport_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// strict is a recovery that ends, in an open circuit again, with the first call that it is told of.
type strict struct{}

func (strict) NewRecover() policy.Recover                          { return strict{} }
func (strict) AfterProbe() bool                                    { return false }
func (strict) Start(time.Time, policy.Result)                      {}
func (strict) Admit(int) (int, bool)                               { return 0, true }
func (strict) Lease() time.Duration                                { return time.Minute }
func (strict) Record(time.Time, int, policy.Result) policy.Verdict { return policy.VerdictReopen }
func (strict) Counts() (failures, successes int)                   { return 0, 0 }
func (strict) Limit() int                                          { return 1 }

// TestOnlyACallThatFailedGetsTheRefusalOfATrip makes calls of which the last opens the circuit.
func TestOnlyACallThatFailedGetsTheRefusalOfATrip(t *testing.T) {
	half := policy.FailureShare{Minimum: 4}
	slowly := policy.SlowShare{Slower: time.Second, Minimum: 2, Percent: 100}
	for _, c := range []struct {
		name     string
		trip     policy.TripRule
		halfOpen bool
		took     time.Duration // each call
		statuses []int
		shadow   bool
		refused  bool
	}{
		{name: "a success reaches the minimum of a share", trip: half, statuses: []int{500, 500, 201, 201}},
		{name: "a failure reaches it", trip: half, statuses: []int{201, 500, 201, 500}, refused: true},
		{name: "the same in shadow", trip: half, statuses: []int{201, 500, 201, 500}, shadow: true},
		{name: "a success, in shadow", trip: half, statuses: []int{500, 500, 201, 201}, shadow: true},
		{name: "slow successes", trip: slowly, took: time.Minute, statuses: []int{201, 404}},
		{name: "slow failures", trip: slowly, took: time.Minute, statuses: []int{201, 500}, refused: true},
		{name: "a success by one of two rules", trip: policy.AnyOf(policy.Consecutive{}, slowly), took: time.Minute, statuses: []int{500, 201}},
		{name: "a failure by one of two rules", trip: policy.AnyOf(half, policy.Consecutive{Failures: 2}), statuses: []int{500, 500}, refused: true},
		{name: "a recovery that ends by a success", halfOpen: true, statuses: []int{201}},
		{name: "a recovery that ends by a failure", halfOpen: true, statuses: []int{500}, refused: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				status := 0
				body := &countedBody{Reader: http.NoBody}
				upstream := base(func(req *http.Request) (*http.Response, error) {
					time.Sleep(c.took)
					return &http.Response{StatusCode: status, Header: http.Header{}, Body: body, Request: req}, nil
				})
				rules := policy.Rules{Trip: policy.Consecutive{}, Probe: policy.OpenTime{}, Recover: strict{}}
				if c.trip != nil {
					rules.Trip = c.trip
				}
				opts := []transport.Option{transport.WithPolicy(rules), transport.WithRefusalOnTrip()}
				if c.shadow {
					opts = append(opts, transport.WithShadow())
				}
				rt := transport.New(upstream, opts...)
				if c.halfOpen {
					rt.SetState(here, policy.HalfOpen)
				}
				for i, want := range c.statuses {
					status = want
					resp, err := rt.RoundTrip(newRequest(t, http.MethodPost, t.Context()))
					require.NoError(t, err)
					last := i == len(c.statuses)-1
					require.Equal(t, last, circuit(t, rt, here).State == policy.Open, "after call %d", i)
					require.Equal(t, last && c.refused, transport.Refused(resp))
					if !transport.Refused(resp) {
						require.Equal(t, want, resp.StatusCode)
						require.EqualValues(t, i, body.closes.Load(), "its body is the caller's to close")
						resp.Body.Close()
					}
					require.EqualValues(t, i+1, body.closes.Load())
				}
			})
		})
	}
}
