package read

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// field is what a part of a line is.
type field uint8

const (
	none field = iota
	clockTime
	isoTime
	epochTime   // seconds, milliseconds, … by its size
	epochMicros // which may not be told by its size
	fractionMs  // of the time that another field has
	fractionUs
	statusOf
	requestLine
	methodOf
	pathOf
	hostName
	hostHeader // better than hostName
	clientAddr
	backendOf
	serverURL
	tookSeconds // of the whole request
	tookMillis
	tookMicros
	tookNanos
	tookUnits      // with ms or s at its end
	upstreamAddr   // nginx: one for each attempt
	upstreamStatus // nginx
	upstreamConnect
	upstreamHeader
	upstreamTook
	cacheStatus // nginx: HIT and the like
	firstSeconds
	errorText       // varnish, of a fetch: - if there was none
	handlingOf      // varnish: hit, synth, pipe, pass, miss
	hitOrMiss       // varnish
	fieldsCount int = iota
)

const maxParts = fieldsCount

// step is a part of a line and the text that ends it.
type step struct {
	is     field
	listed bool // it may have several values, with a comma and a blank, or a colon between blanks, between them
	ends   string
	// the first 8 bytes of ends as they lie in memory, which bits of them it has, and its first byte 8 times
	word, mask, firsts uint64
	is1                bool // ends is one byte, and no quote
	quoted             bool // it begins with a quote
}

// ones has the lowest bit of each byte.
const ones = 0x0101010101010101

// compile makes word, mask and firsts.
func (s *step) compile() {
	var text, has [8]byte
	for i := range min(len(s.ends), 8) {
		text[i], has[i] = s.ends[i], 0xff
	}
	s.word, s.mask = binary.LittleEndian.Uint64(text[:]), binary.LittleEndian.Uint64(has[:])
	s.firsts = s.word & 0xff * ones
	s.quoted = strings.HasPrefix(s.ends, `"`)
	s.is1 = len(s.ends) == 1 && !s.quoted
}

// find is where the part ends that begins at b[at], -1 if nothing ends it. A quote after a backslash does not.
func (s *step) find(b []byte, at int) int {
	// Most parts are short, so that a few words are looked at here, without a call.
	for most := at + 24; at < most && at+8 <= len(b); {
		same := binary.LittleEndian.Uint64(b[at:at+8]) ^ s.firsts
		same = (same - ones) &^ same & (ones << 7) // the lowest bit is in the first byte that is the same
		if same == 0 {
			at += 8
			continue
		}
		at += bits.TrailingZeros64(same) >> 3
		if s.is1 || s.at(b[at:]) && !s.escaped(b, at) {
			return at
		}
		at++
	}
	for {
		i := bytes.IndexByte(b[at:], s.ends[0])
		if i < 0 {
			return -1
		}
		if at += i; s.is1 || s.at(b[at:]) && !s.escaped(b, at) {
			return at
		}
		at++
	}
}

// escaped reports whether a quote is not the end.
func (s *step) escaped(b []byte, at int) bool {
	return s.quoted && at > 0 && b[at-1] == '\\' && escaped(b, at)
}

// at reports whether b begins with what ends the part.
func (s *step) at(b []byte) bool {
	if len(b) >= 8 && len(s.ends) <= 8 {
		return (binary.LittleEndian.Uint64(b)^s.word)&s.mask == 0
	}
	return len(b) >= len(s.ends) && string(b[:len(s.ends)]) == s.ends
}

// textFormat is lines that have the same parts with the same text between them.
type textFormat struct {
	self   about
	before string
	steps  []step
	has    [fieldsCount]bool
	// guessed says that it was made of lines, in which fields may not be what they are called.
	guessed bool
}

func (f *textFormat) about() *about { return &f.self }

// newTextFormat makes one of parts and text in turn.
func newTextFormat(self about, before string, steps []step) (*textFormat, error) {
	f := &textFormat{self: self, before: before, steps: steps}
	for i, s := range steps {
		if s.ends == "" && i < len(steps)-1 {
			return nil, errors.New("nothing is between two fields of the format, so that neither can be told")
		}
		f.has[s.is] = true
		f.steps[i].compile()
	}
	if !f.has[clockTime] && !f.has[isoTime] && !f.has[epochTime] && !f.has[epochMicros] {
		return nil, fmt.Errorf("the format has no time that can be read")
	}
	if !f.has[statusOf] && !f.has[upstreamStatus] {
		return nil, fmt.Errorf("the format has no status")
	}
	f.self.took = slices.ContainsFunc(steps, func(s step) bool {
		return s.is >= tookSeconds && s.is <= tookUnits || s.is == upstreamTook
	})
	f.self.whole = !f.has[epochTime] && !f.has[epochMicros] && !f.has[fractionMs] && !f.has[fractionUs]
	f.self.resolution = 1e9
	if !f.self.whole {
		f.self.resolution = 1e6
	}
	return f, nil
}

