#!/usr/bin/env bash
# A line in the log of a proxy for a request that nobody made. Seen with
#   haproxy 2.6.12-1+deb12u4 and option httplog: "<BADREQ>", 408, cR--, ten seconds long if that is its timeout
# beside
#   nginx 1.22.1-9+deb12u11: no line
# and Go 1.26's net/http as the client. It dials as soon as no connection is idle, and goes on dialing if one becomes idle meanwhile
# and the request goes over that: the new one is kept for later, and the proxy waits for a request on it. RFC 9110, section 15.5.9: a
# server may send 408 to say that it does not wait any longer, and net/http takes that for the end of the connection and tells no caller.
# For what counts calls by that log, such as a breaker's thresholds, busy clients look as if some of their calls took ten seconds to be
# refused. They say nothing of the upstream, and are no calls.
# It needs Debian 12 and Go. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
packages=(haproxy=2.6.12-1+deb12u4 liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 nginx=1.22.1-9+deb12u11)
{ apt-get download "${packages[@]}" || { apt-get update && apt-get download "${packages[@]}"; }; } >log 2>&1 || { cat log; exit 1; }
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu

free() { (while :; do port=$((20000 + RANDOM % 10000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || { echo $port; return; }; done); }
server=$(free) haproxy=$(free) nginx=$(free)
cat >haproxy.cfg <<END
global
	log stdout format raw local0
defaults
	mode http
	log global
	option httplog
	timeout client 1s
	timeout connect 1s
	timeout server 1s
listen all
	bind 127.0.0.1:$haproxy
	server one 127.0.0.1:$server
END
cat >nginx.conf <<END
daemon off; pid nginx.pid; error_log error.log;
events {}
http {
	log_format short '\$status \$request_time \$request';
	access_log access.log short;
	client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
	client_header_timeout 1s; keepalive_timeout 1s;
	server { listen 127.0.0.1:$nginx; location / { proxy_pass http://127.0.0.1:$server; } }
}
END
mkdir client
cat >client/main.go <<'END'
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	go http.ListenAndServe(os.Args[1], http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(50 * time.Millisecond) }))
	for _, proxy := range os.Args[2:] {
		for i := 0; i < 500; i++ {
			if conn, err := net.Dial("tcp", os.Args[1]); err == nil {
				conn.Close()
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		var dialed atomic.Int32
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if dialed.Add(1) > 1 { // takes longer than the answer to the first request
				time.Sleep(300 * time.Millisecond)
			}
			return net.Dial(network, address)
		}}}
		get := func() int {
			resp, err := client.Get("http://" + proxy)
			if err != nil {
				return 0
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			return resp.StatusCode
		}
		var both sync.WaitGroup
		var bad atomic.Int32
		for range 2 {
			both.Go(func() {
				if get() != 200 {
					bad.Add(1)
				}
			})
			time.Sleep(10 * time.Millisecond)
		}
		both.Wait()
		time.Sleep(2 * time.Second) // until the proxy's patience with the other connection ends
		if get() != 200 {
			bad.Add(1)
		}
		fmt.Printf("requests 3, of which failed %d\n", bad.Load())
	}
}
END
(cd client && printf 'module client\n\ngo 1.26\n' >go.mod && go build -o ../get .) >log 2>&1 || { cat log; exit 1; }
usr/sbin/haproxy -f haproxy.cfg >haproxy.log 2>haproxy.errors &
usr/sbin/nginx -p "$folder" -c nginx.conf >nginx.log 2>&1 &
for port in "$haproxy" "$nginx"; do
	for _ in {1..500}; do
		(: </dev/tcp/127.0.0.1/$port) 2>/dev/null && break
		sleep 0.02
	done
done
sleep 2 # the lines of these connections are there
before=$(wc -l <haproxy.log)
seen=$(
	./get "127.0.0.1:$server" "127.0.0.1:$haproxy" "127.0.0.1:$nginx"
	echo "haproxy:"
	tail -n +$((before + 1)) haproxy.log | sed -E 's/.*\] //; s|/1[0-9]{3} |/1000 |; s|([0-9]+/){4}[0-9]+ 200|- 200|; s/ - - (....) .* "/ \1 "/' | cut -d' ' -f2-
	echo "nginx:"
	sed -E 's/[0-9]+\.[0-9]+/-/' access.log
)
expected='requests 3, of which failed 0
requests 3, of which failed 0
haproxy:
all/one - 200 82 ---- "GET / HTTP/1.1"
all/one - 200 82 ---- "GET / HTTP/1.1"
all/<NOSRV> -1/-1/-1/-1/1000 408 0 cR-- "<BADREQ>"
all/one - 200 82 ---- "GET / HTTP/1.1"
nginx:
200 - GET / HTTP/1.1
200 - GET / HTTP/1.1
200 - GET / HTTP/1.1'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { tail -n 5 ./*.log; printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
