// Package fuseboxtest is for tests of code whose http.Client has a transport.Transport: that a handler answers from its
// cache while the upstream is down, that it comes back after the outage, that a classifier opens the circuit.
//
// A circuit gets into a state in two ways. Put and Force do it by hand, at once. Trip, AlmostTrip and Recover do it by
// the calls of the code under test, and so show that its client, classifier and policy do what they should.
//
// The key of a circuit is written out, as transport.Key{Scheme: "https", Host: "api.example.com"}, with the Detail that
// a KeyFunc gives it; or it is what transport.Upstream or the KeyFunc returns for a request. One that no request has
// ends the test where that can be known.
//
// Time is that of testing/synctest: in a bubble no open time passes by itself, and UntilProbe and Recover let it. What
// waits on the network keeps a bubble's time from passing, so there the base is one that a test makes up, such as a
// function or that of jarcoal/httpmock. Outside of a bubble a circuit that is open may let a probe through as soon as
// 50 ms later, by the default policy; one that is forced open does not.
//
// What is asked for and cannot be done ends the test by t.Fatal, so that all but a Recorder's methods are for the
// goroutine of the test. At the end of the test, circuits that it has put somewhere are reset, and those that it has
// forced are released: a Transport can be shared by tests that run one after the other.
package fuseboxtest

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// More than any policy should need. An outage of virtual time can get very long: many a policy waits the longer for the
// next probe the longer it has lasted.
const (
	mostCalls = 10_000
	mostTime  = 365 * 24 * time.Hour
)

// Put puts the circuit of a key into a state, as SetState of the Transport does: one that is open lets a probe through
// when its time has come, one that is half-open decides by the next calls.
func Put(t testing.TB, breaker *transport.Transport, key transport.Key, state policy.State) {
	t.Helper()
	if !breaker.SetState(key, state) {
		t.Fatalf("fuseboxtest: there is no room for the circuit of %v; see transport.WithMaxCircuits", key)
	}
	resetAtEnd(t, breaker, key)
	notForced(t, breaker, key)
}

// Force keeps the circuit of a key open or closed, whatever the calls say and however long it takes, until the end of
// the test. It is the one for tests in real time. Refusals have the reason policy.RefusedForced.
func Force(t testing.TB, breaker *transport.Transport, key transport.Key, state policy.State) {
	t.Helper()
	if _, err := breaker.Force(key.Pattern(), state); err != nil {
		t.Fatal(err)
	}
	hint(t, key)
	t.Cleanup(func() { breaker.Release(key.Pattern()) })
}

// Trip makes calls until the circuit of a key opens, and returns how many it took. Call makes one call that should
// count as a failure, by the code under test: with the response read and closed. It ends the test if 10,000 of them do
// not open the circuit.
func Trip(t testing.TB, breaker *transport.Transport, key transport.Key, call func()) (calls int) {
	t.Helper()
	resetAtEnd(t, breaker, key)
	before, _ := breaker.Circuit(key)
	if before.State != policy.Closed && !before.Forced {
		t.Fatalf("fuseboxtest: the circuit of %v is %v already", key, before.State)
	}
	for calls = 1; calls <= mostCalls; calls++ {
		notForced(t, breaker, key)
		call()
		if circuit(t, breaker, key).Trips > before.Trips {
			return calls
		}
	}
	c, _ := breaker.Circuit(key)
	t.Fatalf("fuseboxtest: %d calls did not open the circuit of %v: %d failed and %d said nothing, last failure: %v",
		mostCalls, key, c.FailedCalls-before.FailedCalls, c.IgnoredCalls-before.IgnoredCalls, cause(c))
	return 0
}

// AlmostTrip makes calls until one more opens the circuit of a key, which is closed then, and returns how many it made.
// To find out, it first makes one more than that, and resets the circuit.
func AlmostTrip(t testing.TB, breaker *transport.Transport, key transport.Key, call func()) (calls int) {
	t.Helper()
	calls = Trip(t, breaker, key, call) - 1
	if _, err := breaker.Reset(key.Pattern()); err != nil {
		t.Fatal(err)
	}
	for range calls {
		call()
	}
	if c, _ := breaker.Circuit(key); c.State != policy.Closed {
		t.Fatalf("fuseboxtest: the circuit of %v opened by %d calls at first, and by fewer when they were made again",
			key, calls+1)
	}
	return calls
}

