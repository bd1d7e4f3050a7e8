package statemachine

import (
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// listening is an Observer of functions.
type listening struct {
	changed func(Change)
	refused func(Refusal)
}

func (l *listening) Changed(c Change) {
	if l.changed != nil {
		l.changed(c)
	}
}

func (*listening) WantsRefusals() bool { return true }
func (*listening) InShadow() bool      { return false }
func (*listening) Throttled(Throttle)  {}
func (l *listening) Refused(r Refusal) {
	if l.refused != nil {
		l.refused(r)
	}
}

func observed(rules policy.Rules, o *listening) *Circuit {
	return New(&Config{Rules: rules, Random: func() float64 { return 0 }}, o, nil)
}

// inTime fails the test if do does not return: a deadlock would hold the whole run.
func inTime(t *testing.T, do func()) {
	t.Helper()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		do()
	}()
	select {
	case <-returned:
	case <-time.After(20 * time.Second):
		buffer := make([]byte, 1<<16)
		t.Fatalf("it does not return:\n%s", buffer[:runtime.Stack(buffer, true)])
	}
}

func TestAnObserverCanCallAnything(t *testing.T) {
	var c *Circuit
	var seen []string
	o := &listening{}
	o.changed = func(change Change) {
		seen = append(seen, fmt.Sprintf("%v→%v", change.From, change.To))
		lookAt(c, change.At)
		if p, _ := c.Acquire(change.At, time.Time{}, ToProbe); p.Granted() {
			p.Headers(change.At, 0)
			p.Done(change.At, policy.Result{Outcome: policy.Ignored})
		}
		c.Forget(change.At, Quiet, 0)
		if len(seen) < 4 {
			before := len(seen)
			c.Set((change.To+1)%3, change.At)
			require.Len(t, seen, before, "told while it is told")
		}
	}
	o.refused = func(r Refusal) { seen = append(seen, "refused, "+r.State.String()) }
	c = observed(classic, o)
	inTime(t, func() { c.Set(policy.Open, epoch) })
	require.Equal(t, []string{"closed→open", "refused, open", "open→half-open", "half-open→closed"}, seen, "in order, and what an observer causes comes after what it is told")
}

func TestNoLockIsHeldWhileAnObserverIsTold(t *testing.T) {
	var c *Circuit
	told := 0
	o := &listening{changed: func(Change) {
		told++
		require.True(t, c.mu.TryLock())
		c.mu.Unlock()
	}}
	c = observed(classic, o)
	for _, to := range []policy.State{policy.Open, policy.HalfOpen, policy.Closed} {
		inTime(t, func() { c.Set(to, epoch) })
	}
	require.Equal(t, 3, told)
}

// dies calls do in a goroutine of its own, which may panic or exit.
func dies(t *testing.T, do func()) (panicked any) {
	t.Helper()
	inTime(t, func() {
		ended := make(chan any)
		go func() {
			defer func() { ended <- recover() }()
			do()
		}()
		panicked = <-ended
	})
	return panicked
}

func TestAnObserverThatDiesLosesNoOtherEvent(t *testing.T) {
	for name, die := range map[string]func(){"by panic": func() { panic("ouch") }, "by Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			var c *Circuit
			var seen []policy.State
			o := &listening{}
			o.changed = func(change Change) {
				seen = append(seen, change.To)
				if len(seen) == 1 {
					c.Set(policy.HalfOpen, change.At) // these wait
					c.Set(policy.Closed, change.At)
					die()
				}
			}
			c = observed(classic, o)
			panicked := dies(t, func() { c.Set(policy.Open, epoch) })
			require.Equal(t, name == "by panic", panicked != nil, "the panic is the caller's to see")
			require.Equal(t, []policy.State{policy.Open}, seen)
			inTime(t, func() { lookAt(c, epoch) })
			require.Equal(t, []policy.State{policy.Open, policy.HalfOpen, policy.Closed}, seen)

			inTime(t, func() {
				for range 2 {
					p, _ := c.Acquire(epoch, time.Time{}, ToProbe)
					p.Done(epoch, policy.Result{Outcome: policy.Failure})
				}
			})
			require.Equal(t, policy.Open, c.machine.state, "the circuit goes on")
			require.Len(t, seen, 4)
		})
	}
}

func TestAnObserverThatDiesInTheMiddleOfABatchLosesNoneOfTheRest(t *testing.T) {
	var c *Circuit
	var seen []policy.State
	o := &listening{changed: func(change Change) {
		seen = append(seen, change.To)
		switch len(seen) {
		case 1: // four more, to be told of in one batch
			for _, to := range []policy.State{policy.HalfOpen, policy.Closed, policy.Open, policy.HalfOpen} {
				c.Set(to, change.At)
			}
		case 3:
			c.Set(policy.Closed, change.At)
			panic("ouch")
		}
	}}
	c = observed(classic, o)
	require.NotNil(t, dies(t, func() { c.Set(policy.Open, epoch) }))
	require.Len(t, seen, 3)
	inTime(t, func() { lookAt(c, epoch) })
	require.Equal(t, []policy.State{policy.Open, policy.HalfOpen, policy.Closed, policy.Open, policy.HalfOpen, policy.Closed}, seen)
}

