package contract

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/stretchr/testify/require"
)

// Where an exchange makes sense.
var (
	overHTTP1 = func(n *network) bool { return !n.http2 && !n.proxied }
	overHTTP2 = func(n *network) bool { return n.http2 }
	direct    = func(n *network) bool { return !n.proxied }
)

// echo answers with what it got.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Add("X-Several", "one")
	w.Header().Add("X-Several", "two")
	w.Header().Set("X-Method", r.Method)
	w.WriteHeader(http.StatusAccepted)
	fmt.Fprintf(w, "%d %v of %q", len(body), err != nil, body)
}

// answer gives a handler that reads the request and answers with a status and a body.
func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// raw gives a handler that reads the request, answers with what is given, to the letter, and closes the connection.
func raw(response ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		io.WriteString(conn, lines(response...))
	}
}

// get is the client that asks for a path, as it stands and through http.Client.
func get(r *run) {
	r.roundTrip(r.request(http.MethodGet, "/path?q=1", nil))
	r.do(r.request(http.MethodGet, "/path?q=1", nil))
}

// once is the client that asks for a path one time, of a server that leaves it open when the connection closes.
func once(r *run) { r.do(r.request(http.MethodGet, "/path", nil)) }

// sends gives the client that sends a body.
func sends(method string, prepare func(*run, *http.Request)) func(*run) {
	return func(r *run) {
		for _, send := range []func(*http.Request){r.roundTrip, r.do} {
			req := r.request(method, "/upload", nil)
			prepare(r, req)
			send(req)
		}
	}
}

// reader is an io.Reader and nothing more.
type reader struct{ io.Reader }

// counted is a body that counts how often it is closed.
type counted struct {
	io.Reader
	closes atomic.Int32
}

func (b *counted) Close() error {
	b.closes.Add(1)
	if inner, ok := b.Reader.(io.Closer); ok {
		return inner.Close()
	}
	return nil
}

// counted gives a body of which it will be compared how often it was closed.
func (r *run) counted(inner io.Reader) io.ReadCloser {
	b := &counted{Reader: inner}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, b)
	return b
}

func chunks(text ...string) io.Reader {
	parts := make([]io.Reader, len(text))
	for i := range text {
		parts[i] = strings.NewReader(text[i])
	}
	return io.MultiReader(parts...)
}

// failing is a body that breaks.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

var errBroken = errors.New("the caller's body broke")

// atEnd does something when a body has been read to its end.
type atEnd struct {
	io.Reader
	do func()
}

func (b *atEnd) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.do != nil {
		b.do()
	}
	return n, err
}

func (*atEnd) Close() error { return nil }

// selfWriter is a body that can write itself.
type selfWriter struct {
	*strings.Reader
	io.Closer
}

func file(r *run) *os.File {
	f, err := os.Open(filepath.Join("testdata", "body")) // one file for all, as its name is in errors
	require.NoError(r, err)
	return f
}

