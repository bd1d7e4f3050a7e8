package fusebox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fleet"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// Traffic that people have, and that no script of the decision table had: slow, long, mixed, on deadlines of all kinds. It is
// played in virtual time; a base that sleeps is the upstream.

// A sent is what became of one request.
type sent struct {
	at      time.Duration // from the start
	refused policy.RefusalReason
	err     error
}

// traffic is an upstream, and those who call it.
type traffic struct {
	t     *testing.T
	start time.Time
	calls sync.WaitGroup
	mu    sync.Mutex
	sent  []*sent
}

func newTraffic(t *testing.T) *traffic { return &traffic{t: t, start: time.Now()} }

func (tr *traffic) now() time.Duration { return time.Since(tr.start) }

// takes is a base that answers 200 after a while, or 503 at once if that is negative.
func (tr *traffic) takes(while func(req *http.Request, at time.Duration) time.Duration) roundTripper {
	return func(req *http.Request) (*http.Response, error) {
		d := while(req, tr.now())
		if d < 0 {
			return answer(503, "")(req)
		}
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return answer(200, "")(req)
		case <-req.Context().Done():
			return nil, context.Cause(req.Context())
		}
	}
}

// call makes a request in the background. Patience is its deadline; 0 for none.
func (tr *traffic) call(rt http.RoundTripper, method, path string, patience time.Duration) *sent {
	s := &sent{at: tr.now()}
	tr.mu.Lock()
	tr.sent = append(tr.sent, s)
	tr.mu.Unlock()
	tr.calls.Go(func() { tr.make(s, rt, method, path, patience) })
	return s
}

