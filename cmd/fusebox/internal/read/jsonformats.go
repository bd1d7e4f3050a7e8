package read

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// jsonFormat is lines that are objects of JSON, of which some fields are wanted.
type jsonFormat struct {
	self  about
	names []string // of the values
	tree  *tree
	read  func(w *worker, v []value) verdict
}

func (f *jsonFormat) about() *about { return &f.self }

func (f *jsonFormat) line(w *worker, b []byte) verdict {
	v := w.vals[:len(f.names)]
	if !f.tree.scan(b, v) {
		return isStrange
	}
	w.row = row{took: -1, span: -1, first: -1}
	return f.read(w, v)
}

func newJSON(self about, read func(w *worker, v []value) verdict, names ...string) *jsonFormat {
	if self.resolution == 0 {
		self.resolution = time.Nanosecond
	}
	return &jsonFormat{self: self, names: names, tree: treeOf(names...), read: read}
}

var caddyJSON = newJSON(about{name: "caddy", end: true, took: true, resolution: time.Microsecond,
	key: "host", cannotShow: []string{
		"It does not name the upstream: the key is the host that was asked for.",
		"A body that was cut off, by whoever it was, is a 200: of a duration of 0 in Caddy 2.11.",
		"What Caddy answered by itself looks like the upstream's answer.",
		"A status of 0, as of Caddy 2.6, is a caller that left or a websocket that went well.",
	}}, caddyLine, "ts", "msg", "status", "duration", "request.host", "request.method", "request.uri",
	"request.remote_ip", "request.client_ip")

func caddyLine(w *worker, v []value) verdict {
	if msg := v[1].raw; string(msg) != "handled request" || !v[2].present {
		if len(msg) > 0 && v[0].present {
			return isOther
		}
		return isStrange
	}
	r := &w.row
	var ok, is bool
	r.stamp, ok = w.time(&v[0])
	if r.status, is = v[2].status(); !ok || !is {
		return isStrange
	}
	r.took = v[3].duration(second)
	r.host, r.method, r.path = w.plain(&v[4]), w.plain(&v[5]), w.plain(&v[6])
	r.client = or(w.plain(&v[8]), w.plain(&v[7]))
	switch {
	case r.status == 0:
		r.reading = noStatus
	case r.took == 0 && r.status >= 200 && r.status < 500:
		r.reading, r.took = cutBySomebody, -1
	default:
		r.reading = byStatus(r.status)
	}
	w.emit()
	return isCall
}

var traefikJSON = newJSON(about{name: "traefik", took: true, key: "service", cannotShow: []string{
	"A body that was cut off, by whoever it was, and a websocket have an OriginStatus of 0.",
}}, traefikLine, "StartUTC", "StartLocal", "time", "Duration", "OriginDuration", "OriginStatus", "DownstreamStatus",
	"ServiceURL.Host", "BackendURL.Host", "ServiceAddr", "ServiceURL", "BackendAddr", "BackendURL", "ServiceName",
	"BackendName", "RequestHost", "RequestMethod", "RequestPath", "ClientHost", "FrontendName")

func traefikLine(w *worker, v []value) verdict {
	r := &w.row
	took := v[3].duration(1)
	var ok bool
	switch {
	case !v[6].present:
		return isOther // Traefik's own messages
	case v[0].present:
		r.stamp, ok = w.time(&v[0])
	case v[1].present:
		r.stamp, ok = w.time(&v[1])
	default:
		r.stamp, ok = w.time(&v[2])
		r.stamp -= max(took, 0)
	}
	origin, ok1 := v[5].status()
	down, ok2 := v[6].status()
	if !ok || !ok1 || !ok2 {
		return isStrange
	}
	for _, i := range []int{9, 7, 10, 11, 8, 12} {
		if v[i].some() && (v[i].isText()) {
			_, r.upstream = schemeOf(w.plain(&v[i]))
			break
		}
	}
	r.backend = or(or(w.plain(&v[13]), w.plain(&v[14])), w.plain(&v[19]))
	r.host, r.method, r.path, r.client = w.plain(&v[15]), w.plain(&v[16]), w.plain(&v[17]), w.plain(&v[18])
	r.took = took
	if atOrigin := v[4].duration(1); atOrigin > 0 {
		r.took = atOrigin
	}
	r.status = origin
	switch {
	case !v[5].present && len(r.upstream) > 0:
		r.status, r.reading = down, byStatus(down)
	case len(r.upstream) == 0: // also of its own pages, of which it has an OriginStatus
		r.status, r.reading = down, byItself
	case origin != 0:
		r.reading = byStatus(origin)
	case down == 0:
		r.reading = noStatus
	case down == 499:
		r.status, r.reading = down, callerLeft
	default:
		r.status, r.reading = down, cutBySomebody
	}
	w.emit()
	return isCall
}

const nginxKey = "`$proxy_upstream_name` if it is there, else the server asked last, else the host"

var nginxCannot = []string{
	"A body that the upstream broke off or let stall is a 200, as is one that the caller did not want any more.",
}

