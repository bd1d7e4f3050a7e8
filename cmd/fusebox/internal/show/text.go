package show

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/read"
	"github.com/fusebox-go/fusebox/internal/visible"
)

const (
	mostKeys     = 10
	mostTroubles = 10
)

// Text writes what came of it for people to read.
func (f *Facts) Text(w io.Writer) error {
	var b strings.Builder
	for i := range f.Report.Files {
		f.file(&b, &f.Report.Files[i])
	}
	if f.Result.Total.Calls == 0 {
		b.WriteString("There are no calls to decide about.\n")
		_, err := io.WriteString(w, b.String())
		return err
	}
	f.span(&b)
	f.policies(&b)
	f.keys(&b)
	f.troubles(&b)
	if f.Advice != nil {
		f.Advice.text(&b)
	}
	b.WriteString("What this cannot know\n")
	for _, limit := range f.Limits() {
		b.WriteString(wrapped("- ", limit))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (f *Facts) file(b *strings.Builder, file *read.File) {
	if file.Lines == 0 {
		fmt.Fprintf(b, "%s: it is empty\n", visible.Text(file.Name))
		return
	}
	fmt.Fprintf(b, "%s: %s, %s, %s: %s succeeded, %s failed, %s say nothing of the upstream\n",
		visible.Text(file.Name), visible.Text(file.Format), counted(file.Lines, "line"), counted(file.Calls, "call"),
		count(file.Success), count(file.Failure), count(file.Ignored))
	which, took := "start", "and how long calls took is known"
	if file.Stamp.End {
		which = "end"
	}
	if !file.Stamp.Took {
		took = "and how long calls took is not"
	}
	if file.Calls > 0 {
		resolution := "to " + long(file.Stamp.Resolution)
		if file.Stamp.Resolution >= time.Second {
			resolution += " (calls are spread evenly over it)"
		}
		fmt.Fprintf(b, "  a record's time is the %s of its call, %s, %s\n", which, resolution, took)
	}
	for _, reading := range file.Readings {
		if !f.Explain {
			if reading.Outcome.String() == "ignored" {
				fmt.Fprintf(b, "  ignored: %s %s\n", count(reading.Calls), visible.Text(reading.Words))
			}
			continue
		}
		fmt.Fprintf(b, "  %s: %s, %s\n", reading.Outcome, visible.Text(reading.Words), counted(reading.Calls, "call"))
		for _, line := range reading.Lines {
			fmt.Fprintf(b, "    %d: %s\n       read as: %s\n", line.Number, visible.Text(line.Text),
				visible.Text(line.Read))
		}
	}
	if file.NotUnderstood > 0 {
		fmt.Fprintf(b, "  not understood: %s (%s)\n", counted(file.NotUnderstood, "line"), share(file.NotUnderstood,
			file.Lines))
		for _, line := range file.Strange {
			fmt.Fprintf(b, "    %d: %s\n", line.Number, visible.Text(line.Text))
		}
	}
	for _, left := range []struct {
		n           int64
		thing, what string
	}{
		{file.Others, "line", "of no call, such as a comment or a proxy's own message"},
		{file.Left, "call", "left out by -where, -key, -from or -to"},
		{file.Long, "call", "longer than -window, taken to have begun that long before the end"},
		{file.Back, "time", "the clock was set back"},
	} {
		if left.n > 0 {
			fmt.Fprintf(b, "  %s %s\n", counted(left.n, left.thing), left.what)
		}
	}
	for _, note := range append(append([]string(nil), file.Notes...), file.CannotShow...) {
		b.WriteString(wrapped("  ", visible.Text(note)))
	}
}

func (f *Facts) span(b *strings.Builder) {
	r := f.Result
	keys := int64(0)
	for i := range r.Keys {
		if r.Keys[i].Calls > 0 {
			keys++
		}
	}
	fmt.Fprintf(b, "\nFrom %s to %s %s, %s: %s to %s\n\n", f.stamp(r.First), f.stamp(r.Last), f.zone(),
		long(time.Duration(r.Last-r.First)), counted(r.Total.Calls, "call"), counted(keys, "key"))
}

func (f *Facts) policies(b *strings.Builder) {
	r := f.Result
	var g grid
	g.add("", "opened", "not closed for", "refused", "price: had succeeded", "gain: had failed", "failed still",
		"spared")
	g.add("no breaker", "–", "–", "–", "–", "–", count(r.Total.Failure), "of "+seconds(r.Total.Lost))
	ranges := false
	for i := range r.Outcomes {
		o := &r.Outcomes[i]
		g.add(o.Name, count(o.Opened), long(o.OpenFor),
			fmt.Sprintf("%s (%s)", count(o.Refused), share(o.Refused, r.Total.Calls)),
			fmt.Sprintf("%s (%s)", count(o.Price), share(o.Price, r.Total.Calls)),
			fmt.Sprintf("%s (%s)", count(o.Gain), share(o.Gain, r.Total.Failure)),
			count(o.Suffered), seconds(o.Spared))
		if o.Seeds > 1 && o.Refused > 0 {
			ranges = true
			g.add(fmt.Sprintf("  over %d seeds", o.Seeds), span(o.OpenedRange), "", span(o.RefusedRange),
				span(o.PriceRange),
				span(o.GainRange), "",
				seconds(time.Duration(o.SparedRange.Least))+" to "+seconds(time.Duration(o.SparedRange.Most)))
		}
	}
	b.WriteString(g.String())
	b.WriteString("\n" + wrapped("",
		"Refused and price are of all calls, gain is of all that failed; spared is the time "+
			"of callers in failures that were refused, of what they lost without a breaker."))
	if ranges {
		b.WriteString(wrapped("", "The seeds are of the jitter of waits: what chance alone changes."))
	}
	for i := range r.Outcomes {
		if o := &r.Outcomes[i]; o.Passed > 0 {
			fmt.Fprintf(b, "%s: %s passed unwatched, since there was no room for more circuits\n", o.Name,
				counted(o.Passed, "call"))
		}
	}
	b.WriteString("\n")
}

func span(r decide.Range) string {
	if r.Least == r.Most {
		return count(r.Least)
	}
	return count(r.Least) + " to " + count(r.Most)
}

func (f *Facts) keys(b *strings.Builder) {
	r := f.Result
	top := r.Matter(mostKeys)
	var g grid
	header := []string{"keys that matter", "calls", "failed", "ignored"}
	for i := range r.Outcomes {
		header = append(header, r.Outcomes[i].Name+": price", "gain")
	}
	g.add(header...)
	for _, key := range top {
		k := &r.Keys[key]
		row := []string{f.key(key), count(k.Calls), fmt.Sprintf("%s (%s)", count(k.Failure), share(k.Failure,
			k.Calls)), count(k.Ignored)}
		for i := range r.Outcomes {
			t := r.Outcomes[i].Of(key)
			row = append(row, count(t.Price), count(t.Gain))
		}
		g.add(row...)
	}
	b.WriteString(g.String() + "\n")
}

func (f *Facts) troubles(b *strings.Builder) {
	r := f.Result
	if len(r.Troubles) == 0 {
		b.WriteString("No key was in trouble: failures never outweighed successes.\n\n")
		return
	}
	fmt.Fprintf(b, "Troubles: %s\n", count(int64(len(r.Troubles)+r.TroublesLeft)))
	for n, t := range r.Troubles {
		if n == mostTroubles {
			fmt.Fprintf(b, "and %s, all of them in -json\n", counted(int64(len(r.Troubles)+r.TroublesLeft-n), "more"))
			break
		}
		fmt.Fprintf(b, "%s to %s (%s)  %s\n", f.stamp(t.From), f.stamp(t.To), long(time.Duration(t.To-t.From)),
			f.key(t.Key))
		fmt.Fprintf(b, "    %s of %s failed: %s\n", count(t.Failures), counted(t.Calls, "call"), causes(t))
		for i := range r.Outcomes {
			fmt.Fprintf(b, "    %s\n", r.Outcomes[i].Name+": "+did(r.Outcomes[i].Answer(t), t))
		}
	}
	b.WriteString("\n")
}

func causes(t *decide.Trouble) string {
	var all []string
	for _, c := range t.Causes[:min(3, len(t.Causes))] {
		all = append(all, fmt.Sprintf("%s (%s)", c.Cause, count(c.Calls)))
	}
	return strings.Join(all, ", ")
}

// did says what a policy did in a trouble.
func did(a decide.Answer, t *decide.Trouble) string {
	if !a.Opened {
		return "did not open"
	}
	text := "opened after " + counted(a.After, "call")
	if a.After < 1 {
		text = "was open already"
	}
	if a.At >= t.From && a.After > 0 {
		text += ", " + long(time.Duration(a.At-t.From)) + " after its begin"
	}
	if a.Times > 1 {
		text += fmt.Sprintf(", %d times in all", a.Times)
	}
	switch {
	case a.Closed == 0:
		text += "; not closed before the records end"
	case a.Closed >= t.To:
		text += "; closed " + long(time.Duration(a.Closed-t.To)) + " after its end"
	default:
		text += "; closed " + long(time.Duration(t.To-a.Closed)) + " before its end"
	}
	return text
}

// Limits are what the reckoning cannot know, in a sentence each.
func (f *Facts) Limits() []string {
	limits := []string{
		"Load: a refusal relieves its upstream, so that failures after it may never have been.",
		"Retries: callers that are refused come back sooner than those that wait for a failure, and retries in " +
			"the records " +
			"that follow a call refused here would not exist.",
		"Probes: what a call would have met that was let through alone, as by an upstream that starts cold, is " +
			"not in the records.",
		"Latency: calls of a recovery take the time that they took, under all of the load.",
		"Deadlines: how long a caller was ready to wait is known of those that timed out, and is taken from them " +
			"for others; -timeout sets it.",
		"Bodies: a call ends once, where its record does; a Transport takes good headers for an answer a second " +
			"after they came.",
	}
	if f.Clients <= 1 {
		limits = append(limits,
			"Clients: a proxy's records are of all its clients, each of which would have circuits of its own; "+
				"-clients 20 deals the calls out.")
	} else {
		limits = append(limits,
			fmt.Sprintf("Clients: calls are dealt out to %d circuits by who called, where the record says it, "+
				"and no fleet joins them.", f.Clients))
	}
	return limits
}

// wrapped breaks a paragraph into lines of 100 columns.
func wrapped(before, text string) string {
	var b strings.Builder
	line := before
	for i, word := range strings.Fields(text) {
		if len(line)+1+len(word) > 100 && i > 0 {
			b.WriteString(line + "\n")
			line = strings.Repeat(" ", len(before))
		}
		if strings.TrimSpace(line) != "" && !strings.HasSuffix(line, " ") {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}
