package transport_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// closing is a base that sends the request's body and finds its connection closed, as net/http does that has closed it itself.
type closing struct{}

func (closing) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	return nil, &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}
}

func TestABodyOfAnotherLengthThanItSaysIsItsCallersFault(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"bytes":          func() io.Reader { return bytes.NewReader([]byte("payload")) },
		"a string":       func() io.Reader { return strings.NewReader("payload") },
		"a buffer":       func() io.Reader { return bytes.NewBufferString("payload") },
		"a stream":       func() io.Reader { return io.MultiReader(strings.NewReader("payload")) },
		"one in another": func() io.Reader { return io.NopCloser(io.NopCloser(strings.NewReader("payload"))) },
	} {
		for _, length := range []int64{-1, 0, 1, 6, 7, 8, 100} {
			var end transport.CallEnd
			rt := transport.New(closing{}, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { end = e }}))
			req, err := http.NewRequest(http.MethodPost, "http://upstream.example/", body())
			require.NoError(t, err)
			req.ContentLength = length
			_, err = rt.RoundTrip(req)
			require.ErrorIs(t, err, net.ErrClosed)
			want := policy.Failure
			if length > 0 && length != 7 {
				want = policy.Ignored
			}
			require.Equal(t, want, end.Outcome, "%s, %d", name, length)
		}
	}
}