// split puts the parts of a line into parts, and reports whether it has them all.
func (f *textFormat) split(b []byte, parts *[maxParts][]byte) bool {
	if len(b) < len(f.before) || string(b[:len(f.before)]) != f.before {
		return false
	}
	at := len(f.before)
	for i := range f.steps {
		s, end := &f.steps[i], len(b)
		if s.ends != "" {
			if s.listed {
				if end = at + endOfList(b[at:]); !s.at(b[end:]) {
					return false
				}
			} else if end = s.find(b, at); end < 0 {
				return false
			}
		}
		if s.is != none {
			parts[s.is] = b[at:end]
		}
		at = end + len(s.ends)
	}
	return at == len(b)
}

// index finds where the text begins that ends a part. A quote after a backslash is not one.
func index(b []byte, ends string) int {
	from := 0
	for {
		i := bytes.IndexByte(b[from:], ends[0])
		if i < 0 {
			return -1
		}
		i += from
		if len(ends) == 1 || len(b)-i >= len(ends) && string(b[i:i+len(ends)]) == ends {
			if ends[0] != '"' || !escaped(b, i) {
				return i
			}
		}
		from = i + 1
	}
}

// escaped reports whether an odd number of backslashes is before b[i].
func escaped(b []byte, i int) bool {
	n := i
	for n > 0 && b[n-1] == '\\' {
		n--
	}
	return (i-n)%2 == 1
}

// endOfList is where a list ends that has blanks in it: "a:1, b:2 : c:3 ".
func endOfList(b []byte) int {
	for i := 0; ; {
		j := bytes.IndexByte(b[i:], ' ')
		if j < 0 {
			return len(b)
		}
		i += j
		switch {
		case i > 0 && b[i-1] == ',':
			i++
		case i+2 < len(b) && b[i+1] == ':' && b[i+2] == ' ':
			i += 3
		default:
			return i
		}
	}
}

func (f *textFormat) line(w *worker, b []byte) verdict {
	p := &w.parts
	if !f.split(b, p) {
		return isStrange
	}
	r := &w.row
	*r = row{took: -1, span: -1, first: -1}
	var ok bool
	switch {
	case f.has[epochTime]:
		r.stamp, ok = epoch(p[epochTime])
	case f.has[epochMicros]:
		r.stamp, ok = number(p[epochMicros], 1000)
	case f.has[clockTime]:
		r.stamp, ok = w.clock(p[clockTime])
	default:
		r.stamp, ok = w.rfc3339(p[isoTime])
	}
	if !ok {
		return isStrange
	}
	if f.has[fractionMs] || f.has[fractionUs] {
		part, unit := p[fractionMs], int64(1e6)
		if f.has[fractionUs] {
			part, unit = p[fractionUs], 1e3
		}
		fraction, ok := number(part, unit)
		if !ok || fraction >= second {
			return isStrange
		}
		r.stamp += fraction
	}
	if f.has[statusOf] {
		if r.status, ok = statusIn(p[statusOf]); !ok {
			return isStrange
		}
	}
	if f.self.took {
		r.took = f.tookOf(p)
	}
	if f.has[firstSeconds] {
		r.first = duration(p[firstSeconds], second)
	}
	switch {
	case f.has[requestLine] && (w.wantsRequest || !isLocal(p[requestLine])):
		r.method, r.path, r.host = requestOf(p[requestLine])
	case w.wantsRequest:
		r.method, r.path = p[methodOf], p[pathOf]
	}
	if f.has[hostName] {
		r.host = p[hostName]
	}
	if h := p[hostHeader]; f.has[hostHeader] && string(h) != "-" && len(h) > 0 {
		r.host = h
	}
	if f.has[clientAddr] {
		r.client = p[clientAddr]
	}
	if f.has[backendOf] {
		if r.backend = p[backendOf]; len(r.backend) == 1 && r.backend[0] == '-' {
			r.backend = nil
		}
	}
	if f.has[serverURL] {
		_, r.upstream = schemeOf(p[serverURL])
	}
	if f.has[upstreamStatus] || f.has[upstreamAddr] {
		w.nginx(f)
		return isCall
	}
	r.reading = byStatus(r.status)
	if f.has[statusOf] && r.status == 0 && string(p[statusOf]) == "-" {
		r.reading = noStatus
	}
	f.varnish(r, p)
	w.emit()
	return isCall
}