var nginxJSON = newJSON(about{name: "nginx-json", end: true, took: true, whole: true, resolution: time.Second,
	key: nginxKey, cannotShow: nginxCannot}, nginxJSONLine, nginxNames...)

// nginxJSONms is the same of lines that have $msec.
var nginxJSONms = newJSON(about{name: "nginx-json", end: true, took: true, resolution: time.Millisecond,
	key: nginxKey, cannotShow: nginxCannot}, nginxJSONLine, nginxNames...)

var nginxNames = []string{
	"msec", "time", "time_iso8601", "time_local", "@timestamp", "timestamp", "status", "request_time", "upstream_addr",
	"upstream_status", "upstream_connect_time", "upstream_header_time", "upstream_response_time",
	"upstream_cache_status", "host", "http_host", "request_method", "method", "request_uri", "uri", "request",
	"remote_addr", "proxy_upstream_name", "upstream_name", "server_name", "path",
}

func nginxJSONLine(w *worker, v []value) verdict {
	r := &w.row
	ok := false
	for i := range 6 {
		if i == 0 && w.about.whole || !v[i].some() {
			continue
		}
		r.stamp, ok = w.time(&v[i])
		break
	}
	var is bool
	if r.status, is = v[6].status(); !ok || !is || !v[6].present {
		return isStrange
	}
	r.took = v[7].duration(second)
	a := asked{w.list(&v[8]), w.list(&v[9]), w.list(&v[10]), w.list(&v[11]), w.list(&v[12]), w.plain(&v[13])}
	r.host = or(w.plain(&v[15]), or(w.plain(&v[14]), w.plain(&v[24])))
	r.method, r.path = or(w.plain(&v[16]), w.plain(&v[17])), or(w.plain(&v[18]), or(w.plain(&v[19]), w.plain(&v[25])))
	if v[20].present {
		r.method, r.path, _ = requestOf(w.plain(&v[20]))
	}
	r.client, r.backend = w.plain(&v[21]), or(w.plain(&v[22]), w.plain(&v[23]))
	w.attempts(&a)
	return isCall
}

// list is a value that is nil if it is not there, and not if it is empty.
func (w *worker) list(v *value) []byte {
	if v.is == '0' {
		return []byte{}
	}
	return w.plain(v)
}

var gcpJSON = newJSON(about{name: "gcp", took: true, resolution: time.Microsecond, key: "backend service",
	cannotShow: []string{"What a backend service has tried again has one line."}}, gcpLine,
	"timestamp", "httpRequest.status", "httpRequest.latency", "httpRequest.requestMethod", "httpRequest.requestUrl",
	"httpRequest.remoteIp", "httpRequest.cacheHit", "jsonPayload.statusDetails", "resource.labels.backend_service_name",
	"httpRequest.serverIp", "resource.labels.url_map_name")

// gcpDetails are the statusDetails that say more than the status, by how they begin.
var gcpDetails = []struct {
	prefix string
	reading
}{
	{"client_disconnected_before_any_response", callerLeft},
	{"client_disconnected_after_partial_response", answeredThenLeft},
	{"client_timed_out", badRequest},
	{"response_from_cache", fromCache},
	{"backend_timeout", headersTimeout},
	{"backend_connection_closed_after_partial_response_sent", bodyBroke},
	{"backend_connection_closed", headersReset},
	{"backend_interim_response_not_supported", notHTTP},
	{"backend_response_corrupted", bodyBroke},
	{"failed_to_connect_to_backend", connectRefused},
	{"failed_to_pick_backend", noServer},
	{"failed_to_negotiate_alpn", connectRefused},
	{"denied_by_", byItself},
	{"redirect", byItself},
	{"handled_by_", byItself},
	{"request_", badRequest},
	{"bad_request", badRequest},
	{"malformed", badRequest},
	{"http_version_not_supported", badRequest},
	{"url_rewrite", byItself},
	{"body_not_allowed", badRequest},
	{"aborted_request_due_to_backend_early_response", answered},
}

func gcpLine(w *worker, v []value) verdict {
	r := &w.row
	stamp, ok := w.time(&v[0])
	status, is := v[1].status()
	if !ok || !is {
		return isStrange
	}
	if !v[1].present && !v[7].present {
		return isOther
	}
	r.stamp, r.status, r.took = stamp, status, v[2].duration(second)
	r.method, r.client, r.backend = w.plain(&v[3]), w.plain(&v[5]), or(w.plain(&v[8]), w.plain(&v[10]))
	r.host, r.path = urlOf(w.plain(&v[4]))
	r.upstream = w.plain(&v[9])
	r.reading = byStatus(status)
	details := w.plain(&v[7])
	for i := range gcpDetails {
		if d := &gcpDetails[i]; bytes.HasPrefix(details, []byte(d.prefix)) {
			r.reading = d.reading
			if d.reading == answered {
				r.reading = byStatus(status)
			}
			break
		}
	}
	if v[6].is == 't' {
		r.reading = fromCache
	}
	w.emit()
	return isCall
}

