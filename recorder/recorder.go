// Package recorder writes down the calls of a transport.Transport, about a dozen bytes each, so that the command
// fusebox replay can tell later what other policies would have done to them.
//
//	calls, err := recorder.Open("/var/log/app/calls.fusebox", recorder.Options{})
//	…
//	defer calls.Close()
//	breaker := transport.New(nil, transport.WithObserver(calls.Observer()))
//
// and then fusebox replay /var/log/app/calls.fusebox*. In shadow (transport.WithShadow) all calls are made, and so all
// are known; of a call that a circuit has refused nobody knows what would have become of it.
package recorder

import (
	"errors"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// Options is how calls are recorded. The zero value is usable.
type Options struct {
	MaxBytes int64 // of a file; 0 means 64 MiB
	MaxFiles int   // that are kept, the current one among them; 0 means 8
	// OnError is told of what goes wrong with a file, by a goroutine of the recorder; nil ignores it. The recorder
	// goes on with the next file.
	OnError func(error)
}

const (
	bufferSize = 64 << 10
	buffers    = 4           // that may wait for the disk
	flushEvery = time.Second // what a process that is killed loses
)

// buffer is what is on its way to a file.
type buffer struct {
	bytes []byte
	calls uint64
	first bool // of a new file
}

// Recorder writes calls into files. Its methods may be called by many goroutines at once.
type Recorder struct {
	path    string
	options Options
	full    chan *buffer // to the writer
	empty   chan *buffer // back from it
	done    chan struct{}

	mu      sync.Mutex
	now     *buffer // nil while all wait for the disk
	keys    map[policy.Key]uint32
	end     int64 // of the last call in this file
	written int64 // bytes of this file
	lost    uint64
	closed  bool
	fails   bool // the file could not be written, and what is in it ends there
}

// Open begins to record into the file path. One that is there already becomes path.1, that path.2 and so on, and the
// oldest is removed, as when a file is full. It fails if the file cannot be made, and panics if the options make no
// sense. It starts a goroutine, which Close ends.
func Open(path string, o Options) (*Recorder, error) {
	if o.MaxBytes < 0 || o.MaxFiles < 0 {
		panic("fusebox/recorder: Options has a negative number; write a positive one, or 0 for the default")
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = 8
	}
	r := &Recorder{
		path: path, options: o, full: make(chan *buffer, buffers), empty: make(chan *buffer, buffers),
		done: make(chan struct{}),
	}
	for range buffers {
		r.empty <- &buffer{bytes: make([]byte, 0, bufferSize+mostEntry)}
	}
	file, err := r.create()
	if err != nil {
		return nil, err
	}
	r.begin()
	go r.write(file)
	return r, nil
}

// Observer is what records the calls of a Transport, of one or of several. Each call costs two readings of the clock,
// one of them the Transport's, and a short lock, and waits for no disk: if that falls behind, calls are lost and
// counted.
func (r *Recorder) Observer() transport.Observer {
	return transport.Observer{
		OnOutcome: func(e transport.CallEnd) {
			flags := byte(0)
			if e.Shadow {
				flags = flagShadow
			}
			r.record(e.Key, e.Started, e.Outcome, e.Cause, flags)
		},
		OnRefuse: func(_ *http.Request, e *transport.RefusedError) {
			if !e.Shadow {
				r.record(e.Key, time.Time{}, policy.Ignored, policy.Cause{}, flagRefused)
			}
		},
	}
}

// Lost is how many calls were not recorded, because the disk was too slow, or failed.
func (r *Recorder) Lost() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Close writes what is still to be written. Calls that end later are not recorded.
func (r *Recorder) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return errors.New("recorder: closed already")
	}
	r.closed = true
	if r.now != nil {
		r.full <- r.now // there is room: there are no more buffers than that
		r.now = nil
	}
	close(r.full)
	r.mu.Unlock()
	<-r.done
	return nil
}