// requestBodies are all ways to give a request a body.
var requestBodies = []struct {
	name   string
	broken bool
	set    func(*run, *http.Request)
}{
	{"nil", false, func(*run, *http.Request) {}},
	{"NoBody", false, func(_ *run, req *http.Request) { req.Body = http.NoBody }},
	{"bytes.Reader", false, func(r *run, req *http.Request) {
		*req = *r.request(req.Method, "/upload", bytes.NewReader([]byte("bytes")))
	}},
	{"bytes.Buffer", false, func(r *run, req *http.Request) {
		*req = *r.request(req.Method, "/upload", bytes.NewBufferString("buffer"))
	}},
	{"strings.Reader", false, func(r *run, req *http.Request) { *req = *r.request(req.Method, "/upload", strings.NewReader("string")) }},
	{"an empty strings.Reader", false, func(r *run, req *http.Request) { *req = *r.request(req.Method, "/upload", strings.NewReader("")) }},
	{"strings.Reader of unknown length", false, func(_ *run, req *http.Request) {
		req.Body, req.ContentLength = io.NopCloser(strings.NewReader("unknown")), -1
	}},
	{"file", false, func(r *run, req *http.Request) { req.Body = file(r) }},
	{"file of known length", false, func(r *run, req *http.Request) { req.Body, req.ContentLength = file(r), 11 }},
	{"file that is closed", true, func(r *run, req *http.Request) {
		f := file(r)
		f.Close()
		req.Body, req.ContentLength = f, 11
	}},
	{"pipe", false, func(r *run, req *http.Request) {
		body, w := io.Pipe()
		go func() {
			io.WriteString(w, "through ")
			io.WriteString(w, "a pipe")
			w.Close()
		}()
		req.Body = r.counted(body)
	}},
	{"pipe that breaks", true, func(r *run, req *http.Request) {
		body, w := io.Pipe()
		go w.CloseWithError(errBroken)
		req.Body = r.counted(body)
	}},
	{"reader", false, func(r *run, req *http.Request) {
		*req = *r.request(req.Method, "/upload", reader{chunks("un", "known")})
	}},
	{"empty reader", false, func(r *run, req *http.Request) { *req = *r.request(req.Method, "/upload", r.counted(chunks())) }},
	{"reader of known length", false, func(r *run, req *http.Request) {
		req.Body, req.ContentLength = r.counted(reader{chunks("kno", "wn")}), 5
	}},
	{"reader longer than its length", true, func(r *run, req *http.Request) {
		req.Body, req.ContentLength = r.counted(reader{chunks("too long")}), 3
	}},
	{"reader shorter than its length", true, func(r *run, req *http.Request) {
		req.Body, req.ContentLength = r.counted(reader{chunks("short")}), 30
	}},
	{"reader that breaks", true, func(r *run, req *http.Request) {
		req.Body, req.ContentLength = r.counted(io.MultiReader(chunks("well so far"), failing{errBroken})), -1
	}},
	{"reader that breaks at once", true, func(r *run, req *http.Request) {
		req.Body, req.ContentLength = r.counted(failing{errBroken}), 5
	}},
	{"reader that writes itself", false, func(r *run, req *http.Request) { req.Body = selfWriter{strings.NewReader("self"), r.counted(nil)} }},
	{"chunked by its encoding", false, func(r *run, req *http.Request) {
		req.Body, req.ContentLength, req.TransferEncoding = r.counted(reader{chunks("chunked")}), 7, []string{"chunked"}
	}},
	{"long", false, func(r *run, req *http.Request) {
		req.Body, req.ContentLength = r.counted(reader{strings.NewReader(strings.Repeat("0123456789", 1<<15))}), -1
	}},
	{"with a trailer", false, func(_ *run, req *http.Request) {
		req.Trailer = http.Header{"X-Sum": nil, "X-Fixed": {"before"}}
		req.Body, req.ContentLength = &atEnd{chunks("sum"), func() { req.Trailer.Set("X-Sum", "42") }}, -1
	}},
	{"in memory with a trailer", false, func(r *run, req *http.Request) {
		*req = *r.request(req.Method, "/upload", strings.NewReader("sum"))
		req.ContentLength, req.Trailer = -1, http.Header{"X-Fixed": {"before"}}
	}},
}

