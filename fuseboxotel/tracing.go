package fuseboxotel

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/fusebox-go/fusebox/transport"
)

// WithTracing notes in the span of a request what its circuit did with it. Tracing has to stand outside the Transport,
// as otelhttp.NewTransport(t) does, so that a refused request has a span too.
//
// A request that is refused has the attribute fusebox.refused, and an event of that name with the key, the reason, the
// state, the wait until the next probe, the cause of the last failure and why calls are throttled: the trace shows that
// the call was never made, and why. A call that decided about an open or half-open circuit has the attribute
// fusebox.probe. The id of the trace is kept with the samples of what failed (TraceID). A healthy call costs no more
// with it than without.
//
// How a refusal is answered is not its concern: WithRefusal and WithRefusalError do the same before and after it. A
// WithTraceID after it has the say on ids.
func WithTracing() transport.Option {
	options := []transport.Option{
		transport.WithObserver(transport.Observer{
			OnRefuse: func(req *http.Request, e *transport.RefusedError) {
				if !e.Shadow { // then the call is made
					noteRefusal(trace.SpanFromContext(req.Context()), e)
				}
			},
			OnProbe: func(c transport.CallEnd) {
				trace.SpanFromContext(c.Request.Context()).SetAttributes(
					KeyProbe.Bool(true), KeyOutcome.String(c.Outcome.String()),
				)
			},
		}),
		transport.WithTraceID(TraceID),
	}
	return func(t *transport.Transport) {
		for _, option := range options {
			option(t)
		}
	}
}

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
	if e.Throttle != nil {
		facts = append(facts, KeyWhy.String(e.Throttle.Why))
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
