//go:build ignore

// Make writes access.log.gz and haproxy.log.gz: the logs of an nginx and a HAProxy in front of three servers on
// loopback that have troubles, for calls of eight clients in three and a half minutes; and nginx.calls.gz and
// haproxy.calls.gz, what these clients saw. It needs both programs, and takes as long.
//
//	cd sample && go run make.go
package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fusebox-go/fusebox/recorder"
	"github.com/fusebox-go/fusebox/transport"
)

const (
	lasts   = 210 * time.Second
	nginx   = "127.0.0.1:18390"
	haproxy = "127.0.0.1:18394"
)

const haproxyConfig = `global
	log stdout format raw local0
defaults
	mode http
	log global
	option httplog
	option abortonclose
	retries 0
	timeout client 10s
	timeout connect 1s
	timeout server 2s
frontend all
	bind ` + haproxy + `
	use_backend orders if { path_beg /orders }
	use_backend search if { path_beg /search }
	default_backend pay
backend orders
	server one 127.0.0.1:18391
backend search
	server one 127.0.0.1:18392
backend pay
	server one 127.0.0.1:18393
`

const nginxConfig = `daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 2048; }
http {
	log_format upstream '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent '
		'rt=$request_time ua="$upstream_addr" us="$upstream_status" uct="$upstream_connect_time" '
		'uht="$upstream_header_time" urt="$upstream_response_time"';
	access_log %[1]s/access.log upstream;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	proxy_read_timeout 2s; proxy_connect_timeout 1s;
	server {
		listen ` + nginx + `;
		location /orders { proxy_pass http://127.0.0.1:18391; }
		location /search { proxy_pass http://127.0.0.1:18392; }
		location /pay { proxy_pass http://127.0.0.1:18393; }
	}
}
`

// between reports whether so many seconds have passed since the start.
func between(start time.Time, from, to float64) bool {
	at := time.Since(start).Seconds()
	return at >= from && at < to
}

func main() {
	dir, err := os.MkdirTemp("", "sample")
	check(err)
	defer os.RemoveAll(dir)
	check(os.WriteFile(filepath.Join(dir, "nginx.conf"), fmt.Appendf(nil, nginxConfig, dir), 0o600))
	check(os.WriteFile(filepath.Join(dir, "haproxy.cfg"), []byte(haproxyConfig), 0o600))
	start := time.Now()

	// Orders answer 503 for 25 seconds, and some of them for ten seconds more.
	serve("127.0.0.1:18391", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(5+rand.IntN(20)) * time.Millisecond)
		if between(start, 50, 75) || between(start, 75, 85) && rand.IntN(3) == 0 || rand.IntN(200) == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	// Search falls silent for twenty seconds.
	serve("127.0.0.1:18392", func(w http.ResponseWriter, r *http.Request) {
		if between(start, 110, 130) {
			<-r.Context().Done()
			return
		}
		time.Sleep(time.Duration(20+rand.IntN(100)) * time.Millisecond)
	})
	// Payments are not there for ten seconds.
	payments := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(30+rand.IntN(30)) * time.Millisecond)
		if rand.IntN(100) == 0 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
	stop := serve("127.0.0.1:18393", payments)
	time.AfterFunc(160*time.Second, stop)
	time.AfterFunc(170*time.Second, func() { serve("127.0.0.1:18393", payments) })

	ctx, end := context.WithCancel(context.Background())
	proxies := []*exec.Cmd{
		exec.CommandContext(ctx, "nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf")),
		exec.CommandContext(ctx, "haproxy", "-f", filepath.Join(dir, "haproxy.cfg")),
	}
	lines, err := os.Create(filepath.Join(dir, "haproxy.log"))
	check(err)
	proxies[1].Stdout = lines
	for _, proxy := range proxies {
		proxy.Stderr = os.Stderr
		check(proxy.Start())
	}
	var all sync.WaitGroup
	var views []*recorder.Recorder
	for name, proxy := range map[string]string{"nginx": nginx, "haproxy": haproxy} {
		for { // until it is there
			if conn, err := net.Dial("tcp", proxy); err == nil {
				conn.Close()
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		seen, err := recorder.Open(filepath.Join(dir, name+".calls"), recorder.Options{})
		check(err)
		views = append(views, seen)
		for client := range 8 {
			dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(client+11))}}
			base := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 100}
			breaker := transport.New(
				base, transport.WithShadow(), transport.WithObserver(seen.Observer()),
				transport.WithKey(func(req *http.Request) transport.Key {
					return transport.Key{Detail: strings.Split(req.URL.Path, "/")[1]}
				}),
			)
			for path, rate := range map[string]float64{"/orders": 2.4, "/search": 1.6, "/pay": 1} {
				all.Go(func() { call(breaker, "http://"+proxy+path, rate, start, &all) })
			}
		}
	}
	all.Wait()
	end()
	for _, proxy := range proxies {
		proxy.Wait()
	}
	for _, view := range views {
		check(view.Close())
	}
	check(lines.Close())
	for _, name := range []string{"access.log", "haproxy.log", "nginx.calls", "haproxy.calls"} {
		pack(filepath.Join(dir, name), name+".gz")
	}
}

// call makes calls at a rate a second.
func call(breaker *transport.Transport, url string, rate float64, start time.Time, all *sync.WaitGroup) {
	for n := 0; time.Since(start) < lasts; n++ {
		time.Sleep(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		all.Go(func() {
			resp, err := (&http.Client{Transport: breaker}).Get(fmt.Sprintf("%s/%d", url, n))
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}

func pack(from, to string) {
	in, err := os.Open(from)
	check(err)
	defer in.Close()
	out, err := os.Create(to)
	check(err)
	packed, _ := gzip.NewWriterLevel(out, gzip.BestCompression)
	_, err = io.Copy(packed, in)
	check(err)
	check(packed.Close())
	check(out.Close())
}

// serve runs a server until it is stopped.
func serve(address string, handler http.HandlerFunc) (stop func()) {
	listener, err := net.Listen("tcp", address)
	check(err)
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	return func() { server.Close() }
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
