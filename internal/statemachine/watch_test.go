package statemachine

import (
	"cmp"
	"container/heap"
	"flag"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/fusebox-go/fusebox/policy"
)

// holding trips never, so that what is refused is held, and holds as policy.Adaptive does.
var holding = policy.Rules{
	Trip: policy.Evidence{Threshold: 1e9}, Probe: policy.Squares{}, Recover: policy.Ramp{}, Hold: &policy.Hold{},
}

func validated(rules policy.Rules) policy.Rules {
	if rules.Hold != nil {
		hold := rules.Hold.Validated()
		rules.Hold = &hold
	}
	return rules
}

func held(rules policy.Rules) *Circuit {
	return New(&Config{Rules: validated(rules), Random: func() float64 { return 0 }}, nil, nil)
}

const never = 1 << 62 * time.Nanosecond

// fate is what becomes of one call.
type fate struct {
	at       time.Duration // when it came; all times are from the world's start
	held     bool
	ended    time.Duration // never if it is still out
	answered bool          // by the upstream, well
}

// world is a circuit, its callers and an upstream, in a synctest bubble. One goroutine plays them all; at each instant
// the circuit's timer goes first.
type world struct {
	*Circuit
	t      *testing.T
	start  time.Time
	todo   plan
	calls  []*fate
	takes  func(at time.Duration) time.Duration // how long the upstream takes for a call that comes then; never: no answer
	wait   time.Duration                        // how long the caller waits; 0 for ever
	says   time.Duration                        // how long the caller says that it waits, if wait is 0; 0 for no deadline
	giveUp policy.Result                        // what a call says whose caller waits no longer
}

var timedOut = policy.Result{Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindTimeout}}

func newWorld(t *testing.T, takes func(at time.Duration) time.Duration) *world {
	return &world{Circuit: held(holding), t: t, start: time.Now(), takes: takes, giveUp: timedOut}
}

// always is an upstream that takes that long.
func always(d time.Duration) func(time.Duration) time.Duration {
	return func(time.Duration) time.Duration { return d }
}

// lost is an upstream that takes d but for the time between from and to, in which no call is answered that is out
// or comes.
func lost(d, from, to time.Duration) func(time.Duration) time.Duration {
	return func(at time.Duration) time.Duration {
		if at+d >= from && at < to {
			return never
		}
		return d
	}
}

// paced is an upstream that answers one call after the other, each gap after the one before, and none sooner than least.
// It works on for callers that have given up.
func paced(gap, least time.Duration) func(time.Duration) time.Duration {
	var free time.Duration
	return func(at time.Duration) time.Duration {
		free = max(at, free) + gap
		return max(free-at, least)
	}
}

type instant struct {
	at    time.Duration
	order int
	do    func()
}

type plan []instant

func (p plan) Len() int { return len(p) }
func (p plan) Less(i, j int) bool {
	return p[i].at < p[j].at || p[i].at == p[j].at && p[i].order < p[j].order
}
func (p plan) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *plan) Push(x any)   { *p = append(*p, x.(instant)) }
func (p *plan) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

func (w *world) at(at time.Duration, do func()) {
	heap.Push(&w.todo, instant{at, len(w.calls), do})
}

func (w *world) now() time.Duration { return time.Since(w.start) }

// runTo plays what happens until then.
func (w *world) runTo(end time.Duration) {
	for len(w.todo) > 0 && w.todo[0].at <= end {
		next := heap.Pop(&w.todo).(instant)
		w.sleepTo(next.at)
		next.do()
	}
	w.sleepTo(end)
}

func (w *world) sleepTo(at time.Duration) {
	time.Sleep(at - w.now())
	synctest.Wait()
}

// offer makes calls come, a gap apart, from from to to.
func (w *world) offer(from, to, gap time.Duration) {
	for at := from; at < to; at += gap {
		w.at(at, func() { w.call() })
	}
}

// acquire asks for a permit as a transport does.
func (w *world) acquire() Permit {
	permit, ok := w.AcquireClosed()
	if ok {
		return permit
	}
	deadline := time.Time{}
	if patient := cmp.Or(w.wait, w.says); patient > 0 {
		deadline = time.Now().Add(patient)
	}
	permit, refusal := w.Acquire(time.Now(), deadline, ToProbe)
	if !permit.Granted() {
		refusal.Samples = nil
		require.Equal(w.t, Refusal{Reason: policy.RefusedHeld, State: policy.Closed, At: time.Now(), Since: w.machine.since, Due: time.Now()}, refusal)
	}
	return permit
}

