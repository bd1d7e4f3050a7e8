//go:build linux && !race

package read

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// How much is sent through the pipe, and how many lines a second there are in it:
//
//	go test -run MemoryStaysWithinItsBound -v ./internal/read -gigabytes 10 -rate 10000
var (
	gigabytes = flag.Float64("gigabytes", 0.3, "how much TestMemoryStaysWithinItsBound reads")
	rate      = flag.Int("rate", 10_000, "how many lines a second are in it")
)

// mostMemory is what a process may take up that reads a file of whatever size.
const mostMemory = 100 << 20

func TestMemoryStaysWithinItsBound(t *testing.T) {
	if os.Getenv("FUSEBOX_READS_A_PIPE") != "" {
		readPipe(t)
		return
	}
	for _, rate := range []int{*rate, 100 * *rate} { // the second is more than the window has room for
		size := int64(*gigabytes * 1e9)
		command := exec.Command(os.Args[0], "-test.run", "^TestMemoryStaysWithinItsBound$", "-test.v")
		command.Env = append(os.Environ(), "FUSEBOX_READS_A_PIPE=1")
		command.Stdin = io.LimitReader(&flood{rate: rate, at: at("2026-11-29T00:00:00Z")}, size)
		begun := time.Now()
		said, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		took := time.Since(begun)
		var calls, memory int64
		for line := range strings.Lines(string(said)) {
			fmt.Sscanf(line, "read %d calls in %d bytes", &calls, &memory)
		}
		t.Logf("%d lines a second: %.1f GB, %d calls in %v, %.2f M lines/s, %d MiB at most",
			rate, float64(size)/1e9, calls, took.Round(time.Millisecond), float64(calls)/took.Seconds()/1e6, memory>>20)
		if least := size / 250; calls < least || memory == 0 || memory > mostMemory {
			t.Errorf("%d calls, of at least %d, and %d bytes, of at most %d", calls, least, memory, mostMemory)
		}
	}
}

// readPipe reads standard input to its end, and says what that took.
func readPipe(t *testing.T) {
	debug.SetMemoryLimit(80 << 20) // as the command does, for one policy
	s, err := Open(context.Background(), Options{Stdin: os.Stdin}, "-")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	calls, last := 0, int64(0)
	for buf := make([]record.Call, 1024); ; {
		n, err := s.Next(buf)
		for i := range buf[:n] {
			if buf[i].Start < last {
				t.Fatal("a call begins before the one before")
			}
			last = buf[i].Start
		}
		calls += n
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if value, found := strings.CutPrefix(line, "VmHWM:"); found {
			kb, _ := strconv.Atoi(strings.Fields(value)[0])
			fmt.Printf("read %d calls in %d bytes\n", calls, kb<<10)
		}
	}
}

// flood is an nginx log without an end: each second has the same lines but for the time.
type flood struct {
	rate   int
	at     time.Time
	second []byte
	stamps []int // where in it a time is
	next   int
}

func (f *flood) Read(p []byte) (int, error) {
	const layout = "02/Jan/2006:15:04:05 -0700"
	if f.second == nil {
		var b bytes.Buffer
		for i := range f.rate {
			fmt.Fprintf(&b, "10.0.%d.%d - - [", i%7, i%250)
			f.stamps = append(f.stamps, b.Len())
			status := 200
			if i%100 == 0 {
				status = 503
			}
			took := float64(i%97) / 1000
			if i%5000 == 0 {
				took = 60
			}
			fmt.Fprintf(&b, `%s] "GET /items/%d HTTP/1.1" %d 612 "-" "Go-http-client/1.1" 10.0.0.1 rt=%.3f ua="10.1.0.%d:8080" us="%d" uct="0.000" uht="%.3f" urt="%.3f"`+"\n",
				layout, i, status, took, i%4, status, took, took)
		}
		f.second = b.Bytes()
		f.next = len(f.second)
	}
	if f.next == len(f.second) {
		stamp := f.at.Format(layout)
		for _, i := range f.stamps {
			copy(f.second[i:], stamp)
		}
		f.at = f.at.Add(time.Second)
		f.next = 0
	}
	n := copy(p, f.second[f.next:])
	f.next += n
	return n, nil
}
