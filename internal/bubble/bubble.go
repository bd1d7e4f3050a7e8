// Package bubble is real HTTP in virtual time, for tests.
package bubble

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
)

// pipe is the network of one server within a synctest bubble.
type pipe struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipe) Close() error   { close(p.done); return nil }
func (p *pipe) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
func (p *pipe) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Serve runs a real http.Server and a real http.Transport in virtual time, and fails the test if a goroutine is left at
// its end. They speak the protocols; nil means those that net/http speaks by itself.
func Serve(
	t *testing.T, speak *http.Protocols, handler http.HandlerFunc, test func(t *testing.T, base *http.Transport),
) {
	synctest.Test(t, func(t *testing.T) {
		network := &pipe{conns: make(chan net.Conn), done: make(chan struct{})}
		server := &http.Server{Handler: handler, Protocols: speak}
		served := make(chan struct{})
		go func() { server.Serve(network); close(served) }()
		base := &http.Transport{DialContext: network.dial, Protocols: speak}
		test(t, base)
		base.CloseIdleConnections()
		server.Close()
		<-served
		synctest.Wait() // and the bubble ends only if no goroutine is left
	})
}
