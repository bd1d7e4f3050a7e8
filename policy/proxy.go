package policy

import (
	"errors"
	"net"
	"net/http"
	"strings"
)

// ProxyError is the error of a call whose forward proxy made no connection to the upstream: what it answered to
// CONNECT, or that it could not be asked. An *http.Transport returns it after transport.ProxyErrors. Its text is that
// of Err.
type ProxyError struct {
	Status      int    // of the answer to CONNECT; 0 if there was none
	ProxyStatus string // the error that its Proxy-Status header names (RFC 9209), such as "dns_error"; "" if none
	Err         error  // what the *http.Transport says by itself
}

func (e *ProxyError) Error() string {
	if e.Err == nil {
		return unknownStatus
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ProxyError) Unwrap() error { return e.Err }

const unknownStatus = "unknown status code" // as net/http has it

// NewProxyError makes the error of a proxy that answered CONNECT with something else than 200.
func NewProxyError(resp *http.Response) *ProxyError {
	_, text, ok := strings.Cut(resp.Status, " ")
	if !ok {
		text = unknownStatus
	}
	return &ProxyError{
		Status: resp.StatusCode, ProxyStatus: proxyStatus(resp.Header["Proxy-Status"]), Err: errors.New(text),
	}
}

var proxyAtFault = Cause{Phase: PhaseConnect, Kind: KindLocal}

func (e *ProxyError) cause() Cause {
	cause := proxyAtFault
	switch e.ProxyStatus {
	case "http_request_denied", "http_request_error", "destination_ip_prohibited",
		"proxy_internal_response", "proxy_internal_error", "proxy_configuration_error", "proxy_loop_detected":
	default:
		upstreams, ok := byProxyStatus[e.ProxyStatus]
		switch {
		case ok && proxyWaited[e.ProxyStatus]:
			cause = Cause{Phase: upstreams.Phase, Kind: KindTimeout, Deadline: DeadlineTransport}
		case ok:
			cause = upstreams
		case e.Status == http.StatusGatewayTimeout:
			cause = Cause{Phase: PhaseConnect, Kind: KindTimeout, Deadline: DeadlineTransport}
		case connectFailed(e.Status):
			cause = Cause{Phase: PhaseConnect, Kind: KindRefused}
		}
	}
	cause.Status = e.Status
	return cause
}

// connectFailed reports whether a status says that the proxy did its work and the upstream did not do its own. Some say
// 500.
func connectFailed(status int) bool {
	switch status {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500
}

// proxyWaited is the errors that say of CONNECT that the proxy dialed in vain, in this end's place.
var proxyWaited = map[string]bool{"dns_timeout": true, "connection_timeout": true}

// byProxyStatus is what the errors of RFC 9209, section 2.3, say of an upstream. Of a response a Timeout or Reset would
// say that this end waited in vain or lost a connection, so those keep the status.
var byProxyStatus = map[string]Cause{
	"dns_timeout":               {Phase: PhaseDNS, Kind: KindStatus},
	"dns_error":                 {Phase: PhaseDNS, Kind: KindNotFound},
	"destination_not_found":     {Phase: PhaseConnect, Kind: KindStatus},
	"destination_unavailable":   {Phase: PhaseConnect, Kind: KindStatus},
	"destination_ip_unroutable": {Phase: PhaseConnect, Kind: KindStatus},
	"connection_refused":        {Phase: PhaseConnect, Kind: KindRefused},
	"connection_terminated":     {Phase: PhaseHeaders, Kind: KindStatus},
	"connection_timeout":        {Phase: PhaseConnect, Kind: KindStatus},
	"connection_read_timeout":   {Phase: PhaseHeaders, Kind: KindStatus},
	"connection_write_timeout":  {Phase: PhaseHeaders, Kind: KindStatus},
	"connection_limit_reached":  {Phase: PhaseConnect, Kind: KindStatus},
	"tls_protocol_error":        {Phase: PhaseTLS, Kind: KindStatus},
	"tls_certificate_error":     {Phase: PhaseTLS, Kind: KindCertificate},
	"tls_alert_received":        {Phase: PhaseTLS, Kind: KindStatus},
	"http_response_incomplete":  {Phase: PhaseHeaders, Kind: KindStatus},
	"http_response_timeout":     {Phase: PhaseHeaders, Kind: KindStatus},
	"http_upgrade_failed":       {Phase: PhaseHeaders, Kind: KindStatus},
	"http_protocol_error":       {Phase: PhaseHeaders, Kind: KindStatus},

	"http_response_header_section_size":  {Phase: PhaseHeaders, Kind: KindStatus},
	"http_response_header_size":          {Phase: PhaseHeaders, Kind: KindStatus},
	"http_response_body_size":            {Phase: PhaseBody, Kind: KindStatus},
	"http_response_trailer_section_size": {Phase: PhaseBody, Kind: KindStatus},
	"http_response_trailer_size":         {Phase: PhaseBody, Kind: KindStatus},
	"http_response_transfer_coding":      {Phase: PhaseBody, Kind: KindStatus},
	"http_response_content_coding":       {Phase: PhaseBody, Kind: KindStatus},
}

// causeOfStatus is that of a response of 5xx, or of a proxy that wants to be told who asks.
func causeOfStatus(c *Call) Cause {
	status := c.Response.StatusCode
	switch {
	case status >= 500:
		cause := Cause{Kind: KindStatus}
		if said := c.Response.Header["Proxy-Status"]; said != nil {
			if known, ok := byProxyStatus[proxyStatus(said)]; ok {
				cause = known
			}
		}
		cause.Status = status
		return cause
	case status == http.StatusProxyAuthRequired && !c.NoProxy && c.Request != nil && c.Request.URL != nil &&
		c.Request.URL.Scheme == "http":
		return Cause{Kind: KindLocal, Status: status} // over https no proxy can answer
	}
	return Cause{Status: status}
}

// causeOfProxy is that of a call that did not get beyond a forward proxy, as far as the error shows it.
func causeOfProxy(c *Call) (cause Cause, ok bool) {
	if c.InBody || c.BodyErr != nil {
		return Cause{}, false
	}
	var proxy *ProxyError
	if errors.As(c.Err, &proxy) {
		return proxy.cause(), true
	}
	var op *net.OpError
	switch {
	case errors.As(c.Err, &op) && op.Op == "proxyconnect":
		return proxyAtFault, true
	case op != nil && op.Op == "socks connect" && op.Err != nil:
		return causeOfSOCKS(op.Err)
	}
	text := c.Err.Error()
	if strings.HasPrefix(text, "invalid proxy address ") { // of http.ProxyFromEnvironment
		return proxyAtFault, true
	}
	if c.Request.URL == nil || c.Request.URL.Scheme != "https" {
		return Cause{}, false
	}
	// All that http.Transport leaves of an answer to CONNECT is the text beside the status.
	if _, own := proxiesWords[text]; own {
		return proxyAtFault, true
	}
	for status := 400; status < 600; status++ {
		if known := http.StatusText(status); known != "" && text == known {
			return (&ProxyError{Status: status}).causeWithoutStatus(), true
		}
	}
	return Cause{}, false
}

func (e *ProxyError) causeWithoutStatus() Cause {
	cause := e.cause()
	cause.Status = 0 // the text can lie
	return cause
}

// proxiesWords is what some programs say beside a 403 to CONNECT.
var proxiesWords = map[string]struct{}{
	"Filtered":                   {}, // tinyproxy
	"Request blocked by Privoxy": {},
	"Request rejected by proxy":  {}, // smokescreen
}

// causeOfSOCKS reads the reply code of RFC 1928 where all that is left of it is golang.org/x/net/internal/socks's word
// for it, which http.Transport has a copy of. What is neither a reply nor a complaint happened to the connection, and
// cannot be told from what some proxies do when the upstream refuses: ssh -D closes it.
func causeOfSOCKS(err error) (Cause, bool) {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		return proxyAtFault, true
	}
	reply, ok := strings.CutPrefix(err.Error(), "unknown error ")
	switch {
	case !ok:
	case reply == "connection refused":
		return Cause{Phase: PhaseConnect, Kind: KindRefused}, true
	case reply == "connection not allowed by ruleset",
		reply == "command not supported",
		reply == "address type not supported":
		return proxyAtFault, true
	default:
		return Cause{Phase: PhaseConnect, Kind: KindOther}, true
	}
	for _, complaint := range socksComplaints {
		if strings.HasPrefix(err.Error(), complaint) {
			return proxyAtFault, true
		}
	}
	return Cause{}, false
}

var socksComplaints = []string{
	"no acceptable authentication methods", "username/password authentication failed", "invalid username/password",
	"too many authentication methods", "unsupported authentication method", "unexpected protocol version",
	"unknown address type",
	"non-zero reserved field",
}

// proxyStatus returns the error parameter of the first member of a Proxy-Status header that has one: that of the
// intermediary nearest to the upstream. What cannot be read counts for nothing.
func proxyStatus(fields []string) string {
	for _, field := range fields {
		for field != "" {
			var member string
			member, field = cutUnquoted(field, ',')
			_, params := cutUnquoted(member, ';')
			for params != "" {
				var param string
				param, params = cutUnquoted(params, ';')
				if value, ok := strings.CutPrefix(strings.Trim(param, " \t"), "error="); ok && value != "" {
					return value
				}
			}
		}
	}
	return ""
}

// cutUnquoted cuts s around the first separator outside of a string of RFC 8941.
func cutUnquoted(s string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case !quoted && s[i] == separator:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
