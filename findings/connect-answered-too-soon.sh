#!/usr/bin/env bash
# A forward proxy that answers 200 to CONNECT before it has a connection: what follows is the end of it, without a word. Seen with
#   trafficserver 9.2.5+ds-0+deb12u4 (it calls itself 9.2.9)
# RFC 9110, section 9.3.6: 2xx says that the proxy has switched to tunnel mode, after it has connected. Over plain http the same
# program says 502. For a circuit breaker it means that an upstream that refuses connections looks like one that closes them.
# It needs Debian 12 and curl. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
chmod 755 .
packages=(trafficserver=9.2.5+ds-0+deb12u4 libhwloc15 libyaml-cpp0.7 libpcre3)
{ apt-get download "${packages[@]}" || { apt-get update && apt-get download "${packages[@]}"; }; } >log 2>&1 || { cat log; exit 1; }
for package in *.deb; do dpkg -x "$package" .; done
export LD_LIBRARY_PATH=$folder/usr/lib/x86_64-linux-gnu:$folder/usr/lib/trafficserver

# A port on which something listens, and one on which nothing does.
free() { (while :; do port=$((20000 + RANDOM % 10000)); (: </dev/tcp/127.0.0.1/$port) 2>/dev/null || { echo $port; return; }; done); }
proxy=$(free)
refusing=$(free)
mkdir config logs cache state
chmod 777 logs cache state
for empty in remap plugin storage ssl_multicert hosting volume cache parent socks splitdns; do : >config/$empty.config; done
: >config/logging.yaml >config/sni.yaml >config/strategies.yaml
printf 'ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n' >config/ip_allow.yaml
cat >config/records.config <<END
CONFIG proxy.config.http.server_ports STRING $proxy:ip-in=127.0.0.1
CONFIG proxy.config.url_remap.remap_required INT 0
CONFIG proxy.config.reverse_proxy.enabled INT 0
CONFIG proxy.config.http.connect_ports STRING *
CONFIG proxy.config.http.cache.http INT 0
CONFIG proxy.config.http.connect_attempts_max_retries INT 0
CONFIG proxy.config.admin.user_id STRING nobody
END
cat >runroot.yaml <<END
prefix: $folder
exec_prefix: $folder/usr
bindir: $folder/usr/bin
sbindir: $folder/usr/sbin
sysconfdir: $folder/config
datadir: $folder/cache
includedir: $folder/usr/include
libdir: $folder/usr/lib/trafficserver
libexecdir: $folder/usr/lib/trafficserver/modules
localstatedir: $folder
runtimedir: $folder/state
logdir: $folder/logs
cachedir: $folder/cache
END
usr/bin/traffic_server --run-root="$folder/runroot.yaml" >server 2>&1 &
for _ in {1..500}; do
	(: </dev/tcp/127.0.0.1/$proxy) 2>/dev/null && break
	sleep 0.02
done
seen=$(
	for scheme in http https; do
		curl -s -o body -x "http://127.0.0.1:$proxy" "$scheme://127.0.0.1:$refusing/" -w "$scheme: CONNECT %{http_connect}, answer %{http_code}" || true
		echo
	done
)
expected='http: CONNECT 000, answer 502
https: CONNECT 200, answer 000'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { cat server; printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
