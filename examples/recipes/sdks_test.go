package recipes

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/openai/openai-go/v2"
	"github.com/openai/openai-go/v2/option"
	"github.com/stretchr/testify/require"
	"github.com/stripe/stripe-go/v82"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// recipe: should-retry
// final is a refusal that the SDKs of OpenAI, Anthropic and Stripe do not try again, with a text that they find.
func final(req *http.Request, open *transport.RefusedError) (*http.Response, error) {
	body, err := json.Marshal(map[string]any{"error": map[string]string{"type": "api_error", "message": open.Error()}})
	if err != nil {
		return nil, err
	}
	header := http.Header{
		"Content-Type":        {"application/json"},
		"X-Should-Retry":      {"false"}, // OpenAI, Anthropic
		"Stripe-Should-Retry": {"false"},
	}
	return transport.Response(http.StatusServiceUnavailable, header, string(body))(req, open)
}

// end

// sdk calls an upstream by a client library as it is without settings, but for where the upstream is.
type sdk func(client *http.Client) error

var sdks = map[string]sdk{
	"azcore": func(client *http.Client) error { return callAzure(azcore.ClientOptions{Transport: client}) },
	"openai": func(client *http.Client) error {
		api := openai.NewClient(option.WithBaseURL(streams), option.WithAPIKey("key"), option.WithHTTPClient(client))
		_, err := api.Models.Get(context.Background(), "a-model")
		return err
	},
	"stripe": func(client *http.Client) error {
		backend := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
			URL: stripe.String(streams), HTTPClient: client, LeveledLogger: new(stripe.LeveledLogger), EnableTelemetry: stripe.Bool(false),
		})
		api := stripe.NewClient("key", stripe.WithBackends(&stripe.Backends{API: backend, Connect: backend, Uploads: backend}))
		_, err := api.V1Customers.Create(context.Background(), new(stripe.CustomerCreateParams))
		return err
	},
}

// callAzure is what the clients of all services of Azure are made of.
func callAzure(options azcore.ClientOptions) error {
	req, err := runtime.NewRequest(context.Background(), http.MethodGet, streams)
	if err != nil {
		return err
	}
	resp, err := runtime.NewPipeline("recipes", "v1.0.0", runtime.PipelineOptions{}, &options).Do(req)
	if err != nil {
		return err
	}
	if !runtime.HasStatusCode(resp, http.StatusOK) {
		return runtime.NewResponseError(resp)
	}
	return runtime.UnmarshalAsJSON(resp, new(any))
}

// The table of the page. What an SDK waits between its attempts has jitter.
func TestWhatARefusalCostsByTheWayItIsMade(t *testing.T) {
	byStatus, byError, finally := []transport.Option(nil), transport.WithRefusalError(), transport.WithRefusal(final)
	for _, c := range []struct {
		sdk         string
		options     []transport.Option
		refusals    int
		least, most time.Duration
	}{
		{"azcore", byStatus, 4, 7 * time.Second, 15 * time.Second},
		{"azcore", []transport.Option{byError}, 1, 0, 0},
		{"openai", byStatus, 3, time.Second, 1500 * time.Millisecond},
		{"openai", []transport.Option{byError}, 3, time.Second, 1500 * time.Millisecond},
		{"openai", []transport.Option{finally}, 1, 0, 0},
		{"stripe", byStatus, 3, time.Second, 1500 * time.Millisecond},
		{"stripe", []transport.Option{byError}, 3, time.Second, 1500 * time.Millisecond},
		{"stripe", []transport.Option{finally}, 1, 0, 0},
	} {
		bubble.Serve(t, nil, answer(http.StatusOK, "application/json", "{}"), func(t *testing.T, base *http.Transport) {
			refusals := 0
			breaker := transport.New(base, append(c.options, transport.WithObserver(transport.Observer{
				OnRefusal: func(transport.RefusalEvent) { refusals++ },
			}))...)
			client := &http.Client{Transport: breaker}
			require.NoError(t, sdks[c.sdk](client), c.sdk)
			require.Zero(t, refusals)

			breaker.Force("*", policy.Open)
			start := time.Now()
			err := sdks[c.sdk](client)
			require.Error(t, err, c.sdk)
			require.Equal(t, c.refusals, refusals, "%s: %v", c.sdk, err)
			require.GreaterOrEqual(t, time.Since(start), c.least, c.sdk)
			require.LessOrEqual(t, time.Since(start), c.most, c.sdk)
		})
	}
}

// untilSDKRefused is untilRefused in virtual time, since SDKs wait before they call what fails again.
func untilSDKRefused(t *testing.T, breaker func(base http.RoundTripper) *transport.Transport, call func(*http.Client) (refused bool)) {
	server := new(upstream)
	down := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		answer(http.StatusServiceUnavailable, "application/json", `{"error": {"message": "out of order"}}`)(w, r)
	}
	bubble.Serve(t, nil, server.serve(answer(http.StatusOK, "application/json", "{}"), down), func(t *testing.T, base *http.Transport) {
		breaker := breaker(base)
		client := &http.Client{Transport: breaker}
		untilRefused(t, breaker, server, func() bool { return call(client) })
	})
}

func TestAzure(t *testing.T) {
	var options azcore.ClientOptions
	options.Retry.RetryDelay = time.Millisecond // so that what is retried finds the circuit just opened
	untilSDKRefused(t, func(base http.RoundTripper) *transport.Transport {
		// recipe: azure
		breaker := transport.New(base, transport.WithRefusalError())
		options.Transport = &http.Client{Transport: breaker} // of azcore.ClientOptions, which the options of each client have
		// end
		return breaker
	}, func(*http.Client) bool {
		err := callAzure(options)
		if isRefused(err) {
			sees(t, "azure", err.Error())
		}
		return isRefused(err)
	})
}

func TestOpenAI(t *testing.T) {
	untilSDKRefused(t, func(base http.RoundTripper) *transport.Transport {
		return transport.New(base, transport.WithRefusal(final))
	}, func(client *http.Client) bool {
		err := sdks["openai"](client)
		var failed *openai.Error // it has the response, and Anthropic's, too
		refused := errors.As(err, &failed) && transport.Refused(failed.Response)
		if refused {
			sees(t, "openai", err.Error())
		}
		return refused
	})
}

func TestStripe(t *testing.T) {
	untilSDKRefused(t, func(base http.RoundTripper) *transport.Transport {
		return transport.New(base, transport.WithRefusal(final))
	}, func(client *http.Client) bool {
		err := sdks["stripe"](client)
		var failed *stripe.Error
		refused := errors.As(err, &failed) && failed.LastResponse != nil &&
			transport.Refused(&http.Response{Header: failed.LastResponse.Header})
		if refused {
			sees(t, "stripe", failed.Msg)
		}
		return refused
	})
}
