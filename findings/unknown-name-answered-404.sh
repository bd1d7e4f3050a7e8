#!/usr/bin/env bash
# Forward proxies that say 404 of a name that does not exist, to CONNECT, too, and 5xx of an upstream that refuses connections. Seen with
#   privoxy 3.0.34-1
#   proxy 4.1.0 (npm)
# beside
#   tinyproxy 1.11.1-2.1+deb12u1: 500 for both
# RFC 9110, section 15.5.5: 404 is an answer of the origin server, or of one that speaks for it; a proxy that got none says 502, 503 or 504.
# For a circuit breaker it means that an upstream whose name is gone is a success over plain http, like any page that is not there, and
# over https looks like a server that is no proxy at all.
# It needs Debian 12, Node 20, npm, curl and a resolver that answers. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
packages=(privoxy=3.0.34-1 libmbedcrypto7 libmbedtls14 libmbedx509-1 libpcre3 tinyproxy-bin=1.11.1-2.1+deb12u1)
{
	apt-get download "${packages[@]}" || { apt-get update && apt-get download "${packages[@]}"; }
	npm init -y && npm install --ignore-scripts --no-audit --no-fund proxy@4.1.0
} >log 2>&1 || { cat log; exit 1; }
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu

free() { (while :; do port=$((20000 + RANDOM % 10000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || { echo $port; return; }; done); }
refusing=$(free) privoxy=$(free) tiny=$(free) node=$(free)
mkdir config
printf '{+limit-connect{-}}\n/\n' >config/all.action
printf 'listen-address 127.0.0.1:%s\nconfdir %s/config\ntempldir %s/etc/privoxy/templates\nactionsfile all.action\n' "$privoxy" "$folder" "$folder" >privoxy.conf
usr/sbin/privoxy --no-daemon privoxy.conf >privoxy.log 2>&1 &
printf 'Port %s\nListen 127.0.0.1\nLogLevel Critical\n' "$tiny" >tiny.conf
usr/bin/tinyproxy -d -c tiny.conf >tiny.log 2>&1 &
cat >run.mjs <<'END'
import http from 'node:http';
import { createProxy } from 'proxy';

createProxy(http.createServer()).listen(Number(process.argv[2]), '127.0.0.1');
END
node run.mjs "$node" >node.log 2>&1 &
for port in "$privoxy" "$tiny" "$node"; do
	for _ in {1..500}; do
		(: </dev/tcp/127.0.0.1/$port) 2>/dev/null && break
		sleep 0.02
	done
done
seen=$(
	for proxy in "privoxy $privoxy" "proxy $node" "tinyproxy $tiny"; do
		for target in "unknown name unknown.invalid" "refuses 127.0.0.1:$refusing"; do
			for scheme in http https; do
				curl -s -o body --max-time 60 -x "http://127.0.0.1:${proxy#* }" "$scheme://${target##* }/" \
					-w "${proxy% *}, ${target% *}, $scheme: CONNECT %{http_connect}, answer %{http_code}" || true
				echo
			done
		done
	done
)
expected='privoxy, unknown name, http: CONNECT 000, answer 404
privoxy, unknown name, https: CONNECT 404, answer 000
privoxy, refuses, http: CONNECT 000, answer 503
privoxy, refuses, https: CONNECT 503, answer 000
proxy, unknown name, http: CONNECT 000, answer 404
proxy, unknown name, https: CONNECT 404, answer 000
proxy, refuses, http: CONNECT 000, answer 500
proxy, refuses, https: CONNECT 500, answer 000
tinyproxy, unknown name, http: CONNECT 000, answer 500
tinyproxy, unknown name, https: CONNECT 500, answer 000
tinyproxy, refuses, http: CONNECT 000, answer 500
tinyproxy, refuses, https: CONNECT 500, answer 000'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { tail -n 5 ./*.log; printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
