package policy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Phase is the part of a call in which it failed.
type Phase uint8

const (
	NoPhase      Phase = iota
	PhaseDNS           // looking up the host
	PhaseConnect       // connecting to it
	PhaseTLS           // the TLS handshake
	PhaseHeaders       // from the request's first byte to the response's headers; also a wait whose part is not known
	PhaseBody          // reading the response's body
)

// String returns "dns", "connect", "tls", "headers" or "body", and "" for NoPhase.
func (p Phase) String() string {
	return nameOf(p, "", "dns", "connect", "tls", "headers", "body")
}

// Kind is what happened to a call.
type Kind uint8

const (
	NoKind      Kind = iota // nothing bad
	Status                  // the status of the response
	Refused                 // the connection was refused
	Reset                   // the connection was reset or closed too early
	Timeout                 // a deadline passed
	Certificate             // the upstream's certificate was not accepted
	NotFound                // the host does not exist
	Lease                   // a half-open call did not come back within its lease
	Judged                  // a custom classifier said so
	Other                   // any other error of the call
	Canceled                // the caller went away
	BadRequest              // the request itself was at fault, or its body failed to read
	Local                   // trouble of this machine: no file descriptors, ports or route, or its forward proxy refused it
	Panic                   // the call panicked or its goroutine ended
	Slow                    // a half-open call succeeded, and took longer than the rule that trips by slowness has it
	NoAnswer                // callers that waited for an answer went away without one, again and again
)

// String returns the kind in lower case.
func (k Kind) String() string {
	return nameOf(k,
		"ok", "status", "refused", "reset", "timeout", "certificate", "host not found", "lease expired", "judged so",
		"error", "canceled", "bad request", "local trouble", "panic", "slow", "no answer")
}

// Deadline is whose deadline passed.
type Deadline uint8

const (
	NoDeadline        Deadline = iota // none; or http.Client.Timeout is set, and it cannot be told whether the caller's deadline or that one passed
	CallerDeadline                    // that of the request's context
	ClientDeadline                    // http.Client.Timeout
	TransportDeadline                 // one of the base RoundTripper's own: dial, handshake, headers
	LimitDeadline                     // Limits.Timeout
)

// String returns "caller", "client", "transport" or "limit", and "" for NoDeadline.
func (d Deadline) String() string {
	return nameOf(d, "", "caller", "client", "transport", "limit")
}

func nameOf[T ~uint8](value T, names ...string) string {
	if int(value) < len(names) {
		return names[value]
	}
	return "invalid"
}

// Cause says why a call ended as it did. The zero Cause is that of a success. Causes can be compared.
type Cause struct {
	Phase    Phase
	Kind     Kind
	Deadline Deadline // with Timeout
	Status   int      // with Kind Status, and of the response where there was one
}

// String returns a short description, such as "connect: refused", "headers: timeout (client)" or "status 503".
func (c Cause) String() string {
	text, _ := c.AppendText(nil)
	return string(text)
}

// AppendText appends what String returns. The error is always nil.
func (c Cause) AppendText(b []byte) ([]byte, error) {
	if c.Phase != NoPhase {
		b = append(append(b, c.Phase.String()...), ": "...)
	}
	b = append(b, c.Kind.String()...)
	if c.Kind == Status {
		b = strconv.AppendInt(append(b, ' '), int64(c.Status), 10)
	}
	if c.Deadline != NoDeadline {
		b = append(append(append(b, " ("...), c.Deadline.String()...), ')')
	}
	return b, nil
}

// MarshalText writes the cause as String does.
func (c Cause) MarshalText() ([]byte, error) { return c.AppendText(nil) }

// Outcome is what the default classifier makes of the cause.
func (c Cause) Outcome() Outcome {
	switch c.Kind {
	case NoKind:
		return Success
	case Canceled, BadRequest, Local, Panic:
		return Ignored
	default:
		return Failure
	}
}

// CauseOf finds out why a call ended as it did, by its response, its error and its context. A response below
// 500 has the zero Cause (with its status), but for a 407 over plain http, which is Local: a forward proxy wants a password. The cause
// of one of 5xx is what its Proxy-Status header (RFC 9209) says, if it has one.
func CauseOf(c *Call) Cause {
	switch {
	case c.Err != nil:
		cause := causeOfError(c)
		if c.InBody {
			cause.Phase = PhaseBody
		}
		if c.Response != nil {
			cause.Status = c.Response.StatusCode
		}
		return cause
	case c.Response != nil:
		return causeOfStatus(c)
	}
	return Cause{}
}

