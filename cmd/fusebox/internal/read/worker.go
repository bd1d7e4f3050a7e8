package read

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// format reads lines.
type format interface {
	about() *about
	// line reads a line without its end. If it is a call, it is emitted; more than one if it tells of several attempts.
	line(w *worker, b []byte) verdict
}

// about is what a format is.
type about struct {
	name  string
	end   bool // the stamp is the end of the call
	whole bool // of which only the second is known
	took  bool // lines say how long calls took
	// resolution is that of the stamp
	resolution time.Duration
	key        string // what calls are told apart by if nothing is asked for
	cannotShow []string
	notes      []string
	elements   [][]string // of JSON documents, the paths to the arrays whose elements are the calls
}

type verdict uint8

const (
	isCall    verdict = iota
	isOther           // understood, and no call
	isStrange         // not understood
)

// row is what has been read of one call. Its texts are parts of the line.
type row struct {
	stamp int64 // unix nanoseconds
	took  int64 // nanoseconds at the upstream, -1 if it is not known
	span  int64 // nanoseconds from the start to the stamp, where it is an end; -1 is took
	first int64 // nanoseconds to the headers, -1 if it is not known
	// status is that of the upstream's answer, or what the proxy made of it
	status  int
	reading reading
	further bool // it is a further attempt, on a line that has been emitted before

	upstream, backend, host, path, method, client []byte
}

// worker reads lines into calls. Only one goroutine uses it at a time.
type worker struct {
	*settings
	stamps
	row   row
	vals  [maxValues]value // of a line of JSON
	parts [maxParts][]byte // of a line of text
	text  []byte           // strings of this line without their escapes
	route []byte           // a key that is put together

	format format
	about  *about
	out    *block

	keys   map[string]uint32
	recent [64]struct { // of them, by a hash that takes next to no time
		name   string
		number uint32
	}
	mu      sync.Mutex // over names
	names   []string   // of its numbers of keys
	numbers []uint32   // those of record.Keys, for who reads the blocks; unset of what has not been met

	call policy.Call // that Judge sees
}

func newWorker(s *settings) *worker {
	w := &worker{settings: s, keys: make(map[string]uint32)}
	w.stamps.zone = s.Zone
	w.call.Request = &http.Request{Method: http.MethodGet, Header: http.Header{}}
	w.call.Response = &http.Response{Header: http.Header{}, Body: http.NoBody, Request: w.call.Request}
	return w
}

// read reads the lines of a block.
func (w *worker) read(b *block, f format) {
	w.out, w.format, w.about = b, f, f.about()
	b.reset()
	b.owner = w
	for rest := b.data; len(rest) > 0; {
		var line []byte
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line, rest = rest[:i], rest[i+1:]
		} else {
			line, rest = rest, nil
		}
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
		b.lines++
		w.one(line)
	}
}

func (w *worker) one(line []byte) {
	w.out.now, w.text = line, w.text[:0]
	if len(line) == 0 || line[0] <= ' ' && len(bytes.TrimSpace(line)) == 0 {
		w.out.others++
		return
	}
	switch w.format.line(w, line) {
	case isOther:
		w.out.others++
	case isStrange:
		w.out.strangers++
		if len(w.out.strange) < kept {
			w.out.strange = append(w.out.strange, Line{Number: w.out.lines, Text: cut(line)})
		}
	}
}

// emit gives the call of the row.
func (w *worker) emit() {
	r, b := &w.row, w.out
	key, ours := w.key(r)
	if w.keyBy == byUpstream && r.reading == noServer { // its caller met an outage, but no server was asked
		ours = false
	}
	if !ours || len(w.where) > 0 && !w.all(r, key) {
		b.left++
		return
	}
	at := r.reading
	if w.Judge != nil && r.status != 0 && at != byItself && at != fromCache && at != queueOrLimit && at != badRequest {
		at = w.judged(r, at)
	}
	start := r.stamp
	if w.about.end {
		start -= max(r.took, r.span, 0)
	}
	if w.bounded {
		began := start
		if w.about.whole && w.about.end {
			began += second / 2
		}
		if began < w.from || began >= w.to {
			b.left++
			return
		}
	}
	c := templates[at]
	c.Start, c.Key, c.Status, c.Client = start, w.number(key), uint16(r.status), clientOf(r.client)
	c.SetTook(time.Duration(r.took))
	b.calls = append(b.calls, c)
	if w.about.whole {
		at := r.stamp / second * 2
		if r.further {
			at |= 1
		}
		b.seconds = append(b.seconds, at)
	}
	b.counts[at]++
	if w.Explain && b.counts[at] <= kept {
		b.shown = append(b.shown, shown{at, Line{b.lines, cut(b.now), w.explain(&c, key, at)}})
	}
}

