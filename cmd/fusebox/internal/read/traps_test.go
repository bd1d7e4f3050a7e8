package read

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// countsOf are success, failure, ignored, not understood and others.
func countsOf(r Report) string {
	s := r.Sum()
	return fmt.Sprintf("%d %d %d %d %d", s.Success, s.Failure, s.Ignored, s.NotUnderstood, s.Others)
}

func TestALineThatIsBrokenCostsThatLineOnly(t *testing.T) {
	for _, log := range logs {
		if log.format == "har" || strings.HasPrefix(log.format, "otlp") {
			continue // which are not lines
		}
		text, err := os.ReadFile(logFile(log.file))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %d %d", log.success, log.failure, log.ignored)
		lines := bytes.SplitAfter(text, []byte{'\n'})
		last := lines[len(lines)-2]
		for name, broken := range map[string][]byte{
			"CRLF":              bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")),
			"byte order mark":   append([]byte("\xef\xbb\xbf"), text...),
			"no end of line":    bytes.TrimRight(text, "\n"),
			"garbage":           slices.Concat(lines[0], []byte("\x16\x03\x01\x00 \"[{\n"), bytes.Join(lines[1:], nil)),
			"blank lines":       slices.Concat(lines[0], []byte("\n   \n\r\n"), bytes.Join(lines[1:], nil)),
			"cut at the begin":  slices.Concat(last[len(last)/2:], text),
			"cut at the end":    slices.Concat(text, last[:len(last)/3]),
			"cut in the middle": slices.Concat(lines[0], last[:len(last)/3], []byte("\n"), bytes.Join(lines[1:], nil)),
			"a long line":       slices.Concat(bytes.Join(lines[:3], nil), bytes.Repeat([]byte("x"), 2*longestLine), []byte("\n"), bytes.Join(lines[3:], nil)),
		} {
			_, report := readAll(t, Options{Stdin: bytes.NewReader(broken)}, "-")
			sum := report.Sum()
			got := fmt.Sprintf("%d %d %d", sum.Success, sum.Failure, sum.Ignored)
			strange := int64(0)
			if name == "garbage" || name == "a long line" || strings.HasPrefix(name, "cut") {
				strange = 1
			}
			if got != want || sum.NotUnderstood != strange || report.Files[0].Format != log.format ||
				int64(len(report.Files[0].Strange)) != strange {
				t.Errorf("%s, %s: %s, not understood %d, %s; want %s, %d", log.file, name, got, sum.NotUnderstood,
					report.Files[0].Format, want, strange)
			}
		}
	}
}

func TestInvalidJSONOfNginxIsReadAllTheSame(t *testing.T) {
	line := `{"msec":"1795919229.591","status":009,"request_time":0.001,"upstream_addr":"a:1","upstream_status":"200"}` + "\n"
	_, report := readAll(t, Options{Stdin: strings.NewReader(line)}, "-")
	if got := countsOf(report); got != "0 1 0 0 0" {
		t.Error(got)
	}
}

func TestDocumentsAreReadElementByElement(t *testing.T) {
	for _, log := range logs {
		if log.format != "har" && !strings.HasPrefix(log.format, "otlp") {
			continue
		}
		text, err := os.ReadFile(logFile(log.file))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %d %d 0 0", log.success, log.failure, log.ignored)
		twice := fmt.Sprintf("%d %d %d 0 0", 2*log.success, 2*log.failure, 2*log.ignored)
		start := `{"resourceSpans":[{"resource":{},"scopeSpans":[{"spans":[{"traceId":"a7d1` + "\n"
		for name, test := range map[string]struct {
			text []byte
			want string
		}{
			"as it is":              {text, want},
			"indented":              {indented(t, text), want},
			"CRLF":                  {bytes.ReplaceAll(indented(t, text), []byte("\n"), []byte("\r\n")), want},
			"a byte order mark":     {append([]byte("\xef\xbb\xbf"), text...), want},
			"one after the other":   {slices.Concat(text, []byte("\n"), text), twice},
			"with nothing between":  {slices.Concat(text, text), twice},
			"after one that is cut": {slices.Concat([]byte(start), text), strings.Replace(want, " 0 0", " 1 0", 1)},
		} {
			if log.format == "har" && name == "after one that is cut" {
				continue
			}
			_, report := readAll(t, Options{Stdin: oneByOne{bytes.NewReader(test.text)}}, "-")
			if got := countsOf(report); got != test.want {
				t.Errorf("%s, %s: %s, want %s", log.file, name, got, test.want)
			}
		}
	}
}

