package read

import (
	"bytes"
	"strconv"
	"unicode/utf8"
)

// maxValues is how many fields of a line of JSON a format can want.
const maxValues = 32

// value is a value of JSON as it is written, a string without its quotes.
type value struct {
	raw     []byte
	is      byte // s of a string, e of one with escapes, n of a number, t, f, 0 of null, { and [; 0 if it was not there
	present bool
}

// tree is the names of an object that are wanted, some with those of an object within.
type tree struct {
	names []wanted
	// bySize are the same by the length of their names, the last those that are longer
	bySize [24][]wanted
}

type wanted struct {
	name   string
	at     int // of values; -1 if it is an object that is looked into
	within *tree
}

// treeOf makes a tree of names with dots between those of objects within each other. The value of names[i] is at i. A
// name that has dots itself is found, too.
func treeOf(names ...string) *tree {
	t := &tree{}
	for i, name := range names {
		if name != "" {
			t.add(name, name, i)
		}
	}
	t.sort()
	return t
}

func (t *tree) sort() {
	t.bySize = [len(t.bySize)][]wanted{}
	for _, w := range t.names {
		at := min(len(w.name), len(t.bySize)-1)
		t.bySize[at] = append(t.bySize[at], w)
		if w.within != nil {
			w.within.sort()
		}
	}
}

func (t *tree) add(name, whole string, at int) {
	for i := range len(name) {
		if name[i] != '.' {
			continue
		}
		head, rest := name[:i], name[i+1:]
		var inner *tree
		for j := range t.names {
			if t.names[j].name == head && t.names[j].within != nil {
				inner = t.names[j].within
			}
		}
		if inner == nil {
			inner = &tree{}
			t.names = append(t.names, wanted{name: head, at: -1, within: inner})
		}
		inner.add(rest, rest, at)
	}
	t.names = append(t.names, wanted{name: name, at: at})
}

// scan reads an object, with nothing but blanks after it, into values, which it clears. Numbers and literals may be
// anything that is not a string, so that 009 is read as it stands; all else must be JSON.
func (t *tree) scan(b []byte, values []value) bool {
	clear(values)
	i, ok := t.object(b, blanks(b, 0), values)
	return ok && blanks(b, i) == len(b)
}

func blanks(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return i
}

func (t *tree) object(b []byte, i int, values []value) (end int, ok bool) {
	if i >= len(b) || b[i] != '{' {
		return i, false
	}
	for i = blanks(b, i+1); i < len(b) && b[i] == '}'; {
		return i + 1, true
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return i, false
		}
		end := quoted(b, i)
		if end < 0 {
			return i, false
		}
		name := b[i+1 : end-1]
		if i = blanks(b, end); i >= len(b) || b[i] != ':' {
			return i, false
		}
		i = blanks(b, i+1)
		if i >= len(b) {
			return i, false
		}
		found := t.find(name, b[i] == '{')
		switch {
		case found == nil:
			if i, _ = skip(b, i); i < 0 {
				return 0, false
			}
		case found.within != nil:
			if i, ok = found.within.object(b, i, values); !ok {
				return i, false
			}
		default:
			end, is := skip(b, i)
			if end < 0 {
				return 0, false
			}
			v := &values[found.at]
			v.raw, v.is, v.present = b[i:end], is, true
			if is == 's' {
				if v.raw = b[i+1 : end-1]; bytes.IndexByte(v.raw, '\\') >= 0 {
					v.is = 'e'
				}
			}
			i = end
		}
		if i = blanks(b, i); i >= len(b) {
			return i, false
		}
		switch b[i] {
		case ',':
			i = blanks(b, i+1)
		case '}':
			return i + 1, true
		default:
			return i, false
		}
	}
}

func (t *tree) find(name []byte, object bool) *wanted {
	these := t.bySize[min(len(name), len(t.bySize)-1)]
	for j := range these {
		if w := &these[j]; w.name == string(name) && (w.within == nil || object) {
			return w
		}
	}
	return nil
}

// quoted is the end of the string that begins at i; -1 if it does not end.
func quoted(b []byte, i int) int {
	start := i + 1
	for i = start; ; i++ {
		j := bytes.IndexByte(b[i:], '"')
		if j < 0 {
			return -1
		}
		if i += j; b[i-1] != '\\' || !escapedFrom(b, start, i) {
			return i + 1
		}
	}
}

