package read

import (
	"bytes"
	"io"
)

// elements makes lines of what is in arrays of JSON documents, so that a document of any size is read element by
// element. It reads r, which is documents one after the other, and gives the elements of the arrays at paths, each on a
// line; the documents themselves if a path is empty. What is no JSON any more ends at the next document that begins a
// line.
type elements struct {
	r     io.Reader
	paths [][]string
	full  int // how long paths are
	in    []byte
	out   []byte
	given int // of out
	err   error

	stack   []container
	text    bool // in a string
	escape  bool // after a backslash in it
	isName  bool // it is the name of a value
	name    []byte
	level   int  // of the value that comes: how many names of a path lead to it; -1 if they do not
	ended   bool // a value has ended, and no comma has come
	fresh   bool // nothing but blanks since the line began
	copying int  // how many containers are open in the element that is copied
	strange bool // what comes is no JSON, up to the end of the line
}

type container struct {
	object bool
	level  int
}

func newElements(r io.Reader, paths [][]string) *elements {
	return &elements{r: r, paths: paths, full: len(paths[0]), in: make([]byte, 64<<10), fresh: true}
}

func (e *elements) Read(p []byte) (int, error) {
	for e.given == len(e.out) {
		if e.err != nil {
			return 0, e.err
		}
		n, err := e.r.Read(e.in)
		e.out, e.given = e.out[:0], 0
		e.take(e.in[:n])
		if e.err = err; err != nil && e.copying > 0 {
			e.reset()
		}
	}
	n := copy(p, e.out[e.given:])
	e.given += n
	return n, nil
}

// reset begins anew, after what was no JSON.
func (e *elements) reset() {
	if e.copying > 0 {
		e.out = append(e.out, '\n')
	}
	e.stack, e.text, e.escape, e.isName, e.ended, e.copying = e.stack[:0], false, false, false, false, 0
}

func (e *elements) take(b []byte) {
	for i := 0; i < len(b); {
		if e.text {
			i = e.inText(b, i)
			continue
		}
		if e.copying > 0 {
			i = e.element(b, i)
			continue
		}
		if c := b[i]; !e.strange && len(e.stack) == 0 && c > ' ' && c != '{' && c != '[' && c != ',' {
			e.strange = true
		}
		if e.strange {
			n := bytes.IndexByte(b[i:], '\n') + 1
			if e.strange = n == 0; e.strange {
				n = len(b) - i
			}
			e.out = append(e.out, b[i:i+n]...)
			i += n
			e.fresh = true
			continue
		}
		c := b[i]
		i++
		switch c {
		case '\n':
			e.fresh = true
			continue
		case ' ', '\t', '\r':
			continue
		case '{', '[':
			if e.fresh && e.ended && len(e.stack) > 0 {
				e.reset()
			}
			e.open(c)
		case '}', ']':
			e.shut()
		case '"':
			top := len(e.stack) - 1
			e.text, e.name = true, e.name[:0]
			e.isName = top >= 0 && e.stack[top].object && e.level < 0 && !e.ended
		case ':':
			e.level = e.within()
		case ',':
			e.ended, e.level = false, -1
		default:
			e.ended = true
		}
		e.fresh = false
	}
}

// element copies what comes of an element.
func (e *elements) element(b []byte, i int) int {
	start := i
	for i < len(b) {
		switch b[i] {
		case '"':
			end := quoted(b, i)
			if end < 0 || bytes.IndexByte(b[i:end], '\n') >= 0 {
				e.out = append(e.out, b[start:i+1]...)
				e.text, e.isName = true, false
				return i + 1
			}
			i = end
			continue
		case '{', '[':
			e.copying++
		case '}', ']':
			if e.copying--; e.copying == 0 {
				e.out = append(append(e.out, b[start:i+1]...), '\n')
				e.shut()
				return i + 1
			}
		case '\n':
			e.out = append(append(e.out, b[start:i]...), ' ')
			next := blanks(b, i)
			if next < len(b) && (b[next] == '{' || b[next] == '[') && endsValue(b[:i]) {
				e.reset()
				e.fresh = true
				return next
			}
			i, start = next, next
			continue
		}
		i++
	}
	e.out = append(e.out, b[start:]...)
	return i
}

// endsValue reports whether a value has ended where b does.
func endsValue(b []byte) bool {
	b = bytes.TrimRight(b, " \t\r")
	return len(b) > 0 && bytes.IndexByte([]byte("{[,:"), b[len(b)-1]) < 0
}

// inText takes a string up to its end.
func (e *elements) inText(b []byte, i int) int {
	start := i
	for i < len(b) {
		c := b[i]
		if e.escape {
			e.escape = false
		} else if c == '"' {
			e.text, e.ended = false, !e.isName
			i++
			break
		} else if c == '\\' {
			e.escape = true
		} else if c == '\n' { // no string of JSON has one
			e.keep(b[start:i])
			e.reset()
			e.fresh = true
			return i + 1
		} else if !e.isName {
			j := bytes.IndexByte(b[i:], '"')
			if j < 0 {
				j = len(b) - i
			}
			if plain := b[i : i+j]; j > 0 && bytes.IndexByte(plain, '\\') < 0 && bytes.IndexByte(plain, '\n') < 0 {
				i += j
				continue
			}
		}
		i++
	}
	e.keep(b[start:i])
	return i
}

func (e *elements) keep(b []byte) {
	if e.copying > 0 {
		e.out = append(e.out, b...)
	} else if e.isName && len(e.name) < 64 {
		e.name = append(e.name, bytes.TrimSuffix(b[:min(len(b), 64)], []byte{'"'})...)
	}
}

// within is the level of the value whose name has come.
func (e *elements) within() int {
	top := len(e.stack) - 1
	if top < 0 || e.stack[top].level < 0 || e.stack[top].level >= e.full {
		return -1
	}
	at := e.stack[top].level
	for _, path := range e.paths {
		if string(e.name) == path[at] {
			return at + 1
		}
	}
	return -1
}

func (e *elements) open(c byte) {
	level := e.level
	top := len(e.stack) - 1
	switch {
	case top < 0:
		level = 0
	case !e.stack[top].object:
		level = e.stack[top].level
	}
	if c == '{' && level == e.full && (top < 0 || !e.stack[top].object) {
		e.copying = 1
		e.out = append(e.out, c)
	}
	const deepest = 1000
	if len(e.stack) > deepest {
		e.reset()
		return
	}
	e.stack = append(e.stack, container{c == '{', level})
	e.level, e.ended = -1, false
}

func (e *elements) shut() {
	if len(e.stack) > 0 {
		e.stack = e.stack[:len(e.stack)-1]
	}
	e.level, e.ended = -1, true
}
