package fuseboxotel_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/fusebox-go/fusebox/fuseboxotel"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// traced is a client with otelhttp outside and a Transport inside, and a real server on loopback.
type traced struct {
	*testing.T
	client   *http.Client
	rt       *transport.Transport
	recorder *tracetest.SpanRecorder
	server   *testkit.Server
	key      transport.Key
}

func newTraced(t *testing.T, opts ...transport.Option) *traced {
	tr := &traced{T: t, recorder: tracetest.NewSpanRecorder(), server: testkit.NewServer(t)}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(tr.recorder))
	t.Cleanup(func() { provider.Shutdown(context.Background()) })
	tr.rt = transport.New(nil, append([]transport.Option{transport.WithPolicy(policy.Classic{Failures: 3, OpenFor: time.Minute})}, opts...)...)
	t.Cleanup(tr.rt.CloseIdleConnections)
	tr.client = &http.Client{Transport: otelhttp.NewTransport(tr.rt, otelhttp.WithTracerProvider(provider))}
	req, err := http.NewRequest(http.MethodGet, tr.server.URL, nil)
	require.NoError(t, err)
	tr.key = transport.Upstream(req)
	return tr
}

// get makes a call and returns its span.
func (tr *traced) get() (*http.Response, string, sdktrace.ReadOnlySpan, error) {
	before := len(tr.recorder.Ended())
	resp, err := tr.client.Get(tr.server.URL)
	text := ""
	if err == nil {
		body, readErr := io.ReadAll(resp.Body)
		require.NoError(tr, readErr)
		resp.Body.Close()
		text = string(body)
	}
	spans := tr.recorder.Ended()
	require.Len(tr, spans, before+1)
	return resp, text, spans[before], err
}

func attributesOf(attributes []attribute.KeyValue) map[attribute.Key]any {
	all := make(map[attribute.Key]any)
	for _, a := range attributes {
		all[a.Key] = a.Value.AsInterface()
	}
	return all
}

func TestTheTraceOfARefusedRequestSaysThatTheCallWasNeverMade(t *testing.T) {
	tr := newTraced(t, fuseboxotel.WithTracing())
	_, _, span, _ := tr.get()
	require.Empty(t, span.Events(), "all is well")
	require.NotContains(t, attributesOf(span.Attributes()), fuseboxotel.KeyRefused)

	tr.server.Status.Store(http.StatusBadGateway)
	for range 3 {
		tr.get()
	}
	made := tr.server.Calls.Load()
	resp, _, span, err := tr.get()
	require.NoError(t, err)
	require.True(t, transport.Refused(resp))
	require.Equal(t, made, tr.server.Calls.Load())
	require.Equal(t, true, attributesOf(span.Attributes())[fuseboxotel.KeyRefused])
	require.Equal(t, "open", attributesOf(span.Attributes())[fuseboxotel.KeyReason])
	require.Len(t, span.Events(), 1)
	event := span.Events()[0]
	require.Equal(t, "fusebox.refused", event.Name)
	facts := attributesOf(event.Attributes)
	require.Equal(t, tr.key.String(), facts[fuseboxotel.KeyKey])
	require.Equal(t, "open", facts[fuseboxotel.KeyReason])
	require.Equal(t, "open", facts[fuseboxotel.KeyState])
	require.Equal(t, "status 502", facts[fuseboxotel.KeyLastCause])
	require.InDelta(t, 60, facts[fuseboxotel.KeyWait], 59)
}

func TestTheAnswerIsTheSameWithTracingAsWithout(t *testing.T) {
	plain, with := newTraced(t), newTraced(t, fuseboxotel.WithTracing())
	var texts []string
	var headers []http.Header
	for _, tr := range []*traced{plain, with} {
		tr.rt.Force("*", policy.Open)
		resp, text, _, err := tr.get()
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
		require.Equal(t, "503 Service Unavailable", resp.Status)
		require.Equal(t, policy.RefusedForced, transport.RefusedBecause(resp))
		texts, headers = append(texts, text[:len("fusebox: circuit forced open for http://127.0.0.1")]), append(headers, resp.Header)
	}
	require.Equal(t, texts[0], texts[1])
	require.Equal(t, headers[0], headers[1])
}

