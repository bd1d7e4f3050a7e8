package transport_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// halfFull is a base that turns every other call away, after 10 ms.
func halfFull(status ...int) http.RoundTripper {
	n := 0
	return base(func(req *http.Request) (*http.Response, error) {
		time.Sleep(10 * time.Millisecond)
		if n++; n%2 == 0 {
			if len(status) == 0 {
				status = []int{http.StatusServiceUnavailable}
			}
			return answer(status[0], "too much")(req)
		}
		return answer(200, "hello")(req)
	})
}

// throttles makes calls one after the other until one is refused, of 100 at most.
func throttles(t *testing.T, rt http.RoundTripper) bool {
	for range 100 {
		if because(t, rt) == policy.RefusedThrottled {
			return true
		}
	}
	return false
}

func TestAnUpstreamThatGetsTooMuchIsThrottled(t *testing.T) {
	for _, status := range []int{503, 429} {
		synctest.Test(t, func(t *testing.T) {
			rt := transport.New(halfFull(status))
			require.True(t, throttles(t, rt))
			c := circuit(t, rt, here)
			require.Equal(t, policy.Closed, c.State)
			require.NotZero(t, c.Throttle)
			require.EqualValues(t, 1, c.Refusals)
			require.Equal(t, status == 503, c.FailedCalls > 0, "a 429 is no failure")

			time.Sleep(31 * time.Second)
			require.Equal(t, policy.NotRefused, because(t, rt))
			require.Zero(t, circuit(t, rt, here).Throttle)
		})
	}
	for _, status := range []int{500, 502, 504, 404} {
		synctest.Test(t, func(t *testing.T) {
			require.False(t, throttles(t, transport.New(halfFull(status))), "%d is no such word", status)
		})
	}
}

func TestWhatAnInnerTransportRefusesThrottlesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, status := range []int{429, 503} {
			inner := transport.New(answer(200, ""), transport.WithRefusal(transport.Response(status, nil, "")))
			inner.SetState(here, policy.Open)
			n := 0
			outer := transport.New(base(func(req *http.Request) (*http.Response, error) {
				time.Sleep(10 * time.Millisecond)
				if n++; n%2 == 0 {
					return inner.RoundTrip(req)
				}
				return answer(200, "")(req)
			}))
			require.False(t, throttles(t, outer))
		}
	})
}

func TestInShadowAThrottleRefusesNothingAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(halfFull(), transport.WithShadow())
		require.False(t, throttles(t, rt))
		shadow := circuit(t, rt, here).Shadow
		require.NotZero(t, shadow.Refused)
		require.NotZero(t, shadow.Succeeded, "what it would have lost")
		require.NotZero(t, shadow.Failed, "and spared")
	})
}

func TestAThrottleAndALimitAreBothKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(halfFull(), transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 1}}))
		require.True(t, throttles(t, rt), "which gives its place under the limit back")
		time.Sleep(time.Minute)
		for range 3 {
			require.Equal(t, policy.NotRefused, because(t, rt))
		}
	})
}

func TestSettingAPolicyWithoutAThrottleEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(halfFull())
		require.True(t, throttles(t, rt))
		rt.SetPolicy(policy.Adaptive{Throttle: policy.Throttle{Off: true}})
		require.False(t, throttles(t, rt))
		rt.SetPolicy(policy.Adaptive{})
		require.True(t, throttles(t, rt))
		rt.Force("*", policy.Closed)
		require.False(t, throttles(t, rt))
	})
}

func TestAMemberOfAFleetThrottlesForItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &fleet.Memory{}
		one, other := transport.New(halfFull(), transport.WithFleet(bus)), transport.New(answer(200, ""), transport.WithFleet(bus))
		require.True(t, throttles(t, one))
		require.False(t, throttles(t, other))
		require.Zero(t, circuit(t, other, here).Throttle)
	})
}

// What refusals say of a throttle is made once a second at most, for all of them.
func TestARefusalOfAThrottleTakesNoMoreMemoryThanAnother(t *testing.T) {
	for most, opts := range map[float64][]transport.Option{4: nil, 1: {transport.WithRefusalError()}} {
		synctest.Test(t, func(t *testing.T) {
			rt := transport.New(halfFull(), opts...)
			for range 30 {
				call(t, rt)
			}
			req, refused := newRequest(t, http.MethodGet, t.Context()), 0
			require.LessOrEqual(t, testing.AllocsPerRun(50, func() {
				if resp, err := rt.RoundTrip(req); err != nil || transport.Refused(resp) {
					refused++
				}
			}), most)
			require.Equal(t, 51, refused)
		})
	}
}
