package fusebox_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestBlameGoesWhereItBelongs makes real calls that end in all ways that look alike and are not.
func TestBlameGoesWhereItBelongs(t *testing.T) {
	hold := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-hold
		case "/hang-in-body":
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "some of it")
			w.(http.Flusher).Flush()
			<-hold
		default:
			io.Copy(io.Discard, r.Body)
		}
	}))
	defer server.Close()
	defer close(hold)
	errDisk := errors.New("the caller's disk is gone")
	timeout := func(phase policy.Phase, whose policy.Deadline, status int) policy.Cause {
		return policy.Cause{Phase: phase, Kind: policy.KindTimeout, Deadline: whose, Status: status}
	}
	const soon, later = 30 * time.Millisecond, time.Minute
	cases := []struct {
		name            string
		path            string
		body            io.Reader
		context, client time.Duration // deadlines
		headers         time.Duration // the base's deadline
		cancel          bool
		want            policy.Outcome
		cause           policy.Cause
	}{
		{name: "caller's deadline", path: "/hang", context: soon, want: policy.Failure, cause: timeout(policy.PhaseHeaders, policy.DeadlineCaller, 0)},
		{name: "caller's before the client's", path: "/hang", context: soon, client: later, want: policy.Failure, cause: timeout(policy.PhaseHeaders, policy.DeadlineNone, 0)},
		{name: "client's", path: "/hang", client: soon, want: policy.Failure, cause: timeout(policy.PhaseHeaders, policy.DeadlineClient, 0)},
		{name: "client's before the caller's", path: "/hang", context: later, client: soon, want: policy.Failure, cause: timeout(policy.PhaseHeaders, policy.DeadlineClient, 0)},
		{name: "the base's", path: "/hang", headers: soon, want: policy.Failure, cause: timeout(policy.PhaseHeaders, policy.DeadlineTransport, 0)},
		{name: "caller's in the body", path: "/hang-in-body", context: soon, want: policy.Failure, cause: timeout(policy.PhaseBody, policy.DeadlineCaller, 200)},
		{name: "client's in the body", path: "/hang-in-body", client: soon, want: policy.Failure, cause: timeout(policy.PhaseBody, policy.DeadlineClient, 200)},
		{name: "cancel", path: "/hang", cancel: true, want: policy.Ignored, cause: policy.Cause{Kind: policy.KindCanceled}},
		{name: "cancel under a client's deadline", path: "/hang", client: later, cancel: true, want: policy.Ignored, cause: policy.Cause{Kind: policy.KindCanceled}},
		{name: "cancel in the body", path: "/hang-in-body", cancel: true, want: policy.Ignored, cause: policy.Cause{Phase: policy.PhaseBody, Kind: policy.KindCanceled, Status: 200}},
		{name: "body that fails to read", path: "/", body: failingReader{errDisk}, want: policy.Ignored, cause: policy.Cause{Kind: policy.KindBadRequest}},
		{name: "body that ends too early", path: "/", body: failingReader{io.ErrUnexpectedEOF}, want: policy.Ignored, cause: policy.Cause{Kind: policy.KindBadRequest}},
		{name: "nothing wrong", path: "/", body: io.MultiReader(strings.NewReader("payload")), context: later, client: later, want: policy.Success, cause: policy.Cause{Status: 200}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			base := &http.Transport{ResponseHeaderTimeout: c.headers}
			defer base.CloseIdleConnections()
			call := func() transport.CallEnd {
				ended := make(chan transport.CallEnd, 1)
				client := &http.Client{Timeout: c.client, Transport: transport.New(base,
					transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ended <- e }}))}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.context > 0 {
					ctx, cancel = context.WithTimeout(ctx, c.context)
					defer cancel()
				}
				if c.cancel {
					time.AfterFunc(soon, cancel)
				}
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+c.path, c.body)
				require.NoError(t, err)
				resp, err := client.Do(req)
				if err == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				return <-ended
			}
			got := call()
			// http.Client tells by a goroutine of its own that it was its Timeout, which can be late.
			for try := 0; c.cause.Deadline == policy.DeadlineClient && got.Cause.Deadline == policy.DeadlineNone && try < 30; try++ {
				got = call()
			}
			require.Equal(t, c.want, got.Outcome)
			require.Equal(t, c.cause, got.Cause)
		})
	}
}
