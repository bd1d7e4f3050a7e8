package transport_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// proxied returns a base that goes through a proxy, which serve does for each connection.
func proxied(t *testing.T, scheme string, serve func(net.Conn)) *http.Transport {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
				c.(*net.TCPConn).CloseWrite() // and no reset
				io.Copy(io.Discard, c)
			}()
		}
	}()
	base := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: scheme, Host: l.Addr().String()})}
	t.Cleanup(base.CloseIdleConnections)
	return base
}

func closesAtOnce(net.Conn) {}

func answersConnect(text string) func(net.Conn) {
	return func(c net.Conn) {
		c.Read(make([]byte, 4096))
		io.WriteString(c, text)
	}
}

// outcome makes a call of an upstream that is nowhere and returns its end, and what the caller got.
func outcome(t *testing.T, base http.RoundTripper, target string) (transport.CallEnd, error) {
	var end transport.CallEnd
	rt := transport.New(base, transport.WithObserver(transport.Observer{OnOutcome: func(e transport.CallEnd) { end = e }}))
	req, err := http.NewRequest(http.MethodGet, target, nil)
	require.NoError(t, err)
	resp, err := rt.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	return end, err
}

func TestProxyErrorsTellTheProxyFromTheUpstreamByWhatItDid(t *testing.T) {
	for name, test := range map[string]struct {
		scheme string
		serve  func(net.Conn)
		target string
		want   policy.Outcome
		status int
	}{
		"403 in words of its own":          {"http", answersConnect("HTTP/1.1 403 Not You\r\n\r\n"), "https://a.test", policy.Ignored, 403},
		"502 in words of its own":          {"http", answersConnect("HTTP/1.1 502 Nobody There\r\n\r\n"), "https://a.test", policy.Failure, 502},
		"502 with the words of a 403":      {"http", answersConnect("HTTP/1.1 502 Forbidden\r\n\r\n"), "https://a.test", policy.Failure, 502},
		"a status without words":           {"http", answersConnect("HTTP/1.1 403\r\n\r\n"), "https://a.test", policy.Ignored, 403},
		"no answer to CONNECT":             {"http", func(c net.Conn) { c.Read(make([]byte, 4096)) }, "https://a.test", policy.Ignored, 0},
		"closes as it accepts":             {"http", closesAtOnce, "https://a.test", policy.Ignored, 0},
		"closes in place of a greeting":    {"socks5", func(c net.Conn) { c.Read(make([]byte, 4096)) }, "http://a.test", policy.Ignored, 0},
		"closes when it has been greeted":  {"socks5", func(c net.Conn) { c.Read(make([]byte, 3)); io.WriteString(c, "\x05\x00"); c.Read(make([]byte, 99)) }, "http://a.test", policy.Failure, 0},
		"closes in place of a response":    {"http", func(c net.Conn) { c.Read(make([]byte, 4096)) }, "http://a.test", policy.Failure, 0},
		"connects and the upstream closes": {"http", answersConnect("HTTP/1.1 200 OK\r\n\r\n"), "https://a.test", policy.Failure, 0},
	} {
		bare, errBare := outcome(t, proxied(t, test.scheme, test.serve), test.target)
		require.Zero(t, bare.Cause.Status, name)
		end, err := outcome(t, transport.ProxyErrors(proxied(t, test.scheme, test.serve)), test.target)
		require.Error(t, err, name)
		require.Equal(t, test.want.String(), end.Outcome.String(), "%s: %v", name, err)
		require.Equal(t, test.status, end.Cause.Status, name)
		text := errBare.Error()
		text = text[strings.LastIndex(text, "->")+1:] // without the port of the proxy
		require.True(t, strings.HasSuffix(err.Error(), text), "%q, and without ProxyErrors %q", err, errBare)
	}
}

