package recipes

import (
	"io"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/elastic/elastic-transport-go/v8/elastictransport"
	"github.com/elastic/go-elasticsearch/v9"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

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

// What the page warns of: who clones the default transport, and who has connections of its own.
func TestNotAllLibrariesGoByDefaultTransport(t *testing.T) {
	server := newTextUpstream(t)
	original := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = original })
	calls := 0
	breaker := transport.New(original, transport.WithObserver(transport.Observer{OnCall: func(transport.CallStart) { calls++ }}))
	t.Cleanup(breaker.CloseIdleConnections)
	http.DefaultTransport = breaker

	_, err := elasticsearch.New(elasticsearch.WithAddresses(server.URL))
	require.ErrorContains(t, err, "cannot clone http.DefaultTransport")
	_, err = elasticsearch.New(elasticsearch.WithAddresses(server.URL), elasticsearch.WithTransportOptions(elastictransport.WithTransport(breaker)))
	require.NoError(t, err)

	encrypted, err := rest.HTTPClientFor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	require.NoError(t, err)
	for name, client := range map[string]interface {
		Do(*http.Request) (*http.Response, error)
	}{
		"net/http": new(http.Client), "AWS": awshttp.NewBuildableClient(), "go-retryablehttp": retryablehttp.NewClient().StandardClient(),
		"client-go with TLS": encrypted, "azcore": azure{},
	} {
		req, err := http.NewRequest(http.MethodGet, server.URL, nil)
		require.NoError(t, err)
		calls = 0
		resp, err := client.Do(req)
		require.NoError(t, err, name)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, name == "net/http", calls > 0, name)
	}
}

// azure is azcore's client without settings.
type azure struct{}

func (azure) Do(r *http.Request) (*http.Response, error) {
	req, err := runtime.NewRequest(r.Context(), r.Method, r.URL.String())
	if err != nil {
		return nil, err
	}
	return runtime.NewPipeline("recipes", "v1.0.0", runtime.PipelineOptions{}, nil).Do(req)
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