// giveBack does it as a transport does.
func giveBack(p Permit, r policy.Result) {
	if r.Outcome != policy.Success || !p.Quiet() {
		p.Done(time.Now(), r)
	}
}

func (w *world) call() *fate {
	f := &fate{at: w.now(), ended: never}
	w.calls = append(w.calls, f)
	permit := w.acquire()
	if f.held = !permit.Granted(); f.held {
		f.ended = f.at
		return f
	}
	end := func(r policy.Result) {
		f.ended, f.answered = w.now(), r.Outcome == policy.Success
		giveBack(permit, r)
	}
	switch took := w.takes(f.at); {
	case w.wait > 0 && took > w.wait:
		w.at(f.at+w.wait, func() { end(w.giveUp) })
	case took != never:
		w.at(f.at+took, func() { end(policy.Result{Outcome: policy.Success}) })
	}
	return f
}

// count returns how many calls came between from and to, and how many of them were held.
func (w *world) count(from, to time.Duration) (came, held int) {
	for _, f := range w.calls {
		if f.at >= from && f.at < to {
			came++
			if f.held {
				held++
			}
		}
	}
	return came, held
}

func (w *world) requireNoneHeld(from, to time.Duration) {
	w.t.Helper()
	came, held := w.count(from, to)
	require.NotZero(w.t, came)
	require.Zero(w.t, held, "of %d that came from %v to %v", came, from, to)
}

const (
	ms  = time.Millisecond
	sec = time.Second
)

func TestHoldLeavesAHealthyUpstreamAlone(t *testing.T) {
	for _, takes := range []time.Duration{ms / 2, 10 * ms, 200 * ms, 900 * ms, 5 * sec} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, always(takes))
			w.offer(0, 30*sec, 7*ms)
			w.runTo(time.Minute)
			w.requireNoneHeld(0, time.Minute)
			require.Zero(t, w.machine.counts.Refusals)
		})
	}
}

// Calls come fast and are never answered. It takes the canary's 100 ms to look, and a second since it started to know, or half
// of the time that callers have.
func TestHoldRefusesCallsToABlackHoleAfterASecond(t *testing.T) {
	for name, giveUp := range map[string]struct {
		after time.Duration
		says  policy.Result
		told  time.Duration
		begin time.Duration
	}{
		"for ever":             {told: 2 * sec, begin: sec},
		"timeouts of 300 ms":   {300 * ms, timedOut, 0, sec},
		"timeouts of 3 s":      {3 * sec, timedOut, 0, 1500 * ms},
		"callers that give up": {400 * ms, policy.Result{Outcome: policy.Ignored, Cause: policy.Cause{Kind: policy.KindCanceled}}, 0, sec},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const from, to = 10 * sec, 25 * sec
				w := newWorld(t, lost(20*ms, from, to))
				w.wait, w.giveUp, w.says = giveUp.after, giveUp.says, giveUp.told
				w.offer(0, 40*sec, 7*ms)
				w.runTo(time.Minute)

				w.requireNoneHeld(0, from)
				first := time.Duration(0)
				for _, f := range w.calls {
					if f.held {
						first = f.at
						break
					}
				}
				require.GreaterOrEqual(t, first, from+giveUp.begin-200*ms)
				require.LessOrEqual(t, first, from+giveUp.begin+300*ms)
				// One a second, and in the place of those whose callers have given up, so that ten are out.
				let, out := 0, 0
				for _, f := range w.calls {
					if f.at < first || f.at >= to || f.held {
						continue
					}
					let, out = let+1, 0
					for _, other := range w.calls {
						if other.at >= first && other.at <= f.at && !other.held && other.ended > f.at {
							out++
						}
					}
					if giveUp.after == 0 {
						require.LessOrEqual(t, let, 1+int((f.at-first)/sec))
					} else {
						require.LessOrEqual(t, out, 10+1+int(giveUp.after/sec))
					}
				}
				require.GreaterOrEqual(t, let, int((to-first)/sec))

				recovered := time.Duration(0)
				for _, f := range w.calls {
					if f.at >= to && !f.held && f.answered {
						recovered = f.ended
						break
					}
				}
				require.LessOrEqual(t, recovered, to+1100*ms)
				w.requireNoneHeld(recovered+10*ms, time.Minute)
			})
		})
	}
}

