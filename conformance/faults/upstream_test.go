//go:build linux

package faults_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// conn is a connection as the upstream sees it.
type conn struct {
	net.Conn
	in    *bufio.Reader
	scene *scene
}

// serve makes handle the upstream. It gets every connection; when it returns, the upstream's side of it ends, and the
// client is to close the other.
func (s *scene) serve(handle func(*conn)) {
	s.listen(func(raw net.Conn) { handle(&conn{Conn: raw, in: bufio.NewReader(raw), scene: s}) })
}

func (s *scene) listen(handle func(net.Conn)) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.address = listener.Addr().String()
	var accepting sync.WaitGroup
	accepting.Go(func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			s.served.Add(1)
			go func() {
				defer s.served.Add(-1)
				defer raw.Close()
				handle(raw)
				raw.(*net.TCPConn).CloseWrite() // closing it whole would reset it, if the client has sent more
				io.Copy(io.Discard, raw)
			}()
		}
	})
	s.atEnd(func() { listener.Close(); accepting.Wait() })
}

// refuses is an address at which nobody listens.
func (s *scene) refuses() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.address = listener.Addr().String()
	require.NoError(s.t, listener.Close())
}

// swallows is an address at which a connection is neither accepted nor refused: the kernel drops the first packet of every
// one beyond the backlog, which one other connection fills.
func (s *scene) swallows() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.address = listener.Addr().String()
	raw, err := listener.(*net.TCPListener).SyscallConn()
	require.NoError(s.t, err)
	require.NoError(s.t, raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }))
	require.NoError(s.t, err)
	filler, err := net.Dial("tcp", s.address)
	require.NoError(s.t, err)
	s.atEnd(func() { filler.Close(); listener.Close() })
}

// request reads one request with its body, and reports whether there was one.
func (c *conn) request() bool {
	req, err := http.ReadRequest(c.in)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// What an upstream does when it has said what it says.
type ending func(*conn)

func closes(*conn)  {}
func hangs(c *conn) { io.Copy(io.Discard, c.in) }
func resets(c *conn) {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// inBody is an ending that waits for the caller to have the headers.
func inBody(end ending) ending {
	return func(c *conn) {
		select {
		case <-c.scene.gotHeaders:
			end(c)
		case <-c.scene.over:
		}
	}
}

// says reads a request, answers it with the text as it stands, and ends.
func (s *scene) says(text string, end ending) {
	s.serve(func(c *conn) {
		if c.request() {
			io.WriteString(c, text)
			end(c)
		}
	})
}

// answers answers every request on a connection.
func (s *scene) answers(text string) {
	s.serve(func(c *conn) {
		for c.request() {
			io.WriteString(c, text)
		}
	})
}

// drip is not what any other body ends with: how many of them come in time is left open.
const drip = "."

// drips answers with the text, and after it with one more byte every few milliseconds, for ever.
func (s *scene) drips(text string) {
	s.serve(func(c *conn) {
		if !c.request() {
			return
		}
		io.WriteString(c, text)
		gone := make(chan struct{})
		var reading sync.WaitGroup
		reading.Go(func() { hangs(c); close(gone) })
		defer reading.Wait()
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-gone:
				return
			case <-ticker.C:
				io.WriteString(c, drip)
			}
		}
	})
}

// stream is a request over HTTP/2 as the upstream sees it.
type stream struct {
	*http2.Framer
	id uint32
	n  int // of the request, over all connections, from 1
}

// http2 is an upstream that speaks HTTP/2 without TLS and calls answer for every request. The connection ends when answer
// says so, or the client.
func (s *scene) http2(answer func(*conn, stream) (goOn bool)) {
	s.base.Protocols = new(http.Protocols)
	s.base.Protocols.SetUnencryptedHTTP2(true)
	var requests atomic.Int64
	s.serve(func(c *conn) {
		if _, err := io.CopyN(io.Discard, c.in, int64(len(http2.ClientPreface))); err != nil {
			return
		}
		framer := http2.NewFramer(c, c.in)
		framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.SettingsFrame:
				if !f.IsAck() {
					framer.WriteSettingsAck()
				}
			case *http2.PingFrame:
				if !f.IsAck() {
					framer.WritePing(true, f.Data)
				}
			case *http2.HeadersFrame:
				if !answer(c, stream{framer, f.StreamID, int(requests.Add(1))}) {
					return
				}
			}
		}
	})
}

// headers answers with a status and no other header.
func (s stream) headers(status string, end bool) {
	var block writer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: status})
	s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: block, EndHeaders: true, EndStream: end})
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }
