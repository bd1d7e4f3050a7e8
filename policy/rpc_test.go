package policy_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
)

func frameOf(flags byte, payload string) string {
	head := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(payload)))
	return string(head) + payload
}

func zipOf(text string) string {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	io.WriteString(zip, text)
	zip.Close()
	return packed.String()
}

func base64Of(texts ...string) (all string) {
	for _, text := range texts {
		all += base64.StdEncoding.EncodeToString([]byte(text))
	}
	return all
}

// answered is an answer as transport shows it to classifiers.
type answered struct {
	method, path string // of the request
	status       int    // 0 is 200
	kind         string // Content-Type
	header       http.Header
	trailer      http.Header
	body         string
	early        bool // its caller read no more than body
}

// judge asks a classifier as transport does: by the headers, and at the end if it asked for that.
func (a answered) judge(t *testing.T, classify policy.Classifier) policy.Outcome {
	t.Helper()
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.method == "" {
		a.method = http.MethodPost
	}
	req := httptest.NewRequest(a.method, "http://upstream.test"+a.path, nil)
	header := http.Header{"Content-Type": {a.kind}}
	for name, values := range a.header {
		if name == "Connect-Protocol-Version" {
			req.Header[name] = values
		} else {
			header[name] = values
		}
	}
	resp := &http.Response{StatusCode: a.status, Header: header, Body: http.NoBody}
	first := policy.Call{Request: req, Response: resp}
	outcome := policy.FirstOf(classify, policy.DefaultClassifier)(&first)
	tail, asked := first.AskedAtEnd()
	if outcome != policy.Success || !asked {
		return outcome
	}
	resp.Trailer = a.trailer
	last := policy.Call{
		Request: req, Response: resp, AtEnd: true, ClosedEarly: a.early, Size: int64(len(a.body)),
		Tail: []byte(a.body[max(0, len(a.body)-tail):]),
	}
	if end := classify(&last); end != policy.Undecided {
		return end
	}
	return policy.Success
}

const (
	unavailable = `{"error":{"code":"unavailable","message":"out of order"},"metadata":{"a":["b"]}}`
	webTrailers = "Grpc-Status: 14\r\ngrpc-message: out of order\r\n"
	webOK       = "grpc-status:0\r\n"
)

