package read

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// shown are the formats of the page, each with what it is of, and lines or a file of it.
var formatsShown = []struct{ of, format, file, line string }{
	{"nginx, combined", "", "nginx-combined.log", ""},
	{"nginx, with upstream fields", "", "nginx-upstream.log", ""},
	{"nginx, any `log_format`", "nginx:$msec $status $request_time $upstream_addr", "", "1795919226.5 200 0.1 a:1"},
	{"nginx, JSON by its variables' names", "", "nginx-json.log", ""},
	{"ingress-nginx", "", "nginx-ingress.log", ""},
	{"HAProxy: httplog, httpslog, tcplog, by syslog or not", "", "haproxy-httplog.log", ""},
	{"Apache, combined and `%D`", "", "apache-combined-d.log", ""},
	{"Apache, any `LogFormat`", `apache:%h %{usec}t %>s %D`, "", "a 1795919226500000 200 10"},
	{"Squid, native", "", "squid-native.log", ""},
	{"Caddy, JSON", "", "caddy-2.11.log", ""},
	{"Traefik, JSON", "", "traefik.log", ""},
	{"Traefik, common", "", "traefik-common.log", ""},
	{"varnishncsa, default, with fields, `-b`", "", "varnishncsa-fields.log", ""},
	{"lighttpd", "", "lighttpd.log", ""},
	{"Envoy and Istio, default", "envoy", "", documented[0].lines[0]},
	{"Envoy, JSON", "envoy-json", "", `{"start_time":"2026-11-29T02:27:06Z","response_code":200}`},
	{"AWS ALB", "alb", "", documented[2].lines[0]},
	{"CloudFront", "cloudfront", "", documented[3].lines[2]},
	{"GCP load balancers", "gcp", "", documented[4].lines[0]},
	{"HAR, of Chrome and Playwright", "", "playwright-h1.har", ""},
	{"OTLP/JSON, client spans", "", "otlp.json", ""},
	{"the same by protojson", "", "otlp-protojson.json", ""},
	{"OpenTelemetry's stdouttrace", "", "otel-stdouttrace.json", ""},
	{"log/slog, JSON", "", "slog.json", ""},
	{"any lines of JSON", "json:start=start,ms=ms,status=status,host=host,error=error", "",
		`{"start":"2026-11-29T02:27:06Z","status":200}`},
}

// TestThePageOfFormatsIsWhatTheCodeSays compares docs/replay-formats.md with the tables that the code makes:
//
//	go test -run ThePageOfFormats ./internal/read -write
func TestThePageOfFormatsIsWhatTheCodeSays(t *testing.T) {
	path := filepath.Join("..", "..", "..", "..", "docs", "replay-formats.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for name, table := range map[string]string{"formats": tableOfFormats(t), "readings": tableOfReadings()} {
		begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->"
		before, rest, ok1 := strings.Cut(text, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok1 || !ok2 {
			t.Fatalf("the page has no place for %s", name)
		}
		text = before + begin + table + end + after
	}
	if text == string(page) {
		return
	}
	if !*write {
		t.Fatal("docs/replay-formats.md is not what the code says; run this test with -write, and look at the difference")
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func tableOfFormats(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| of | `-format`, which is told by content | stamp | time taken | key | cannot show |\n|---|---|---|---|---|---|\n")
	for _, f := range formatsShown {
		o := Options{Format: f.format, Stdin: strings.NewReader(f.line + "\n")}
		name := "-"
		if f.file != "" {
			name = logFile(f.file)
		}
		s, err := Open(context.Background(), o, name)
		if err != nil {
			t.Fatal(f.of, err)
		}
		a := s.files[0].format.about()
		s.Close()
		stamp := "start, "
		if a.end {
			stamp = "end, "
		}
		took := "no"
		if a.took {
			took = "yes"
		}
		unit := strings.TrimPrefix(a.resolution.String(), "1")
		if a.resolution == 100*time.Nanosecond {
			unit = "100 ns"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s%s | %s | %s | %s |\n", f.of, a.name, stamp, unit, took, a.key, strings.Join(a.cannotShow, " "))
	}
	return b.String()
}

func tableOfReadings() string {
	var b strings.Builder
	b.WriteString("| reading | outcome | cause |\n|---|---|---|\n")
	for _, outcome := range []policy.Outcome{policy.Success, policy.Failure, policy.Ignored} {
		for i := range meanings {
			if outcomes[i] == outcome {
				cause := meanings[i].cause
				text := cause.String()
				if cause.Kind == policy.KindStatus {
					text = "status 5xx"
				}
				fmt.Fprintf(&b, "| %s | %s | %s |\n", meanings[i].words, outcome, text)
			}
		}
	}
	return b.String()
}
