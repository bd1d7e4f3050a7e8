package fusebox_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/bubble"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// rawServer answers every connection by serve, which may send what no http.Server would.
func rawServer(t *testing.T, serve func(net.Conn)) (url string) {
	return upstreamOf(t, func(conn *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			serve(conn)
		}
	})
}

func TestNoRetryAfterKeepsACircuitOpenBeyondItsCap(t *testing.T) {
	policies := []struct {
		name   string
		policy policy.Policy
		most   time.Duration
	}{
		{"adaptive", policy.Adaptive{}, 5 * time.Second},
		{"adaptive, own cap", policy.Adaptive{Probe: policy.Squares{RetryAfterMax: 20 * time.Second}}, 20 * time.Second},
		{"classic", policy.Classic{}, 5 * time.Minute},
		{"classic, open for longer", policy.Classic{OpenFor: time.Hour}, time.Hour},
		{"open time that grows", policy.Rules{
			Trip:    policy.Consecutive{},
			Probe:   policy.OpenTime{For: time.Second, Factor: 10, Max: 30 * time.Second, RetryAfterMax: 7 * time.Second},
			Recover: policy.Trial{},
		}, 30 * time.Second},
	}
	values := []string{
		"31536000", "9223372036854775807", "99999999999999999999999999", strings.Repeat("9", 1<<16), "Fri, 31 Dec 9999 23:59:59 GMT",
		"Friday, 31-Dec-68 23:59:59 GMT", "Fri Dec 31 23:59:59 9999",
	}
	for _, c := range policies {
		for _, value := range values {
			t.Run(fmt.Sprintf("%s/%.30s", c.name, value), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var well bool
					rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
						if well {
							return answer(200, "")(req)
						}
						resp, err := answer(503, "")(req)
						resp.Header["Retry-After"] = []string{value, value}
						return resp, err
					}), transport.WithPolicy(c.policy))
					var longest time.Duration
					for range 200 { // again and again, with each probe
						resp, err := request(t, rt, t.Context())
						require.NoError(t, err)
						if circuit, _ := rt.Circuit(here); circuit.State == policy.Open {
							longest = max(longest, time.Until(circuit.NextProbe))
						}
						if transport.Refused(resp) {
							time.Sleep(c.most / 10)
						}
					}
					require.Equal(t, c.most, longest)
					well = true
					time.Sleep(c.most)
					for i := 0; stateOf(t, rt, here) != policy.Closed; i++ {
						require.Less(t, i, 100, "one that is well again is not left open")
						request(t, rt, t.Context())
					}
				})
			})
		}
	}
}

func TestWhateverAnUpstreamSendsIsNoRefusal(t *testing.T) {
	genuine, err := openTransport(answer(200, "")).RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil))
	require.NoError(t, err)
	require.True(t, transport.Refused(genuine))
	dump, err := httputil.DumpResponse(genuine, true) // to the byte what a refusal is on the wire
	require.NoError(t, err)
	require.Contains(t, string(dump), "X-Fusebox: open\r\n")

	const start = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
	for name, wire := range map[string]string{
		"a refusal, byte by byte": string(dump),
		"lower case":              start + "x-fusebox: refused\r\n\r\n",
		"upper case and spaces":   start + "X-FUSEBOX:   refused  \r\n\r\n",
		"twice":                   start + "X-Fusebox: open\r\nX-Fusebox: refused\r\n\r\n",
		"on two lines":            start + "X-Fusebox: ref\r\n used\r\n\r\n",
		"empty":                   start + "X-Fusebox:\r\n\r\n",
		"a list":                  start + "X-Fusebox: refused, refused\r\n\r\n",
		"after a 103":             "HTTP/1.1 103 Early Hints\r\nX-Fusebox: open\r\n\r\n" + start + "X-Fusebox: refused\r\n\r\n",
		"a trailer": start + "Transfer-Encoding: chunked\r\nTrailer: X-Fusebox\r\n\r\n" +
			"3\r\nhey\r\n0\r\nX-Fusebox: open\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			upstream := rawServer(t, func(conn net.Conn) { io.WriteString(conn, wire) })
			target, err := url.Parse(upstream)
			require.NoError(t, err)
			proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
			defer proxy.Close()
			for _, url := range []string{upstream, proxy.URL} {
				client, rt := newClient(t)
				for range 6 {
					resp, _ := get(t, client, url)
					require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
					require.False(t, transport.Refused(resp))
					require.False(t, transport.Refused(&http.Response{Header: resp.Trailer}))
				}
				require.EqualValues(t, 6, rt.Circuits()[0].FailedCalls, "nor does it get out of being counted")
				resp, _ := get(t, client, url)
				require.True(t, transport.Refused(resp))
			}
		})
	}
}