func causeOfError(c *Call) Cause {
	// The context goes first: what a call returns after its caller went away can be any error at all, that of a
	// closed connection for one.
	switch ctxErr := c.Request.Context().Err(); {
	case ctxErr == context.DeadlineExceeded:
		return Cause{Phase: PhaseHeaders, Kind: Timeout, Deadline: whoseDeadline(c)}
	case ctxErr != nil:
		return Cause{Kind: Canceled}
	}
	if cancelClosed(c.Request) || errors.Is(c.Err, context.Canceled) || strings.HasPrefix(c.Err.Error(), "net/http: request canceled") {
		// http.Client closes Request.Cancel when its Timeout has passed, at times a moment before the context ends.
		if deadline, ok := c.Request.Context().Deadline(); ok && !c.Ended.Before(deadline) {
			return Cause{Phase: PhaseHeaders, Kind: Timeout, Deadline: ClientDeadline}
		}
		return Cause{Kind: Canceled}
	}
	var limit *TimeoutError
	if errors.As(c.Err, &limit) {
		return Cause{Phase: PhaseHeaders, Kind: Timeout, Deadline: LimitDeadline}
	}
	if cause, ok := causeOfProxy(c); ok {
		return cause
	}
	if refusedCertificate(c.Err) { // its text is the upstream's own words
		return Cause{Phase: PhaseTLS, Kind: Certificate}
	}
	if !c.InBody && atFault(c) {
		return Cause{Kind: BadRequest}
	}
	if local(c) {
		return Cause{Phase: PhaseConnect, Kind: Local}
	}
	if !c.InBody && errors.Is(c.Err, net.ErrClosed) {
		// It was this end that closed the connection: net/http does so when it finds that it cannot send the request.
		return Cause{Phase: PhaseHeaders, Kind: Local}
	}

	var dns *net.DNSError
	if errors.As(c.Err, &dns) {
		return Cause{Phase: PhaseDNS, Kind: dnsKind(dns), Deadline: transportsIf(dns.IsTimeout)}
	}
	kind, phase := Other, phaseOf(c.Err)
	var timeout net.Error
	switch {
	case errors.As(c.Err, &timeout) && timeout.Timeout():
		kind = Timeout
	case isAny(c.Err, refusedErrors):
		kind = Refused
	case isAny(c.Err, resetErrors), isAny(c.Err, []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed}),
		strings.Contains(c.Err.Error(), "http: server closed idle connection"): // net/http has no exported type for it
		kind = Reset
	}
	return Cause{Phase: phase, Kind: kind, Deadline: transportsIf(kind == Timeout)}
}

// whoseDeadline tells the two ends of a context apart that look the same. http.Client.Timeout is the deadline of the context,
// unless the caller's own is earlier, and in any case it closes Request.Cancel when it has passed: at the same moment, but in
// another goroutine, which may not have run yet. Then nothing tells, and no caller waits for it.
func whoseDeadline(c *Call) Deadline {
	//lint:ignore SA1019 http.Client still uses it
	hasClientTimeout := c.Request.Cancel != nil
	switch {
	case cancelClosed(c.Request):
		return ClientDeadline
	case hasClientTimeout:
		return NoDeadline
	}
	return CallerDeadline
}

func cancelClosed(req *http.Request) bool {
	select {
	//lint:ignore SA1019 http.Client still uses it, to tell RoundTrippers other than its own of its Timeout
	case <-req.Cancel:
		return true
	default:
		return false
	}
}

func transportsIf(timeout bool) Deadline {
	if timeout {
		return TransportDeadline
	}
	return NoDeadline
}

func dnsKind(err *net.DNSError) Kind {
	switch {
	case err.IsTimeout:
		return Timeout
	case err.IsNotFound:
		return NotFound
	}
	return Other
}

func phaseOf(err error) Phase {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "socks connect") {
		return PhaseConnect
	}
	var record tls.RecordHeaderError
	var alert tls.AlertError
	// net/http has no exported type for a handshake that timed out.
	if errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &op) && op.Op == "remote error" ||
		strings.Contains(err.Error(), "TLS handshake") {
		return PhaseTLS
	}
	return PhaseHeaders
}

func refusedCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) || errors.As(err, &invalid)
}

// atFault reports whether the call failed by what it asked: something that net/http finds before it sends anything,
// a body of the wrong length, or one that could not be read.
func atFault(c *Call) bool {
	var file *fs.PathError // of a body that is a file: a network never answers with one
	if c.BodyErr != nil && same(c.Err, c.BodyErr) || errors.As(c.Err, &file) {
		return true
	}
	text, _, _ := strings.Cut(c.Err.Error(), `"`) // what comes after can be the upstream's own words
	return slices.ContainsFunc(complaints, func(complaint string) bool { return strings.Contains(text, complaint) })
}

// same is errors.Is, also for errors that cannot be compared.
func same(err, target error) bool {
	if reflect.ValueOf(target).Comparable() {
		return errors.Is(err, target)
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if reflect.DeepEqual(err, target) {
			return true
		}
	}
	return false
}

// complaints is what net/http says of requests that it cannot send. It has no types for it.
var complaints = []string{
	"http: nil Request.URL", "http: nil Request.Header", "http: no Host in request URL", "unsupported protocol scheme",
	"net/http: invalid header ", "net/http: invalid trailer ", "net/http: invalid method ", "invalid Host header",
	"can't write control character in Request.URL", "http: ContentLength=", "http: Request.ContentLength=",
	"http2: request body larger than specified content length", "http2: invalid Upgrade request header",
	"http2: invalid Transfer-Encoding request header", "http2: invalid Connection request header",
	"http2: request header list larger than peer's advertised limit", "http2: invalid request :path ", "invalid Trailer key ",
}

// local reports whether this machine failed the call.
func local(c *Call) bool {
	if isAny(c.Err, localErrors) {
		return true
	}
	var dns *net.DNSError
	if errors.As(c.Err, &dns) {
		// A resolver that finds no file descriptor left has only words for it.
		return slices.ContainsFunc(fileErrors, func(err error) bool { return strings.Contains(dns.Err, err.Error()) })
	}
	return false
}

func isAny(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
