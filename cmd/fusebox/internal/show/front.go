package show

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// html draws what each policy of the grid gains for its price, and says which to take.
func (a *Advice) html(b *strings.Builder) {
	b.WriteString("<h2>What to take</h2>\n")
	fmt.Fprintf(b, "<p>%d policies tried. Chosen by the first %s, checked by the %s after that.</p>\n",
		len(a.Tried), counted(a.Early.Calls, "call"), count(a.Late.Calls))
	switch {
	case a.Thin != "":
		fmt.Fprintf(b,
			"<p><b>Too thin to tell:</b> %s. Take the default, <code>transport.New(nil)</code>, and look again "+
				"with more.</p>\n",
			html.EscapeString(a.Thin))
	case a.Best == nil:
		fmt.Fprintf(b, "<p>None of them gains anything for a price of %s or less.</p>\n", percent(a.MaxPrice))
	default:
		fmt.Fprintf(b, "<p>For a price of %s at most:</p>\n<pre><code>%s</code></pre>\n", percent(a.MaxPrice),
			html.EscapeString(a.Code()))
	}
	if a.Early.Calls == 0 || a.Early.Failures == 0 {
		return
	}
	const left, top, width, height = 44.0, 10.0, 520.0, 260.0
	most := a.MaxPrice * float64(a.Early.Calls)
	for i := range a.Tried {
		most = max(most, float64(a.Tried[i].EarlyPrice))
	}
	most = max(most, 1)
	// By its root, since the prices that matter are the small ones.
	x := func(price float64) float64 { return left + width*math.Sqrt(price/most) }
	y := func(t *Trial) float64 { return top + height*(1-float64(t.EarlyGain)/float64(a.Early.Failures)) }
	fmt.Fprintf(b,
		`<svg class="front" viewBox="0 0 %s %s" role="img" aria-label="gain against price of each policy tried; `+
			`the table has the front">`,
		number(left+width+20), number(top+height+40))
	fmt.Fprintf(b, `<path class="axis" d="M%[1]s %[2]sV%[3]sH%[4]s"/>`, number(left), number(top), number(top+height),
		number(left+width))
	for _, at := range []float64{0, 0.05, 0.25, 1} {
		fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="middle">%s</text>`, number(x(at*most)), number(top+height+16),
			html.EscapeString(share(int64(math.Round(at*most)), a.Early.Calls)))
	}
	for _, at := range []float64{0, 0.5, 1} {
		fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="end">%.0f %%</text>`, number(left-6),
			number(top+height*(1-at)+4), 100*at)
	}
	fmt.Fprintf(b, `<text x="%s" y="%s" text-anchor="end">price, of all calls</text>`, number(left+width),
		number(top+height+34))
	fmt.Fprintf(b, `<text x="%s" y="%s">gain, of all that failed</text>`, number(left+6), number(top+8))
	var line strings.Builder
	for i := range a.Tried {
		if t := &a.Tried[i]; t.Front {
			move := "L"
			if line.Len() == 0 {
				move = "M"
			}
			fmt.Fprintf(&line, "%s%s %s", move, number(x(float64(t.EarlyPrice))), number(y(t)))
		}
	}
	fmt.Fprintf(b, `<path class="line" d="%s"/>`, line.String())
	for i := range a.Tried {
		t := &a.Tried[i]
		class := "tried"
		switch {
		case t == a.Best && a.Thin == "":
			class = "best"
		case t.Front:
			class = "onfront"
		}
		fmt.Fprintf(b, `<circle class="%s" cx="%s" cy="%s" r="4"><title>%s: price %s, gain %s</title></circle>`, class,
			number(x(float64(t.EarlyPrice))), number(y(t)), html.EscapeString(t.Name),
			html.EscapeString(share(t.EarlyPrice, a.Early.Calls)), html.EscapeString(share(t.EarlyGain,
				a.Early.Failures)))
	}
	b.WriteString("</svg>\n<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">the front<th " +
		"scope=\"col\">price<th scope=\"col\">gain" +
		"<th scope=\"col\">price later<th scope=\"col\">gain later</tr></thead>\n<tbody>\n")
	for i := range a.Tried {
		t := &a.Tried[i]
		if !t.Front {
			continue
		}
		name := html.EscapeString(t.Name)
		if t == a.Best && a.Thin == "" {
			name = "<b>" + name + "</b>"
		}
		fmt.Fprintf(b, "<tr><th scope=\"row\">%s<td>%s<td>%s<td>%s<td>%s</tr>\n", name, share(t.EarlyPrice,
			a.Early.Calls),
			share(t.EarlyGain, a.Early.Failures), share(t.LatePrice, a.Late.Calls), share(t.LateGain, a.Late.Failures))
	}
	b.WriteString("</tbody>\n</table></div>\n")
}
