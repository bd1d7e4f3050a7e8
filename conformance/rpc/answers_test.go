package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/gorilla/rpc/v2"
	"github.com/gorilla/rpc/v2/json2"
	graphqlserver "github.com/graph-gophers/graphql-go"
	"github.com/graph-gophers/graphql-go/relay"
	"github.com/machinebox/graphql"
	"github.com/stretchr/testify/require"
	"github.com/twitchtv/twirp"
	"github.com/twitchtv/twirp/example"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// watched is a client whose calls' outcomes are kept.
func watched(t *testing.T, classify policy.Classifier) (*http.Client, *[]transport.CallEnd) {
	c := newCaller(overHTTP1(t), "", nil, transport.WithClassifier(classify), transport.WithPolicy(policy.Classic{Failures: 1000}))
	return c.client.(*http.Client), &c.ends
}

func serve(t *testing.T, h http.Handler) string {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// last is the outcome of the one call there was since the last time.
func last(t *testing.T, ends *[]transport.CallEnd) policy.Outcome {
	t.Helper()
	require.Len(t, *ends, 1)
	end := (*ends)[0]
	*ends = nil
	return end.Outcome
}

// hats fails as the size that is asked for says.
type hats []twirp.ErrorCode

func (h hats) MakeHat(_ context.Context, size *example.Size) (*example.Hat, error) {
	if size.Inches < 0 {
		return &example.Hat{}, nil
	}
	return nil, twirp.NewError(h[size.Inches], reason)
}

func TestTwirp(t *testing.T) {
	codes := hats{
		twirp.Canceled, twirp.Unknown, twirp.InvalidArgument, twirp.Malformed, twirp.DeadlineExceeded, twirp.NotFound, twirp.BadRoute,
		twirp.AlreadyExists, twirp.PermissionDenied, twirp.Unauthenticated, twirp.ResourceExhausted, twirp.FailedPrecondition,
		twirp.Aborted, twirp.OutOfRange, twirp.Unimplemented, twirp.Internal, twirp.Unavailable, twirp.DataLoss,
	}
	failing := map[twirp.ErrorCode]bool{
		twirp.Unknown: true, twirp.DeadlineExceeded: true, twirp.Internal: true, twirp.Unavailable: true, twirp.DataLoss: true,
	}
	url := serve(t, example.NewHaberdasherServer(codes))
	for name, connect := range map[string]func(string, example.HTTPClient, ...twirp.ClientOption) example.Haberdasher{
		"protobuf": example.NewHaberdasherProtobufClient, "JSON": example.NewHaberdasherJSONClient,
	} {
		client, ends := watched(t, policy.Twirp())
		api := connect(url, client)
		_, err := api.MakeHat(t.Context(), &example.Size{Inches: -1})
		require.NoError(t, err)
		require.Equal(t, policy.Success, last(t, ends))
		for n, code := range codes {
			_, err := api.MakeHat(t.Context(), &example.Size{Inches: int32(n)})
			var seen twirp.Error
			require.ErrorAs(t, err, &seen)
			require.Equal(t, code, seen.Code())
			require.Equal(t, failing[code], last(t, ends) == policy.Failure, "%s over %s", code, name)
		}
	}
}

// Calc is a service over JSON-RPC.
type Calc struct{}

// Failing is what it is asked for: a code, or 0 for none.
type Failing struct{ Code int }

func (*Calc) Do(_ *http.Request, args *Failing, reply *int) error {
	switch args.Code {
	case 0:
		return nil
	case 1:
		return errors.New("of no code, which becomes -32000")
	}
	return &json2.Error{Code: json2.ErrorCode(args.Code), Message: reason}
}

func TestJSONRPC(t *testing.T) {
	server := rpc.NewServer()
	server.RegisterCodec(json2.NewCodec(), "application/json")
	require.NoError(t, server.RegisterService(new(Calc), ""))
	url := serve(t, server)
	client, ends := watched(t, policy.JSONRPC(-32050))
	for _, c := range []struct {
		method string
		code   int
		want   policy.Outcome
	}{
		{"Calc.Do", 0, policy.Success},
		{"Calc.Do", -32603, policy.Failure},
		{"Calc.Do", -32050, policy.Failure},
		{"Calc.Do", 1, policy.Success},
		{"Calc.Do", -32602, policy.Success},
		{"Calc.None", 0, policy.Success},
	} {
		body, err := json2.EncodeClientRequest(c.method, Failing{c.code})
		require.NoError(t, err)
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		require.NoError(t, err)
		var reply int
		err = json2.DecodeClientResponse(resp.Body, &reply) // which may stop before the end
		require.Equal(t, c.code != 0 || c.method == "Calc.None", err != nil)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, c.want, last(t, ends), "%+v", c)
	}
}