func TestARefusalOfAnotherProcessIsAFailureOfTheUpstreamAsked(t *testing.T) {
	behind := transport.New(nil)
	t.Cleanup(behind.CloseIdleConnections)
	behind.SetState(here, policy.Open)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: behind,
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: here.Scheme, Host: here.Host}) },
	})
	defer proxy.Close()
	client, rt := newClient(t)
	resp, body := get(t, client, proxy.URL)
	require.Equal(t, "open", resp.Header.Get("X-Fusebox"))
	require.Contains(t, body, "fusebox: circuit open for http://upstream.test")
	require.False(t, transport.Refused(resp))
	require.EqualValues(t, 1, rt.Circuits()[0].FailedCalls)
}

func TestACacheThatKeepsAResponseKeepsNoRefusal(t *testing.T) {
	genuine, err := openTransport(answer(200, "")).RoundTrip(httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil))
	require.NoError(t, err)
	dump, err := httputil.DumpResponse(genuine, true)
	require.NoError(t, err)
	cached, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(dump)), nil)
	require.NoError(t, err)
	require.Equal(t, genuine.Header.Get("X-Fusebox"), cached.Header.Get("X-Fusebox"))
	require.False(t, transport.Refused(cached))
	both := http.Header{"X-Fusebox": {genuine.Header.Get("X-Fusebox"), cached.Header.Get("X-Fusebox")}}
	require.False(t, transport.Refused(&http.Response{Header: both}), "a refusal's value and an upstream's in one header")
}

func TestEndlessHeadersEndAtTheBasesLimitAndAreFailures(t *testing.T) {
	const limit = 64 << 10
	for name, piece := range map[string]string{
		"one header":    strings.Repeat("x", 1000),
		"many headers":  "X-Y: " + strings.Repeat("x", 1000) + "\r\n",
		"many statuses": "\r\nHTTP/1.1 103 Early Hints\r\nX-Y: " + strings.Repeat("x", 1000) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			url := rawServer(t, func(conn net.Conn) {
				_, err := io.WriteString(conn, "HTTP/1.1 102 Processing\r\nX-Fusebox: ")
				for n := 0; err == nil; {
					n, err = io.WriteString(conn, piece)
					sent.Add(int64(n))
				}
			})
			rt := transport.New(&http.Transport{MaxResponseHeaderBytes: limit, DisableKeepAlives: true})
			client := &http.Client{Transport: rt}
			for range 6 {
				_, err := client.Get(url)
				require.Error(t, err)
			}
			require.Less(t, sent.Load(), int64(6*20<<20), "what is not read is only in the kernel")
			c := rt.Circuits()[0]
			require.Equal(t, policy.Open, c.State)
			require.EqualValues(t, 6, c.FailedCalls)
		})
	}
}

func TestOfAnEndlessBodyNothingIsKept(t *testing.T) {
	block := make([]byte, 64<<10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	client, rt := newClient(t, transport.WithClassifier(policy.OnBody(100, func(*http.Response, []byte) policy.Outcome { return policy.Undecided })))
	resp, err := client.Get(server.URL)
	require.NoError(t, err)
	defer resp.Body.Close()
	read := func(n int64) {
		_, err := io.CopyN(io.Discard, resp.Body, n)
		require.NoError(t, err)
	}
	read(1 << 20)
	before := testkit.LiveHeap()
	read(100 << 20)
	require.Less(t, testkit.LiveHeap()-before, int64(2<<20))
	require.Equal(t, policy.Closed, rt.Circuits()[0].State)
}

// trickle sends a byte a second until the caller goes away.
func trickle(w http.ResponseWriter, r *http.Request) {
	for {
		io.WriteString(w, ".")
		w.(http.Flusher).Flush()
		select {
		case <-time.After(time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

func TestNoProbeHangsForGood(t *testing.T) {
	hostile := map[string]http.HandlerFunc{
		"never answers": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"headers and no body": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"a byte a second": trickle,
		"switches protocols": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			time.Sleep(10 * time.Minute) // who got this connection has it, whatever becomes of the request's context
		},
		"switches protocols and fails": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusBadGateway)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
	}
	policies := map[string]struct {
		policy policy.Policy
		within time.Duration // an upstream that is well again has its traffic back
	}{
		"adaptive": {policy.Adaptive{}, 20 * time.Second},
		"classic":  {policy.Classic{OpenFor: 10 * time.Second, Probes: 2}, time.Minute + 15*time.Second}, // the lease and the open time
		"both": {policy.Rules{
			Trip: policy.Evidence{}, Probe: policy.OpenTime{For: 10 * time.Second, Lease: 5 * time.Second}, Recover: policy.Ramp{},
		}, 30 * time.Second},
	}
	gap := 500 * time.Millisecond
	if testkit.Brief() {
		gap *= 2
	}
	try := testkit.OneIn(3)
	for what, misbehave := range hostile {
		for name, c := range policies {
			if !try() {
				continue
			}
			t.Run(what+", "+name, func(t *testing.T) {
				var well atomic.Bool
				var reached atomic.Int64
				handler := func(w http.ResponseWriter, r *http.Request) {
					reached.Add(1)
					if !well.Load() {
						misbehave(w, r)
					}
				}
				bubble.Serve(t, nil, handler, func(t *testing.T, base *http.Transport) {
					rt := transport.New(base, transport.WithPolicy(c.policy))
					rt.SetState(here, policy.Open)
					ctx, cancel := context.WithCancel(t.Context())
					requests := func(during time.Duration) {
						for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(gap) {
							go request(t, rt, ctx) // nobody has a deadline
						}
					}
					requests(2 * time.Minute)
					before := reached.Load()
					requests(2 * time.Minute)
					require.Greater(t, reached.Load(), before, "there are probes still")

					well.Store(true)
					requests(c.within)
					for range 20 {
						resp, err := request(t, rt, ctx)
						require.NoError(t, err)
						require.False(t, transport.Refused(resp))
					}
					require.Equal(t, policy.Closed, stateOf(t, rt, here))
					cancel()
					time.Sleep(10 * time.Minute)
				})
			})
		}
	}
}

func TestATricklingUpstreamDoesNotKeepACircuitHalfOpen(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(50 * time.Millisecond)
		trickle(w, r)
	}
	bubble.Serve(t, nil, handler, func(t *testing.T, base *http.Transport) {
		rt := transport.New(base)
		rt.SetState(here, policy.Open)
		ctx, cancel := context.WithCancel(t.Context())
		for range 20 * 15 {
			go request(t, rt, ctx)
			time.Sleep(50 * time.Millisecond)
		}
		require.Equal(t, policy.Closed, stateOf(t, rt, here), "half-open calls wait a second for their bodies, not for good")
		cancel()
		synctest.Wait()
	})
}

// An upstream that knows the rules and the state, answers at once, and gets as many requests as it likes, changes states
// no faster than the wait for a probe lets it.
func TestAnUpstreamThatFlapsChangesStatesABoundedNumberOfTimes(t *testing.T) {
	seconds := 5
	if testkit.Brief() {
		seconds = 1
	}
	for _, c := range []struct {
		name   string
		policy policy.Policy
		most   int // changes of state
	}{
		{"adaptive", policy.Adaptive{}, 3 * 20 * seconds}, // three in 50 ms at the most
		{"classic", policy.Classic{OpenFor: time.Second}, 3 * seconds},
	} {
		for _, failFrom := range []policy.State{policy.HalfOpen, policy.Closed} {
			t.Run(fmt.Sprint(c.name, ", fails when ", failFrom), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					changes := 0
					state := policy.Closed
					rt := transport.New(roundTripper(func(req *http.Request) (*http.Response, error) {
						if state == policy.Open || state == policy.HalfOpen && failFrom == policy.Closed {
							return answer(200, "")(req)
						}
						return answer(500, "")(req)
					}), transport.WithPolicy(c.policy), transport.WithObserver(transport.Observer{
						OnStateChange: func(e transport.StateChange) { state = e.To; changes++ },
					}))
					req := httptest.NewRequest(http.MethodGet, "http://upstream.test/", nil)
					for range seconds * 1000 {
						for range 20 {
							rt.RoundTrip(req)
						}
						time.Sleep(time.Millisecond)
					}
					require.LessOrEqual(t, changes, c.most)
					t.Logf("%d changes a second", changes/seconds)
				})
			})
		}
	}
}

