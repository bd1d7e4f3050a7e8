package transport

import (
	"net/http"
	"strings"

	"github.com/fusebox-go/fusebox/internal/visible"
)

// traceText returns what is kept of an id that may be anybody's text.
func traceText(id string) string { return visible.Short(id, 128) }

// traceparent returns the trace id of the request's traceparent header (W3C Trace Context), and "" if there is none.
// Tracing that stands outside a Transport has set it by the time the Transport sees the request.
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
