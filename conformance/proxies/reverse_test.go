//go:build linux

package proxies_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
)

// reverse is a reverse proxy.
type reverse struct {
	program
	http2  string  // the scheme of the URLs with which it speaks HTTP/2; "" if it does not, or another line is of the same program
	limits []limit // of what reaches the backend, as far as the program has them by itself
	start  func(w *workshop, path string, b behind) (port int)
}

// behind is what a reverse proxy is told of its backend.
type behind struct {
	backend string
	seconds int // that the backend has to answer
	http2   bool
	limit   limit
}

// limit is of calls in flight, or of how often they come.
type limit struct {
	name         string
	inFlight     bool
	inner, outer string // what to write, of the backend and around it
}

func (b behind) hostAndPort() (host, port string) {
	host, port, _ = net.SplitHostPort(b.backend)
	return host, port
}

var reverses = []reverse{
	{program{"squid", "squid", []string{"-v"}}, "", []limit{
		{"`max-conn`", true, "max-conn=1", ""},
	}, func(w *workshop, path string, b behind) int {
		port := testkit.FreePort(w.t)
		_, number := b.hostAndPort()
		w.run(port, path, "-N", "-n", fmt.Sprint("fusebox", port), "-f", w.file("squid.conf", squidConf(port, false, " accel defaultsite=localhost")+fmt.Sprintf(`
cache_peer 127.0.0.1 parent %s 0 no-query originserver name=backend %s
never_direct allow all
read_timeout %d seconds
http_access allow all
`, number, b.limit.inner, b.seconds)))
		return port
	}},
	{program{"apache", "apache2", []string{"-v"}}, "https", []limit{
		{"`max` and `acquire`", true, "max=1 acquire=100", "ServerLimit 1\nStartServers 1\nThreadsPerChild 25\nMaxRequestWorkers 25\n"},
	}, func(w *workshop, path string, b behind) int {
		port := testkit.FreePort(w.t)
		w.run(port, path, "-d", w.dir, "-f", w.file("apache.conf", apacheConf(port, b.http2)+b.limit.outer+
			fmt.Sprintf("ProxyPass / http://%s/ timeout=%d %s\n", b.backend, b.seconds, b.limit.inner)), "-DFOREGROUND")
		return port
	}},
	{program{"trafficserver", "traffic_server", []string{"-V"}}, "https", []limit{
		{"`per_server.connection.max`", true, "CONFIG proxy.config.http.per_server.connection.max INT 1\n", ""},
	}, func(w *workshop, path string, b behind) int {
		return trafficServer(w, path, b.http2, "map / http://"+b.backend+"/\n", b.seconds, b.limit.inner)
	}},
	{program{"haproxy", "haproxy", []string{"-v"}}, "https", []limit{
		{"`maxconn` and `timeout queue`", true, "maxconn 1", "timeout queue 100ms"},
		{"`deny_status 429`", false, "", `stick-table type ip size 1k expire 1m store http_req_rate(1m)
  http-request track-sc0 src
  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 1 }`},
	}, func(w *workshop, path string, b behind) int { return haproxy(w, path, b) }},
	{program{"haproxy with health checks", "haproxy", []string{"-v"}}, "", nil, func(w *workshop, path string, b behind) int {
		b.limit.inner = "check inter 200ms fall 1 rise 1"
		return haproxy(w, path, b)
	}},
	{program{"nginx", "nginx", []string{"-v"}}, "https", []limit{
		{"`limit_conn`", true, "limit_conn few 1;", "limit_conn_zone $server_port zone=few:1m;"},
		{"`limit_req`", false, "limit_req zone=few;", "limit_req_zone $server_port zone=few:1m rate=1r/m;"},
		{"`limit_req` and `limit_req_status 429`", false, "limit_req zone=few; limit_req_status 429;", "limit_req_zone $server_port zone=few:1m rate=1r/m;"},
	}, func(w *workshop, path string, b behind) int {
		return nginx(w, path, "http://"+b.backend, b)
	}},
	{program{"nginx with two backends", "nginx", []string{"-v"}}, "", nil, func(w *workshop, path string, b behind) int {
		b.limit.outer = "upstream two { server " + b.backend + "; server " + b.backend + "; }"
		return nginx(w, path, "http://two", b)
	}},
	{program{"varnish", "varnishd", []string{"-V"}}, "http", []limit{
		{"`max_connections`", true, ".max_connections = 1;", ""},
	}, func(w *workshop, path string, b behind) int {
		port := testkit.FreePort(w.t)
		host, number := b.hostAndPort()
		w.run(port, path, "-F", "-a", on(port), "-T", "127.0.0.1:0", "-n", w.dir+"/work", "-s", "malloc,16m", "-p", "feature=+http2",
			"-f", w.file("default.vcl", fmt.Sprintf(`vcl 4.1;
backend default { .host = %q; .port = %q; .first_byte_timeout = %[3]ds; .between_bytes_timeout = %[3]ds; %[4]s }
sub vcl_recv { return (pass); }
`, host, number, b.seconds, b.limit.inner)))
		return port
	}},
	{program{"lighttpd", "lighttpd", []string{"-v"}}, "http", nil, func(w *workshop, path string, b behind) int {
		port := testkit.FreePort(w.t)
		host, number := b.hostAndPort()
		w.run(port, path, "-D", "-f", w.file("lighttpd.conf", fmt.Sprintf(`server.port = %d
server.bind = "127.0.0.1"
server.document-root = "DIR"
server.errorlog = "DIR/error.log"
server.modules = ("mod_proxy")
proxy.server = ("" => (("host" => %q, "port" => %s, "read-timeout" => %d)))
`, port, host, number, b.seconds)))
		return port
	}},
	{program{"caddy", "caddy", []string{"version"}}, "https", []limit{
		{"`unhealthy_request_count`", true, "unhealthy_request_count 1\n\t\tmax_fails 1", ""},
	}, func(w *workshop, path string, b behind) int {
		port := testkit.FreePort(w.t)
		scheme, tls := "http", ""
		if b.http2 {
			scheme, tls = "https", "tls DIR/cert.pem DIR/key.pem"
		}
		w.run(port, path, "run", "--adapter", "caddyfile", "--config", w.file("Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
}
%s://127.0.0.1:%d {
	bind 127.0.0.1
	%s
	reverse_proxy %s {
		transport http {
			response_header_timeout %ds
		}
		%s
	}
}
`, scheme, port, tls, b.backend, b.seconds, b.limit.inner)))
		return port
	}},
}

func haproxy(w *workshop, path string, b behind) int {
	port := testkit.FreePort(w.t)
	tls := ""
	if b.http2 {
		tls = "ssl crt DIR/both.pem alpn h2"
	}
	w.run(port, path, "-db", "-f", w.file("haproxy.cfg", fmt.Sprintf(`defaults
  mode http
  retries 1
  timeout connect 1s
  timeout client 30s
  timeout server %ds
listen all
  %s
  bind 127.0.0.1:%d %s
  server backend %s %s
`, b.seconds, b.limit.outer, port, tls, b.backend, b.limit.inner)))
	return port
}

func nginx(w *workshop, path, to string, b behind) int {
	port := testkit.FreePort(w.t)
	tls := ""
	if b.http2 {
		tls = "ssl http2"
	}
	w.run(port, path, "-p", w.dir, "-c", w.file("nginx.conf", fmt.Sprintf(`daemon off;
pid DIR/nginx.pid;
error_log DIR/error.log;
worker_processes 1;
events {}
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	%s
	server {
		listen 127.0.0.1:%d %s;
		ssl_certificate DIR/cert.pem;
		ssl_certificate_key DIR/key.pem;
		location / { proxy_pass %s; proxy_read_timeout %ds; %s }
	}
}
`, b.limit.outer, port, tls, to, b.seconds, b.limit.inner)))
	return port
}

type heard func(*http.Request) (*http.Response, error)

func (f heard) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

const heldBack = 500 * time.Millisecond

const (
	whole     = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
	halfBody  = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome of it"
	halfChunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n64\r\nsome of it"
)

// TestReverseProxies makes calls of each reverse proxy whose backend fails.
func TestReverseProxies(t *testing.T) {
	for _, r := range reverses {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			path, version := r.find(t)
			if path == "" {
				return
			}
			var lines []string
			headers := make(chan struct{})
			// cut ends an answer when the caller has its headers, if the proxy hands them on.
			cut := func(text string) func(net.Conn) {
				return func(c net.Conn) {
					answers(text)(c)
					select {
					case <-headers:
					case <-time.After(heldBack):
					}
				}
			}
			asked := func(name, target string, base *http.Transport, http2 bool) seen {
				got := try(t, heard(func(req *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(req)
					if err == nil && http2 {
						require.Equal(t, 2, resp.ProtoMajor)
					}
					select {
					case headers <- struct{}{}:
					default:
					}
					return resp, err
				}), target)
				lines = append(lines, fmt.Sprintf("| %s %s | %s | %s", r.name, version, name, got))
				return got
			}
			start := func(b behind) string { return "://" + on(r.start(newWorkshop(t), path, b)) }
			single := &http.Transport{DisableKeepAlives: true}
			fails := func(name, backend string) seen {
				return asked(name, "http"+start(behind{backend: backend, seconds: 1}), single, false)
			}
			// back completes the last line, when calls can be answered again.
			back := func(got seen) {
				begin, after := time.Now(), fmt.Sprintf("not within %.0f s", mostBack.Seconds())
				every := time.NewTicker(10 * time.Millisecond)
				defer every.Stop()
				for ; time.Since(begin) < mostBack; <-every.C {
					if get(t, got.rt, got.target) == "200 OK" {
						after = fmt.Sprintf("%.1f s", time.Since(begin).Seconds())
						break
					}
				}
				last := len(lines) - 1
				lines[last] = strings.TrimSuffix(lines[last], " |") + ", back (" + after + ") |"
			}

			refusing := testkit.FreeAddress(t)
			got := fails("refuses", refusing)
			require.Equal(t, policy.Failure, got.end.Outcome)
			serve(t, refusing, answers(whole))
			back(got)
			got = fails("is silent", serve(t, "", silent))
			require.Equal(t, policy.Failure, got.end.Outcome)
			got = fails("is cut before its Content-Length", serve(t, "", cut(halfBody)))
			require.Equal(t, policy.Failure, got.end.Outcome)
			fails("is cut in a chunk", serve(t, "", cut(halfChunk)))
			if r.http2 != "" {
				two := new(http.Protocols)
				two.SetHTTP2(true)
				two.SetUnencryptedHTTP2(true)
				base := &http.Transport{Protocols: two, TLSClientConfig: &tls.Config{RootCAs: certificate().roots}}
				defer base.CloseIdleConnections()
				over := func(name, text string) seen {
					target := r.http2 + start(behind{backend: serve(t, "", cut(text)), seconds: 1, http2: true})
					return asked(name+", over HTTP/2", target, base, true)
				}
				got = over("is cut before its Content-Length", halfBody)
				require.Equal(t, policy.Failure, got.end.Outcome)
				over("is cut in a chunk", halfChunk)
			}
			for _, l := range r.limits {
				arrived, release := make(chan struct{}), make(chan struct{})
				var first sync.Once
				backend := serve(t, "", func(c net.Conn) {
					first.Do(func() {
						close(arrived)
						if l.inFlight {
							<-release
						}
					})
					answers(whole)(c)
				})
				letGo := sync.OnceFunc(func() { close(release) })
				t.Cleanup(letGo)
				target := "http" + start(behind{backend: backend, seconds: 30, limit: l})
				var others sync.WaitGroup
				others.Go(func() {
					if resp, err := (&http.Client{Transport: single}).Get(target); err == nil {
						io.Copy(io.Discard, resp.Body)
						resp.Body.Close()
					}
				})
				select {
				case <-arrived:
				case <-time.After(generously):
					t.Fatal("no call arrives at the backend")
				}
				got := asked("is limited by "+l.name, target, single, false)
				letGo()
				others.Wait()
				if strings.HasPrefix(got.said, "429 ") {
					require.Equal(t, policy.Success, got.end.Outcome)
					continue
				}
				require.Equal(t, policy.Failure, got.end.Outcome)
				if l.inFlight {
					back(got)
				}
			}
			compare(t, r.name, version, lines)
		})
	}
}
