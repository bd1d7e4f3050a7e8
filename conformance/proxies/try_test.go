//go:build linux

package proxies_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	mostCalls = 8                // of a circuit that stays closed
	patience  = 10 * time.Second // of a caller whose backend is silent: longer than any proxy here is patient
	lookingUp = 15 * time.Second // of one who waits for a name that does not exist
	mostBack  = 8 * time.Second
)

// serve handles connections at an address, or at any if that is empty.
func serve(t *testing.T, address string, handle func(net.Conn)) string {
	if address == "" {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	over, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	t.Cleanup(func() { cancel(); l.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			stop := context.AfterFunc(over, func() { c.Close() })
			serving.Go(func() { defer stop(); defer c.Close(); handle(c) })
		}
	})
	return l.Addr().String()
}

// answers reads a request and answers with a text.
func answers(text string) func(net.Conn) {
	return func(c net.Conn) {
		readRequest(c)
		io.WriteString(c, text)
	}
}

// readRequest reads a request to the end of its header, which some proxies send piece by piece, or what a client begins
// TLS with.
func readRequest(c net.Conn) {
	r := bufio.NewReaderSize(c, 64<<10)
	const handshake = 0x16
	if first, err := r.Peek(1); err == nil && first[0] != handshake {
		http.ReadRequest(r)
	}
}

func silent(c net.Conn) { io.Copy(io.Discard, c) }

// seen is what the calls of a circuit came to.
type seen struct {
	said   string
	end    transport.CallEnd
	calls  int // until it tripped; 0 if it did not
	told   int // how often OnLocalTrouble told a cause
	rt     *transport.Transport
	target string
}

var variable = []*regexp.Regexp{regexp.MustCompile(`\d+\.\d+\.\d+\.\d+:\d+`), regexp.MustCompile(`(read|write) tcp .*: (read|write): `),
	regexp.MustCompile(`stream ID \d+`)}

// try makes calls of a target until its circuit trips.
func try(t *testing.T, base http.RoundTripper, target string) (s seen) {
	s.target = target
	s.rt = transport.New(base, transport.WithObserver(transport.Observer{
		OnOutcome: func(e transport.CallEnd) { s.end = e },
		OnLocalTrouble: func(trouble transport.LocalTrouble) {
			if trouble.Cause == s.end.Cause {
				s.told++
			}
		},
	}))
	for call := 1; call <= mostCalls; call++ {
		s.said = get(t, s.rt, target)
		if s.rt.Circuits()[0].State == policy.Open {
			s.calls = call
			break
		}
	}
	return s
}

// get makes a call and says what came of it.
func get(t *testing.T, rt http.RoundTripper, target string) (said string) {
	wait := patience
	if strings.Contains(target, unknownName) {
		wait = lookingUp
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	if err == nil {
		said = resp.Status
		if wait := resp.Header.Get("Retry-After"); wait != "" {
			said += ", Retry-After: " + wait
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil {
			said += ", then "
		}
	}
	if err != nil {
		text := err.Error()
		for _, v := range variable {
			text = v.ReplaceAllString(text, "…")
		}
		if text == "EOF" || strings.HasSuffix(text, "connection reset by peer") { // chance has it which is seen first
			text = "EOF or connection reset by peer"
		}
		said += "`" + text + "`"
	}
	return said
}

func (s seen) String() string {
	after := "stays closed"
	if s.calls > 0 {
		after = fmt.Sprintf("after %d calls", s.calls)
	}
	return fmt.Sprintf("%s | %v | %v | %s |", s.said, s.end.Outcome, s.end.Cause, after)
}

// TestForwardProxies makes calls through each forward proxy, of upstreams that cannot be reached and with ways of its own to refuse.
func TestForwardProxies(t *testing.T) {
	for _, f := range forwards {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			path, version := f.find(t)
			if path == "" {
				return
			}
			var lines []string
			through := func(proxy *url.URL, name, host string) {
				for _, scheme := range []string{"https", "http"} {
					base := func() *http.Transport {
						base := &http.Transport{Proxy: http.ProxyURL(proxy), DisableKeepAlives: true}
						if name == offersHTTP2 {
							base.ForceAttemptHTTP2, base.TLSClientConfig = true, &tls.Config{RootCAs: certificate().roots}
						}
						return base
					}
					got := try(t, transport.ProxyErrors(base()), scheme+"://"+host)
					bare := try(t, base(), scheme+"://"+host)
					if name == unknown && (late(got) || late(bare)) {
						t.Logf("%s, %s: left out, since it is not told in time that the name does not exist", scheme, name)
						continue
					}
					require.Equal(t, f.want(scheme, name).String(), got.end.Outcome.String(), "%s, %s: %s", scheme, name, got.said)
					require.Equal(t, bare.said, got.said, "the caller gets the same")
					told := 0
					if got.end.Cause.Kind == policy.KindLocal {
						told = 1
					}
					require.Equal(t, told, got.told, "%s, %s: OnLocalTrouble", scheme, name)
					without := bare.end.Outcome.String()
					if without == got.end.Outcome.String() {
						without = ""
					}
					lines = append(lines, fmt.Sprintf("| %s %s | %s, %s | %s %s |", f.name, version, scheme, name, got, without))
				}
			}
			at := newWorkshop(t)
			open := f.url(f.start(at, path, door{}))
			refusing := testkit.FreeAddress(t)
			through(open, "the upstream refuses", refusing)
			through(open, "the upstream closes", serve(t, "", answers("")))
			if namesAreLookedUp(t) {
				through(open, unknown, unknownName+":443")
			}
			if f.forbidden != "" {
				through(open, "forbidden", f.forbidden+":443")
			}
			if f.password {
				locked := f.url(f.start(newWorkshop(t), path, door{password: true}))
				through(locked, "no password", refusing)
				locked.User = url.UserPassword("someone", "wrong")
				through(locked, "wrong password", refusing)
			}
			if f.tls {
				stranger := f.url(f.start(newWorkshop(t), path, door{tls: true}))
				stranger.Scheme = "https"
				through(stranger, "the proxy's certificate is not accepted", refusing)
				if f.http2 {
					through(stranger, offersHTTP2, refusing)
				}
			}
			at.stop()
			through(open, "the proxy is dead", refusing)
			compare(t, f.name, version, lines)
		})
	}
}

