package fusebox_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// pipes is a listener whose connections are in memory, so that time can be virtual for both ends.
type pipes struct {
	conns chan net.Conn
	over  context.Context
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.over.Done():
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p pipes) DialContext(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours, nil
}

// What http.Client.Timeout cuts off is a watch, or a log that is followed, that had all the time it was given, if its events were
// coming; and an upstream that does not answer, if they were not.
func TestWatchesUnderTheTimeoutOfHTTPClient(t *testing.T) {
	const timeout = time.Minute
	try := testkit.OneIn(5)
	for name, c := range map[string]struct {
		gap, until time.Duration // of events, and when the last one comes at the latest
		reader     time.Duration // takes so long for each
		body       bool          // the request has one
		want       policy.Outcome
	}{
		"events come":                    {gap: 3 * time.Second, until: time.Hour, want: policy.Ignored},
		"events come, of a POST":         {gap: 3 * time.Second, until: time.Hour, body: true, want: policy.Ignored},
		"events come to a slow reader":   {gap: 100 * time.Millisecond, until: time.Hour, reader: 2 * time.Second, want: policy.Ignored},
		"events came until a moment ago": {gap: 3 * time.Second, until: 59 * time.Second, want: policy.Ignored},
		"events are rare":                {gap: 25 * time.Second, until: time.Hour, want: policy.Ignored},
		"events stopped long ago":        {gap: 3 * time.Second, until: 20 * time.Second, want: policy.Failure},
		"events stopped, of a POST":      {gap: 3 * time.Second, until: 20 * time.Second, body: true, want: policy.Failure},
		"nothing came but the first":     {gap: time.Hour, until: time.Hour, want: policy.Failure},
		"headers do not come":            {gap: 0, want: policy.Failure},
		"headers do not come to a POST":  {gap: 0, body: true, want: policy.Failure},
		"a flood that stopped":           {gap: 10 * time.Millisecond, until: timeout / 2, want: policy.Failure},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			if !try() {
				continue
			}
			t.Run(name+", "+protocol, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					over, end := context.WithCancel(t.Context())
					line := pipes{make(chan net.Conn), over}
					protocols := new(http.Protocols)
					protocols.SetHTTP1(protocol == "HTTP/1.1")
					protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
					server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						io.Copy(io.Discard, r.Body)
						for start := time.Now(); c.gap > 0 && time.Since(start) <= c.until; {
							io.WriteString(w, "data: an event\n\n")
							w.(http.Flusher).Flush()
							select {
							case <-time.After(c.gap):
							case <-r.Context().Done():
								return
							}
						}
						<-r.Context().Done()
					})}
					go server.Serve(line)
					base := &http.Transport{DialContext: line.DialContext, Protocols: protocols}
					defer func() { base.CloseIdleConnections(); end(); server.Close() }()

					ends := make(chan transport.CallEnd, 6)
					rt := transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ends <- e }}))
					client := &http.Client{Timeout: timeout, Transport: rt}
					var calls sync.WaitGroup
					for range cap(ends) {
						calls.Go(func() {
							method, body := http.MethodGet, io.Reader(nil)
							if c.body {
								method, body = http.MethodPost, io.MultiReader(http.NoBody) // of a kind that is copied
							}
							req, err := http.NewRequest(method, "http://upstream.test", body)
							require.NoError(t, err)
							start := time.Now()
							resp, err := client.Do(req)
							if err == nil {
								require.Equal(t, protocol, resp.Proto)
								for event := make([]byte, len("data: an event\n\n")); err == nil; time.Sleep(c.reader) {
									_, err = io.ReadFull(resp.Body, event)
								}
								resp.Body.Close()
							}
							require.ErrorIs(t, err, context.DeadlineExceeded)
							require.GreaterOrEqual(t, time.Since(start), timeout)
						})
					}
					calls.Wait()
					close(ends)
					for e := range ends {
						require.Equal(t, c.want, e.Outcome, "%v", e.Cause)
					}
					require.Equal(t, c.want == policy.Failure, rt.Circuits()[0].State == policy.Open)
				})
			})
		}
	}
}
