package contract

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// network is a real server, and how a base gets to it: by the names under example.com.
type network struct {
	name      string
	scheme    string
	http2     bool
	proxied   bool // the base is that of a reverse proxy, before which there is a plain client
	protocols *http.Protocols

	server  *httptest.Server
	roots   *x509.CertPool
	handler atomic.Pointer[http.HandlerFunc]
}

func networks() []*network {
	return []*network{
		{name: "HTTP1", scheme: "http", protocols: protocols((*http.Protocols).SetHTTP1)},
		{name: "HTTP1TLS", scheme: "https", protocols: protocols((*http.Protocols).SetHTTP1)},
		{name: "HTTP2TLS", scheme: "https", http2: true, protocols: protocols((*http.Protocols).SetHTTP2)},
		{name: "HTTP2", scheme: "http", http2: true, protocols: protocols((*http.Protocols).SetUnencryptedHTTP2)},
		{name: "ReverseProxy", scheme: "http", proxied: true, protocols: protocols((*http.Protocols).SetHTTP1)},
	}
}

// requests is where a connection counts its requests.
type requests struct{}

func (n *network) start(t *testing.T) {
	n.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Context().Value(requests{}).(*atomic.Int32).Add(1)
		(*n.handler.Load())(w, r)
	}))
	n.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	n.server.Config.Protocols = n.protocols
	n.server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, requests{}, new(atomic.Int32))
	}
	n.server.EnableHTTP2 = n.http2
	if n.scheme == "https" {
		n.server.StartTLS()
		n.roots = x509.NewCertPool()
		n.roots.AddCert(n.server.Certificate())
	} else {
		n.server.Start()
	}
	t.Cleanup(n.server.Close)
}

func (n *network) base() *http.Transport {
	base := &http.Transport{DialContext: to(n.server), Protocols: n.protocols, ExpectContinueTimeout: 1 << 40}
	if n.scheme == "https" {
		base.TLSClientConfig = &tls.Config{RootCAs: n.roots}
	}
	return base
}

// to dials a server, whatever its name.
func to(server *httptest.Server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
}

// exchange is something that a client and a server do.
type exchange struct {
	name   string
	only   func(*network) bool // nil for everywhere
	serve  http.HandlerFunc    // nil for echo
	broken bool                // the request breaks, and it is a matter of chance what the server sees of it
	base   func(*http.Transport)
	client func(*run)
}

func (n *network) has(x exchange) bool { return x.only == nil || x.only(n) }

// run is one exchange, and what was seen of it.
type run struct {
	testing.TB
	network *network
	rt      http.RoundTripper
	client  *http.Client

	mu     sync.Mutex
	seen   map[string][]string // by where it was seen
	conns  []string            // the server's, in the order in which they came
	traces int
	bodies []*counted
}

// see writes down what was seen, to be compared.
func (r *run) see(where, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[where] = append(r.seen[where], fmt.Sprintf(format, args...))
}