func TestTheCertificateOfAProxyIsNotThatOfTheUpstream(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	proxy, err := url.Parse(server.URL)
	require.NoError(t, err)
	for _, target := range []string{"http://a.test", "https://a.test"} {
		end, err := outcome(t, &http.Transport{Proxy: http.ProxyURL(proxy)}, target)
		require.ErrorAs(t, err, new(*tls.CertificateVerificationError))
		require.Equal(t, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, end.Cause)
	}
}

func TestAProxyFunctionThatFailsSaysNothingOfTheUpstream(t *testing.T) {
	own := errors.New("no proxy today")
	base := transport.ProxyErrors(&http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, own }})
	end, err := outcome(t, base, "http://a.test")
	require.ErrorIs(t, err, own)
	require.Equal(t, own.Error(), err.Error())
	require.Equal(t, policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}, end.Cause)
}

func TestProxyErrorsKeepTheFunctionsOfTheBase(t *testing.T) {
	own := errors.New("not this one")
	base := proxied(t, "http", answersConnect("HTTP/1.1 502 Bad Gateway\r\n\r\n"))
	dialed := 0
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed++
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	base.OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
		require.Equal(t, 502, resp.StatusCode)
		return own
	}
	_, err := outcome(t, transport.ProxyErrors(base), "https://a.test")
	require.Same(t, own, err)
	require.Equal(t, 1, dialed)
	require.False(t, base.ForceAttemptHTTP2, "it has not been asked for with a dialer of its own")
	require.PanicsWithValue(t, "fusebox/transport: ProxyErrors got nil; leave it out for the default", func() { transport.ProxyErrors(nil) })
}

func TestProxyErrorsLeaveHTTP2AsItWas(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	upstream := server.Listener.Addr().String()
	base := proxied(t, "http", func(c net.Conn) {
		there, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer there.Close()
		c.Read(make([]byte, 4096))
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		go io.Copy(there, c)
		io.Copy(c, there)
	})
	transport.ProxyErrors(base)
	base.TLSClientConfig = server.Client().Transport.(*http.Transport).TLSClientConfig
	resp, err := (&http.Client{Transport: transport.New(base)}).Get("https://example.com/")
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "HTTP/2.0", string(text))
}

func TestAPasswordThatAProxyWantsClosesNoCircuitOfADeadUpstream(t *testing.T) {
	status := http.StatusServiceUnavailable
	rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
	}))
	call := func() {
		req, err := http.NewRequest(http.MethodGet, "http://a.test", nil)
		require.NoError(t, err)
		resp, err := rt.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
	}
	synctest.Test(t, func(t *testing.T) {
		for range 10 {
			call()
		}
		require.Equal(t, policy.Open, rt.Circuits()[0].State)
		status = http.StatusProxyAuthRequired
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			call()
		}
		require.Equal(t, policy.Open, rt.Circuits()[0].State)
		status = http.StatusOK
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			call()
		}
		require.Equal(t, policy.Closed, rt.Circuits()[0].State)
	})
}

func TestTroubleOfTheProxyIsToldOnceAndNotOfEachCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // for a timer's goroutine
		var told []transport.LocalTrouble
		var bad atomic.Bool
		rt := transport.New(base(func(req *http.Request) (*http.Response, error) {
			if bad.Load() && req.URL.Host != "direct.test" {
				return nil, &net.OpError{Op: "proxyconnect", Err: errors.New("connection refused")}
			}
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		}), transport.WithObserver(transport.Observer{OnLocalTrouble: func(l transport.LocalTrouble) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, l)
		}}))
		news := func() []transport.LocalTrouble {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(told)
		}
		call := func(host string) {
			req, err := http.NewRequest(http.MethodGet, "https://"+host, nil)
			require.NoError(t, err)
			rt.RoundTrip(req)
		}
		for range 3 {
			call("a.test")
		}
		bad.Store(true)
		begin := time.Now()
		for range 1000 {
			call("a.test")
			call("b.test")
			call("direct.test")
		}
		cause := policy.Cause{Phase: policy.PhaseConnect, Kind: policy.KindLocal}
		require.Equal(t, []transport.LocalTrouble{{At: begin, Since: begin, Cause: cause}}, news())
		bad.Store(false)
		call("b.test")
		require.Len(t, news(), 1, "another upstream says nothing of that one's way")
		call("a.test")
		require.Len(t, news(), 2)
		require.Equal(t, transport.LocalTrouble{At: begin, Since: begin, Cause: cause, Over: true}, news()[1])
		bad.Store(true)
		call("a.test")
		require.Len(t, news(), 2, "not twice in a minute")
		time.Sleep(time.Minute)
		call("a.test")
		require.Len(t, news(), 3)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, news(), 4, "it is over when nobody has asked for an hour")
		require.True(t, news()[3].Over)
		for _, c := range rt.Circuits() {
			require.Equal(t, policy.Closed, c.State)
		}
	})
}

