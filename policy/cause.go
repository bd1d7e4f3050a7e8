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
	"slices"
	"strconv"
	"strings"
)

// Phase is the part of a call in which it failed.
type Phase uint8

const (
	PhaseNone    Phase = iota
	PhaseDNS           // looking up the host
	PhaseConnect       // connecting to it
	PhaseTLS           // the TLS handshake
	PhaseHeaders       // from the request's first byte to the response's headers; also a wait whose part is not known
	PhaseBody          // reading the response's body
)

// String returns "dns", "connect", "tls", "headers" or "body", and "" for PhaseNone.
func (p Phase) String() string {
	return nameOf(p, "", "dns", "connect", "tls", "headers", "body")
}

// Kind is what happened to a call.
type Kind uint8

const (
	KindNone        Kind = iota // nothing bad
	KindStatus                  // the status of the response
	KindRefused                 // the connection was refused, or there is no way to the host
	KindReset                   // the connection was reset or closed too early
	KindTimeout                 // a deadline passed
	KindCertificate             // the upstream's certificate was not accepted
	KindNotFound                // the host does not exist
	KindLease                   // a half-open call did not come back within its lease
	KindJudged                  // a custom classifier said so
	KindOther                   // any other error of the call
	KindCanceled                // the caller went away, or its deadline passed while the body was coming
	KindBadRequest              // the request itself was at fault, or its body failed to read
	// trouble of this machine: no file descriptors, ports, route or resolver, or its forward proxy refused it
	KindLocal
	KindPanic // the call panicked or its goroutine ended
	// a half-open call succeeded, and took longer than the rule that trips by slowness has it
	KindSlow
	KindNoAnswer // callers that waited for an answer went away without one, again and again
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
	// none; or http.Client.Timeout is set, and it cannot be told whether the caller's deadline or that one passed
	DeadlineNone Deadline = iota
	// that of the request's context, or it was canceled with a cause that is a timeout
	DeadlineCaller
	DeadlineClient // http.Client.Timeout
	// one of the base RoundTripper's own: dial, handshake, headers; or its forward proxy's, for CONNECT
	DeadlineTransport
	DeadlineLimit // Limits.Timeout
)

// String returns "caller", "client", "transport" or "limit", and "" for DeadlineNone.
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
	Deadline Deadline // with KindTimeout, and with KindCanceled if it was one
	Status   int      // with KindStatus, and of the response where there was one
	// what the classifier that made a failure of the call has said of it, Call.Reason, cut to 64 bytes on one line
	Reason string
}

// String returns a short description, such as "connect: refused", "headers: timeout (client)", "status 503" or "judged
// so: grpc code unavailable".
func (c Cause) String() string {
	text, _ := c.AppendText(nil)
	return string(text)
}

// AppendText appends what String returns. The error is always nil.
func (c Cause) AppendText(b []byte) ([]byte, error) {
	if c.Phase != PhaseNone {
		b = append(append(b, c.Phase.String()...), ": "...)
	}
	b = append(b, c.Kind.String()...)
	if c.Kind == KindStatus {
		b = strconv.AppendInt(append(b, ' '), int64(c.Status), 10)
	}
	if c.Kind == KindJudged && c.Status != 0 && c.Status != http.StatusOK { // which says nothing beside it
		b = strconv.AppendInt(append(b, " (status "...), int64(c.Status), 10)
		b = append(b, ')')
	}
	if c.Deadline != DeadlineNone {
		b = append(append(append(b, " ("...), c.Deadline.String()...), ')')
	}
	if c.Reason != "" {
		b = append(append(b, ": "...), c.Reason...)
	}
	return b, nil
}

// MarshalText writes the cause as String does.
func (c Cause) MarshalText() ([]byte, error) { return c.AppendText(nil) }

// Outcome is what the default classifier makes of the cause.
func (c Cause) Outcome() Outcome {
	switch c.Kind {
	case KindNone:
		return Success
	case KindCanceled, KindBadRequest, KindLocal, KindPanic:
		return Ignored
	default:
		return Failure
	}
}

