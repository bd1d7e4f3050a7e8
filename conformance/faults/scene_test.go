//go:build linux

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// scene is an upstream with a fault, and a client that calls it.
type scene struct {
	t       *testing.T
	address string // of the upstream
	base    *http.Transport
	dialer  net.Dialer
	client  *http.Client

	// What the fault needs of the caller.
	url      string
	method   string
	header   http.Header
	body     func(context.Context) io.Reader
	length   int64 // of the body; 0 if net/http finds out
	deadline bool  // the call's context has one, of wait
	canceled bool  // the call's context has ended before the call
	unread   bool  // the body is closed at once
	deaf     bool  // that a connection is closed by this side is not heard of before the call is over: see call
	before   func()
	onDial   func()
	onBody   func(context.Context) // the headers are here, the body is not read yet
	after    func()

	// wait is every time-out of a scene. How long it is never decides what comes of a call that gets as far as it
	// should: bodyTimeout says that it should get to the headers, and then a scene is made anew with a longer wait.
	wait        time.Duration
	bodyTimeout bool
	tooSoon     bool

	cancel     atomic.Pointer[context.CancelFunc] // of the call that is under way
	callOver   chan struct{}                      // made for every call if deaf
	gotHeaders chan struct{}                      // one for every response whose headers the caller has
	over       chan struct{}
	opened     atomic.Int64 // connections, at the client
	open       atomic.Int64 // and those that it has not closed
	served     atomic.Int64 // connections, at the upstream, that are not closed
	ends       []func()
}

const (
	upstreamURL = "http://upstream.test/"
	generously  = 10 * time.Second
)

func (s *scene) atEnd(f func()) { s.ends = append(s.ends, f) }

// giveUp cancels the call that is under way.
func (s *scene) giveUp() {
	if cancel := s.cancel.Load(); cancel != nil {
		(*cancel)()
	}
}

// play makes a scene of the fault, and leaves nothing behind: no connection at the client, none at the upstream, no
// goroutine. It reports whether the wait was long enough for what is to be seen.
func play(t *testing.T, f fault, wait time.Duration, wrap func(http.RoundTripper) http.RoundTripper, act func(*scene)) bool {
	others := goleak.IgnoreCurrent()
	s := &scene{
		t: t, wait: wait, url: upstreamURL, method: http.MethodGet, base: new(http.Transport),
		gotHeaders: make(chan struct{}, 1000), over: make(chan struct{}),
	}
	s.base.DialContext = s.dial
	s.client = new(http.Client)
	f.set(s)
	s.client.Transport = wrap(s.base)
	act(s)

	close(s.over)
	for where, left := range map[string]*atomic.Int64{"client": &s.open, "upstream": &s.served} {
		s.await("connections are left at the "+where, func() bool {
			s.client.CloseIdleConnections() // a call can be back before its connection is idle, or is there at all
			return left.Load() == 0
		})
	}
	for _, end := range s.ends {
		end()
	}
	require.NoError(t, goleak.Find(others))
	return !s.tooSoon
}

func (s *scene) await(what string, is func() bool) {
	for end := time.Now().Add(generously); !is(); time.Sleep(time.Millisecond) {
		require.True(s.t, time.Now().Before(end), what)
	}
}

// dial connects to the upstream, whatever the URL says, unless a resolver is to find out.
func (s *scene) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if s.onDial != nil {
		s.onDial()
	}
	if s.dialer.Resolver == nil {
		address = s.address
	}
	s.open.Add(1) // a dial whose caller has given up goes on, and can still become a connection
	raw, err := s.dialer.DialContext(ctx, network, address)
	if err != nil {
		s.open.Add(-1)
		return nil, err
	}
	s.opened.Add(1)
	return &counted{Conn: raw, open: &s.open, deafUntil: s.callOver}, nil
}

// counted is a connection of the client that says when it is closed.
type counted struct {
	net.Conn
	open      *atomic.Int64
	closed    atomic.Bool
	deafUntil chan struct{} // nil if not deaf
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.deafUntil != nil && errors.Is(err, net.ErrClosed) {
		<-c.deafUntil
	}
	return n, err
}

func (c *counted) Close() error {
	err := c.Conn.Close()
	if !c.closed.Swap(true) {
		c.open.Add(-1)
	}
	return err
}

// answer is all that a caller can see of a call.
type answer struct {
	Status   string
	Proto    string
	Header   http.Header
	Length   int64
	Gunzip   bool
	Body     string
	Trailer  http.Header
	Err      []string // the call's error, or that of reading the body
	Is       []string // which errors it is
	IsTime   bool
	response *http.Response
	err      error
}

