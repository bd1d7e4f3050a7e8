package show

import (
	"fmt"
	"html"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
)

// colours are of everything that is drawn, on light and on dark.
const colours = `:root,svg{--page:#fff;--text:#1f2328;--soft:#59636e;--line:#d1d9e0;--band:#f6f8fa;` +
	`--good:#4ac26b;--failed:#cf222e;--open:#6e7781;--half:#d4a72c;--price:#cf222e;--best:#0969da}` +
	`@media(prefers-color-scheme:dark){:root,svg{--page:#0d1117;--text:#e6edf3;--soft:#9198a1;--line:#3d444d;` +
	`--band:#151b23;--good:#2ea043;--failed:#f85149;--open:#8b949e;--half:#d29922;--price:#ff7b72;--best:#58a6ff}}`

// shapes are the styles of what is drawn. A tick stands above its lane, so that it is told without its colour.
const shapes = `.good{fill:var(--good)}.failed{fill:var(--failed)}.open{fill:var(--open)}.half{fill:var(--half)}` +
	`.price{fill:var(--price)}.band{fill:var(--band)}.axis{stroke:var(--line);fill:none}`

// picture is what is drawn of a key: columns joined to as many as its calls fill.
type picture struct {
	name    string
	from    int64
	width   int64 // of a column, in nanoseconds
	good    []int64
	failed  []int64
	ignored []int64
	lanes   []lane
}

type lane struct {
	policy               string
	states               []uint8
	price, gain, neither []int64
}

// mostDrawn and leastDrawn are how many columns are drawn.
const mostDrawn, leastDrawn = 600, 60

// picture is that of a strip. Few calls get few columns, or nothing of them would be seen.
func (f *Facts) picture(at int, name string) picture {
	r := f.Result
	used := int((r.Last-r.Axis.From)/r.Axis.Width) + 1
	want := int(min(mostDrawn, max(leastDrawn, r.Total.Calls/4)))
	each := max(1, (used+want-1)/want)
	p := picture{name: name, from: r.Axis.From, width: int64(each) * r.Axis.Width}
	strip := r.Strips[at]
	columns := (used + each - 1) / each
	p.good = joined(strip.Good[:used], columns, each)
	p.failed = joined(strip.Failed[:used], columns, each)
	p.ignored = joined(strip.Ignored[:used], columns, each)
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		l := lane{policy: o.Name, states: make([]uint8, columns)}
		from := new(decide.Lane)
		if at < len(o.Lanes) && o.Lanes[at] != nil {
			from = o.Lanes[at]
		}
		for c, state := range from.States[:used] {
			l.states[c/each] |= state
		}
		l.price = joined(from.Price[:used], columns, each)
		l.gain = joined(from.Gain[:used], columns, each)
		l.neither = joined(from.Neither[:used], columns, each)
		p.lanes = append(p.lanes, l)
	}
	return p
}

func joined(from []uint32, columns, each int) []int64 {
	to := make([]int64, columns)
	for i, n := range from {
		to[i/each] += int64(n)
	}
	return to
}

// pictures are those of all keys together, if there are several, and of the keys that matter, as far as they have a
// strip.
func (f *Facts) pictures(most int) []picture {
	r := f.Result
	var all []picture
	for _, key := range r.Matter(most) {
		for at := 1; at < len(r.Strips); at++ {
			if r.Strips[at].Key == key {
				all = append(all, f.picture(at, f.key(key)))
			}
		}
	}
	keys := 0
	for i := range r.Keys {
		if r.Keys[i].Calls > 0 {
			keys++
		}
	}
	if keys > 1 {
		all = append([]picture{f.picture(0, fmt.Sprintf("All %s keys together", count(int64(keys))))}, all...)
	}
	return all
}

func number(f float64) string {
	text := strconv.FormatFloat(f, 'f', 2, 64)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".")
}

// bars draws calls, those that failed below, into a box.
func (p *picture) bars(b *strings.Builder, x, y, w, h float64) {
	most := int64(1)
	for i := range p.good {
		most = max(most, p.good[i]+p.failed[i])
	}
	unit, step := h/float64(most), w/float64(len(p.good))
	area := func(class string, height func(i int) float64) {
		fmt.Fprintf(b, `<path class="%s" d="M%s %s`, class, number(x), number(y+h))
		last := 0.0
		for i := range p.good {
			if now := height(i); now != last {
				fmt.Fprintf(b, "H%sV%s", number(x+float64(i)*step), number(y+h-now))
				last = now
			}
		}
		fmt.Fprintf(b, `H%sV%sZ"/>`, number(x+w), number(y+h))
	}
	failed := func(i int) float64 {
		if p.failed[i] == 0 {
			return 0
		}
		return max(float64(p.failed[i])*unit, h/40) // or it would not be seen
	}
	area("good", func(i int) float64 {
		if p.good[i] == 0 {
			return 0
		}
		return max(float64(p.good[i])*unit+failed(i), h/40)
	})
	area("failed", failed)
}

