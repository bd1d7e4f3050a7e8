package transport_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func says(outcome policy.Outcome) func(*policy.Call) policy.Outcome {
	return func(*policy.Call) policy.Outcome { return outcome }
}

// outcomes collects what observers are told.
func outcomes(to *[]transport.CallEnd) transport.Option {
	return transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { *to = append(*to, e) }})
}

func requestTo(t *testing.T, method, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	return req
}

// TestACallIsJudgedAtItsEnd has a server whose response is sent in two parts, and whose verdict is in its trailers.
func TestACallIsJudgedAtItsEnd(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			read := make(chan bool)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "Verdict")
				io.WriteString(w, "first part, ")
				w.(http.Flusher).Flush()
				<-read // until the caller has it
				io.WriteString(w, "second part")
				w.Header().Set("Verdict", "guilty")
			}))
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()

			var seen []policy.Call
			var told []transport.CallEnd
			rt := transport.New(server.Client().Transport, outcomes(&told), transport.WithPolicy(policy.Classic{Failures: 2}),
				transport.WithClassifier(policy.AtEnd(8, func(c *policy.Call) policy.Outcome {
					seen = append(seen, *c)
					require.Equal(t, "guilty", c.Response.Trailer.Get("Verdict"))
					return policy.Failure
				})))
			client := http.Client{Transport: rt}
			for n := range 2 {
				resp, err := client.Get(server.URL)
				require.NoError(t, err)
				require.Equal(t, proto, resp.Proto)
				part := make([]byte, len("first part, "))
				_, err = io.ReadFull(resp.Body, part)
				require.NoError(t, err)
				require.Len(t, seen, n, "before the body's end nobody is asked")
				require.Len(t, told, n)
				read <- true
				rest, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				require.Equal(t, "first part, second part", string(part)+string(rest))
			}
			require.Len(t, seen, 2)
			require.Equal(t, "ond part", string(seen[1].Tail))
			require.EqualValues(t, 23, seen[1].Size)
			require.True(t, seen[1].AtEnd)
			require.False(t, seen[1].ClosedEarly)
			require.NoError(t, seen[1].Err)
			require.Len(t, told, 2, "once a call")
			require.Equal(t, policy.Failure, told[1].Outcome)
			require.Equal(t, policy.Cause{Kind: policy.KindJudged, Status: 200}, told[1].Cause)
			require.True(t, opened(rt, requestTo(t, "GET", server.URL)))
		})
	}
}

// selfWriting is a body that can write itself.
type selfWriting struct{ *strings.Reader }

func (selfWriting) Close() error { return nil }

type ioCloser struct{ io.Reader }

func (ioCloser) Close() error { return nil }

type written struct{ io.ReadCloser }

func (written) Write(p []byte) (int, error) { return len(p), nil }

