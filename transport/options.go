package transport

import (
	"fmt"
	"math/rand/v2"
	"net/http"

	"github.com/hashicorp/go-cleanhttp"

	"github.com/fusebox-go/fusebox/policy"
)

// Option changes what New makes. Options that set the same thing override each other, the last one wins; those of
// WithObserver add up.
type Option func(*Transport)

// New returns a Transport that makes its calls by base; nil means ProxyErrors(cleanhttp.DefaultPooledTransport()). With
// no options it keeps a circuit for every upstream, by policy.Adaptive, and refuses with a 503.
//
// An instance of an upstream can vanish without a word and leave dead connections behind. So a probe of an upstream
// that fell silent is to go over a new connection. If base is an *http.Transport there is nothing to do for that. Any
// other is best served if it
//
//   - has a method CloseIdleConnections that closes idle connections, to whatever upstream, and breaks none in use. The
//     first probe after a circuit opened by silence calls it, and each that follows one over an older connection; but
//     none once a response has come by HTTP/3, since it breaks bodies that are being read in some clients of that. A
//     layer that has none is looked through by WrappedRoundTripper, see Transport.CloseIdleConnections;
//   - passes on the request's context and calls GotConn of its httptrace.ClientTrace, as http.Transport does. By that a
//     Transport knows that a probe had to go over an older connection. The silence of that one says nothing of the
//     upstream, and the next request is a probe, until such connections are used up;
//   - passes on the request's Close, which such a probe over HTTP/2 has set so that its connection takes no further
//     calls. It is the only change, in a copy, and no part of what HTTP/2 sends.
//
// A base that wraps an *http.Transport does the last two by passing the request on. One that does none of them recovers
// from dead connections by a probe for each.
//
// New panics if an option or a policy makes no sense.
func New(base http.RoundTripper, opts ...Option) *Transport {
	if base == nil {
		base = ProxyErrors(cleanhttp.DefaultPooledTransport())
	}
	t := &Transport{base: base, random: rand.Float64, traceOf: traceparent, initial: initial{policy: policy.Adaptive{}}}
	t.circuits = circuits{make: t.newCircuit, added: t.added, idle: t.parts.forgetIdle, max: defaultMaxCircuits}
	for _, option := range opts {
		mustNotBeNil("New", option == nil)
		option(t)
	}
	// now that the source of jitter is known
	t.policies.Store(&policies{t.initial.policy, t.newConfig(t.initial.policy), t.initial.settingsFor})
	t.joinFleet()
	return t
}

// WithPolicy sets the policy of all circuits whose keys have none of their own (WithSettingsFor). The default is
// policy.Adaptive{}.
func WithPolicy(p policy.Policy) Option {
	mustNotBeNil("WithPolicy", p == nil)
	return func(t *Transport) { t.initial.policy = p }
}

// WithSettingsFor gives keys a policy, classifier and refusal of their own; what is zero in what settingsFor returns is
// the Transport's. It is called when a circuit is made, by many goroutines at once. ParseKey makes keys to compare
// with, and Snapshot.Own shows whether a circuit has got what was meant for it:
//
//	own := map[transport.Key]transport.Settings{key: {Policy: policy.Classic{}}}
//	transport.WithSettingsFor(func(k transport.Key) transport.Settings { return own[k] })
func WithSettingsFor(settingsFor func(Key) Settings) Option {
	mustNotBeNil("WithSettingsFor", settingsFor == nil)
	return func(t *Transport) { t.initial.settingsFor = settingsFor }
}

// WithKey sets what circuits are told apart by. The default is Upstream; PerRoute divides its circuits
// further, and so does a KeyFunc of your own, by method, tenant or whatever its requests have.
func WithKey(keyOf KeyFunc) Option {
	mustNotBeNil("WithKey", keyOf == nil)
	return func(t *Transport) { t.keyOf = keyOf }
}

// WithClassifier sets what is asked for the outcome of a call: the classifiers in order, the first that is not
// Undecided decides, and policy.DefaultClassifier if none does.
func WithClassifier(classifiers ...policy.Classifier) Option {
	classify := policy.FirstOf(classifiers...) // panics here if one is nil
	return func(t *Transport) { t.classify.Store(&classify) }
}

func mustNotBeNil(option string, isNil bool) {
	if isNil {
		panic("fusebox/transport: " + option + " got nil; leave it out for the default")
	}
}

