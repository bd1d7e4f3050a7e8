package recipes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fuseboxtest"
	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// recipe: idle-timeout
// idleTimeout ends a response of which no bytes come for so long while somebody reads it.
type idleTimeout struct {
	base  http.RoundTripper
	after time.Duration
}

var errIdle = fmt.Errorf("no bytes of the body came in time: %w", os.ErrDeadlineExceeded)

func (i idleTimeout) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	body := &idleBody{ctx: ctx, cancel: cancel, after: i.after}
	resp, err := i.base.RoundTrip(req.WithContext(ctx))
	switch {
	case err != nil:
		cancel(nil)
	case resp.StatusCode != http.StatusSwitchingProtocols: // an upgraded connection is the caller's
		body.ReadCloser, resp.Body, resp.Request = resp.Body, body, req
	}
	return resp, err
}

// WrappedRoundTripper lets Fusebox close idle connections.
func (i idleTimeout) WrappedRoundTripper() http.RoundTripper { return i.base }

type idleBody struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	after  time.Duration
}

func (b *idleBody) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.after, func() { b.cancel(errIdle) }) // a reader who takes his time is nobody's failure
	n, err := b.ReadCloser.Read(p)
	timer.Stop()
	if err != nil && err != io.EOF && context.Cause(b.ctx) == errIdle {
		err = errIdle
	}
	return n, err
}

func (b *idleBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}

// end

func streaming(base *http.Transport) (*transport.Transport, *http.Client) {
	// recipe: streams
	limits := map[string]policy.Limits{ // by route; until the headers are there, and with TimeoutBody until all is
		"GET /events":       {Timeout: 10 * time.Second},
		"GET /files/{name}": {Timeout: 10 * time.Second},
		"GET /poll":         {Timeout: 75 * time.Second, TimeoutBody: true}, // answered after a minute if there is no news
		"":                  {Timeout: 10 * time.Second, TimeoutBody: true}, // all others, as by http.Client.Timeout
	}
	breaker := transport.New(idleTimeout{base, 45 * time.Second}, // of all bodies; the events have a comment every 15 s
		transport.WithKey(transport.PerRoute("GET /events", "GET /files/{name}", "GET /poll")),
		transport.WithSettingsFor(func(k transport.Key) transport.Settings {
			return transport.Settings{Policy: policy.Adaptive{Limits: limits[k.Detail]}}
		}),
	)
	client := &http.Client{Transport: breaker} // and no Timeout
	// end
	return breaker, client
}

const streams = "http://upstream.test"

func route(pattern string) transport.Key {
	return transport.Key{Scheme: "http", Host: "upstream.test", Detail: pattern}
}

// sends writes what says and flushes it, after each of the gaps but the first, until all is sent or the client is gone.
func sends(w http.ResponseWriter, r *http.Request, says string, gap time.Duration, times int) {
	for i := range times {
		if i > 0 {
			select {
			case <-time.After(gap):
			case <-r.Context().Done():
				return
			}
		}
		io.WriteString(w, says)
		w.(http.Flusher).Flush()
	}
}

var protocols = map[string]*http.Protocols{"HTTP/1.1": nil, "HTTP/2.0": func() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}()}

func TestAnEventStreamLivesForLongerThanAnyTimeout(t *testing.T) {
	const day = 24 * time.Hour
	for protocol, speak := range protocols {
		t.Run(protocol, func(t *testing.T) {
			bubble.Serve(t, speak, func(w http.ResponseWriter, r *http.Request) {
				sends(w, r, ": I am here\n", 15*time.Second, int(day/(15*time.Second))+1)
			}, func(t *testing.T, base *http.Transport) {
				breaker, client := streaming(base)
				start := time.Now()
				resp, err := client.Get(streams + "/events")
				require.NoError(t, err)
				require.Equal(t, protocol, resp.Proto)
				lines := 0
				for events := bufio.NewScanner(resp.Body); events.Scan(); lines++ {
				}
				require.NoError(t, resp.Body.Close())
				require.Equal(t, day, time.Since(start))
				require.Equal(t, 4*60*24+1, lines)

				client.Timeout = 40 * time.Second // what the page warns of
				resp, err = client.Get(streams + "/events")
				require.NoError(t, err)
				_, err = io.ReadAll(resp.Body)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				resp.Body.Close()
				require.Equal(t, day+40*time.Second, time.Since(start))

				c, _ := breaker.Circuit(route("GET /events"))
				require.Zero(t, c.FailedCalls, "%v", c.Cause)
			})
		})
	}
}