// late is a circuit whose calls usually take 20 ms, and a canary of it that has just been found late.
func late(t *testing.T, c *Circuit) (canary Permit) {
	take := func() Permit {
		p, ok := c.AcquireClosed()
		require.True(t, ok)
		return p
	}
	giveBack(take(), succeeded)
	p := take()
	require.True(t, isCanary(p))
	time.Sleep(20 * ms)
	giveBack(p, succeeded)
	require.Equal(t, 20*ms, watchOf(c).usual)
	time.Sleep(100 * ms)
	synctest.Wait()
	canary = take()
	require.True(t, isCanary(canary))
	time.Sleep(100*ms - 1)
	synctest.Wait()
	require.Equal(t, canaryUp, watchOf(c).phase)
	giveBack(take(), succeeded)
	time.Sleep(time.Nanosecond)
	synctest.Wait()
	require.Equal(t, watching, watchOf(c).phase)
	return canary
}

func TestACanaryOfHoldIsLateHalfAsLongAgainAsUsual(t *testing.T) {
	for usual, late := range map[time.Duration]time.Duration{ms: 100 * ms, 66 * ms: 100 * ms, 80 * ms: 120 * ms} {
		synctest.Test(t, func(t *testing.T) {
			c := held(holding)
			c.AcquireClosed()
			canary, _ := c.AcquireClosed()
			time.Sleep(usual)
			giveBack(canary, succeeded)
			time.Sleep(rest)
			synctest.Wait()
			c.AcquireClosed()
			time.Sleep(late - 1)
			synctest.Wait()
			require.Equal(t, canaryUp, watchOf(c).phase, "usually %v", usual)
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			require.Equal(t, watching, watchOf(c).phase, "usually %v", usual)
		})
	}
}

// watchOf is the canary as it is now. The timer's goroutine writes it.
func watchOf(c *Circuit) canary {
	c.lock()
	defer c.mu.Unlock()
	return c.machine.canary
}

func timerOf(c *Circuit) *time.Timer {
	c.lock()
	defer c.mu.Unlock()
	return c.timer
}

var succeeded = policy.Result{Outcome: policy.Success}

// ask is Acquire now, by a caller that waits for ever.
// ask is for a caller that has two seconds.
func ask(c *Circuit) Permit {
	p, _ := c.Acquire(time.Now(), time.Now().Add(2*time.Second), ToProbe)
	return p
}

func TestHoldLeavesFewerThanTenCallsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		late(t, c)
		for range 8 { // and the canary: one short of ten
			require.True(t, ask(c).Granted())
		}
		time.Sleep(20 * sec)
		require.True(t, ask(c).Granted(), "the tenth")
		require.True(t, ask(c).Granted(), "one a second is let through")
		require.False(t, ask(c).Granted())
	})
}

func TestHoldingBeginsASecondAfterTheSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		late(t, c)
		for range 100 {
			require.True(t, ask(c).Granted())
		}
		time.Sleep(900*ms - 1)
		require.True(t, ask(c).Granted(), "too early")
		require.True(t, ask(c).Granted(), "too early")
		time.Sleep(time.Nanosecond)
		for range 3 {
			require.True(t, ask(c).Granted(), "one a second is let through")
			for range 9 {
				require.False(t, ask(c).Granted())
				time.Sleep(100 * ms)
			}
			require.False(t, ask(c).Granted())
			time.Sleep(100 * ms)
		}
	})
}

// A second is as good as none for an upstream that takes a second.
func TestSilenceForHoldIsThreeTimesTheUsualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hole = 60 * sec
		w := newWorld(t, lost(2*sec, hole, 1000*sec))
		w.says = 5 * sec
		w.offer(0, 2*hole, 50*ms)
		w.runTo(2 * hole)
		for _, f := range w.calls {
			if f.held {
				// The canary may have started up to 2.1 s before, was late after 4 s, and only then was it listened to.
				require.GreaterOrEqual(t, f.at-hole, 4*sec)
				require.LessOrEqual(t, f.at-hole, 10*sec)
				return
			}
		}
		t.Fatal("none was held")
	})
}

