package read

import (
	"bytes"
	"context"
	"io"
	"os"
	"testing"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// FuzzRead reads any bytes in the format that they look like, and in each of the others.
func FuzzRead(f *testing.F) {
	for i, log := range logs {
		text, err := os.ReadFile(logFile(log.file))
		if err != nil {
			f.Fatal(err)
		}
		for line := range bytes.Lines(text[:min(len(text), 6000)]) {
			f.Add(uint8(0), line)
			f.Add(uint8(i), line)
		}
	}
	for i := range documented {
		for _, line := range documented[i].lines {
			f.Add(uint8(i), []byte(line))
		}
	}
	formats := []string{"", "nginx:$remote_addr [$time_local] $status $request_time $upstream_addr $upstream_status",
		"apache:%h %t \"%r\" %>s %D", "nginx-json", "nginx-ingress", "haproxy", "squid", "caddy", "traefik", "envoy", "alb",
		"cloudfront", "gcp", "har", "otlp", "stdouttrace", "slog", "json:start=a,ms=b,status=c,error=d", "envoy-json"}
	keys := []string{"", "upstream", "route", "route=/a/{id}", "host"}
	f.Fuzz(func(t *testing.T, which uint8, text []byte) {
		o := Options{Format: formats[int(which)%len(formats)], Key: keys[int(which)%len(keys)], Explain: true,
			Stdin: bytes.NewReader(text), Judge: policy.OnStatus(policy.Failure, 404)}
		s, err := Open(context.Background(), o, "-")
		if err != nil {
			return
		}
		defer s.Close()
		last, calls := int64(-1<<63), int64(0)
		for buf := make([]record.Call, 3); ; {
			n, err := s.Next(buf)
			for _, c := range buf[:n] {
				if c.Start < last || c.Took() < -1 || c.Status > 999 {
					t.Fatalf("%+v after a call at %d", c, last)
				}
				if o := c.Outcome(); o != policy.Success && o != policy.Failure && o != policy.Ignored {
					t.Fatalf("outcome %v", o)
				}
				if name := s.Keys().Name(c.Key); name == "" {
					t.Fatal("a key without a name")
				}
				last = c.Start
			}
			calls += int64(n)
			if err == io.EOF {
				break
			}
			if err != nil {
				return // as of what is compressed, and is not
			}
		}
		sum := s.Report().Sum()
		if sum.Calls != calls || sum.Calls != sum.Success+sum.Failure+sum.Ignored {
			t.Fatalf("%d calls, and %+v", calls, sum)
		}
		if sum.Lines > sum.Calls+sum.NotUnderstood+sum.Others+sum.Left {
			t.Fatalf("lines are lost: %+v", sum)
		}
	})
}
