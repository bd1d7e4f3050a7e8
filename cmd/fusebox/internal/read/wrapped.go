package read

import (
	"bytes"
	"slices"
)

// wrapped is a format whose lines are within others: the envelope of a container runtime, or a header of syslog.
type wrapped struct {
	self  about
	inner format
	// unwrap is the line within; nil if it is only a part of one. What is no such line is returned as it is.
	unwrap func(w *worker, b []byte) []byte
}

func (f *wrapped) about() *about { return &f.self }

func (f *wrapped) line(w *worker, b []byte) verdict {
	if b = f.unwrap(w, b); len(b) == 0 {
		return isOther
	}
	return f.inner.line(w, b)
}

// wrapper is a way in which lines are within others.
type wrapper struct {
	words  string
	is     func(line []byte) bool
	unwrap func(w *worker, b []byte) []byte
}

// wrappers are those that are told by the first line.
var wrappers = []wrapper{
	{"Its lines are within the envelopes of a container's log.", isEnvelope, unwrapEnvelope},
	{"Its lines have the header of a container's log.", isCRI, unwrapCRI},
}

// headers are those with which a line may be understood, too, but less of it.
var headers = []wrapper{
	{"Its lines have a header of syslog, whose time is not read.", isSyslog, unwrapSyslog},
	{"Its lines have a text before an object of JSON.", hasObject, unwrapObject},
}

// unwrapped is the start of a file without what is around its lines.
func (wr *wrapper) unwrapped(start []byte) []byte {
	var w worker
	var out []byte
	for line := range bytes.Lines(start) {
		if line[len(line)-1] != '\n' {
			break
		}
		w.text = w.text[:0]
		out = append(append(out, wr.unwrap(&w, bytes.TrimRight(line, "\r\n"))...), '\n')
	}
	return out
}

// around is a format within the wrapper.
func (wr *wrapper) around(inner format) format {
	f := &wrapped{self: *inner.about(), inner: inner, unwrap: wr.unwrap}
	f.self.notes = append(slices.Clone(f.self.notes), wr.words)
	return f
}

var envelope = treeOf("log", "message")

func isEnvelope(line []byte) bool {
	return (bytes.HasPrefix(line, []byte(`{"log":"`)) || bytes.HasPrefix(line, []byte(`{"message":"`))) &&
		bytes.Contains(line, []byte(`"stream":"`))
}

func unwrapEnvelope(w *worker, b []byte) []byte {
	var v [2]value
	if !envelope.scan(b, v[:]) || !v[0].isText() && !v[1].isText() {
		return b
	}
	return bytes.TrimRight(or(w.plain(&v[0]), w.plain(&v[1])), "\r\n")
}

// isCRI reports whether a line is as Kubernetes has it: 2026-11-29T02:27:06.1Z stdout F and the line.
func isCRI(line []byte) bool {
	at, rest := word(line)
	stream, rest := word(rest)
	tag, _ := word(rest)
	return len(at) >= 20 && at[4] == '-' && at[10] == 'T' && bytes.HasPrefix(stream, []byte("std")) &&
		(string(tag) == "F" || string(tag) == "P")
}

func unwrapCRI(_ *worker, b []byte) []byte {
	if !isCRI(b) {
		return b
	}
	_, rest := word(b)
	_, rest = word(rest)
	tag, rest := word(rest)
	if string(tag) == "P" {
		return nil
	}
	return rest
}

// isSyslog reports whether a line begins like <134>1 2026-… or, after a priority or not, Nov 29 02:27:06.
func isSyslog(line []byte) bool {
	_, found := afterSyslog(line)
	return found
}

func unwrapSyslog(_ *worker, b []byte) []byte {
	rest, _ := afterSyslog(b)
	return rest
}

func afterSyslog(b []byte) (rest []byte, found bool) {
	rest = b
	if len(rest) > 3 && rest[0] == '<' {
		end := bytes.IndexByte(rest, '>')
		if end < 2 || end > 4 {
			return b, false
		}
		rest = rest[end+1:]
	}
	if version, after := word(rest); string(version) == "1" { // RFC 5424: time, host, program, process, kind, data
		for range 5 {
			_, after = word(after)
		}
		if len(after) > 0 && after[0] == '[' {
			end := bytes.Index(after, []byte("] "))
			if end < 0 {
				return b, false
			}
			return after[end+2:], true
		}
		_, after = word(after)
		return after, len(after) > 0
	}
	if len(rest) < 16 || monthOf(rest[:3]) == 0 || rest[3] != ' ' || rest[9] != ':' || rest[12] != ':' {
		return b, false
	}
	if i := bytes.Index(rest, []byte(": ")); i > 0 { // host and program, or the program alone
		return rest[i+2:], true
	}
	return b, false
}

func hasObject(line []byte) bool {
	return len(line) > 0 && line[0] != '{' && bytes.Contains(line, []byte(`{"`)) && line[len(line)-1] == '}'
}

func unwrapObject(_ *worker, b []byte) []byte {
	if i := bytes.IndexByte(b, '{'); i > 0 {
		return b[i:]
	}
	return b
}