func TestTheFirstAnswerEndsAHold(t *testing.T) {
	for name, result := range map[string]policy.Result{
		"success": succeeded, "refused": {Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindRefused}},
		"status": {Outcome: policy.Failure, Cause: policy.Cause{Kind: policy.KindStatus, Status: 503}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := held(holding)
				late(t, c)
				old := ask(c)
				for range 20 {
					ask(c)
				}
				time.Sleep(5 * sec)
				p := ask(c)
				require.True(t, p.Granted())
				require.False(t, ask(c).Granted())
				old.Done(time.Now(), result)
				require.Equal(t, watching, watchOf(c).phase, "it was an answer, but not in time")
				for range 100 {
					require.True(t, ask(c).Granted(), "no silence")
				}
				time.Sleep(10 * ms)
				p.Done(time.Now(), result)
				require.Equal(t, resting, watchOf(c).phase, "it was in time")
				_, ok := c.AcquireClosed()
				require.True(t, ok)
			})
		})
	}
}

func TestCallersThatGiveUpDoNotEndAHold(t *testing.T) {
	for name, result := range map[string]policy.Result{
		"ignored": {Outcome: policy.Ignored, Cause: policy.Cause{Kind: policy.KindCanceled}}, "timeout": timedOut,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := held(holding)
				canary := late(t, c)
				var out []Permit
				for range 30 {
					out = append(out, ask(c))
				}
				time.Sleep(5 * sec)
				ask(c)
				require.False(t, ask(c).Granted())
				canary.Done(time.Now(), result)
				for _, p := range out[:20] {
					p.Done(time.Now(), result)
					require.False(t, ask(c).Granted())
				}
				require.Equal(t, 20*ms, watchOf(c).usual, "nothing was learnt")
				for _, p := range out[20:] {
					p.Done(time.Now(), result)
				}
				require.False(t, ask(c).Granted(), "who gave up makes no room")
				time.Sleep(sec)
				require.True(t, ask(c).Granted(), "one a second")
				require.False(t, ask(c).Granted())
			})
		})
	}
}

func TestHoldLeavesASlowUpstreamAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, always(20*sec))
		w.offer(0, 3*time.Minute, 50*ms)
		w.runTo(4 * time.Minute)
		w.requireNoneHeld(0, 20*sec) // nothing is known
		w.requireNoneHeld(20*sec, 4*time.Minute)
		require.Equal(t, 20*sec, watchOf(w.Circuit).usual)
	})
}

func TestHoldLeavesAnUpstreamAloneThatBecomesSlow(t *testing.T) {
	for _, slow := range []time.Duration{150 * ms, 400 * ms, 900 * ms} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(at time.Duration) time.Duration {
				if at < 20*sec || at > 60*sec {
					return 20 * ms
				}
				return slow
			})
			w.offer(0, 80*sec, 7*ms)
			w.runTo(60 * sec)
			require.NotEqual(t, watching, watchOf(w.Circuit).phase, "the usual time follows: it is not watched for ever, at %v", slow)
			w.runTo(90 * sec)
			w.requireNoneHeld(0, 90*sec)
		})
	}
}

// Nothing tells it from one that has fallen silent but what its callers bear.
func TestHoldOfAnUpstreamThatBecomesSlowerThanTheSilenceIsForCallersWithoutTheTime(t *testing.T) {
	for says, isHeld := range map[time.Duration]bool{0: false, 30 * sec: false, 9 * sec: false, 5 * sec: true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(at time.Duration) time.Duration {
				if at < 20*sec {
					return 20 * ms
				}
				return 4 * sec
			})
			w.says = says
			w.offer(0, 80*sec, 50*ms)
			w.runTo(90 * sec)
			_, held := w.count(20*sec, 25*sec)
			require.Equal(t, isHeld, held > 0, "they say %v", says)
			if !isHeld {
				w.requireNoneHeld(25*sec, 90*sec)
			}
		})
	}
}