func TestADownloadIsCutWhenNothingComes(t *testing.T) {
	for protocol, speak := range protocols {
		t.Run(protocol, func(t *testing.T) {
			bubble.Serve(t, speak, func(w http.ResponseWriter, r *http.Request) {
				switch path.Base(r.URL.Path) {
				case "whole":
					sends(w, r, "some of it", 40*time.Second, 3) // slow, and it comes
				case "most":
					sends(w, r, "some of it", 40*time.Second, 3)
					<-r.Context().Done()
				default:
					sends(w, r, "some of it", 0, 1)
					<-r.Context().Done()
				}
			}, func(t *testing.T, base *http.Transport) {
				breaker, client := streaming(base)
				download := func(name string, pause time.Duration) (n int, took time.Duration, err error) {
					start := time.Now()
					resp, err := client.Get(streams + "/files/" + name)
					require.NoError(t, err)
					defer resp.Body.Close()
					for piece := make([]byte, 5); err == nil; {
						time.Sleep(pause)
						var read int
						read, err = resp.Body.Read(piece)
						n += read
					}
					return n, time.Since(start), err
				}
				n, took, err := download("whole", 0)
				require.Equal(t, io.EOF, err)
				require.Equal(t, 30, n)
				require.Equal(t, 80*time.Second, took)
				_, _, err = download("whole", 10*time.Minute) // the reader takes his time
				require.Equal(t, io.EOF, err)

				events := fuseboxtest.Record(t, breaker)
				n, took, err = download("most", 0)
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.Equal(t, 30, n, "what came is the caller's")
				require.Equal(t, 125*time.Second, took)
				fuseboxtest.Trip(t, breaker, route("GET /files/{name}"), func() {
					n, took, err = download("little", 0)
					require.ErrorIs(t, err, os.ErrDeadlineExceeded)
					require.Equal(t, 10, n)
					require.Equal(t, 45*time.Second, took)
				})
				for _, end := range events.Outcomes() {
					require.Equal(t, policy.Failure, end.Outcome)
					require.Equal(t, policy.KindTimeout, end.Cause.Kind)
				}
				resp, refused := client.Get(streams + "/files/little")
				events.AssertRefused(resp, refused, route("GET /files/{name}"), policy.RefusedOpen)
				text, _ := io.ReadAll(resp.Body)
				sees(t, "idle-timeout", err.Error()+"\n"+string(text))

				resp, err = client.Get(streams + "/events") // which have a circuit of their own
				require.NoError(t, err)
				require.False(t, transport.Refused(resp))
				resp.Body.Close()
			})
		})
	}
}

func TestLongPollsWaitAndSilentOnesEnd(t *testing.T) {
	for protocol, speak := range protocols {
		t.Run(protocol, func(t *testing.T) {
			var silent bool
			bubble.Serve(t, speak, func(w http.ResponseWriter, r *http.Request) {
				wait := time.After(time.Minute)
				if silent {
					wait = nil
				}
				select {
				case <-wait:
					w.WriteHeader(http.StatusNoContent)
				case <-r.Context().Done():
				}
			}, func(t *testing.T, base *http.Transport) {
				breaker, client := streaming(base)
				var polls sync.WaitGroup
				for i := range 30 {
					polls.Go(func() {
						time.Sleep(time.Duration(i) * time.Second)
						for range 60 {
							resp, err := client.Get(streams + "/poll")
							if err != nil || resp.StatusCode != http.StatusNoContent {
								t.Errorf("%v, %v", resp, err)
								return
							}
							resp.Body.Close()
						}
					})
				}
				polls.Wait()
				c, _ := breaker.Circuit(route("GET /poll"))
				require.Zero(t, c.FailedCalls+c.IgnoredCalls+c.Refusals)

				silent = true
				fuseboxtest.Trip(t, breaker, route("GET /poll"), func() {
					start := time.Now()
					_, err := client.Get(streams + "/poll")
					var timeout *policy.TimeoutError
					require.ErrorAs(t, err, &timeout)
					require.Equal(t, 75*time.Second, time.Since(start))
				})
			})
		})
	}
}

func TestOtherRoutesEndInTimeAsByTheTimeoutOfTheClient(t *testing.T) {
	for protocol, speak := range protocols {
		t.Run(protocol, func(t *testing.T) {
			bubble.Serve(t, speak, func(w http.ResponseWriter, r *http.Request) {
				sends(w, r, ".", time.Second, 3600)
			}, func(t *testing.T, base *http.Transport) {
				_, client := streaming(base)
				start := time.Now()
				resp, err := client.Get(streams + "/orders")
				require.NoError(t, err)
				_, err = io.ReadAll(resp.Body)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				resp.Body.Close()
				require.Equal(t, 10*time.Second, time.Since(start))
			})
		})
	}
}

type upgraded struct{ io.ReadWriteCloser }

func TestAnIdleTimeoutLeavesUpgradesAndErrorsAlone(t *testing.T) {
	broken := errors.New("broken")
	answers := func(resp *http.Response, err error) idleTimeout {
		return idleTimeout{roundTrip(func(*http.Request) (*http.Response, error) { return resp, err }), time.Second}
	}
	req, err := http.NewRequest(http.MethodGet, streams, nil)
	require.NoError(t, err)
	resp, err := answers(&http.Response{StatusCode: 101, Body: upgraded{}}, nil).RoundTrip(req)
	require.NoError(t, err)
	require.Equal(t, upgraded{}, resp.Body)
	_, err = answers(nil, broken).RoundTrip(req)
	require.Equal(t, broken, err)
}
