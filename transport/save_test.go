package transport_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func savedBy(t *testing.T, rt *transport.Transport) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, rt.SaveTo(&b))
	return b.String()
}

func restoreInto(t *testing.T, rt *transport.Transport, saved string) int {
	t.Helper()
	opened, err := rt.RestoreFrom(strings.NewReader(saved), 0)
	require.NoError(t, err)
	return opened
}

func circuitAt(t *testing.T, rt *transport.Transport, k transport.Key) transport.Snapshot {
	t.Helper()
	c, ok := rt.Circuit(k)
	require.True(t, ok, "%v", k)
	return c
}

var minuteOpen = policy.Classic{Failures: 2, OpenFor: time.Minute}

func TestARestartInAnOutageGoesOnWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := transport.New(answer(502, ""), transport.WithPolicy(minuteOpen))
		for range 3 {
			callHost(t, old, "down.test")
		}
		trouble := time.Now()
		transport.New(answer(204, ""), transport.WithPolicy(minuteOpen)) // nothing is shared
		require.True(t, old.SetState(hostKey("half.test"), policy.HalfOpen))
		require.True(t, old.SetState(hostKey("well.test"), policy.Closed))
		time.Sleep(20 * time.Second)
		saved := savedBy(t, old)

		time.Sleep(10 * time.Second)
		var changes []transport.StateChange
		next := transport.New(answer(204, ""), transport.WithPolicy(minuteOpen), transport.WithObserver(transport.Observer{
			OnStateChange: func(c transport.StateChange) { changes = append(changes, c) },
		}))
		require.Equal(t, 2, restoreInto(t, next, saved))
		require.Len(t, next.Circuits(), 2, "one that is well is nothing to take up")
		require.Len(t, changes, 2)
		c := circuitAt(t, next, hostKey("down.test"))
		require.Equal(t, policy.Open, c.State)
		require.True(t, trouble.Equal(c.Trouble), "since %v, and not %v", trouble, c.Trouble)
		require.True(t, trouble.Add(time.Minute).Equal(c.NextProbe))
		require.Equal(t, policy.ChangeRestored, changes[0].Reason)
		require.Zero(t, c.Trips)

		time.Sleep(30*time.Second - 1)
		require.True(t, transport.Refused(callHost(t, next, "down.test")))
		time.Sleep(time.Nanosecond)
		require.False(t, transport.Refused(callHost(t, next, "down.test")))
		require.Equal(t, policy.Closed, circuitAt(t, next, hostKey("down.test")).State)
		half := circuitAt(t, next, hostKey("half.test"))
		require.Equal(t, policy.Open, half.State, "one that was half-open is open, and due for a probe")
		require.False(t, transport.Refused(callHost(t, next, "half.test")))
		require.Equal(t, policy.Closed, circuitAt(t, next, hostKey("half.test")).State)
	})
}

func TestARestartDoesNotForgetWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := []any{
			io.ErrUnexpectedEOF, 500, 502, &net.OpError{Op: "dial", Err: errors.New("any")}, &net.DNSError{IsNotFound: true},
			&tls.CertificateVerificationError{Err: errors.New("expired")}, os.ErrDeadlineExceeded, 200, errors.New("none that is known"),
		}
		next := 0
		old := transport.New(inTurn(func(req *http.Request) (*http.Response, error) {
			if err, ok := fails[next].(error); ok {
				return nil, err
			}
			return &http.Response{StatusCode: fails[next].(int), Body: http.NoBody, Request: req}, nil
		}), transport.WithPolicy(policy.Classic{Failures: len(fails)}), transport.WithTraceID(func(*http.Request) string { return fmt.Sprint("trace ", next) }),
			transport.WithClassifier(policy.OnStatus(policy.Failure, 200)))
		for next = range fails {
			time.Sleep(time.Second)
			old.RoundTrip(&http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: "down.test"}})
		}
		was := circuitAt(t, old, hostKey("down.test"))
		require.Equal(t, policy.Open, was.State)
		require.Len(t, was.Samples, 8)

		time.Sleep(time.Minute)
		var told transport.StateChange
		rt := transport.New(answer(502, ""), transport.WithPolicy(minuteOpen), transport.WithRefusalError(), transport.WithObserver(transport.Observer{
			OnStateChange: func(c transport.StateChange) { told = c },
		}))
		saved := savedBy(t, old)
		require.Equal(t, 1, restoreInto(t, rt, saved))
		is := circuitAt(t, rt, hostKey("down.test"))
		require.Equal(t, was.Cause, is.Cause)
		require.True(t, was.FailedAt.Equal(is.FailedAt))
		require.Len(t, is.Samples, len(was.Samples))
		for i, s := range is.Samples {
			require.True(t, was.Samples[i].At.Equal(s.At))
			s.At = was.Samples[i].At
			require.Equal(t, was.Samples[i], s)
		}
		require.Equal(t, is.Samples, told.Samples)
		require.Zero(t, is.FailedCalls, "which are those of this process")

		busy := transport.New(answer(504, ""), transport.WithPolicy(minuteOpen))
		callHost(t, busy, "down.test")
		require.Equal(t, 1, restoreInto(t, busy, saved))
		require.Equal(t, 504, circuitAt(t, busy, hostKey("down.test")).Cause.Status, "what failed here is later")
	})
}

