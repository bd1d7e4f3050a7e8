package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/read"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/show"
)

// batch is how many calls are decided about at a time.
const batch = 8192

// replay is the command of that name.
func replay(ctx context.Context, args []string, in io.Reader, out, problems io.Writer) (code int, err error) {
	o, err := parse(args, out)
	if err != nil {
		return exitWrong, err
	}
	if err := apart(&o); err != nil {
		return exitWrong, err
	}
	limitMemory(len(o.decide.Policies), o.suggest)
	facts, err := decideAbout(ctx, &o, in, problems)
	if err != nil {
		return exitWrong, err
	}
	if err := write(&o, facts, out); err != nil {
		return exitWrong, err
	}
	sum := facts.Report.Sum()
	if float64(sum.NotUnderstood) > o.strange*float64(sum.Lines) || sum.Calls == 0 && sum.NotUnderstood > 0 {
		return exitStrange, fmt.Errorf("%d of %d lines were not understood; -not-understood says how many may be",
			sum.NotUnderstood, sum.Lines)
	}
	if o.maxPrice < 0 {
		return exitOK, nil
	}
	asked := facts.Result.Outcomes
	if o.asked > 0 && !o.defaultToo {
		asked = asked[1:]
	}
	for i := range asked {
		if float64(asked[i].Price) > o.maxPrice*float64(facts.Result.Total.Calls) {
			return exitPrice,
				fmt.Errorf("%s: %d of %d calls had succeeded and would be refused, more than -max-price allows",
					asked[i].Name, asked[i].Price, facts.Result.Total.Calls)
		}
	}
	return exitOK, nil
}

// limitMemory has garbage collected before it takes more than what is alive, which is some 50 MB by the default policy
// for any file with as many keys and circuits as there can be.
func limitMemory(policies int, suggest bool) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if suggest {
		policies += len(show.Grid())
	}
	debug.SetMemoryLimit(int64(64+16*policies) << 20)
}

// decideAbout reads the files and has circuits decide about their calls.
func decideAbout(ctx context.Context, o *options, in io.Reader, problems io.Writer) (*show.Facts, error) {
	for i, name := range o.files {
		o.files[i] = typed(name, true)
	}
	o.read.Stdin, o.read.Own = in, []read.Own{recorded}
	source, err := read.Open(ctx, o.read, o.files...)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	shown := len(o.decide.Policies)
	if o.suggest {
		o.decide.Policies = append(o.decide.Policies, show.Grid()...)
	}
	replay := decide.New(o.decide)
	progress := newProgress(problems, source)
	defer progress.end()

	// What is read next is read while it is decided about what is there.
	read, free := make(chan []record.Call, 2), make(chan []record.Call, 3)
	for range cap(free) {
		free <- make([]record.Call, batch)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(read)
		for buf := range free {
			n, err := source.Next(buf[:batch])
			if n > 0 {
				read <- buf[:n]
			}
			if err != nil {
				failed <- err
				return
			}
			if n == 0 {
				free <- buf
			}
		}
	}()
	calls := int64(0)
	for buf := range read {
		replay.Calls(buf)
		calls += int64(len(buf))
		progress.show(calls)
		free <- buf[:cap(buf)]
	}
	if err := <-failed; !errors.Is(err, io.EOF) {
		return nil, err
	}
	result := replay.Finish()
	facts := &show.Facts{
		Result: result, Report: source.Report(), Name: source.Keys().Name,
		Clients: o.decide.Clients, Explain: o.explain, Zone: o.read.Zone,
	}
	if o.suggest {
		price := o.maxPrice
		if price < 0 {
			price = 0.001
		}
		facts.Advice = show.Advise(result, result.Outcomes[shown:], price)
	}
	result.Outcomes = result.Outcomes[:shown]
	return facts, nil
}

// apart says whether what is written would be written over what is read, or over what else is written.
func apart(o *options) error {
	outs := []struct{ flag, name string }{{"-html", o.html}, {"-svg", o.svg}, {"-json", o.json}}
	for i, out := range outs {
		if out.name == "" || out.name == "-" {
			continue
		}
		there, err := os.Stat(typed(out.name, false))
		if err == nil && !there.Mode().IsRegular() { // such as /dev/null
			continue
		}
		for _, other := range outs[:i] {
			if typed(out.name, false) == typed(other.name, false) {
				return fmt.Errorf("%s and %s are both %s", other.flag, out.flag, out.name)
			}
		}
		for _, name := range o.files {
			if log, missing := os.Stat(typed(name, true)); err == nil && missing == nil && os.SameFile(there, log) {
				return fmt.Errorf("%s %s would be written over what is read", out.flag, out.name)
			}
		}
	}
	return nil
}

// write writes what there is to show to where the flags say.
func write(o *options, facts *show.Facts, out io.Writer) error {
	text := true
	for _, picture := range []struct {
		name  string
		write func(io.Writer) error
	}{{o.html, facts.HTML}, {o.svg, facts.SVG}, {o.json, facts.JSON}} {
		switch picture.name {
		case "":
			continue
		case "-":
			text = false
			if err := picture.write(out); err != nil {
				return err
			}
			continue
		}
		file, err := os.Create(typed(picture.name, false))
		if err != nil {
			return err
		}
		if err := errors.Join(picture.write(file), file.Close()); err != nil {
			return err
		}
	}
	if !text {
		return nil
	}
	return facts.Text(out)
}

// typed is the file of a name as it was typed: go run -C changes the folder, and leaves PWD. One that exists may be
// where the command runs, too.
func typed(name string, exists bool) string {
	from := os.Getenv("PWD")
	if name == "-" || filepath.IsAbs(name) || !filepath.IsAbs(from) || !byGoRun() {
		return name
	}
	there := filepath.Join(from, name)
	if _, err := os.Stat(there); err != nil && exists {
		return name
	}
	return there
}

// byGoRun reports whether the program was built by go run.
func byGoRun() bool {
	path, err := os.Executable()
	return err == nil && strings.Contains(filepath.ToSlash(path), "/go-build")
}

// progress is a line on a terminal.
type progress struct {
	to     io.Writer // nil if it is none
	source *read.Source
	start  time.Time
	next   time.Time
	shown  bool
}

func newProgress(to io.Writer, source *read.Source) *progress {
	p := &progress{source: source, start: time.Now()}
	p.next = p.start.Add(500 * time.Millisecond)
	if file, ok := to.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" {
			p.to = to
		}
	}
	return p
}

func (p *progress) show(calls int64) {
	now := time.Now()
	if p.to == nil || now.Before(p.next) {
		return
	}
	p.next, p.shown = now.Add(200*time.Millisecond), true
	read, all := p.source.Progress()
	share := fmt.Sprintf("%d MB", read>>20)
	if all > 0 {
		share = fmt.Sprintf("%.0f %% of %d MB", 100*float64(read)/float64(all), all>>20)
	}
	fmt.Fprintf(p.to, "\r\x1b[K%s, %.1f M calls, %.2f M/s", share, float64(calls)/1e6,
		float64(calls)/1e6/now.Sub(p.start).Seconds())
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