func TestWhatAJudgeAtTheEndSees(t *testing.T) {
	body := func(r io.Reader) io.ReadCloser { return ioCloser{r} }
	errReset := errors.New("reset")
	readAll := func(t *testing.T, resp *http.Response) {
		_, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
	}
	read := func(n int) func(*testing.T, *http.Response) {
		return func(t *testing.T, resp *http.Response) {
			_, err := io.ReadFull(resp.Body, make([]byte, n))
			require.NoError(t, err)
		}
	}
	nothing := func(*testing.T, *http.Response) {}
	copied := func(t *testing.T, resp *http.Response) {
		_, isWriterTo := resp.Body.(io.WriterTo)
		require.True(t, isWriterTo)
		_, err := io.Copy(io.Discard, resp.Body)
		require.NoError(t, err)
	}
	long := strings.Repeat("0123456789", 1000) + "the end"
	for name, c := range map[string]struct {
		method string
		status int
		length int64 // Content-Length
		body   io.ReadCloser
		read   func(*testing.T, *http.Response)
		asked  bool
		early  bool
		tail   string
		size   int64
	}{
		"read to its end":                    {length: 5, body: body(strings.NewReader("hello")), read: readAll, asked: true, tail: "hello", size: 5},
		"of no known length":                 {length: -1, body: body(strings.NewReader("hello")), read: readAll, asked: true, tail: "hello", size: 5},
		"longer than the view":               {length: -1, body: body(strings.NewReader(long)), read: readAll, asked: true, tail: "89the end", size: 10_007},
		"a byte at a time":                   {length: -1, body: body(iotest.OneByteReader(strings.NewReader(long))), read: readAll, asked: true, tail: "89the end", size: 10_007},
		"data with the end":                  {length: -1, body: body(iotest.DataErrReader(strings.NewReader("hello"))), read: readAll, asked: true, tail: "hello", size: 5},
		"it writes itself":                   {length: -1, body: selfWriting{strings.NewReader(long)}, read: copied, asked: true, tail: "89the end", size: 10_007},
		"closed unread":                      {length: 5, body: body(strings.NewReader("hello")), read: nothing, asked: true, early: true},
		"closed early":                       {length: 5, body: body(strings.NewReader("hello")), read: read(2), asked: true, early: true, tail: "he", size: 2},
		"closed early, of no known length":   {length: -1, body: body(strings.NewReader("hello")), read: read(5), asked: true, early: true, tail: "hello", size: 5},
		"all of it, but the end was not met": {length: 5, body: body(strings.NewReader("hello")), read: read(5), asked: true, tail: "hello", size: 5},
		"no body":                            {length: 0, body: http.NoBody, read: nothing, asked: true},
		"nil body":                           {length: 0, read: nil, asked: true},
		"an answer to HEAD":                  {method: "HEAD", length: 5, body: http.NoBody, read: nothing, asked: true},
		"trailers after no body":             {length: 0, body: body(strings.NewReader("")), read: readAll, asked: true},
		"a failure by its headers":           {status: 503, length: 5, body: body(strings.NewReader("hello")), read: readAll},
		"it breaks":                          {length: 5, body: body(iotest.ErrReader(errReset)), read: func(t *testing.T, resp *http.Response) { resp.Body.Read(make([]byte, 5)) }},
		"another protocol":                   {status: 101, length: -1, body: written{body(strings.NewReader("hello"))}, read: readAll},
	} {
		t.Run(name, func(t *testing.T) {
			for _, verdict := range []policy.Outcome{policy.Undecided, policy.Success, policy.Failure, policy.Ignored, 17} {
				if seeker, ok := c.body.(ioCloser); ok {
					if reader, ok := seeker.Reader.(*strings.Reader); ok {
						reader.Seek(0, io.SeekStart)
					}
				}
				var told []transport.CallEnd
				var seen []policy.Call
				fresh := c.body
				if c.status == 0 {
					c.status = 200
				}
				rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: c.status, ContentLength: c.length, Body: fresh, Header: http.Header{}}, nil
				}), outcomes(&told), transport.WithClassifier(policy.AtEnd(9, func(c *policy.Call) policy.Outcome {
					seen = append(seen, *c)
					return verdict
				})))
				req := requestTo(t, c.method, "http://upstream.test/")
				if c.status == http.StatusSwitchingProtocols {
					req.Header.Set("Connection", "Upgrade")
					req.Header.Set("Upgrade", "echo")
				}
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				if c.body != nil && c.body != http.NoBody {
					require.Empty(t, seen, "it has not ended yet")
				}
				if c.read != nil {
					c.read(t, resp)
					require.NoError(t, resp.Body.Close())
					resp.Body.Read(make([]byte, 1))
					require.NoError(t, resp.Body.Close(), "again")
				}
				require.Len(t, told, 1)
				if !c.asked {
					require.Empty(t, seen)
					return
				}
				require.Len(t, seen, 1)
				require.True(t, seen[0].AtEnd)
				require.False(t, seen[0].InBody)
				require.Equal(t, c.early, seen[0].ClosedEarly)
				require.Equal(t, c.tail, string(seen[0].Tail))
				require.Equal(t, c.size, seen[0].Size)
				want := verdict
				if want != policy.Failure && want != policy.Ignored {
					want = policy.Success
				}
				require.Equal(t, want, told[0].Outcome)
				if _, ok := c.body.(ioCloser); !ok || c.length < 0 && c.size > 5 || strings.Contains(name, "data with") {
					return // these can be read once only
				}
			}
		})
	}
}