// crafted are URLs that try to pass for http://victim.test and its kin, or do.
var crafted = []string{
	"http://victim.test", "http://VICTIM.test:80", "http://victim.test.", "http://victim.test:080", "https://victim.test:443", "https://victim.test",
	"http://victim.test:443", "https://victim.test:80", "http://victim.test:8080", "http://victim.test.:8080",
	"http://victim.test@evil.test", "http://victim.test:80@evil.test", "http://evil.test#victim.test", "http://evil.test?@victim.test",
	"http://evil.test/@victim.test", "http://user@victim.test@evil.test", "http://evil.test:80@victim.test", "http://victim.test%2f@evil.test",
	"http://victim.test.evil.test", "http://evil.test\\@victim.test", "http://victim.test;evil.test", "http://victim.test,evil.test",
	"http://victim.test%00.evil.test", "http://victim.test%20", "http://%76ictim.test", "http://victim%2etest", "http://victim.test%EF%BC%8F.evil.test",
	"http://victim\u3002test", "http://victim\uff0etest", "http://ｖictim.test", "http://vıctim.test", "http://vi\u00adctim.test", "http://vi\u200dctim.test",
	"http://xn--vctim-q4a.test", "http://víctim.test", "http://VÍCTIM.test", "http://vi\u0301ctim.test", "http://xn--vctim-ypa.test",
	"http://stra\u00dfe.test", "http://strasse.test", "http://xn--strae-oqa.test", "http://\u212a.test", "http://k.test", "http://\u212a_.test", "http://k_.test",
	"http://127.0.0.1", "http://127.1", "http://2130706433", "http://0x7f000001", "http://0177.0.0.1", "http://127.0.0.1.", "http://127.0.0.1:0080",
	"http://[::1]", "http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]", "http://[0:0:0:0:0:0:0:1]", "http://[::1%25lo]", "http://[::1%25LO]", "http://[::1%lo]",
	"http://[::01]:80", "http://[::127.0.0.1]", "http://[::1].evil.test", "http://[::1]evil.test", "http://[v1.fe80::a+en1]",
	"http://victim.test:http", "http://victim.test:65616", "http://victim.test:-80", "http://victim.test:+80", "http://victim.test: 80", "http://victim.test:0x50",
	"HTTP://victim.test", "ftp://victim.test", "//victim.test", "http:victim.test", "http:///victim.test", "http://", "http:// victim.test", "http://victim.test..",
}