func (tr *traffic) make(s *sent, rt http.RoundTripper, method, path string, patience time.Duration) {
	ctx := context.Background()
	if patience > 0 {
		limited, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		ctx = limited
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://upstream.test"+path, nil)
	require.NoError(tr.t, err)
	resp, err := rt.RoundTrip(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	s.err, s.refused = err, transport.RefusedBecause(resp)
}

// offer makes requests, a gap apart, until then.
func (tr *traffic) offer(rt http.RoundTripper, until, gap, patience time.Duration) {
	for tr.now() < until {
		tr.call(rt, http.MethodGet, "/", patience)
		time.Sleep(gap)
	}
}

// refused counts the requests that were refused of those that came from then to then.
func (tr *traffic) refused(from, to time.Duration) (refused, came int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	for _, s := range tr.sent {
		if s.at >= from && s.at < to {
			came++
			if s.refused != policy.NotRefused {
				refused++
			}
		}
	}
	return refused, came
}

// lastRefused returns when the last request came that was refused, and the time before it all if none was.
func (tr *traffic) lastRefused() time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	last := time.Duration(-1)
	for _, s := range tr.sent {
		if s.refused != policy.NotRefused {
			last = max(last, s.at)
		}
	}
	return last
}

// outageOf is an upstream that is down from then to then, by a 503 at once or by silence, and otherwise takes its time.
func (tr *traffic) outageOf(from, to, takes time.Duration, silent bool) roundTripper {
	return tr.takes(func(_ *http.Request, at time.Duration) time.Duration {
		switch {
		case at < from || at >= to:
			return takes
		case silent:
			return time.Hour
		}
		return -1
	})
}

var leasedPolicies = map[string]policy.Policy{
	"adaptive": policy.Adaptive{},
	"classic":  policy.Classic{OpenFor: 5 * time.Second},
	"trial":    policy.Classic{OpenFor: 5 * time.Second, Probes: 3},
	"ramp by the clock": policy.Rules{
		Trip: policy.FailureShare{}, Probe: policy.OpenTime{For: 5 * time.Second}, Recover: policy.Ramp{},
	},
}

// However long an upstream takes for its answers, and whether that was known before the outage or not, full traffic is back after
// three answers' time and the gap between two probes.
func TestAnswersSlowerThanALeaseDoNotKeepACircuitOpen(t *testing.T) {
	times := []time.Duration{
		10 * time.Millisecond, 900 * time.Millisecond, 1100 * time.Millisecond, 3 * time.Second, 9 * time.Second, 12 * time.Second,
		70 * time.Second, 5 * time.Minute,
	}
	try := testkit.OneIn(16)
	for name, p := range leasedPolicies {
		for _, gap := range []time.Duration{time.Second, 50 * time.Millisecond} {
			for _, takes := range times {
				for _, learnt := range []bool{true, false} {
					for _, silent := range []bool{false, true} {
						if takes > time.Minute && gap < time.Second {
							continue // thousands of calls would be out at a time
						}
						if !try() {
							continue
						}
						t.Run(fmt.Sprint(name, " every ", gap, ", answers of ", takes, ", known ", learnt, ", silent ", silent), func(t *testing.T) {
							synctest.Test(t, func(t *testing.T) {
								tr := newTraffic(t)
								from := time.Duration(0)
								if learnt {
									from = 5*takes + time.Second
								}
								outage := max(time.Minute, 2*takes) // calls that were out when it began are answered in it
								end := from + outage
								rt := transport.New(tr.outageOf(from, end, takes, silent), transport.WithPolicy(p))
								tr.offer(rt, end+8*takes+2*time.Minute, gap, takes+takes/2+time.Second)
								tr.calls.Wait()

								between := 5 * time.Second
								if name == "adaptive" {
									asked := float64(outage / gap)
									between = time.Duration(2*math.Sqrt(asked)+3) * gap
								}
								if name != "adaptive" && silent { // the last probe of the outage keeps the next from going
									between += min(4*takes, time.Minute)
								}
								require.Less(t, tr.lastRefused()-end, 3*takes+between+5*time.Second)
								if !silent && takes < 10*time.Second {
									refused, _ := tr.refused(from, end)
									require.NotZero(t, refused, "or there was nothing to recover from")
								}
							})
						})
					}
				}
			}
		}
	}
}

// Members of a fleet share claims, limits and recoveries.
func TestAnswersSlowerThanALeaseDoNotKeepAFleetOpen(t *testing.T) {
	for _, takes := range []time.Duration{50 * time.Millisecond, 3 * time.Second, 12 * time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr, bus := newTraffic(t), &fleet.Memory{Delay: 2 * time.Millisecond}
				from := 5*takes + time.Second
				end := from + time.Minute
				base := tr.outageOf(from, end, takes, false)
				var members []*transport.Transport
				for range 5 {
					members = append(members, transport.New(base, transport.WithFleet(bus)))
				}
				for n := 0; tr.now() < end+10*takes+time.Minute; n++ {
					tr.call(members[n%len(members)], http.MethodGet, "/", 3*takes+time.Second)
					time.Sleep(200 * time.Millisecond)
				}
				tr.calls.Wait()
				for _, m := range members {
					m.LeaveFleet()
				}
				refused, _ := tr.refused(from, end)
				require.NotZero(t, refused)
				// The members take turns in the first steps of the ramp.
				require.Less(t, tr.lastRefused()-end, 6*takes+15*time.Second)
			})
		})
	}
}

