package fuseboxotel_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fusebox-go/fusebox/fuseboxotel"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func Example() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer upstream.Close()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	defer provider.Shutdown(context.Background())

	breaker := transport.New(nil, transport.WithPolicy(policy.Classic{Failures: 2}), fuseboxotel.WithTracing())
	defer breaker.CloseIdleConnections()
	stop, err := fuseboxotel.Observe(breaker) // by the global MeterProvider
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()

	client := &http.Client{Transport: otelhttp.NewTransport(breaker, otelhttp.WithTracerProvider(provider))}
	for range 3 {
		if resp, err := client.Get(upstream.URL); err == nil {
			resp.Body.Close()
		}
	}
	for _, span := range recorder.Ended() {
		fmt.Println(span.Name())
		for _, event := range span.Events() {
			fmt.Println(" ", event.Name)
		}
	}
	// Output:
	// HTTP GET
	// HTTP GET
	// HTTP GET
	//   fusebox.refused
}