// An upstream answers fifty calls a second, and a hundred come.
func TestHoldKeepsAQueueShortEnoughForItsCallers(t *testing.T) {
	for name, giveUp := range map[string]policy.Result{
		"timeouts": timedOut, "callers that give up": {Outcome: policy.Ignored, Cause: policy.Cause{Kind: policy.KindCanceled}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, paced(20*ms, 10*ms))
				w.wait, w.giveUp = 2*sec, giveUp
				w.offer(0, 10*sec, 33*ms)
				w.offer(10*sec, 60*sec, 10*ms)
				w.offer(60*sec, 80*sec, 33*ms)
				w.runTo(90 * sec)
				w.requireNoneHeld(0, 10*sec)
				answered := 0
				for _, f := range w.calls {
					require.True(t, f.held || f.answered, "let through at %v, and too late", f.at)
					if f.at >= 20*sec && f.at < 60*sec && f.answered {
						answered++
					}
				}
				require.InDelta(t, 50*40, answered, 20, "the upstream is as busy as it can be")
				w.requireNoneHeld(65*sec, 80*sec)
			})
		})
	}
}

// The queue was there before anyone looked, so that calls do not take ever longer. They take too long all the same.
func TestToHoldAQueueThatWasThereAtOnceIsNoSlowUpstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, paced(20*ms, 10*ms))
		w.wait = 2 * sec
		w.offer(0, 10*sec, 33*ms)
		for range 60 {
			w.at(10*sec, func() { w.call() })
		}
		w.offer(10*sec, 40*sec, 10*ms)
		w.runTo(60 * sec)
		answered := 0
		for _, f := range w.calls {
			if f.at < 15*sec {
				continue
			}
			require.True(t, f.held || f.answered, "let through at %v, and too late", f.at)
			if f.answered {
				answered++
			}
		}
		require.Greater(t, answered, 50*24, "the upstream is as busy as it can be")
	})
}

// Calls take 900 ms, all of a sudden. That may be a queue, and is taken for one for ten seconds.
func TestTheUsualTimeOfHoldFollowsOneFarLongerAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		canary := late(t, c)
		time.Sleep(800 * ms)
		giveBack(canary, succeeded)
		for end := time.Now().Add(9 * sec); time.Now().Before(end); {
			p := ask(c)
			time.Sleep(900 * ms)
			giveBack(p, succeeded)
			require.Equal(t, 20*ms, watchOf(c).usual)
		}
		time.Sleep(sec)
		for range 10 {
			p := ask(c)
			time.Sleep(900 * ms)
			giveBack(p, succeeded)
		}
		require.Greater(t, watchOf(c).usual, 20*ms)
	})
}

func TestHoldForAQueueLeavesACallWithoutADeadlineAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, paced(20*ms, 10*ms))
		w.offer(0, 10*sec, 33*ms)
		w.offer(10*sec, 60*sec, 10*ms)
		w.runTo(200 * sec)
		w.requireNoneHeld(0, 200*sec)
	})
}

func TestHoldHasOneCanaryAtATimeAndTenASecond(t *testing.T) {
	for _, takes := range []time.Duration{100 * time.Microsecond, 30 * ms, 90 * ms} {
		synctest.Test(t, func(t *testing.T) {
			c := held(holding)
			type flight struct {
				Permit
				end time.Time
			}
			var out []flight
			canaries, canariesOut := 0, 0
			const seconds = 20
			for range seconds * 1000 {
				for len(out) > 0 && !time.Now().Before(out[0].end) {
					if isCanary(out[0].Permit) {
						canariesOut--
					}
					giveBack(out[0].Permit, succeeded)
					out = out[1:]
				}
				p, ok := c.AcquireClosed()
				require.True(t, ok)
				if isCanary(p) {
					canaries++
					canariesOut++
					require.Equal(t, 1, canariesOut)
				}
				out = append(out, flight{p, time.Now().Add(takes)})
				time.Sleep(ms)
				synctest.Wait()
			}
			period := 100*ms + (takes + ms).Truncate(ms)
			require.InDelta(t, seconds*float64(sec)/float64(period), canaries, 3+0.02*float64(canaries))
			require.LessOrEqual(t, canaries, 10*seconds)
		})
	}
}

func TestAHealthyCallUnderHoldWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		first, _ := c.AcquireClosed()
		giveBack(first, succeeded)
		for range 5 {
			canary, _ := c.AcquireClosed()
			require.True(t, isCanary(canary))
			require.False(t, canary.Quiet(), "a canary is given back")
			require.True(t, canary.WantsHeaders())
			time.Sleep(10 * ms)
			word := c.word.Load()
			for range 1000 { // while the canary is out
				p, ok := c.AcquireClosed()
				require.True(t, ok)
				require.True(t, p.Quiet())
				require.False(t, p.WantsHeaders())
				require.Equal(t, word, c.word.Load())
			}
			canary.Done(time.Now(), succeeded)
			word = c.word.Load()
			for range 1000 { // and while there is none
				p, ok := c.AcquireClosed()
				require.True(t, ok)
				time.Sleep(99 * time.Microsecond)
				require.True(t, p.Quiet())
				require.False(t, p.WantsHeaders())
				require.Equal(t, word, c.word.Load())
			}
			require.Equal(t, resting, watchOf(c).phase)
			time.Sleep(10 * ms)
			synctest.Wait()
		}
	})
}

