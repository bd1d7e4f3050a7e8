#!/usr/bin/env bash
# A forward proxy that closes the connection without an answer to CONNECT if the upstream cannot be reached, where over plain http it
# says what is the matter. Seen with
#   proxy-chain 3.0.1 (npm): 594 over http, nothing for CONNECT
# beside
#   proxy 4.1.0 (npm): 500 for both
# For a circuit breaker it means that an upstream that refuses connections cannot be told from a proxy that is broken.
# It needs Node 20, npm and curl. It fails if what it prints is not what is below "expected".
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
{ npm init -y && npm install --ignore-scripts --no-audit --no-fund proxy@4.1.0 proxy-chain@3.0.1; } >log 2>&1 || { cat log; exit 1; }
cat >run.mjs <<'END'
import http from 'node:http';
import net from 'node:net';
import { createProxy } from 'proxy';
import { Server } from 'proxy-chain';

const gone = net.createServer();
await new Promise((done) => gone.listen(0, '127.0.0.1', done));
const refusing = gone.address().port;
await new Promise((done) => gone.close(done));
const plain = createProxy(http.createServer());
await new Promise((done) => plain.listen(0, '127.0.0.1', done));
const chain = new Server({ host: '127.0.0.1', port: 0 });
await chain.listen();
console.log(refusing, plain.address().port, chain.port);
END
node run.mjs >ports 2>errors &
for _ in {1..500}; do
	[[ -s ports ]] && break
	sleep 0.02
done
read -r refusing plain chain <ports || { cat errors; exit 1; }
seen=$(
	for proxy in "proxy $plain" "proxy-chain $chain"; do
		for scheme in http https; do
			curl -s -o body -x "http://127.0.0.1:${proxy#* }" "$scheme://127.0.0.1:$refusing/" \
				-w "${proxy% *}, $scheme: CONNECT %{http_connect}, answer %{http_code}, curl says: %{errormsg}" || true
			echo
		done
	done
)
expected='proxy, http: CONNECT 000, answer 500, curl says: 
proxy, https: CONNECT 500, answer 000, curl says: CONNECT tunnel failed, response 500
proxy-chain, http: CONNECT 000, answer 594, curl says: 
proxy-chain, https: CONNECT 000, answer 000, curl says: Proxy CONNECT aborted'
printf '%s\n' "$seen"
[[ $seen == "$expected" ]] || { printf 'that is new; expected:\n%s\n' "$expected"; exit 1; }
