package recipes

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// newPods returns the config of a client of the pods of an API server.
func newPods(server *upstream) *rest.Config {
	return &rest.Config{
		Host: server.URL, BearerToken: "token", APIPath: "/api", QPS: -1,
		ContentConfig: rest.ContentConfig{
			GroupVersion:         &schema.GroupVersion{Version: "v1"},
			NegotiatedSerializer: serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion(),
		},
	}
}

func newAPIServer(t *testing.T) *upstream {
	return newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/pods" || r.Header.Get("Authorization") != "Bearer token" {
			http.Error(w, "not what a list of pods is", http.StatusBadRequest)
			return
		}
		answer(http.StatusOK, "application/json", `{"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []}`)(w, r)
	}, answer(http.StatusServiceUnavailable, "application/json",
		`{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "ServiceUnavailable", "message": "etcd is down", "code": 503}`))
}

func TestKubernetes(t *testing.T) {
	server := newAPIServer(t)
	config := newPods(server)

	// recipe: kubernetes
	config.Wrap(func(base http.RoundTripper) http.RoundTripper {
		return transport.New(base, transport.WithRefusalError())
	})
	httpClient, err := rest.HTTPClientFor(config) // once: every call of it wraps anew
	if err != nil {
		t.Fatal(err)
	}
	client, err := rest.RESTClientForConfigAndClient(config, httpClient) // or kubernetes.NewForConfigAndClient
	if err != nil {
		t.Fatal(err)
	}
	// end

	breaker := findBreaker(t, httpClient.Transport)
	untilRefused(t, breaker, server, func() bool {
		_, err := client.Get().Resource("pods").Do(t.Context()).Raw()
		if !isRefused(err) {
			require.Equal(t, server.down.Load(), err != nil, "%v", err)
			return false
		}
		sees(t, "kubernetes", err.Error())
		return true
	})
}

// findBreaker looks through the layers that client-go has put around the breaker.
func findBreaker(t *testing.T, rt http.RoundTripper) *transport.Transport {
	for {
		if breaker, ok := rt.(*transport.Transport); ok {
			return breaker
		}
		layer, ok := rt.(interface{ WrappedRoundTripper() http.RoundTripper })
		require.True(t, ok, "%T", rt)
		rt = layer.WrappedRoundTripper()
	}
}

// What the page says of a refusal by response: client-go waits for its Retry-After and tries again.
func TestKubernetesRetriesRefusalsByResponse(t *testing.T) {
	server := newAPIServer(t)
	config := newPods(server)
	breaker := transport.New(nil, transport.WithPolicy(policy.Classic{OpenFor: 900 * time.Millisecond}))
	t.Cleanup(breaker.CloseIdleConnections)
	config.Wrap(func(http.RoundTripper) http.RoundTripper { return breaker })
	client, err := rest.RESTClientFor(config)
	require.NoError(t, err)
	refusals := 0
	breaker.Observe(transport.Observer{OnRefusal: func(transport.RefusalEvent) { refusals++ }})
	key, err := url.Parse(server.URL)
	require.NoError(t, err)
	require.True(t, breaker.SetState(transport.Key{Scheme: key.Scheme, Host: key.Host}, policy.Open))
	_, err = client.Get().Resource("pods").Do(t.Context()).Raw()
	require.NoError(t, err)
	require.Equal(t, 1, refusals)
}
