package read

import (
	"bytes"
	"time"
)

// attribute names that say something, old and new.
const (
	attrMethod = iota
	attrURL
	attrServer
	attrPort
	attrStatus
	attrError
	attrHost
	attrPath
	attrs
)

var attributeNames = map[string]int{
	"http.request.method": attrMethod, "http.method": attrMethod,
	"url.full": attrURL, "http.url": attrURL,
	"server.address": attrServer, "net.peer.name": attrServer, "net.sock.peer.name": attrServer,
	"server.port": attrPort, "net.peer.port": attrPort,
	"http.response.status_code": attrStatus, "http.status_code": attrStatus,
	"error.type": attrError, "http.host": attrHost, "url.path": attrPath, "http.target": attrPath,
}

var spansCannot = []string{
	"A call whose body was never closed has no span.",
	"Spans may be a sample of the calls: then rates are too low by that, and a circuit opens later than it would have.",
}

// otlpSpans reads the spans of OTLP/JSON, one each, and those that protojson has written.
var otlpSpans = newJSON(about{name: "otlp", took: true, key: "server and port", cannotShow: spansCannot,
	elements: [][]string{
		{"resourceSpans", "scopeSpans", "spans"}, {"resourceSpans", "instrumentationLibrarySpans", "spans"},
	}}, otlpLine,
	"kind", "startTimeUnixNano", "endTimeUnixNano", "attributes", "status.code", "status.message", "traceId")

// protojsonSpans are the same, named for what they are.
var protojsonSpans = func() *jsonFormat {
	f := *otlpSpans
	f.self.name = "otlp-protojson"
	f.self.notes = []string{
		"This was written by protojson and is not OTLP/JSON: ids are base64 and enums are names. Collectors refuse it.",
	}
	return &f
}()

var otlpAttribute = treeOf("key", "value.stringValue", "value.intValue", "value.doubleValue")

func otlpLine(w *worker, v []value) verdict {
	start, ok1 := number(v[1].raw, 1)
	end, ok2 := number(v[2].raw, 1)
	if !ok1 || !ok2 {
		return isStrange
	}
	if kind := v[0].raw; string(kind) != "3" && string(kind) != "SPAN_KIND_CLIENT" {
		return isOther
	}
	code := string(v[4].raw)
	return w.span(start, end, &v[3], otlpAttribute, code == "2" || code == "STATUS_CODE_ERROR", &v[5])
}

// stdoutSpans reads what stdouttrace writes.
var stdoutSpans = newJSON(about{name: "stdouttrace", took: true, key: "server and port", cannotShow: spansCannot,
	elements: [][]string{{}}},
	stdoutLine, "SpanKind", "StartTime", "EndTime", "Attributes", "Status.Code", "Status.Description", "SpanContext")

var stdoutAttribute = treeOf("Key", "Value.Value")

func stdoutLine(w *worker, v []value) verdict {
	start, ok1 := w.time(&v[1])
	end, ok2 := w.time(&v[2])
	if !ok1 || !ok2 {
		return isStrange
	}
	if string(v[0].raw) != "3" {
		return isOther
	}
	return w.span(start, end, &v[3], stdoutAttribute, string(v[4].raw) == "Error", &v[5])
}