func escapedFrom(b []byte, start, i int) bool {
	n := i
	for n > start && b[n-1] == '\\' {
		n--
	}
	return (i-n)%2 == 1
}

// skip is the end of the value that begins at i, and what it is; -1 if it does not end.
func skip(b []byte, i int) (end int, is byte) {
	switch c := b[i]; c {
	case '"':
		return quoted(b, i), 's'
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				if i = quoted(b, i); i < 0 {
					return -1, 0
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1, c
				}
			}
			i++
		}
		return -1, 0
	default:
		start := i
		for i < len(b) && b[i] != ',' && b[i] != '}' && b[i] != ']' && b[i] > ' ' {
			if b[i] == '"' || b[i] == '{' || b[i] == '[' || b[i] == ':' {
				return -1, 0
			}
			i++
		}
		switch {
		case i == start:
			return -1, 0
		case c == 't' || c == 'f':
			return i, c
		case c == 'n':
			return i, '0'
		}
		return i, 'n'
	}
}

// is reports whether it is a string.
func (v *value) isText() bool { return v.is == 's' || v.is == 'e' }

// some reports whether it is there, and neither null nor an empty string nor a hyphen.
func (v *value) some() bool {
	return v.present && v.is != '0' && len(v.raw) > 0 && !(v.is == 's' && len(v.raw) == 1 && v.raw[0] == '-')
}

// text is the string, without its escapes; a number as it is written; nil of anything else.
func (w *worker) plain(v *value) []byte {
	switch v.is {
	case 's', 'n':
		return v.raw
	case 'e':
		from := len(w.text)
		w.text = unescaped(w.text, v.raw)
		return w.text[from:]
	}
	return nil
}

// unescaped appends the inside of a string of JSON without its escapes.
func unescaped(out, b []byte) []byte {
	for i := 0; i < len(b); i++ {
		if b[i] != '\\' || i+1 == len(b) {
			out = append(out, b[i])
			continue
		}
		i++
		switch b[i] {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'u':
			if i+4 < len(b) {
				if n, err := strconv.ParseUint(string(b[i+1:i+5]), 16, 32); err == nil {
					out = utf8.AppendRune(out, rune(n)) // half a surrogate becomes U+FFFD, which does for a key
					i += 4
					continue
				}
			}
			out = append(out, 'u')
		default:
			out = append(out, b[i])
		}
	}
	return out
}

// status is a status as a number or a string; 0 if there is none.
func (v *value) status() (status int, ok bool) {
	if !v.present || v.is == '0' {
		return 0, true
	}
	if v.is != 's' && v.is != 'n' {
		return 0, false
	}
	if status, ok = statusIn(v.raw); ok {
		return status, true
	}
	if n, ok := number(v.raw, 1); ok && n <= 999 {
		return int(max(n, 0)), true
	}
	return 0, false
}

// time is a time as a number or a string.
func (w *worker) time(v *value) (ns int64, ok bool) {
	if v.is != 's' && v.is != 'n' || len(v.raw) == 0 {
		return 0, false
	}
	return w.stamp(v.raw)
}

// duration is how long a number of units is in nanoseconds, or a string such as "1.5s"; -1 if it is not there, or less
// than 0.
func (v *value) duration(unit int64) int64 {
	if v.is != 's' && v.is != 'n' || len(v.raw) == 0 {
		return -1
	}
	b := v.raw
	if c := b[len(b)-1]; c < 'a' {
		return duration(b, unit)
	}
	return goDuration(b)
}

// goDuration reads what time.Duration writes, such as 1m30.5s, 100µs and 0s; -1 if it is none.
func goDuration(b []byte) int64 {
	all := int64(0)
	for len(b) > 0 {
		n := 0
		for n < len(b) && (b[n]-'0' < 10 || b[n] == '.') {
			n++
		}
		end := n
		for end < len(b) && b[end]-'0' >= 10 && b[end] != '.' {
			end++
		}
		unit := int64(0)
		switch string(b[n:end]) {
		case "ns":
			unit = 1
		case "us", "µs", "μs":
			unit = 1e3
		case "ms":
			unit = 1e6
		case "s":
			unit = second
		case "m":
			unit = 60 * second
		case "h":
			unit = 3600 * second
		default:
			return -1
		}
		part := duration(b[:n], unit)
		if part < 0 || all+part < 0 {
			return -1
		}
		all += part
		b = b[end:]
	}
	return all
}