var envoyJSON = newJSON(about{name: "envoy-json", took: true, resolution: time.Millisecond,
	key: "cluster, else host", cannotShow: envoyCannot}, envoyJSONLine,
	"start_time", "duration", "response_code", "response_flags", "upstream_host", "upstream_cluster", "authority",
	"method", "path", "downstream_remote_address", "upstream_service_time")

func envoyJSONLine(w *worker, v []value) verdict {
	r := &w.row
	var ok, is bool
	r.stamp, ok = w.time(&v[0])
	if r.status, is = v[2].status(); !ok || !is {
		return isStrange
	}
	r.took, r.first = v[1].duration(1e6), v[10].duration(1e6)
	r.upstream, r.backend, r.host = noHyphen(w.plain(&v[4])), noHyphen(w.plain(&v[5])), noHyphen(w.plain(&v[6]))
	r.method, r.path, r.client = w.plain(&v[7]), w.plain(&v[8]), w.plain(&v[9])
	r.reading = ofEnvoy(r, w.plain(&v[3]))
	w.emit()
	return isCall
}

// mapped are the names on the left of a mapping.
var mapped = []string{
	"start", "end", "ns", "us", "ms", "s", "took", "status", "host", "backend", "path", "method", "client", "error",
	"timeout",
}

const (
	mapStart = iota
	mapEnd
	mapNs
	mapUs
	mapMs
	mapS
	mapTook
	mapStatus
	mapHost
	mapBackend
	mapPath
	mapMethod
	mapClient
	mapError
	mapTimeout
)

// mappingFormat reads lines of JSON as a mapping says: start=ts,ms=took,status=code,host=peer,error=err.
func mappingFormat(name, mapping string) (*jsonFormat, error) {
	names := make([]string, len(mapped))
	for pair := range strings.SplitSeq(mapping, ",") {
		left, right, found := strings.Cut(strings.TrimSpace(pair), "=")
		i := slices.Index(mapped, left)
		if !found || i < 0 || right == "" {
			return nil, fmt.Errorf("the mapping has %q; write one of %s, then = and the name of a field",
				pair, strings.Join(mapped, ", "))
		}
		names[i] = right
	}
	if (names[mapStart] == "") == (names[mapEnd] == "") {
		return nil, fmt.Errorf("the mapping has to name when a call began, by start=, or when it ended, by end=")
	}
	if names[mapStatus] == "" && names[mapError] == "" {
		return nil, fmt.Errorf("the mapping has to name what came of a call, by status=, error= or both")
	}
	self := about{name: name, end: names[mapEnd] != "", key: "backend= if it is given, else host="}
	for _, name := range names[mapNs : mapTook+1] {
		self.took = self.took || name != ""
	}
	return newJSON(self, mappedLine, names...), nil
}

var mapUnits = [...]int64{mapNs: 1, mapUs: 1e3, mapMs: 1e6, mapS: 1e9, mapTook: 1}

func mappedLine(w *worker, v []value) verdict {
	r := &w.row
	at := &v[mapStart]
	if w.about.end {
		at = &v[mapEnd]
	}
	stamp, ok := w.time(at)
	status, is := v[mapStatus].status()
	switch {
	case !ok || !is:
		return isStrange
	case !v[mapStatus].some() && !v[mapError].some():
		return isOther
	}
	r.stamp, r.status = stamp, status
	for i := mapNs; i <= mapTook; i++ {
		if v[i].present {
			r.took = v[i].duration(mapUnits[i])
		}
	}
	r.upstream, r.backend = w.plain(&v[mapHost]), w.plain(&v[mapBackend])
	if bytes.Contains(r.upstream, []byte("://")) {
		r.upstream, r.path = urlOf(r.upstream)
	}
	r.host = r.upstream
	r.path, r.method, r.client = or(w.plain(&v[mapPath]), r.path), w.plain(&v[mapMethod]), w.plain(&v[mapClient])
	r.reading = byStatus(status)
	if v[mapError].some() && v[mapError].is != 'f' {
		otherwise := failedOther
		if status > 0 {
			otherwise = byStatus(status)
		}
		r.reading = w.ofError(w.plain(&v[mapError]), status, otherwise)
	}
	if v[mapTimeout].is == 't' && outcomes[r.reading] != outcomes[failedStatus] {
		r.reading = headersTimeout
		if status > 0 {
			r.reading = bodyTimeout
		}
	}
	w.emit()
	return isCall
}

var slogJSON = func() *jsonFormat {
	f, err := mappingFormat("slog",
		"end=time,took=duration,status=status,host=host,path=path,method=method,error=error,timeout=timeout")
	if err != nil {
		panic(err)
	}
	f.self.cannotShow = []string{"It is one line for a call and the redirects that it followed, if it was written so."}
	return f
}()

func noHyphen(b []byte) []byte {
	if isNone(b) {
		return nil
	}
	return b
}
