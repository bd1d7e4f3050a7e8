package contract

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	events  = 60
	between = 10 * time.Second // so that the stream goes on for ten minutes
)

// stream sends events, each with the time at which it was sent, and answers anything else at once.
func stream(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/events" {
		io.WriteString(w, "at once")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.(http.Flusher).Flush()
	for range events {
		time.Sleep(between)
		fmt.Fprintf(w, "data: %d\n\n", time.Now().UnixNano())
		w.(http.Flusher).Flush()
	}
	if r.URL.Query().Has("break") {
		panic(http.ErrAbortHandler)
	}
}

// listen reads all events, and requires that each comes when it is sent.
func listen(t *testing.T, body io.Reader) error {
	lines := bufio.NewReader(body)
	for range events {
		line, err := lines.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("data: %d\n", time.Now().UnixNano()), line, "an event comes when it is sent")
		_, err = lines.ReadString('\n')
		require.NoError(t, err)
	}
	_, err := lines.ReadByte()
	return err
}

func TestEventsComeOneByOneForMinutes(t *testing.T) {
	noLeaks(t)
	for protocol, speak := range both {
		for _, w := range append(wrappers, bare) {
			t.Run(protocol+"/"+w.name, func(t *testing.T) {
				bubble.Serve(t, speak, stream, func(t *testing.T, base *http.Transport) {
					began := time.Now()
					resp, err := w.wrap(base).RoundTrip(newRequest(t, http.MethodGet, "http://upstream.test/events"))
					require.NoError(t, err)
					require.Zero(t, time.Since(began), "the headers come before the first event")
					require.Equal(t, io.EOF, listen(t, resp.Body))
					require.Equal(t, events*between, time.Since(began))
					require.NoError(t, resp.Body.Close())
				})
			})
		}
	}
}

func TestAStreamDoesNotHoldAProbeForGood(t *testing.T) {
	noLeaks(t)
	for name, p := range map[string]policy.Policy{"Adaptive": policy.Adaptive{}, "Classic": policy.Classic{}} {
		for _, from := range []policy.State{policy.Open, policy.HalfOpen} {
			for _, breaks := range []bool{false, true} {
				for protocol, speak := range both {
					t.Run(fmt.Sprint(name, "/", from, "/", breaks, "/", protocol), func(t *testing.T) {
						bubble.Serve(t, speak, stream, func(t *testing.T, base *http.Transport) {
							rt := transport.New(base, transport.WithPolicy(p), oneCircuit)
							rt.SetState(transport.Key{}, from)
							ask := func(path string) *http.Response {
								resp, err := rt.RoundTrip(newRequest(t, http.MethodGet, "http://upstream.test"+path))
								require.NoError(t, err)
								return resp
							}
							if from == policy.Open {
								time.Sleep(time.Minute) // the probe is due
							}
							path := "/events"
							if breaks {
								path += "?break"
							}
							resp := ask(path)
							require.False(t, transport.Refused(resp))
							time.Sleep(time.Second) // the headers settle the probe, when the next request comes
							for range 10 {
								well := ask("/")
								require.False(t, transport.Refused(well), "while the stream goes on")
								io.Copy(io.Discard, well.Body)
								well.Body.Close()
							}
							require.Equal(t, policy.Closed, circuitOf(t, rt).State)
							if err := listen(t, resp.Body); breaks {
								require.Error(t, err)
								require.NotEqual(t, io.EOF, err)
								require.EqualValues(t, 1, circuitOf(t, rt).FailedCalls, "that it breaks is a failure, minutes later")
							} else {
								require.Equal(t, io.EOF, err)
								require.Zero(t, circuitOf(t, rt).FailedCalls)
							}
							resp.Body.Close()
						})
					})
				}
			}
		}
	}
}