// CauseOf finds out why a call ended as it did, by its response, its error and its context. A response below
// 500 has the zero Cause (with its status), but for a 407 over plain http, which is KindLocal: a forward proxy wants a
// password, unless there is none (Call.NoProxy). The cause of one of 5xx is what its Proxy-Status header (RFC 9209)
// says, if it has one.
func CauseOf(c *Call) Cause {
	switch {
	case c.Err != nil:
		cause := causeOfError(c)
		if c.InBody {
			cause.Phase = PhaseBody
		}
		if c.Delivering && cause.Kind == KindTimeout && cause.Deadline != DeadlineTransport &&
			cause.Deadline != DeadlineLimit {
			cause.Kind = KindCanceled // its caller had as much of it as it had time for
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
	if c.Request == nil { // only in somebody's test
		facts := *c
		facts.Request = new(http.Request)
		c = &facts
	}
	// The context goes first: what a call returns after its caller went away can be any error at all, that of a
	// closed connection for one.
	switch ctx := c.Request.Context(); {
	case ctx.Err() == context.DeadlineExceeded:
		return Cause{Phase: PhaseHeaders, Kind: KindTimeout, Deadline: whoseDeadline(c)}
	case ctx.Err() != nil && isTimeout(context.Cause(ctx)): // a watchdog has canceled it
		return Cause{Phase: PhaseHeaders, Kind: KindTimeout, Deadline: DeadlineCaller}
	case ctx.Err() != nil:
		return Cause{Kind: KindCanceled}
	}
	if cancelClosed(c.Request) || errors.Is(c.Err, context.Canceled) ||
		strings.HasPrefix(c.Err.Error(), "net/http: request canceled") {
		// http.Client closes Request.Cancel when its Timeout has passed, at times a moment before the context ends.
		if deadline, ok := c.Request.Context().Deadline(); ok && !c.Ended.Before(deadline) {
			return Cause{Phase: PhaseHeaders, Kind: KindTimeout, Deadline: DeadlineClient}
		}
		return Cause{Kind: KindCanceled}
	}
	var limit *TimeoutError
	if errors.As(c.Err, &limit) {
		return Cause{Phase: PhaseHeaders, Kind: KindTimeout, Deadline: DeadlineLimit}
	}
	if cause, ok := causeOfProxy(c); ok {
		return cause
	}
	if refusedCertificate(c.Err) { // its text is the upstream's own words
		return Cause{Phase: PhaseTLS, Kind: KindCertificate}
	}
	if c.BodyErr != nil || !c.InBody && atFault(c) || uploadRefused(c) {
		return Cause{Kind: KindBadRequest}
	}
	if local(c) {
		return Cause{Phase: PhaseConnect, Kind: KindLocal}
	}

	var dns *net.DNSError
	if errors.As(c.Err, &dns) {
		return Cause{Phase: PhaseDNS, Kind: dnsKind(dns), Deadline: transportsIf(dns.IsTimeout)}
	}
	kind, phase := KindOther, phaseOf(c.Err)
	switch {
	case isTimeout(c.Err):
		kind = KindTimeout
	case isAny(c.Err, refusedErrors):
		kind = KindRefused
	case isAny(c.Err, resetErrors), isAny(c.Err, closedErrors),
		strings.Contains(c.Err.Error(), "http: server closed idle connection"): // net/http has no exported type for it
		kind = KindReset
	}
	return Cause{Phase: phase, Kind: kind, Deadline: transportsIf(kind == KindTimeout)}
}

var closedErrors = []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, net.ErrClosed}

// isTimeout reports whether an error is context.DeadlineExceeded or another one whose Timeout is true.
func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// whoseDeadline tells the two ends of a context apart that look the same. http.Client.Timeout is the deadline of the
// context, unless the caller's own is earlier, and in any case it closes Request.Cancel when it has passed: at the same
// moment, but in another goroutine, which may not have run yet. Then nothing tells, and no caller waits for it.
func whoseDeadline(c *Call) Deadline {
	//lint:ignore SA1019 http.Client still uses it
	hasClientTimeout := c.Request.Cancel != nil
	switch {
	case cancelClosed(c.Request):
		return DeadlineClient
	case hasClientTimeout:
		return DeadlineNone
	}
	return DeadlineCaller
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
		return DeadlineTransport
	}
	return DeadlineNone
}

func dnsKind(err *net.DNSError) Kind {
	switch {
	case err.IsTimeout:
		return KindTimeout
	case err.IsNotFound:
		return KindNotFound
	}
	return KindOther
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
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) ||
		errors.As(err, &invalid)
}