// Workers who poll a queue for twenty seconds at a time, and others who send to it, as to one URL, and an outage of three
// seconds. When the upstream is well again, polls take the places of the recovery, and those who send need not wait for them.
func TestLongPollsKeepNobodyOutOfARecovery(t *testing.T) {
	for _, workers := range []int{2, 6, 12} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(workers, " workers, seed ", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const from, well, end = 5 * time.Second, 8 * time.Second, 2 * time.Minute
					tr, coin := newTraffic(t), rand.New(rand.NewPCG(seed, 1))
					rt := transport.New(tr.takes(func(req *http.Request, at time.Duration) time.Duration {
						switch {
						case at >= from && at < well:
							return -1
						case req.Method == http.MethodGet:
							return 20 * time.Second
						}
						return 10 * time.Millisecond
					}))
					for range workers {
						jitter := time.Duration(coin.Int64N(int64(time.Second)))
						tr.calls.Go(func() {
							time.Sleep(from + jitter)
							for tr.now() < end {
								s := &sent{at: tr.now()}
								if tr.make(s, rt, http.MethodGet, "/", 30*time.Second); tr.now()-s.at < time.Second { // in vain
									time.Sleep(500*time.Millisecond + jitter)
								}
							}
						})
					}
					var sends []*sent
					for tr.now() < end {
						sends = append(sends, tr.call(rt, http.MethodPost, "/", 2*time.Second))
						time.Sleep(400*time.Millisecond + time.Duration(coin.Int64N(int64(200*time.Millisecond))))
					}
					tr.calls.Wait()
					last := time.Duration(0)
					for _, s := range sends {
						if s.refused != policy.NotRefused {
							last = s.at
						}
					}
					require.Greater(t, last, from, "or there was nothing to recover from")
					require.Less(t, last-well, 30*time.Second, "those who send")
				})
			})
		}
	}
}

// Every probe is answered, by headers that come after the lease of a probe, and a stream that never ends.
func TestHeadersThatComeAfterTheLeaseAreAnAnswer(t *testing.T) {
	for name, p := range leasedPolicies {
		for _, after := range []time.Duration{500 * time.Millisecond, 2 * time.Second, 15 * time.Second, 70 * time.Second} {
			t.Run(fmt.Sprint(name, ", ", after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr := newTraffic(t)
					end := 30 * time.Second
					quit := make(chan struct{})
					rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
						if tr.now() < end {
							return answer(503, "")(req)
						}
						time.Sleep(after)
						return &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(neverEnding{quit})}, nil
					}), transport.WithPolicy(p))
					tr.offer(rt, end+10*after+3*time.Minute, time.Second, 0)
					time.Sleep(after)
					refused, _ := tr.refused(0, end)
					require.NotZero(t, refused)
					require.Less(t, tr.lastRefused()-end, 3*after+20*time.Second)
					require.Equal(t, policy.Closed, stateOf(t, rt, here))
					close(quit)
					tr.calls.Wait()
				})
			})
		}
	}
}

// A circuit that opens because calls are slow is not closed by slow ones.
func TestWhatTripsBySlownessIsNotClosedBySlowSuccesses(t *testing.T) {
	slow := policy.SlowShare{Slower: 2 * time.Second, Percent: 80}
	try := testkit.OneIn(4)
	for name, rules := range map[string]policy.Rules{
		"trial":       {Trip: policy.AnyOf(policy.FailureShare{Percent: 50, Window: 10 * time.Second, Minimum: 20}, slow), Recover: policy.Trial{Probes: 3}},
		"one probe":   {Trip: slow, Recover: policy.Trial{}},
		"ramp":        {Trip: policy.AnyOf(policy.Evidence{}, slow), Recover: policy.Ramp{}},
		"ramp, alone": {Trip: slow, Recover: policy.Ramp{}},
	} {
		if !try() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rules.Probe = policy.OpenTime{For: 5 * time.Second, Factor: 2, Max: time.Minute}
				tr := newTraffic(t)
				var closed atomic.Int32
				rt := transport.New(tr.takes(func(_ *http.Request, at time.Duration) time.Duration {
					if at < 10*time.Minute {
						return 3 * time.Second
					}
					return 100 * time.Millisecond
				}), transport.WithPolicy(rules), transport.WithObserver(transport.Observer{OnStateChange: func(c transport.StateChange) {
					if c.To == policy.Closed {
						closed.Add(1)
					}
				}}))
				tr.offer(rt, 10*time.Minute, 100*time.Millisecond, 0)
				require.Zero(t, closed.Load(), "it is slow all the time")
				c, _ := rt.Circuit(here)
				require.Equal(t, policy.Cause{Kind: policy.KindSlow, Status: 200}, c.Cause)
				tr.offer(rt, 13*time.Minute, 100*time.Millisecond, 0)
				tr.calls.Wait()
				require.EqualValues(t, 1, closed.Load(), "and now it is not")
			})
		})
	}
}

