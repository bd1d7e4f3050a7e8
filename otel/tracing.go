package fuseboxotel

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/fusebox-go/fusebox/transport"
)

// WithTracing notes in the span of a request what its circuit did with it. Tracing has to stand outside the Transport, as
// otelhttp.NewTransport(t) does, so that a refused request has a span too.
//
// A request that is refused has the attribute fusebox.refused, and an event of that name with the key, the reason, the state, the wait until
// the next probe and the cause of the last failure: the trace shows that the call was never made, and why. A call
// that decided about an open or half-open circuit has the attribute fusebox.probe. The id of the trace is kept with the
// samples of what failed (TraceID). A healthy call costs no more with it than without.
//
// Answer is what WithRefusal would have; nil means the 503. WithRefusal, WithRefusalError and WithTraceID replace parts of
// this if they come later among the options, and are replaced by it if they come before.
func WithTracing(answer transport.RefusalFunc) transport.Option {
	if answer == nil {
		answer = transport.Response(http.StatusServiceUnavailable, nil, "")
	}
	options := []transport.Option{
		transport.WithRefusal(func(req *http.Request, e *transport.RefusedError) (*http.Response, error) {
			noteRefusal(trace.SpanFromContext(req.Context()), e)
			return answer(req, e)
		}),
		transport.WithObserver(transport.Observer{OnProbe: func(c transport.CallEnd) {
			trace.SpanFromContext(c.Request.Context()).SetAttributes(KeyProbe.Bool(true), KeyOutcome.String(c.Outcome.String()))
		}}),
		transport.WithTraceID(TraceID),
	}
	return func(t *transport.Transport) {
		for _, option := range options {
			option(t)
		}
	}
}

// RefuseByError is an answer for WithTracing: it refuses as transport.WithRefusalError does, by the *transport.RefusedError.
func RefuseByError(_ *http.Request, e *transport.RefusedError) (*http.Response, error) { return nil, e }

func noteRefusal(span trace.Span, e *transport.RefusedError) {
	if !span.IsRecording() {
		return
	}
	facts := []attribute.KeyValue{
		KeyKey.String(e.Key.String()), KeyReason.String(e.Reason.String()), KeyState.String(e.State.String()),
		KeyWait.Float64(e.RetryAfter.Seconds()),
	}
	if e.Cause.Kind != 0 {
		facts = append(facts, KeyLastCause.String(e.Cause.String()))
	}
	span.SetAttributes(KeyRefused.Bool(true), KeyReason.String(e.Reason.String()))
	span.AddEvent(string(KeyRefused), trace.WithAttributes(facts...))
}

// TraceID returns the id of the trace that a request belongs to by its context, and "" if there is none. It is for
// transport.WithTraceID, whose default finds only a trace that tracing has written into the request's header.
func TraceID(req *http.Request) string {
	if c := trace.SpanContextFromContext(req.Context()); c.HasTraceID() {
		return c.TraceID().String()
	}
	return ""
}
