package transport

import (
	"net/http"
	"strings"
)

// traceparent returns the trace id of the request's traceparent header (W3C Trace Context), and "" if there is none. Tracing
// that stands outside a Transport has set it by the time the Transport sees the request.
func traceparent(req *http.Request) string {
	values := req.Header["Traceparent"]
	if len(values) != 1 || len(values[0]) < 55 || values[0][2] != '-' || values[0][35] != '-' {
		return ""
	}
	id := values[0][3:35]
	if id == strings.Repeat("0", len(id)) {
		return "" // which says that there is none
	}
	for i := range len(id) {
		if (id[i] < '0' || id[i] > '9') && (id[i] < 'a' || id[i] > 'f') {
			return ""
		}
	}
	return id
}

// mostTrace is longer than any id, in bytes: what a circuit keeps of a call that failed is not to grow with what the caller sent.
const mostTrace = 128

func cutTrace(id string) string { return strings.Clone(id[:min(len(id), mostTrace)]) }