func exchanges() []exchange {
	var all []exchange
	add := func(x exchange) { all = append(all, x) }

	for _, method := range []string{"", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		add(exchange{name: "method " + method, client: sends(method, func(_ *run, req *http.Request) { req.Method = method })})
	}
	for _, body := range requestBodies {
		for _, method := range []string{"POST", "GET"} {
			if body.broken && method == "GET" {
				continue
			}
			add(exchange{name: method + " with body " + body.name, broken: body.broken, client: sends(method, body.set)})
		}
	}

	for _, status := range []int{200, 201, 205, 206, 300, 400, 401, 404, 408, 418, 429, 500, 502, 503, 599, 999} {
		add(exchange{name: fmt.Sprint("status ", status), serve: answer(status, "the body", "Retry-After", "1"), client: get})
	}
	add(exchange{name: "204", serve: answer(204, "", "X-A", "b"), client: get})
	add(exchange{name: "304", serve: answer(304, "", "Etag", `"x"`), client: get})
	add(exchange{name: "304 with a length", serve: answer(304, "", "Content-Length", "1234"), client: get})
	add(exchange{name: "HEAD with a length", serve: answer(200, "", "Content-Length", "1234"), client: func(r *run) {
		r.roundTrip(r.request(http.MethodHead, "/", nil))
	}})
	add(exchange{name: "HEAD of a 500", serve: answer(500, "body"), client: func(r *run) {
		r.roundTrip(r.request(http.MethodHead, "/", nil))
		r.do(r.request(http.MethodHead, "/", nil))
	}})
	add(exchange{name: "empty 200", serve: answer(200, ""), client: get})
	add(exchange{name: "empty 503", serve: answer(503, ""), client: get})
	add(exchange{name: "no Date, many Set-Cookie", serve: func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Date"] = nil
		w.Header()["Set-Cookie"] = []string{"b=2", "a=1; Path=/", "bad cookie"}
		w.Header()["X-Empty"] = []string{"", ""}
	}, client: get})

	add(exchange{name: "chunked", serve: func(w http.ResponseWriter, _ *http.Request) {
		for i := range 5 {
			fmt.Fprintf(w, "chunk %d;", i)
			w.(http.Flusher).Flush()
		}
	}, client: get})
	add(exchange{name: "trailers", serve: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum, X-Missing")
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "too")
	}, client: get})
	add(exchange{name: "trailers of an empty body", serve: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "42")
	}, client: get})
	add(exchange{name: "unannounced trailers", serve: func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set(http.TrailerPrefix+"X-Unannounced", "alone")
	}, client: get})
	add(exchange{name: "long body", serve: answer(200, strings.Repeat("0123456789", 1<<15)), client: get})
	add(exchange{name: "long body of known length", serve: answer(200, strings.Repeat("x", 1<<18), "Content-Length", fmt.Sprint(1<<18)), client: get})

	add(exchange{name: "gzip", serve: zipped(200), client: get})
	add(exchange{name: "gzip of a 500", serve: zipped(500), client: get})
	add(exchange{name: "gzip asked for", serve: zipped(200), client: func(r *run) {
		req := r.request(http.MethodGet, "/", nil)
		req.Header.Set("Accept-Encoding", "gzip")
		r.roundTrip(req)
	}})
	add(exchange{name: "gzip of a range", serve: zipped(200), client: func(r *run) {
		req := r.request(http.MethodGet, "/", nil)
		req.Header.Set("Range", "bytes=0-3")
		r.roundTrip(req)
	}})
	add(exchange{name: "gzip of HEAD", serve: zipped(200), client: func(r *run) { r.roundTrip(r.request(http.MethodHead, "/", nil)) }})
	add(exchange{name: "gzip switched off", serve: zipped(200), base: func(b *http.Transport) { b.DisableCompression = true }, client: get})
	add(exchange{name: "gzip that is none", serve: answer(200, "not gzip", "Content-Encoding", "gzip"), client: get})

	add(exchange{name: "early hints", serve: func(w http.ResponseWriter, _ *http.Request) {
		for _, link := range []string{"</a.css>", "</b.css>"} {
			w.Header().Set("Link", link)
			w.WriteHeader(http.StatusEarlyHints)
		}
		w.Header().Set("Link", "</c.css>")
		io.WriteString(w, "hinted")
	}, client: get})
	add(exchange{name: "processing", serve: func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProcessing)
		w.WriteHeader(http.StatusServiceUnavailable)
		io.WriteString(w, "done")
	}, client: get})
	add(exchange{name: "aborted by the trace", only: direct, serve: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Abort", "yes")
		w.WriteHeader(http.StatusEarlyHints)
		w.(http.Flusher).Flush()
	}, client: get})
	for _, accepted := range []bool{true, false} {
		serve, only := echo, direct
		if !accepted {
			only, serve = overHTTP1, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Connection", "close")
				w.WriteHeader(http.StatusExpectationFailed)
				io.WriteString(w, "no thanks")
			}
		}
		for _, body := range []func(*run, *http.Request){
			func(r *run, req *http.Request) { *req = *r.request("PUT", "/", strings.NewReader("payload")) },
			func(r *run, req *http.Request) {
				req.Body, req.ContentLength = r.counted(chunks("stream")), -1
			},
		} {
			add(exchange{name: fmt.Sprint("100-continue ", accepted), only: only,
				serve: serve, client: sends("PUT", func(r *run, req *http.Request) {
					body(r, req)
					req.Header.Set("Expect", "100-continue")
				})})
		}
	}

	add(exchange{name: "big headers", serve: func(w http.ResponseWriter, r *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprint("X-Big-", i), strings.Repeat("y", 1000))
		}
		io.WriteString(w, "big")
	}, client: func(r *run) {
		req := r.request(http.MethodGet, "/"+strings.Repeat("long/", 1000), nil)
		for i := range 100 {
			req.Header.Set(fmt.Sprint("X-Big-", i), strings.Repeat("x", 1000))
		}
		r.roundTrip(req)
	}})
	add(exchange{name: "headers too big", only: direct, serve: answer(200, "", "X-Big", strings.Repeat("y", 20000)),
		base: func(b *http.Transport) { b.MaxResponseHeaderBytes = 10000 }, client: get})

	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			add(exchange{name: fmt.Sprintf("%s redirected by %d", method, status), serve: redirect(status), client: redirected(method, strings.NewReader("payload"))})
		}
	}
	add(exchange{name: "307 without GetBody", serve: redirect(307), client: func(r *run) {
		r.do(r.request("POST", "/from", r.counted(chunks("stream"))))
	}})
	add(exchange{name: "307 with a GetBody that fails", serve: redirect(307), client: func(r *run) {
		req := r.request("POST", "/from", r.counted(chunks("stream")))
		req.GetBody = func() (io.ReadCloser, error) { return nil, errBroken }
		r.do(req)
	}})
	add(exchange{name: "307 with a GetBody of its own", serve: redirect(307), client: func(r *run) {
		req := r.request("POST", "/from", r.counted(chunks("stream")))
		req.GetBody = func() (io.ReadCloser, error) { return r.counted(reader{chunks("stream again")}), nil }
		r.do(req)
	}})
	add(exchange{name: "redirect without end", serve: func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
	}, client: func(r *run) { r.do(r.request("GET", "/", nil)) }})
	add(exchange{name: "redirect not followed", serve: redirect(302), client: func(r *run) {
		r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		r.do(r.request("GET", "/from", nil))
	}})
	add(exchange{name: "redirect forbidden", serve: redirect(302), client: func(r *run) {
		r.client.CheckRedirect = func(*http.Request, []*http.Request) error { return errBroken }
		r.do(r.request("GET", "/from", nil))
	}})
	add(exchange{name: "redirect to nowhere", serve: answer(302, "where to?"), client: get})
	add(exchange{name: "redirect to nonsense", serve: answer(302, "", "Location", "http://[::1"), client: get})

	add(exchange{name: "cookies", serve: func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if c, err := r.Cookie("session"); err == nil {
			fmt.Fprint(w, "session ", c.Value)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "17", Path: "/"})
		http.Redirect(w, r, "/again", http.StatusSeeOther)
	}, client: func(r *run) {
		jar, err := cookiejar.New(nil)
		require.NoError(r, err)
		r.client.Jar = jar
		r.do(r.request("POST", "/login", strings.NewReader("user")))
		r.do(r.request("GET", "/more", nil))
		u, _ := url.Parse(r.network.scheme + "://a.example.com/")
		r.see("client", "cookies %v", jar.Cookies(u))
	}})
	add(exchange{name: "user and password in the URL", client: func(r *run) {
		for _, send := range []func(*http.Request){r.roundTrip, r.do} {
			req := r.request("GET", "/", nil)
			req.URL.User = url.UserPassword("user", "päss:word")
			send(req)
		}
	}})
	add(exchange{name: "odd headers", client: func(r *run) {
		req := r.request("GET", "/a%2Fb/./../c?x=%zz#fragment", nil)
		req.Host = "another.example.com"
		req.Header["lower-case"] = []string{"one", "two"}
		req.Header["User-Agent"] = []string{""}
		req.Header["Te"] = []string{"trailers"}
		r.roundTrip(req)
	}})
	add(exchange{name: "opaque URL", client: func(r *run) {
		req := r.request("OPTIONS", "/", nil)
		req.URL.Opaque = "*"
		r.roundTrip(req)
	}})

	add(exchange{name: "connection kept", client: func(r *run) {
		for range 4 {
			r.do(r.request("GET", "/", nil))
			r.do(r.request("POST", "/", strings.NewReader("x")))
		}
	}})
	add(exchange{name: "connection kept over failures", serve: answer(500, "sick"), client: func(r *run) {
		for range 4 {
			r.do(r.request("GET", "/", nil))
		}
	}})
	add(exchange{name: "connection closed by the client", client: func(r *run) {
		for range 2 {
			req := r.request("GET", "/", nil)
			req.Close = true
			r.roundTrip(req)
		}
	}})
	add(exchange{name: "connection closed by the server", serve: answer(200, "bye", "Connection", "close"), client: get})
	add(exchange{name: "connections never kept", base: func(b *http.Transport) { b.DisableKeepAlives = true }, client: get})
	add(exchange{name: "two hosts", client: func(r *run) {
		for range 2 {
			for _, host := range []string{"a", "b"} {
				req := r.request("GET", "/", nil)
				req.URL.Host = host + ".example.com"
				r.roundTrip(req)
			}
		}
	}})
	add(exchange{name: "aborted in the headers", serve: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, client: get})
	add(exchange{name: "aborted in the body", only: direct, serve: func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "half of it")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}, client: get})
	add(exchange{name: "body shorter than its length", only: direct, serve: answer(200, "short", "Content-Length", "1000"), client: get})

	for name, response := range map[string][]string{
		"nothing":                {""},
		"half a status line":     {"HTTP/1.1 20"},
		"half a header":          {"HTTP/1.1 200 OK", "X-A"},
		"garbage":                {"garbage", "", ""},
		"a malformed header":     {"HTTP/1.1 200 OK", "no colon here", "", ""},
		"a bad status":           {"HTTP/1.1 xyz OK", "", ""},
		"two lengths":            {"HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 2", "", "ab"},
		"an odd status text":     {"HTTP/1.1 299 Quite Odd Text", "Content-Length: 2", "", "ok"},
		"no status text":         {"HTTP/1.1 200", "Content-Length: 2", "", "ok"},
		"an answer of HTTP/1.0":  {"HTTP/1.0 200 OK", "X-A: b", "", "until the end"},
		"a body until the end":   {"HTTP/1.1 200 OK", "X-A: b", "", "until the end"},
		"a bad chunk":            {"HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "5", "abcde", "zz", ""},
		"half a chunk":           {"HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "5", "ab"},
		"no last chunk":          {"HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "5", "abcde", ""},
		"a bad trailer":          {"HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Trailer: X-A", "", "0", "bad", "", ""},
		"an unknown encoding":    {"HTTP/1.1 200 OK", "Transfer-Encoding: gzip", "", "x"},
		"a length and chunks":    {"HTTP/1.1 200 OK", "Content-Length: 3", "Transfer-Encoding: chunked", "", "2", "ok", "0", "", ""},
		"a folded header":        {"HTTP/1.1 200 OK", "X-A: one", " two", "Content-Length: 0", "", ""},
		"a 103 and nothing":      {"HTTP/1.1 103 Early Hints", "Link: x", "", ""},
		"a 101 nobody asked for": {"HTTP/1.1 101 Switching Protocols", "", ""},
	} {
		add(exchange{name: "server sends " + name, only: overHTTP1, serve: raw(response...), client: once})
	}
	add(exchange{name: "stale connection", only: overHTTP1, serve: stale, client: func(r *run) {
		for range 2 {
			r.do(r.request("GET", "/", nil))
			r.do(r.request("GET", "/stale", nil))
		}
		req := r.request("POST", "/stale", strings.NewReader("again"))
		req.Header.Set("Idempotency-Key", "1")
		r.do(req)
	}})
	add(exchange{name: "stale connection and a POST", only: overHTTP1, serve: stale, client: func(r *run) {
		r.do(r.request("GET", "/", nil))
		r.do(r.request("POST", "/stale", strings.NewReader("never again")))
		r.do(r.request("POST", "/", strings.NewReader("after it")))
	}})

	add(exchange{name: "duplex", only: overHTTP2, serve: func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		buffer := make([]byte, 100)
		for {
			n, err := r.Body.Read(buffer)
			if err != nil {
				return
			}
			w.Write(bytes.ToUpper(buffer[:n]))
			w.(http.Flusher).Flush()
		}
	}, client: func(r *run) {
		body, w := io.Pipe()
		req := r.request("POST", "/", body)
		resp, err := r.rt.RoundTrip(req)
		require.NoError(r, err)
		r.head(req, resp)
		for _, word := range []string{"one", "two", "three"} {
			io.WriteString(w, word)
			got := make([]byte, len(word))
			_, err := io.ReadFull(resp.Body, got)
			r.see("client", "%s for %s %s", got, word, describe(err))
		}
		w.Close()
		r.result(req, resp, nil)
	}})

	for name, spoil := range map[string]func(*http.Request){
		"no Header":             func(req *http.Request) { req.Header = nil },
		"no host":               func(req *http.Request) { req.URL.Host = "" },
		"another scheme":        func(req *http.Request) { req.URL.Scheme = "gopher" },
		"a bad method":          func(req *http.Request) { req.Method = "BAD METHOD" },
		"a bad header name":     func(req *http.Request) { req.Header["Bad Name"] = []string{"x"} },
		"a bad header value":    func(req *http.Request) { req.Header["X-A"] = []string{"a\nb"} },
		"a bad trailer":         func(req *http.Request) { req.Trailer = http.Header{"Bad Name": {"x"}} },
		"a bad Host":            func(req *http.Request) { req.Host = "a\nb" },
		"a bad encoding":        func(req *http.Request) { req.TransferEncoding = []string{"gzip"} },
		"a bad host in its URL": func(req *http.Request) { req.URL.Host = "a b" },
		"a RequestURI":          func(req *http.Request) { req.RequestURI = "/" },
	} {
		add(exchange{name: "request with " + name, client: sends("POST", func(r *run, req *http.Request) {
			*req = *r.request("POST", "/", strings.NewReader("payload"))
			spoil(req)
		})})
	}

	add(exchange{name: "no answer to a dial", only: direct, base: func(b *http.Transport) {
		b.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return nil, errBroken }
	}, client: get})
	add(exchange{name: "connection refused", only: direct, base: func(b *http.Transport) { b.DialContext = refused }, client: get})
	add(exchange{name: "proxy that fails", only: direct, base: func(b *http.Transport) {
		b.Proxy = func(*http.Request) (*url.URL, error) { return nil, errBroken }
	}, client: get})
	add(exchange{name: "certificate of nobody's", only: func(n *network) bool { return n.scheme == "https" }, base: func(b *http.Transport) {
		b.TLSClientConfig.RootCAs = x509.NewCertPool()
	}, client: get})
	add(exchange{name: "certificate of somebody else", only: func(n *network) bool { return n.scheme == "https" }, client: func(r *run) {
		req := r.request("GET", "/", nil)
		req.URL.Host = "wrong.test"
		r.roundTrip(req)
	}})
	add(exchange{name: "HTTP to a server of HTTPS", only: func(n *network) bool { return n.name == "HTTP1TLS" }, client: func(r *run) {
		req := r.request("GET", "/", nil)
		req.URL.Scheme = "http"
		r.roundTrip(req)
	}})
	add(exchange{name: "HTTPS to a server of HTTP", only: func(n *network) bool { return n.name == "HTTP1" }, client: func(r *run) {
		req := r.request("GET", "/", nil)
		req.URL.Scheme = "https"
		r.roundTrip(req)
	}})
	return all
}