// lane draws what a policy did, into a box whose upper third is for the ticks of good calls that were refused.
func (p *picture) lane(b *strings.Builder, l *lane, x, y, w, h float64) {
	step := w / float64(len(l.states))
	fmt.Fprintf(b, `<rect class="band" x="%s" y="%s" width="%s" height="%s"/>`, number(x), number(y+h/3), number(w),
		number(h*2/3))
	run := func(class string, bit uint8, top, height float64) {
		for from := 0; from < len(l.states); from++ {
			if l.states[from]&bit == 0 {
				continue
			}
			to := from
			for to < len(l.states) && l.states[to]&bit != 0 {
				to++
			}
			fmt.Fprintf(b, `<rect class="%s" x="%s" y="%s" width="%s" height="%s"/>`, class,
				number(x+float64(from)*step), number(top), number(float64(to-from)*step), number(height))
			from = to
		}
	}
	run("open", decide.WasOpen, y+h/3, h*2/3)
	run("half", decide.WasHalfOpen, y+h*2/3, h/3)
	for i, n := range l.price {
		if n > 0 {
			wide := max(step, w/500)
			fmt.Fprintf(b, `<rect class="price" x="%s" y="%s" width="%s" height="%s"/>`,
				number(min(x+float64(i)*step, x+w-wide)), number(y), number(wide), number(h/2))
		}
	}
}

// ticks are times to write under a strip, at shares of its width.
func (f *Facts) ticks(p *picture, most int) (at []float64, text []string) {
	over := time.Duration(p.width) * time.Duration(len(p.good))
	step := 24 * time.Hour
	for _, s := range []time.Duration{
		time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second,
		30 * time.Second, time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour,
		6 * time.Hour,
		12 * time.Hour,
	} {
		if int(over/s) <= most {
			step = s
			break
		}
	}
	for int(over/step) > most {
		step *= 2
	}
	layout := "15:04:05"
	switch {
	case step < time.Second:
		layout = "15:04:05.000"
	case step >= 24*time.Hour:
		layout = "2006-01-02"
	case step >= time.Minute:
		layout = "15:04"
	}
	start := time.Unix(0, p.from).In(f.zone())
	for t := start.Truncate(step); ; t = t.Add(step) {
		share := float64(t.Sub(start)) / float64(over)
		if share > 1 {
			return at, text
		}
		if share >= 0 {
			at, text = append(at, share), append(text, t.Format(layout))
		}
	}
}

// SVG draws the keys that matter most as one picture.
func (f *Facts) SVG(w io.Writer) error {
	const left, width, bars, each, gap = 16.0, 848.0, 64.0, 18.0, 34.0
	var b strings.Builder
	r := f.Result
	y := 30.0
	text := func(x, y float64, attributes, text string) {
		fmt.Fprintf(&b, `<text x="%s" y="%s" %s>%s</text>`+"\n", number(x), number(y), attributes,
			html.EscapeString(text))
	}
	if r.Total.Calls > 0 {
		all := f.pictures(3)
		if len(all) > 1 {
			all = all[1:]
		}
		for i := range all {
			p := &all[i]
			text(left, y, `class="title"`, p.name)
			y += 10
			p.bars(&b, left, y, width, bars)
			y += bars + 6
			for j := range p.lanes {
				p.lane(&b, &p.lanes[j], left, y, width, each)
				y += each + 12
				text(left, y, `class="soft"`, told(&p.lanes[j]))
				y += 10
			}
			at, stamps := f.ticks(p, 10)
			y += 4
			fmt.Fprintf(&b, `<path class="axis" d="M%s %sH%s"/>`+"\n", number(left), number(y), number(left+width))
			for j := range at {
				anchor := "middle"
				switch {
				case at[j] < 0.04:
					anchor = "start"
				case at[j] > 0.96:
					anchor = "end"
				}
				text(left+width*at[j], y+13, `class="soft" text-anchor="`+anchor+`"`, stamps[j])
			}
			y += gap + 14
		}
	}
	x := left
	for _, sign := range []struct{ class, text string }{
		{"good", "calls that succeeded"}, {"failed", "calls that failed"}, {"open", "open"}, {"half", "half-open"},
		{"price", "a good call refused"},
	} {
		fmt.Fprintf(&b, `<rect class="%s" x="%s" y="%s" width="10" height="10"/>`, sign.class, number(x), number(y-9))
		text(x+15, y, `class="soft"`, sign.text)
		x += 30 + 7*float64(len(sign.text))
	}
	y += 16
	total := 2*left + width
	_, err := fmt.Fprintf(w,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]s %[2]s" width="%[1]s" height="%[2]s" `+
			`font-family="system-ui, sans-serif" font-size="12" shape-rendering="crispEdges" `+
			`role="img"><title>What circuit breakers would have done</title>
<style>%[3]s%[4]s.page{fill:var(--page)}text{fill:var(--text)}.title{font-weight:600;font-size:13px}
.soft{fill:var(--soft)}</style>
<rect class="page" width="%[1]s" height="%[2]s"/>
%[5]s</svg>
`, number(total), number(y), colours, shapes, b.String())
	return err
}

// told says what a lane comes to.
func told(l *lane) string {
	price, gain, neither := int64(0), int64(0), int64(0)
	for i := range l.price {
		price, gain, neither = price+l.price[i], gain+l.gain[i], neither+l.neither[i]
	}
	return fmt.Sprintf("%s: refused %s, of which %s had succeeded and %s had failed",
		l.policy, count(price+gain+neither), count(price), count(gain))
}
