package read

import (
	"bytes"
	"time"
)

// haproxyLines reads the lines of option httplog, httpslog and tcplog, by themselves or after a header of syslog.
type haproxyLines struct{ self about }

var haproxy = &haproxyLines{about{name: "haproxy", took: true, resolution: time.Millisecond,
	key: "backend", cannotShow: []string{
		"A caller that leaves while it waits is logged as if it had stayed, without option abortonclose.",
		"A later request of a kept connection that the server breaks off before an answer has no line at all.",
		"Of a call that was tried again only the last server is named, and the others' failures have no line.",
		"With option logasap (a + before the time) a body that breaks later looks well.",
		"A line of option tcplog is a connection: a status of 500 within it is not seen.",
	}}}

func (h *haproxyLines) about() *about { return &h.self }

// haproxyWords are what lines have in them that are HAProxy's, and no calls.
var haproxyWords = [][]byte{
	[]byte(" is DOWN"), []byte(" is UP"), []byte(" has no server available"), []byte(" started."), []byte(" stopped"),
	[]byte("Connect from "), []byte("SSL handshake failure"), []byte("Health check for "), []byte("Proxy "),
	[]byte("Stopping "), []byte("Pausing "), []byte("Enabling "), []byte("Server "), []byte("Reexecuting "),
	[]byte("Connection closed during SSL handshake"), []byte("Connection error during SSL handshake"),
	[]byte("New worker "), []byte("Loading success"), []byte("Exiting Master"), []byte("was killed"),
	[]byte("backend "),
}

func (h *haproxyLines) line(w *worker, b []byte) verdict {
	at, end := findClock(b)
	if at < 0 {
		return notACall(b)
	}
	stamp, ok := w.clock(b[at+1 : end])
	if !ok {
		return notACall(b)
	}
	r := &w.row
	*r = row{took: -1, span: -1, first: -1, stamp: stamp}
	if at > 1 {
		r.client = b[bytes.LastIndexByte(b[:at-1], ' ')+1 : at-1]
	}
	rest := b[min(end+2, len(b)):]
	_, rest = word(rest) // the frontend
	where, rest := word(rest)
	timers, rest := word(rest)
	slash := bytes.IndexByte(where, '/')
	if slash < 0 || len(timers) == 0 {
		return notACall(b)
	}
	var t [5]int64
	n, plus := timersOf(timers, &t)
	r.backend = where[:slash]
	server := where[slash+1:]
	if r.upstream = where; len(server) > 0 && server[0] == '<' {
		r.upstream, server = nil, nil
	}
	switch n {
	case 5:
		return w.haproxyHTTP(rest, &t, server)
	case 3:
		return w.haproxyTCP(rest, &t, server, plus)
	}
	return isStrange
}

// haproxyHTTP reads what comes after the timers: TR, Tw, Tc, Tr and Ta.
func (w *worker) haproxyHTTP(b []byte, t *[5]int64, server []byte) verdict {
	r := &w.row
	status, b := word(b)
	_, b = word(b) // bytes
	_, b = word(b) // captured cookies
	_, b = word(b)
	state, b := word(b)
	conns, b := word(b)
	queues, b := word(b)
	var ok bool
	if r.status, ok = statusIn(status); !ok || len(state) != 4 || bytes.IndexByte(conns, '/') < 0 ||
		bytes.IndexByte(queues, '/') < 0 || len(b) == 0 || b[len(b)-1] != '"' && !afterRequest(b) {
		return isStrange
	}
	if w.wantsRequest || w.keyBy == byHost {
		b = b[bytes.LastIndex(b, []byte(` "`))+1:]
		if len(b) > 1 && b[0] == '"' {
			r.method, r.path, r.host = requestOf(bytes.TrimSuffix(b[1:], []byte{'"'}))
		}
	}
	r.took = t[4]
	if t[3] >= 0 {
		r.first = sumOf(t[0], t[1], t[2], t[3])
	}
	r.reading = haproxyHTTPState(r.status, state[0], state[1], server != nil, t)
	w.emit()
	return isCall
}

// afterRequest reports whether a request and more comes, as of httpslog.
func afterRequest(b []byte) bool { return bytes.Contains(b, []byte(`HTTP/`)) }

