//go:build linux

package proxies_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// reverse is a reverse proxy of a backend that it gives a second to answer.
type reverse struct {
	program
	start func(w *workshop, path, backend string) (port int)
}

var reverses = []reverse{
	{program{"squid", "squid", []string{"-v"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		_, number, _ := net.SplitHostPort(backend)
		w.run(port, path, "-N", "-n", fmt.Sprint("fusebox", port), "-f", w.file("squid.conf", squidConf(port, " accel defaultsite=localhost")+fmt.Sprintf(`
cache_peer 127.0.0.1 parent %s 0 no-query originserver name=backend
never_direct allow all
read_timeout 1 seconds
http_access allow all
`, number)))
		return port
	}},
	{program{"apache", "apache2", []string{"-v"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		w.run(port, path, "-d", w.dir, "-f", w.file("apache.conf", apacheConf(port)+"ProxyPass / http://"+backend+"/ timeout=1\n"), "-DFOREGROUND")
		return port
	}},
	{program{"trafficserver", "traffic_server", []string{"-V"}}, func(w *workshop, path, backend string) int {
		return trafficServer(w, path, "map / http://"+backend+"/\n")
	}},
	{program{"haproxy", "haproxy", []string{"-v"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		w.run(port, path, "-db", "-f", w.file("haproxy.cfg", fmt.Sprintf(`defaults
  mode http
  retries 1
  timeout connect 1s
  timeout client 30s
  timeout server 1s
listen all
  bind 127.0.0.1:%d
  server backend %s
`, port, backend)))
		return port
	}},
	{program{"haproxy with health checks", "haproxy", []string{"-v"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		w.run(port, path, "-db", "-f", w.file("haproxy.cfg", fmt.Sprintf(`defaults
  mode http
  retries 1
  timeout connect 1s
  timeout client 30s
  timeout server 1s
listen all
  bind 127.0.0.1:%d
  server backend %s check inter 200ms fall 1 rise 1
`, port, backend)))
		return port
	}},
	{program{"nginx", "nginx", []string{"-v"}}, func(w *workshop, path, backend string) int {
		return nginx(w, path, "", "proxy_pass http://"+backend+"; proxy_read_timeout 1s;")
	}},
	{program{"nginx with two backends", "nginx", []string{"-v"}}, func(w *workshop, path, backend string) int {
		return nginx(w, path, "upstream two { server "+backend+"; server "+backend+"; }", "proxy_pass http://two; proxy_read_timeout 1s;")
	}},
	{program{"varnish", "varnishd", []string{"-V"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		host, number, _ := net.SplitHostPort(backend)
		w.run(port, path, "-F", "-a", on(port), "-T", "127.0.0.1:0", "-n", w.dir+"/work", "-s", "malloc,16m", "-f", w.file("default.vcl", fmt.Sprintf(`vcl 4.1;
backend default { .host = %q; .port = %q; .first_byte_timeout = 1s; .between_bytes_timeout = 1s; }
sub vcl_recv { return (pass); }
`, host, number)))
		return port
	}},
	{program{"lighttpd", "lighttpd", []string{"-v"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		host, number, _ := net.SplitHostPort(backend)
		w.run(port, path, "-D", "-f", w.file("lighttpd.conf", fmt.Sprintf(`server.port = %d
server.bind = "127.0.0.1"
server.document-root = "DIR"
server.errorlog = "DIR/error.log"
server.modules = ("mod_proxy")
proxy.server = ("" => (("host" => %q, "port" => %s, "read-timeout" => 1)))
`, port, host, number)))
		return port
	}},
	{program{"caddy", "caddy", []string{"version"}}, func(w *workshop, path, backend string) int {
		port := freePort(w.t)
		w.run(port, path, "run", "--adapter", "caddyfile", "--config", w.file("Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
}
http://127.0.0.1:%d {
	bind 127.0.0.1
	reverse_proxy %s {
		transport http {
			response_header_timeout 1s
		}
	}
}
`, port, backend)))
		return port
	}},
}

func nginx(w *workshop, path, upstream, location string) int {
	port := freePort(w.t)
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
		listen 127.0.0.1:%d;
		location / { %s }
	}
}
`, upstream, port, location)))
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
			behind := func(name, backend string) seen {
				base := &http.Transport{DisableKeepAlives: true}
				got := try(t, heard(func(req *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(req)
					select {
					case headers <- struct{}{}:
					default:
					}
					return resp, err
				}), "http://"+on(r.start(newWorkshop(t), path, backend)))
				lines = append(lines, fmt.Sprintf("| %s %s | %s | %s", r.name, version, name, got))
				return got
			}
			refusing := on(freePort(t))
			got := behind("refuses", refusing)
			require.Equal(t, policy.Failure, got.end.Outcome)
			serve(t, refusing, answers(whole))
			begin, back := time.Now(), "later"
			every := time.NewTicker(10 * time.Millisecond)
			defer every.Stop()
			for ; time.Since(begin) < mostBack; <-every.C {
				if get(t, got.rt, got.target) == "200 OK" {
					back = fmt.Sprintf("%.1f s", time.Since(begin).Seconds())
					break
				}
			}
			if back == "later" {
				back = fmt.Sprintf("not within %.0f s", mostBack.Seconds())
			}
			last := len(lines) - 1
			lines[last] = lines[last][:len(lines[last])-2] + ", back (" + back + ") |"
			got = behind("is silent", serve(t, "", silent))
			require.Equal(t, policy.Failure, got.end.Outcome)
			behind("is cut before its Content-Length", serve(t, "", cut(halfBody)))
			behind("is cut in a chunk", serve(t, "", cut(halfChunk)))
			compare(t, r.name, version, lines)
		})
	}
}
