package recipes

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tmaxmax/go-sse"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/transport"
)

func eventSource(base http.RoundTripper) (*transport.Transport, *sse.Client) {
	// recipe: event-source
	breaker := transport.New(base, transport.WithRefusalError())
	client := &sse.Client{
		HTTPClient: &http.Client{Transport: breaker}, // and no Timeout
		Backoff:    sse.Backoff{MaxInterval: 30 * time.Second},
	}
	// end
	return breaker, client
}

// The upstream breaks connections for five minutes, by which the circuit opens, and then sends events again.
func TestAnEventSourceComesBackAfterRefusalsByErrorAlone(t *testing.T) {
	for _, byError := range []bool{true, false} {
		server := new(upstream)
		aborts := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		events := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for !server.down.Load() {
				sends(w, r, "data: news\n\n", 0, 1)
				select {
				case <-time.After(5 * time.Second):
				case <-r.Context().Done():
					return
				}
			}
			aborts(w, r)
		}
		bubble.Serve(t, nil, server.serve(events, aborts), func(t *testing.T, base *http.Transport) {
			breaker, client := eventSource(base)
			if !byError {
				breaker = transport.New(base)
				client.HTTPClient.Transport = breaker
			}
			refusals := 0
			breaker.Observe(transport.Observer{OnRefusal: func(transport.RefusalEvent) { refusals++ }})
			ctx, cancel := context.WithCancel(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, streams+"/events", nil)
			require.NoError(t, err)
			connection := client.NewConnection(req)
			var last time.Time
			connection.SubscribeToAll(func(sse.Event) { last = time.Now() })
			ended := make(chan error, 1)
			go func() { ended <- connection.Connect() }()

			time.Sleep(time.Minute)
			require.WithinDuration(t, time.Now(), last, 5*time.Second)
			server.down.Store(true)
			time.Sleep(5 * time.Minute)
			require.NotZero(t, refusals)
			server.down.Store(false)
			time.Sleep(5 * time.Minute)

			if byError {
				require.WithinDuration(t, time.Now(), last, 5*time.Second)
				require.Empty(t, ended)
			} else {
				require.EqualValues(t, 1, refusals, "the first is the end")
				require.ErrorContains(t, <-ended, "received 503 Service Unavailable")
				require.Greater(t, time.Since(last), 9*time.Minute)
				ended <- io.EOF
			}
			cancel()
			require.Error(t, <-ended)
		})
	}
}
