package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkReplay is the whole: from the file to the data, by the default policy, beside floors of the same run: finding the
// lines, and having those of JSON unmarshaled. For one processor it is
//
//	go test -run '^$' -bench Replay -cpu 1
func BenchmarkReplay(b *testing.B) {
	const n = 500_000
	for _, format := range []struct {
		name string
		line func(at time.Time, took time.Duration, port, status int) string
	}{
		{"nginx", func(at time.Time, took time.Duration, port, status int) string {
			return fmt.Sprintf(`127.0.0.1 - - [%s] "GET /ok HTTP/1.1" %d 7 "-" "Go-http-client/1.1" 127.0.0.1 `+
				`rt=%.3f ua="127.0.0.1:%d" us="%[2]d" uct="0.000" uht="%.3[3]f" urt="%.3[3]f"`,
				at.Add(took).Format("02/Jan/2006:15:04:05 -0700"), status, took.Seconds(), port)
		}},
		{"slog", func(at time.Time, took time.Duration, port, status int) string {
			return fmt.Sprintf(`{"time":%q,"level":"INFO","msg":"call","method":"GET","url":"http://127.0.0.1:%d/ok",`+
				`"duration":%d,"status":%d}`, at.Add(took).Format(time.RFC3339Nano), port, took, status)
		}},
	} {
		var text bytes.Buffer
		random, at := rand.New(rand.NewPCG(1, 2)), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		for i := range n { // 2000 a second to eight servers, with an outage of one
			at = at.Add(time.Duration(random.ExpFloat64() * float64(500*time.Microsecond)))
			port, status := random.IntN(8), 200
			if port == 0 && i > n/2 && i < n*6/10 || random.IntN(1000) == 0 {
				status = 503
			}
			took := time.Duration(1+random.IntN(60)) * time.Millisecond
			text.WriteString(format.line(at, took, 18100+port, status) + "\n")
		}
		name := filepath.Join(b.TempDir(), "calls.log")
		if err := os.WriteFile(name, text.Bytes(), 0o600); err != nil {
			b.Fatal(err)
		}
		report := func(b *testing.B) {
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mlines/s")
		}
		b.Run(format.name+"/floor=lines", func(b *testing.B) {
			for b.Loop() {
				found := 0
				for lines := bufio.NewScanner(bytes.NewReader(text.Bytes())); lines.Scan(); {
					found++
				}
				if found != n {
					b.Fatal(found)
				}
			}
			report(b)
		})
		if format.name == "slog" {
			b.Run(format.name+"/floor=unmarshal", func(b *testing.B) {
				for b.Loop() {
					for lines := bufio.NewScanner(bytes.NewReader(text.Bytes())); lines.Scan(); {
						var line map[string]any
						if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
							b.Fatal(err)
						}
					}
				}
				report(b)
			})
		}
		b.Run(format.name+"/replay", func(b *testing.B) {
			for b.Loop() {
				var out strings.Builder
				code, err := run(b.Context(), []string{"replay", "-json", "-", name}, nil, &out, io.Discard)
				if code != exitOK || err != nil || !strings.Contains(out.String(), fmt.Sprintf(`"calls": %d,`, n)) {
					b.Fatal(code, err)
				}
			}
			report(b)
		})
	}
}
