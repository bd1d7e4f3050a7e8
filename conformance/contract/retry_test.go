package contract

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames is a server of HTTP/2 that is written by hand. It treats its first request badly and answers the others.
type frames struct {
	listener net.Listener
	bad      func(framer *http2.Framer, stream uint32) error
	done     sync.WaitGroup

	mu   sync.Mutex
	seen []string
}

func newFrames(t *testing.T, certificate tls.Certificate, bad func(*http2.Framer, uint32) error) *frames {
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	require.NoError(t, err)
	s := &frames{listener: listener, bad: bad}
	s.done.Go(func() {
		for n := 1; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.done.Go(func() {
				defer conn.Close()
				s.serve(conn, n)
			})
		}
	})
	return s
}

func (s *frames) close() {
	s.listener.Close()
	s.done.Wait()
}

// serve goes on until the client closes the connection or there is an error.
func (s *frames) serve(conn net.Conn, n int) error {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return err
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		return err
	}
	methods, bodies := make(map[uint32]string), make(map[uint32]*bytes.Buffer)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = framer.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			methods[f.StreamID], bodies[f.StreamID] = f.PseudoValue("method"), new(bytes.Buffer)
			ended = f.StreamEnded()
		case *http2.DataFrame:
			bodies[f.StreamID].Write(f.Data())
			ended = f.StreamEnded()
		}
		if err == nil && ended {
			stream := frame.Header().StreamID
			err = s.answer(framer, stream, fmt.Sprintf("conn %d stream %d %s %q", n, stream, methods[stream], bodies[stream]))
		}
		if err != nil {
			return err
		}
	}
}

func (s *frames) answer(framer *http2.Framer, stream uint32, request string) error {
	s.mu.Lock()
	s.seen = append(s.seen, request)
	first := len(s.seen) == 1
	s.mu.Unlock()
	if first {
		return s.bad(framer, stream)
	}
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true}); err != nil {
		return err
	}
	return framer.WriteData(stream, true, []byte("well"))
}

var errHangUp = errors.New("the server hangs up")

func TestRetriesOfHTTP2AreTheBasesOwn(t *testing.T) {
	noLeaks(t)
	certificate, roots := identity()
	for name, bad := range map[string]func(*http2.Framer, uint32) error{
		"REFUSED_STREAM": func(f *http2.Framer, stream uint32) error {
			return f.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		},
		"INTERNAL_ERROR": func(f *http2.Framer, stream uint32) error { return f.WriteRSTStream(stream, http2.ErrCodeInternal) },
		"GOAWAY":         func(f *http2.Framer, _ uint32) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"GOAWAY with an error": func(f *http2.Framer, _ uint32) error {
			return f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("calm"))
		},
		"GOAWAY after it": func(f *http2.Framer, stream uint32) error {
			f.WriteGoAway(stream, http2.ErrCodeNo, nil)
			return errHangUp
		},
		"hang-up": func(*http2.Framer, uint32) error { return errHangUp },
	} {
		for _, method := range []string{"GET", "POST", "POST with GetBody", "POST in memory"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				want := retried(t, certificate, roots, bad, method, bare)
				if name == "REFUSED_STREAM" || name == "GOAWAY" {
					retries := 2
					if method == "POST" { // it cannot be sent again
						retries = 1
					}
					require.Len(t, want.server, retries)
				}
				for _, w := range wrappers {
					got := retried(t, certificate, roots, bad, method, w)
					for range 4 { // how the end of a connection looks is a matter of chance
						if reflect.DeepEqual(want, got) {
							break
						}
						want, got = retried(t, certificate, roots, bad, method, bare), retried(t, certificate, roots, bad, method, w)
					}
					require.Equal(t, want, got, w.name)
				}
			})
		}
	}
}

type retry struct {
	server  []string
	outcome string
	closes  []int32 // of the bodies
}

func retried(t *testing.T, certificate tls.Certificate, roots *x509.CertPool, bad func(*http2.Framer, uint32) error, method string, w wrapper) (saw retry) {
	server := newFrames(t, certificate, bad)
	defer server.close()
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: protocols((*http.Protocols).SetHTTP2)}
	verb, kind, _ := strings.Cut(method, " ")
	var content io.Reader
	if kind == "in memory" {
		content = strings.NewReader("payload")
	}
	req, err := http.NewRequestWithContext(t.Context(), verb, "https://"+server.listener.Addr().String(), content)
	require.NoError(t, err)
	var bodies []*counted
	get := func() (io.ReadCloser, error) {
		bodies = append(bodies, &counted{Reader: chunks("pay", "load")})
		return bodies[len(bodies)-1], nil
	}
	if verb == "POST" && content == nil {
		req.Body, _ = get()
		if kind == "with GetBody" {
			req.GetBody = get
		}
	}
	resp, err := w.wrap(base).RoundTrip(req)
	saw.outcome = describe(err)
	if err == nil {
		body, err := io.ReadAll(resp.Body)
		saw.outcome = fmt.Sprintf("%s %q %s, of this request %v", resp.Status, body, describe(err), resp.Request == req)
		resp.Body.Close()
	}
	base.CloseIdleConnections()
	server.close()
	saw.server = server.seen
	for _, b := range bodies {
		saw.closes = append(saw.closes, b.closes.Load())
	}
	return saw
}
