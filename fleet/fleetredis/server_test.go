package fleetredis_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
)

// patience is how long a test waits for what takes milliseconds on a machine that has nothing else to do.
const patience = time.Minute

// server is a redis-server of its own for a test, or a stand-in if there is none on PATH.
type server struct {
	addr    string
	process *exec.Cmd // nil for the stand-in
	command []string
}

// binary returns the path of the server that FUSEBOX_REDIS_SERVER names, or else of redis-server or valkey-server, whichever is
// there.
func binary() string {
	names := []string{"redis-server", "valkey-server"}
	if name := os.Getenv("FUSEBOX_REDIS_SERVER"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func required() bool {
	return os.Getenv("FUSEBOX_REQUIRE_REDIS") != "" || os.Getenv("FUSEBOX_REDIS_SERVER") != ""
}

// realRedis ends the test if there is no real one: with a failure where it must be there, and otherwise without having tested.
func realRedis(t testing.TB) {
	if binary() != "" {
		return
	}
	if required() {
		t.Fatal("no redis-server or valkey-server on PATH, or not the one of FUSEBOX_REDIS_SERVER, and it must be there")
	}
	t.Skip("no redis-server or valkey-server on PATH, and this needs a real one")
}

func startSentinel(t testing.TB, config string) *server {
	s := &server{addr: testkit.FreeAddress(t)}
	_, port, err := net.SplitHostPort(s.addr)
	require.NoError(t, err)
	s.command = []string{binary(), config, "--sentinel", "--port", port, "--bind", "127.0.0.1", "--logfile", config + ".log"}
	t.Cleanup(func() { s.kill() })
	s.start(t)
	return s
}

func startRedis(t testing.TB, args ...string) *server {
	if binary() == "" && !required() {
		t.Log("no redis-server or valkey-server on PATH: this runs on an embedded stand-in")
		return &server{addr: miniredis.RunT(t).Addr()}
	}
	realRedis(t)
	s := &server{addr: testkit.FreeAddress(t)}
	_, port, err := net.SplitHostPort(s.addr)
	require.NoError(t, err)
	dir := t.TempDir()
	s.command = append([]string{
		binary(), "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", dir,
		"--logfile", filepath.Join(dir, "log"), "--daemonize", "no",
	}, args...)
	t.Cleanup(func() { s.kill() })
	s.start(t)
	return s
}

func (s *server) start(t testing.TB) {
	s.process = exec.Command(s.command[0], s.command[1:]...)
	require.NoError(t, s.process.Start())
	s.await(t)
}

// kill is kill -9.
func (s *server) kill() {
	if s.process != nil {
		s.process.Process.Kill()
		s.process.Wait()
	}
}

// await waits until the server answers, be it that it wants a password.
func (s *server) await(t testing.TB) {
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			return false
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Second))
		io.WriteString(conn, "PING\r\n")
		answer := make([]byte, 1)
		_, err = conn.Read(answer)
		return err == nil
	}, patience, 10*time.Millisecond)
}

func (s *server) client(t testing.TB) redis.UniversalClient { return clientOf(t, s.addr) }

func clientOf(t testing.TB, addr string) redis.UniversalClient {
	c := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{addr}})
	t.Cleanup(func() { c.Close() })
	return c
}

// logbook counts what a logger is told.
type logbook struct {
	mu    sync.Mutex
	lines []slog.Record
}

func (b *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (b *logbook) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *logbook) WithGroup(string) slog.Handler            { return b }

func (b *logbook) Handle(_ context.Context, r slog.Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, r)
	return nil
}

func (b *logbook) count(level slog.Level) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.lines {
		if r.Level == level {
			n++
		}
	}
	return n
}

// unexplained returns the warnings that are no timeouts. A machine that is busy enough makes a Redis slow that is well.
func (b *logbook) unexplained() (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.lines {
		if r.Level < slog.LevelWarn {
			continue
		}
		r.Attrs(func(a slog.Attr) bool {
			err, _ := a.Value.Any().(error)
			if !os.IsTimeout(err) && !errors.Is(err, context.DeadlineExceeded) {
				lines = append(lines, fmt.Sprint(r.Message, a))
			}
			return true
		})
	}
	return lines
}

// proxy is a network between members and a Redis, which can be cut.
type proxy struct {
	net.Listener
	to string

	mu    sync.Mutex
	mode  mode
	conns []*passed
}

type mode int

const (
	passes  mode = iota
	drops        // silently, and for good of connections that are there then, as a firewall does that has forgotten them
	refuses      // closes every connection
	babbles      // answers nonsense
)

const nonsense = "-\r\n*3\r\n$-7\r\n:x\r\n%2\r\n>1\r\n\x00\xff HTTP/1.1 200 OK\r\n\r\n$5\r\nab"

func startProxy(t testing.TB, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, to: to}
	var running sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		p.become(refuses)
		running.Wait()
	})
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			p.mu.Lock()
			if p.mode == refuses || err != nil {
				p.mu.Unlock()
				in.Close()
				if err == nil {
					out.Close()
				}
				continue
			}
			c := &passed{Conn: in, out: out, lost: make(chan struct{})}
			if p.mode == drops {
				c.lose.Do(func() { close(c.lost) })
			}
			p.conns = append(p.conns, c)
			babble := p.mode == babbles
			p.mu.Unlock()
			if babble {
				io.WriteString(in, strings.Repeat(nonsense, 10))
			}
			running.Go(func() { pass(out, in, c.lost) })
			running.Go(func() { pass(in, out, c.lost) })
		}
	})
	return p
}

// passed is a connection on its way through the proxy.
type passed struct {
	net.Conn
	out  net.Conn
	lost chan struct{} // closed if nothing comes through any more
	lose sync.Once
}

// pass passes what comes until it is lost, and from then on swallows it.
func pass(to, from net.Conn, lost chan struct{}) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-lost:
			continue
		default:
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// become changes what the network does, with the connections that are there as well.
func (p *proxy) become(m mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mode = m
	for _, c := range p.conns {
		switch {
		case m == refuses || m == babbles:
			c.Close()
			c.out.Close()
		case m == drops:
			c.lose.Do(func() { close(c.lost) })
		}
	}
}