func TestGRPC(t *testing.T) {
	const s, f = policy.Success, policy.Failure
	message := frameOf(0, "a message")
	long := frameOf(0, strings.Repeat("a long message", 10_000))
	statusIs := func(code string) http.Header { return http.Header{"Grpc-Status": {code}} }
	connect := http.Header{"Connect-Protocol-Version": {"1"}}
	for name, c := range map[string]struct {
		answered
		want policy.Outcome
	}{
		"gRPC: trailers":                                {answered{kind: "application/grpc", trailer: statusIs("14")}, f},
		"gRPC: trailers, and a codec":                   {answered{kind: "Application/gRPC+proto; x=y", trailer: statusIs("14")}, f},
		"gRPC: nothing but headers":                     {answered{kind: "application/grpc", header: statusIs("14")}, f},
		"gRPC: nothing but headers, the caller's fault": {answered{kind: "application/grpc", header: statusIs("3")}, s},
		"gRPC: well":                                    {answered{kind: "application/grpc", trailer: statusIs("0"), body: message}, s},
		"gRPC: as a 429":                                {answered{kind: "application/grpc", trailer: statusIs("8"), body: message}, s},
		"gRPC: no such code":                            {answered{kind: "application/grpc", trailer: statusIs("99")}, f},
		"gRPC: no code at all":                          {answered{kind: "application/grpc", trailer: statusIs("fine")}, f},
		"gRPC: no trailers":                             {answered{kind: "application/grpc", body: message}, f},
		"gRPC: closed early":                            {answered{kind: "application/grpc", body: message, early: true}, s},
		"gRPC: a 404 of another's":                      {answered{kind: "application/grpc", status: 404}, s},
		"gRPC: a 503 of another's":                      {answered{kind: "application/grpc", status: 503}, f},
		"not gRPC":                                      {answered{kind: "application/grpcx", trailer: statusIs("14")}, s},
		"not gRPC at all":                               {answered{kind: "text/plain", trailer: statusIs("14")}, s},

		"gRPC-Web: nothing but headers":    {answered{kind: "application/grpc-web+proto", header: statusIs("14")}, f},
		"gRPC-Web: the last frame":         {answered{kind: "application/grpc-web", body: message + frameOf(0x80, webTrailers)}, f},
		"gRPC-Web: the only frame":         {answered{kind: "application/grpc-web+json", body: frameOf(0x80, webTrailers)}, f},
		"gRPC-Web: well":                   {answered{kind: "application/grpc-web", body: message + frameOf(0x80, webOK)}, s},
		"gRPC-Web: gzip":                   {answered{kind: "application/grpc-web", body: message + frameOf(0x81, zipOf(webTrailers))}, f},
		"gRPC-Web: compressed otherwise":   {answered{kind: "application/grpc-web", body: message + frameOf(0x81, "by a secret")}, s},
		"gRPC-Web: lines of another kind":  {answered{kind: "application/grpc-web", body: frameOf(0x80, "grpc-status:14\n")}, f},
		"gRPC-Web: the end of much":        {answered{kind: "application/grpc-web", body: long + frameOf(0x80, webTrailers)}, f},
		"gRPC-Web: no trailers":            {answered{kind: "application/grpc-web", body: message}, f},
		"gRPC-Web: cut":                    {answered{kind: "application/grpc-web", body: message, early: true}, s},
		"gRPC-Web: closed at the end":      {answered{kind: "application/grpc-web", body: message + frameOf(0x80, webTrailers), early: true}, f},
		"gRPC-Web: more than is looked at": {answered{kind: "application/grpc-web", body: frameOf(0x80, strings.Repeat("x: y\r\n", 5000)+webTrailers)}, s},
		"gRPC-Web: a message that looks so": {answered{kind: "application/grpc-web",
			body: frameOf(0, frameOf(0x80, webTrailers)) + frameOf(0x80, webOK)}, s},

		"gRPC-Web text":                  {answered{kind: "application/grpc-web-text", body: base64Of(message + frameOf(0x80, webTrailers))}, f},
		"gRPC-Web text, in pieces":       {answered{kind: "application/grpc-web-text+proto", body: base64Of(message, frameOf(0x80, webTrailers))}, f},
		"gRPC-Web text, well":            {answered{kind: "application/grpc-web-text", body: base64Of(message, frameOf(0x80, webOK))}, s},
		"gRPC-Web text, the end of much": {answered{kind: "application/grpc-web-text", body: base64Of(long, frameOf(0x80, webTrailers))}, f},
		"gRPC-Web text, of a length more": {answered{kind: "application/grpc-web-text",
			body: base64Of(frameOf(0, strings.Repeat("x", 20_001)), frameOf(0x80, webTrailers))}, f},
		"gRPC-Web text that is none": {answered{kind: "application/grpc-web-text", body: "!!!!", early: true}, s},

		"connect: the last frame":      {answered{kind: "application/connect+proto", body: message + frameOf(2, unavailable)}, f},
		"connect: gzip":                {answered{kind: "application/connect+json", body: message + frameOf(3, zipOf(unavailable))}, f},
		"connect: well":                {answered{kind: "application/connect+proto", body: message + frameOf(2, "{}")}, s},
		"connect: the caller's fault":  {answered{kind: "application/connect+proto", body: frameOf(2, `{"error":{"code":"not_found"}}`)}, s},
		"connect: an error of no code": {answered{kind: "application/connect+proto", body: frameOf(2, `{"error":{}}`)}, f},
		"connect: no end":              {answered{kind: "application/connect+proto", body: message}, f},
		"connect: empty":               {answered{kind: "application/connect+proto"}, f},
		"connect: closed early":        {answered{kind: "application/connect+proto", body: message, early: true}, s},

		"connect, unary: well":                 {answered{kind: "application/json", header: connect, body: `{"code":"unavailable"}`}, s},
		"connect, unary: 503":                  {answered{kind: "application/json", header: connect, status: 503, body: `{"code":"unavailable"}`}, f},
		"connect, unary: unimplemented":        {answered{kind: "application/json", header: connect, status: 501, body: `{"code":"unimplemented"}`}, s},
		"connect, unary: by GET":               {answered{method: "GET", path: "/?message=x&connect=v1", kind: "application/json", status: 501, body: `{"code":"unimplemented"}`}, s},
		"connect, unary: a 501 of another's":   {answered{kind: "application/json", header: connect, status: 501, body: `{}`}, f},
		"connect, unary: an old one's timeout": {answered{kind: "application/json", header: connect, status: 408, body: `{"code":"deadline_exceeded"}`}, f},
		"connect, unary: an old one's cancel":  {answered{kind: "application/json", header: connect, status: 408, body: `{"code":"canceled"}`}, s},
		"JSON of anybody":                      {answered{kind: "application/json", status: 501, body: `{"code":"unimplemented"}`}, f},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.judge(t, policy.GRPC())) })
	}
}

