package read

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Formats are the names of the formats that Options.Format takes; those with a colon are given something after it.
func Formats() []string {
	return []string{"nginx", "nginx:<log_format>", "nginx-json", "nginx-ingress", "haproxy", "apache",
		"apache:<LogFormat>", "squid", "caddy", "traefik", "varnishncsa", "varnishncsa:<format>", "lighttpd",
		"lighttpd:<format>", "envoy", "envoy-json", "alb", "cloudfront", "gcp", "har", "otlp", "stdouttrace", "slog",
		"json:start=…,ms=…,status=…,host=…,error=…"}
}

// given are the formats that need nothing but their name.
var given = map[string]format{
	"haproxy": haproxy, "squid": squid, "caddy": caddyJSON, "envoy": envoy, "envoy-json": envoyJSON, "alb": alb,
	"gcp": gcpJSON, "otlp-protojson": protojsonSpans, "har": harEntries, "stdouttrace": stdoutSpans, "slog": slogJSON,
}

// formatOf is the format that the options name, or that the start of a file tells, within another or not. whole says
// that it is all of the file.
func formatOf(s *settings, start []byte, whole bool) (format, error) {
	line, _, _ := bytes.Cut(start, []byte{'\n'})
	line = bytes.TrimRight(line, "\r")
	for i := range wrappers {
		if w := &wrappers[i]; w.is(line) {
			f, err := plainFormatOf(s, w.unwrapped(start), whole)
			if err != nil {
				return nil, err
			}
			return w.around(f), nil
		}
	}
	for i := range headers {
		if w := &headers[i]; w.is(line) {
			text := w.unwrapped(start)
			inner, err := plainFormatOf(s, text, whole)
			if err == nil && inner != haproxy && len(try(s, inner, text, whole).calls) > 0 { // which reads them itself
				return w.around(inner), nil
			}
		}
	}
	return plainFormatOf(s, start, whole)
}

func plainFormatOf(s *settings, start []byte, whole bool) (format, error) {
	kind, argument, more := strings.Cut(s.Format, ":")
	switch {
	case kind == "" || kind == "auto":
		return detect(s, start, whole)
	case given[kind] != nil && !more:
		return given[kind], nil
	case kind == "json" && more:
		return mappingFormat(s.Format, argument)
	case kind == "nginx" && more:
		return nginxFormat(argument)
	case kind == "apache" && more:
		return percentFormat(about{name: s.Format, key: apacheKey, cannotShow: apacheCannot}, nicknamed(argument))
	case kind == "varnishncsa" && more:
		return percentFormat(about{name: s.Format, key: varnishKey, cannotShow: varnishCannot}, argument)
	case kind == "lighttpd" && more:
		return percentFormat(about{name: s.Format, end: true, key: "host", cannotShow: lighttpdCannot}, argument)
	case more:
	case kind == "nginx-json":
		return nginxJSONOf(start), nil
	case kind == "nginx-ingress":
		return ingressFormat, nil
	case kind == "cloudfront":
		return cloudfrontOf(start)
	case kind == "otlp":
		return otlpOf(start), nil
	case kind == "traefik", kind == "traefik-common":
		if bytes.HasPrefix(bytes.TrimLeft(start, " \r\n\t"), []byte{'{'}) {
			return traefikJSON, nil
		}
		return best(s, inferred(start, ""), start, whole)
	case kind == "nginx", kind == "apache", kind == "varnishncsa", kind == "lighttpd":
		return best(s, inferred(start, kind), start, whole)
	}
	return nil, fmt.Errorf("the format is %q; write one of %s", s.Format, strings.Join(Formats(), ", "))
}

// nicknamed are formats that Apache's own configuration names.
func nicknamed(format string) string {
	switch format {
	case "common":
		return `%h %l %u %t "%r" %>s %b`
	case "combined":
		return `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`
	case "vhost_combined":
		return `%v:%p %h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"`
	}
	return format
}

