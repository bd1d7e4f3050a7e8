//go:build ignore

// Make writes access.log.gz: the access log of an nginx in front of three servers on loopback that have troubles, for
// calls of eight clients in three and a half minutes. It needs nginx, and takes as long.
//
//	go run make.go
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
	"sync"
	"time"
)

const (
	lasts = 210 * time.Second
	proxy = "127.0.0.1:18390"
)

const config = `daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
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
		listen ` + proxy + `;
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
	check(os.WriteFile(filepath.Join(dir, "nginx.conf"), fmt.Appendf(nil, config, dir), 0o600))
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
	nginx := exec.CommandContext(ctx, "nginx", "-p", dir, "-c", filepath.Join(dir, "nginx.conf"))
	nginx.Stderr = os.Stderr
	check(nginx.Start())
	for {
		conn, err := net.Dial("tcp", proxy)
		if err == nil {
			conn.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	var all sync.WaitGroup
	for client := range 8 {
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(client+11))}}
		base := &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 100}
		for path, rate := range map[string]float64{"/orders": 2.4, "/search": 1.6, "/pay": 1} {
			all.Go(func() {
				for n := 0; time.Since(start) < lasts; n++ {
					time.Sleep(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
					all.Go(func() {
						resp, err := (&http.Client{Transport: base}).Get(fmt.Sprintf("http://%s%s/%d", proxy, path, n))
						if err == nil {
							io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
						}
					})
				}
			})
		}
	}
	all.Wait()
	end()
	nginx.Wait()
	in, err := os.Open(filepath.Join(dir, "access.log"))
	check(err)
	out, err := os.Create("access.log.gz")
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