func TestWhatIsAskedAtTheEnd(t *testing.T) {
	asked := 0
	guilty := func(tail int) policy.Classifier {
		return policy.AtEnd(tail, func(*policy.Call) policy.Outcome { asked++; return policy.Failure })
	}
	innocent := policy.AtEnd(0, func(*policy.Call) policy.Outcome { asked++; return policy.Success })
	onlyFirst := policy.OnBody(2, func(*http.Response, []byte) policy.Outcome { return policy.Success })
	slow := policy.OnSlow(time.Hour)
	var tails []int
	look := policy.Classifier(func(c *policy.Call) policy.Outcome {
		if c.AtEnd {
			tails = append(tails, len(c.Tail))
		}
		return policy.Undecided
	})
	for name, c := range map[string]struct {
		classifiers []policy.Classifier
		outcome     policy.Outcome
		asked       int
		tails       []int
	}{
		"nobody":                                {[]policy.Classifier{slow, look}, policy.Success, 0, nil},
		"one":                                   {[]policy.Classifier{slow, guilty(0), look}, policy.Failure, 1, nil},
		"who goes before decides, then also":    {[]policy.Classifier{policy.OnStatus(policy.Success, 200), guilty(0)}, policy.Success, 0, nil},
		"who goes after decided, and is undone": {[]policy.Classifier{guilty(0), policy.OnStatus(policy.Success, 200)}, policy.Failure, 1, nil},
		"who goes after says it is ignored":     {[]policy.Classifier{guilty(0), policy.OnStatus(policy.Ignored, 200)}, policy.Ignored, 0, nil},
		"the first of two":                      {[]policy.Classifier{innocent, guilty(0)}, policy.Success, 1, nil},
		"the longest view of two":               {[]policy.Classifier{look, guilty(3), guilty(2)}, policy.Failure, 1, []int{3}},
		"and OnBody":                            {[]policy.Classifier{onlyFirst, guilty(0)}, policy.Success, 0, nil},
		"OnBody is not asked at the end":        {[]policy.Classifier{guilty(0), onlyFirst}, policy.Failure, 1, nil},
		"within First":                          {[]policy.Classifier{policy.FirstOf(slow, policy.FirstOf(guilty(0)))}, policy.Failure, 1, nil},
		"by hand": {[]policy.Classifier{func(c *policy.Call) policy.Outcome {
			if c.AtEnd && string(c.Tail) == "lo" {
				return policy.Ignored
			}
			c.AskAtEnd(2)
			return policy.Success
		}}, policy.Ignored, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			asked, tails = 0, nil
			var told []transport.CallEnd
			rt := transport.New(answer(200, "hello"), outcomes(&told), transport.WithClassifier(c.classifiers...))
			resp, err := rt.RoundTrip(requestTo(t, "GET", "http://upstream.test/"))
			require.NoError(t, err)
			got, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, "hello", string(got))
			require.NoError(t, resp.Body.Close())
			require.Len(t, told, 1)
			require.Equal(t, c.outcome, told[0].Outcome)
			require.Equal(t, c.asked, asked)
			require.Equal(t, c.tails, tails)
		})
	}
}

// answersSlowly is a base whose bodies end when their test says so.
func answersSlowly(ends <-chan bool) base {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: ioCloser{waiting{ends}}}, nil
	}
}

type waiting struct{ ends <-chan bool }

func (w waiting) Read([]byte) (int, error) { <-w.ends; return 0, io.EOF }

func TestAProbeIsJudgedByItsEndIfThatComesSoonAndByItsHeadersOtherwise(t *testing.T) {
	for name, c := range map[string]struct {
		after  time.Duration
		before policy.State
	}{
		"soon": {900 * time.Millisecond, policy.HalfOpen},
		// By then the headers have closed it, and the end opens it as one more failure, since one is enough here.
		"late":        {1100 * time.Millisecond, policy.Closed},
		"hours later": {3 * time.Hour, policy.Closed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := make(chan bool)
				rt := transport.New(answersSlowly(ends), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Second}),
					transport.WithClassifier(policy.AtEnd(0, says(policy.Failure))))
				req := requestTo(t, "GET", "http://upstream.test/")
				rt.SetState(here, policy.Open)
				time.Sleep(2 * time.Second)
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				require.False(t, transport.Refused(resp))
				time.Sleep(c.after)
				next, err := rt.RoundTrip(req) // it is now that the circuit looks at its leases
				require.NoError(t, err)
				require.Equal(t, c.before == policy.HalfOpen, transport.Refused(next))
				require.Equal(t, c.before, stateOf(rt, req))
				close(ends)
				io.ReadAll(resp.Body)
				require.Equal(t, policy.Open, stateOf(rt, req))
				io.ReadAll(next.Body)
			})
		})
	}
}