const (
	offersHTTP2 = "the proxy is offered HTTP/2"
	unknown     = "unknown name"
	unknownName = "unknown.invalid"
)

// late reports whether the caller's deadline ended a call.
func late(s seen) bool { return strings.Contains(s.said, "deadline exceeded") }

// namesAreLookedUp reports whether this machine is told that a name does not exist.
func namesAreLookedUp(t *testing.T) bool {
	_, err := net.LookupHost(unknownName)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return true
	}
	t.Logf("names that do not exist are left out, since this machine is not told so: %v", err)
	return false
}

// want is the outcome that is right, or the one that is all that can be told.
func (f forward) want(scheme, name string) policy.Outcome {
	answers := scheme == "http" && !f.socks // as the upstream would
	switch {
	case name == offersHTTP2 && !answers: // with words that an upstream could use
		return policy.Failure
	case name == unknown && f.name == "privoxy": // with a 404
		if answers {
			return policy.Success
		}
		return policy.Ignored
	case name == "wrong password" && f.name == "tinyproxy" && answers: // with a 401
		return policy.Success
	case name == "forbidden" && answers: // with a 403
		return policy.Success
	case name == "forbidden", strings.HasSuffix(name, "password"), strings.HasPrefix(name, "the proxy"):
		return policy.Ignored
	}
	return policy.Failure
}

// compare looks whether the page has the lines, if they are of the version that the page has.
func compare(t *testing.T, name, version string, lines []string) {
	t.Helper()
	if *write {
		written.Lock()
		defer written.Unlock()
		written.lines = append(written.lines, lines...)
		return
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	var there []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "| "+name+" "+version+" |") && strings.Count(line, "|") == strings.Count(lines[0], "|") {
			there = append(there, strings.TrimSpace(line))
		}
	}
	if len(there) == 0 {
		t.Logf("%s %s is not on the page, which has another version; only the outcomes were tested", name, version)
		return
	}
	// Whether a proxy is told in time that a name does not exist is not up to it.
	rows := func(of []string) (n int) {
		for _, line := range of {
			if strings.Contains(line, unknown) {
				n++
			}
		}
		return n
	}
	if rows(there) != rows(lines) {
		of := func(line string) bool { return strings.Contains(line, unknown) }
		there, lines = slices.DeleteFunc(there, of), slices.DeleteFunc(slices.Clone(lines), of)
	}
	require.Equal(t, timeless(there), timeless(lines), "the page is not what was seen; look at each difference, then: go test . -write")
}

// timeless leaves away what is measured, which is in brackets.
func timeless(lines []string) []string {
	lines = slices.Clone(lines)
	for i, line := range lines {
		lines[i] = measured.ReplaceAllString(line, "()")
	}
	return lines
}

var measured = regexp.MustCompile(`\(.*? s\)`)