// tookOf is how long the whole call took.
func (f *textFormat) tookOf(p *[maxParts][]byte) int64 {
	switch {
	case f.has[tookNanos]:
		return duration(p[tookNanos], 1)
	case f.has[tookMicros]:
		return duration(p[tookMicros], 1e3)
	case f.has[tookMillis]:
		return duration(p[tookMillis], 1e6)
	case f.has[tookUnits]:
		part := p[tookUnits]
		if cut, is := bytes.CutSuffix(part, []byte("ms")); is {
			return duration(cut, 1e6)
		}
		return duration(bytes.TrimSuffix(part, []byte("s")), second)
	case f.has[tookSeconds]:
		return duration(p[tookSeconds], second)
	}
	return -1
}

// duration is a number of units in nanoseconds, -1 if it is none or less than 0.
func duration(b []byte, unit int64) int64 {
	if n, ok := number(b, unit); ok && n >= 0 {
		return n
	}
	return -1
}

// varnish reads what Varnish says of how it came to its answer.
func (f *textFormat) varnish(r *row, p *[maxParts][]byte) {
	if f.has[hitOrMiss] && string(p[hitOrMiss]) == "hit" {
		r.reading = fromCache
	}
	if f.has[handlingOf] {
		switch string(p[handlingOf]) {
		case "hit":
			r.reading = fromCache
		case "synth":
			r.reading = byItself
		case "pipe":
			if r.status == 0 {
				r.reading = noStatus
			}
		}
	}
	if !f.has[errorText] {
		return
	}
	// A fetch that failed: its time is written as 0, and that to the headers tells how long it waited for them.
	switch err := p[errorText]; {
	case len(err) == 0 || string(err) == "-" || f.guessed && r.status < 500:
		return
	case bytes.Contains(err, []byte("errno 111")):
		r.reading = connectRefused
	case bytes.Contains(err, []byte("errno 110")):
		r.reading = connectTimeout
	case bytes.Contains(err, []byte("timeout")):
		r.reading = headersTimeout
	case bytes.Contains(err, []byte("unhealthy")), bytes.Contains(err, []byte("errno 0")):
		r.reading = noServer
	case bytes.Contains(err, []byte("format error")):
		r.reading = notHTTP
	case r.status < 500 && bytes.Contains(err, []byte("temporarily unavailable")):
		r.reading = bodyTimeout
	case r.status < 500:
		r.reading = bodyBroke
	default:
		r.reading = headersReset
	}
	r.took = r.first
	if r.reading == bodyBroke || r.reading == bodyTimeout {
		r.took = -1
	}
}

// statusIn reads a status of three digits; - and nothing are 0.
func statusIn(b []byte) (status int, ok bool) {
	switch len(b) {
	case 3:
		a, b, c := b[0]-'0', b[1]-'0', b[2]-'0'
		return int(a)*100 + int(b)*10 + int(c), a < 10 && b < 10 && c < 10
	case 0:
		return 0, true
	case 1:
		return 0, b[0] == '-' || b[0] == '0'
	case 2:
		return 0, string(b) == "-1"
	}
	return 0, false
}

// isLocal reports whether a request has a path, and not a whole URL.
func isLocal(b []byte) bool {
	i := bytes.IndexByte(b, ' ')
	return i > 0 && i+1 < len(b) && b[i+1] == '/'
}

// requestOf reads "GET /path HTTP/1.1", in which the path may be a whole URL; of anything else all is nil.
func requestOf(b []byte) (method, path, host []byte) {
	i := bytes.IndexByte(b, ' ')
	if i < 0 {
		return nil, nil, nil
	}
	method, path = b[:i], b[i+1:]
	if j := bytes.LastIndexByte(path, ' '); j >= 0 {
		path = path[:j]
	}
	if len(path) > 0 && path[0] != '/' && bytes.Contains(path, []byte("://")) {
		host, path = urlOf(path)
	}
	return method, path, host
}