func TestA407OverPlainHTTPIsTheUpstreamsOwnWhereNoProxyCouldHaveAnsweredIt(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusProxyAuthRequired)
		io.WriteString(w, "who are you")
	}))
	t.Cleanup(upstream.Close)
	at, err := url.Parse(upstream.URL)
	require.NoError(t, err)
	direct := new(http.Transport)
	byRequest := &http.Transport{Proxy: func(req *http.Request) (*url.URL, error) {
		if req.URL.Path == "/proxied" {
			return at, nil
		}
		return nil, nil
	}}
	socks := &http.Transport{
		Proxy: http.ProxyURL(&url.URL{Scheme: "socks5", Host: "127.0.0.1:1"}),
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return socksTo(at.Host)
		},
	}
	atEnd := transport.WithClassifier(policy.AtEnd(0, policy.DefaultClassifier), policy.DefaultClassifier)
	for name, c := range map[string]struct {
		base http.RoundTripper
		path string
		want policy.Outcome
	}{
		"no proxy":                    {direct, "", policy.Success},
		"no proxy, with ProxyErrors":  {transport.ProxyErrors(new(http.Transport)), "", policy.Success},
		"no proxy, under a layer":     {layer{direct}, "", policy.Success},
		"no proxy, under a Transport": {transport.New(direct), "", policy.Success},
		"none for this request":       {byRequest, "/direct", policy.Success},
		"one for this request":        {byRequest, "/proxied", policy.Ignored},
		"a proxy of SOCKS":            {socks, "", policy.Success},
		"a base that nobody knows":    {base(direct.RoundTrip), "", policy.Ignored},
	} {
		for classifiers, options := range map[string][]transport.Option{"": nil, ", judged at its end": {atEnd}} {
			t.Run(name+classifiers, func(t *testing.T) {
				var ends []transport.CallEnd
				trouble := 0
				rt := transport.New(c.base, append(options, transport.WithObserver(transport.Observer{
					OnOutcome:      func(e transport.CallEnd) { ends = append(ends, e) },
					OnLocalTrouble: func(transport.LocalTrouble) { trouble++ },
				}))...)
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, upstream.URL+c.path, nil)
				require.NoError(t, err)
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				require.Len(t, ends, 1)
				require.Equal(t, c.want, ends[0].Outcome)
				require.Equal(t, c.want == policy.Ignored, trouble == 1)
			})
		}
	}
}

// socksTo is a connection to a proxy of SOCKS that wants no password, and has connected to an address.
func socksTo(address string) (net.Conn, error) {
	client, proxy := net.Pipe()
	upstream, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	go func() {
		defer proxy.Close()
		b := make([]byte, 512)
		proxy.Read(b)
		io.WriteString(proxy, "\x05\x00")
		proxy.Read(b)
		io.WriteString(proxy, "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
		go func() {
			defer upstream.Close()
			io.Copy(upstream, proxy)
		}()
		io.Copy(proxy, upstream)
	}()
	return client, nil
}