// Recover lets time pass until probes are due, and makes calls, until the circuit of a key is closed. It returns how
// many it took. Call makes one call that should count as a success, by the code under test: with the response read and
// closed. It needs a bubble of testing/synctest, and ends the test if 10,000 calls or a year do not close the circuit.
func Recover(t testing.TB, breaker *transport.Transport, key transport.Key, call func()) (calls int) {
	t.Helper()
	notForced(t, breaker, key)
	before, start := circuit(t, breaker, key), time.Now()
	for c := before; c.State != policy.Closed; calls++ {
		if calls == mostCalls || time.Since(start) > mostTime {
			t.Fatalf("fuseboxtest: %d calls did not close the circuit of %v, which is %v: %d failed, last failure: %v",
				calls, key, c.State, c.FailedCalls-before.FailedCalls, cause(c))
		}
		if c.State == policy.Open {
			UntilProbe(t, breaker, key)
		}
		call()
		c, _ = breaker.Circuit(key)
	}
	return calls
}

// UntilProbe lets time pass until the next request to a key, whatever its number, is a probe; or if only some requests
// are (transport.WithSafeProbes), until one of those is. It returns how much time that was: none if the circuit is
// half-open. It ends the test if the circuit is closed or forced, or if there is no bubble of testing/synctest.
func UntilProbe(t testing.TB, breaker *transport.Transport, key transport.Key) (passed time.Duration) {
	t.Helper()
	if !settle() {
		t.Fatal("fuseboxtest: time passes in a bubble alone; call this in the function given to synctest.Test")
	}
	notForced(t, breaker, key)
	c := circuit(t, breaker, key)
	switch c.State {
	case policy.Closed:
		t.Fatalf("fuseboxtest: the circuit of %v is closed, and has no probe to wait for", key)
	case policy.HalfOpen:
		return 0
	}
	due := c.NextProbe
	if c.ProbeRequests > 1 {
		due = c.ProbeLatest
	}
	if c.SafeProbeUntil.After(due) {
		due = c.SafeProbeUntil
	}
	passed = max(0, time.Until(due))
	time.Sleep(passed)
	settle()
	return passed
}

// settle waits until all else in the bubble waits too, and reports false if there is no bubble.
func settle() (bubble bool) {
	defer func() {
		if !bubble {
			recover()
		}
	}()
	synctest.Wait()
	return true
}

func resetAtEnd(t testing.TB, breaker *transport.Transport, key transport.Key) {
	t.Helper()
	hint(t, key)
	t.Cleanup(func() { breaker.Reset(key.Pattern()) })
}

// hint is seen if the test fails. It is no failure by itself, since a KeyFunc may make such a key.
func hint(t testing.TB, key transport.Key) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, key.Scheme+"://"+key.Host, nil)
	if err != nil || key.Host == "" {
		return
	}
	canonical := transport.Upstream(req)
	canonical.Detail = key.Detail
	if canonical != key {
		t.Logf("fuseboxtest: without a KeyFunc of your own no request has the key %v; write %v", key, canonical)
	}
}

func notForced(t testing.TB, breaker *transport.Transport, key transport.Key) {
	t.Helper()
	if c, _ := breaker.Circuit(key); c.Forced {
		t.Fatalf("fuseboxtest: the circuit of %v is forced %v by %q, and stays so", key, c.State, c.ForcedBy)
	}
}

func circuit(t testing.TB, breaker *transport.Transport, key transport.Key) transport.Snapshot {
	t.Helper()
	c, ok := breaker.Circuit(key)
	if !ok {
		var keys []transport.Key
		for _, c := range breaker.Circuits() {
			keys = append(keys, c.Key)
		}
		t.Fatalf("fuseboxtest: no request has the key %v; there are circuits for %v", key, keys)
	}
	return c
}

func cause(c transport.Snapshot) string {
	if c.Cause == (policy.Cause{}) {
		return "none"
	}
	return c.Cause.String()
}
