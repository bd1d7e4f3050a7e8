//go:build linux && !race

package read

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
)

// TestReadingIsFastBesideItsFloors compares the time that processors spend on lines with that which it takes to find
// them (a fortieth of which is what is asked for, and half of that is left to who decides about calls), or to unmarshal
// them.
func TestReadingIsFastBesideItsFloors(t *testing.T) {
	const lines = 200_000
	for i, shape := range shapes {
		text := linesOf(lines, shape.line)
		reading := best3(func() {
			s, err := Open(context.Background(), Options{Stdin: bytes.NewReader(text)}, "-")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			n := 0
			for buf := make([]record.Call, 1024); ; {
				got, err := s.Next(buf)
				if n += got; err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if n != lines {
				t.Fatalf("%s: %d calls", shape.name, n)
			}
		})
		if i < 5 {
			floor := best3(func() {
				for range 3 {
					for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
						if len(lines.Bytes()) == 0 {
							t.Fatal("an empty line")
						}
					}
				}
			}) / 3
			t.Logf("%s: %v a line, %.1f times what it takes bufio.Scanner to find it", shape.name, reading/lines,
				float64(reading)/float64(floor))
			if reading > 20*floor {
				t.Errorf("%s: that is more than 20 times", shape.name)
			}
			continue
		}
		some := text[:bytes.LastIndexByte(text[:len(text)/20], '\n')+1]
		floor := best3(func() {
			for lines := bufio.NewScanner(bytes.NewReader(some)); lines.Scan(); {
				var line map[string]any
				if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
					t.Fatal(err)
				}
			}
		}) * time.Duration(len(text)) / time.Duration(len(some))
		t.Logf("%s: %v a line, a %.1fth of what it takes encoding/json to unmarshal it", shape.name, reading/lines,
			float64(floor)/float64(reading))
		if floor < 3*reading {
			t.Errorf("%s: that is less than three times as fast", shape.name)
		}
	}
}

// best3 is the least that processors spend on f in three times.
func best3(f func()) time.Duration {
	least := time.Duration(1<<63 - 1)
	for range 3 {
		runtime.GC()
		begun := spent()
		f()
		least = min(least, spent()-begun)
	}
	return least
}

// spent is how long processors have been busy with this process.
func spent() time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		panic(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}
