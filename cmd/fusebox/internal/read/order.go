package read

import (
	"math"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// A document is one service's calls after the other's, or as a query gave them: its calls are of any time of it.
const (
	usualWindow    = 2 * time.Minute
	documentWindow = time.Hour
)

// order puts calls that come by their end into the order of their start. It holds those of a window, by intervals of
// their start.
type order struct {
	window  int64
	most    int // calls
	buckets []bucket
	base    int64 // the first interval that is held
	edge    int64 // what began in intervals before it is not waited for any more
	latest  int64 // end
	n       int
	begun   bool

	ripe    []record.Call // in order, to be given next
	at      int
	spare   *chunk
	scratch []record.Call
	tight   int64 // how often there were too many calls for the window
}

// bucket is the calls of an interval, in chunks so that no memory is moved or given up.
type bucket struct {
	first, last *chunk
	n           int
}

const chunkCalls = 128

type chunk struct {
	calls [chunkCalls]record.Call
	next  *chunk
}

// interval is 2^27 ns, 134 ms.
const interval = 27

func newOrder(window int64, most int) *order {
	n := 4
	for int64(n) < window>>interval+3 {
		n *= 2
	}
	return &order{window: window, most: most, buckets: make([]bucket, n)}
}

// room says what call may be added: it returns false as long as calls are to be taken first.
func (o *order) room(c *record.Call) bool {
	end := c.End()
	if !o.begun {
		o.begun, o.latest = true, end
		o.base = (end - o.window) >> interval
		o.edge = o.base
	}
	if end > o.latest {
		o.latest = end
		o.edge = max(o.edge, (end-o.window)>>interval)
	}
	if o.n >= o.most {
		o.edge = max(o.edge, o.base+1)
		o.tight++
	}
	if o.base < o.edge && o.n == 0 {
		o.base = o.edge
	}
	return o.base >= o.edge
}

// add adds a call for which there is room, and reports whether it begins, as it is given, later than it did.
func (o *order) add(c record.Call) (moved bool) {
	at := c.Start >> interval
	if at < o.base {
		end := c.End()
		c.Start, at, moved = o.base<<interval, o.base, true
		if c.Took() >= 0 {
			c.SetTook(max(0, time.Duration(end-c.Start)))
		}
	}
	b := &o.buckets[at&int64(len(o.buckets)-1)]
	in := b.n % chunkCalls
	if in == 0 {
		o.grow(b)
	}
	b.last.calls[in] = c
	b.n++
	o.n++
	return moved
}

// grow gives a bucket one more chunk.
func (o *order) grow(b *bucket) {
	c := o.spare
	if c == nil {
		c = new(chunk)
	}
	o.spare, c.next = c.next, nil
	if b.last == nil {
		b.first = c
	} else {
		b.last.next = c
	}
	b.last = c
}

// finish has all calls given.
func (o *order) finish() { o.edge = math.MaxInt64 }

// take copies calls that are next to buf; 0 if there is none yet.
func (o *order) take(buf []record.Call) int {
	for o.at == len(o.ripe) {
		if o.n == 0 || o.base >= o.edge {
			return 0
		}
		o.ripen()
	}
	n := copy(buf, o.ripe[o.at:])
	o.at += n
	return n
}

// ripen makes the first interval ripe.
func (o *order) ripen() {
	b := &o.buckets[o.base&int64(len(o.buckets)-1)]
	o.ripe, o.at = o.ripe[:0], 0
	for c, left := b.first, b.n; left > 0; {
		n := min(left, len(c.calls))
		o.ripe = append(o.ripe, c.calls[:n]...)
		left -= n
		next := c.next
		c.next, o.spare = o.spare, c
		c = next
	}
	o.n -= b.n
	*b = bucket{}
	o.base++
	o.sort(o.ripe)
}

// sort sorts the calls of an interval by start; those of the same keep their order.
func (o *order) sort(calls []record.Call) {
	i := 1
	for i < len(calls) && calls[i-1].Start <= calls[i].Start {
		i++
	}
	if i >= len(calls) {
		return
	}
	if len(calls) <= 64 {
		for ; i < len(calls); i++ {
			c, j := calls[i], i
			for ; j > 0 && calls[j-1].Start > c.Start; j-- {
				calls[j] = calls[j-1]
			}
			calls[j] = c
		}
		return
	}
	if cap(o.scratch) < len(calls) {
		o.scratch = make([]record.Call, len(calls)+len(calls)/4)
	}
	// By nine bits at a time, from the lowest of the interval.
	from, to := calls, o.scratch[:len(calls)]
	for shift := 0; shift < interval; shift += 9 {
		var counts [512]int32
		for i := range from {
			counts[from[i].Start>>shift&511]++
		}
		sum := int32(0)
		for i, n := range counts {
			counts[i] = sum
			sum += n
		}
		for i := range from {
			at := &counts[from[i].Start>>shift&511]
			to[*at] = from[i]
			*at++
		}
		from, to = to, from
	}
	copy(calls, from)
}