func TestAHostThatIsCalledOnceHasNoTimerOfHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		p, _ := c.AcquireClosed()
		require.False(t, isCanary(p))
		giveBack(p, succeeded)
		require.Nil(t, timerOf(c))
		p, _ = c.AcquireClosed()
		require.True(t, isCanary(p))
		require.NotNil(t, timerOf(c))
	})
}

func TestWithoutHoldNothingIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := holding
		rules.Hold = nil
		w := newWorld(t, lost(10*ms, 5*sec, 50*sec))
		w.Circuit = held(rules)
		w.offer(0, 60*sec, 20*ms)
		w.runTo(60 * sec)
		w.requireNoneHeld(0, 60*sec)
		require.Nil(t, timerOf(w.Circuit))
		require.Zero(t, w.word.Load()&(canaryBit|watchBit))
	})
}

// The change of state ends the watch, whatever it is doing, and the calls of before have no say in the next one.
func TestAChangeOfStateEndsTheWatchOfHold(t *testing.T) {
	for name, at := range map[string]func(*testing.T, *Circuit) Permit{
		"watching": late,
		"canary up": func(t *testing.T, c *Circuit) Permit {
			c.AcquireClosed()
			p, _ := c.AcquireClosed()
			require.Equal(t, canaryUp, watchOf(c).phase)
			return p
		},
		"resting": func(t *testing.T, c *Circuit) Permit {
			c.AcquireClosed()
			p, _ := c.AcquireClosed()
			giveBack(p, succeeded)
			require.Equal(t, resting, watchOf(c).phase)
			return ask(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rules := holding
				rules.Trip = policy.Consecutive{Failures: 2}
				c := held(rules)
				old := at(t, c)
				var more []Permit
				for range 20 {
					more = append(more, ask(c))
				}
				time.Sleep(10 * ms) // or they could not have had an answer
				more[0].Done(time.Now(), timedOut)
				tripped, _ := more[1].Done(time.Now(), timedOut)
				require.True(t, tripped)
				word := c.word.Load()
				require.Zero(t, word&(canaryBit|watchBit))
				time.Sleep(time.Hour)
				synctest.Wait()
				require.Equal(t, word, c.word.Load(), "no timer runs")
				require.Equal(t, wanting, watchOf(c).phase)

				p := ask(c)
				require.True(t, p.Probing())
				require.False(t, isCanary(p))
				p.Done(time.Now(), succeeded)
				c.Set(policy.Closed, time.Now())
				canary, ok := c.AcquireClosed()
				require.True(t, ok)
				require.True(t, isCanary(canary), "the watch begins anew")
				before := watchOf(c)
				old.Headers(time.Now(), 0)
				old.Done(time.Now(), succeeded)
				for _, p := range more[2:] {
					p.Done(time.Now(), succeeded)
				}
				require.Equal(t, before, watchOf(c), "calls of before")
				for range 100 {
					p, ok := c.AcquireClosed()
					require.True(t, ok)
					require.False(t, isCanary(p))
				}
			})
		})
	}
}

func TestTheTimerOfHoldOfAForgottenCircuitDoesNothing(t *testing.T) {
	for name, giveItBack := range map[string]bool{"canary up": false, "resting": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := held(holding)
				c.AcquireClosed()
				p, _ := c.AcquireClosed()
				require.True(t, isCanary(p))
				if giveItBack {
					giveBack(p, succeeded)
				}
				c.Forget(time.Now(), Quiet, 0)
				require.True(t, c.Forget(time.Now(), Quiet, 0))
				word, phase := c.word.Load(), watchOf(c).phase
				time.Sleep(time.Hour)
				synctest.Wait()
				require.Equal(t, word, c.word.Load())
				require.Equal(t, phase, watchOf(c).phase)
				_, gone := p.Done(time.Now(), succeeded)
				require.True(t, gone)
				require.Equal(t, word, c.word.Load())
			})
		})
	}
}

