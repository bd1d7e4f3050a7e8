package transport

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	"github.com/fusebox-go/fusebox/policy"
)

// ProxyErrors has an *http.Transport tell what its forward proxy failed from what the upstream did, which is Ignored
// and a Failure: by itself it leaves no more of the proxy's answer to CONNECT than a text, and nothing of a proxy that
// closes without one. Such calls end with a *policy.ProxyError of the same text. New(nil) does so by itself; a base of
// your own is to be given it before its first call, and is what it returns:
//
//	base := transport.ProxyErrors(http.DefaultTransport.(*http.Transport).Clone())
//	rt := transport.New(base)
//
// It sets Proxy, if that is set, OnProxyConnectResponse and DialContext to functions that call those that were there.
// It can be left away where there is no proxy. What it cannot tell, so that it is a Failure of each upstream: a proxy
// behind TLS that closes without an answer, one that answers nothing at all, and one that answers CONNECT with
// something that is not HTTP or with half of a status line. Nor one that fails a call of plain http, which answers as
// an upstream would, but for 407.
func ProxyErrors(base *http.Transport) *http.Transport {
	mustNotBeNil("ProxyErrors", base == nil)
	onAnswer := base.OnProxyConnectResponse
	base.OnProxyConnectResponse = func(
		ctx context.Context, proxy *url.URL, req *http.Request, resp *http.Response,
	) error {
		if onAnswer != nil {
			if err := onAnswer(ctx, proxy, req, resp); err != nil {
				return err
			}
		}
		if resp.StatusCode != http.StatusOK {
			return policy.NewProxyError(resp)
		}
		return nil
	}
	var known proxies
	known.watch(base)
	return base
}

// mostProxies bounds the memory of a Proxy function that makes hosts up.
const mostProxies = 64

// proxies are the addresses of the forward proxies in use.
type proxies struct {
	atomic.Pointer[map[string]struct{}]
}

func (p *proxies) watch(base *http.Transport) {
	proxyOf := base.Proxy
	if proxyOf == nil {
		return
	}
	base.Proxy = func(req *http.Request) (*url.URL, error) {
		proxy, err := proxyOf(req)
		if err != nil {
			return nil, &policy.ProxyError{Err: err}
		}
		if proxy != nil {
			p.add(proxy)
		}
		return proxy, nil
	}
	//lint:ignore SA1019 it is somebody's own
	if base.DialContext == nil && base.Dial != nil {
		return
	}
	//lint:ignore SA1019 http.Transport looks at it, too
	if base.DialContext == nil && base.TLSClientConfig == nil && base.DialTLSContext == nil && base.DialTLS == nil {
		base.ForceAttemptHTTP2 = true // as it does without a DialContext
	}
	dial := base.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	base.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if all := p.Load(); err == nil && all != nil {
			if _, is := (*all)[address]; is {
				return &proxyConn{Conn: conn}, nil
			}
		}
		return conn, err
	}
}

func (p *proxies) add(proxy *url.URL) {
	port := proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
	}
	address := net.JoinHostPort(proxy.Hostname(), port)
	for {
		old := p.Load()
		var all map[string]struct{}
		if old != nil {
			if _, is := (*old)[address]; is || len(*old) >= mostProxies {
				return
			}
			all = maps.Clone(*old)
		} else {
			all = make(map[string]struct{}, 1)
		}
		all[address] = struct{}{}
		if p.CompareAndSwap(old, &all) {
			return
		}
	}
}

// proxyConn is a connection to a proxy. If that was asked for a connection to an upstream, and ends before it said
// anything, the error is its own.
type proxyConn struct {
	net.Conn
	asked    atomic.Uint32 // the first byte of CONNECT or of a SOCKS greeting; 0 if the first write was neither
	answered atomic.Bool
	written  bool
}

const socks5 = 5

func (c *proxyConn) Write(b []byte) (int, error) {
	if !c.written {
		c.written = true
		if bytes.HasPrefix(b, []byte("CONNECT ")) || bytes.HasPrefix(b, []byte{socks5}) {
			c.asked.Store(uint32(b[0]))
		}
	}
	return c.Conn.Write(b)
}

func (c *proxyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	switch {
	case c.answered.Load():
	case n > 0:
		c.answered.Store(true)
	case err != nil && c.asked.Load() != 0:
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
			return n, err // it may be waiting for the upstream
		}
		if err == io.EOF && c.asked.Load() != socks5 {
			err = io.ErrUnexpectedEOF // as http.ReadResponse has it
		}
		return n, &policy.ProxyError{Err: err}
	}
	return n, err
}

// ReadFrom lets a file go to the connection as it did.
func (c *proxyConn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite does what net/http's own body of an upgraded connection asks for.
func (c *proxyConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", http.ErrNotSupported)
}

// noProxy says what policy.Call.NoProxy does. The base is asked only if it is, or is layers around, an *http.Transport.
// A proxy of SOCKS answers nothing in the upstream's place.
func (k *call) noProxy(resp *http.Response) bool {
	if resp == nil || resp.StatusCode != http.StatusProxyAuthRequired {
		return false
	}
	rt := k.t.base
	for range mostLayers {
		switch layer := rt.(type) {
		case *http.Transport:
			if layer.Proxy == nil {
				return true
			}
			proxy, err := layer.Proxy(k.req)
			return err == nil && (proxy == nil || proxy.Scheme == "socks5" || proxy.Scheme == "socks5h")
		case interface{ WrappedRoundTripper() http.RoundTripper }:
			rt = layer.WrappedRoundTripper()
		default:
			return false
		}
	}
	return false
}
