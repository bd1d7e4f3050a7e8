package transport_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

type stub func() (*http.Response, error)

func (s stub) RoundTrip(*http.Request) (*http.Response, error) { return s() }

type repeatedBody struct{ strings.Reader }

func (b *repeatedBody) Close() error { b.Reset("hello"); return nil }

// TestAllocations guards what a call costs in a way that does not depend on the machine.
func TestAllocations(t *testing.T) {
	buffer := make([]byte, 64)
	body := &repeatedBody{}
	good := &http.Response{StatusCode: 200, Body: http.NoBody}
	withBody := &http.Response{StatusCode: 200, ContentLength: 5, Body: body}
	classic := transport.WithPolicy(policy.Classic{})
	for _, c := range []struct {
		name        string
		url, method string
		base        stub
		opts        []transport.Option
		open, due   bool
		most        float64
	}{
		{name: "healthy, no body", base: func() (*http.Response, error) { return good, nil }, most: 0},
		{name: "healthy, by the classic policy", base: func() (*http.Response, error) { return good, nil }, opts: []transport.Option{classic}, most: 0},
		{name: "healthy, a port in the URL", url: "https://upstream.test:8443/x", base: func() (*http.Response, error) { return good, nil }, most: 0},
		{name: "body read to its end", base: func() (*http.Response, error) {
			body.Reset("hello")
			withBody.Body = body
			return withBody, nil
		}, most: 1},
		{name: "refusal", open: true, most: 4},
		{name: "refusal of what is better not lost", method: http.MethodPost, open: true, due: true, opts: []transport.Option{transport.WithSafeProbes()}, most: 4},
		{name: "the same by error", method: http.MethodPost, open: true, due: true, opts: []transport.Option{transport.WithSafeProbes(), transport.WithRefusalError()}, most: 1},
		{name: "refusal by error", open: true, opts: []transport.Option{transport.WithRefusalError()}, most: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			rt := transport.New(c.base, append([]transport.Option{classic}, c.opts...)...)
			if c.url == "" {
				c.url = "http://upstream.test/"
			}
			req, err := http.NewRequest(c.method, c.url, nil)
			require.NoError(t, err)
			if c.open {
				rt.SetState(transport.Upstream(req), policy.Open)
			}
			if c.due {
				rt.SetPolicy(policy.Classic{OpenFor: 1})
			}
			got := testing.AllocsPerRun(1000, func() {
				resp, err := rt.RoundTrip(req)
				if err != nil {
					return
				}
				for err == nil {
					_, err = resp.Body.Read(buffer)
				}
				if err != io.EOF {
					panic(err)
				}
			})
			require.LessOrEqual(t, got, c.most)
		})
	}
}
