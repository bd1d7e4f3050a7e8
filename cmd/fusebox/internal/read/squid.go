package read

import (
	"bytes"
	"time"
)

// squidLines reads Squid's native format.
type squidLines struct{ self about }

var squid = &squidLines{about{name: "squid", end: true, took: true, resolution: time.Millisecond,
	key: "parent if there is one, else host and port of the URL", cannotShow: []string{
		"A body that broke, and an answer that was not HTTP, are TCP_MISS/200.",
		"What goes on inside a tunnel: TCP_TUNNEL/200 is a connection that was made.",
		"By HIER_DIRECT a server has no port: the key is the host and port of the URL.",
	}}}

func (s *squidLines) about() *about { return &s.self }

func (s *squidLines) line(w *worker, b []byte) verdict {
	stamp, b := word(b)
	elapsed, b := word(b)
	client, b := word(b)
	result, b := word(b)
	_, b = word(b) // bytes
	method, b := word(b)
	url, b := word(b)
	_, b = word(b) // the user
	hierarchy, b := word(b)
	slash := bytes.IndexByte(result, '/')
	if slash < 0 || len(hierarchy) == 0 || len(b) == 0 || bytes.IndexByte(hierarchy, '/') < 0 {
		return isStrange
	}
	r := &w.row
	*r = row{span: -1, first: -1, method: method, client: client}
	var ok1, ok2 bool
	r.stamp, ok1 = epoch(stamp)
	r.status, ok2 = statusIn(result[slash+1:])
	if r.took = duration(elapsed, 1e6); !ok1 || !ok2 {
		return isStrange
	}
	switch {
	case string(method) == "CONNECT":
		r.host = url
	case !bytes.HasPrefix(url, []byte("error:")): // of a connection without a request
		r.host, r.path = urlOf(url)
	}
	r.upstream = r.host
	if parent := hierarchy[bytes.IndexByte(hierarchy, '/')+1:]; bytes.Contains(hierarchy, []byte("_PARENT")) {
		r.backend = parent
	}
	r.reading = squidReading(result[:slash], r.status, string(method) == "CONNECT")
	w.emit()
	return isCall
}

func squidReading(code []byte, status int, connect bool) reading {
	switch {
	case bytes.HasSuffix(code, []byte("_ABORTED")):
		if status == 0 {
			return callerLeft
		}
		return failedOr(status, answeredThenLeft)
	case status == 0:
		return badRequest
	case bytes.HasPrefix(code, []byte("TCP_TUNNEL")):
		return failedOr(status, tunneled)
	case bytes.HasPrefix(code, []byte("TCP_DENIED")), bytes.HasPrefix(code, []byte("TCP_REDIRECT")):
		return byItself
	case bytes.Contains(code, []byte("_HIT")) && !bytes.Contains(code, []byte("REFRESH")),
		bytes.Contains(code, []byte("REFRESH_UNMODIFIED")) && bytes.Contains(code, []byte("IGNORED")):
		return fromCache
	case bytes.HasPrefix(code, []byte("NONE")):
		switch {
		case !connect:
			return byItself
		case status == 500:
			return noName
		case status >= 500:
			return connectRefused
		}
		return byItself
	}
	return byStatus(status)
}