// urlOf is the host with its port, and the path, of a URL.
func urlOf(url []byte) (host, path []byte) {
	_, rest := schemeOf(url)
	i := bytes.IndexByte(rest, '/')
	if i < 0 {
		i = len(rest)
	}
	if j := bytes.IndexByte(rest[:i], '?'); j >= 0 {
		i = j
	}
	return rest[:i], rest[i:]
}

func schemeOf(url []byte) (scheme, rest []byte) {
	if i := bytes.IndexByte(url, ':'); i >= 0 && i+2 < len(url) && url[i+1] == '/' && url[i+2] == '/' {
		return url[:i], url[i+3:]
	}
	return nil, url
}

// nginxFields are the variables of nginx that say something.
var nginxFields = map[string]field{
	"time_local": clockTime, "time_iso8601": isoTime, "msec": epochTime, "status": statusOf, "request": requestLine,
	"request_method": methodOf, "request_uri": pathOf, "uri": pathOf, "host": hostName, "http_host": hostHeader,
	"server_name": hostName, "remote_addr": clientAddr, "request_time": tookSeconds, "upstream_addr": upstreamAddr,
	"upstream_status": upstreamStatus, "upstream_connect_time": upstreamConnect,
	"upstream_header_time": upstreamHeader, "upstream_response_time": upstreamTook,
	"proxy_upstream_name": backendOf, "proxy_host": backendOf, "upstream_cache_status": cacheStatus,
}

// configured is a format as it stands in a configuration after a word and, for nginx, a name: in one pair of quotes, or
// in several that belong together. What is none of that is returned as it is.
func configured(format, word string) string {
	rest := strings.TrimSpace(format)
	after, found := strings.CutPrefix(rest, word)
	if found {
		rest = strings.TrimLeft(after, " \t\n")
	}
	open := strings.IndexAny(rest, `'"`)
	if !found && open != 0 || open < 0 {
		return format
	}
	var text strings.Builder
	for quote := rest[open]; ; {
		end := open + 1
		for end < len(rest) && (rest[end] != quote || rest[end-1] == '\\') {
			end++
		}
		if end == len(rest) {
			return format
		}
		text.WriteString(rest[open+1 : end])
		rest = strings.TrimLeft(rest[end+1:], " \t\r\n")
		open = 0
		switch {
		case rest != "" && rest[0] == quote:
		case found || rest == "" || rest == ";":
			return text.String()
		default: // it only begins with a quote
			return format
		}
	}
}

// nginxFormat reads a log_format, by itself or as it stands in the configuration.
func nginxFormat(format string) (*textFormat, error) {
	format = configured(format, "log_format ")
	var before string
	var steps []step
	text := &before
	for rest := format; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			i = len(rest)
		}
		*text += rest[:i]
		if rest = rest[i:]; rest == "" {
			break
		}
		name := rest[1:]
		if inner, found := strings.CutPrefix(name, "{"); found {
			name, rest, found = strings.Cut(inner, "}")
			if !found {
				return nil, fmt.Errorf("a ${ in the format has no } after it")
			}
		} else {
			n := 0
			for n < len(name) && (name[n] == '_' || isWord(name[n])) {
				n++
			}
			name, rest = name[:n], name[n:]
		}
		is := nginxFields[name]
		quoted := strings.HasSuffix(*text, `"`)
		listed := strings.HasPrefix(name, "upstream_") && !quoted
		steps = append(steps, step{is: is, listed: listed})
		text = &steps[len(steps)-1].ends
	}
	for i := range steps { // a list ends at a blank, and at nothing else
		if e := steps[i].ends; steps[i].listed && !strings.HasPrefix(e, " ") && e != "" {
			steps[i].listed = false
		}
	}
	self := about{name: "nginx:" + format, end: true, key: nginxKey, cannotShow: combinedCannot}
	if slices.ContainsFunc(steps, func(s step) bool { return s.is == upstreamStatus }) {
		self.cannotShow = nginxCannot
	}
	return newTextFormat(self, before, onlyOnce(steps))
}

// onlyOnce takes the meaning from a field that comes once more, of which the first counts.
func onlyOnce(steps []step) []step {
	var seen [fieldsCount]bool
	for i := range steps {
		if seen[steps[i].is] {
			steps[i].is = none
		}
		seen[steps[i].is] = true
	}
	return steps
}