// Calls that take long and are answered well hold nobody, whatever goes beside or went before.
func TestSlowCallsThatSucceedHoldNobody(t *testing.T) {
	const quick = 80 * time.Millisecond
	byPath := func(req *http.Request, _ time.Duration) time.Duration {
		d, err := time.ParseDuration(strings.TrimPrefix(req.URL.Path, "/"))
		if err != nil {
			return quick
		}
		return d
	}
	many := func(tr *traffic, rt http.RoundTripper, n int, gap time.Duration, path string, patience time.Duration) {
		for range n {
			tr.call(rt, http.MethodGet, path, patience)
			time.Sleep(gap)
		}
	}
	for name, play := range map[string]func(*traffic, http.RoundTripper){
		"quick ones, then 12 s at 20 a second": func(tr *traffic, rt http.RoundTripper) { many(tr, rt, 200, 50*time.Millisecond, "/12s", 0) },
		"then 6 s at 10 a second":              func(tr *traffic, rt http.RoundTripper) { many(tr, rt, 100, 100*time.Millisecond, "/6s", 0) },
		"the same, for callers that have 30 s": func(tr *traffic, rt http.RoundTripper) {
			many(tr, rt, 200, 50*time.Millisecond, "/12s", 30*time.Second)
			many(tr, rt, 1000, 50*time.Millisecond, "/12s", 30*time.Second)
		},
		"then 40 s at 5 a second, and quick again": func(tr *traffic, rt http.RoundTripper) {
			many(tr, rt, 300, 200*time.Millisecond, "/40s", 0)
			many(tr, rt, 300, 50*time.Millisecond, "/", 2*time.Second)
		},
		"quiet streams before their first byte": func(tr *traffic, rt http.RoundTripper) {
			many(tr, rt, 40, 10*time.Millisecond, "/50s", 0)
			time.Sleep(3 * time.Second)
			many(tr, rt, 20, 20*time.Millisecond, "/", 2*time.Second)
			time.Sleep(3 * time.Second)
			many(tr, rt, 20, time.Millisecond, "/", 2*time.Second)
		},
		"long polls of 5 s": func(tr *traffic, rt http.RoundTripper) {
			for range 6 {
				many(tr, rt, 30, time.Millisecond, "/5s", 0)
				time.Sleep(2 * time.Second)
				many(tr, rt, 7, 50*time.Millisecond, "/", 2*time.Second)
				time.Sleep(3 * time.Second)
			}
		},
		"long polls whose callers have little more, once they are known": func(tr *traffic, rt http.RoundTripper) {
			many(tr, rt, 1, 21*time.Second, "/20s", 25*time.Second)
			for range 6 {
				many(tr, rt, 30, time.Millisecond, "/20s", 25*time.Second)
				time.Sleep(16 * time.Second)
				many(tr, rt, 7, 50*time.Millisecond, "/", 2*time.Second)
				time.Sleep(5 * time.Second)
			}
		},
		"a cold start": func(tr *traffic, rt http.RoundTripper) {
			time.Sleep(5 * time.Minute)
			many(tr, rt, 50, 20*time.Millisecond, "/8s", 20*time.Second)
			many(tr, rt, 50, 20*time.Millisecond, "/", 20*time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				rt := transport.New(tr.takes(byPath))
				many(tr, rt, 200, 50*time.Millisecond, "/", 2*time.Second)
				play(tr, rt)
				tr.calls.Wait()
				refused, came := tr.refused(0, time.Hour)
				require.Zero(t, refused, "of %d", came)
				for _, s := range tr.sent {
					require.NoError(t, s.err)
				}
			})
		})
	}
}