func TestHeadersOfACanaryOfHoldAreItsComingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		c.AcquireClosed()
		p, _ := c.AcquireClosed()
		time.Sleep(30 * ms)
		p.Headers(time.Now(), 0)
		require.Equal(t, resting, watchOf(c).phase)
		require.Equal(t, 30*ms, watchOf(c).usual)
		time.Sleep(100 * ms)
		synctest.Wait()
		next, _ := c.AcquireClosed()
		require.True(t, isCanary(next))
		before := watchOf(c)
		p.Done(time.Now(), succeeded) // its body took 100 ms
		require.Equal(t, before, watchOf(c))
		time.Sleep(10 * sec)
		synctest.Wait()
		require.Equal(t, watching, watchOf(c).phase)
		before = watchOf(c)
		p.Done(time.Now(), timedOut)
		require.Equal(t, before, watchOf(c))
	})
}

func TestHeadersWhileHoldWatchesCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		canary := late(t, c)
		p := ask(c)
		require.True(t, p.WantsHeaders())
		ask(c)
		ahead := func() int { w := watchOf(c); return w.vigil().ahead() }
		require.Equal(t, 2, ahead())
		time.Sleep(500 * ms)
		canary.Headers(time.Now(), 0)
		require.Equal(t, 2, ahead())
		require.True(t, watchOf(c).call.vigil.heard)
		p.Headers(time.Now(), 0)
		require.Equal(t, []int{1, 1}, []int{ahead(), watchOf(c).call.vigil.back})
		canary.Done(time.Now(), succeeded)
		p.Done(time.Now(), succeeded)
		require.Equal(t, []int{1, 1}, []int{ahead(), watchOf(c).call.vigil.back})
		require.Equal(t, watching, watchOf(c).phase, "none was in time")
		quick := ask(c)
		quick.Headers(time.Now(), 0)
		require.Equal(t, resting, watchOf(c).phase)
	})
}

func TestCallsOfBeforeTheWatchOfHoldAreNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		early, _ := c.AcquireClosed()
		other, _ := c.AcquireClosed()
		giveBack(other, succeeded)
		time.Sleep(200 * ms)
		late2, _ := c.AcquireClosed()
		require.True(t, isCanary(late2))
		time.Sleep(sec)
		synctest.Wait()
		require.Equal(t, watching, watchOf(c).phase)
		ask(c)
		ahead := func() int { w := watchOf(c); return w.vigil().ahead() }
		require.Equal(t, 1, ahead())
		early.Done(time.Now(), succeeded)
		require.Equal(t, 1, ahead())
		require.Equal(t, watching, watchOf(c).phase)
	})
}

// Whatever an upstream did, when it is as it was, calls flow within two seconds.
func TestHoldIsNeverForGood(t *testing.T) {
	checks := flag.Lookup("rapid.checks")
	before := checks.Value.String()
	defer func() { require.NoError(t, checks.Value.Set(before)) }()
	require.NoError(t, checks.Value.Set("100")) // an outage takes a while to play
	rapid.Check(t, func(r *rapid.T) {
		speeds := rapid.SliceOfN(rapid.SampledFrom([]time.Duration{ms, 20 * ms, 300 * ms, 1500 * ms, 4 * sec, never}), 1, 8).Draw(r, "speeds")
		wait := rapid.SampledFrom([]time.Duration{100 * ms, sec, 5 * sec}).Draw(r, "wait")
		gap := rapid.SampledFrom([]time.Duration{3 * ms, 20 * ms, 90 * ms}).Draw(r, "gap")
		ignored := rapid.Bool().Draw(r, "ignored")
		phase := time.Duration(rapid.Int64Range(int64(200*ms), int64(4*sec)).Draw(r, "phase"))
		end := phase * time.Duration(len(speeds))
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, func(at time.Duration) time.Duration {
				if at >= end {
					return 20 * ms
				}
				return speeds[at/phase]
			})
			w.wait = wait
			if ignored {
				w.giveUp = policy.Result{Outcome: policy.Ignored}
			}
			w.offer(0, end+5*sec, gap)
			w.runTo(end + 10*sec)
			w.requireNoneHeld(end+2*sec, end+5*sec)
			require.NotEqual(t, watching, watchOf(w.Circuit).phase)
		})
	})
}

