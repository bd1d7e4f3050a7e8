package fusebox_test

// What Python's pybreaker gives its users, a test each.

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// script is a base that answers with one status after the other, the last one for ever.
func script(statuses ...int) *httpmock.MockTransport {
	base := httpmock.NewMockTransport()
	next := 0
	base.RegisterNoResponder(func(*http.Request) (*http.Response, error) {
		status := statuses[min(next, len(statuses)-1)]
		next++
		if status == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return httpmock.NewStringResponse(status, ""), nil
	})
	return base
}

// statuses makes n requests, and returns their statuses; 0 for an error, -503 for a refusal.
func statuses(t *testing.T, rt http.RoundTripper, n int) (got []int) {
	t.Helper()
	for range n {
		resp, err := request(t, rt, t.Context())
		switch {
		case err != nil:
			got = append(got, 0)
		case transport.Refused(resp):
			got = append(got, -resp.StatusCode)
		default:
			got = append(got, resp.StatusCode)
		}
	}
	return got
}

func TestPybreakerFailMax(t *testing.T) {
	rt := transport.New(script(500), transport.WithPolicy(policy.Classic{}))
	require.Equal(t, []int{500, 500, 500, 500, 500, -503}, statuses(t, rt, 6), "the fifth failure in a row trips")

	rt = transport.New(script(500, 500, 200, 500, 500, 0, 200), transport.WithPolicy(policy.Classic{Failures: 3}))
	require.Equal(t, []int{500, 500, 200, 500, 500, 0, -503}, statuses(t, rt, 7), "a success zeroes the count")
}

func TestPybreakerResetTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(script(500, 500, 500, 500, 500, 200), transport.WithPolicy(policy.Classic{}))
		statuses(t, rt, 5)
		time.Sleep(time.Minute - 1)
		require.Equal(t, []int{-503}, statuses(t, rt, 1))
		time.Sleep(time.Nanosecond)
		require.Equal(t, policy.Open, stateOf(t, rt, here))
		require.Equal(t, []int{200}, statuses(t, rt, 1), "the next call after 60 s is the probe")
		require.Equal(t, policy.Closed, stateOf(t, rt, here))
	})
}

func TestPybreakerSuccessThreshold(t *testing.T) {
	rt := transport.New(script(200), transport.WithPolicy(policy.Classic{}))
	rt.SetState(here, policy.HalfOpen)
	statuses(t, rt, 1)
	require.Equal(t, policy.Closed, stateOf(t, rt, here), "one success closes")

	rt = transport.New(script(200, 200, 500, 200), transport.WithPolicy(policy.Classic{Successes: 3}))
	rt.SetState(here, policy.HalfOpen)
	statuses(t, rt, 2)
	require.Equal(t, policy.HalfOpen, stateOf(t, rt, here))
	statuses(t, rt, 1)
	require.Equal(t, policy.Open, stateOf(t, rt, here))
	rt.SetState(here, policy.HalfOpen)
	statuses(t, rt, 3)
	require.Equal(t, policy.Closed, stateOf(t, rt, here))
}

type businessError struct{ code int }

func (e *businessError) Error() string { return "business as usual" }

func TestPybreakerExclude(t *testing.T) {
	errQuota := errors.New("quota")
	var next error
	rt := transport.New(roundTripper(func(*http.Request) (*http.Response, error) { return nil, next }),
		transport.WithPolicy(policy.Classic{Failures: 2}),
		transport.WithClassifier(
			policy.OnErrorType[*businessError](policy.Ignored),
			policy.OnError(policy.Ignored, errQuota),
			policy.When(policy.Ignored, func(c *policy.Call) bool { return c.Err == io.EOF }),
		))
	failures := func(errs ...error) int {
		for _, next = range errs {
			request(t, rt, t.Context())
		}
		c, _ := rt.Circuit(here)
		return c.Failures
	}
	require.Equal(t, 0, failures(&businessError{1}, errQuota, io.EOF), "kinds, values and predicates")
	require.Equal(t, 1, failures(io.ErrClosedPipe, errQuota), "what is excluded says nothing: the count stays")

	rt.SetClassifier(policy.OnError(policy.Success, errQuota)) // at run time, and to be counted as pybreaker does
	require.Equal(t, 0, failures(errQuota))
	rt.SetClassifier()
	require.Equal(t, 1, failures(errQuota))
}

func TestPybreakerListeners(t *testing.T) {
	var got []string
	rt := transport.New(script(200, 500), transport.WithPolicy(policy.Classic{Failures: 1}),
		transport.WithObserver(transport.Observer{
			OnCall:        func(transport.CallStart) { got = append(got, "before call") },
			OnOutcome:     func(e transport.CallEnd) { got = append(got, e.Outcome.String()) },
			OnStateChange: func(e transport.StateChange) { got = append(got, e.From.String()+" to "+e.To.String()) },
		}),
		transport.WithObserver(transport.Observer{
			OnRefusal: func(e transport.RefusalEvent) { got = append(got, "refused "+e.Key.String()) },
		}))
	statuses(t, rt, 3)
	require.Equal(t, []string{
		"before call", "success", "before call", "closed to open", "failure", "refused http://upstream.test",
	}, got)
}

func TestPybreakerName(t *testing.T) {
	rt := transport.New(script(200), transport.WithKey(func(*http.Request) transport.Key {
		return transport.Key{Detail: "payments"}
	}))
	statuses(t, rt, 1)
	require.Equal(t, "payments", rt.Circuits()[0].Key.String())
}

