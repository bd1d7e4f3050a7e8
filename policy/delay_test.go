package policy_test

import (
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

// number and text are fields of a message of Protocol Buffers.
func number(field int, n int64) string {
	return string(binary.AppendUvarint([]byte{byte(field << 3)}, uint64(n)))
}

func text(field int, s string) string {
	return string(binary.AppendUvarint([]byte{byte(field<<3 | 2)}, uint64(len(s)))) + s
}

func detail(kind, value string) string { return text(3, text(1, kind)+text(2, value)) }

func TestForHowLongAGRPCServerAsksToBeLeftAlone(t *testing.T) {
	const year = 365 * 24 * time.Hour
	info := func(duration string) string {
		return number(1, 14) + text(2, "out of order") + detail("type.googleapis.com/google.rpc.RetryInfo", text(1, duration))
	}
	for name, c := range map[string]struct {
		header, value string
		want          time.Duration
	}{
		"nothing":                      {"Any", "", 0},
		"pushback":                     {"Grpc-Retry-Pushback-Ms", "1500", 1500 * time.Millisecond},
		"pushback of none":             {"Grpc-Retry-Pushback-Ms", "0", 0},
		"pushback that is negative":    {"Grpc-Retry-Pushback-Ms", "-1", 0},
		"pushback that is no number":   {"Grpc-Retry-Pushback-Ms", "soon", 0},
		"pushback of ages":             {"Grpc-Retry-Pushback-Ms", "9223372036854775807", year},
		"Retry-After":                  {"Retry-After", "7", 7 * time.Second},
		"Retry-After that is past":     {"Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT", 0},
		"RetryInfo":                    {"Details", info(number(1, 2) + number(2, 5e8)), 2500 * time.Millisecond},
		"RetryInfo of nanoseconds":     {"Details", info(number(2, 5)), 5},
		"RetryInfo of none":            {"Details", info(""), 0},
		"RetryInfo that is negative":   {"Details", info(number(1, -2) + number(2, -5e8)), 0},
		"RetryInfo of ages":            {"Details", info(number(1, 1<<62) + number(2, 1<<31-1)), year},
		"RetryInfo after others":       {"Details", detail("a/google.rpc.ErrorInfo", text(1, "x")) + info(number(1, 2)), 2 * time.Second},
		"RetryInfo before others":      {"Details", info(number(1, 2)) + detail("a/google.rpc.ErrorInfo", text(1, number(1, 9))), 2 * time.Second},
		"the longest of two":           {"Details", info(number(1, 2)) + info(number(1, 3)) + info(number(1, 1)), 3 * time.Second},
		"the value before its type":    {"Details", text(3, text(2, text(1, number(1, 2)))+text(1, "a/google.rpc.RetryInfo")), 2 * time.Second},
		"fields of other widths":       {"Details", "\x21abcdefgh\x2dabcd" + info(number(1, 2)), 2 * time.Second},
		"a type that ends alike":       {"Details", detail("a/other.google.rpc.RetryInfo", text(1, number(1, 2))), 0},
		"cut":                          {"Details", info(number(1, 2))[:30], 0},
		"a length that is too much":    {"Details", "\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 0},
		"a wire type that is none":     {"Details", "\x1b" + info(number(1, 2)), 0},
		"a number that does not end":   {"Details", "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 0},
		"fewer bytes than their width": {"Details", "\x21abc", 0},
		"details that are not base64":  {"Grpc-Status-Details-Bin", "!!!", 0},
		"details of another's padding": {"Grpc-Status-Details-Bin", base64.StdEncoding.EncodeToString([]byte(info(number(1, 2)))), 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			if c.header == "Details" {
				c.header, c.value = "Grpc-Status-Details-Bin", base64.RawStdEncoding.EncodeToString([]byte(c.value))
			}
			with := http.Header{"Grpc-Status": {"14"}, c.header: {c.value}}
			inTrailers := responseOf(200, "Content-Type", "application/grpc")
			inTrailers.Trailer = with
			inHeaders := responseOf(200)
			inHeaders.Header = with.Clone()
			inHeaders.Header.Set("Content-Type", "application/grpc-web")
			for _, resp := range []*http.Response{inTrailers, inHeaders} {
				call := &policy.Call{Request: httptest.NewRequest("POST", "/", nil), Response: resp, AtEnd: true}
				require.Equal(t, policy.Failure, policy.GRPC()(call))
				require.Equal(t, c.want, call.RetryAfter)
				require.Equal(t, "grpc code unavailable", call.Reason)
			}
		})
	}
}

// Its Date is of the headers, and the trailers can come an hour later.
func TestATimeInTrailersIsByTheClockOfTheServer(t *testing.T) {
	for _, off := range []time.Duration{0, time.Hour, -24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			there := func() time.Time { return time.Now().Add(off).UTC() }
			resp := responseOf(200, "Content-Type", "application/grpc", "Date", there().Format(http.TimeFormat))
			call := &policy.Call{Request: httptest.NewRequest("POST", "/", nil), Response: resp, Ended: time.Now()}
			time.Sleep(time.Hour)
			again := there().Add(time.Minute).Format(http.TimeFormat)
			resp.Trailer = http.Header{"Grpc-Status": {"14"}, "Retry-After": {again}}
			call.AtEnd = true
			require.Equal(t, policy.Failure, policy.GRPC()(call))
			require.Equal(t, time.Minute, call.RetryAfter)
		})
	}
}

func TestGRPCTakesCodesAsConnectWritesThem(t *testing.T) {
	for _, code := range []string{"", "8", "RESOURCE_EXHAUSTED", "resource exhausted", "ok"} {
		require.Panics(t, func() { policy.GRPC(code) }, code)
	}
}

func TestReasonsOfVerdicts(t *testing.T) {
	rpc := func(code string) policy.Call {
		resp := responseOf(200, "Content-Type", "application/grpc")
		resp.Trailer = http.Header{"Grpc-Status": {code}}
		return policy.Call{Response: resp}
	}
	answered := func(status int, body string) policy.Call {
		return policy.Call{Response: responseOf(status, "Content-Type", "application/json"), Tail: []byte(body), Size: int64(len(body))}
	}
	for _, c := range []struct {
		classify policy.Classifier
		call     policy.Call
		want     string
	}{
		{policy.GRPC(), rpc("2"), "grpc code unknown"},
		{policy.GRPC(), rpc("15"), "grpc code data_loss"},
		{policy.GRPC("aborted"), rpc("10"), "grpc code aborted"},
		{policy.GRPC(), rpc(""), "no grpc code"},
		{policy.GRPC(), rpc("99 bottles"), "no such grpc code"},
		{policy.Twirp(), answered(408, `{"code":"deadline_exceeded"}`), "twirp code deadline_exceeded"},
		{policy.JSONRPC(), answered(200, `{"error":{"code":-32603}}`), "json-rpc code -32603"},
		{policy.GraphQL("DOWN"), answered(200, `{"errors":[{"extensions":{"code":"DOWN"}}]}`), "graphql code DOWN"},
		{policy.ElasticBulk(), answered(200, `{"items":[{"index":{"status":429}},{"index":{"status":503}},{"index":{"status":429}}]}`), "item status 503"},
		{policy.S3(), answered(200, `<Error><Code>SlowDown</Code></Error>`), "s3 code SlowDown"},
	} {
		c.call.Request, c.call.AtEnd = httptest.NewRequest("PUT", "/_bulk", nil), true
		require.Equal(t, policy.Failure, c.classify(&c.call), c.want)
		require.Equal(t, c.want, c.call.Reason)
	}
}