// zipped gives a handler that answers by gzip whoever takes it.
func zipped(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Encoding")
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.WriteHeader(status)
			io.WriteString(w, "plain")
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		z := gzip.NewWriter(w)
		io.WriteString(z, strings.Repeat("zipped ", 100))
		z.Close()
	}
}

// redirect answers /from with a way to another host, and echoes the rest.
func redirect(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/from" {
			echo(w, r)
			return
		}
		io.Copy(io.Discard, r.Body)
		scheme := "http"
		if r.TLS != nil {
			scheme = "https"
		}
		http.Redirect(w, r, scheme+"://b.example.com/to", status)
	}
}

func redirected(method string, body io.ReadSeeker) func(*run) {
	return func(r *run) {
		body.Seek(0, io.SeekStart)
		var sent io.Reader
		if method == "POST" {
			sent = body
		}
		req := r.request(method, "/from", sent)
		req.Header.Set("Authorization", "Bearer secret")
		req.Header.Set("Cookie", "a=b")
		req.Header.Set("X-Kept", "yes")
		r.do(req)
	}
}

// stale answers /stale on a connection that was used before by closing it, and echoes the rest.
func stale(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/stale" && r.Context().Value(requests{}).(*atomic.Int32).Load() > 1 {
		raw("")(w, r)
		return
	}
	echo(w, r)
}

// refused dials a port that nobody listens at.
func refused(ctx context.Context, network, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:1")
}