// detect is the format that the start of a file is of.
func detect(s *settings, start []byte, whole bool) (format, error) {
	text := bytes.TrimLeft(start, " \r\n\t")
	if len(text) == 0 {
		return haproxy, nil // of an empty file it does not matter
	}
	var all []format
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return !bytes.Contains(start, []byte(name)) })
	}
	object := text
	if text[0] != '{' { // the first line may be the rest of one, or about the log
		object = text[bytes.Index(text, []byte("\n{"))+1:]
	}
	if object[0] == '{' {
		switch {
		case has(`"resourceSpans"`):
			all = append(all, otlpOf(start))
		case has(`"log"`, `"entries"`):
			all = append(all, harEntries)
		case has(`"SpanContext"`):
			all = append(all, stdoutSpans)
		}
		if has(`"DownstreamStatus"`) {
			all = append(all, traefikJSON)
		}
		if has(`"handled request"`) {
			all = append(all, caddyJSON)
		}
		if has(`"httpRequest"`) {
			all = append(all, gcpJSON)
		}
		if has(`"response_flags"`) {
			all = append(all, envoyJSON)
		}
		if has(`"upstream_`) || has(`"request_time"`) {
			all = append(all, nginxJSONOf(start))
		}
		if has(`"time"`, `"level"`, `"msg"`, `"duration"`) {
			all = append(all, slogJSON)
		}
		if f := inferredMapping(object); f != nil {
			all = append(all, f)
		}
	}
	if text[0] != '{' {
		all = append(all, haproxy, squid, envoy, alb)
		if f, err := cloudfrontOf(start); err == nil {
			all = append(all, f)
		}
		all = append(all, inferred(start, "")...)
	}
	return best(s, all, start, whole)
}

var errUnknown = errors.New("nothing is understood of it; name its format by -format, such as " +
	"'nginx:<its log_format>', 'apache:<its LogFormat>' or 'json:start=ts,ms=took,status=code,host=peer'")

// best is the format of which most lines are understood as calls, the first of those that are as good.
func best(s *settings, all []format, start []byte, whole bool) (format, error) {
	var found format
	most := int64(0)
	for _, f := range all {
		b := try(s, f, start, whole)
		if n := int64(len(b.calls)) + b.left; n > most {
			found, most = f, n
		}
	}
	if found == nil {
		line, _, _ := bytes.Cut(start, []byte{'\n'})
		return nil, fmt.Errorf("%w; it begins with %q", errUnknown, cut(line[:min(len(line), 200)]))
	}
	return found, nil
}

// tried is how much of a file's lines try reads.
const tried = 64 << 10

// try reads the start of a file in a format.
func try(s *settings, f format, start []byte, whole bool) *block {
	every := *s // all calls, whatever is asked for
	options := *s.Options
	options.Judge, options.Explain = nil, false
	every.Options, every.where, every.bounded = &options, nil, false
	if paths := f.about().elements; paths != nil {
		lines, _ := io.ReadAll(newElements(bytes.NewReader(start), paths))
		start, whole = lines, false
	} else if len(start) > tried {
		start, whole = start[:tried], false
	}
	if i := bytes.LastIndexByte(start, '\n'); i >= 0 && !whole {
		start = start[:i+1]
	}
	b := &block{data: start}
	newWorker(&every).read(b, f)
	return b
}

func otlpOf(start []byte) format {
	if bytes.Contains(start, []byte(`"SPAN_KIND_`)) {
		return protojsonSpans
	}
	return otlpSpans
}

func nginxJSONOf(start []byte) format {
	if bytes.Contains(start, []byte(`"msec"`)) {
		return nginxJSONms
	}
	return nginxJSON
}

func cloudfrontOf(start []byte) (format, error) {
	for line := range bytes.Lines(start[:min(len(start), 8192)]) {
		if bytes.HasPrefix(line, []byte("#Fields:")) {
			return newCloudfront(line)
		}
	}
	return newCloudfront(cloudfrontFields)
}

// mappings are what fields of lines of JSON are called, by the name that a mapping has for them.
var mappings = []struct {
	as    string
	names []string
}{
	{"start", []string{"start", "start_time", "startTime", "started", "started_at", "startedAt", "begin"}},
	{"end", []string{"end", "end_time", "time", "ts", "timestamp", "@timestamp"}},
	{"ms", []string{"ms", "duration_ms", "durationMs", "took_ms", "latency_ms", "latencyMs", "elapsed_ms",
		"response_time_ms", "responseTime"}},
	{"us", []string{"us", "duration_us", "took_us", "latency_us", "elapsed_us"}},
	{"ns", []string{"ns", "duration_ns", "took_ns", "latency_ns", "elapsed_ns"}},
	{"s", []string{"duration_s", "duration_seconds", "took_s", "latency_s", "elapsed_s", "seconds"}},
	{"status", []string{"status", "status_code", "statusCode", "code", "http_status", "response_code"}},
	{"host", []string{"upstream", "peer", "host", "server", "target", "url"}},
	{"path", []string{"path", "uri", "request_uri"}},
	{"method", []string{"method"}},
	{"client", []string{"client", "client_ip", "remote_addr", "remote_ip"}},
	{"error", []string{"error", "err"}},
}