// call makes one call, and reads its body to the end.
func (s *scene) call() answer {
	if s.before != nil {
		s.before()
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.atEnd(cancel) // and not before: it would close a connection that is left
	if s.deadline {
		ctx, cancel = context.WithTimeout(ctx, s.wait)
		s.atEnd(cancel)
	}
	watchdog := time.AfterFunc(generously, func() { s.t.Error("the call does not end"); cancel() })
	defer watchdog.Stop()
	s.cancel.Store(&cancel)
	if s.canceled {
		cancel()
	}
	if s.deaf {
		// When net/http finds that a request's body is of another length than was said, it closes the connection, and
		// now and then returns the error of reading from that connection instead.
		s.callOver = make(chan struct{})
		defer close(s.callOver)
	}
	var body io.Reader
	if s.body != nil {
		body = s.body(ctx)
	}
	req, err := http.NewRequestWithContext(ctx, s.method, s.url, body)
	require.NoError(s.t, err)
	if s.length != 0 {
		req.ContentLength = s.length
	}
	for name, values := range s.header {
		req.Header[name] = values
	}
	resp, err := s.client.Do(req)
	var a answer
	if err == nil {
		s.gotHeaders <- struct{}{}
		if s.onBody != nil {
			s.onBody(ctx)
		}
		var read []byte
		if !s.unread {
			read, err = io.ReadAll(resp.Body)
		}
		require.NoError(s.t, resp.Body.Close())
		a = answer{
			Status: resp.Status, Proto: resp.Proto, Header: resp.Header.Clone(), Length: resp.ContentLength,
			Gunzip: resp.Uncompressed, Body: strings.TrimRight(string(read), drip), Trailer: resp.Trailer, response: resp,
		}
	} else if s.bodyTimeout {
		s.tooSoon = true
	}
	if s.after != nil {
		s.after()
	}
	a.Err, a.Is, a.IsTime, a.err = chain(err), identities(err), isTimeout(err), err
	return a
}

// String is what the page says of it.
func (a answer) String() string {
	text := ""
	if a.err != nil {
		err := a.err
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		text = "`" + strings.ReplaceAll(strings.ReplaceAll(canonical(err.Error()), "`", "'"), "|", "\\|") + "`"
	}
	switch {
	case a.response == nil:
		return text
	case a.err == nil:
		return a.response.Status
	}
	return a.response.Status + ", then " + text
}

// chain is an error and all that it wraps, each with its type.
func chain(err error) []string {
	if err == nil {
		return nil
	}
	links := []string{canonical(fmt.Sprintf("%T: %s", err, err))}
	switch wrapper := err.(type) {
	case interface{ Unwrap() error }:
		links = append(links, chain(wrapper.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, wrapped := range wrapper.Unwrap() {
			links = append(links, chain(wrapped)...)
		}
	}
	return links
}

// identities are the errors that programs look for.
func identities(err error) (is []string) {
	for _, target := range []error{
		context.Canceled, context.DeadlineExceeded, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, http.ErrSchemeMismatch,
		http.ErrBodyReadAfterClose, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EMFILE,
		syscall.EADDRINUSE, errBody,
	} {
		if errors.Is(err, target) && !strings.HasSuffix(err.Error(), ": i/o timeout") {
			is = append(is, target.Error())
		}
	}
	return is
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// What differs from one run to the next has one name on the page.
var varying = []struct {
	expression *regexp.Regexp
	name       string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+->127\.0\.0\.1:\d+`), "client->upstream"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "upstream:80"},
	{regexp.MustCompile(`on [^ ]+:53: `), "on resolver:53: "},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)`), "(a time)"},
	{regexp.MustCompile(`stream ID \d+`), "stream ID n"},
	// A dial ends by its deadline or by that of its context, which are the same time.
	{regexp.MustCompile(`^\*(net\.timeoutError|poll\.DeadlineExceededError): i/o timeout$`), "i/o timeout"},
	{regexp.MustCompile(`LastStreamID=\d+`), "LastStreamID=n"},
	// http.Client ends a call of every RoundTripper that is not net/http's own in two ways at once, and either may be first.
	{regexp.MustCompile(`(net/http: request canceled( while waiting for connection)?|context deadline exceeded)( \(Client\.Timeout)`), "context deadline exceeded$3"},
}

func canonical(text string) string {
	for _, v := range varying {
		text = v.expression.ReplaceAllString(text, v.name)
	}
	return text
}