// span reads a client's span.
func (w *worker) span(start, end int64, attributes *value, each *tree, failed bool, message *value) verdict {
	var a [attrs]value
	var pair [4]value
	ok := eachElement(attributes.raw, func(b []byte) bool {
		if !each.scan(b, pair[:]) {
			return false
		}
		if at, known := attributeNames[string(pair[0].raw)]; known && !a[at].present {
			for i := 1; i < len(pair); i++ {
				if pair[i].present {
					a[at] = pair[i]
				}
			}
		}
		return true
	})
	if !ok {
		return isStrange
	}
	if !a[attrMethod].present && !a[attrURL].present && !a[attrStatus].present {
		return isOther // a call of another kind, as to a database
	}
	r := &w.row
	r.stamp, r.took = start, end-start
	if r.took < 0 {
		r.took = -1
	}
	r.status, ok = a[attrStatus].status()
	if !ok {
		return isStrange
	}
	r.method = w.plain(&a[attrMethod])
	r.host, r.path = urlOf(w.plain(&a[attrURL]))
	r.path = or(r.path, w.plain(&a[attrPath]))
	r.host = or(r.host, w.plain(&a[attrHost]))
	if server := w.plain(&a[attrServer]); len(server) > 0 {
		r.upstream = server
		if port := w.plain(&a[attrPort]); len(port) > 0 {
			from := len(w.text)
			w.text = append(append(append(w.text, server...), ':'), port...)
			r.upstream = w.text[from:]
		}
	} else {
		r.upstream = r.host
	}
	kind := w.plain(&a[attrError])
	r.reading = byStatus(r.status)
	switch said := w.plain(message); {
	case len(kind) == 3 && kind[0] >= '1' && kind[0] <= '5' && kind[1]-'0' < 10:
		// the status once more: of clients, 404 is an error, too
	case failed && len(said) > 0 && (len(kind) > 0 || r.status == 0), len(kind) > 0:
		otherwise := failedOther
		if r.status > 0 {
			otherwise = bodyBroke
		}
		r.reading = w.ofError(said, r.status, unread)
		if r.reading == unread {
			r.reading = w.ofError(kind, r.status, otherwise)
		}
	case r.status == 0 && failed:
		r.reading = failedOther
	case r.status == 0:
		r.reading = noStatus
	}
	w.emit()
	return isCall
}

// unread is no reading.
const unread = reading(255)

// eachElement calls yield with each element of an array, as it is written, and reports whether it is an array, and
// yield has always said true. Nothing at all and null are arrays without any.
func eachElement(b []byte, yield func([]byte) bool) bool {
	if len(b) == 0 || string(b) == "null" {
		return true
	}
	if b[0] != '[' {
		return false
	}
	for i := blanks(b, 1); i < len(b) && b[i] != ']'; i = blanks(b, i) {
		end, _ := skip(b, i)
		if end < 0 || !yield(b[i:end]) {
			return false
		}
		if i = blanks(b, end); i < len(b) && b[i] == ',' {
			i++
		}
	}
	return true
}

// harEntries reads the entries of HAR files.
var harEntries = newJSON(about{name: "har", took: true, resolution: time.Millisecond, key: "host and port",
	elements: [][]string{{"log", "entries"}}, cannotShow: []string{
		"A timeout of the page's own, such as AbortSignal.timeout, looks like a cancellation.",
		"The time of a call whose body was cut off is that of its headers and, in Playwright's minimal mode, of none.",
		"Calls that the browser answered from its cache or never sent say nothing of the upstream.",
	}}, harLine,
	"startedDateTime", "time", "request.method", "request.url", "response.status", "response._failureText",
	"response._error", "_wasAborted", "_fromCache", "timings.wait", "timings.receive", "timings.send",
	"serverIPAddress", "request._failureText", "_failureText", "response._fromDiskCache")

func harLine(w *worker, v []value) verdict {
	r := &w.row
	stamp, ok := w.time(&v[0])
	status, is := v[4].status()
	if !ok || !is {
		return isStrange
	}
	url := w.plain(&v[3])
	if !bytes.HasPrefix(url, []byte("http")) && !bytes.HasPrefix(url, []byte("ws")) {
		return isOther // data:, blob:, an extension
	}
	r.stamp, r.status, r.method = stamp, status, w.plain(&v[2])
	r.host, r.path = urlOf(url)
	r.upstream = r.host
	r.took = v[1].duration(1e6)
	wait, receive := v[9].duration(1e6), v[10].duration(1e6)
	failure := or(w.plain(&v[5]), or(w.plain(&v[6]), or(w.plain(&v[13]), w.plain(&v[14]))))
	switch {
	case v[7].is == 't':
		r.reading = neverSent
	case v[8].some() && v[8].is != 'f', v[15].is == 't':
		r.reading = fromCache
	case len(failure) > 0:
		r.reading = ofChromeError(failure, status)
	case status == 0:
		r.reading = stillOpen
	default:
		r.reading = byStatus(status)
	}
	switch {
	case status > 0 && wait < 0 && receive >= 0: // only the receiving was timed
		r.took = -1
	case status > 0 && len(failure) > 0 && wait >= 0 && receive < 0: // only what was before it
		r.first, r.took = r.took, -1
	}
	w.emit()
	return isCall
}