// What Hold is for: nobody waits for a timeout once it is clear that nothing comes. It is clear after a second, or half of the
// time that callers have; and after a minute if they say nothing.
func TestHoldRefusesCallersOfAnUpstreamThatFellSilent(t *testing.T) {
	const from = 10 * time.Second
	try := testkit.OneIn(4)
	for patience, after := range map[time.Duration]time.Duration{
		2 * time.Second: time.Second, 4 * time.Second: 2 * time.Second, 10 * time.Second: 5 * time.Second, 0: time.Minute,
	} {
		if !try() {
			continue
		}
		t.Run(patience.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				rt := transport.New(tr.outageOf(from, time.Hour, 30*time.Millisecond, true))
				tr.offer(rt, 100*time.Second, 20*time.Millisecond, patience)
				time.Sleep(2 * time.Hour)
				tr.calls.Wait()
				refused, _ := tr.refused(0, from+after-100*time.Millisecond)
				require.Zero(t, refused)
				refused, came := tr.refused(from+after+200*time.Millisecond, 100*time.Second)
				require.Greater(t, refused, came*95/100, "of %d", came)
			})
		})
	}
}

// warmUp makes good calls until it is known how long they take.
func (tr *traffic) warmUp(rt http.RoundTripper) {
	tr.offer(rt, tr.now()+5*time.Second, 40*time.Millisecond, 10*time.Second)
}

func TestCallersWithoutTheTimeForAnAnswerSayLittleOfTheUpstream(t *testing.T) {
	const takes = 50 * time.Millisecond
	try := testkit.OneIn(4)
	for name, p := range leasedPolicies {
		for _, patience := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
			if !try() {
				continue
			}
			t.Run(fmt.Sprint(name, ", ", patience), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					tr := newTraffic(t)
					const from = 100 * time.Second
					rt := transport.New(tr.outageOf(from, time.Hour, takes, true), transport.WithPolicy(p))
					tr.warmUp(rt)
					for range 60 {
						tr.call(rt, http.MethodGet, "/", patience)
						time.Sleep(100 * time.Millisecond)
					}
					refused, _ := tr.refused(0, from)
					require.Zero(t, refused, "they would all be too early, whoever the upstream is")
					// Beside callers that have the time, they can go on like that for ever.
					for tr.now() < from-time.Second {
						for range 10 {
							tr.call(rt, http.MethodGet, "/", patience)
						}
						tr.call(rt, http.MethodGet, "/", 10*time.Second)
						time.Sleep(200 * time.Millisecond)
					}
					if name != "ramp by the clock" { // which is for a share of failures, of whoever
						refused, _ = tr.refused(0, from)
						require.Zero(t, refused)
					}
					time.Sleep(from - tr.now())
					tr.offer(rt, from+5*time.Minute, 100*time.Millisecond, patience)
					tr.calls.Wait()
					refused, came := tr.refused(from+2*time.Minute, time.Hour)
					require.Greater(t, refused, came*9/10, "of %d: the same callers notice a black hole, if later", came)
				})
			})
		}
	}
}

// A probe by such a caller says as little.
func TestARecoveryDoesNotFailByCallersWithoutTheTime(t *testing.T) {
	for name, p := range leasedPolicies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				const from, end = 10 * time.Second, 40 * time.Second
				rt := transport.New(tr.outageOf(from, end, 50*time.Millisecond, false), transport.WithPolicy(p))
				for n := 0; tr.now() < end+2*time.Minute; n++ {
					patience := 5 * time.Millisecond
					if n%4 == 0 || tr.now() < end && tr.now() > from-time.Second {
						patience = time.Second
					}
					tr.call(rt, http.MethodGet, "/", patience)
					time.Sleep(50 * time.Millisecond)
				}
				tr.calls.Wait()
				require.Less(t, tr.lastRefused()-end, 9*time.Second)
			})
		})
	}
}