// run makes an exchange by a wrapped base and gives what was seen of it, when nothing more can be seen.
func (n *network) run(t testing.TB, x exchange, w wrapper) map[string][]string {
	before := runtime.NumGoroutine()
	r := &run{TB: t, network: n, seen: make(map[string][]string)}
	serve := x.serve
	switch {
	case x.broken:
		serve = never
	case serve == nil:
		serve = echo
	}
	handler := r.watched(serve)
	n.handler.Store(&handler)

	base := n.base()
	if x.base != nil {
		x.base(base)
	}
	r.rt = w.wrap(base)
	var proxy *httptest.Server
	if n.proxied {
		proxy = reverseProxy(r.rt)
		r.rt = &http.Transport{DialContext: to(proxy), ExpectContinueTimeout: 1 << 40}
	}
	r.client = &http.Client{Transport: r.rt}
	x.client(r)
	r.client.CloseIdleConnections()
	if proxy != nil {
		proxy.Close()
	}
	require.NoError(t, settle(base, before), "%s, %s", x.name, w.name)
	for i, b := range r.bodies {
		r.see("closed bodies", "body %d closed %d times", i, b.closes.Load())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.broken {
		delete(r.seen, "server")
	}
	return r.seen
}

// settle waits until there are no more goroutines than before, so that nothing more can be seen. A connection can become
// idle a moment after its last body ended.
func settle(base *http.Transport, before int) error {
	for patience := time.Now().Add(10 * time.Second); time.Now().Before(patience); time.Sleep(20 * time.Microsecond) {
		base.CloseIdleConnections()
		if runtime.NumGoroutine() <= before {
			return nil
		}
	}
	return errors.Join(errors.New("goroutines are left"), goleak.Find())
}

// never reads a request, and waits for its end and not for its answer.
func never(_ http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	select {
	case <-r.Context().Done():
	case <-time.After(10 * time.Second): // the request did not break, and the answer will show it
	}
}

func reverseProxy(rt http.RoundTripper) *httptest.Server {
	return httptest.NewServer(&httputil.ReverseProxy{
		Transport: rt,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: "a.example.com"})
			p.Out.Host = p.In.Host
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusBadGateway)
			io.WriteString(w, describe(err))
		},
		ErrorLog: log.New(io.Discard, "", 0),
	})
}

// watched writes down what the server sees.
func (r *run) watched(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		conn := slices.Index(r.conns, req.RemoteAddr)
		if conn < 0 {
			conn = len(r.conns)
			r.conns = append(r.conns, req.RemoteAddr)
		}
		at := len(r.seen["server"])
		r.seen["server"] = append(r.seen["server"], "")
		r.mu.Unlock()
		header := req.Header.Clone()
		body := &recorded{ReadCloser: req.Body}
		req.Body = body
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen["server"][at] = fmt.Sprintf("conn %d: %s %s %s host %s tls %v length %d encoding %v close %v trailer %v body %q, %s\n%s",
				conn, req.Proto, req.Method, req.RequestURI, req.Host, req.TLS != nil, req.ContentLength, req.TransferEncoding, req.Close,
				req.Trailer, body.read, describe(body.err), sorted(header))
		}()
		serve(w, req)
	}
}

// recorded keeps what was read of a body.
type recorded struct {
	io.ReadCloser
	read []byte
	err  error
}

func (b *recorded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read = append(b.read, p[:n]...)
	b.err = err
	return n, err
}

func sorted(h map[string][]string) string {
	var sb strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		values := h[name]
		if name == "Date" {
			values = make([]string, len(values))
		}
		fmt.Fprintf(&sb, "%s: %q\n", name, values)
	}
	return sb.String()
}

// request makes a request to a.example.com that is traced.
func (r *run) request(method, path string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(r.traced(r.Context()), method, r.network.scheme+"://a.example.com"+path, body)
	require.NoError(r, err)
	return req
}

// traced writes down the events of httptrace. Those of writing come at any time between those of reading,
// and that a request is written can be told after the next one began.
func (r *run) traced(ctx context.Context) context.Context {
	var fields []string
	r.traces++
	trace, writes, wrote := "trace", fmt.Sprint("trace of writing ", r.traces), fmt.Sprint("trace of written ", r.traces)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(hostPort string) { r.see(trace, "GetConn %s", hostPort) },
		GotConn: func(info httptrace.GotConnInfo) {
			// A connection of HTTP/2 becomes idle a moment after its last body ended.
			r.see(trace, "GotConn reused %v was idle %v", info.Reused, info.WasIdle && !r.network.http2)
		},
		PutIdleConn:          func(err error) { r.see(trace, "PutIdleConn %s", describe(err)) },
		GotFirstResponseByte: func() { r.see(trace, "GotFirstResponseByte") },
		Got100Continue:       func() { r.see(trace, "Got100Continue") },
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			r.see(trace, "Got1xxResponse %d %s", code, sorted(header))
			if header.Get("X-Abort") != "" {
				return errors.New("aborted by the trace")
			}
			return nil
		},
		DNSStart:          func(httptrace.DNSStartInfo) { r.see(trace, "DNSStart") },
		DNSDone:           func(httptrace.DNSDoneInfo) { r.see(trace, "DNSDone") },
		ConnectStart:      func(network, addr string) { r.see(trace, "ConnectStart %s", network) },
		ConnectDone:       func(network, addr string, err error) { r.see(trace, "ConnectDone %s %s", network, describe(err)) },
		TLSHandshakeStart: func() { r.see(trace, "TLSHandshakeStart") },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			r.see(trace, "TLSHandshakeDone %q %s", state.NegotiatedProtocol, describe(err))
		},
		WroteHeaderField: func(name string, values []string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			fields = append(fields, fmt.Sprint(name, values))
		},
		WroteHeaders: func() {
			r.mu.Lock()
			wrote := fields
			fields = nil
			r.mu.Unlock()
			slices.Sort(wrote)
			r.see(writes, "WroteHeaders %q", wrote)
		},
		Wait100Continue: func() { r.see(writes, "Wait100Continue") },
		WroteRequest:    func(info httptrace.WroteRequestInfo) { r.see(wrote, "WroteRequest %s", describe(info.Err)) },
	})
}