func TestAProbeThatEndsWellClosesTheCircuitAtItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan bool)
		rt := transport.New(answersSlowly(ends), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Second}),
			transport.WithClassifier(policy.AtEnd(0, says(policy.Success))))
		req := requestTo(t, "GET", "http://upstream.test/")
		rt.SetState(transport.Upstream(req), policy.Open)
		time.Sleep(2 * time.Second)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		require.Equal(t, policy.HalfOpen, stateOf(rt, req))
		close(ends)
		io.ReadAll(resp.Body)
		require.Equal(t, policy.Closed, stateOf(rt, req))
	})
}

func stateOf(rt *transport.Transport, req *http.Request) policy.State {
	c, _ := rt.Circuit(transport.Upstream(req))
	return c.State
}

func TestACallerWhoGivesUpWaitingSaysNothingAtTheEndEither(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := make(chan bool)
		var told []transport.CallEnd
		rt := transport.New(answersSlowly(ends), outcomes(&told), transport.WithClassifier(policy.AtEnd(0, says(policy.Failure))))
		resp, err := rt.RoundTrip(requestTo(t, "GET", "http://upstream.test/"))
		require.NoError(t, err)
		go io.ReadAll(resp.Body)
		time.Sleep(10 * time.Second)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, policy.Ignored, told[0].Outcome)
		require.Equal(t, policy.KindCanceled, told[0].Cause.Kind)
		close(ends)
	})
}

func TestAJudgeThatPanicsAtTheEndLosesNoPermit(t *testing.T) {
	for name, resp := range map[string]*http.Response{
		"of a body": {StatusCode: 200, ContentLength: -1, Body: ioCloser{strings.NewReader("hello")}},
		"of none":   {StatusCode: 200, Body: http.NoBody},
	} {
		t.Run(name, func(t *testing.T) {
			var told []transport.CallEnd
			rt := transport.New(base(func(*http.Request) (*http.Response, error) { return resp, nil }), outcomes(&told),
				transport.WithPolicy(policy.Classic{OpenFor: time.Nanosecond}),
				transport.WithClassifier(policy.AtEnd(0, func(*policy.Call) policy.Outcome { panic("judge") })))
			req := requestTo(t, "GET", "http://upstream.test/")
			rt.SetState(transport.Upstream(req), policy.Open)
			require.PanicsWithValue(t, "judge", func() {
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				io.ReadAll(resp.Body)
			})
			require.Len(t, told, 1)
			require.Equal(t, policy.Ignored, told[0].Outcome)
			require.Equal(t, policy.KindPanic, told[0].Cause.Kind)
			c, _ := rt.Circuit(transport.Upstream(req))
			require.Zero(t, c.InFlight)
		})
	}
}

func TestAHealthCheckIsJudgedAtItsEnd(t *testing.T) {
	verdict := policy.Failure
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != "/health" {
			return answer(200, "hello").RoundTrip(req)
		}
		return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: ioCloser{strings.NewReader("sick")}}, nil
	}), transport.WithPolicy(policy.Classic{OpenFor: time.Nanosecond, Probes: 1}),
		transport.WithHealthCheck(func(k transport.Key) *http.Request {
			return requestTo(t, "GET", "http://upstream.test/health")
		}),
		transport.WithClassifier(policy.AtEnd(4, func(c *policy.Call) policy.Outcome {
			if string(c.Tail) == "sick" {
				return verdict
			}
			return policy.Undecided
		})))
	req := requestTo(t, "GET", "http://upstream.test/")
	rt.SetState(transport.Upstream(req), policy.Open)
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	require.True(t, transport.Refused(resp))
	verdict = policy.Success
	resp, err = rt.RoundTrip(req)
	require.NoError(t, err)
	require.False(t, transport.Refused(resp))
}

