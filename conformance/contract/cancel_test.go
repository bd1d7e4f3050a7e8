package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/bubble"
)

// stages are where a call can be when its caller gives up.
var stages = map[string]struct {
	serve http.HandlerFunc
	dial  func(context.Context, string, string) (net.Conn, error)
	body  bool // the request has one that does not end
}{
	"in the dial": {dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}},
	"before the headers": {serve: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
	"in the body": {serve: func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "part")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}},
	"in the request's body": {serve: func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }, body: true},
}

// gives are the ways in which a caller gives up, after a second unless it is at once.
var gives = map[string]func(*http.Client) (context.Context, context.CancelFunc){
	"deadline": func(*http.Client) (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), time.Second)
	},
	"deadline with a cause": func(*http.Client) (context.Context, context.CancelFunc) {
		return context.WithTimeoutCause(context.Background(), time.Second, errBroken)
	},
	"cancel": func(*http.Client) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		return ctx, cancel
	},
	"cancel with a cause": func(*http.Client) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Second, func() { cancel(errBroken) })
		return ctx, func() { cancel(nil) }
	},
	"canceled before": func(*http.Client) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx, cancel
	},
	"deadline before": func(*http.Client) (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), -time.Second)
	},
	"Client.Timeout": func(client *http.Client) (context.Context, context.CancelFunc) {
		client.Timeout = time.Second
		return context.Background(), func() {}
	},
	"Client.Timeout before a deadline": func(client *http.Client) (context.Context, context.CancelFunc) {
		client.Timeout = time.Second
		return context.WithTimeout(context.Background(), 2*time.Second)
	},
	"a deadline before Client.Timeout": func(client *http.Client) (context.Context, context.CancelFunc) {
		client.Timeout = 2 * time.Second
		return context.WithTimeout(context.Background(), time.Second)
	},
}

// trickle is a body that does not end. It comes a byte at a time, since http.Transport waits for a Read under way.
type trickle struct{}

func (trickle) Read(p []byte) (int, error) {
	time.Sleep(300 * time.Millisecond)
	p[0] = '.'
	return 1, nil
}

// gaveUp is what a caller that gives up sees.
type gaveUp struct {
	text                string // and types
	canceled, tooLate   bool
	timeout, urlTimeout bool
	after               time.Duration
	inBody              bool
	requestBodyCloses   int32
}

func giveUp(t *testing.T, speak *http.Protocols, stage, give string, w wrapper) (saw gaveUp) {
	s := stages[stage]
	bubble.Serve(t, speak, s.serve, func(t *testing.T, base *http.Transport) {
		if s.dial != nil {
			base.DialContext = s.dial
		}
		client := &http.Client{Transport: w.wrap(base)}
		ctx, cancel := gives[give](client)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://upstream.test/", nil)
		require.NoError(t, err)
		body := new(counted)
		if s.body {
			body.Reader, req.Body = trickle{}, body
		}
		began := time.Now()
		resp, err := client.Do(req)
		if saw.inBody = err == nil; saw.inBody {
			_, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		var urlError *url.Error
		var timeout net.Error
		saw.text, saw.after = describe(err), time.Since(began)
		saw.canceled, saw.tooLate = errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded)
		saw.timeout = errors.As(err, &timeout) && timeout.Timeout()
		saw.urlTimeout = errors.As(err, &urlError) && urlError.Timeout()
		base.CloseIdleConnections()
		time.Sleep(time.Second) // for the last byte of a trickle
		synctest.Wait()
		saw.requestBodyCloses = body.closes.Load()
	})
	return saw
}

func TestACallerThatGivesUpSeesTheSameAtEveryStage(t *testing.T) {
	noLeaks(t)
	for protocol, speak := range both {
		for stage, s := range stages {
			for give := range gives {
				t.Run(fmt.Sprint(protocol, "/", stage, "/", give), func(t *testing.T) {
					// A RoundTripper that is not net/http's own is told of Client.Timeout in two ways at once, the context and
					// Request.Cancel, and the text of the error is that of the first.
					byClient := strings.Contains(give, "Client.Timeout")
					base := bare
					if byClient {
						base = function
					}
					want := giveUp(t, speak, stage, give, base)
					require.NotEqual(t, "none", want.text)
					if !strings.Contains(give, "cause") {
						require.NotEqual(t, want.canceled, want.tooLate, "%+v", want)
						require.Equal(t, want.tooLate, want.timeout)
					}
					if s.body {
						require.EqualValues(t, 1, want.requestBodyCloses)
					}
					for _, w := range wrappers {
						got := giveUp(t, speak, stage, give, w)
						if byClient {
							require.Regexp(t, "context deadline exceeded|request canceled|Client.Timeout", got.text)
							got.text = want.text
						}
						require.Equal(t, want, got, w.name)
					}
				})
			}
		}
	}
}

// function is a RoundTripper that http.Client does not know, and does nothing.
var function = wrapper{"function", func(base http.RoundTripper) http.RoundTripper { return roundTripper(base.RoundTrip) }}
