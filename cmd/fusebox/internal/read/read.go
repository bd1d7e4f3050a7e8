// Package read reads records of calls, such as a proxy's access log, into calls in order of their start.
package read

import (
	"context"
	"io"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// Options is how records are read. The zero value reads every format that is known by its content.
type Options struct {
	// Format is "" or "auto", which looks at the content, or the name of a format, one of Formats, some with what they
	// are given after a colon, such as "nginx:$remote_addr …" or "json:start=ts,ms=took,status=code,host=peer".
	Format string
	// Key is what calls are told apart by: "" for what the format tells best, or "upstream", "backend", "host",
	// "route", or "route=/users/{id}" for calls of one route alone. By "upstream" each attempt of a proxy is a call of
	// its own.
	Key string
	// Where are conditions that all must hold of a call that is read, each a field, = or !=, and a value in which * is
	// anything: "host=api.*", "path!=/health", "status=5*", "method", "client", "key".
	Where []string
	// From and To are the time in which a call has to begin, To not included; the zero time is no bound.
	From, To time.Time
	// Window is how much later than others a record may come, which is when its call has ended; 0 is 2 minutes, or an
	// hour if there are documents, as HAR and traces. A call that took longer begins, as given, at the edge of the
	// window.
	Window time.Duration
	// Zone is that of times that have none; nil is UTC.
	Zone *time.Location
	// Judge is asked what a call tells of its upstream before the reading says so, as the Transport asks its
	// classifier; nil leaves all to the reading. It sees a Response with a status, and Started and Ended. It is called
	// by many goroutines at once.
	Judge policy.Classifier
	// Explain has the first three lines of each reading kept, for Report.
	Explain bool
	// Stdin is what a file called "-" is; nil is one that is empty.
	Stdin io.Reader
	// Own are formats that are no text.
	Own []Own
}

// Own is a format that is read call by call, and not by lines.
type Own struct {
	Name  string
	Magic string // with which a file of it begins
	// Open reads r, that begins with Magic. What it returns gives calls in order of their end, with keys that it has
	// numbered, and io.EOF after the last one. It and Open are called by the goroutine that calls Source.Next.
	Open func(r io.Reader, keys *record.Keys) (Calls, error)
}

// Calls gives calls.
type Calls interface {
	// Next writes calls to buf and returns how many; with n > 0 the error is nil, and io.EOF comes by itself.
	Next(buf []record.Call) (n int, err error)
}

// Open begins to read files, of which "-" is Options.Stdin. It looks into each of them, and so returns what is wrong
// with the options or with opening a file. Canceling ctx makes Next return its error. Close ends the reading.
func Open(ctx context.Context, o Options, files ...string) (*Source, error) {
	return open(ctx, o, files)
}

// Next writes the next calls to buf, in order of their start over all files, and returns how many. With n > 0 the error
// is nil; after the last call it is io.EOF. It is called by one goroutine at a time.
func (s *Source) Next(buf []record.Call) (n int, err error) { return s.next(buf) }

// Keys are the keys of the calls that Next has given.
func (s *Source) Keys() *record.Keys { return &s.keys }

// Close ends the reading and closes the files.
func (s *Source) Close() error { return s.close() }

// Progress is how many bytes have been read of how many, as they are in the files, compressed or not; all is 0 if one
// of them has no size, as a pipe. It may be called at any time.
func (s *Source) Progress() (read, all int64) { return s.read.Load(), s.all }

// Report says what has been read up to now. It is called by the goroutine that calls Next.
func (s *Source) Report() Report { return s.report() }