// Whoever asked never got the permit, so nobody can give it back.
func TestAnObserverThatPanicsInAcquireTakesNoPlace(t *testing.T) {
	die := true
	c := observed(policy.Classic{Failures: 1, OpenFor: 10 * time.Second, Probes: 1}.Rules(), &listening{changed: func(change Change) {
		if change.To == policy.HalfOpen && die {
			panic("ouch")
		}
	}})
	c.Set(policy.Open, epoch)
	now := epoch.Add(10 * time.Second)
	require.NotNil(t, dies(t, func() { c.Acquire(now, time.Time{}, ToProbe) }))
	die = false
	p, _ := c.Acquire(now, time.Time{}, ToProbe)
	require.True(t, p.Granted())
}

func TestASlowObserverHoldsUpNobodyAndMissesNoChange(t *testing.T) {
	told, goOn := make(chan struct{}), make(chan struct{})
	var changes []Change
	refusals := 0
	o := &listening{
		changed: func(c Change) {
			changes = append(changes, c)
			if len(changes) == 1 {
				close(told)
				<-goOn
			}
		},
		refused: func(Refusal) { refusals++ },
	}
	c := observed(classic, o)
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		c.Set(policy.Open, epoch)
	}()
	<-told
	const asked, set = 5 * mostWaiting, 2 * mostWaiting
	inTime(t, func() {
		for range asked {
			c.Acquire(epoch, time.Time{}, ToProbe)
		}
		for i := range set {
			c.Set(policy.State(i%3), epoch)
		}
		require.LessOrEqual(t, len(c.machine.waiting), mostWaiting+set)
		close(goOn)
		<-slow
	})
	require.Equal(t, mostWaiting, refusals, "kept for it up to the limit")
	require.EqualValues(t, asked, lookAt(c, epoch).Counts.Refusals, "and counted all the same")
	require.Len(t, changes, 1+set)
	requireOneHistory(t, changes, c.machine.state)

	c.Set(policy.Open, epoch)
	c.Acquire(epoch, time.Time{}, ToProbe)
	require.Equal(t, mostWaiting+1, refusals, "it has caught up")
}

func TestWithoutAnObserverNothingIsKept(t *testing.T) {
	c := New(&Config{Rules: classic}, nil, nil)
	c.Set(policy.HalfOpen, epoch)
	for range 10 {
		c.Acquire(epoch, time.Time{}, ToProbe)
	}
	require.Empty(t, c.machine.waiting)
}

// ways are the changes of state that a circuit makes by itself, and why.
var ways = map[[2]policy.State][]policy.ChangeReason{
	{policy.Closed, policy.Open}:     {policy.ChangeTripped},
	{policy.Open, policy.HalfOpen}:   {policy.ChangeOpenTimePassed, policy.ChangeProbeSucceeded},
	{policy.HalfOpen, policy.Open}:   {policy.ChangeRecoveryFailed},
	{policy.HalfOpen, policy.Closed}: {policy.ChangeRecovered},
}

// requireOneHistory checks that every change starts where the one before it ended, for a reason that leads there.
func requireOneHistory(t *testing.T, changes []Change, end policy.State) {
	t.Helper()
	state := policy.Closed
	for i, c := range changes {
		require.Equal(t, state, c.From, "change %d of %d: %+v", i, len(changes), c)
		if c.Reason != policy.ChangeByHand {
			require.Contains(t, ways[[2]policy.State{c.From, c.To}], c.Reason, "change %d of %d: %+v", i, len(changes), c)
		}
		state = c.To
	}
	require.Equal(t, end, state)
}

// Nobody could recover a panic of an observer there, and the process would end.
func TestObserversAreNotToldByATimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *Circuit
		var seen []policy.State
		rules := policy.Adaptive{}.Rules()
		o := &listening{changed: func(change Change) {
			seen = append(seen, change.To)
			if len(seen) == 1 {
				c.Set(policy.Closed, change.At) // this one waits
				c.AcquireClosed()
				c.AcquireClosed() // a canary, which has a timer
				panic("ouch")
			}
		}}
		c = New(&Config{Rules: validated(rules), Random: func() float64 { return 0 }}, o, nil)
		require.Panics(t, func() { c.Set(policy.Open, time.Now()) })
		time.Sleep(time.Minute)
		require.Equal(t, []policy.State{policy.Open}, seen)
		lookAt(c, time.Now())
		require.Equal(t, []policy.State{policy.Open, policy.Closed}, seen)
	})
}
