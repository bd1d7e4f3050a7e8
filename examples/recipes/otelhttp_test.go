package recipes

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fusebox-go/fusebox/fuseboxotel"
	"github.com/fusebox-go/fusebox/transport"
)

func TestOtelhttp(t *testing.T) {
	server := newTextUpstream(t)
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	t.Cleanup(func() { provider.Shutdown(context.Background()) })
	original := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(original) })

	// recipe: otelhttp
	breaker := transport.New(nil, fuseboxotel.WithTracing())
	client := &http.Client{Transport: otelhttp.NewTransport(breaker)}
	// end

	untilRefused(t, breaker, server, func() bool {
		resp, err := client.Get(server.URL)
		require.NoError(t, err)
		return refusedResponse(t, "", resp)
	})
	spans := recorder.Ended()
	last := spans[len(spans)-1]
	seen := "span " + last.Name() + ": " + last.Status().Code.String() + "\n"
	for _, a := range last.Attributes() {
		if a.Key == fuseboxotel.KeyRefused || a.Key == "http.response.status_code" {
			seen += "  " + string(a.Key) + " = " + a.Value.String() + "\n"
		}
	}
	for _, e := range last.Events() {
		seen += "  event " + e.Name + "\n"
		for _, a := range e.Attributes {
			if a.Key != fuseboxotel.KeyWait {
				seen += "    " + string(a.Key) + " = " + a.Value.String() + "\n"
			}
		}
	}
	require.Contains(t, seen, "fusebox.refused = true")
	sees(t, "otelhttp", seen)
}
