package read

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// Source gives the calls of files.
type Source struct {
	settings *settings
	ctx      context.Context
	keys     record.Keys
	read     atomic.Int64
	all      int64
	files    []*file // as they were given
	waiting  []*file // not yet opened, the first first
	active   []*file
	crew     *crew
	order    *order
	over     bool
	err      error
}

// mostHeld is how many calls are held to be put into order: 34 MB of them, which is 2 minutes of 11,000 a second.
const mostHeld = 1_400_000

// unset is a number of a worker's key that has none of Keys yet.
const unset = ^uint32(0)

// file is one of the files.
type file struct {
	source *Source
	input  *input
	format format
	own    *Own
	calls  Calls // of own

	free, queue chan *block
	blocks      int
	told        File
	counts      [readings]int64
	shown       [readings][]Line

	spread spread
	ready  []record.Call
	at     int
	ended  bool
	first  int64    // the end of the first of its calls
	latest int64    // end
	begin  int64    // the first start
	last   int64    // end
	shift  int64    // by which its clock was set back
	back   int      // how many calls in a row were of before
	backBy int64    // by how much the first of them was
	longs  []uint32 // keys of calls longer than the window
	met    bool     // a call, by ahead
	before int64    // the last end that it went by
	early  int64    // calls that were ahead of those about them
}

func open(ctx context.Context, o Options, names []string) (*Source, error) {
	s := &Source{ctx: ctx}
	var err error
	if s.settings, err = newSettings(o); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("no files are named; write - to read from a pipe")
	}
	sized := true
	for _, name := range names {
		f := &file{source: s, told: File{Name: name}}
		s.files = append(s.files, f)
		if err := f.look(); err != nil {
			s.close()
			return nil, err
		}
		sized = sized && f.input.size > 0
		s.all += f.input.size
		if name != "-" && len(names) > 1 { // it is opened when its time comes
			f.input.close()
			f.input = nil
		}
	}
	if !sized {
		s.all = 0
	}
	s.order = newOrder(int64(s.settings.Window), mostHeld)
	s.read.Store(0)
	s.waiting = slices.Clone(s.files)
	slices.SortStableFunc(s.waiting, func(a, b *file) int { return cmp.Compare(a.first, b.first) })
	s.crew = newCrew(runtime.GOMAXPROCS(0), s.settings)
	return s, nil
}

// look finds out what a file is, and when its first call ended.
func (f *file) look() error {
	o := f.source.settings
	name := f.told.Name
	in, err := openInput(name, o.Stdin, &f.source.read)
	if err != nil {
		return err
	}
	f.input = in
	start, err := in.Peek(looked)
	if err != nil && !isEnd(err) {
		return fmt.Errorf("%s: %w", name, err)
	}
	for i := range o.Own {
		if magic := o.Own[i].Magic; len(start) >= len(magic) && string(start[:len(magic)]) == magic {
			f.own = &o.Own[i]
			f.told.Format = f.own.Name
			f.told.Stamp = Stamp{Resolution: time.Nanosecond, Took: true}
			return nil
		}
	}
	whole := len(start) < looked
	if f.format, err = formatOf(o, start, whole); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a := f.format.about()
	f.told.Format, f.told.CannotShow = a.name, a.cannotShow
	f.told.Notes = slices.Clone(a.notes)
	f.told.Stamp = Stamp{End: a.end, Resolution: a.resolution, Took: a.took}
	f.spread.end = a.end
	calls := try(o, f.format, start, whole).calls
	if len(calls) > 0 {
		f.first = calls[0].End()
	}
	sampled := len(start) > tried
	if a.elements != nil {
		if sampled = !whole; o.usual {
			o.Window = documentWindow
		}
	}
	if by, is := newestFirst(calls); is && o.usual && (sampled || by > o.Window) {
		return fmt.Errorf("%s: the newest record is first; turn it round, as by tac, or give a longer -window, "+
			"which has to be as long as the time that it covers", name)
	}
	return nil
}

// start begins to read the file.
func (f *file) start() error {
	s := f.source
	if f.input == nil {
		in, err := openInput(f.told.Name, s.settings.Stdin, &s.read)
		if err != nil {
			return err
		}
		f.input = in
	}
	if f.own != nil {
		calls, err := f.own.Open(f.input, &s.keys)
		if err != nil {
			return fmt.Errorf("%s: %w", f.told.Name, err)
		}
		f.calls = calls
		f.ready = make([]record.Call, 4096)[:0]
		return nil
	}
	size := min(max(32<<20/(8*len(s.files)), 64<<10), 1<<20)
	var in io.Reader = f.input
	if paths := f.format.about().elements; paths != nil {
		in = newElements(in, paths)
	}
	f.blocks = runtime.GOMAXPROCS(0) + 2
	f.free, f.queue = make(chan *block, f.blocks), make(chan *block, f.blocks)
	for range f.blocks {
		f.free <- &block{done: make(chan struct{}, 1)}
	}
	s.crew.run(&cutter{in: in, size: size}, f)
	return nil
}

