package read

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// albLines reads the access logs of AWS application load balancers.
type albLines struct{ self about }

var alb = &albLines{about{name: "alb", end: true, took: true, resolution: time.Microsecond,
	key: "target group", cannotShow: []string{
		"A body that broke is not told from one that arrived.",
		"A websocket has its line when it closes.",
	}}}

func (a *albLines) about() *about { return &a.self }

var albTypes = []string{"http", "https", "h2", "grpcs", "ws", "wss"}

func (a *albLines) line(w *worker, b []byte) verdict {
	kind, rest := word(b)
	if !slices.Contains(albTypes, string(kind)) {
		if string(kind) == "tls" || len(kind) > 19 && kind[4] == '-' {
			return isOther // of a network load balancer, or about a connection
		}
		return isStrange
	}
	var f [10][]byte   // time elb client target request_processing target_processing response_processing elb_status
	for i := range f { // target_status received_bytes
		if f[i], rest = word(rest); len(f[i]) == 0 {
			return isStrange
		}
	}
	_, rest = word(rest) // sent_bytes
	r := &w.row
	*r = row{took: -1, span: -1, first: -1}
	var ok1, ok2, ok3 bool
	r.stamp, ok1 = w.rfc3339(f[0])
	elb, ok2 := statusIn(f[7])
	target, ok3 := statusIn(f[8])
	if !ok1 || !ok2 || !ok3 || len(rest) == 0 || rest[0] != '"' {
		return isStrange
	}
	end := index(rest[1:], `" "`)
	if end < 0 {
		return isStrange
	}
	r.method, r.path, r.host = requestOf(rest[1 : 1+end])
	rest = rest[1+end+3:]
	r.client, r.upstream, r.status = f[2], noHyphen(f[3]), target
	if end = index(rest, `"`); end < 0 { // the caller's agent
		return isStrange
	}
	rest = rest[end+1:]
	var more [8][]byte // cipher protocol target_group "trace" "domain" "certificate" priority creation_time
	for i := range more[:3] {
		more[i], rest = word(bytes.TrimLeft(rest, " "))
	}
	last := rest
	for i := range more[3:] {
		more[3+i], last = word(bytes.TrimLeft(last, " "))
	}
	r.backend = groupOf(noHyphen(more[2]))
	before, at, after := duration(f[4], second), duration(f[5], second), duration(f[6], second)
	if at >= 0 {
		r.took = at + max(after, 0)
		r.span = max(before, 0) + r.took
	} else if created, ok := w.rfc3339(more[7]); ok && created <= r.stamp { // there was no answer
		r.took = r.stamp - created
	}
	r.reading = albReading(elb, target, r.upstream != nil)
	if target == 0 {
		r.status = elb
		for _, action := range albActions {
			if bytes.Contains(rest, action) {
				r.reading = byItself
			}
		}
	}
	w.emit()
	return isCall
}

// albActions are what the balancer does by itself.
var albActions = [][]byte{[]byte(`"fixed-response"`), []byte(`"redirect"`), []byte(`"waf"`), []byte(`waf,`)}

// groupOf is the name within the ARN of a target group.
func groupOf(arn []byte) []byte {
	_, name, found := bytes.Cut(arn, []byte(":targetgroup/"))
	if !found {
		return arn
	}
	name, _, _ = bytes.Cut(name, []byte{'/'})
	return name
}

func albReading(elb, target int, chosen bool) reading {
	switch {
	case target != 0:
		return byStatus(target)
	case elb == 460:
		return callerLeft
	case elb == 504:
		return headersTimeout
	case elb == 502:
		return headersReset
	case elb == 503 && !chosen:
		return noServer
	case chosen && elb >= 500:
		return failedStatus
	case elb == 400, elb == 408, elb == 414, elb == 463, elb == 464:
		return badRequest
	}
	return byItself
}

