package show

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
)

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

// mostDrawnKeys is how many keys have a picture on the page.
const mostDrawnKeys = 12

// drawn is what the page's script tells of a column.
type drawn struct {
	From    int64     `json:"from"`  // milliseconds since 1970
	Width   float64   `json:"width"` // of a column, in milliseconds
	Good    []int64   `json:"good"`
	Failed  []int64   `json:"failed"`
	Ignored []int64   `json:"ignored"`
	Lanes   []didJSON `json:"lanes"`
}

type didJSON struct {
	Policy  string  `json:"policy"`
	States  string  `json:"states"` // a digit a column: 1 open, 2 half-open, 3 both
	Price   []int64 `json:"price"`
	Gain    []int64 `json:"gain"`
	Neither []int64 `json:"neither"`
}

// HTML writes a page that needs nothing but itself.
func (f *Facts) HTML(w io.Writer) error {
	var b strings.Builder
	esc := html.EscapeString
	r := f.Result
	b.WriteString("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n" +
		"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n" +
		"<meta name=\"color-scheme\" content=\"light dark\">\n" +
		"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; " +
		"script-src 'unsafe-inline'\">\n" +
		"<title>What circuit breakers would have done</title>\n<style>" + colours + shapes + pageCSS +
		"</style>\n</head>\n<body>\n" +
		"<main>\n<h1>What circuit breakers would have done</h1>\n")
	if r.Total.Calls == 0 {
		b.WriteString("<p>There are no calls to decide about.</p>\n</main>\n</body>\n</html>\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	fmt.Fprintf(&b, "<p class=\"lead\">%s, from %s to %s %s (%s). %s failed, and callers lost %s in them.</p>\n",
		counted(r.Total.Calls, "call"), esc(f.stamp(r.First)), esc(f.stamp(r.Last)), esc(f.zone().String()),
		esc(long(time.Duration(r.Last-r.First))), count(r.Total.Failure), seconds(r.Total.Lost))
	f.htmlPolicies(&b)
	b.WriteString(`<p class="legend"><span><i class="good"></i>calls that succeeded</span> <span><i ` +
		`class="failed"></i>calls that failed</span> ` +
		`<span><i class="open"></i>open</span> <span><i class="half"></i>half-open</span> ` +
		`<span><i class="price"></i>a good call was refused</span></p>` +
		"\n<p class=\"how\">Point at a strip, or go to one by Tab and along it " +
		"by the arrow keys, to see the counts of a time.</p>\n")
	var data []drawn
	for n, p := range f.pictures(mostDrawnKeys) {
		data = append(data, f.htmlPicture(&b, n, &p))
	}
	f.htmlTroubles(&b)
	if f.Advice != nil {
		f.Advice.html(&b)
	}
	b.WriteString("<h2>What this cannot know</h2>\n<ul>\n")
	for _, limit := range f.Limits() {
		fmt.Fprintf(&b, "<li>%s</li>\n", esc(limit))
	}
	for i := range f.Report.Files {
		for _, cannot := range f.Report.Files[i].CannotShow {
			fmt.Fprintf(&b, "<li>%s</li>\n", esc(cannot))
		}
	}
	zone, _ := json.Marshal(f.zone().String())
	made, err := json.Marshal(data) // with <, > and & escaped
	if err != nil {
		return err
	}
	b.WriteString("</ul>\n</main>\n<div id=\"tip\" role=\"status\" hidden></div>\n" +
		"<script>\nconst zone = " + string(zone) + ";\nconst strips = " + string(made) + ";\n" + pageJS +
		"</script>\n</body>\n</html>\n")
	_, err = io.WriteString(w, b.String())
	return err
}

func (f *Facts) htmlPolicies(b *strings.Builder) {
	r := f.Result
	b.WriteString("<div class=\"wide\"><table>\n<thead><tr><th scope=\"col\">policy<th scope=\"col\">opened<th " +
		"scope=\"col\">not closed for" +
		"<th scope=\"col\">refused<th scope=\"col\">price: had succeeded<th scope=\"col\">gain: had failed<th " +
		"scope=\"col\">failed still" +
		"<th scope=\"col\">callers spared</tr></thead>\n<tbody>\n")
	row := func(name string, cells ...string) {
		fmt.Fprintf(b, "<tr><th scope=\"row\">%s", html.EscapeString(name))
		for _, cell := range cells {
			fmt.Fprintf(b, "<td>%s", cell)
		}
		b.WriteString("</tr>\n")
	}
	small := func(text string) string { return "<small>" + html.EscapeString(text) + "</small>" }
	row("no breaker", "–", "–", "–", "–", "–", count(r.Total.Failure), "of "+seconds(r.Total.Lost))
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		over := func(r decide.Range) string {
			if r.Least < r.Most {
				return "<br>" + small(span(r))
			}
			return ""
		}
		row(o.Name, count(o.Opened), long(o.OpenFor),
			count(o.Refused)+" "+small(share(o.Refused, r.Total.Calls))+over(o.RefusedRange),
			count(o.Price)+" "+small(share(o.Price, r.Total.Calls))+over(o.PriceRange),
			count(o.Gain)+" "+small(share(o.Gain, r.Total.Failure))+over(o.GainRange),
			count(o.Suffered), seconds(o.Spared))
	}
	b.WriteString("</tbody>\n</table></div>\n<p class=\"how\">Refused and price are in percent of all calls, " +
		"gain of all that failed. " +
		"A range below is over seeds of the jitter of waits: what chance alone changes.</p>\n")
}