func TestCallersThatGiveUpAfterManyTimesTheUsualTimeAreEvidenceIfSmall(t *testing.T) {
	try := testkit.OneIn(4)
	for name, p := range leasedPolicies {
		for _, gap := range []time.Duration{time.Second, 50 * time.Millisecond} {
			for _, bears := range []time.Duration{3 * time.Second, 10 * time.Second} {
				if !try() {
					continue
				}
				t.Run(fmt.Sprint(name, ", one in ", gap, " for ", bears), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						tr := newTraffic(t)
						const from = 10 * time.Second
						rt := transport.New(tr.outageOf(from, time.Hour, 30*time.Millisecond, true), transport.WithPolicy(p))
						hangUp := func() {
							ctx, cancel := context.WithCancel(context.Background())
							time.AfterFunc(bears, cancel)
							s := &sent{at: tr.now()}
							tr.mu.Lock()
							tr.sent = append(tr.sent, s)
							tr.mu.Unlock()
							tr.calls.Go(func() {
								req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test/", nil)
								require.NoError(t, err)
								if resp, err := rt.RoundTrip(req); err == nil {
									resp.Body.Close()
									tr.mu.Lock()
									defer tr.mu.Unlock()
									s.refused = transport.RefusedBecause(resp)
								}
							})
						}
						for tr.now() < from+300*time.Second {
							hangUp()
							time.Sleep(gap)
						}
						tr.calls.Wait()
						refused, _ := tr.refused(0, from)
						require.Zero(t, refused)
						refused, came := tr.refused(from, time.Hour)
						require.Greater(t, refused, came/3, "of %d", came) // a trial of three has nine seconds in fourteen
					})
				})
			}
		}
	}
}

// Callers that go away soon, and those of calls that are known to take long, say nothing.
func TestCallersThatGiveUpSoonerAreNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTraffic(t)
		rt := transport.New(tr.takes(func(req *http.Request, _ time.Duration) time.Duration {
			if req.URL.Path == "/export" {
				return 20 * time.Second
			}
			return 30 * time.Millisecond
		}))
		tr.warmUp(rt)
		tr.call(rt, http.MethodGet, "/export", 0)
		time.Sleep(time.Minute)
		for n := range 200 {
			ctx, cancel := context.WithCancel(context.Background())
			path, bears := "/export", 12*time.Second
			if n%2 == 0 {
				path, bears = "/", 10*time.Millisecond
			}
			time.AfterFunc(bears, cancel)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test"+path, nil)
			require.NoError(t, err)
			tr.calls.Go(func() {
				_, err := rt.RoundTrip(req)
				require.ErrorIs(t, err, context.Canceled)
			})
			time.Sleep(500 * time.Millisecond)
		}
		tr.calls.Wait()
		require.Equal(t, policy.Closed, stateOf(t, rt, here))
	})
}

// Event streams by the hundred live on while few new ones come, of which one in a hundred fails.
func TestGoodHeadersOfAStreamCountWhenTheyCome(t *testing.T) {
	for name, p := range map[string]policy.Policy{
		"adaptive": policy.Adaptive{}, "classic": policy.Classic{},
		"share": policy.Rules{Trip: policy.FailureShare{Window: time.Minute, Minimum: 5}, Probe: policy.OpenTime{}, Recover: policy.Trial{}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				quit := make(chan struct{})
				var calls atomic.Int32
				rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
					if n := calls.Add(1); n > 512 && n%100 == 0 {
						return nil, errors.New("connection reset")
					}
					time.Sleep(10 * time.Millisecond)
					return &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(neverEnding{quit})}, nil
				}), transport.WithPolicy(p))
				for range 512 {
					tr.call(rt, http.MethodGet, "/", 0)
					time.Sleep(5 * time.Millisecond)
				}
				for range 1500 {
					tr.call(rt, http.MethodGet, "/", 0)
					time.Sleep(100 * time.Millisecond)
				}
				require.Equal(t, policy.Closed, stateOf(t, rt, here))
				refused, _ := tr.refused(0, time.Hour)
				require.Zero(t, refused)
				close(quit)
				tr.calls.Wait()
			})
		})
	}
}

