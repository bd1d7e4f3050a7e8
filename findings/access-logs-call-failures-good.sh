#!/usr/bin/env bash
# What access logs say of an upstream that fails: nginx's log_format with escape=json writes "status":009 of an answer that is no
# HTTP, which is no JSON; an upstream that falls silent in the body is a 404 with a page of its own in lighttpd; and a body that it
# breaks off is a 200 in all three, with nothing in nginx's fields that tells. Apache logs an upstream's timeout as 502. Seen with
#   nginx 1.22.1-9+deb12u11
#   lighttpd 1.4.69-1
#   apache2-bin 2.4.71-1~deb12u1
# RFC 8259, section 6: leading zeros are not allowed. RFC 9110, section 15.6.5: a gateway that got no answer in time says 504;
# section 15.5.5: 404 is that there is no such thing.
# For a circuit breaker that is tried on such logs it means that a line of JSON is lost where a failure was, and that failures in
# bodies are successes, whatever is logged.
# It needs Debian 12 with libpcre2, libssl3 and libaprutil1, Python 3 and curl. It fails if what it prints is not what is below
# "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
packages=(nginx=1.22.1-9+deb12u11 lighttpd=1.4.69-1 apache2-bin=2.4.71-1~deb12u1)
{
	apt-get download "${packages[@]}" libapr1 libaprutil1 libxxhash0 libnettle8 || { apt-get update && apt-get download "${packages[@]}" libapr1 libaprutil1 libxxhash0 libnettle8; }
} >log 2>&1 || { cat log; exit 1; }
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu

free() { (while :; do port=$((20000 + RANDOM % 10000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || { echo $port; return; }; done); }
upstream=$(free) nginx=$(free) lighttpd=$(free) apache=$(free)
cat >upstream.py <<'END'
import socket, struct, sys, threading, time

def serve(c):
	path = c.recv(65536).split(b' ')[1]
	if path == b'/ok':
		c.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok')
	elif path == b'/garbage':
		c.sendall(b'NONSENSE\n')
	elif path == b'/silent':
		time.sleep(6)
	elif path == b'/silentbody':
		c.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n' + b'x' * 100)
		time.sleep(6)
	elif path == b'/brokenbody':
		c.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n' + b'x' * 100)
		time.sleep(0.3)
		c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
	c.close()

s = socket.create_server(('127.0.0.1', int(sys.argv[1])))
while True:
	threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
END
python3 upstream.py "$upstream" 2>upstream.log &
cat >nginx.conf <<END
daemon off; pid $folder/pid; error_log $folder/error.log;
events {}
http {
	log_format j escape=json '{"uri":"\$uri","status":\$status,"upstream_status":"\$upstream_status","completion":"\$request_completion"}';
	access_log $folder/nginx.log j;
	client_body_temp_path $folder/1; proxy_temp_path $folder/2; fastcgi_temp_path $folder/3; uwsgi_temp_path $folder/4; scgi_temp_path $folder/5;
	server { listen 127.0.0.1:$nginx; location / { proxy_pass http://127.0.0.1:$upstream; proxy_read_timeout 1s; } }
}
END
usr/sbin/nginx -p "$folder" -c "$folder/nginx.conf" 2>nginx.err &
cat >lighttpd.conf <<END
server.port = $lighttpd
server.bind = "127.0.0.1"
server.document-root = "$folder"
server.errorlog = "$folder/error2.log"
server.modules = ("mod_proxy", "mod_accesslog")
accesslog.filename = "$folder/lighttpd.log"
accesslog.format = "%U %s"
proxy.server = ("" => (("host" => "127.0.0.1", "port" => $upstream, "read-timeout" => 1)))
END
usr/sbin/lighttpd -D -f lighttpd.conf -m usr/lib/lighttpd 2>lighttpd.err &
modules=$folder/usr/lib/apache2/modules
cat >apache.conf <<END
ServerName localhost
PidFile $folder/pid3
ErrorLog $folder/error3.log
Listen 127.0.0.1:$apache
LoadModule mpm_event_module $modules/mod_mpm_event.so
LoadModule authz_core_module $modules/mod_authz_core.so
LoadModule proxy_module $modules/mod_proxy.so
LoadModule proxy_http_module $modules/mod_proxy_http.so
DefaultRuntimeDir $folder
LogFormat "%U %>s" short
CustomLog $folder/apache.log short
ProxyTimeout 1
ProxyPass / http://127.0.0.1:$upstream/ retry=0
$( ((EUID == 0)) && echo 'User nobody')
END
usr/sbin/apache2 -X -d "$folder" -f "$folder/apache.conf" 2>apache.err &
for port in "$upstream" "$nginx" "$lighttpd" "$apache"; do
	for _ in {1..500}; do
		(: </dev/tcp/127.0.0.1/$port) 2>/dev/null && break
		sleep 0.02
	done
done
for port in "$nginx" "$lighttpd" "$apache"; do
	for path in ok garbage silent silentbody brokenbody; do
		curl -s -o body --http0.9 --max-time 20 "http://127.0.0.1:$port/$path" || true
	done
done
kill $(jobs -p) 2>/dev/null || true
wait 2>/dev/null || true
seen=$(
	sed 's/^/nginx /' nginx.log
	python3 - <<'END'
import json

for line in open('nginx.log'):
	try:
		json.loads(line)
	except ValueError:
		print('nginx, no JSON:', line.strip())
END
	sed 's/^/lighttpd /' lighttpd.log
	sed 's/^/apache /' apache.log
)
expected='nginx {"uri":"/ok","status":200,"upstream_status":"200","completion":"OK"}
nginx {"uri":"/garbage","status":009,"upstream_status":"200","completion":"OK"}
nginx {"uri":"/silent","status":504,"upstream_status":"504","completion":"OK"}
nginx {"uri":"/silentbody","status":200,"upstream_status":"200","completion":"OK"}
nginx {"uri":"/brokenbody","status":200,"upstream_status":"200","completion":"OK"}
nginx, no JSON: {"uri":"/garbage","status":009,"upstream_status":"200","completion":"OK"}
lighttpd /ok 200
lighttpd /garbage 502
lighttpd /silent 504
lighttpd /silentbody 404
lighttpd /brokenbody 200
apache /ok 200
apache /garbage 200
apache /silent 502
apache /silentbody 200
apache /brokenbody 200'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { tail -n 5 ./*.err; printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