func TestPybreakerThrowNewErrorOnTrip(t *testing.T) {
	rt := transport.New(script(500), transport.WithPolicy(policy.Classic{Failures: 2}))
	require.Equal(t, []int{500, 500, -503}, statuses(t, rt, 3), "the tripping call gets its own answer")

	body := &countedBody{Reader: http.NoBody}
	base := httpmock.NewMockTransport()
	base.RegisterNoResponder(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 500, Header: http.Header{}, Body: body}, nil
	})
	rt = transport.New(base, transport.WithPolicy(policy.Classic{Failures: 2}), transport.WithRefusalOnTrip(), transport.WithRefusalError())
	_, err := request(t, rt, t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, body.closes.Load())
	_, err = request(t, rt, t.Context())
	require.ErrorIs(t, err, transport.ErrOpen, "or the breaker's")
	require.EqualValues(t, 2, body.closes.Load(), "and the answer that nobody gets is closed")
}

func TestPybreakerOpenHalfOpenClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := transport.New(script(200), classic)
		require.True(t, rt.SetState(here, policy.Open))
		require.Equal(t, []int{-503}, statuses(t, rt, 1))
		time.Sleep(time.Minute)
		require.Equal(t, []int{200}, statuses(t, rt, 1), "the rules go on from there")
		require.Equal(t, policy.Closed, stateOf(t, rt, here))

		rt.SetState(here, policy.Open)
		rt.SetState(here, policy.HalfOpen)
		require.Equal(t, []int{200}, statuses(t, rt, 1))
		require.Equal(t, policy.Closed, stateOf(t, rt, here))

		rt.SetState(here, policy.Open)
		rt.SetState(here, policy.Closed)
		require.Equal(t, []int{200}, statuses(t, rt, 1))
	})
}

func TestPybreakerCurrentState(t *testing.T) {
	rt := transport.New(script(200))
	_, ok := rt.Circuit(here)
	require.False(t, ok)
	for _, state := range []policy.State{policy.Open, policy.HalfOpen, policy.Closed} {
		rt.SetState(here, state)
		require.Equal(t, state, stateOf(t, rt, here))
	}
}

func TestPybreakerFailCounter(t *testing.T) {
	rt := transport.New(script(500, 500, 500, 200), transport.WithPolicy(policy.Classic{}))
	for _, want := range []int{1, 2, 3, 0} {
		statuses(t, rt, 1)
		c, _ := rt.Circuit(here)
		require.Equal(t, want, c.Failures)
	}
}

func TestPybreakerSuccessCounter(t *testing.T) {
	rt := transport.New(script(200), transport.WithPolicy(policy.Classic{Successes: 3}))
	rt.SetState(here, policy.HalfOpen)
	for _, want := range []int{1, 2} {
		statuses(t, rt, 1)
		c, _ := rt.Circuit(here)
		require.Equal(t, want, c.Successes)
	}
}

func TestPybreakerStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var storage transport.MemoryStorage
		first := transport.New(script(500), transport.WithStorage(&storage), transport.WithPolicy(policy.Classic{}))
		statuses(t, first, 5)
		time.Sleep(20 * time.Second)

		record, err := storage.Load(here)
		require.NoError(t, err)
		require.Equal(t, policy.Open, record.State)
		require.Equal(t, 5, record.Failures)

		second := transport.New(script(200), transport.WithStorage(&storage), transport.WithPolicy(policy.Classic{}))
		require.Equal(t, []int{-503}, statuses(t, second, 1), "a new Transport knows of the outage")
		time.Sleep(40 * time.Second)
		require.Equal(t, []int{200}, statuses(t, second, 1), "and of the time that has passed")
		record, err = storage.Load(here)
		require.NoError(t, err)
		require.Equal(t, policy.Closed, record.State)
	})
}

// brokenStorage fails, as one does whose server is gone.
type brokenStorage struct{ err error }

func (s brokenStorage) Load(transport.Key) (transport.Record, error) {
	return transport.Record{}, s.err
}
func (s brokenStorage) Save(transport.Record) error { return s.err }

func TestPybreakerStorageThatFails(t *testing.T) {
	errGone := errors.New("storage is gone")
	var told []transport.StorageError
	rt := transport.New(script(500), transport.WithStorage(brokenStorage{errGone}), transport.WithPolicy(policy.Classic{Failures: 2}),
		transport.WithObserver(transport.Observer{OnStorageError: func(e transport.StorageError) { told = append(told, e) }}))
	require.Equal(t, []int{500, 500, -503}, statuses(t, rt, 3), "the circuit goes on by itself")
	require.Equal(t, []transport.StorageError{{Key: here, Err: errGone}, {Key: here, Err: errGone}}, told, "one for Load, one for Save")
}

func TestPybreakerLockIsNotHeldAcrossTheCall(t *testing.T) {
	var out, most atomic.Int32
	everyone := make(chan struct{})
	rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		if n := out.Add(1); n == 10 {
			most.Store(n)
			close(everyone)
		}
		select {
		case <-everyone:
		case <-req.Context().Done():
		}
		return answer(200, "")(req)
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan struct{})
	for range 10 {
		go func() {
			request(t, rt, ctx)
			done <- struct{}{}
		}()
	}
	for range 10 {
		<-done
	}
	require.EqualValues(t, 10, most.Load(), "ten calls at once")
}
