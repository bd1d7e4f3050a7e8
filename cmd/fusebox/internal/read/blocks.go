package read

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// block is a piece of a file that ends where a line ends, and what was read of it.
type block struct {
	data   []byte
	format format
	err    error // of reading the file; of its last block alone
	done   chan struct{}
	owner  *worker // whose numbers of keys are those of the calls

	now                            []byte // the line that is read
	lines, others, strangers, left int64
	calls                          []record.Call
	// seconds of the stamps of calls if no more is known of them, times 2, and 1 more of a further attempt
	seconds []int64
	counts  [readings]int64
	strange []Line // with numbers from 1 in the block
	shown   []shown
}

type shown struct {
	reading
	line Line
}

func (b *block) reset() {
	b.lines, b.others, b.strangers, b.left = 0, 0, 0, 0
	b.calls, b.seconds, b.strange, b.shown = b.calls[:0], b.seconds[:0], nil, nil
	clear(b.counts[:])
}

// longestLine is how many bytes a line may have. What is longer costs that line.
const longestLine = 8 << 20

// cutter cuts a file into blocks of about size bytes.
type cutter struct {
	in    io.Reader
	size  int
	carry []byte
	skip  bool // the rest of a line that was too long
}

// fill fills a block. The last one has an error, io.EOF if all went well.
func (c *cutter) fill(b *block) {
	if cap(b.data) > 4*c.size { // of a line that was long
		b.data = nil
	}
	b.data, b.err = append(b.data[:0], c.carry...), nil
	c.carry = c.carry[:0]
	for size := c.size; ; {
		if cap(b.data) < size {
			b.data = append(make([]byte, 0, size+4096), b.data...)
		}
		for len(b.data) < size && b.err == nil {
			var n int
			n, b.err = c.in.Read(b.data[len(b.data):cap(b.data)])
			b.data = b.data[:len(b.data)+n]
		}
		if c.skip {
			i := bytes.IndexByte(b.data, '\n')
			if i < 0 && b.err == nil {
				b.data = b.data[:0]
				continue
			}
			b.data, c.skip = append(b.data[:0], b.data[i+1:]...), false
			if i < 0 {
				b.data = b.data[:0]
			}
			if b.err == nil && len(b.data) < size {
				continue
			}
		}
		if b.err != nil {
			return
		}
		if i := bytes.LastIndexByte(b.data, '\n'); i >= 0 {
			c.carry = append(c.carry, b.data[i+1:]...)
			b.data = b.data[:i+1]
			return
		}
		if len(b.data) >= longestLine { // what is given is not understood, and is counted so
			b.data = append(b.data[:4096], '\n')
			c.skip = true
			return
		}
		size *= 2
	}
}

// crew are the workers, and what they are to do.
type crew struct {
	work  chan *block
	stop  chan struct{}
	group sync.WaitGroup
}

func newCrew(n int, s *settings) *crew {
	c := &crew{work: make(chan *block), stop: make(chan struct{})}
	for range n {
		w := newWorker(s)
		c.group.Go(func() {
			for {
				select {
				case b := <-c.work:
					w.read(b, b.format)
					b.done <- struct{}{}
				case <-c.stop:
					return
				}
			}
		})
	}
	return c
}

// run cuts a file and gives the blocks to the crew, and in order to the file's queue. It uses those again that are
// free.
func (c *crew) run(cut *cutter, f *file) {
	run := c.group.Go
	if f.told.Name == "-" { // a read of which nobody may be able to end
		run = func(f func()) { go f() }
	}
	run(func() {
		for {
			var b *block
			select {
			case b = <-f.free:
			case <-c.stop:
				return
			}
			cut.fill(b)
			b.format = f.format
			last := b.err != nil
			select {
			case f.queue <- b:
			case <-c.stop:
				return
			}
			select {
			case c.work <- b:
			case <-c.stop:
				return
			}
			if last {
				return
			}
		}
	})
}

// isEnd reports whether an error is that a file has ended, if too early.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
