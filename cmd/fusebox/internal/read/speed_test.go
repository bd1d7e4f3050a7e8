package read

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// Benchmarks are beside a floor each in the same run: what it takes to find the lines, or to have them unmarshaled.
//
//	go test -run '^$' -bench . -cpu 1,2 ./internal/read

const benchmarkLines = 500_000

var shapes = []struct {
	name string
	line func(i int, at time.Time, took time.Duration, status int) string
}{
	{"nginx-upstream", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`10.0.%d.%d - - [%s] "GET /items/%d HTTP/1.1" %d 612 "-" "Go-http-client/1.1" 10.0.0.1 rt=%.3f ua="10.1.0.%d:8080" us="%d" uct="0.000" uht="%.3f" urt="%.3f"`,
			i%7, i%250, at.Format("02/Jan/2006:15:04:05 -0700"), i, status, took.Seconds(), i%4, status, took.Seconds(), took.Seconds())
	}},
	{"nginx-combined", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`10.0.%d.%d - - [%s] "GET /items/%d HTTP/1.1" %d 612 "-" "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"`,
			i%7, i%250, at.Format("02/Jan/2006:15:04:05 -0700"), i, status)
	}},
	{"haproxy", func(i int, at time.Time, took time.Duration, status int) string {
		ms := took.Milliseconds()
		return fmt.Sprintf(`<134>%s haproxy[22928]: 10.0.%d.%d:39800 [%s] fe app/app%d 0/0/0/%d/%d %d 135 - - ---- 1/1/0/0/0 0/0 "GET /items/%d HTTP/1.1"`,
			at.Format("Jan 02 15:04:05"), i%7, i%250, at.Add(-took).Format("02/Jan/2006:15:04:05.000"), i%4, ms, ms, status, i)
	}},
	{"apache-d", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`10.0.%d.%d - - [%s] "GET /items/%d HTTP/1.1" %d 168 "-" "Go-http-client/1.1" %d`,
			i%7, i%250, at.Add(-took).Format("02/Jan/2006:15:04:05 -0700"), i, status, took.Microseconds())
	}},
	{"squid", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`%d.%03d %6d 10.0.%d.%d TCP_MISS/%d 265 GET http://10.1.0.%d:8080/items/%d - HIER_DIRECT/10.1.0.1 text/plain`,
			at.Unix(), at.Nanosecond()/1e6, took.Milliseconds(), i%7, i%250, status, i%4, i)
	}},
	{"json-mapping", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`{"start":%q,"level":"info","msg":"call","method":"GET","path":"/items/%d","upstream":"10.1.0.%d:8080","ms":%.3f,"status":%d,"trace":"a7d1307627b47844e46c1c6ca8bb426c"}`,
			at.Add(-took).Format(time.RFC3339Nano), i, i%4, float64(took)/1e6, status)
	}},
	{"caddy", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`{"level":"info","ts":%.6f,"logger":"http.log.access.log0","msg":"handled request","request":{"remote_ip":"10.0.%d.%d","remote_port":"42336","client_ip":"10.0.0.1","proto":"HTTP/1.1","method":"GET","host":"app%d","uri":"/items/%d","headers":{"User-Agent":["Go-http-client/1.1"],"Accept-Encoding":["gzip"]}},"bytes_read":0,"user_id":"","duration":%.9f,"size":7,"status":%d,"resp_headers":{"Via":["1.1 Caddy"],"Content-Type":["text/plain; charset=utf-8"]}}`,
			float64(at.UnixMicro())/1e6, i%7, i%250, i%4, i, took.Seconds(), status)
	}},
	{"traefik", func(i int, at time.Time, took time.Duration, status int) string {
		start := at.Add(-took).Format(time.RFC3339Nano)
		return fmt.Sprintf(`{"ClientAddr":"10.0.0.1:46608","ClientHost":"10.0.%d.%d","ClientPort":"46608","ClientUsername":"-","DownstreamContentSize":7,"DownstreamStatus":%d,"Duration":%d,"OriginContentSize":7,"OriginDuration":%d,"OriginStatus":%d,"Overhead":15974,"RequestAddr":"127.0.0.1:18280","RequestContentSize":0,"RequestCount":%d,"RequestHost":"app","RequestMethod":"GET","RequestPath":"/items/%d","RequestPort":"18280","RequestProtocol":"HTTP/1.1","RequestScheme":"http","RetryAttempts":0,"ServiceAddr":"10.1.0.%d:8080","ServiceName":"svc@file","ServiceURL":"http://10.1.0.1:8080","StartLocal":%q,"StartUTC":%q,"entryPointName":"web","level":"info","msg":"","time":%q}`,
			i%7, i%250, status, took.Nanoseconds(), took.Nanoseconds(), status, i, i, i%4, start, start, at.Format(time.RFC3339))
	}},
	{"otlp", func(i int, at time.Time, took time.Duration, status int) string {
		return fmt.Sprintf(`{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"scope":{"name":"otelhttp"},"spans":[{"traceId":"a7d1307627b47844e46c1c6ca8bb426c","spanId":"0e35cb6c6ae9080c","flags":257,"name":"HTTP GET","kind":3,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"url.full","value":{"stringValue":"http://10.1.0.%d:8080/items/%d"}},{"key":"server.address","value":{"stringValue":"10.1.0.%d"}},{"key":"server.port","value":{"intValue":"8080"}},{"key":"network.protocol.version","value":{"stringValue":"1.1"}},{"key":"http.response.status_code","value":{"intValue":"%d"}}],"status":{}}]}]}]}`,
			at.Add(-took).UnixNano(), at.UnixNano(), i%4, i, i%4, status)
	}},
}

// linesOf are so many lines of 2000 calls a second, of which one in a hundred fails.
func linesOf(n int, line func(i int, at time.Time, took time.Duration, status int) string) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	at := time.Date(2026, 11, 29, 2, 27, 6, 0, time.UTC)
	for i := range n {
		at = at.Add(500 * time.Microsecond)
		took := time.Duration(random.ExpFloat64() * float64(40*time.Millisecond))
		status := 200
		if random.IntN(100) == 0 {
			status = 503
		}
		b.WriteString(line(i, at, took, status))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func BenchmarkRead(b *testing.B) {
	for _, shape := range shapes {
		text := linesOf(benchmarkLines, shape.line)
		b.Run(shape.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			buf := make([]record.Call, 1024)
			for b.Loop() {
				s, err := Open(context.Background(), Options{Stdin: bytes.NewReader(text)}, "-")
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for err = nil; err == nil; {
					var got int
					got, err = s.Next(buf)
					n += got
				}
				if err != io.EOF || n != benchmarkLines {
					b.Fatal(n, err)
				}
				s.Close()
			}
			b.ReportMetric(float64(benchmarkLines)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
		})
	}
}

func BenchmarkFloorScanner(b *testing.B) {
	text := linesOf(benchmarkLines, shapes[0].line)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		n := 0
		for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
			n += len(lines.Bytes())
		}
	}
	b.ReportMetric(float64(benchmarkLines)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
}

func BenchmarkFloorUnmarshal(b *testing.B) {
	for _, shape := range shapes[5:] {
		text := linesOf(benchmarkLines/10, shape.line)
		b.Run(shape.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
					var line map[string]any
					if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(benchmarkLines/10)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
		})
	}
}
