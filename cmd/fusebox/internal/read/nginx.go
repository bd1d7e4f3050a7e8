package read

import "bytes"

// asked is what nginx says of the servers that it asked: lists with one value for each attempt. nil is a field that the
// line does not have.
type asked struct {
	addr, status, connect, header, took, cache []byte
}

func (w *worker) nginx(f *textFormat) {
	p := &w.parts
	w.attempts(&asked{
		f.part(p, upstreamAddr), f.part(p, upstreamStatus), f.part(p, upstreamConnect), f.part(p, upstreamHeader),
		f.part(p, upstreamTook), f.part(p, cacheStatus),
	})
}

// part is a part of a line, nil if the format has no such field.
func (f *textFormat) part(p *[maxParts][]byte, is field) []byte {
	if f.has[is] {
		return p[is]
	}
	return nil
}

// attempts emits the row of a request to nginx, or one for each server that was asked if these are the keys.
func (w *worker) attempts(a *asked) {
	r := &w.row
	whole := r.took           // of the request
	one := len(a.status) == 3 // status, and so one attempt
	if a.took != nil {
		took := int64(-1)
		if one {
			took = duration(a.took, second)
		} else {
			took = sum(a.took)
		}
		if took >= 0 {
			r.span, r.took = max(whole, took), took
		}
	}
	nobody := isNone(a.addr) && isNone(a.status)
	switch {
	case len(a.cache) > 0 && isHit(a.cache) && nobody:
		r.reading = fromCache
		w.emit()
		return
	case nobody && r.status == 499:
		r.reading = callerLeft
		w.emit()
		return
	case nobody && (a.addr != nil || a.status != nil):
		r.reading = byItself
		w.emit()
		return
	}
	group := a.addr != nil && bytes.IndexByte(a.addr, ':') < 0
	if w.keyBy == byUpstream && a.addr != nil && !group {
		w.each(a)
		return
	}
	if group {
		r.upstream, r.backend = nil, or(r.backend, a.addr)
	} else {
		r.upstream = a.addr
		if !one {
			r.upstream = lastOf(a.addr)
		}
	}
	if w.Judge != nil { // who alone asks
		r.first = lastTime(a.header)
	}
	if r.status > 0 && r.status < 100 { // it took what came for HTTP/0.9, and that for a 200
		r.reading = notHTTP
		w.emit()
		return
	}
	if one {
		w.oneAttempt(a.status, a.connect, a.header, a)
	} else {
		w.oneAttempt(lastOf(a.status), lastOf(a.connect), lastOf(a.header), a)
	}
	if group && outcomes[r.reading] == outcomes[failedStatus] {
		r.reading = noServer
	}
	w.emit()
}

// oneAttempt reads what came of an attempt into the row.
func (w *worker) oneAttempt(status, connect, header []byte, a *asked) {
	r := &w.row
	if a.status == nil {
		r.reading = byStatus(r.status)
		return
	}
	at, ok := statusIn(status)
	if !ok {
		r.reading = failedOther
		return
	}
	if at == 0 {
		r.reading = callerLeft
		return
	}
	r.status, r.reading = at, byStatus(at)
	// nginx writes 502 and 504 of its own accord, and then there were no headers.
	if a.header == nil || !isNone(header) || at != 502 && at != 504 {
		return
	}
	connected := a.connect == nil || !isNone(connect)
	switch {
	case at == 504 && connected:
		r.reading = headersTimeout
	case at == 504:
		r.reading = connectTimeout
	case connected:
		r.reading = headersReset
	default:
		r.reading = connectRefused
	}
}

// each emits one row for each attempt.
func (w *worker) each(a *asked) {
	r := &w.row
	start := r.stamp
	if w.about.end {
		start -= max(r.took, r.span, 0)
	}
	all, status := *r, r.status
	for i, addrs := 0, a.addr; len(addrs) > 0; i++ {
		var addr []byte
		addr, addrs = cutList(addrs)
		*r = all
		r.status, r.upstream, r.further = status, addr, i > 0
		r.took = duration(nth(a.took, i), second)
		r.first = duration(nth(a.header, i), second)
		if w.about.end {
			r.span = r.stamp - start
		} else {
			r.stamp = start
		}
		w.oneAttempt(nth(a.status, i), nth(a.connect, i), nth(a.header, i), a)
		w.emit()
		start += max(r.took, 0)
	}
}

func or(a, b []byte) []byte {
	if len(a) > 0 {
		return a
	}
	return b
}

func isNone(b []byte) bool { return len(b) == 0 || len(b) == 1 && b[0] == '-' }

func isHit(b []byte) bool {
	switch string(b) {
	case "HIT", "STALE", "UPDATING", "REVALIDATED":
		return true
	}
	return false
}

// cutList takes the first value off a list.
func cutList(b []byte) (first, rest []byte) {
	for i, c := range b {
		switch {
		case c == ',':
			return b[:i], bytes.TrimLeft(b[i+1:], " ")
		case c == ' ' && i+2 < len(b) && b[i+1] == ':' && b[i+2] == ' ':
			return b[:i], b[i+3:]
		}
	}
	return b, nil
}

// lastOf is the last value of a list.
func lastOf(b []byte) []byte {
	if len(b) <= 5 { // of one status or time
		return b
	}
	if i := bytes.LastIndexByte(b, ' '); i >= 0 {
		return b[i+1:]
	}
	if i := bytes.LastIndexByte(b, ','); i >= 0 {
		return b[i+1:]
	}
	return b
}

// nth is the value of a list at i; nil if there is none.
func nth(b []byte, i int) (value []byte) {
	for ; i >= 0 && len(b) > 0; i-- {
		if value, b = cutList(b); i == 0 {
			return value
		}
	}
	return nil
}

// sum is the sum of the times in a list, in nanoseconds; -1 if there is none.
func sum(b []byte) int64 {
	if bytes.IndexByte(b, ' ') < 0 {
		return duration(b, second)
	}
	all := int64(-1)
	for len(b) > 0 {
		var value []byte
		value, b = cutList(b)
		if took := duration(value, second); took >= 0 {
			all = max(all, 0) + took
		}
	}
	return all
}

func lastTime(b []byte) int64 {
	if b == nil {
		return -1
	}
	return duration(lastOf(b), second)
}