type inTurn func(*http.Request) (*http.Response, error)

func (f inTurn) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestSamplesThatNobodyHereWroteAreTakenAsTheyCan(t *testing.T) {
	sample := `{"cause":{"phase":"orbit","kind":"gamma ray","deadline":"of Fermi","status":599},"count":2,"at":"2026-01-01T00:00:00Z"},`
	saved := `{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[{"scheme":"http","host":"a.test","state":"open","samples":[` +
		strings.TrimSuffix(strings.Repeat(sample, 1000), ",") + `]}]}`
	rt := transport.New(answer(204, ""))
	require.Equal(t, 1, restoreInto(t, rt, saved))
	c := circuitAt(t, rt, hostKey("a.test"))
	require.Len(t, c.Samples, 8)
	require.Equal(t, policy.Cause{Kind: policy.KindOther, Status: 599}, c.Cause)
}

func TestWhatWasDueWhileNobodyRanIsDueAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := transport.New(answer(502, ""), transport.WithPolicy(minuteOpen))
		old.SetState(hostKey("down.test"), policy.Open)
		saved := savedBy(t, old)
		time.Sleep(2 * time.Minute)
		next := transport.New(answer(204, ""), transport.WithPolicy(minuteOpen))
		require.Equal(t, 1, restoreInto(t, next, saved))
		require.False(t, transport.Refused(callHost(t, next, "down.test")))
	})
}

// A due time that the rule here would never have set is cut to what it would.
func TestADueTimeOfAnotherPolicyIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := transport.New(answer(502, ""), transport.WithPolicy(policy.Classic{OpenFor: time.Hour}))
		old.SetState(hostKey("down.test"), policy.Open)
		next := transport.New(answer(204, ""))
		require.Equal(t, 1, restoreInto(t, next, savedBy(t, old)))
		require.Equal(t, time.Now().Add(5*time.Second), circuitAt(t, next, hostKey("down.test")).NextProbe)
	})
}

func TestWhatIsForcedIsForcedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := transport.New(answer(502, ""), transport.WithPolicy(minuteOpen))
		callHost(t, old, "a.test")
		old.Force("http://*", policy.Open)
		old.Force("http://a.test", policy.Closed)
		old.SetState(hostKey("free.test"), policy.Open)
		saved := savedBy(t, old)
		time.Sleep(time.Hour)

		next := transport.New(answer(502, ""), transport.WithPolicy(minuteOpen))
		callHost(t, next, "b.test")
		require.Zero(t, restoreInto(t, next, saved), "circuits that are forced are not among those restored")
		require.Equal(t, []string{"http://*", "http://a.test"}, patterns(next), "in the order in which they were")
		require.True(t, transport.Refused(callHost(t, next, "b.test")))
		require.True(t, transport.Refused(callHost(t, next, "c.test")))
		for range 5 {
			require.False(t, transport.Refused(callHost(t, next, "a.test")))
		}
		require.True(t, circuitAt(t, next, hostKey("a.test")).Forced)
		require.Equal(t, 3, released(t, next, "http://*"))
		require.True(t, circuitAt(t, next, hostKey("a.test")).Forced)
		require.False(t, circuitAt(t, next, hostKey("b.test")).Forced)
	})
}

func TestForcedCircuitsAreNotInTrouble(t *testing.T) {
	rt := transport.New(answer(204, ""))
	rt.Force("*", policy.Open)
	callHost(t, rt, "a.test")
	var saved map[string]any
	require.NoError(t, json.Unmarshal([]byte(savedBy(t, rt)), &saved))
	require.Empty(t, saved["circuits"])
	require.Len(t, saved["overrides"], 1)
}

