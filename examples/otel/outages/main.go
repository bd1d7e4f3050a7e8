// Outages writes otel.json.gz, the spans that otelhttp and the SDK made of calls in two outages, as stdouttrace has
// them, and otel-callers.json.gz, what the callers saw: these are testdata of cmd/fusebox. It takes 42 seconds.
//
//	go run -C examples/otel ./outages ../../cmd/fusebox/testdata/outages
//
// One server on loopback is three hosts. Orders answers 500 in the first outage, and a third of its calls for a while
// after; in the second it does not answer. Search is the same, but in the second its headers come, and no body. Pay is
// well, but for a call now and then. Callers wait for a second.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const lasts = 40 * time.Second

// handler is the server's script.
func handler(start time.Time) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		at, well := time.Since(start).Seconds(), r.Host == "pay.example"
		switch {
		case !well && at >= 24 && at < 31:
			if r.Host == "search.example" {
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
			return
		case !well && at >= 8 && at < 14, !well && at >= 14 && at < 17 && rand.IntN(3) == 0, rand.IntN(100) == 0:
			time.Sleep(time.Duration(2+rand.IntN(10)) * time.Millisecond)
			w.WriteHeader(http.StatusInternalServerError)
		default:
			time.Sleep(time.Duration(5+rand.IntN(30)) * time.Millisecond)
		}
		io.WriteString(w, "ok")
	}
}

// counted gives ids in their order: random ones would be most of the file.
type counted struct{ last atomic.Uint64 }

func (c *counted) NewIDs(ctx context.Context) (id trace.TraceID, _ trace.SpanID) {
	binary.BigEndian.PutUint64(id[8:], c.last.Add(1))
	return id, c.NewSpanID(ctx, id)
}

func (c *counted) NewSpanID(_ context.Context, of trace.TraceID) (id trace.SpanID) {
	copy(id[:], of[8:])
	return id
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: outages FOLDER")
	}
	var spans, seen bytes.Buffer
	exporter, err := stdouttrace.New(stdouttrace.WithWriter(&spans))
	check(err)
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithIDGenerator(&counted{}))

	start := time.Now()
	server := httptest.NewServer(handler(start))
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}
	base := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 100}
	client := &http.Client{
		Transport: otelhttp.NewTransport(base, otelhttp.WithTracerProvider(provider)),
		Timeout:   time.Second,
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for host, rate := range map[string]float64{"orders.example": 18, "search.example": 14, "pay.example": 8} {
		all.Go(func() {
			for time.Since(start) < lasts {
				time.Sleep(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
				all.Go(func() {
					began := time.Now()
					status, err := call(client, "http://"+host+"/")
					took, failed := time.Since(began), ""
					if err != nil {
						failed = err.Error()
					}
					mu.Lock()
					defer mu.Unlock()
					fmt.Fprintf(&seen, `{"start":%q,"ns":%d,"status":%d,"host":%q,"error":%q}`+"\n",
						began.UTC().Format(time.RFC3339Nano), took, status, host, failed)
				})
			}
		})
	}
	all.Wait()
	check(provider.Shutdown(context.Background()))
	base.CloseIdleConnections()
	server.Close()
	pack(filepath.Join(os.Args[1], "otel.json.gz"), spans.Bytes())
	pack(filepath.Join(os.Args[1], "otel-callers.json.gz"), seen.Bytes())
}

// call makes a call and reads its body. The status is 0 if there was none.
func call(client *http.Client, url string) (status int, err error) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func pack(path string, b []byte) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	check(err)
	_, err = z.Write(b)
	check(err)
	check(z.Close())
	check(os.WriteFile(path, out.Bytes(), 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