// inferredMapping is a mapping by what the fields of the first object are called; nil if there is none whose unit of
// time can be told.
func inferredMapping(start []byte) format {
	line, _, _ := bytes.Cut(start, []byte{'\n'})
	var parts []string
	has := map[string]bool{}
	for _, m := range mappings {
		for _, name := range m.names {
			var v [1]value
			t := treeOf(name)
			if t.scan(bytes.TrimSpace(line), v[:]) && v[0].present && (m.as != "end" || !has["start"]) {
				parts = append(parts, m.as+"="+name)
				has[m.as] = true
				break
			}
		}
	}
	if !has["ms"] && !has["us"] && !has["ns"] && !has["s"] {
		return nil
	}
	mapping := strings.Join(parts, ",")
	f, err := mappingFormat("json:"+mapping, mapping)
	if err != nil {
		return nil
	}
	f.self.notes = []string{"The fields were taken for what they are called: -format 'json:" + mapping + "'."}
	return f
}

const (
	apacheKey  = "the balancer or its worker if the line has it, else the host"
	varnishKey = "backend if the line has it, else host"
)

var (
	apacheCannot = []string{
		"A caller that leaves is not told: its line has what came of the call.",
		"A body that broke, and an answer that was not HTTP, are a 200.",
		"What Apache answered by itself looks like the upstream's answer, and no upstream is named.",
	}
	varnishCannot = []string{
		"A body that broke is a 200, and a caller that leaves is not told.",
		"What failed is a 503, whatever it was.",
		"A hit and an answer of Varnish itself look like the upstream's, without %{Varnish:handling}x.",
	}
	lighttpdCannot = []string{
		"A body that stalls is a 404, and a chunked one that breaks is a 200.",
		"A caller that leaves is not told, and no upstream is named.",
	}
	combinedCannot = []string{
		"There is no upstream in it and no time that calls took: the key is the host, if there is one.",
		"What the proxy answered by itself, such as the 503 of limit_req, looks like the upstream's answer.",
		"A body that broke is a 200.",
	}
)

// inferred are formats that begin like the common log format, by what the first lines have after that. Each of them is
// tried. as is what wrote them, "" if that is to be told, too.
func inferred(start []byte, as string) (all []format) {
	seen := map[string]bool{}
	n := 0
	for line := range bytes.Lines(start) {
		if n++; n > 20 {
			break
		}
		line = bytes.TrimRight(line, "\r\n")
		if f := infer(line, as); f != nil {
			shape := fmt.Sprint(f.self.name, f.before, f.steps)
			if !seen[shape] {
				seen[shape] = true
				all = append(all, f)
			}
		}
	}
	return all
}

// aliases are what fields are called where they are written as name=value.
var aliases = map[string]field{
	"rt": tookSeconds, "request_time": tookSeconds, "ua": upstreamAddr, "upstream": upstreamAddr,
	"upstream_addr": upstreamAddr, "us": upstreamStatus, "upstream_status": upstreamStatus, "uct": upstreamConnect,
	"upstream_connect_time": upstreamConnect, "uht": upstreamHeader, "upstream_header_time": upstreamHeader,
	"urt": upstreamTook, "upstream_response_time": upstreamTook, "msec": epochTime, "host": hostHeader,
	"cache": cacheStatus, "upstream_cache_status": cacheStatus,
	"D": tookMicros, "T": tookSeconds, "Tus": tookMicros, "Tms": tookMillis, "ms": tookMillis, "fb": firstSeconds,
	"hit": hitOrMiss, "hand": handlingOf, "handling": handlingOf, "be": backendOf, "err": errorText,
}

