package read

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// Source gives the calls of files.
type Source struct {
	keys  record.Keys
	read  atomic.Int64
	all   int64
	ctx   context.Context
	calls []record.Call
	told  Report
}

// Formats are the names of the formats that Options.Format takes.
func Formats() []string { return []string{"json"} }

func open(ctx context.Context, o Options, files []string) (*Source, error) {
	mapping, is := strings.CutPrefix(o.Format, "json:")
	if !is {
		return nil, fmt.Errorf("the format is %q; write one of %v", o.Format, Formats())
	}
	fields := map[string]string{}
	for pair := range strings.SplitSeq(mapping, ",") {
		name, field, _ := strings.Cut(pair, "=")
		fields[name] = field
	}
	s := &Source{ctx: ctx}
	for _, name := range files {
		if err := s.load(o, name, fields); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(s.calls, func(a, b record.Call) int { return cmp.Compare(a.Start, b.Start) })
	return s, nil
}

func (s *Source) load(o Options, name string, fields map[string]string) error {
	in := o.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	file := File{Name: name, Format: o.Format}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		file.Lines++
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			file.NotUnderstood++
			continue
		}
		var c record.Call
		text, _ := line[fields["start"]].(string)
		start, err := time.Parse(time.RFC3339Nano, text)
		status, _ := line[fields["status"]].(float64)
		took, _ := line[fields["ms"]].(float64)
		host, _ := line[fields["host"]].(string)
		if err != nil {
			file.NotUnderstood++
			continue
		}
		c.Start = start.UnixNano()
		c.Key = s.keys.Number(host)
		c.SetTook(time.Duration(took * float64(time.Millisecond)))
		cause := policy.Cause{Status: int(status)}
		if status >= 500 {
			cause.Kind = policy.KindStatus
		}
		c.SetCause(cause)
		c.SetOutcome(cause.Outcome())
		if cause.Outcome() == policy.Success {
			file.Success++
		} else {
			file.Failure++
		}
		file.Calls++
		s.calls = append(s.calls, c)
	}
	s.told.Files = append(s.told.Files, file)
	return nil
}

func (s *Source) next(buf []record.Call) (int, error) {
	n := copy(buf, s.calls)
	s.calls = s.calls[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, s.ctx.Err()
}

func (s *Source) close() error { return nil }

func (s *Source) report() Report { return s.told }