func (f *Facts) htmlPicture(b *strings.Builder, n int, p *picture) drawn {
	d := drawn{
		From: p.from / 1e6, Width: float64(p.width) / 1e6, Good: p.good, Failed: p.failed, Ignored: p.ignored,
		Lanes: []didJSON{},
	}
	name := html.EscapeString(p.name)
	good, failed := int64(0), int64(0)
	for i := range p.good {
		good, failed = good+p.good[i], failed+p.failed[i]
	}
	fmt.Fprintf(b, "<section>\n<h2>%s</h2>\n<p class=\"sum\">%s succeeded, %s failed (%s)</p>\n", name,
		counted(good, "call"), count(failed), share(failed, good+failed))
	fmt.Fprintf(b,
		"<div class=\"strip\" data-strip=\"%d\" tabindex=\"0\" role=\"group\" aria-label=\"%s over time\">\n", n, name)
	columns := len(p.good)
	fmt.Fprintf(b, `<svg class="bars" viewBox="0 0 %d 100" preserveAspectRatio="none" aria-hidden="true">`, columns)
	p.bars(b, 0, 0, float64(columns), 100)
	b.WriteString("</svg>\n")
	for i := range p.lanes {
		l := &p.lanes[i]
		fmt.Fprintf(b, `<svg class="lane" viewBox="0 0 %d 30" preserveAspectRatio="none" aria-hidden="true">`, columns)
		p.lane(b, l, 0, 0, float64(columns), 30)
		fmt.Fprintf(b, "</svg>\n<p class=\"told\">%s</p>\n", html.EscapeString(told(l)))
		var states strings.Builder
		for _, s := range l.states {
			states.WriteByte('0' + s)
		}
		d.Lanes = append(d.Lanes, didJSON{l.policy, states.String(), l.price, l.gain, l.neither})
	}
	b.WriteString("<div class=\"cursor\" hidden></div>\n</div>\n<div class=\"times\" aria-hidden=\"true\">")
	at, stamps := f.ticks(p, 6)
	for i := range at {
		class := ""
		if at[i] > 0.94 {
			class = " class=\"last\""
		}
		if at[i] < 0.03 {
			class = " class=\"first\""
		}
		fmt.Fprintf(b, "<span%s style=\"left:%.2f%%\">%s</span>", class, 100*at[i], html.EscapeString(stamps[i]))
	}
	b.WriteString("</div>\n</section>\n")
	return d
}

func (f *Facts) htmlTroubles(b *strings.Builder) {
	r := f.Result
	if len(r.Troubles) == 0 {
		b.WriteString("<h2>Troubles</h2>\n<p>No key was in trouble: failures never outweighed successes.</p>\n")
		return
	}
	fmt.Fprintf(b, "<h2>Troubles</h2>\n<ol class=\"troubles\">\n")
	for n, t := range r.Troubles {
		if n == 50 {
			fmt.Fprintf(b, "</ol>\n<p>and %s</p>\n<ol class=\"troubles\">",
				counted(int64(len(r.Troubles)+r.TroublesLeft-n), "more"))
			break
		}
		fmt.Fprintf(b, "<li><b>%s</b> to %s (%s) at %s: %s of %s failed: %s\n<ul>\n", f.stamp(t.From), f.stamp(t.To),
			long(time.Duration(t.To-t.From)), html.EscapeString(f.key(t.Key)), count(t.Failures), counted(t.Calls,
				"call"),
			html.EscapeString(causes(t)))
		for i := range r.Outcomes {
			o := &r.Outcomes[i]
			fmt.Fprintf(b, "<li>%s: %s</li>\n", html.EscapeString(o.Name), html.EscapeString(did(o.Answer(t), t)))
		}
		b.WriteString("</ul></li>\n")
	}
	b.WriteString("</ol>\n")
}
