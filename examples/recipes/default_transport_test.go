package recipes

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/transport"
)

func TestDefaultTransport(t *testing.T) {
	server := newTextUpstream(t)
	original := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = original })

	// recipe: default-transport
	breaker := transport.New(http.DefaultTransport) // what it is now; replacing it later does not change the base
	http.DefaultTransport = breaker
	// end

	untilRefused(t, breaker, server, func() bool {
		resp, err := http.Get(server.URL) // http.DefaultClient
		require.NoError(t, err)
		return refusedResponse(t, "default-transport", resp)
	})
}

func TestDefaultTransportTuned(t *testing.T) {
	server := newTextUpstream(t)
	original := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = original })

	// recipe: default-transport-tuned
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 100
	breaker := transport.New(base)
	http.DefaultTransport = breaker
	// end

	untilRefused(t, breaker, server, func() bool {
		resp, err := new(http.Client).Get(server.URL) // a nil Transport is http.DefaultTransport
		require.NoError(t, err)
		return refusedResponse(t, "", resp)
	})
}

// What the page warns of.
func TestBaseThatLooksUpDefaultTransportComesBackToTheBreaker(t *testing.T) {
	original := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = original })

	depth := 0
	http.DefaultTransport = transport.New(roundTrip(func(req *http.Request) (*http.Response, error) {
		if depth++; depth == 10 {
			return nil, io.ErrUnexpectedEOF
		}
		return http.DefaultTransport.RoundTrip(req)
	}))
	_, err := http.Get("http://upstream.test/")
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, 10, depth)
	_, ok := http.DefaultTransport.(*http.Transport)
	require.False(t, ok)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// refusedResponse tells whether a client got a refusal, and compares it with the page; name "" is not in the page.
func refusedResponse(t *testing.T, name string, resp *http.Response) bool {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	if !transport.Refused(resp) {
		return false
	}
	if name != "" {
		sees(t, name, resp.Status+"\nRetry-After: "+resp.Header.Get("Retry-After")+"\n\n"+string(body))
	}
	return true
}