func TestCompressedAndPipedAndSplitFilesAreReadAsOne(t *testing.T) {
	for _, file := range []string{"nginx-upstream.log", "haproxy-httplog.log", "apache-combined-d.log", "caddy-2.11.log"} {
		text, err := os.ReadFile(logFile(file))
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.SplitAfter(text, []byte{'\n'})
		dir := t.TempDir()
		write := func(name string, b []byte) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		oldest := write("log.2.gz", gzipped(t, bytes.Join(lines[:15], nil)))
		middle := write("log.1.zst", zstandard(t, bytes.Join(lines[15:28], nil)))
		newest := write("log", bytes.Join(lines[28:], nil))
		want, keys := readKeys(t, Options{}, logFile(file))
		names := func(calls []record.Call, k *record.Keys) (all []string) {
			for i := range calls {
				c := &calls[i]
				all = append(all, fmt.Sprint(c.Start/int64(2*time.Second), c.Took(), k.Name(c.Key), c.Cause()))
			}
			slices.Sort(all) // calls of a second that two files share are spread within each
			return all
		}
		for _, files := range [][]string{{oldest, middle, newest}, {newest, middle, oldest}, {middle, newest, oldest}} {
			got, of := readKeys(t, Options{}, files...)
			if len(got) != len(want) {
				t.Errorf("%s: %d calls of %d", file, len(got), len(want))
			} else if a, b := names(got, of), names(want, keys); !similar(a, b) {
				t.Errorf("%s: %q, want %q", files, a, b)
			}
			if !slices.IsSortedFunc(got, func(a, b record.Call) int { return int(a.Start/1000 - b.Start/1000) }) {
				t.Errorf("%s are not in order", files)
			}
		}
		got, of := readKeys(t, Options{Stdin: bytes.NewReader(gzipped(t, text))}, "-")
		if !slices.Equal(names(got, of), names(want, keys)) {
			t.Errorf("%s through a pipe is not the same", file)
		}
		// Of a file that was cut while it was compressed, what came before is read.
		packed := gzipped(t, bytes.Repeat(text, 50))
		_, report := readAll(t, Options{Stdin: bytes.NewReader(packed[:len(packed)/2])}, "-")
		if sum := report.Sum(); sum.Calls == 0 || len(report.Files[0].Notes) == 0 {
			t.Errorf("half of %s: %+v", file, report.Files[0])
		}
	}
}

// similar reports whether most of two sorted lists is the same: a call at an edge may begin in one interval or the next.
func similar(a, b []string) bool {
	same := 0
	for _, text := range a {
		if _, found := slices.BinarySearch(b, text); found {
			same++
		}
	}
	return same*10 >= len(a)*8
}

