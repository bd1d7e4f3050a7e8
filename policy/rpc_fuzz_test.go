package policy_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// FuzzVerdicts asks of any end of any body, cut anywhere: none panics, what is said is an outcome, is said again when asked
// again, and changes no byte that was shown.
func FuzzVerdicts(f *testing.F) {
	f.Add("application/grpc", 200, "14", []byte(frameOf(0, "m")), int64(0), false, "")
	f.Add("application/grpc-web", 200, "", []byte(frameOf(0x80, webTrailers)), int64(70_000), false, "")
	f.Add("application/grpc-web-text", 200, "", []byte(base64Of("m", frameOf(0x81, zipOf(webTrailers)))), int64(3), true, "")
	f.Add("application/connect+json", 200, "", []byte(frameOf(3, zipOf(unavailable))), int64(1), false, "gzip")
	f.Add("application/json", 501, "", []byte(`[{"error":{"code":-32603}}]`), int64(0), false, "")
	f.Add("application/xml", 200, "", []byte(`<Error><Code>SlowDown</Code></Error>`), int64(0), true, "")
	f.Add("application/grpc", 200, "14", []byte(detail("a/google.rpc.RetryInfo", text(1, number(1, 2)+number(2, 3)))), int64(0), false, "")
	classifiers := []policy.Classifier{
		policy.GRPC(), policy.Twirp(), policy.JSONRPC(1), policy.GraphQL("x"), policy.ElasticBulk(), policy.S3(),
	}
	f.Fuzz(func(t *testing.T, kind string, status int, code string, tail []byte, before int64, early bool, encoding string) {
		before = max(0, before)
		header := http.Header{"Content-Type": {kind}, "Content-Encoding": {encoding}}
		trailer := http.Header{"Grpc-Status": {code}, "Grpc-Status-Details-Bin": {base64Of(string(tail))}}
		req := httptest.NewRequest(http.MethodPost, "/_bulk?connect=v1", nil)
		shown := slices.Clone(tail)
		for n, classify := range classifiers {
			call := func() *policy.Call {
				return &policy.Call{
					Request: req, Response: &http.Response{StatusCode: status, Header: header, Trailer: trailer},
					AtEnd: true, ClosedEarly: early, Tail: shown, Size: before + int64(len(tail)),
				}
			}
			first := call()
			outcome := classify(first)
			if first.RetryAfter < 0 || first.RetryAfter > 365*24*time.Hour {
				t.Errorf("%d: left alone for %v", n, first.RetryAfter)
			}
			if outcome > policy.Ignored {
				t.Errorf("%d: outcome %v", n, outcome)
			}
			if again := classify(call()); again != outcome {
				t.Errorf("%d: %v, and then %v", n, outcome, again)
			}
		}
		if !slices.Equal(shown, tail) {
			t.Errorf("%q became %q", tail, shown)
		}
	})
}