// infer makes a format of a line; nil if it does not begin like the common log format.
func infer(line []byte, as string) *textFormat {
	at, end := findClock(line)
	if at < 0 || end-at != 27 {
		return nil
	}
	b := builder{line: string(line)}
	before := strings.Fields(b.line[:at])
	switch n := len(before); {
	case n > 8, n > 0 && b.line[at-1] != ' ':
		return nil
	case n == 4: // the host and its port first, as Apache's vhost_combined
		b.take(before[0], hostName)
		b.take(before[1], clientAddr)
	case n > 1 && before[1] != "-" && strings.ContainsAny(before[1], ".:"):
		b.take(before[0], clientAddr)
		b.take(before[1], hostName)
		if as == "" {
			as = "lighttpd"
		}
	case n > 0:
		b.take(before[0], clientAddr)
	}
	for b.at < at && b.line[b.at] != '[' && !b.bad {
		rest := b.line[b.at:at]
		word, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
		if word == "" {
			break
		}
		b.take(word, none)
	}
	b.take(b.line[at+1:end], clockTime)
	request, ok := b.quotes(requestLine)
	if !ok {
		return nil
	}
	if as == "" && strings.Contains(request, "://") {
		as = "varnishncsa"
	}
	b.word(statusOf)
	b.word(none) // bytes
	quotes := 0
	for quotes < 2 && strings.HasPrefix(strings.TrimPrefix(b.rest(), `"`), ` "`) {
		if _, ok := b.quotes(none); !ok {
			return nil
		}
		quotes++
	}
	return b.tail(as)
}

// builder takes a line apart and makes steps of it.
type builder struct {
	line  string
	at    int
	first string // before the first
	bad   bool   // it is not what it looked like
	steps []step
}

func (b *builder) rest() string { return b.line[b.at:] }

// take makes a step of the next text, what is before it being text between steps.
func (b *builder) take(text string, is field) {
	skipped := 0
	if len(b.steps) > 0 && strings.HasPrefix(b.rest(), `"`) { // of the step before
		skipped = 1
	}
	found := strings.Index(b.rest()[skipped:], text)
	if found < 0 {
		b.bad = true
		return
	}
	i := skipped + found
	between := b.rest()[:i]
	if len(b.steps) == 0 {
		b.first = between
	} else {
		b.steps[len(b.steps)-1].ends = between
	}
	b.at += i + len(text)
	b.steps = append(b.steps, step{is: is})
}

// word makes a step of what is before the next blank.
func (b *builder) word(is field) {
	text, _, _ := strings.Cut(strings.TrimLeft(strings.TrimPrefix(b.rest(), `"`), " "), " ")
	if text != "" {
		b.take(text, is)
	}
}

// quotes makes a step of what is in quotes.
func (b *builder) quotes(is field) (text string, ok bool) {
	open := strings.IndexByte(b.rest(), '"')
	if open == 0 && len(b.steps) > 0 { // of the step before
		open = 1 + strings.IndexByte(b.rest()[1:], '"')
	}
	if open < 0 {
		return "", false
	}
	from := b.at + open + 1
	n := index([]byte(b.line[from:]), `"`)
	if n < 0 {
		return "", false
	}
	if between := b.line[b.at:from]; len(b.steps) == 0 {
		b.first = between
	} else {
		b.steps[len(b.steps)-1].ends = between
	}
	b.at = from + n
	b.steps = append(b.steps, step{is: is})
	return b.line[from : from+n], true
}

const ingressTail = ` $x $request_time [$proxy_upstream_name] [$x] $upstream_addr $upstream_response_length ` +
	`$upstream_response_time $upstream_status $x`

// ingressFormat is that of ingress-nginx, whose lists are not quoted.
var ingressFormat = func() *textFormat {
	f, err := nginxFormat(`$remote_addr - $x [$time_local] "$request" $status $x "$x" "$x"` + ingressTail)
	if err != nil {
		panic(err)
	}
	f.self.name, f.self.key, f.self.cannotShow = "nginx-ingress", "the namespace, service and port", nginxCannot
	return f
}()