// record writes down a call that has just ended; of one that began at the zero time, nobody knows how long it took.
func (r *Recorder) record(key policy.Key, started time.Time, outcome policy.Outcome, cause policy.Cause, flags byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || !r.room() {
		r.lost++
		return
	}
	now := time.Now() // under the lock, so that calls are in order of their ends
	end, took := now.UnixNano(), time.Duration(0)
	if !started.IsZero() {
		took = now.Sub(started)
	}
	b := r.now
	number, known := r.keys[key]
	if !known {
		number = r.number(key)
	}
	b.bytes = appendCall(b.bytes, number, r.end, end, took, outcome, cause, flags)
	b.calls++
	r.end = end
	if len(b.bytes) >= bufferSize {
		r.handOver()
	}
}

// room makes sure that there is a buffer to write to.
func (r *Recorder) room() bool {
	if r.now != nil {
		return true
	}
	r.begin()
	return r.now != nil
}

// begin takes an empty buffer, if there is one. A file that is full, or has failed, is followed by another.
func (r *Recorder) begin() {
	select {
	case r.now = <-r.empty:
	default:
		return
	}
	*r.now = buffer{bytes: r.now.bytes[:0]}
	if r.keys == nil || r.fails || r.written >= r.options.MaxBytes {
		r.keys, r.end, r.written, r.fails = make(map[policy.Key]uint32), 0, 0, false
		r.now.first = true
		r.now.bytes = append(r.now.bytes, Magic...)
	}
}

// handOver gives the buffer to the writer.
func (r *Recorder) handOver() {
	r.written += int64(len(r.now.bytes))
	r.full <- r.now // there is room: there are no more buffers than that
	r.now = nil
	r.begin()
}

// number gives a key its number.
func (r *Recorder) number(key policy.Key) uint32 {
	if len(r.keys) >= mostKeys {
		key = policy.Key{Detail: "(others)"}
		if number, known := r.keys[key]; known {
			return number
		}
	}
	number := uint32(len(r.keys))
	r.keys[key] = number
	r.now.bytes = appendKey(r.now.bytes, key)
	return number
}

// write runs on a goroutine of its own until Close.
func (r *Recorder) write(file *os.File) {
	defer close(r.done)
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	fresh, broken := true, false // nothing is in the file; something of it is lost, and what follows makes no sense
	for {
		select {
		case b, open := <-r.full:
			switch {
			case !open:
				r.report(file.Close())
				return
			case b.first && !fresh:
				r.report(file.Close())
				next, err := r.create()
				if broken = err != nil; broken {
					r.fail(b, err)
					break
				}
				file = next
				fallthrough
			case !broken:
				fresh = false
				if _, err := file.Write(b.bytes); err != nil {
					broken = true
					r.fail(b, err)
				}
			default:
				r.fail(b, nil)
			}
			r.empty <- b
		case <-ticker.C:
			r.mu.Lock()
			if b := r.now; b != nil && b.calls > 0 && len(r.full) == 0 {
				r.handOver()
			}
			r.mu.Unlock()
		}
	}
}

// fail has the calls of a buffer counted as lost, and the next one begin another file.
func (r *Recorder) fail(b *buffer, err error) {
	r.mu.Lock()
	r.lost += b.calls
	r.fails = true
	r.mu.Unlock()
	r.report(err)
}

func (r *Recorder) report(err error) {
	if err != nil && r.options.OnError != nil {
		r.options.OnError(err)
	}
}

// create makes the file anew, with the older ones moved on.
func (r *Recorder) create() (*os.File, error) {
	name := func(n int) string {
		if n == 0 {
			return r.path
		}
		return r.path + "." + strconv.Itoa(n)
	}
	if _, err := os.Stat(r.path); err == nil {
		for n := r.options.MaxFiles - 1; n > 0; n-- {
			if err := os.Rename(name(n-1), name(n)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
	}
	return os.OpenFile(r.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}
