package read

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

func TestALineWithAWrongTimeMovesNoOther(t *testing.T) {
	begin := at("2026-11-29T12:00:00Z")
	formats := map[string]func(time.Time) string{
		"json:start=start,ms=ms,status=status,host=host": func(at time.Time) string {
			return fmt.Sprintf(`{"start":%q,"ms":7,"status":200,"host":"h"}`+"\n", at.Format(time.RFC3339Nano))
		},
		"nginx": func(at time.Time) string {
			return "127.0.0.1 - - [" + at.Format("02/Jan/2006:15:04:05 -0700") + "] \"GET / HTTP/1.1\" 200 0 \"-\" \"-\"\n"
		},
		"apache": func(at time.Time) string {
			return "127.0.0.1 - - [" + at.Format("02/Jan/2006:15:04:05 -0700") + "] \"GET / HTTP/1.1\" 200 0 \"-\" \"-\" 7000\n"
		},
	}
	for format, line := range formats {
		var lines []string
		for i := range 500 {
			lines = append(lines, line(begin.Add(time.Duration(i)*time.Second)))
		}
		right, _ := readAll(t, Options{Format: format, Stdin: strings.NewReader(strings.Join(lines, ""))}, "-")
		for _, place := range []int{0, 1, 100, 101, 250} {
			for _, wrong := range []time.Duration{time.Hour, 73 * 365 * 24 * time.Hour} {
				stray := line(begin.Add(time.Duration(place)*time.Second + wrong))
				log := strings.Join(slices.Insert(slices.Clone(lines), place, stray), "")
				calls, report := readAll(t, Options{Format: format, Stdin: strings.NewReader(log)}, "-")
				f := report.Files[0]
				if len(calls) != 501 || f.Late+f.Back != 0 || !f.Last.Equal(time.Unix(0, right[499].End())) {
					t.Errorf("%s, line %d by %v: %d calls, %d late, %d times back, until %v", format, place, wrong,
						len(calls), f.Late, f.Back, f.Last)
				}
				if !strings.Contains(strings.Join(f.Notes, " "), "ahead of those about them by more than the window of 2m0s: 1.") {
					t.Errorf("%s, line %d by %v: %q", format, place, wrong, f.Notes)
				}
			}
		}
	}
}

func TestALongCallThatIsWrittenWhenItBeginsMovesNoOther(t *testing.T) {
	begin := at("2026-11-29T12:00:00Z")
	for _, place := range []int{0, 1, 300} {
		var entries []string
		for i := range 600 {
			at := begin.Add(time.Duration(i) * time.Second).Format(time.RFC3339Nano)
			if i == place {
				entries = append(entries, fmt.Sprintf(`{"startedDateTime":%q,"time":7200000,"request":{"method":"GET",`+
					`"url":"http://h/events"},"response":{"status":200}}`, at))
			}
			entries = append(entries, fmt.Sprintf(`{"startedDateTime":%q,"time":7,"request":{"method":"GET",`+
				`"url":"http://h/"},"response":{"status":200}}`, at))
		}
		log := `{"log":{"version":"1.2","entries":[` + strings.Join(entries, ",") + `]}}`
		calls, report := readAll(t, Options{Stdin: strings.NewReader(log)}, "-")
		f := report.Files[0]
		if len(calls) != 601 || f.Late+f.Back+f.Long != 0 || f.Format != "har" {
			t.Errorf("%s: %d calls, %d late, %d times back, %d long", f.Format, len(calls), f.Late, f.Back, f.Long)
		}
		long := slices.IndexFunc(calls, func(c record.Call) bool { return c.Took() > time.Second })
		if long < 0 {
			t.Fatal("the long call is not there")
		}
		if c := calls[long]; c.Start != begin.Add(time.Duration(place)*time.Second).UnixNano() || c.Took() > time.Hour {
			t.Errorf("the long call begins at %v and takes %v", time.Unix(0, c.Start).UTC(), c.Took())
		}
	}
}

func TestWhatHasTheNewestRecordFirstIsNotReadTheWrongWayRound(t *testing.T) {
	var lines []string
	for i := range 2000 {
		lines = append(lines, fmt.Sprintf("127.0.0.1 - - [%s] \"GET / HTTP/1.1\" 200 0 \"-\" \"-\"\n",
			at("2026-11-29T12:00:00Z").Add(time.Duration(i)*time.Second/4).Format("02/Jan/2006:15:04:05 -0700")))
	}
	slices.Reverse(lines)
	name := t.TempDir() + "/log"
	for n, window := range map[int]time.Duration{2000: time.Hour, 400: 0} {
		if err := os.WriteFile(name, []byte(strings.Join(lines[:n], "")), 0o600); err != nil {
			t.Fatal(err)
		}
		calls, report := readAll(t, Options{Window: window}, name)
		if late := report.Sum().Late + report.Sum().Back; len(calls) != n || late != 0 {
			t.Errorf("%d calls, %d of them late", len(calls), late)
		}
	}
	if err := os.WriteFile(name, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), Options{}, name); err == nil || !strings.Contains(err.Error(), "newest record is first") {
		t.Errorf("by the usual window: %v", err)
	}
}

func TestADocumentIsOneServiceAfterTheOther(t *testing.T) {
	begin := at("2026-11-29T12:00:00Z")
	var services []string
	for service := range 3 {
		var spans []string
		for i := range 600 {
			start := begin.Add(time.Duration(i)*time.Second + time.Duration(service)*100*time.Millisecond)
			spans = append(spans, fmt.Sprintf(`{"kind":3,"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[`+
				`{"key":"server.address","value":{"stringValue":"h"}},`+
				`{"key":"http.request.method","value":{"stringValue":"GET"}},`+
				`{"key":"http.response.status_code","value":{"intValue":"200"}}]}`, start.UnixNano(), start.UnixNano()+7e6))
		}
		services = append(services, `{"resource":{},"scopeSpans":[{"spans":[`+strings.Join(spans, ",")+`]}]}`)
	}
	calls, report := readAll(t, Options{Stdin: strings.NewReader(`{"resourceSpans":[` + strings.Join(services, ",") + `]}`)}, "-")
	f := report.Files[0]
	if f.Format != "otlp" || len(calls) != 1800 || f.Late+f.Back != 0 || len(f.Notes) != 0 {
		t.Errorf("%s: %d calls, %d late, %d times back, %q", f.Format, len(calls), f.Late, f.Back, f.Notes)
	}
	for i := range calls {
		if want := begin.Add(time.Duration(i/3)*time.Second + time.Duration(i%3)*100*time.Millisecond); calls[i].Start != want.UnixNano() {
			t.Fatalf("call %d begins at %v, not %v", i, time.Unix(0, calls[i].Start).UTC(), want)
		}
	}
}