// TestABodyMayBeClosedWhileItsTrailersCome is for the race detector.
func TestABodyMayBeClosedWhileItsTrailersCome(t *testing.T) {
	closing, reading, read := make(chan bool), make(chan bool), make(chan bool)
	resp := &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}}
	resp.Body = ioCloser{readerFunc(func(p []byte) (int, error) {
		close(reading)
		<-closing
		resp.Trailer = http.Header{"Verdict": {"guilty"}} // as net/http does before it returns io.EOF
		return copy(p, "hello"), io.EOF
	})}
	answers := []*http.Response{{StatusCode: 500}, resp} // after a failure the circuit takes notice of headers
	asked := false
	rt := transport.New(base(func(*http.Request) (*http.Response, error) {
		next := answers[0]
		answers = answers[1:]
		return next, nil
	}), transport.WithClassifier(policy.AtEnd(8, func(c *policy.Call) policy.Outcome {
		asked = true
		close(closing)
		require.True(t, c.ClosedEarly)
		require.Empty(t, c.Response.Trailer.Get("Verdict"))
		require.NotContains(t, string(c.Tail), "hello")
		return policy.Undecided
	})))
	req := requestTo(t, "GET", "http://upstream.test/")
	_, err := rt.RoundTrip(req)
	require.NoError(t, err)
	got, err := rt.RoundTrip(req)
	require.NoError(t, err)
	go func() {
		got.Body.Read(make([]byte, 8))
		close(read)
	}()
	<-reading
	require.NoError(t, got.Body.Close())
	require.True(t, asked)
	<-read
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestABodyMayBeClosedWhileItIsRead is for the race detector, too.
func TestABodyMayBeClosedWhileItIsRead(t *testing.T) {
	var reads atomic.Int64
	var stop atomic.Bool
	resp := &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: ioCloser{zeros{}}}
	answers := []*http.Response{{StatusCode: 500}, resp}
	rt := transport.New(base(func(*http.Request) (*http.Response, error) {
		next := answers[0]
		answers = answers[1:]
		return next, nil
	}), transport.WithClassifier(policy.AtEnd(8, func(c *policy.Call) policy.Outcome {
		for before := reads.Load(); reads.Load() < before+100; {
			for _, b := range c.Tail {
				require.Zero(t, b)
			}
		}
		return policy.Undecided
	})))
	req := requestTo(t, "GET", "http://upstream.test/")
	_, err := rt.RoundTrip(req)
	require.NoError(t, err)
	got, err := rt.RoundTrip(req)
	require.NoError(t, err)
	over, started := make(chan bool), make(chan bool)
	go func() {
		defer close(over)
		for !stop.Load() {
			got.Body.Read(make([]byte, 3))
			if reads.Add(1) == 10 {
				close(started)
			}
		}
	}()
	<-started
	require.NoError(t, got.Body.Close())
	stop.Store(true)
	<-over
}

func TestAViewOfTheEndTakesMemoryForTheBytesThatAreThere(t *testing.T) {
	const tail, times = 1 << 20, 50
	rt := transport.New(answer(200, "eleven byte"), transport.WithClassifier(policy.AtEnd(tail, says(policy.Undecided))))
	req := requestTo(t, "GET", "http://upstream.test/")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		io.ReadAll(resp.Body)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/times, uint64(8<<10))
}

func TestAViewOfTheEndIsBoundedHoweverLongTheBody(t *testing.T) {
	const tail = 1 << 10
	endless := io.LimitReader(zeros{}, 64<<20)
	var size int64
	rt := transport.New(base(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, ContentLength: -1, Header: http.Header{}, Body: ioCloser{endless}}, nil
	}), transport.WithClassifier(policy.AtEnd(tail, func(c *policy.Call) policy.Outcome {
		size = c.Size
		return policy.Undecided
	})))
	resp, err := rt.RoundTrip(requestTo(t, "GET", "http://upstream.test/"))
	require.NoError(t, err)
	var before, after runtime.MemStats
	buffer := make([]byte, 700) // which divides nothing
	runtime.ReadMemStats(&before)
	for err == nil {
		_, err = resp.Body.Read(buffer)
	}
	runtime.ReadMemStats(&after)
	require.Equal(t, io.EOF, err)
	require.EqualValues(t, 64<<20, size)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<10))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