func TestWhatIsOldIsLeftOutButForWhatIsForced(t *testing.T) {
	for _, c := range []struct {
		age, maxAge time.Duration
		opened      int
	}{
		{5 * time.Minute, 0, 1},
		{5*time.Minute + 1, 0, 0},
		{time.Hour, time.Hour, 1},
		{time.Hour + 1, time.Hour, 0},
		{0, 1, 1},
		{1, -1, 0},
		{-time.Hour, 0, 1}, // the clock of this process is behind
	} {
		t.Run(fmt.Sprint(c.age, " of ", c.maxAge), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(2 * time.Hour)
				saved := fmt.Sprintf(`{"version":1,"at":%q,"circuits":[{"scheme":"http","host":"a.test","state":"open"}],"overrides":[{"pattern":"http://b.test","state":"open"}]}`,
					time.Now().Add(-c.age).Format(time.RFC3339Nano))
				rt := transport.New(answer(204, ""))
				opened, err := rt.RestoreFrom(strings.NewReader(saved), c.maxAge)
				require.NoError(t, err)
				require.Equal(t, c.opened, opened)
				require.Equal(t, []string{"http://b.test"}, patterns(rt))
			})
		})
	}
}

func TestWhatIsMalformedChangesNothing(t *testing.T) {
	good := `{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[{"scheme":"http","host":"a.test","state":"open","trouble":"2026-01-01T00:00:00Z","next_probe":"2026-01-01T00:00:01Z"}],` +
		`"overrides":[{"pattern":"http://b.test","state":"open","at":"2026-01-01T00:00:00Z"}]}`
	require.Equal(t, 1, restoreInto(t, transport.New(answer(204, "")), good))
	change := func(from, to string) string {
		require.Contains(t, good, from)
		return strings.Replace(good, from, to, 1)
	}
	cases := map[string]string{
		"nothing":                         "",
		"no JSON":                         "circuits: []",
		"an array":                        "[" + good + "]",
		"null":                            "null",
		"an empty object":                 "{}",
		"no version":                      change(`"version":1,`, ""),
		"an older version":                change(`"version":1`, `"version":0`),
		"a version from the future":       change(`"version":1`, `"version":2`),
		"a version that is none":          change(`"version":1`, `"version":"1"`),
		"circuits that are none":          change(`"circuits":[`, `"circuits":7,"more":[`),
		"forced half-open":                change(`"http://b.test","state":"open"`, `"http://b.test","state":"half-open"`),
		"forced to what is none":          change(`"http://b.test","state":"open"`, `"http://b.test","state":"shut"`),
		"forced to nothing":               change(`"http://b.test","state":"open"`, `"http://b.test"`),
		"forced without a pattern":        change(`"pattern":"http://b.test",`, ""),
		"more after it":                   good + "}",
		"two of them":                     good + good,
		"a half-open one after good ones": change(`"overrides":[`, `"overrides":[{"pattern":"*","state":"closed"},{"pattern":"x","state":"half-open"},`),
	}
	for n := range len(good) {
		if n%7 == 0 || n > len(good)-4 {
			cases[fmt.Sprintf("cut off after %d bytes", n)] = good[:n]
		}
	}
	for name, saved := range cases {
		t.Run(name, func(t *testing.T) {
			rt := transport.New(answer(204, ""))
			rt.Force("http://c.test", policy.Closed)
			opened, err := rt.RestoreFrom(strings.NewReader(saved), 0)
			require.ErrorContains(t, err, "fusebox: restore circuits: ")
			require.Zero(t, opened)
			require.Equal(t, []string{"http://c.test"}, patterns(rt))
			require.Empty(t, rt.Circuits())
		})
	}
}