func TestVerdictsInAnswersThatAreNoErrors(t *testing.T) {
	const s, f = policy.Success, policy.Failure
	gzipped := http.Header{"Content-Encoding": {"gzip"}}
	const internal = `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"out of order"}}`
	const result = `{"jsonrpc":"2.0","id":1,"result":{"error":{"code":-32603}}}`
	rest := strings.Repeat(" ", 70_000)
	bulk := func(statuses ...string) answered {
		items := ""
		for n, status := range statuses {
			if n > 0 {
				items += ","
			}
			items += `{"index":{"_index":"a","_id":"b","status":` + status + `,"error":{"type":"t","reason":"\"status\":200 and {\"status\": 200}"}}}`
		}
		return answered{path: "/a/_bulk", kind: "application/json", body: `{"took":1,"errors":true,"items":[` + items + `]}`}
	}
	s3 := func(code string) answered {
		return answered{method: "PUT", kind: "application/xml", body: "\n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n   \n<Error><Code>" + code + "</Code><Message>out of order</Message></Error>"}
	}
	rpc, graph := policy.JSONRPC(-32005), policy.GraphQL("DOWN")
	for name, c := range map[string]struct {
		classify policy.Classifier
		answered
		want policy.Outcome
	}{
		"JSON-RPC: internal error":           {rpc, answered{body: internal}, f},
		"JSON-RPC: of one's own":             {rpc, answered{body: ` {"error":{"code":-32005}} `}, f},
		"JSON-RPC: gzip":                     {rpc, answered{body: zipOf(internal), header: gzipped}, f},
		"JSON-RPC: gzip that is none":        {rpc, answered{body: internal, header: gzipped}, s},
		"JSON-RPC: gzip that is much":        {rpc, answered{body: zipOf(internal + strings.Repeat(" ", 2<<20)), header: gzipped}, s},
		"JSON-RPC: result":                   {rpc, answered{body: result}, s},
		"JSON-RPC: no error":                 {rpc, answered{body: `{"result":1,"error":null,"id":1}`}, s},
		"JSON-RPC: the caller's fault":       {rpc, answered{body: `{"error":{"code":-32602}}`}, s},
		"JSON-RPC: the server's own":         {rpc, answered{body: `{"error":{"code":-32000}}`}, s},
		"JSON-RPC: a batch, all of it":       {rpc, answered{body: "[" + internal + "," + internal + "]"}, f},
		"JSON-RPC: a batch, some of it":      {rpc, answered{body: "[" + internal + "," + result + "]"}, s},
		"JSON-RPC: a batch of none":          {rpc, answered{body: "[]"}, s},
		"JSON-RPC: nothing":                  {rpc, answered{}, s},
		"JSON-RPC: something else":           {rpc, answered{body: "<html>"}, s},
		"JSON-RPC: cut":                      {rpc, answered{body: internal[:30], early: true}, s},
		"JSON-RPC: read by a decoder":        {rpc, answered{body: internal + "\n", early: true}, f},
		"JSON-RPC: longer than is looked at": {rpc, answered{body: rest + internal}, s},
		"GraphQL: internal error":            {graph, answered{body: `{"data":null,"errors":[{"message":"m"},{"message":"m","extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`}, f},
		"GraphQL: no data":                   {graph, answered{body: `{"errors":[{"extensions":{"code":"DOWN"}}]}`}, f},
		"GraphQL: data in part":              {graph, answered{body: `{"data":{"a":null},"errors":[{"extensions":{"code":"INTERNAL_SERVER_ERROR"}}]}`}, s},
		"GraphQL: the caller's fault":        {graph, answered{body: `{"errors":[{"extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}}]}`}, s},
		"GraphQL: no code":                   {graph, answered{body: `{"data":null,"errors":[{"message":"INTERNAL_SERVER_ERROR"}]}`}, s},
		"GraphQL: a code that is a number":   {graph, answered{body: `{"errors":[{"extensions":{"code":1}},{"extensions":{"code":"DOWN"}}]}`}, f},
		"GraphQL: extensions that are none":  {graph, answered{body: `{"errors":[{"extensions":null}]}`}, s},
		"GraphQL: well":                      {graph, answered{body: `{"data":{"a":1}}`}, s},
		"Twirp: its deadline":                {policy.Twirp(), answered{kind: "application/json", status: 408, body: `{"code":"deadline_exceeded","msg":"m"}`}, f},
		"Twirp: its caller canceled":         {policy.Twirp(), answered{kind: "application/json", status: 408, body: `{"code":"canceled","msg":"m"}`}, s},
		"Twirp: unimplemented":               {policy.Twirp(), answered{kind: "application/json", status: 501, body: `{"code":"unimplemented","msg":"m"}`}, s},
		"Twirp: a 501 of another's":          {policy.Twirp(), answered{kind: "text/html", status: 501, body: `{"code":"unimplemented"}`}, f},
		"Twirp: a 501, closed early":         {policy.Twirp(), answered{kind: "application/json", status: 501, early: true}, f},
		"Twirp: internal":                    {policy.Twirp(), answered{kind: "application/json", status: 500, body: `{"code":"internal"}`}, f},
		"_bulk: all unavailable":             {policy.ElasticBulk(), bulk("503", "503"), f},
		"_bulk: unavailable or turned down":  {policy.ElasticBulk(), bulk("429", "500"), f},
		"_bulk: all turned down":             {policy.ElasticBulk(), bulk("429", "429"), s},
		"_bulk: one is well":                 {policy.ElasticBulk(), bulk("503", "201", "503"), s},
		"_bulk: one is the caller's fault":   {policy.ElasticBulk(), bulk("503", "409"), s},
		"_bulk: none":                        {policy.ElasticBulk(), bulk(), s},
		"_bulk: more than is looked at":      {policy.ElasticBulk(), bulk(strings.Split(strings.Repeat("503 ", 1000)+"503", " ")...), f},
		"_bulk: gzip":                        {policy.ElasticBulk(), answered{path: "/_bulk", header: gzipped, body: zipOf(bulk("503").body)}, f},
		"_bulk: another request":             {policy.ElasticBulk(), answered{path: "/_search", body: bulk("503").body}, s},
		"S3: internal error":                 {policy.S3(), s3("InternalError"), f},
		"S3: slow down":                      {policy.S3(), s3("SlowDown"), f},
		"S3: the caller's fault":             {policy.S3(), s3("NoSuchUpload"), s},
		"S3: somebody's object":              {policy.S3(), answered{method: "GET", kind: "application/xml", body: s3("InternalError").body}, s},
		"S3: another answer":                 {policy.S3(), answered{method: "POST", body: `<CompleteMultipartUploadResult><Code>InternalError</Code></CompleteMultipartUploadResult>`}, s},
		"S3: no XML":                         {policy.S3(), answered{method: "PUT", body: "hello"}, s},
		"S3: an empty one":                   {policy.S3(), answered{method: "PUT"}, s},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, c.judge(t, c.classify)) })
	}
}

func TestVerdictsLeaveErrorsToOthers(t *testing.T) {
	for _, classify := range []policy.Classifier{policy.GRPC(), policy.Twirp(), policy.JSONRPC(), policy.GraphQL(), policy.ElasticBulk(), policy.S3()} {
		require.Equal(t, policy.Undecided, classify(&policy.Call{Request: httptest.NewRequest("PUT", "/_bulk", nil), Err: io.EOF}))
		call := &policy.Call{
			Request: httptest.NewRequest("PUT", "/_bulk", nil), Err: io.EOF, InBody: true, Response: responseOf(200, "Content-Type", "application/grpc"),
		}
		require.Equal(t, policy.Undecided, classify(call))
		_, asked := call.AskedAtEnd()
		require.False(t, asked)
	}
}