// The pace of answers says how long a queue is, and not how long an upstream takes that answers many calls at once. This
// one has become slow, so that it is watched, but each call is answered long before its deadline.
func TestHoldRefusesNoCallForAQueueThatIsNotThere(t *testing.T) {
	slower := func(at time.Duration) time.Duration {
		if at < 10*sec {
			return 20 * ms
		}
		return 400 * ms
	}
	cases := []struct {
		name string
		wait time.Duration
		play func(w *world)
	}{
		{"as many calls as ever", sec, func(w *world) { w.offer(10*sec, 100*sec, 20*ms) }},
		{"more calls, all of a sudden", sec, func(w *world) {
			w.offer(10*sec, 60*sec, 50*ms)
			w.offer(60*sec, 100*sec, 5*ms)
		}},
		{"after a time of rest", 10 * sec, func(w *world) {
			w.offer(10*sec, 60*sec, 20*ms)
			w.offer(360*sec, 400*sec, 20*ms)
		}},
		{"beside calls that take two minutes, by callers who will wait", 2 * sec, func(w *world) {
			w.offer(10*sec, 300*sec, 20*ms)
			for at := 20 * sec; at < 300*sec; at += sec {
				w.at(at, func() {
					if p := ask(w.Circuit); p.Granted() {
						w.at(w.now()+120*sec, func() { giveBack(p, succeeded) })
					}
				})
			}
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, slower)
				w.wait = c.wait
				w.offer(0, 10*sec, 20*ms)
				c.play(w)
				w.runTo(500 * sec)
				w.requireNoneHeld(0, 500*sec)
			})
		})
	}
}

// Those calls are lost, and their callers wait for ever. They are not ahead of those that come.
func TestToHoldCallsThatAreLostAreNotAQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hole := lost(20*ms, 10*sec, 15*sec)
		w := newWorld(t, func(at time.Duration) time.Duration {
			if at < 15*sec {
				return hole(at)
			}
			return 400 * ms
		})
		w.says = 2 * sec
		w.offer(0, 100*sec, 7*ms)
		w.runTo(15 * sec)
		w.wait = sec
		w.runTo(200 * sec)
		_, held := w.count(10*sec, 15*sec)
		require.NotZero(t, held)
		w.requireNoneHeld(17500*ms, 100*sec)
	})
}

// The headers of a canary came after its circuit was forgotten. Another one has its key by now.
func TestHeadersUnderHoldDoNotBringAForgottenCircuitBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		c.AcquireClosed()
		p, _ := c.AcquireClosed()
		require.True(t, isCanary(p))
		c.Forget(time.Now(), Quiet, 0)
		require.True(t, c.Forget(time.Now(), Quiet, 0))
		p.Headers(time.Now(), 0)
		require.True(t, c.machine.gone)
		_, ok := c.AcquireClosed()
		require.False(t, ok)
	})
}

// A call read the word just before the circuit was set by hand, and wants to be a canary just after.
func TestACallOfBeforeAChangeTakesNoCanaryOfHoldFromThoseAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := held(holding)
		c.AcquireClosed()
		c.Set(policy.Closed, time.Now())
		require.Nil(t, c.machine.takeCanary(time.Now(), 0))
		c.AcquireClosed()
		p, _ := c.AcquireClosed()
		require.True(t, isCanary(p) || watchOf(c).phase == canaryUp)
	})
}

// The lease of a probe is 1 s, or four times what calls usually take, but no less than 250 ms.
func TestAProbesLeaseIsShortWhereHoldKnowsThatCallsAre(t *testing.T) {
	for usual, want := range map[time.Duration]time.Duration{
		0: sec, ms: 250 * ms, 62500 * time.Microsecond: 250 * ms, 100 * ms: 400 * ms, 250 * ms: sec, 10 * sec: sec,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := held(holding)
			if usual > 0 {
				c.AcquireClosed()
				canary, _ := c.AcquireClosed()
				time.Sleep(usual)
				giveBack(canary, succeeded)
				require.Equal(t, usual, watchOf(c).usual)
			}
			c.Set(policy.Open, time.Now())
			time.Sleep(sec)
			require.True(t, ask(c).Probing())
			require.Equal(t, want, time.Until(c.machine.leases.next), "calls usually take %v", usual)
		})
	}
}

func isCanary(p Permit) bool { return p.watched != nil && p.watched.number == 0 }
