package transport

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// duplex reports whether the body is a connection: it belongs to the caller from now on. A switch of protocols that
// nobody asked for gives none, but a body like any other, or an upstream could leave policy.Limits by a 101. With any
// other status it is the base that knows what it does.
func duplex(req *http.Request, resp *http.Response) bool {
	if _, writable := resp.Body.(io.Writer); !writable {
		return false
	}
	// A layer below may have asked for it on its own.
	return resp.StatusCode != http.StatusSwitchingProtocols || askedFor(req, resp) ||
		resp.Request != nil && askedFor(resp.Request, resp)
}

// askedFor reports whether a request offers all protocols that the response switches to.
func askedFor(req *http.Request, resp *http.Response) bool {
	if !httpguts.HeaderValuesContainsToken(req.Header["Connection"], "Upgrade") {
		return false
	}
	asked := protocolsOf(req.Header)
	for _, got := range protocolsOf(resp.Header) {
		if !slices.ContainsFunc(asked, func(p string) bool { return strings.EqualFold(p, got) }) {
			return false
		}
	}
	return len(asked) > 0
}

// protocolsOf returns what an Upgrade header lists.
func protocolsOf(h http.Header) (all []string) {
	for _, value := range h["Upgrade"] {
		for p := range strings.SplitSeq(value, ",") {
			if p = strings.Trim(p, " \t"); p != "" {
				all = append(all, p)
			}
		}
	}
	return all
}

// writableBody is a watched body that can be written to all the same.
type writableBody struct {
	io.ReadCloser
	to io.Writer
}

func (b writableBody) Write(p []byte) (int, error) { return b.to.Write(p) }

// CloseWrite does what net/http's own body does.
func (b writableBody) CloseWrite() error { return closeWrite(b.to) }

func closeWrite(of any) error {
	if half, ok := of.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", http.ErrNotSupported)
}
