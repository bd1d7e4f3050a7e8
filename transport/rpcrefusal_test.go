package transport_test

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// What clients make of it is tested with them, in conformance/rpc.
func TestARefusalHasTheFormOfItsRequestsProtocol(t *testing.T) {
	type want struct {
		status              int
		kind, grpc, message string
		body                string
		major               int
	}
	const line = "fusebox: circuit open for http://upstream.test, next probe in 1h0m0s"
	const escaped = "fusebox:%20circuit%20open%20for%20http:%2F%2Fupstream.test%2C%20next%20probe%20in%201h0m0s"
	const end = `{"error":{"code":"unavailable","message":"` + line + `"},"metadata":{"retry-after":["3600"]}}`
	plain := want{status: 503, kind: "text/plain; charset=utf-8", body: line + "\n", major: 1}
	unary := want{status: 503, kind: "application/json", body: `{"code":"unavailable","message":"` + line + `"}`, major: 1}
	for name, c := range map[string]struct {
		kind, query string
		header      string
		want        want
	}{
		"gRPC":                    {kind: "application/grpc", want: want{200, "application/grpc", "14", escaped, "", 2}},
		"gRPC, shouted":           {kind: "Application/GRPC+Proto", want: want{200, "Application/GRPC+Proto", "14", escaped, "", 2}},
		"gRPC-Web":                {kind: "application/grpc-web-text", want: want{200, "application/grpc-web-text", "14", escaped, "", 2}},
		"a stream of connect":     {kind: "application/connect+json", header: "1", want: want{200, "application/connect+json", "", "", "\x02\x00\x00\x00\x95" + end, 2}},
		"connect":                 {kind: "application/proto", header: "1", want: unary},
		"connect by GET":          {query: "?encoding=proto&connect=v1&message=x", want: unary},
		"JSON":                    {kind: "application/json", want: plain},
		"something that looks so": {query: "?disconnect=v1", want: plain},
		"nothing":                 {want: plain},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt := transport.New(answer(200, "hello"), transport.WithRefusal(transport.RPCUnavailable), transport.WithPolicy(policy.Classic{OpenFor: time.Hour}))
				rt.SetState(here, policy.Open)
				req := requestTo(t, "POST", "http://upstream.test/a"+c.query)
				if c.kind != "" {
					req.Header.Set("Content-Type", c.kind)
				}
				if c.header != "" {
					req.Header.Set("Connect-Protocol-Version", c.header)
				}
				resp, err := rt.RoundTrip(req)
				require.NoError(t, err)
				body, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				require.Len(t, end, 0x95)
				got := want{
					resp.StatusCode, resp.Header.Get("Content-Type"), resp.Header.Get("Grpc-Status"), resp.Header.Get("Grpc-Message"), string(body), resp.ProtoMajor,
				}
				require.Equal(t, c.want, got)
				require.Equal(t, "3600", resp.Header.Get("Retry-After"))
				require.True(t, transport.Refused(resp))
			})
		})
	}
}

func TestResponseKeepsTheContentTypeItIsGiven(t *testing.T) {
	for _, c := range []struct{ kind, body, wantKind, want string }{
		{"", "", "text/plain; charset=utf-8", "fusebox: circuit forced open for http://upstream.test\n"},
		{"text/plain", "", "text/plain", "fusebox: circuit forced open for http://upstream.test\n"},
		{"Text/Plain; charset=us-ascii", "", "Text/Plain; charset=us-ascii", "fusebox: circuit forced open for http://upstream.test\n"},
		{"application/grpc", "", "application/grpc", ""},
		{"text/html", "", "text/html", ""},
		{"text/html", "<p>", "text/html", "<p>"},
		{"", "sorry", "text/plain; charset=utf-8", "sorry"},
	} {
		header := http.Header{}
		if c.kind != "" {
			header.Set("content-type", c.kind)
		}
		rt := transport.New(answer(200, "hello"), transport.WithRefusal(transport.Response(503, header, c.body)))
		rt.Force("*", policy.Open)
		resp, err := rt.RoundTrip(requestTo(t, "GET", "http://upstream.test/"))
		require.NoError(t, err)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, c.wantKind, resp.Header.Get("Content-Type"))
		require.Equal(t, c.want, string(body))
		require.EqualValues(t, len(c.want), resp.ContentLength)
	}
}