// more reads on until there are calls, or the file has ended.
func (f *file) more() error {
	f.ready, f.at = f.ready[:0], 0
	for len(f.ready) == 0 && !f.ended {
		if f.own != nil {
			n, err := f.calls.Next(f.ready[:cap(f.ready)])
			f.ready = f.ready[:n]
			if n == 0 {
				f.ended = true
				if err != io.EOF {
					return fmt.Errorf("%s: %w", f.told.Name, err)
				}
			}
			f.countOwn()
			f.meet()
			continue
		}
		b, err := f.next()
		if err != nil {
			return err
		}
		f.take(b)
		if f.ended = b.err != nil; f.ended {
			f.ready = f.spread.flush(f.ready)
			if !isEnd(b.err) {
				return fmt.Errorf("%s: %w", f.told.Name, b.err)
			}
			if b.err != io.EOF {
				f.told.Notes = append(f.told.Notes, "The file ends early: what came before is read.")
			}
		}
		f.free <- b
		f.meet()
	}
	if f.ended {
		f.input.close()
	}
	return nil
}

func (f *file) next() (b *block, err error) {
	ctx := f.source.ctx
	select {
	case b = <-f.queue:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-b.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return b, nil
}

// take takes over what was read of a block.
func (f *file) take(b *block) {
	t := &f.told
	for _, line := range b.strange[:min(len(b.strange), kept-min(len(t.Strange), kept))] {
		line.Number += t.Lines
		t.Strange = append(t.Strange, line)
	}
	for _, s := range b.shown {
		if len(f.shown[s.reading]) < kept {
			s.line.Number += t.Lines
			f.shown[s.reading] = append(f.shown[s.reading], s.line)
		}
	}
	t.Lines += b.lines
	t.Others += b.others
	t.NotUnderstood += b.strangers
	t.Left += b.left
	for i, n := range b.counts {
		f.counts[i] += n
	}
	keys, w := &f.source.keys, b.owner
	for i := range b.calls {
		c := &b.calls[i]
		if int(c.Key) >= len(w.numbers) || w.numbers[c.Key] == unset {
			w.meet(c.Key, keys)
		}
		c.Key = w.numbers[c.Key]
	}
	f.ahead(b.calls, b.seconds)
	if !f.format.about().whole {
		f.ready, b.calls = b.calls, f.ready
		return
	}
	for i, c := range b.calls {
		f.ready = f.spread.add(c, b.seconds[i]>>1, b.seconds[i]&1 != 0, f.ready)
	}
}

// countOwn counts the calls of a format that counts none.
func (f *file) countOwn() {
	for i := range f.ready {
		c := &f.ready[i]
		f.told.Lines++
		switch outcome := c.Outcome(); {
		case c.Refused():
			f.counts[refusedBefore]++
		case outcome == policy.Success:
			f.counts[answered]++
		case outcome == policy.Failure:
			f.counts[failedOther]++
		default:
			f.counts[callerLeft]++
		}
	}
}

// call is the next call; nil if there is none any more.
func (f *file) call() (*record.Call, error) {
	if f.at == len(f.ready) {
		if f.ended {
			return nil, nil
		}
		if err := f.more(); err != nil || len(f.ready) == 0 {
			return nil, err
		}
	}
	return &f.ready[f.at], nil
}

// meet looks at the calls that have become ready.
func (f *file) meet() {
	for i := range f.ready {
		c := &f.ready[i]
		f.setBack(c)
		if end := c.End(); f.told.First.IsZero() || end > f.last {
			f.last = end
		}
		if f.told.First.IsZero() || c.Start < f.begin {
			f.begin = c.Start
			f.told.First = time.Unix(0, c.Start).UTC()
		}
	}
}

// setBack notices that the clock of a file was set back, and moves all of its calls from then on so that time goes on.
func (f *file) setBack(c *record.Call) {
	window := int64(f.source.settings.Window)
	if raw := c.End(); f.shift > 0 && max(raw-f.latest, f.latest-raw) < window {
		f.shift = 0 // as after the hour that clocks show twice
	}
	c.Start += f.shift
	end := c.End()
	if end >= f.latest-window || f.latest == 0 {
		f.latest, f.back = max(f.latest, end), 0
		return
	}
	if f.back++; f.back == 1 {
		f.backBy = f.latest - end
	}
	if f.back < enough || f.own == nil && f.format.about().elements != nil { // which no clock has written in order
		return
	}
	by := f.backBy
	const hour = int64(time.Hour)
	if near := (by + hour/2) / hour * hour; near > 0 && max(by-near, near-by) < hour/20 {
		by = near // of summer time
	}
	f.shift += by
	c.Start += by
	f.back = 0
	f.latest = max(f.latest, c.End())
	if f.told.Back++; f.told.Back <= kept {
		f.told.Notes = append(f.told.Notes, fmt.Sprintf(
			"The clock of this file goes back by %v at about %s: from there on its times are moved on by that.",
			time.Duration(by).Round(time.Second), time.Unix(0, end).UTC().Format(time.RFC3339)))
	}
}

func (s *Source) next(buf []record.Call) (int, error) {
	for {
		if n := s.order.take(buf); n > 0 || len(buf) == 0 {
			return n, nil
		}
		if s.err != nil {
			return 0, s.err
		}
		if s.over {
			return 0, io.EOF
		}
		if s.err = s.ctx.Err(); s.err == nil {
			s.err = s.pump()
		}
	}
}

// pump puts calls into order until some are to be taken.
func (s *Source) pump() error {
	for {
		f, until, err := s.nextFile()
		if err != nil {
			return err
		}
		if f == nil {
			s.order.finish()
			s.over = true
			return nil
		}
		for f.at < len(f.ready) {
			c := &f.ready[f.at]
			if c.End() > until {
				break
			}
			if !s.order.room(c) {
				return nil
			}
			if s.order.add(*c) {
				if c.Took() > s.settings.Window {
					f.told.Long++
					if len(f.longs) < kept && !slices.Contains(f.longs, c.Key) {
						f.longs = append(f.longs, c.Key)
					}
				} else {
					f.told.Late++
				}
			}
			f.at++
		}
	}
}

// nextFile is the file whose call ended first, and until which end it is that.
func (s *Source) nextFile() (first *file, until int64, err error) {
	for {
		first, until = nil, 1<<63-1
		for i := 0; i < len(s.active); i++ {
			f := s.active[i]
			c, err := f.call()
			if err != nil {
				return nil, 0, err
			}
			if c == nil {
				s.active = slices.Delete(s.active, i, i+1)
				i--
				continue
			}
			switch end := c.End(); {
			case first == nil:
				first = f
			case end < first.ready[first.at].End():
				until = min(until, first.ready[first.at].End())
				first = f
			default:
				until = min(until, end)
			}
		}
		if len(s.waiting) == 0 {
			return first, until, nil
		}
		next := s.waiting[0]
		if first != nil && first.ready[first.at].End() < next.first {
			return first, min(until, next.first), nil
		}
		s.waiting = s.waiting[1:]
		if err := next.start(); err != nil {
			return nil, 0, err
		}
		s.active = append(s.active, next)
	}
}

func (s *Source) close() error {
	if s.crew != nil {
		close(s.crew.stop)
		s.crew.group.Wait()
		s.crew = nil
	}
	for _, f := range s.files {
		if f.input != nil && !f.ended && f.told.Name != "-" {
			f.input.close()
			f.ended = true
		}
	}
	return nil
}

// edges says which calls begin at the edge of the window.
func (f *file) edges() (notes []string) {
	s := f.source
	if f.told.Long > 0 {
		var keys []string
		for _, key := range f.longs {
			keys = append(keys, s.keys.Name(key))
		}
		notes = append(notes, fmt.Sprintf("Calls longer than the window of %v, which begin at its edge: %d, of %s.",
			s.settings.Window, f.told.Long, strings.Join(keys, ", ")))
	}
	if f.told.Late > 0 {
		notes = append(notes, fmt.Sprintf("Records that came out of order by more than the window of %v: %d. "+
			"Their calls begin at its edge.", s.settings.Window, f.told.Late))
	}
	if f.early > 0 {
		notes = append(notes, fmt.Sprintf("Records that are ahead of those about them by more than the window of %v: "+
			"%d. Of these, a call that began with those ends at its edge, and any other is taken to be of their time.",
			s.settings.Window, f.early))
	}
	if s.order.tight > 0 {
		notes = append(notes, fmt.Sprintf("There were too many calls at a time to hold those of a window of %v, which "+
			"was shorter then.", s.settings.Window))
	}
	return notes
}

func (s *Source) report() Report {
	var r Report
	for _, f := range s.files {
		t := f.told
		if !t.First.IsZero() {
			t.Last = time.Unix(0, f.last).UTC()
		}
		t.Readings, t.Notes = nil, slices.Clone(t.Notes)
		t.Calls, t.Success, t.Failure, t.Ignored = 0, 0, 0, 0
		for i, n := range f.counts {
			if n == 0 {
				continue
			}
			t.Calls += n
			switch outcomes[i] {
			case policy.Success:
				t.Success += n
			case policy.Failure:
				t.Failure += n
			default:
				t.Ignored += n
			}
			t.Readings = append(t.Readings, Reading{meanings[i].words, outcomes[i], n, f.shown[i]})
		}
		slices.SortStableFunc(t.Readings, func(a, b Reading) int { return cmp.Compare(b.Calls, a.Calls) })
		t.Notes = append(t.Notes, f.edges()...)
		if t.Failure > t.Success && t.Failure >= 100 {
			t.Notes = append(t.Notes,
				"More calls failed than succeeded: if successes are left out or sampled, the price cannot be told.")
		}
		r.Files = append(r.Files, t)
	}
	return r
}