type resolver struct{}

func (*resolver) Must(args struct{ Code string }) (string, error) {
	return "well", coded(args.Code).orNil()
}
func (*resolver) Might(args struct{ Code string }) (*string, error) {
	return nil, coded(args.Code).orNil()
}
func (*resolver) Well() string   { return "well" }
func (*resolver) Panics() string { panic("resolver") }

type coded string

func (c coded) Error() string              { return reason }
func (c coded) Extensions() map[string]any { return map[string]any{"code": string(c)} }
func (c coded) orNil() error {
	if c == "" {
		return nil
	}
	return c
}

func TestGraphQL(t *testing.T) {
	schema := graphqlserver.MustParseSchema(`type Query { must(code: String!): String! might(code: String!): String well: String! panics: String! }`, new(resolver))
	url := serve(t, &relay.Handler{Schema: schema})
	client, ends := watched(t, policy.GraphQL("DATABASE_DOWN"))
	api := graphql.NewClient(url, graphql.WithHTTPClient(client))
	for query, want := range map[string]policy.Outcome{
		`{ must(code: "") }`:                            policy.Success,
		`{ must(code: "INTERNAL_SERVER_ERROR") }`:       policy.Failure,
		`{ must(code: "DATABASE_DOWN") }`:               policy.Failure,
		`{ must(code: "FORBIDDEN") }`:                   policy.Success,
		`{ might(code: "INTERNAL_SERVER_ERROR") well }`: policy.Success,
		`{ nosuchfield }`:                               policy.Success,
		`{ panics }`:                                    policy.Success, // it gives no code
	} {
		var reply any
		err := api.Run(t.Context(), graphql.NewRequest(query), &reply)
		require.Equal(t, query != `{ must(code: "") }`, err != nil)
		require.Equal(t, want, last(t, ends), query)
	}
}

// What S3 answers is written by hand, as its documentation has it: it does not run here.
func TestS3(t *testing.T) {
	answer := ""
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		io.WriteString(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")
		w.(http.Flusher).Flush()
		io.WriteString(w, "   \n\n"+answer)
	}))
	client, ends := watched(t, policy.S3())
	api := s3.New(s3.Options{
		BaseEndpoint: aws.String(url), UsePathStyle: true, Region: "eu-central-1", HTTPClient: client, Retryer: aws.NopRetryer{},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "secret"}, nil
		}),
	})
	calls := map[string]func() error{
		"CopyObject": func() error {
			_, err := api.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("b"), Key: aws.String("k"), CopySource: aws.String("b/l")})
			return err
		},
		"UploadPartCopy": func() error {
			_, err := api.UploadPartCopy(t.Context(), &s3.UploadPartCopyInput{
				Bucket: aws.String("b"), Key: aws.String("k"), CopySource: aws.String("b/l"), PartNumber: aws.Int32(1), UploadId: aws.String("u"),
			})
			return err
		},
		"CompleteMultipartUpload": func() error {
			_, err := api.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
				Bucket: aws.String("b"), Key: aws.String("k"), UploadId: aws.String("u"),
			})
			return err
		},
	}
	for name, call := range calls {
		for code, want := range map[string]policy.Outcome{
			"InternalError": policy.Failure, "SlowDown": policy.Failure, "ServiceUnavailable": policy.Failure, "NoSuchUpload": policy.Success,
		} {
			answer = "<Error><Code>" + code + "</Code><Message>We encountered an internal error. Please try again.</Message></Error>"
			require.Error(t, call(), "%s sees the error", name)
			require.Equal(t, want, last(t, ends), "%s: %s", name, code)
		}
		answer = "<" + name + "Result><ETag>\"e\"</ETag></" + name + "Result>"
		require.NoError(t, call(), name)
		require.Equal(t, policy.Success, last(t, ends), name)
	}
	answer = "<Error><Code>InternalError</Code></Error>"
	object, err := api.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	require.NoError(t, err)
	io.Copy(io.Discard, object.Body)
	require.NoError(t, object.Body.Close())
	require.Equal(t, policy.Success, last(t, ends), "it is somebody's object")
}