// A body that breaks is one failure, however late, and however good its headers were.
func TestABodyThatBreaksCountsThenAsOneFailure(t *testing.T) {
	for _, lasts := range []time.Duration{10 * time.Millisecond, 900 * time.Millisecond, 5 * time.Second} {
		t.Run(lasts.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
					released := make(chan struct{})
					time.AfterFunc(lasts, func() { close(released) })
					return &http.Response{StatusCode: 200, ContentLength: -1, Body: io.NopCloser(neverEnding{released})}, nil
				}), transport.WithPolicy(policy.Classic{Failures: 3}))
				for range 2 {
					tr.call(rt, http.MethodGet, "/", 0)
					tr.calls.Wait()
				}
				c, _ := rt.Circuit(here)
				if lasts < time.Second {
					require.Equal(t, 2, c.Failures)
				} else {
					require.Equal(t, 1, c.Failures, "the headers of the second have counted in between")
				}
				require.EqualValues(t, 2, c.FailedCalls)
			})
		})
	}
}

// dripping gives a byte in a while, until it stalls.
type dripping struct {
	gap  time.Duration
	left int
	quit chan struct{}
}

func (d *dripping) Read(p []byte) (int, error) {
	if d.left == 0 {
		<-d.quit
		return 0, http.ErrBodyReadAfterClose
	}
	d.left--
	time.Sleep(d.gap)
	return copy(p, "x"), nil
}

func (d *dripping) Close() error { close(d.quit); return nil }

// Whoever closes a body while nothing comes does not say that it was good.
func TestABodyThatIsClosedWhileItStallsSaysNothing(t *testing.T) {
	for name, c := range map[string]struct {
		drips      int
		stalls     time.Duration
		writeTo    bool
		wantIgnore bool
	}{
		"at once":                        {0, 5 * time.Second, false, true},
		"after bytes that came for long": {10, 5 * time.Second, false, true},
		"while bytes come in":            {10, 500 * time.Millisecond, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				var fail bool
				var last transport.CallEnd
				rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
					if fail {
						return answer(503, "")(req)
					}
					body := &dripping{300 * time.Millisecond, c.drips, make(chan struct{})}
					return &http.Response{StatusCode: 200, ContentLength: -1, Body: body}, nil
				}), transport.WithObserver(transport.Observer{OnOutcome: func(end transport.CallEnd) { last = end }, Untimed: true}))
				fail = true
				for range 3 {
					tr.call(rt, http.MethodGet, "/", 0)
					tr.calls.Wait()
				}
				fail = false
				req, err := http.NewRequest(http.MethodGet, "http://upstream.test/", nil)
				require.NoError(t, err)
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				// All that the headers say is said by now, and nobody has read a byte of the body: the rest is about that.
				done := make(chan struct{})
				go func() {
					defer close(done)
					io.Copy(io.Discard, resp.Body)
				}()
				time.Sleep(time.Duration(c.drips)*300*time.Millisecond + c.stalls)
				require.NoError(t, resp.Body.Close())
				<-done
				want := policy.Success
				if c.wantIgnore {
					want = policy.Ignored
				}
				require.Equal(t, want, last.Outcome)
			})
		})
	}
}