// WithRefusal sets what answers a request that is refused: Response for a fixed status, header and body, or a function.
// The default is a 503 with Retry-After and a line of text, which names the upstream and what failed last: where
// responses are passed on to strangers, as by a reverse proxy, WithRefusal(Discreet) leaves that out. The lists of
// values in its header are shared by responses: they can be replaced, as Set and Add do, and not changed in place.
func WithRefusal(refusal RefusalFunc) Option {
	mustNotBeNil("WithRefusal", refusal == nil)
	return func(t *Transport) { t.refusal, t.refuseByError = refusal, false }
}

// WithRefusalError makes RoundTrip refuse by an error, and not by a response: one that is ErrOpen by errors.Is, and in
// which errors.As finds an *RefusedError.
func WithRefusalError() Option {
	return func(t *Transport) { t.refusal, t.refuseByError = nil, true }
}

// WithRefusalOnTrip makes the call whose failure opens a circuit, at a trip or when a recovery fails, get the refusal,
// as all after it do. By default it gets its own response or error. A call that fails by its body has had its response,
// and keeps it; so does one that succeeds, by which a circuit can open too: it was slow, or the first that makes up the
// minimum of a share.
func WithRefusalOnTrip() Option {
	return func(t *Transport) { t.refuseTripper = true }
}

// WithObserver adds an observer. Observers are told in the order of the options.
func WithObserver(o Observer) Option {
	return func(t *Transport) { t.Observe(o) }
}

// WithStorage sets where the states of circuits are kept beside the Transport's own memory. The default is nowhere.
func WithStorage(s Storage) Option {
	mustNotBeNil("WithStorage", s == nil)
	return func(t *Transport) { t.storage = s }
}

// WithMaxCircuits bounds the number of circuits kept; the default is 16384. At the bound, circuits whose upstream has
// never answered (Snapshot.Known) make room first, whatever their state; then closed ones, the longest unused first;
// then those in trouble that nobody has asked for for an hour. If there is no such circuit, requests to further
// upstreams pass unwatched.
func WithMaxCircuits(n int) Option {
	if n <= 0 {
		panic(fmt.Sprintf("fusebox/transport: WithMaxCircuits got %d; write a positive number", n))
	}
	return func(t *Transport) { t.circuits.max = n }
}

// WithShadow puts all circuits into shadow: they decide, and refuse nothing. See SetShadow, which ends it.
func WithShadow() Option {
	return func(t *Transport) { t.SetShadow(func(Key) bool { return true }) }
}

// WithSafeProbes lets only those requests be probes that can be lost: without a body, and with a safe method (GET,
// HEAD, OPTIONS, TRACE) or an Idempotency-Key or X-Idempotency-Key header. Others are refused while the circuit waits
// for one, but not for longer than policy.Rules.SafeWait, a minute by default: then any request is the probe, or who
// sends no others would be refused for ever. A ramp lets through any request once a probe has succeeded.
func WithSafeProbes() Option {
	return func(t *Transport) { t.safeProbes = true }
}

// WithHealthCheck sets what is sent as a probe in place of a caller's request. Check returns a new request without a
// body; it is sent by the base RoundTripper with the context of the request that came when a probe was due, which waits
// for it, and goes on if it succeeds. Where check returns nil, the caller's request is the probe. A check ends after
// policy.Limits.Timeout, or 10 s if there is none, its body included, of which 64 KiB are read; and it says nothing if
// that caller goes away. Classifiers judge it as they do any call. It is called by many goroutines at once.
func WithHealthCheck(check func(Key) *http.Request) Option {
	mustNotBeNil("WithHealthCheck", check == nil)
	return func(t *Transport) { t.check = check }
}

// WithoutLocalTrouble looks at each circuit by itself: nothing is taken as LocalTrouble.
func WithoutLocalTrouble() Option {
	return func(t *Transport) { t.local.off = true }
}

// WithTraceID sets what finds the id of the trace that a request belongs to; it is kept with samples of what failed.
// It is asked when a call has failed and, where the policy has a rule of slowness, when one has ended.
// The default is that of the traceparent header, which tracing outside the Transport has set. Of a long id the first
// 128 bytes are kept, and what cannot be seen in it is escaped. It is called by many goroutines at once.
func WithTraceID(traceOf func(*http.Request) string) Option {
	mustNotBeNil("WithTraceID", traceOf == nil)
	return func(t *Transport) { t.traceOf = func(req *http.Request) string { return traceText(traceOf(req)) } }
}