func TestACircuitThatCannotBeReadIsLeftOutAlone(t *testing.T) {
	const good = `{"scheme":"http","host":"%s.test","state":"open","trouble":"2026-01-01T00:00:00Z","next_probe":"2026-01-01T00:00:01Z",` +
		`"samples":[{"cause":{"kind":"status","status":500},"count":1,"at":"2026-01-01T00:00:00Z"}]}`
	for name, c := range map[string]struct{ from, to string }{
		"a state of a newer version":   {`"state":"open"`, `"state":"resting"`},
		"a state in another case":      {`"state":"open"`, `"state":"OPEN"`},
		"a state that is a number":     {`"state":"open"`, `"state":1`},
		"a time that is none":          {`"trouble":"2026-01-01T00:00:00Z"`, `"trouble":"yesterday"`},
		"a day that there is not":      {`"next_probe":"2026-01-01T00:00:01Z"`, `"next_probe":"2026-02-30T00:00:01Z"`},
		"a year that JSON cannot hold": {`"trouble":"2026-`, `"trouble":"12026-`},
		"a host that is none":          {`"host":"bad.test"`, `"host":7`},
		"a sample that is none":        {`"count":1`, `"count":-1`},
		"a number":                     {fmt.Sprintf(good, "bad"), `7`},
		"an array":                     {fmt.Sprintf(good, "bad"), `[]`},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(fmt.Sprintf(good, "bad"), c.from, c.to, 1)
			require.NotEqual(t, fmt.Sprintf(good, "bad"), bad)
			rt := transport.New(answer(204, ""), transport.WithMaxCircuits(2)) // what is left out takes no room either
			opened, err := rt.RestoreFrom(strings.NewReader(`{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[`+
				strings.Join([]string{bad, fmt.Sprintf(good, "first"), bad, fmt.Sprintf(good, "last")}, ",")+
				`],"overrides":[{"pattern":"http://b.test","state":"open"}]}`), 0)
			require.ErrorContains(t, err, "fusebox: restore circuits: 2 of 4 cannot be read and are left out, the first by: ")
			require.Equal(t, 2, opened)
			require.Equal(t, policy.Open, circuitAt(t, rt, hostKey("first.test")).State)
			require.Equal(t, policy.Open, circuitAt(t, rt, hostKey("last.test")).State)
			require.Len(t, rt.Circuits(), 2)
			require.Equal(t, []string{"http://b.test"}, patterns(rt))
		})
	}
	// Of what is too old to be restored nobody needs to know whether it could be read.
	_, err := transport.New(nil).RestoreFrom(strings.NewReader(`{"version":1,"at":"2001-01-01T00:00:00Z","circuits":[7]}`), 0)
	require.NoError(t, err)
}

func TestWhatIsNotKnownIsIgnored(t *testing.T) {
	saved := `{"version":1,"at":"2999-01-01T00:00:00Z","colour":"red","circuits":[{"scheme":"http","host":"a.test","state":"open","mood":[1,2]}],"overrides":null}` + "\n\n"
	require.Equal(t, 1, restoreInto(t, transport.New(answer(204, "")), saved))
}

func TestCircuitsThatHaveChangedHereStayAsTheyAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := transport.New(answer(502, ""), transport.WithPolicy(minuteOpen))
		for _, host := range []string{"closed.test", "open.test", "half.test", "called.test", "failed.test", "forced.test"} {
			old.SetState(hostKey(host), policy.Open)
		}
		saved := savedBy(t, old)
		time.Sleep(time.Second)

		next := transport.New(dns{"called.test": 204, "failed.test": 502}, transport.WithPolicy(minuteOpen))
		next.SetState(hostKey("closed.test"), policy.Closed)
		next.SetState(hostKey("open.test"), policy.Open)
		next.SetState(hostKey("half.test"), policy.HalfOpen)
		next.Force("http://forced.test", policy.Closed)
		callHost(t, next, "forced.test")
		callHost(t, next, "called.test")
		callHost(t, next, "failed.test")
		before := map[string]transport.Snapshot{}
		for _, host := range []string{"closed.test", "open.test", "half.test", "forced.test"} {
			before[host] = circuitAt(t, next, hostKey(host))
		}
		require.Equal(t, 2, restoreInto(t, next, saved))
		for host, c := range before {
			require.Equal(t, c, circuitAt(t, next, hostKey(host)))
		}
		for _, host := range []string{"called.test", "failed.test"} { // they know no better yet
			require.Equal(t, policy.Open, circuitAt(t, next, hostKey(host)).State)
		}
		require.Zero(t, restoreInto(t, next, saved), "twice is once")
	})
}

