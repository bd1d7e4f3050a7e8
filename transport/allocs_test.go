package transport_test

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

type stub func() (*http.Response, error)

func (s stub) RoundTrip(*http.Request) (*http.Response, error) { return s() }

type repeatedBody struct{ strings.Reader }

func (b *repeatedBody) Close() error { b.Reset("hello"); return nil }

// selfWritingBody can write itself.
type selfWritingBody struct{ bytes.Reader }

func (*selfWritingBody) Close() error { return nil }

// hiding is a body that shows nothing but that it can be read.
type hiding struct{ io.ReadCloser }

// TestAllocations guards what a call costs in a way that does not depend on the machine: allocations and their bytes, without those
// of the base.
func TestAllocations(t *testing.T) {
	buffer, hello := make([]byte, 64), []byte("hello")
	body, writing := &repeatedBody{}, &selfWritingBody{}
	good := &http.Response{StatusCode: 200, Body: http.NoBody}
	none := func() (*http.Response, error) { return good, nil }
	with := func(body io.ReadCloser) stub {
		answer := &http.Response{StatusCode: 200, ContentLength: 5}
		return func() (*http.Response, error) {
			answer.Body = body
			return answer, nil
		}
	}
	memory := strings.NewReader("")
	inMemory := with(io.NopCloser(memory))
	classic := transport.WithPolicy(policy.Classic{})
	timeout := transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{Timeout: time.Hour}})
	inFlight := transport.WithPolicy(policy.Adaptive{Limits: policy.Limits{InFlight: 10}})
	outcomes := transport.WithObserver(transport.Observer{OnOutcome: func(transport.CallEnd) {}})
	for _, c := range []struct {
		name        string
		url, method string
		base        stub
		opts        []transport.Option
		open, due   bool
		most        float64
		bytes       uint64
	}{
		{name: "healthy, no body", base: none},
		{name: "healthy, by the classic policy", base: none, opts: []transport.Option{classic}},
		{name: "healthy, a port in the URL", url: "https://upstream.test:8443/x", base: none},
		{name: "healthy, told of its outcome", base: none, opts: []transport.Option{outcomes}},
		{name: "healthy, with a timeout", base: none, opts: []transport.Option{timeout}, most: 3, bytes: 816},
		{name: "healthy, with a limit in flight", base: none, opts: []transport.Option{inFlight}, most: 1, bytes: 96},
		{name: "body read to its end", base: with(&hiding{body}), most: 1, bytes: 64},
		{name: "body that can write itself", base: with(writing), most: 1, bytes: 64},
		{name: "body in memory", base: inMemory},
		{name: "body, with a timeout", base: with(&hiding{body}), opts: []transport.Option{timeout}, most: 3, bytes: 816},
		{name: "body, told of its outcome", base: with(&hiding{body}), opts: []transport.Option{outcomes}, most: 1, bytes: 288},
		{name: "refusal", open: true, most: 3, bytes: 576},
		{name: "refusal of what is better not lost", method: http.MethodPost, open: true, due: true, opts: []transport.Option{transport.WithSafeProbes()}, most: 4, bytes: 896},
		{name: "the same by error", method: http.MethodPost, open: true, due: true, opts: []transport.Option{transport.WithSafeProbes(), transport.WithRefusalError()}, most: 1, bytes: 176},
		{name: "refusal by error", open: true, opts: []transport.Option{transport.WithRefusalError()}, most: 1, bytes: 24},
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
			call := func() {
				body.Reset("hello")
				writing.Reset(hello)
				memory.Reset("hello")
				resp, err := rt.RoundTrip(req)
				if err != nil {
					return
				}
				if body, ok := resp.Body.(io.WriterTo); ok {
					_, err = body.WriteTo(io.Discard)
				} else {
					for err == nil {
						_, err = resp.Body.Read(buffer)
					}
				}
				if err != nil && err != io.EOF {
					panic(err)
				}
				resp.Body.Close()
			}
			if testkit.Race && c.most > 0 { // then a sync.Pool forgets by chance what it has
				c.most, c.bytes = c.most+1, c.bytes+32
			}
			require.LessOrEqual(t, testing.AllocsPerRun(1000, call), c.most)
			require.LessOrEqual(t, bytesPerRun(1000, call), c.bytes)
		})
	}
}

// bytesPerRun is AllocsPerRun for their bytes.
func bytesPerRun(runs uint64, f func()) uint64 {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	f()
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / runs
}
