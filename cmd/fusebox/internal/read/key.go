package read

import (
	"bytes"
	"fmt"
	"strings"
)

// keyBy is what calls are told apart by.
type keyBy uint8

const (
	byBest keyBy = iota
	byUpstream
	byBackend
	byHost
	byRoute
	byOneRoute
)

// settings is what Options say, as workers need it.
type settings struct {
	*Options
	keyBy keyBy
	// wantsRequest says that a method or a path is asked for
	wantsRequest bool
	routes       []route
	where        []condition
	bounded      bool
	from, to     int64
	usual        bool // the window was not asked for
}

// route is a method, "" for all, and a path in which {name} is one part of it.
type route struct {
	name, method string
	parts        []string
}

// condition is one of Options.Where.
type condition struct {
	field string
	not   bool
	value string
}

var fields = []string{"key", "upstream", "backend", "host", "path", "method", "client", "status"}

func newSettings(o Options) (*settings, error) {
	s := &settings{Options: &o, from: -1 << 63, to: 1<<63 - 1}
	if s.Window <= 0 {
		s.Window, s.usual = usualWindow, true
	}
	if !o.From.IsZero() {
		s.from, s.bounded = o.From.UnixNano(), true
	}
	if !o.To.IsZero() {
		s.to, s.bounded = o.To.UnixNano(), true
	}
	switch kind, paths, given := strings.Cut(o.Key, "="); {
	case kind == "route" && given:
		s.keyBy = byOneRoute
		for pattern := range strings.SplitSeq(paths, ",") {
			s.routes = append(s.routes, routeOf(pattern))
		}
	case given:
		return nil, fmt.Errorf("the key is %q; write upstream, backend, host, route or route=/a/{id}", o.Key)
	default:
		by, known := map[string]keyBy{
			"": byBest, "upstream": byUpstream, "backend": byBackend, "host": byHost, "route": byRoute,
		}[kind]
		if !known {
			return nil, fmt.Errorf("the key is %q; write upstream, backend, host, route or route=/a/{id}", o.Key)
		}
		s.keyBy = by
	}
	for _, text := range o.Where {
		c, err := conditionOf(text)
		if err != nil {
			return nil, err
		}
		s.where = append(s.where, c)
	}
	s.wantsRequest = len(s.where) > 0 || s.keyBy >= byRoute
	return s, nil
}

func routeOf(pattern string) route {
	r := route{name: strings.TrimSpace(pattern)}
	path := r.name
	if method, rest, found := strings.Cut(path, " "); found {
		r.method, path = method, strings.TrimSpace(rest)
	}
	r.parts = strings.Split(strings.Trim(path, "/"), "/")
	return r
}

func conditionOf(text string) (c condition, err error) {
	field, value, found := strings.Cut(text, "=")
	c = condition{field: strings.TrimSpace(field), value: strings.TrimSpace(value)}
	if c.field, c.not = strings.CutSuffix(c.field, "!"); found {
		c.field = strings.TrimSpace(c.field)
		for _, known := range fields {
			if c.field == known {
				return c, nil
			}
		}
	}
	return c, fmt.Errorf("the condition is %q; write a field of %s, then = or !=, then a value in which * is anything",
		text, strings.Join(fields, ", "))
}

// key is the key of a row, and whether it is one of those that are asked for.
func (w *worker) key(r *row) (key []byte, ours bool) {
	switch w.keyBy {
	case byUpstream:
		key = r.upstream
	case byBackend:
		key = r.backend
	case byHost:
		key = r.host
	case byRoute:
		w.route = append(append(w.route[:0], r.method...), ' ')
		w.route = appendRoute(w.route, r.path)
		return w.route, true
	case byOneRoute:
		for i := range w.routes {
			if w.routes[i].is(r) {
				return []byte(w.routes[i].name), true
			}
		}
		return nil, false
	default:
		if key = r.backend; len(key) == 0 {
			if key = r.upstream; len(key) == 0 {
				key = r.host
			}
		}
	}
	if len(key) == 0 || len(key) == 1 && key[0] == '-' {
		return unnamed, true
	}
	return key[:min(len(key), 256)], true
}

var unnamed = []byte("(all)")

// appendRoute appends a path without its query, in which what looks like the number or name of one thing is {id}.
func appendRoute(b, path []byte) []byte {
	path, _, _ = bytes.Cut(path, []byte{'?'})
	for i, part := range bytes.Split(path, []byte{'/'}) {
		if i > 0 {
			b = append(b, '/')
		}
		if isID(part) {
			b = append(b, "{id}"...)
		} else {
			b = append(b, part[:min(len(part), 64)]...)
		}
	}
	return b
}

// isID reports whether part of a path has digits and nothing but digits, hyphens and letters of hexadecimal, or is long
// and has digits.
func isID(part []byte) bool {
	digits, hex := 0, 0
	for _, c := range part {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', c == '-':
			hex++
		}
	}
	return digits > 0 && (digits+hex == len(part) && (hex == 0 || len(part) >= 8) || len(part) >= 20)
}

// is reports whether a row is a call of the route.
func (r *route) is(row *row) bool {
	if r.method != "" && r.method != string(row.method) {
		return false
	}
	path, _, _ := bytes.Cut(row.path, []byte{'?'})
	path = bytes.Trim(path, "/")
	for i, want := range r.parts {
		part, rest, more := bytes.Cut(path, []byte{'/'})
		if more != (i < len(r.parts)-1) {
			return false
		}
		if !(strings.HasPrefix(want, "{") && strings.HasSuffix(want, "}") && len(part) > 0) && want != string(part) {
			return false
		}
		path = rest
	}
	return true
}

// all reports whether all conditions hold.
func (w *worker) all(r *row, key []byte) bool {
	for i := range w.where {
		c := &w.where[i]
		var has []byte
		switch c.field {
		case "key":
			has = key
		case "upstream":
			has = r.upstream
		case "backend":
			has = r.backend
		case "host":
			has = r.host
		case "path":
			has = r.path
		case "method":
			has = r.method
		case "client":
			has = hostOf(r.client)
		case "status":
			has = []byte{byte('0' + r.status/100%10), byte('0' + r.status/10%10), byte('0' + r.status%10)}
		}
		if like(has, c.value) == c.not {
			return false
		}
	}
	return true
}

// like reports whether text is the pattern, in which * is anything.
func like(text []byte, pattern string) bool {
	before, rest, star := strings.Cut(pattern, "*")
	if !star {
		return string(text) == pattern
	}
	if len(text) < len(before) || string(text[:len(before)]) != before {
		return false
	}
	for text = text[len(before):]; ; {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return bytes.HasSuffix(text, []byte(part))
		}
		i := bytes.Index(text, []byte(part))
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], after
	}
}
