// Otel shows how Fusebox and tracing stack, with otelhttp: tracing outside, Fusebox inside.
//
//	go run -C examples/otel .
//
// Outside, the trace has a span for every request of the caller, refused ones too, and the span is there to be marked
// when Fusebox refuses. The other way round, a refused request leaves no trace, and the caller's 503 comes from
// nowhere. With retries the order is: retries, tracing, Fusebox, base. Every attempt has its span and its permit.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "otel:", err)
		os.Exit(1)
	}
}

// refuse is the default refusal, noted in the caller's span.
func refuse(req *http.Request, open *transport.RefusedError) (*http.Response, error) {
	trace.SpanFromContext(req.Context()).SetAttributes(
		attribute.Bool("fusebox.refused", true),
		attribute.String("fusebox.cause", open.Cause.String()),
	)
	return transport.Response(http.StatusServiceUnavailable, nil, "")(req, open)
}

// markProbes notes in a span that its call decided about a circuit.
var markProbes = transport.Observer{OnCall: func(start transport.CallStart) {
	if start.Probe {
		trace.SpanFromContext(start.Request.Context()).SetAttributes(attribute.Bool("fusebox.probe", true))
	}
}}

func run() error {
	var traced atomic.Int64 // requests that brought a traceparent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent") != "" {
			traced.Add(1)
		}
		http.Error(w, "out of order", http.StatusInternalServerError)
	}))
	defer server.Close()

	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	defer provider.Shutdown(context.Background())

	breaker := transport.New(nil,
		transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute}),
		transport.WithRefusal(refuse),
		transport.WithObserver(markProbes),
	)
	client := &http.Client{Transport: otelhttp.NewTransport(
		breaker, otelhttp.WithTracerProvider(provider), otelhttp.WithPropagators(propagation.TraceContext{}),
	)}
	defer breaker.CloseIdleConnections() // otelhttp's transport does not pass it on

	get := func() error {
		resp, err := client.Get(server.URL)
		if err != nil {
			return err
		}
		io.Copy(io.Discard, resp.Body)
		return resp.Body.Close()
	}
	for range 5 {
		if err := get(); err != nil {
			return err
		}
	}
	// Half-open by hand, so that the next call is a probe.
	for _, c := range breaker.Circuits() {
		breaker.SetState(c.Key, policy.HalfOpen)
	}
	if err := get(); err != nil {
		return err
	}

	var refused, probes int
	for _, span := range recorder.Ended() {
		facts := attribute.NewSet(span.Attributes()...)
		status, _ := facts.Value("http.response.status_code")
		text := ""
		if _, ok := facts.Value("fusebox.refused"); ok {
			cause, _ := facts.Value("fusebox.cause")
			text = "  fusebox.refused, the last failure was " + cause.AsString()
			refused++
		}
		if _, ok := facts.Value("fusebox.probe"); ok {
			text = "  fusebox.probe"
			probes++
		}
		fmt.Printf("span %s  %d%s\n", span.Name(), status.AsInt64(), text)
	}
	fmt.Printf("%d requests came to the server with a trace.\n", traced.Load())
	if len(recorder.Ended()) != 6 || refused != 2 || probes != 1 || traced.Load() != 4 {
		return errors.New(
			"there should be 6 spans, 2 of them refused and 1 of a probe, and 4 traced requests at the server",
		)
	}
	return nil
}
