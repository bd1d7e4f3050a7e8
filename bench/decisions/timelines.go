package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

const timelineStyle = `.title{font-weight:600}.page{fill:#fff}text{fill:#1f2328}` +
	`.axis{stroke:#8c959f;fill:none}.trouble{fill:#1f2328;opacity:.06}` +
	`.good{fill:#2da44e}.refused{fill:#a8b1bb}.failed{fill:#cf222e}.wasted{fill:#8250df}` +
	`@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}` +
	`.axis{stroke:#6e7681}.trouble{fill:#fff;opacity:.08}` +
	`.good{fill:#3fb950}.refused{fill:#59636e}.failed{fill:#f85149}.wasted{fill:#a371f7}}`

// timelines draws the first run of a scenario for the oracle, Fusebox if it is in the table, and the best peer:
// above the axis what came of the requests, below it the wasted calls.
func (tb *table) timelines(row int) *svg {
	const left, top, width, height, gap = 12, 56, 720, 110, 34
	shown := []int{0}
	for i, s := range tb.subjects {
		if s.role == roleOwn {
			shown = append(shown, i)
		}
	}
	if best := tb.bestPeer(row, -1); best >= 0 {
		shown = append(shown, best)
	}
	sc := tb.scenarios[row]
	p := &svg{width: width + 2*left, height: top + (height+gap)*len(shown), style: timelineStyle}
	p.text(left, 20, `class="title"`, sc.name+": "+sc.about)
	x := float64(left)
	for _, kind := range []string{"good", "refused", "failed", "wasted"} {
		fmt.Fprintf(p, "<rect class=%q x=\"%.0f\" y=\"28\" width=\"10\" height=\"10\"/>", kind, x)
		p.text(x+14, 37, "", kind)
		x += 70
	}
	tallest := 1
	for _, i := range shown {
		tallest = max(tallest, tb.cells[row][i].timeline.tallest())
	}
	for n, i := range shown {
		y := float64(top + (height+gap)*n)
		m := tb.cells[row][i].runs[0]
		p.text(left, y-3, `class="title"`, fmt.Sprintf("%s: regret %.1f", tb.subjects[i].name, m.Regret))
		p.timeline(tb.cells[row][i].timeline, left, y, width, height, tallest)
	}
	return p
}

// tallest returns the room that a timeline takes above and below the axis, in requests.
func (tl *timeline) tallest() int {
	above := 0
	for i := range tl.good {
		above = max(above, tl.good[i]+tl.refused[i]+tl.failed[i])
	}
	return above + slices.Max(tl.wasted)
}

func (s *svg) timeline(tl *timeline, left, top, width, height float64, tallest int) {
	unit := height / float64(tallest)
	axis := top + height - float64(slices.Max(tl.wasted))*unit
	at := func(t time.Duration) float64 { return left + width*float64(t)/float64(tl.over) }
	fmt.Fprintf(s, "<rect class=\"trouble\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
		at(tl.begin), top, at(tl.end)-at(tl.begin), height)

	base := make([]int, timelineBins)
	for _, series := range []struct {
		class  string
		counts []int
		unit   float64
	}{
		{"good", tl.good, unit}, {"failed", tl.failed, unit}, {"refused", tl.refused, unit},
		{"wasted", tl.wasted, -unit},
	} {
		if series.class == "wasted" {
			clear(base)
		}
		high, low := outline{y: axis}, outline{y: axis}
		for i, n := range series.counts {
			x := left + width*float64(i)/timelineBins
			low.to(x, axis-float64(base[i])*series.unit)
			base[i] += n
			high.to(x, axis-float64(base[i])*series.unit)
		}
		// The band is what lies between two outlines that both close along the axis: the even-odd rule.
		fmt.Fprintf(s, "<path class=%q fill-rule=\"evenodd\" d=\"", series.class)
		for _, o := range []*outline{&high, &low} {
			fmt.Fprintf(s, "M%g %.1f%sH%gV%.1fZ", left, axis, o.path.String(), left+width, axis)
		}
		fmt.Fprintln(s, "\"/>")
	}
	fmt.Fprintf(s, "<path class=\"axis\" d=\"M%.1f %.1fH%.1f\"/>\n", left, axis, left+width)
	s.text(left+width, top+height+12, `text-anchor="end"`, fmt.Sprintf("%.0f s; trouble shaded", tl.over.Seconds()))
}

// An outline is a path of steps from left to right.
type outline struct {
	path strings.Builder
	y    float64
}

// to goes on at the old height until x and from there at height y.
func (o *outline) to(x, y float64) {
	if math.Abs(y-o.y) >= 0.05 {
		fmt.Fprintf(&o.path, "H%gV%.1f", x, y)
		o.y = y
	}
}