// do sends a request through http.Client and writes down what comes back.
func (r *run) do(req *http.Request) {
	resp, err := r.client.Do(req)
	r.result(req, resp, err)
}

// roundTrip sends a request as it is, which the RoundTripper has to leave alone.
func (r *run) roundTrip(req *http.Request) {
	before, header := *req, req.Header.Clone()
	resp, err := r.rt.RoundTrip(req)
	r.see("client", "request as it was: %v", reflect.DeepEqual(header, req.Header) && sameFields(before, *req))
	r.result(req, resp, err)
}

// sameFields reports whether the fields of two requests are the same ones, down to their pointers.
func sameFields(a, b http.Request) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range x.NumField() {
		switch f, g := x.Field(i), y.Field(i); f.Kind() {
		case reflect.Map, reflect.Func, reflect.Slice, reflect.Chan, reflect.Pointer:
			if f.Pointer() != g.Pointer() {
				return false
			}
		default:
			if !f.Equal(g) {
				return false
			}
		}
	}
	return true
}

func (r *run) result(req *http.Request, resp *http.Response, err error) {
	r.see("client", "error %s", describe(err))
	if resp == nil {
		return
	}
	r.head(req, resp)
	body, err := io.ReadAll(resp.Body)
	r.see("client", "body %q %s", body, describe(err))
	n, err := resp.Body.Read(make([]byte, 1))
	r.see("client", "after the end %d %s", n, describe(err))
	r.see("client", "trailer\n%s", sorted(resp.Trailer))
	r.see("client", "close %s", describe(resp.Body.Close()))
	n, err = resp.Body.Read(make([]byte, 1))
	r.see("client", "after close %d %s", n, describe(err))
}

// head writes down all of a response but its body.
func (r *run) head(req *http.Request, resp *http.Response) {
	r.see("client", "%s %d.%d %q %d length %d encoding %v uncompressed %v close %v", resp.Proto, resp.ProtoMajor, resp.ProtoMinor,
		resp.Status, resp.StatusCode, resp.ContentLength, resp.TransferEncoding, resp.Uncompressed, resp.Close)
	r.see("client", "header\n%s", sorted(resp.Header))
	r.see("client", "announced trailer\n%s", sorted(resp.Trailer))
	r.see("client", "of this request %v: %s %s", resp.Request == req, resp.Request.Method, resp.Request.URL)
	if resp.TLS != nil {
		r.see("client", "TLS %q server name %q certificates %d", resp.TLS.NegotiatedProtocol, resp.TLS.ServerName, len(resp.TLS.PeerCertificates))
	}
	_, writes := resp.Body.(io.Writer)
	_, writesItself := resp.Body.(io.WriterTo)
	r.see("client", "no body %v, a writer %v, a writer to %v", resp.Body == http.NoBody, writes, writesItself)
}