// tail makes a format of what comes after the agent.
func (b *builder) tail(as string) *textFormat {
	rest := b.rest()
	rest = strings.TrimPrefix(rest, `"`)
	words := strings.Fields(rest)
	self := about{name: as}
	switch {
	case strings.HasPrefix(rest, " ") && strings.Count(rest, "] [") == 1 && len(words) >= 9 &&
		!strings.Contains(rest, "="):
		return ingressFormat
	case len(words) == 4 && strings.HasSuffix(rest, "ms") && words[1][0] == '"' && words[2][0] == '"':
		b.word(none)
		b.quotes(backendOf)
		b.quotes(serverURL)
		b.at = len(b.line)
		b.steps[len(b.steps)-1].ends = `" `
		b.steps = append(b.steps, step{is: tookUnits})
		self = about{name: "traefik-common", key: "frontend if it is there, else server", cannotShow: []string{
			"A body that was cut off, by whoever it was, is a 200.",
			"What Traefik answered by itself has no server, and looks like an answer of one.",
		}}
	case len(words) == 1 && isNumber(words[0]):
		is := tookMicros
		if self.notes = []string{"The number at the end is taken for %D, which is microseconds."}; as == "" {
			self.name = "apache"
		}
		if strings.Contains(words[0], ".") {
			is, self.name = tookSeconds, or2(as, "nginx")
			self.notes = []string{"The number at the end is taken for $request_time, which is seconds."}
		}
		b.word(is)
	default:
		b.pairs(words, rest)
	}
	if self.name == "" {
		self.name = "nginx"
		if !b.has(upstreamStatus) && !b.has(tookSeconds) && !b.has(epochTime) {
			self.notes = append(self.notes, "It is read as nginx writes it, with the end as its stamp: Apache "+
				"has the start there, and needs -format apache.")
		}
	}
	switch self.name {
	case "nginx":
		self.end, self.key = true, nginxKey
		if self.cannotShow = nginxCannot; !b.has(upstreamStatus) {
			self.cannotShow = combinedCannot
		}
	case "lighttpd":
		self.end, self.key, self.cannotShow = true, "host", lighttpdCannot
	case "apache":
		self.key, self.cannotShow = apacheKey, apacheCannot
	case "varnishncsa":
		self.key = varnishKey
		if self.cannotShow = varnishCannot; b.has(errorText) {
			self.notes = append(self.notes, "What err= says is taken for the error of a fetch only if the status is "+
				"5xx: -format 'varnishncsa:…%{VSL:FetchError}x' has a body that broke as a failure.")
		}
	}
	if last := &b.steps[len(b.steps)-1]; last.ends == "" && last.is != errorText && b.at < len(b.line) {
		last.ends = b.line[b.at:]
	}
	f, err := newTextFormat(self, b.first, onlyOnce(b.steps))
	if err != nil || b.bad {
		return nil
	}
	f.guessed = true
	return f
}

func or2(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func isNumber(text string) bool {
	_, ok := number([]byte(text), 1000)
	return ok
}

func (b *builder) has(is field) bool {
	return slices.ContainsFunc(b.steps, func(s step) bool { return s.is == is })
}

// pairs makes steps of name=value and name="value", and of what is between them.
func (b *builder) pairs(words []string, rest string) {
	addressed := strings.Contains(rest, "ua=") || strings.Contains(rest, "upstream")
	for !b.bad && len(strings.TrimLeft(strings.TrimPrefix(b.rest(), `"`), " ")) > 0 {
		from := b.rest()
		skipped := len(from) - len(strings.TrimLeft(strings.TrimPrefix(from, `"`), " "))
		next := from[skipped:]
		if next[0] == '"' {
			if _, ok := b.quotes(none); !ok {
				return
			}
			continue
		}
		n := 0
		for n < len(next) && (isWord(next[n]) || next[n] == '_') {
			n++
		}
		if n == 0 || n == len(next) || next[n] != '=' {
			b.word(none)
			continue
		}
		name := next[:n]
		is := aliases[name]
		if name == "us" && !addressed {
			is = tookMicros // of lighttpd's %{us}T
		}
		between := from[:skipped] + name + "="
		value := next[n+1:]
		if strings.HasPrefix(value, `"`) {
			b.steps[len(b.steps)-1].ends = between + `"`
			b.at += len(between) + 1
			end := max(index([]byte(b.rest()), `"`), 0)
			b.at += end
			b.steps = append(b.steps, step{is: is})
			continue
		}
		b.steps[len(b.steps)-1].ends = between
		b.at += len(between)
		listed := is >= upstreamAddr && is <= upstreamTook
		end := strings.IndexByte(b.rest(), ' ')
		if listed {
			end = endOfList([]byte(b.rest()))
		}
		if end < 0 || is == errorText {
			end = len(b.rest())
		}
		b.at += end
		b.steps = append(b.steps, step{is: is, listed: listed})
	}
}