// judged is the reading after the classifier was asked.
func (w *worker) judged(r *row, at reading) reading {
	w.call.Response.StatusCode = r.status
	w.call.Started = time.Unix(0, 0)
	w.call.Ended = w.call.Started.Add(time.Duration(max(r.took, 0)))
	if r.first >= 0 {
		w.call.Ended = w.call.Started.Add(time.Duration(r.first))
	}
	switch outcome := w.Judge(&w.call); {
	case outcome == policy.Undecided || outcome == outcomes[at]:
		return at
	case outcome == policy.Success:
		return judgedSuccess
	case outcome == policy.Failure:
		return judgedFailure
	}
	return judgedIgnored
}

// number is the number that this worker has for a key, which is not empty.
func (w *worker) number(key []byte) uint32 {
	n := len(key)
	hash := uint64(key[n/2])<<8 | uint64(key[n-1])
	if n >= 8 {
		hash = binary.LittleEndian.Uint64(key[n-8:])
	}
	recent := &w.recent[(hash^uint64(n))*0x9e3779b97f4a7c15>>58]
	if recent.name == string(key) {
		return recent.number
	}
	number := w.find(key)
	recent.name, recent.number = w.names[number], number
	return number
}

func (w *worker) find(key []byte) uint32 {
	n, known := w.keys[string(key)]
	if !known && len(w.keys) >= record.MostKeys {
		key = []byte(record.Others)
		n, known = w.keys[record.Others]
	}
	if !known {
		name := string(key)
		n = uint32(len(w.keys))
		w.keys[name] = n
		w.mu.Lock()
		w.names = append(w.names, name)
		w.mu.Unlock()
	}
	return n
}

// meet finds the number that keys have for one of the worker's. It is called by who reads the blocks.
func (w *worker) meet(n uint32, keys *record.Keys) {
	w.mu.Lock()
	name := w.names[n]
	w.mu.Unlock()
	for len(w.numbers) <= int(n) {
		w.numbers = append(w.numbers, unset)
	}
	w.numbers[n] = keys.Number(name)
}

// kept is how many lines are kept to be shown.
const kept = 3

func cut(line []byte) string {
	const most = 500
	if len(line) > most {
		return string(line[:most]) + "…"
	}
	return string(line)
}

// explain says what was read.
func (w *worker) explain(c *record.Call, key []byte, at reading) string {
	var s strings.Builder
	switch {
	case w.about.whole && w.about.end:
		fmt.Fprintf(&s, "end within %s", time.Unix(0, w.row.stamp).UTC().Format(time.TimeOnly))
	case w.about.whole:
		fmt.Fprintf(&s, "start within %s", time.Unix(0, c.Start).UTC().Format(time.TimeOnly))
	default:
		fmt.Fprintf(&s, "start %s", time.Unix(0, c.Start).UTC().Format("15:04:05.000"))
	}
	if took := c.Took(); took >= 0 {
		fmt.Fprintf(&s, ", took %s", took)
	}
	fmt.Fprintf(&s, ", key %s", key)
	if c.Status != 0 {
		fmt.Fprintf(&s, ", status %d", c.Status)
	}
	fmt.Fprintf(&s, ": %s, %s", outcomes[at], meanings[at].words)
	return s.String()
}

// clientOf is a hash of an address without its port, never 0 if there is one.
func clientOf(b []byte) uint16 {
	if len(b) == 0 {
		return 0
	}
	if bytes.IndexByte(b, ':') >= 0 {
		b = hostOf(b)
	}
	h := uint64(len(b))
	for ; len(b) >= 8; b = b[8:] {
		h = (h ^ binary.LittleEndian.Uint64(b)) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	for _, c := range b {
		h = (h ^ uint64(c)) * 0x100000001b3
	}
	h *= 0x9e3779b97f4a7c15
	return max(uint16(h>>48), 1)
}

// hostOf is an address without its port.
func hostOf(b []byte) []byte {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 || i != bytes.IndexByte(b, ':') && (i == 0 || b[i-1] != ']') { // an IPv6 address by itself
		return b
	}
	return b[:i]
}