func TestKeysAreSavedWhole(t *testing.T) {
	for _, k := range []transport.Key{
		{Scheme: "https", Host: "example.com"},
		{Scheme: "https", Host: "example.com:8443", Detail: "GET /users/{id}"},
		{Scheme: "http", Host: "[2001:db8::1]:8080"},
		{Scheme: "http", Host: "[fe80::1%25eth0]"},
		{Scheme: "http", Host: "xn--bcher-kva.example"},
		{Host: "only.host"},
		{Scheme: "unix"},
		{Detail: "tenant 7"},
		{},
		{Scheme: "http", Host: "a.test", Detail: "a  b"},
		{Scheme: "http", Host: "a.test", Detail: " "},
		{Scheme: "http", Host: "a.test", Detail: "https://b.test c"},
		{Scheme: "http", Host: "a.test", Detail: "\"quoted\\\" <b>&amp;\n\r\t\x00\x7f"},
		{Scheme: "http", Host: "a.test", Detail: "日本 🔌 é e\u0301 \u2028 \ufeff \u202e"},
		{Scheme: "http", Host: "a.test", Detail: strings.Repeat("x", 4000)},
	} {
		t.Run(fmt.Sprintf("%.40q", k.Scheme+k.Host+k.Detail), func(t *testing.T) {
			old, next := transport.New(answer(502, "")), transport.New(answer(204, ""))
			require.True(t, old.SetState(k, policy.Open))
			require.Equal(t, 1, restoreInto(t, next, savedBy(t, old)))
			require.Equal(t, policy.Open, circuitAt(t, next, k).State)
		})
	}
}

func TestKeysThatJSONCannotHoldAreLeftOut(t *testing.T) {
	old, next := transport.New(answer(502, "")), transport.New(answer(204, ""))
	for _, k := range []transport.Key{{Scheme: "http", Host: "a.test", Detail: "not UTF-8: \xff\xfe"}, {Scheme: "http", Host: "caf\xe9.test"}} {
		require.True(t, old.SetState(k, policy.Open))
	}
	require.Zero(t, restoreInto(t, next, savedBy(t, old)))
	require.Empty(t, next.Circuits())
}

func TestManyCircuitsAreSaved(t *testing.T) {
	const n = 2000
	old, next := transport.New(answer(502, "")), transport.New(answer(204, ""), transport.WithMaxCircuits(n/2))
	for i := range n {
		old.SetState(hostKey(fmt.Sprintf("host%d.test", i)), policy.Open)
	}
	saved := savedBy(t, old)
	require.Equal(t, n, restoreInto(t, transport.New(nil), saved))
	require.Equal(t, n/2, restoreInto(t, next, saved), "as many as there is room for")
}

func TestNothingToSaveIsSavedToo(t *testing.T) {
	rt := transport.New(answer(204, ""))
	callHost(t, rt, "a.test")
	saved := savedBy(t, rt)
	require.Contains(t, saved, `"circuits":[],"overrides":[]`)
	require.Zero(t, restoreInto(t, rt, saved))
}

type brokenFile struct{}

func (brokenFile) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }
func (brokenFile) Read([]byte) (int, error)  { return 0, errors.New("the disk is gone") }

func TestErrorsOfFilesAreTold(t *testing.T) {
	rt := transport.New(answer(204, ""))
	require.ErrorContains(t, rt.SaveTo(brokenFile{}), "fusebox: save circuits: the disk is full")
	_, err := rt.RestoreFrom(brokenFile{}, 0)
	require.ErrorContains(t, err, "fusebox: restore circuits: the disk is gone")
}

func FuzzRestore(f *testing.F) {
	for _, seed := range []string{
		`{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[{"scheme":"http","host":"a.test","state":"open"}],"overrides":[{"pattern":"*","state":"open"}]}`,
		`{"version":1,"circuits":[{"state":"half-open","trouble":"0000-01-01T00:00:00Z","next_probe":"9999-12-31T23:59:59Z"}]}`,
		`{"version":1,"at":"2999-01-01T00:00:00Z","circuits":[{"scheme":"http","host":"a.test","state":"ajar"}],"overrides":[{"pattern":"*","state":"open"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, saved []byte) {
		rt := transport.New(answer(204, ""))
		opened, err := rt.RestoreFrom(bytes.NewReader(saved), 1<<62)
		// what cannot be read costs itself, and nothing else
		apart := err != nil && strings.Contains(err.Error(), "cannot be read and are left out")
		if err != nil && !apart && (opened > 0 || len(rt.Circuits()) > 0 || len(rt.Overrides()) > 0) {
			t.Fatalf("%v, and something changed", err)
		}
		open := 0
		for _, c := range rt.Circuits() {
			if c.State == policy.HalfOpen || c.NextProbe.After(time.Now().Add(time.Minute)) {
				t.Fatalf("%+v", c)
			}
			if c.State == policy.Open && !c.Forced {
				open++
			}
		}
		if open != opened {
			t.Fatalf("%d are open, and it says %d", open, opened)
		}
		if _, err := rt.RestoreFrom(strings.NewReader(savedBy(t, rt)), 0); err != nil {
			t.Fatal(err)
		}
	})
}
