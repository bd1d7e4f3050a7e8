package read

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// The logs of testdata were written by the programs that their names tell, each in front of one upstream that misbehaves
// as the path says. What is here was counted by hand.
var logs = []struct {
	file, format                             string
	lines, others, success, failure, ignored int64
}{
	{"nginx-combined.log", "nginx", 62, 0, 36, 21, 5},
	{"nginx-upstream.log", "nginx", 62, 0, 34, 19, 9},
	{"nginx-json.log", "nginx-json", 62, 0, 34, 19, 9},
	{"nginx-ingress.log", "nginx-ingress", 62, 0, 34, 19, 9},
	{"haproxy-httplog.log", "haproxy", 59, 0, 28, 26, 5},
	{"haproxy-httplog-syslog.log", "haproxy", 61, 2, 28, 26, 5},
	{"haproxy-tcplog.log", "haproxy", 10, 0, 3, 7, 0},
	{"apache-combined-d.log", "apache", 41, 0, 23, 18, 0},
	{"squid-native.log", "squid", 58, 0, 30, 21, 7},
	{"caddy-2.11.log", "caddy", 41, 0, 18, 13, 10},
	{"caddy-2.6.log", "caddy", 29, 0, 14, 10, 5},
	{"traefik.log", "traefik", 33, 0, 10, 12, 11},
	{"traefik-common.log", "traefik-common", 3, 0, 1, 1, 1},
	{"varnishncsa.log", "varnishncsa", 44, 0, 23, 20, 1},
	{"varnishncsa-fields.log", "varnishncsa", 44, 0, 21, 20, 3},
	{"varnishncsa-backend.log", "varnishncsa", 42, 0, 21, 20, 1},
	{"lighttpd.log", "lighttpd", 40, 0, 27, 13, 0},
	{"playwright-h1.har", "har", 28, 0, 13, 10, 5},
	{"playwright-h1full.har", "har", 28, 0, 13, 10, 5},
	{"playwright-h2.har", "har", 28, 0, 13, 10, 5},
	{"otlp.json", "otlp", 24, 0, 9, 14, 1},
	{"otlp-protojson.json", "otlp-protojson", 24, 0, 9, 14, 1},
	{"otel-stdouttrace.json", "stdouttrace", 24, 0, 9, 14, 1},
	{"slog.json", "slog", 24, 0, 9, 14, 1},
}

func TestEachLogIsReadAsItsProgramMeansIt(t *testing.T) {
	for _, log := range logs {
		t.Run(log.file, func(t *testing.T) {
			calls, report := readAll(t, Options{Explain: true}, logFile(log.file))
			f := report.Files[0]
			if f.Format != log.format || f.Lines != log.lines || f.Others != log.others || f.NotUnderstood != 0 ||
				f.Success != log.success || f.Failure != log.failure || f.Ignored != log.ignored {
				t.Errorf("format %s, lines %d, others %d, not understood %d, success %d, failure %d, ignored %d; want %v",
					f.Format, f.Lines, f.Others, f.NotUnderstood, f.Success, f.Failure, f.Ignored, log)
				for _, r := range f.Readings {
					t.Logf("%d × %s: %s", r.Calls, r.Outcome, r.Words)
					for _, line := range r.Lines {
						t.Logf("  %d: %s\n     %s", line.Number, line.Text, line.Read)
					}
				}
				for _, line := range f.Strange {
					t.Logf("strange: %d: %s", line.Number, line.Text)
				}
			}
			if int64(len(calls)) != f.Calls || f.Calls != f.Success+f.Failure+f.Ignored {
				t.Errorf("%d calls are given, and %d counted", len(calls), f.Calls)
			}
			for i := 1; i < len(calls); i++ {
				if calls[i].Start < calls[i-1].Start {
					t.Fatalf("call %d begins before the one before", i)
				}
			}
		})
	}
}

func logFile(name string) string { return filepath.Join("..", "..", "testdata", "logs", name) }

// readAll reads files to their end.
func readAll(t testing.TB, o Options, files ...string) ([]record.Call, Report) {
	t.Helper()
	all, s := readToEnd(t, o, 100, files)
	return all, s.Report()
}

// readKeys reads files to their end, and gives the calls with their keys.
func readKeys(t testing.TB, o Options, files ...string) ([]record.Call, *record.Keys) {
	t.Helper()
	all, s := readToEnd(t, o, 7, files)
	return all, s.Keys()
}

// readToEnd reads files in pieces of so many calls, and gives the source, which is closed.
func readToEnd(t testing.TB, o Options, piece int, files []string) ([]record.Call, *Source) {
	t.Helper()
	s, err := Open(context.Background(), o, files...)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var all []record.Call
	for buf := make([]record.Call, piece); ; {
		n, err := s.Next(buf)
		all = append(all, buf[:n]...)
		if err == io.EOF {
			return all, s
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}