// atFault reports whether the call failed by what it asked: something that net/http finds before it sends anything, an
// address that can be none, a body of the wrong length, or one that could not be read.
func atFault(c *Call) bool {
	var file *fs.PathError // of a body that is a file: a network never answers with one
	if errors.As(c.Err, &file) {
		return true
	}
	// A closed connection is mostly one of which the upstream's end was noticed elsewhere. But net/http also closes one
	// if it cannot go on with the request, and then says at times that it is closed, and not why.
	if errors.Is(c.Err, net.ErrClosed) && !canBeSent(c.Request) {
		return true
	}
	return complains(c.Err) || noAddress(c.Err)
}

// noAddress reports whether net says that what it was to dial is no address, whatever it is that listens anywhere. Of
// one that is, but not of the kind that the base dials ("no suitable address found"), the upstream can be to blame: it
// is what its name stands for.
func noAddress(err error) bool {
	var network net.UnknownNetworkError
	var address *net.AddrError
	return errors.As(err, &network) || errors.As(err, &address) && slices.Contains(noAddresses, address.Err)
}

// noAddresses is what net says of the ports and hosts that it takes apart.
var noAddresses = []string{
	"invalid port", "missing port in address", "too many colons in address", "missing ']' in address",
	"unexpected '[' in address", "unexpected ']' in address", "unknown network",
}

// complains reports whether an error begins as one of the complaints, or one that it wraps does. What comes later in a
// text can be the upstream's own words.
func complains(err error) bool {
	text := err.Error()
	if slices.ContainsFunc(complaints, func(complaint string) bool { return strings.HasPrefix(text, complaint) }) {
		return true
	}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		inner := wrapper.Unwrap()
		return inner != nil && complains(inner)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(wrapper.Unwrap(), func(inner error) bool { return inner != nil && complains(inner) })
	}
	return false
}

// uploadRefused reports whether the upstream said that the request was at fault, and then closed the connection without
// reading the rest of its body: the answer can be lost with that.
func uploadRefused(c *Call) bool {
	return c.InBody && c.Response != nil && c.Response.StatusCode/100 == 4 && c.Request.Body != nil &&
		c.Request.Body != http.NoBody &&
		(isAny(c.Err, resetErrors) || isAny(c.Err, closedErrors))
}

// canBeSent reports whether net/http finds nothing wrong with the request, but for its body.
func canBeSent(req *http.Request) bool {
	head := *req
	// with which its trailers are looked at, too
	head.Body, head.ContentLength = io.NopCloser(strings.NewReader("any")), -1
	return head.WriteProxy(io.Discard) == nil
}

// complaints is how net/http, its SOCKS client, golang.org/x/net/http2 and quic-go's http3 begin when they say why they
// cannot send a request. They have no types for it.
var complaints = []string{
	"http: nil Request.URL", "http: nil Request.Header", "http: no Host in request URL", "unsupported protocol scheme",
	"net/http: invalid header ", "net/http: invalid trailer ", "net/http: invalid method ", "http: invalid Host header",
	"net/http: can't write control character in Request.URL", "http: ContentLength=", "http: Request.ContentLength=",
	"invalid Trailer key ",

	"port number out of range ",

	"http2: unsupported scheme", "http2: unencrypted HTTP/2 not enabled", "http2: Request.URL is nil",
	"http2: invalid Host header", "http2: invalid HTTP header ", "http2: invalid HTTP trailer ",
	"http2: invalid Trailer key ", "http2: invalid request :path ",
	"http2: invalid :protocol header ", "http2: invalid Upgrade request header",
	"http2: invalid Transfer-Encoding request header",
	"http2: invalid Connection request header", "http2: request header list larger than peer's advertised limit",
	"http2: request body larger than specified content length",

	"http3: nil Request.URL", "http3: nil Request.Header", "http3: no Host in request URL",
	"http3: unsupported protocol scheme",
	"http3: invalid method ", "http3: invalid http header field ",
	"0-RTT rejected", // the upstream is there, and takes no early data by what it gave out before, as after a restart
}

// local reports whether this machine failed the call.
func local(c *Call) bool {
	if isAny(c.Err, localErrors) {
		return true
	}
	var dns *net.DNSError
	if errors.As(c.Err, &dns) {
		// What kept this machine from asking its resolver has nothing to do with any one upstream. There are only words
		// for it.
		return endsIn(dns.Err, localErrors) || endsIn(dns.Err, refusedErrors)
	}
	return false
}

func endsIn(text string, errs []error) bool {
	return slices.ContainsFunc(errs, func(err error) bool { return strings.HasSuffix(text, err.Error()) })
}

func isAny(err error, targets []error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