// asDialed is the address in a form that is the same for all that a dialer takes for the same.
func asDialed(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if n, err := net.LookupPort("tcp", port); err == nil {
		port = fmt.Sprint(n)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.String() + " " + port
	}
	lower := strings.Map(func(r rune) rune { // the KELVIN SIGN is no k
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, host)
	return strings.TrimSuffix(lower, ".") + " " + port
}

// TestOneCircuitIsOneAddress sends crafted requests by a real http.Transport, and looks whom it would connect to: if two
// requests share a circuit, they share the address too.
func TestOneCircuitIsOneAddress(t *testing.T) {
	errDialed := errors.New("dialed")
	var dialed string
	dial := func(_ context.Context, _, address string) (net.Conn, error) {
		dialed = address
		return nil, errDialed
	}
	var ended transport.CallEnd
	rt := transport.New(&http.Transport{DialContext: dial, DialTLSContext: dial}, transport.WithPolicy(policy.Classic{Failures: 1 << 30}),
		transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { ended = e }}))
	disguises := map[string]func(*http.Request){
		"as it is":           func(*http.Request) {},
		"Host header":        func(r *http.Request) { r.Host = "victim.test"; r.Header.Set("Host", "victim.test") },
		"opaque":             func(r *http.Request) { r.URL.Opaque = "//victim.test/" },
		"opaque, absolute":   func(r *http.Request) { r.URL.Opaque = "http://victim.test/" },
		"CONNECT":            func(r *http.Request) { r.Method = http.MethodConnect; r.Host = "victim.test:80" },
		"X-Forwarded-Host":   func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "victim.test") },
		"RawPath":            func(r *http.Request) { r.URL.Path, r.URL.RawPath = "//victim.test/", "//victim.test%2f" },
		"user in the URL":    func(r *http.Request) { r.URL.User = url.UserPassword("victim.test", "80") },
		"lower-case connect": func(r *http.Request) { r.Method = "connect" },
	}
	var urls []*url.URL
	for _, text := range crafted {
		if parsed, err := url.Parse(text); err == nil {
			urls = append(urls, parsed)
		}
		scheme, host, _ := strings.Cut(text, "://") // the same, past url.Parse
		urls = append(urls, &url.URL{Scheme: scheme, Host: host})
	}
	addresses := map[transport.Key]string{}
	count := 0
	for _, u := range urls {
		for name, disguise := range disguises {
			copied := *u
			req := &http.Request{Method: http.MethodGet, URL: &copied, Header: http.Header{}}
			disguise(req)
			dialed = ""
			_, err := rt.RoundTrip(req)
			if !errors.Is(err, errDialed) {
				require.NotEqual(t, policy.Failure, ended.Outcome, "%q, %s: what dials nobody blames nobody", u, name)
				continue
			}
			count++
			key := ended.Key
			if known, ok := addresses[key]; ok {
				require.Equal(t, known, asDialed(dialed), "%v by %q, %s", key, u, name)
			}
			addresses[key] = asDialed(dialed)
		}
	}
	require.Equal(t, "victim.test 80", addresses[transport.Key{Scheme: "http", Host: "victim.test"}])
	require.Greater(t, len(addresses), 40)
	require.Greater(t, count, 800)
}

func TestNobodyIsBlamedForWhereTheyAreRedirected(t *testing.T) {
	victim := testkit.NewServer(t)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/to":
			http.Redirect(w, r, r.URL.Query().Get("url"), http.StatusTemporaryRedirect)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer evil.Close()
	open := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, evil.URL+"/fail", http.StatusFound) // an open redirect of somebody who is well
	}))
	defer open.Close()
	victimHost, evilHost := strings.TrimPrefix(victim.URL, "http://"), strings.TrimPrefix(evil.URL, "http://")
	client, rt := newClient(t)
	for range 20 {
		for _, location := range []string{
			"http://" + victimHost + "@" + evilHost + "/fail", "//" + evilHost + "/fail?http://" + victimHost, "/fail#" + victim.URL, "/" + victim.URL,
		} {
			req, err := http.NewRequest(http.MethodGet, evil.URL+"/to?url="+url.QueryEscape(location), nil)
			require.NoError(t, err)
			req.Host = victimHost
			resp, err := client.Do(req)
			require.NoError(t, err)
			resp.Body.Close()
		}
		get(t, client, open.URL)
	}
	for _, url := range []string{victim.URL, open.URL} {
		get(t, client, url)
		c, ok := rt.Circuit(transport.Key{Scheme: "http", Host: strings.TrimPrefix(url, "http://")})
		require.True(t, ok)
		require.Equal(t, policy.Closed, c.State)
		require.Zero(t, c.FailedCalls)
	}
	blamed := uint64(0)
	for _, c := range rt.Circuits() {
		if c.Key.Host == evilHost { // itself, and its parts that were cut out
			blamed += c.FailedCalls + c.Refusals
		}
	}
	require.EqualValues(t, 101, blamed)
	require.EqualValues(t, 1, victim.Calls.Load())
}