// haproxyHTTPState reads the first two letters of the termination state: who ended it, and in which phase. In capitals
// somebody did, in small letters by letting a timeout pass.
func haproxyHTTPState(status int, who, when byte, server bool, t *[5]int64) reading {
	answer := t[3] >= 0
	switch {
	case who == 'L' || who == 'R' || who == 'I' || who == 'U':
		return byItself
	case when == 'Q' || when == 'T':
		if who == 'C' || who == 'c' {
			return callerLeft
		}
		return queueOrLimit
	case when == 'R':
		return badRequest
	case who == 'C' || who == 'c':
		if answer && when != 'H' || when == 'D' && status > 0 || when == 'L' {
			return failedOr(status, answeredThenLeft)
		}
		return callerLeft
	case who == 'P' && when == 'H' && answer && status < 500, who == 'P' && when == 'C':
		return byItself
	case who == 'P' && when == 'H':
		return notHTTP
	case who == 'P' && when == 'D':
		return bodyBroke
	case who == 'P':
		return byItself
	case !server && who == 'S' && when == 'C':
		return noServer
	case who == 's' && when == 'C':
		return connectTimeout
	case who == 'S' && when == 'C':
		return connectRefused
	case who == 's' && when == 'H':
		return headersTimeout
	case who == 'S' && when == 'H':
		return headersReset
	case who == 's':
		return bodyTimeout
	case who == 'S':
		return bodyBroke
	case who == 'D' || who == 'K':
		return bodyBroke // killed, as its server is down
	case !server:
		return byItself
	}
	return byStatus(status)
}

// failedOr is otherwise, unless the status is that of a failure.
func failedOr(status int, otherwise reading) reading {
	if status >= 500 {
		return failedStatus
	}
	return otherwise
}

// haproxyTCP reads what comes after the timers: Tw, Tc and Tt.
func (w *worker) haproxyTCP(b []byte, t *[5]int64, server []byte, plus bool) verdict {
	r := &w.row
	count, b := word(b)
	state, b := word(b)
	conns, b := word(b)
	queues, _ := word(b)
	bytesOut, ok := number(bytes.TrimPrefix(count, []byte{'+'}), 1)
	if !ok || len(state) != 2 || bytes.IndexByte(conns, '/') < 0 || bytes.IndexByte(queues, '/') < 0 {
		return isStrange
	}
	r.took = t[2]
	who, when := state[0], state[1]
	switch {
	case who == 'L' || who == 'R' || who == 'I' || who == 'U' || who == 'P':
		r.reading = byItself
	case when == 'Q':
		r.reading = queueOrLimit
		if who == 'C' || who == 'c' {
			r.reading = callerLeft
		}
	case who == 'C' || who == 'c':
		if r.reading = callerLeft; bytesOut > 0 {
			r.reading = answeredThenLeft
		}
	case server == nil:
		r.reading = noServer
	case who == 's' && when == 'C':
		r.reading = connectTimeout
	case who == 'S' && when == 'C':
		r.reading = connectRefused
	case who == 's' && bytesOut == 0:
		r.reading = headersTimeout
	case who == 's':
		r.reading = bodyTimeout
	case who == 'S' && bytesOut == 0:
		r.reading = headersReset
	case who == 'S', who == 'D', who == 'K':
		r.reading = bodyBroke
	case bytesOut == 0 && !plus:
		r.reading = noStatus
	default:
		r.reading = tunneled
	}
	w.emit()
	return isCall
}

// findClock is where [29/Nov/2026:03:10:00.265] begins and ends, -1 if it is nowhere.
func findClock(b []byte) (at, end int) {
	for from := 0; ; {
		i := bytes.IndexByte(b[from:], '[')
		if i < 0 {
			return -1, -1
		}
		i += from
		if i+22 < len(b) && b[i+3] == '/' && b[i+7] == '/' && b[i+12] == ':' {
			if j := bytes.IndexByte(b[i:], ']'); j > 0 {
				return i, i + j
			}
		}
		from = i + 1
	}
}

func notACall(b []byte) verdict {
	for _, words := range haproxyWords {
		if bytes.Contains(b, words) {
			return isOther
		}
	}
	return isStrange
}

// timersOf reads numbers of milliseconds with slashes between them, in nanoseconds, -1 as it is, and whether the last
// has a + before it. n is 0 if one is none.
func timersOf(b []byte, t *[5]int64) (n int, plus bool) {
	for ; n < len(t); n++ {
		part := b
		i := bytes.IndexByte(b, '/')
		if i >= 0 {
			part = b[:i]
		}
		if len(part) > 0 && part[0] == '+' {
			part, plus = part[1:], true
		}
		if string(part) == "-1" {
			t[n] = -1
		} else {
			ms, ok := digits(part)
			if !ok || ms > 1e12 {
				return 0, false
			}
			t[n] = ms * 1e6
		}
		if i < 0 {
			return n + 1, plus
		}
		b = b[i+1:]
	}
	return 0, false
}

func sumOf(all ...int64) (sum int64) {
	for _, n := range all {
		sum += max(n, 0)
	}
	return sum
}

// word is what is before the next blanks, and what is after them.
func word(b []byte) (first, rest []byte) {
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return b, nil
	}
	first, rest = b[:i], b[i+1:]
	for len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	return first, rest
}