// cloudfrontLines reads the standard logs of CloudFront, whose fields a line at the beginning names.
type cloudfrontLines struct {
	self                                                                                 about
	date, clock, status, took, first, host, header, path, method, result, detail, client int
	fields                                                                               int
}

// newCloudfront makes it of a #Fields line.
func newCloudfront(names []byte) (*cloudfrontLines, error) {
	all := bytes.Fields(bytes.TrimPrefix(names, []byte("#Fields:")))
	at := func(name string) int {
		return slices.IndexFunc(all, func(b []byte) bool { return string(b) == name })
	}
	c := &cloudfrontLines{
		self: about{name: "cloudfront", end: true, whole: true, took: true, resolution: time.Second, key: "host",
			cannotShow: []string{
				"It does not name the origin: the key is the host that was asked for.",
				"It is what the edge answered: what an origin failed and the edge tried again looks well.",
			}},
		date: at("date"), clock: at("time"), status: at("sc-status"), took: at("time-taken"),
		first: at("time-to-first-byte"),
		host:  at("cs(Host)"), header: at("x-host-header"), path: at("cs-uri-stem"), method: at("cs-method"),
		result: at("x-edge-result-type"), detail: at("x-edge-detailed-result-type"), client: at("c-ip"),
		fields: len(all),
	}
	if c.date < 0 || c.clock < 0 || c.status < 0 {
		return nil, fmt.Errorf("the #Fields are without date, time or sc-status")
	}
	return c, nil
}

var cloudfrontFields = []byte("#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem " +
	"sc-status cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header " +
	"cs-protocol cs-bytes time-taken x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type " +
	"cs-protocol-version fle-status fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type " +
	"sc-content-type sc-content-len sc-range-start sc-range-end")

func (c *cloudfrontLines) about() *about { return &c.self }

func (c *cloudfrontLines) line(w *worker, b []byte) verdict {
	if b[0] == '#' {
		return isOther
	}
	var parts [64][]byte
	n := 0
	for rest, more := b, true; more && n < len(parts); n++ {
		parts[n], rest, more = bytes.Cut(rest, []byte{'\t'})
	}
	if n < c.fields {
		return isStrange
	}
	part := func(i int) []byte {
		if i < 0 || i >= n {
			return nil
		}
		return noHyphen(parts[i])
	}
	r := &w.row
	*r = row{span: -1, first: duration(part(c.first), second), took: duration(part(c.took), second)}
	w.text = append(append(append(w.text, part(c.date)...), 'T'), part(c.clock)...)
	w.text = append(w.text, 'Z')
	var ok1, ok2 bool
	r.stamp, ok1 = w.rfc3339(w.text)
	r.status, ok2 = statusIn(part(c.status))
	if !ok1 || !ok2 {
		return isStrange
	}
	r.host, r.path = or(part(c.header), part(c.host)), part(c.path)
	r.method, r.client = part(c.method), part(c.client)
	r.reading = cloudfrontReading(r.status, part(c.result), part(c.detail))
	w.emit()
	return isCall
}

func cloudfrontReading(status int, result, detail []byte) reading {
	if len(detail) == 0 {
		detail = result
	}
	switch string(detail) {
	case "Hit", "RefreshHit", "OriginShieldHit":
		return fromCache
	case "LimitExceeded", "CapacityExceeded":
		return queueOrLimit
	case "Redirect", "FunctionGeneratedResponse":
		return byItself
	case "ClientCommError", "AbortedOrigin", "ClientHungUpRequest":
		if status > 0 {
			return failedOr(status, answeredThenLeft)
		}
		return callerLeft
	case "OriginConnectError":
		return connectRefused
	case "OriginDnsError":
		return noName
	case "OriginCommError":
		return headersReset
	case "OriginReadTimeout":
		return headersTimeout
	case "OriginInvalidResponseError", "OriginHeaderTooBigError":
		return notHTTP
	}
	if status < 500 && bytes.HasSuffix(detail, []byte("GeneratedResponse")) {
		return byItself
	}
	return byStatus(status)
}