func TestNoKeyBreaksOutOfALine(t *testing.T) {
	hosts := []string{
		"a\r\nSet-Cookie: x=y\r\n\r\n<script>alert(1)</script>", "a\nlevel=error msg=forged", "a\r", "\x1b[2J\x1b]0;title\x07", "a\x00b", "\xff\xfe\xc0\x80",
		"a\u0085b", "a\u2028b\u2029c", "\u202egro.elpmaxe", "a\tb", "\u200b\ufeff", "<img src=x onerror=alert(1)>", "`${jndi:ldap://x}`", "%0d%0aX: y", "a\x7f\x9b31m",
		strings.Repeat("long.", 100), strings.Repeat("\x1b", 500),
	}
	oneLine := func(t *testing.T, text string) {
		t.Helper()
		require.True(t, utf8.ValidString(text))
		require.Equal(t, -1, strings.IndexFunc(text, func(r rune) bool {
			return !unicode.IsGraphic(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r)
		}), "%.200q", text)
	}
	detail := func(r *http.Request) transport.Key { return transport.Key{Detail: r.URL.Host} }
	for _, host := range hosts {
		for name, opts := range map[string][]transport.Option{
			"default": nil,
			"detail":  {transport.WithKey(detail)},
			"fixed":   {transport.WithRefusal(transport.Response(503, nil, ""))},
			"error":   {transport.WithRefusalError()},
			"no answer": {transport.WithRefusal(func(*http.Request, *transport.RefusedError) (*http.Response, error) {
				return nil, nil
			})},
		} {
			t.Run(fmt.Sprintf("%s/%.20q", name, host), func(t *testing.T) {
				req := &http.Request{Method: http.MethodGet, URL: &url.URL{Scheme: "http", Host: host}, Header: http.Header{}}
				observed := ""
				rt := transport.New(answer(200, ""), append(opts, transport.WithObserver(transport.Observer{
					OnRefusal: func(r transport.RefusalEvent) { observed = fmt.Sprint(r.Key, r.Error) },
				}))...)
				key := transport.Upstream(req)
				if name == "detail" {
					key = detail(req)
				}
				rt.SetState(key, policy.Open)
				resp, err := rt.RoundTrip(req)
				oneLine(t, observed)
				oneLine(t, fmt.Sprintf("%v %s %+v", rt.Circuits()[0].Key, rt.Circuits()[0].Key, rt.Circuits()[0].Key))
				if err != nil {
					require.ErrorIs(t, err, transport.ErrOpen)
					oneLine(t, err.Error())
					return
				}
				require.True(t, transport.Refused(resp))
				var wire bytes.Buffer
				require.NoError(t, resp.Write(&wire))
				parsed, err := http.ReadResponse(bufio.NewReader(&wire), req)
				require.NoError(t, err)
				body, err := io.ReadAll(parsed.Body)
				require.NoError(t, err)
				line, ended := strings.CutSuffix(string(body), "\n")
				require.True(t, ended)
				oneLine(t, line)
				require.LessOrEqual(t, len(line), 200+6*len(host))
				require.Equal(t, "text/plain; charset=utf-8", parsed.Header.Get("Content-Type"))
				require.Equal(t, "nosniff", parsed.Header.Get("X-Content-Type-Options"))
				for name, values := range parsed.Header {
					require.Contains(t, []string{"Content-Type", "X-Content-Type-Options", "Retry-After", "X-Fusebox", "Content-Length"}, name)
					require.Len(t, values, 1)
				}
			})
		}
	}
}