func TestARefusalIsAnsweredAndNotedWhateverTheOrderOfTheOptions(t *testing.T) {
	teapot := transport.WithRefusal(transport.Response(http.StatusTeapot, nil, "no"))
	for name, opts := range map[string][]transport.Option{
		"an error before": {transport.WithRefusalError(), fuseboxotel.WithTracing()}, "an error after": {fuseboxotel.WithTracing(), transport.WithRefusalError()},
		"an answer before": {teapot, fuseboxotel.WithTracing()}, "an answer after": {fuseboxotel.WithTracing(), teapot},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTraced(t, opts...)
			tr.rt.Force("*", policy.Open)
			resp, text, span, err := tr.get()
			var open *transport.RefusedError
			if errors.As(err, &open) {
				require.Equal(t, policy.RefusedForced, open.Reason)
			} else {
				require.NoError(t, err)
				require.Equal(t, http.StatusTeapot, resp.StatusCode)
				require.Equal(t, "no", text)
			}
			require.Equal(t, strings.HasPrefix(name, "an error"), open != nil)
			var noted int
			for _, event := range span.Events() { // otelhttp adds one of the error
				if event.Name == "fusebox.refused" {
					noted++
				}
			}
			require.Equal(t, 1, noted)
			require.Equal(t, "forced open", attributesOf(span.Attributes())[fuseboxotel.KeyReason])
		})
	}
}

func TestACallThatIsMadeInShadowIsNotNotedAsRefused(t *testing.T) {
	tr := newTraced(t, fuseboxotel.WithTracing(), transport.WithShadow())
	tr.rt.SetState(tr.key, policy.Open)
	_, text, span, err := tr.get()
	require.NoError(t, err)
	require.Equal(t, "from the upstream", text)
	require.NotContains(t, attributesOf(span.Attributes()), fuseboxotel.KeyRefused)
}

func TestACallThatDecidesAboutACircuitIsNoted(t *testing.T) {
	tr := newTraced(t, fuseboxotel.WithTracing())
	tr.rt.SetState(tr.key, policy.HalfOpen)
	_, _, span, _ := tr.get()
	require.Equal(t, true, attributesOf(span.Attributes())[fuseboxotel.KeyProbe])
	require.Equal(t, "success", attributesOf(span.Attributes())[fuseboxotel.KeyOutcome])
	_, _, span, _ = tr.get()
	require.NotContains(t, attributesOf(span.Attributes()), fuseboxotel.KeyProbe)
}

func TestFailuresAreKeptWithTheirTraces(t *testing.T) {
	tr := newTraced(t, fuseboxotel.WithTracing()) // and no propagator, so that no header has the trace
	tr.server.Status.Store(http.StatusInternalServerError)
	_, _, span, _ := tr.get()
	circuit, ok := tr.rt.Circuit(tr.key)
	require.True(t, ok)
	require.Len(t, circuit.Samples, 1)
	require.Equal(t, span.SpanContext().TraceID().String(), circuit.Samples[0].Trace)

	req, err := http.NewRequest(http.MethodGet, tr.server.URL, nil)
	require.NoError(t, err)
	require.Empty(t, fuseboxotel.TraceID(req))
}

func TestARefusalWithNoTracingAroundItIsAnsweredAllTheSame(t *testing.T) {
	tr := newTraced(t, fuseboxotel.WithTracing())
	tr.rt.Force("*", policy.Open)
	resp, err := (&http.Client{Transport: tr.rt}).Get(tr.server.URL)
	require.NoError(t, err)
	resp.Body.Close()
	require.True(t, transport.Refused(resp))
}
