//go:build linux

package proxies_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

const page = "../../docs/proxies.md"

var write = flag.Bool("write", false, "write docs/proxies.md and do not compare it")

var written struct {
	sync.Mutex
	lines []string
}

const forwardColumns = 7

const intro = `# What proxies between say, and what it comes to

Each line is of a program that really ran, on loopback, as Debian packages it, with the version that is named. Calls went through it, by a
` + "`transport.New(base)`" + ` with its defaults, until the circuit opened or %d were made. The page is written by
` + "`cd conformance/proxies && go test . -write`" + ` and by no hand; without ` + "`-write`" + ` the test compares it with what it sees, where the version is the same, and
the outcomes in any case.

## Forward proxies

The base is an ` + "`http.Transport`" + ` with a ` + "`Proxy`" + ` and ` + "`transport.ProxyErrors`" + `; the last column is the outcome without that, where it is another. What
the caller gets is the same. Over http, all but SOCKS answer as an upstream would, so that a 401, 403 or 404 of theirs cannot be told from one of the upstream.
Where the cause is local trouble, ` + "`OnLocalTrouble`" + ` is told of it, once for all the calls.

| proxy | call | what the caller gets | outcome | cause | opens | without ProxyErrors |
|---|---|---|---|---|---|---|
%s
What cannot be told:

- privoxy answers 404 for a name that does not exist, as for much else.
- ` + "`ssh -D`" + ` closes the connection when the upstream refuses, as one would that dies. That is a failure of the upstream, unless nothing at all
  came of the proxy before; so is every end of a proxy under a call.
- trafficserver says that it is connected before it is; what follows is an end of the connection.
- A base that speaks HTTP/2 (` + "`ForceAttemptHTTP2`" + `, as in ` + "`http.DefaultTransport`" + `, and in that of ` + "`New(nil)`" + `) offers it to a proxy of an https URL,
  too, and cannot speak it there. If the proxy takes the offer, no call through it is well, and over https that looks like failures of the upstreams.
- A proxy that closes the connection without an answer to CONNECT is taken for one that is broken, which is local trouble. proxy-chain 3.0.1, of
  npm, does so where the upstream refuses.
- A proxy that answers nothing looks like an upstream that does.
- An error of a ` + "`Proxy`" + ` function of the caller's own, without ` + "`transport.ProxyErrors`" + `, is an error of the call like any other.

## Reverse proxies

A reverse proxy is the upstream, whatever stands behind it. The time is how long after its backend is there again, or free again, a call, of one
every 10 ms, is answered well (it is measured, and not compared).

Calls are over HTTP/1.1, but where it says HTTP/2: over TLS, or by prior knowledge (varnish, lighttpd). Limits are what the program has in its own
configuration, of one call in flight while somebody else's is, or of one in a minute. lighttpd as Debian packages it has none.

| proxy | its backend | what the caller gets | outcome | cause | opens |
|---|---|---|---|---|---|
%s
A body that arrives whole by all that HTTP says, and was cut before the proxy, is a success: a proxy that hands it on so hides it. Lines of a cut
backend that say ` + "`200 OK`" + ` and success are of such proxies, some of them over HTTP/2 only. Where there is a Content-Length, no line does.

A limit that answers 502 or 503 looks like a backend that is down: a circuit opens if hardly one call in four is answered any more. 429 is no failure.
`

func TestMain(m *testing.M) {
	flag.Parse()
	flag.Set("test.parallel", "32") // they wait, and do not work
	code := m.Run()
	if *write && code == 0 && flag.Lookup("test.run").Value.String() == "" {
		slices.SortStableFunc(written.lines, func(a, b string) int {
			return strings.Compare(strings.ToLower(strings.SplitN(a, "|", 3)[1]), strings.ToLower(strings.SplitN(b, "|", 3)[1]))
		})
		var forward, reverse strings.Builder
		for _, line := range written.lines {
			to := &reverse
			if strings.Count(line, "|") == forwardColumns+1 {
				to = &forward
			}
			fmt.Fprintln(to, line)
		}
		if err := os.WriteFile(page, fmt.Appendf(nil, intro, mostCalls, forward.String(), reverse.String()), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