func isWord(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' }

// percentFields are the directives of Apache, of which Varnish and lighttpd have most. In braces is what comes first.
var percentFields = map[string]field{
	"t": clockTime, "s": statusOf, "r": requestLine, "m": methodOf, "U": pathOf, "v": hostName, "V": hostName,
	"h": clientAddr, "a": clientAddr, "D": tookMicros, "T": tookSeconds,
	"{ms}T": tookMillis, "{us}T": tookMicros, "{s}T": tookSeconds,
	"{sec}t": epochTime, "{begin:sec}t": epochTime, "{msec}t": epochTime, "{begin:msec}t": epochTime,
	"{usec}t": epochMicros, "{begin:usec}t": epochMicros, "{end:sec}t": epochTime, "{end:msec}t": epochTime,
	"{end:usec}t":  epochMicros,
	"{msec_frac}t": fractionMs, "{usec_frac}t": fractionUs, "{begin:msec_frac}t": fractionMs,
	"{begin:usec_frac}t": fractionUs, "{end:msec_frac}t": fractionMs, "{end:usec_frac}t": fractionUs,
	"{Host}i": hostHeader, "{BALANCER_WORKER_NAME}e": serverURL, "{BALANCER_NAME}e": backendOf,
	"{Varnish:time_firstbyte}x": firstSeconds, "{Varnish:hitmiss}x": hitOrMiss, "{Varnish:handling}x": handlingOf,
	"{VCL_Log:backend}x": backendOf, "{VSL:FetchError}x": errorText, "{VSL:Error}x": errorText,
}

// strftimes are ways to write a time, as Apache is told them, that can be read.
var strftimes = map[string]field{
	"%d/%b/%Y:%H:%M:%S %z": clockTime, "%d/%b/%Y:%T %z": clockTime, "%d/%b/%Y:%T": clockTime,
	"%d/%b/%Y:%H:%M:%S": clockTime, "%Y-%m-%dT%H:%M:%S": isoTime, "%Y-%m-%dT%T": isoTime, "%FT%T": isoTime,
	"%Y-%m-%d %H:%M:%S": isoTime, "%F %T": isoTime, "%Y-%m-%dT%H:%M:%S%z": isoTime, "%FT%T%z": isoTime,
	"%Y-%m-%dT%TZ": isoTime, "%Y-%m-%dT%H:%M:%SZ": isoTime, "%FT%TZ": isoTime, "%s": epochTime,
}

// percentFormat reads a LogFormat of Apache, or of Varnish or lighttpd, whose name is self's.
func percentFormat(self about, format string) (*textFormat, error) {
	format = strings.ReplaceAll(configured(format, "LogFormat "), `\"`, `"`)
	var before string
	var steps []step
	text := &before
	for rest := format; rest != ""; {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			i = len(rest)
		}
		*text += rest[:i]
		if rest = rest[i:]; rest == "" {
			break
		}
		if strings.HasPrefix(rest, "%%") {
			*text += "%"
			rest = rest[2:]
			continue
		}
		rest = strings.TrimLeft(rest[1:], "<>!0123456789,")
		argument := ""
		if inner, found := strings.CutPrefix(rest, "{"); found {
			j := strings.IndexByte(inner, '}')
			if j < 0 {
				return nil, fmt.Errorf("a %%{ in the format has no } after it")
			}
			argument, rest = inner[:j], strings.TrimLeft(inner[j+1:], "<>")
		}
		if rest == "" {
			return nil, fmt.Errorf("the format ends in a %%")
		}
		letter := rest[:1]
		rest = rest[1:]
		if letter == "^" && len(rest) >= 2 { // ^ti, ^to, ^FB
			letter, rest = letter+rest[:2], rest[2:]
		}
		is := percentFields[letter]
		if argument != "" {
			var known bool
			is, known = percentFields["{"+argument+"}"+letter]
			if strings.HasPrefix(argument, "end:") && letter == "t" {
				self.end = true
			}
			if letter == "t" && !known {
				how := strings.TrimPrefix(strings.TrimPrefix(argument, "begin:"), "end:")
				if is, known = strftimes[how]; !known {
					return nil, fmt.Errorf("a time written as %q cannot be read", how)
				}
			}
		} else if letter == "t" && !strings.HasSuffix(*text, "[") { // its brackets are of the time
			*text += "["
			rest = "]" + rest
		}
		steps = append(steps, step{is: is})
		text = &steps[len(steps)-1].ends
	}
	return newTextFormat(self, before, onlyOnce(steps))
}
