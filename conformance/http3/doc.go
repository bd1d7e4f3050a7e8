// Package http3 is a test of what calls over quic-go's HTTP/3 say of their upstream. It is a module of its own, so that
// nobody else needs quic-go.
package http3