func TestSeveralHostsLogsAreOneInOrderOfTime(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for host := range 5 {
		var b strings.Builder
		for i := range 400 {
			fmt.Fprintf(&b, `{"end":%q,"ms":%d,"status":200,"host":"h%d"}`+"\n",
				at("2026-11-29T00:00:00Z").Add(time.Duration(i*100+host)*time.Millisecond).Format(time.RFC3339Nano), i%90, host)
		}
		path := filepath.Join(dir, fmt.Sprint(host))
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	calls, _ := readKeys(t, Options{Format: "json:end=end,ms=ms,status=status,host=host"}, files...)
	for i := 1; i < len(calls); i++ {
		if calls[i].Start < calls[i-1].Start {
			t.Fatalf("call %d begins before the one before", i)
		}
	}
	if len(calls) != 2000 {
		t.Errorf("%d calls", len(calls))
	}
	for i := range 5 {
		if calls[i].Key == calls[(i+1)%5].Key {
			t.Errorf("the hosts are not merged: %v", calls[:5])
		}
	}
}

func TestTheCallsOfASecondAreSpreadEvenlyOverIt(t *testing.T) {
	// 50 calls a second of 300 ms each, of which the log has the second of the end (nginx) or of the start (Apache).
	begin := at("2026-11-29T00:00:00Z").UnixNano()
	const every, took = 20 * time.Millisecond, 300 * time.Millisecond
	for _, program := range []struct {
		format string
		end    bool
		field  func() string
	}{
		{"nginx:$remote_addr [$time_local] $status $request_time", true, func() string { return "0.300" }},
		{"apache:%h [%t] %>s %D", false, func() string { return "300000" }},
	} {
		var log strings.Builder
		for i := range 1000 {
			stamp := time.Unix(0, begin+int64(i)*int64(every))
			if program.end {
				stamp = stamp.Add(took)
			}
			fmt.Fprintf(&log, "a [%s] 200 %s\n", stamp.UTC().Format("02/Jan/2006:15:04:05 -0700"), program.field())
		}
		calls, report := readAll(t, Options{Format: program.format, Stdin: strings.NewReader(log.String())}, "-")
		stamp := report.Files[0].Stamp
		if stamp.End != program.end || stamp.Resolution != time.Second || !stamp.Took {
			t.Errorf("%s: %+v", program.format, stamp)
		}
		for i := range calls {
			exact := begin + int64(i)*int64(every)
			if off := time.Duration(calls[i].Start - exact); i >= 50 && i < 950 && off.Abs() > every+10*time.Millisecond {
				t.Fatalf("%s: call %d is off by %v", program.format, i, off)
			}
			if calls[i].Took() != took {
				t.Fatalf("%s: call %d took %v", program.format, i, calls[i].Took())
			}
		}
	}
}

func TestCallsOfApacheThatTakeLongAreWhereTheyBegan(t *testing.T) {
	// Short calls at 100/s, and from second 5 on, one in ten that takes two seconds: lines are in order of end.
	begin := at("2026-11-29T00:00:00Z")
	type call struct{ start, end time.Time }
	var all []call
	for i := range 2000 {
		c := call{start: begin.Add(time.Duration(i) * 10 * time.Millisecond)}
		c.end = c.start.Add(time.Millisecond)
		if i > 500 && i%10 == 0 {
			c.end = c.start.Add(2 * time.Second)
		}
		all = append(all, c)
	}
	byStart := slices.Clone(all)
	slices.SortStableFunc(all, func(a, b call) int { return a.end.Compare(b.end) })
	var log strings.Builder
	for _, c := range all {
		fmt.Fprintf(&log, "a - - [%s] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\" %d\n",
			c.start.Format("02/Jan/2006:15:04:05 -0700"), c.end.Sub(c.start).Microseconds())
	}
	calls, _ := readAll(t, Options{Stdin: strings.NewReader(log.String())}, "-")
	worst := time.Duration(0)
	for i := range calls {
		if i > 100 && i < 1700 {
			worst = max(worst, (time.Duration(calls[i].Start) - time.Duration(byStart[i].start.UnixNano())).Abs())
		}
	}
	if worst > 60*time.Millisecond {
		t.Errorf("the start is off by up to %v", worst)
	}
}

func TestALineOfAnEarlierSecondIsInThatSecond(t *testing.T) {
	// Two workers of nginx whose buffers are written one after the other.
	var log strings.Builder
	for _, sec := range []int{1, 1, 2, 2, 1, 1, 1, 2, 3, 3} {
		fmt.Fprintf(&log, "a - - [29/Nov/2026:02:27:0%d +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n", sec)
	}
	calls, _ := readAll(t, Options{Stdin: strings.NewReader(log.String())}, "-")
	seconds := map[int64]int{}
	for i := range calls {
		seconds[calls[i].Start/second%60]++
	}
	if seconds[1] != 5 || seconds[2] != 3 || seconds[3] != 2 {
		t.Error(seconds)
	}
}

func TestACallLongerThanTheWindowBeginsAtItsEdge(t *testing.T) {
	var log strings.Builder
	begin := at("2026-11-29T00:00:00Z")
	for i := range 600 {
		if i == 599 {
			fmt.Fprintf(&log, `{"end":%q,"ms":500000,"status":101,"host":"h"}`+"\n", begin.Add(599500*time.Millisecond).Format(time.RFC3339Nano))
		}
		fmt.Fprintf(&log, `{"end":%q,"ms":10,"status":200,"host":"h"}`+"\n", begin.Add(time.Duration(i)*time.Second).Format(time.RFC3339Nano))
	}
	calls, report := readAll(t, Options{Format: "json:end=end,ms=ms,status=status,host=host", Window: time.Minute,
		Stdin: strings.NewReader(log.String())}, "-")
	for i := 1; i < len(calls); i++ {
		if calls[i].Start < calls[i-1].Start {
			t.Fatalf("call %d begins before the one before", i)
		}
	}
	i := slices.IndexFunc(calls, func(c record.Call) bool { return c.Took() > time.Second })
	if i < 0 {
		t.Fatal("the long call is not there")
	}
	edge := begin.Add(538 * time.Second).UnixNano()
	if off := time.Duration(calls[i].Start - edge).Abs(); off > 2*time.Second || calls[i].End() != begin.Add(599500*time.Millisecond).UnixNano() {
		t.Errorf("it begins %v off the edge, and ends at %v", off, time.Unix(0, calls[i].End()).UTC())
	}
	if sum, notes := report.Sum(), report.Files[0].Notes; sum.Long != 1 || sum.Late != 0 || len(notes) != 1 {
		t.Errorf("%d long, %d late, %q", sum.Long, sum.Late, notes)
	}
}

func TestAClockThatIsSetBackGoesOn(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	begin := at("2026-10-25T00:30:00Z") // half an hour before summer time ends in Berlin
	for i := range 360 {
		fmt.Fprintf(&log, "10.0.0.1:1 [%s] fe be/s 0/0/0/5/5 200 135 - - ---- 1/1/0/0/0 0/0 \"GET / HTTP/1.1\"\n",
			begin.Add(time.Duration(i)*10*time.Second).In(berlin).Format("02/Jan/2006:15:04:05.000"))
	}
	calls, report := readAll(t, Options{Zone: berlin, Stdin: strings.NewReader(log.String())}, "-")
	f := report.Files[0]
	if f.Back != 1 || len(f.Notes) != 2 || f.Late > 20 {
		t.Errorf("%d times back, notes %q, %d late", f.Back, f.Notes, f.Late)
	}
	last := calls[len(calls)-1].Start
	if want := begin.Add(3590 * time.Second).UnixNano(); last != want || !f.Last.Equal(time.Unix(0, want).Add(5*time.Millisecond)) {
		t.Errorf("the last call is at %v, want %v", time.Unix(0, last).UTC(), time.Unix(0, want).UTC())
	}
}

func TestTheClassifierIsAskedFirst(t *testing.T) {
	for _, test := range []struct {
		file  string
		judge policy.Classifier
		want  string
	}{
		{"nginx-upstream.log", policy.OnStatus(policy.Failure, 404), "33 20 9 0 0"},
		{"nginx-upstream.log", policy.OnStatus(policy.Ignored, 503), "34 18 10 0 0"}, // and not that of limit_req
		{"nginx-upstream.log", policy.OnStatus(policy.Failure, 499), "34 24 4 0 0"},
		{"nginx-upstream.log", policy.OnSlow(390 * time.Millisecond), "32 21 9 0 0"}, // of those to the headers alone
		{"haproxy-httplog.log", policy.OnSlow(390 * time.Millisecond), "25 29 5 0 0"},
	} {
		_, report := readAll(t, Options{Judge: test.judge}, logFile(test.file))
		if got := countsOf(report); got != test.want {
			t.Errorf("%s: %s, want %s", test.file, got, test.want)
		}
	}
}

func TestAPipeOfManyDocumentsIsCanceled(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := os.ReadFile(logFile("nginx-upstream.log"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer w.Close()
		for {
			if _, err := w.Write(text); err != nil {
				return
			}
		}
	}()
	ctx, cancel := contextWithCancel(t)
	s, err := Open(ctx, Options{Stdin: r}, "-")
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]record.Call, 10)
	for range 100 {
		if _, err := s.Next(buf); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	for {
		n, err := s.Next(buf)
		if err != nil {
			if n != 0 || err != ctx.Err() {
				t.Errorf("%d calls and %v", n, err)
			}
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func gzipped(t *testing.T, b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t *testing.T, b []byte) []byte {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.EncodeAll(b, nil)
}

func TestLinesOfAnotherBufferAreSpreadOverTheirSecondsToo(t *testing.T) {
	var log strings.Builder
	begin := at("2026-11-29T00:00:00Z")
	for range 2 { // workers, each with ten seconds of fifty calls
		for i := range 500 {
			fmt.Fprintf(&log, "a - - [%s] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"\n",
				begin.Add(time.Duration(i/50)*time.Second).Format("02/Jan/2006:15:04:05 -0700"))
		}
	}
	calls, _ := readAll(t, Options{Stdin: strings.NewReader(log.String())}, "-")
	bins := map[int64]int{}
	for i := range calls {
		bins[calls[i].Start/int64(200*time.Millisecond)]++
	}
	for bin, n := range bins {
		if len(bins) != 50 || n < 15 || n > 25 {
			t.Fatalf("%d calls in 200 ms at %v, of 20, and %d such", n, time.Unix(0, bin*int64(200*time.Millisecond)).UTC(), len(bins))
		}
	}
}

func TestADocumentThatIsCutEndsWhereTheNextBegins(t *testing.T) {
	text, err := os.ReadFile(logFile("otlp.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []string{
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":3,"name":"x"`, `{"resourceSpans":[{"resource":{"a":[1`,
		`{"resourceSpans":[{"scopeSpans":[{"spans":[{"kind":3}]}]`,
	} {
		_, report := readAll(t, Options{Stdin: strings.NewReader(cut + "\n" + string(text))}, "-")
		if sum := report.Sum(); sum.Success != 9 || sum.Failure != 14 || sum.Ignored != 1 {
			t.Errorf("after %s: %s", cut, countsOf(report))
		}
	}
}

func TestALineWithoutAnEndTakesUpNoMoreMemoryThanALongOne(t *testing.T) {
	c := &cutter{in: io.MultiReader(io.LimitReader(endless('x'), 20*longestLine), strings.NewReader("\nlast\n")), size: 1 << 16}
	var all []byte
	for b := new(block); b.err == nil; {
		c.fill(b)
		all = append(all, b.data...)
		if cap(b.data) > 3*longestLine {
			t.Fatalf("a block takes up %d bytes", cap(b.data))
		}
	}
	if lines := bytes.Split(all, []byte{'\n'}); len(lines) != 3 || string(lines[1]) != "last" {
		t.Errorf("%d lines", len(lines))
	}
}

// endless is one byte again and again.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}