// Reading is no request: it settles nothing, opens nothing, and calls no observer.
func TestALookChangesNothingAndTellsNobody(t *testing.T) {
	for name, p := range map[string]policy.Policy{
		"trial": policy.Rules{Trip: policy.Consecutive{}, Probe: policy.OpenTime{For: time.Second}, Recover: policy.Trial{Lease: 5 * time.Second}},
		"ramp":  policy.Adaptive{},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				told := 0
				rt := transport.New(tr.outageOf(0, time.Hour, time.Second, true), transport.WithPolicy(p),
					transport.WithObserver(transport.Observer{OnStateChange: func(transport.StateChange) { told++ }}))
				rt.SetState(here, policy.HalfOpen)
				tr.call(rt, http.MethodGet, "/", 2*time.Minute)
				tr.call(rt, http.MethodGet, "/", 2*time.Minute)
				time.Sleep(time.Minute)
				told = 0
				before, _ := rt.Circuit(here)
				require.Positive(t, before.Expired, "their leases have ended")
				require.Zero(t, before.InFlight)
				for range 3 {
					require.Equal(t, []transport.Snapshot{before}, rt.Circuits())
				}
				require.NoError(t, rt.SaveTo(io.Discard))
				require.Zero(t, told)
				require.Equal(t, policy.HalfOpen, stateOf(t, rt, here))
				time.Sleep(2 * time.Minute)
				for range 5 {
					tr.call(rt, http.MethodGet, "/", time.Second)
					tr.calls.Wait()
				}
				require.Positive(t, told)
				require.Equal(t, policy.Open, stateOf(t, rt, here), "requests settle it")
			})
		})
	}
}

// Answers of a second, and callers that have little more: nobody waits in vain, so it is no queue, whatever went before.
func TestToHoldSteadyAnswersAreNoQueueWhileNobodyWaitsInVain(t *testing.T) {
	try := testkit.OneIn(3)
	for _, c := range []struct{ takes, patience, gap time.Duration }{
		{time.Second, 1100 * time.Millisecond, 50 * time.Millisecond}, {2 * time.Second, 3 * time.Second, 10 * time.Millisecond},
		{500 * time.Millisecond, 2 * time.Second, 5 * time.Millisecond},
	} {
		if !try() {
			continue
		}
		t.Run(c.takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				rt := transport.New(tr.takes(func(_ *http.Request, at time.Duration) time.Duration {
					if at < time.Second {
						return 80 * time.Millisecond
					}
					return c.takes
				}))
				tr.offer(rt, 2*time.Minute, c.gap, c.patience)
				tr.calls.Wait()
				refused, came := tr.refused(15*time.Second, time.Hour)
				require.Zero(t, refused, "of %d, once it has been so for ten seconds", came)
			})
		})
	}
}

// Streams that began before it and end well say nothing of an upstream that new calls do not reach.
func TestStreamsThatEndWellHideNoOutage(t *testing.T) {
	for name, p := range map[string]policy.Policy{"adaptive": policy.Adaptive{}, "classic": policy.Classic{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTraffic(t)
				rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
					if tr.now() >= 6*time.Minute {
						return nil, errors.New("new connections fail")
					}
					body := &dripping{2 * time.Second, 150, make(chan struct{})}
					return &http.Response{StatusCode: 200, ContentLength: -1, Body: struct {
						io.Reader
						io.Closer
					}{io.LimitReader(body, 150), body}}, nil
				}), transport.WithPolicy(p))
				tr.offer(rt, 11*time.Minute, time.Second, 0)
				tr.calls.Wait()
				refused, came := tr.refused(6*time.Minute, 11*time.Minute)
				require.Greater(t, refused, came*8/10, "of %d", came)
			})
		})
	}
}

// Long polls that their callers give up are of another kind than the quick calls that are answered meanwhile.
func TestPollsThatAreGivenUpTripNothingThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTraffic(t)
		rt := transport.New(tr.takes(func(req *http.Request, _ time.Duration) time.Duration {
			if req.URL.Path == "/poll" {
				return time.Hour
			}
			return 80 * time.Millisecond
		}))
		tr.warmUp(rt)
		for n := range 5 * 300 {
			if n%50 == 0 {
				tr.call(rt, http.MethodGet, "/", 5*time.Second)
			}
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(20*time.Second, cancel)
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://upstream.test/poll", nil)
			require.NoError(t, err)
			tr.calls.Go(func() {
				_, err := rt.RoundTrip(req)
				require.ErrorIs(t, err, context.Canceled)
			})
			time.Sleep(200 * time.Millisecond)
		}
		refused, came := tr.refused(0, time.Hour)
		require.Zero(t, refused, "of %d", came)
		tr.calls.Wait()
	})
}
