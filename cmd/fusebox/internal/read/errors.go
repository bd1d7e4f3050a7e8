package read

import "bytes"

// errorWords are what the text of an error has in it, in lower case, the first that it has deciding. before is the
// reading if there was no status, after if there was one, and so an answer.
var errorWords = []struct {
	words         string
	before, after reading
}{
	{"context canceled", callerLeft, answeredThenLeft},
	{"client.timeout", headersTimeout, bodyTimeout},
	{"net/http: request canceled while waiting for connection", connectTimeout, bodyTimeout},
	{"net/http: request canceled", headersTimeout, bodyTimeout},
	{"aborterror", callerLeft, answeredThenLeft},
	{"no such host", noName, noName},
	{"enotfound", noName, noName},
	{"unknownhost", noName, noName},
	{"name or service not known", noName, noName},
	{"tls handshake timeout", connectTimeout, connectTimeout},
	{"dial tcp", 0, 0}, // which decides what a timeout is
	{"connect timeout", connectTimeout, connectTimeout},
	{"connecttimeout", connectTimeout, connectTimeout},
	{"deadline", headersTimeout, bodyTimeout},
	{"timeout", headersTimeout, bodyTimeout},
	{"timed out", headersTimeout, bodyTimeout},
	{"etimedout", headersTimeout, bodyTimeout},
	{"econnaborted", headersTimeout, bodyTimeout},
	{"refused", connectRefused, connectRefused},
	{"no route to host", connectRefused, connectRefused},
	{"unreachable", connectRefused, connectRefused},
	{"connectexception", connectRefused, connectRefused},
	{"x509", badCertificate, badCertificate},
	{"certificate", badCertificate, badCertificate},
	{"sslhandshake", badCertificate, badCertificate},
	{"malformed http", notHTTP, notHTTP},
	{"reset", headersReset, bodyBroke},
	{"eof", headersReset, bodyBroke},
	{"broken pipe", headersReset, bodyBroke},
	{"hang up", headersReset, bodyBroke},
	{"closed", headersReset, bodyBroke},
}

// ofError is the reading of a call that met an error. If nothing in its text is known, it is otherwise.
func (w *worker) ofError(text []byte, status int, otherwise reading) reading {
	text = text[:min(len(text), 1024)]
	from := len(w.text)
	w.text = append(w.text, text...)
	lower := w.text[from:]
	for i, c := range lower {
		if c >= 'A' && c <= 'Z' {
			lower[i] = c | 32
		}
	}
	dialing := false
	for i := range errorWords {
		e := &errorWords[i]
		if !bytes.Contains(lower, []byte(e.words)) {
			continue
		}
		switch {
		case e.before == e.after && e.before == answered:
			dialing = true
		case dialing && e.before == headersTimeout:
			return connectTimeout
		case status > 0:
			return e.after
		default:
			return e.before
		}
	}
	if dialing {
		return connectRefused
	}
	return otherwise
}

// chromeErrors are the net::ERR_… of Chromium, without that.
var chromeErrors = []struct {
	prefix        string
	before, after reading
}{
	{"ABORTED", callerLeft, answeredThenLeft},
	{"BLOCKED", neverSent, neverSent},
	{"CONNECTION_REFUSED", connectRefused, connectRefused},
	{"ADDRESS_", connectRefused, connectRefused},
	{"CONNECTION_TIMED_OUT", connectTimeout, connectTimeout},
	{"CONNECTION_FAILED", connectRefused, connectRefused},
	{"TIMED_OUT", headersTimeout, bodyTimeout},
	{"NAME_", noName, noName},
	{"DNS_", noName, noName},
	{"CERT_", badCertificate, badCertificate},
	{"SSL_", badCertificate, badCertificate},
	{"INTERNET_DISCONNECTED", neverSent, neverSent},
	{"NETWORK_", neverSent, neverSent},
	{"PROXY_", neverSent, neverSent},
	{"TUNNEL_", neverSent, neverSent},
	{"CACHE_", neverSent, neverSent},
	{"INVALID_HTTP_RESPONSE", notHTTP, notHTTP},
	{"", headersReset, bodyBroke},
}

func ofChromeError(text []byte, status int) reading {
	text = bytes.TrimPrefix(text, []byte("net::"))
	text = bytes.TrimPrefix(text, []byte("ERR_"))
	for i := range chromeErrors {
		if e := &chromeErrors[i]; bytes.HasPrefix(text, []byte(e.prefix)) {
			if status > 0 {
				return e.after
			}
			return e.before
		}
	}
	return failedOther
}
