package contract

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestATransportChangesNothing makes every exchange twice.
func TestATransportChangesNothing(t *testing.T) {
	noLeaks(t)
	for _, n := range networks() {
		t.Run(n.name, func(t *testing.T) {
			n.start(t)
			for _, x := range exchanges() {
				if !n.has(x) {
					continue
				}
				want := n.run(t, x, bare)
				for _, w := range wrappers {
					found := differences(want, n.run(t, x, w))
					for range 4 {
						if found == nil {
							break
						}
						found = differences(n.run(t, x, bare), n.run(t, x, w))
					}
					assert.Empty(t, found, "%s, %s", x.name, w.name)
				}
			}
		})
	}
}

// differences are what was seen in one run and not in the other. What net/http does can be a matter of chance, such as
// whether a connection is idle just yet, so a difference has to be there at every attempt.
func differences(want, got map[string][]string) (found []string) {
	places := maps.Clone(want)
	maps.Copy(places, got)
	for _, place := range slices.Sorted(maps.Keys(places)) {
		for i := range max(len(want[place]), len(got[place])) {
			if a, b := at(want[place], i), at(got[place], i); a != b {
				found = append(found, fmt.Sprintf("%s %d:\nby the bare base %s\nby the wrapped   %s\n", place, i, a, b))
			}
		}
	}
	return found
}

func at(seen []string, i int) string {
	if i < len(seen) {
		return seen[i]
	}
	return "nothing"
}

// changing gives a wrapper that changes the request, the response or both.
func changing(name string, request func(*http.Request) *http.Request, response func(*http.Response)) wrapper {
	return wrapper{name, func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			sent := req
			if request != nil {
				sent = request(req)
			}
			resp, err := base.RoundTrip(sent)
			if err != nil {
				return nil, err
			}
			resp.Request = req
			if response != nil {
				response(resp)
			}
			return resp, nil
		})
	}}
}

// onBody is a body that does something else when it is read or closed.
type onBody struct {
	io.ReadCloser
	read  func([]byte) (int, error)
	close func() error
}

func (b onBody) Read(p []byte) (int, error) {
	if b.read != nil {
		return b.read(p)
	}
	return b.ReadCloser.Read(p)
}

func (b onBody) Close() error {
	if b.close != nil {
		return b.close()
	}
	return b.ReadCloser.Close()
}

func TestTheTableNoticesAWrapperThatBreaksOneThing(t *testing.T) {
	noLeaks(t)
	n := networks()[0]
	n.start(t)
	table := slices.DeleteFunc(exchanges(), func(x exchange) bool { return !n.has(x) })
	wants := make([]map[string][]string, len(table))
	for i, x := range table {
		wants[i] = n.run(t, x, bare)
	}
	for _, w := range []wrapper{
		changing("status text", nil, func(resp *http.Response) { resp.Status = http.StatusText(resp.StatusCode) }),
		changing("status", nil, func(resp *http.Response) { resp.StatusCode = max(resp.StatusCode, 201) }),
		changing("protocol", nil, func(resp *http.Response) { resp.Proto = "HTTP/1.0" }),
		changing("one header more", nil, func(resp *http.Response) { resp.Header.Set("X-Fusebox", "closed") }),
		changing("one header value less", nil, func(resp *http.Response) {
			for name, values := range resp.Header {
				resp.Header[name] = values[:1]
			}
		}),
		changing("trailer lost", nil, func(resp *http.Response) { resp.Trailer = nil }),
		changing("length", nil, func(resp *http.Response) { resp.ContentLength = -1 }),
		changing("encoding", nil, func(resp *http.Response) { resp.TransferEncoding = nil }),
		changing("uncompressed", nil, func(resp *http.Response) { resp.Uncompressed = false }),
		changing("close", nil, func(resp *http.Response) { resp.Close = false }),
		changing("request of the response", nil, func(resp *http.Response) { resp.Request = resp.Request.Clone(context.Background()) }),
		changing("NoBody", nil, func(resp *http.Response) { resp.Body = onBody{ReadCloser: resp.Body} }),
		changing("body read ahead", nil, func(resp *http.Response) {
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			resp.Body = io.NopCloser(bytes.NewReader(body))
		}),
		changing("error of the body", nil, func(resp *http.Response) {
			body := resp.Body
			resp.Body = onBody{ReadCloser: body, read: func(p []byte) (int, error) {
				n, err := body.Read(p)
				if err != nil && err != io.EOF {
					err = fmt.Errorf("body: %w", err)
				}
				return n, err
			}}
		}),
		changing("body never closed", nil, func(resp *http.Response) {
			body := resp.Body
			resp.Body = onBody{ReadCloser: body, close: func() error { return nil }}
		}),
		changing("request's header", func(req *http.Request) *http.Request { req.Header.Set("X-Attempt", "1"); return req }, nil),
		changing("request's field", func(req *http.Request) *http.Request { req.Close = true; return req }, nil),
		changing("header that is sent", func(req *http.Request) *http.Request {
			sent := req.Clone(req.Context())
			sent.Header.Set("X-Attempt", "1")
			return sent
		}, nil),
		changing("trace", func(req *http.Request) *http.Request { return req.WithContext(context.Background()) }, nil),
		changing("body that is sent", func(req *http.Request) *http.Request {
			sent := *req
			if sent.Body != nil && sent.Body != http.NoBody {
				sent.Body, sent.ContentLength = io.NopCloser(io.MultiReader(req.Body, strings.NewReader("."))), -1
			}
			return &sent
		}, nil),
		changing("length that is sent", func(req *http.Request) *http.Request {
			sent := *req
			if sent.ContentLength > 0 {
				sent.ContentLength = -1
			}
			return &sent
		}, nil),
		changing("GetBody", func(req *http.Request) *http.Request {
			sent := *req
			sent.GetBody = nil
			return &sent
		}, nil),
		changing("trailer that is sent", func(req *http.Request) *http.Request {
			sent := *req
			sent.Trailer = nil
			return &sent
		}, nil),
		changing("Expect", func(req *http.Request) *http.Request {
			sent := req.Clone(req.Context())
			sent.Header.Del("Expect")
			return sent
		}, nil),
		changing("Host", func(req *http.Request) *http.Request {
			sent := *req
			sent.Host = ""
			return &sent
		}, nil),
		{"copy of the response", func(base http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := base.RoundTrip(req)
				if err != nil {
					return nil, err
				}
				copied := *resp
				return &copied, nil
			})
		}},
		{"error's text", func(base http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				resp, err := base.RoundTrip(req)
				if err != nil {
					err = fmt.Errorf("fusebox: %w", err)
				}
				return resp, err
			})
		}},
		{"sent twice", func(base http.RoundTripper) http.RoundTripper {
			return roundTripper(func(req *http.Request) (*http.Response, error) {
				if resp, err := base.RoundTrip(req.Clone(req.Context())); err == nil && req.Body == nil {
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				return base.RoundTrip(req)
			})
		}},
	} {
		t.Run(w.name, func(t *testing.T) {
			for i, x := range table {
				if differences(wants[i], n.run(t, x, w)) != nil && differences(n.run(t, x, bare), n.run(t, x, w)) != nil {
					return
				}
			}
			t.Error("the table does not notice")
		})
	}
}
