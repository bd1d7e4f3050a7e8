package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// cell is the time that a character of the strip stands for.
const cell = 100 * time.Millisecond

var (
	signOfMode     = map[mode]string{works: "·", fails: "5", hangs: "?"}
	signOfState    = map[policy.State]string{policy.Closed: "·", policy.Open: "█", policy.HalfOpen: "▒"}
	signOfAnswer   = map[answer]string{answered: "·", failed: "x", refused: "-"}
	wordOfAnswer   = [...]string{"answered", "failed", "refused"}
	colourOfMode   = map[mode]string{works: green, fails: red, hangs: red}
	colourOfState  = map[policy.State]string{policy.Closed: green, policy.Open: red, policy.HalfOpen: yellow}
	colourOfAnswer = map[answer]string{answered: green, failed: red, refused: yellow}
)

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	bold   = "1"
)

func (t *timeline) paint(colour, text string) string {
	if !t.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// summary prints the whole outage in three lines, and what came of it.
func (t *timeline) summary(upstream *server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.printCallers(t.parts[len(t.parts)-1])
	cells := int(time.Since(t.start)/cell) + 1

	fmt.Fprintln(t.out)
	fmt.Fprintf(t.out, "           %s\n", seconds(cells))
	fmt.Fprintf(t.out, "  server   %s  · works  5 fails  ? hangs\n", t.modeStrip(cells))
	fmt.Fprintf(t.out, "  circuit  %s  · closed  █ open  ▒ half-open\n", t.stateStrip(cells))
	fmt.Fprintf(t.out, "  callers  %s  · answered  x failed  - refused\n\n", t.callerStrip(cells))

	var total [refused + 1]int
	var spared, stuck int
	sick, hung, well := t.modes[1].at, t.modes[2].at, t.modes[3].at
	for _, call := range t.calls {
		total[call.got]++
		if call.got == refused && call.started.After(sick) && call.started.Before(well) {
			spared++
			if call.started.After(hung) {
				stuck++
			}
		}
	}
	arrived := upstream.arrived[fails].Load() + upstream.arrived[hangs].Load()
	t.fact(
		"Spared", "%d calls did not reach the sick server, %d did. %d of the spared ones would have hung.", spared,
		arrived, stuck,
	)
	if last := len(t.changes) - 1; last >= 0 && t.changes[last].To == policy.Closed {
		t.fact("Recovered", "The circuit was closed %v after the server was well.", short(t.changes[last].At.Sub(well)))
	}
	t.fact(
		"Callers", "%d answered, %d failed, %d refused, %d in all.", total[answered], total[failed], total[refused],
		len(t.calls),
	)
}

func (t *timeline) fact(name, format string, args ...any) {
	fmt.Fprintf(t.out, "  %s %s\n", t.paint(bold, fmt.Sprintf("%-10s", name)), fmt.Sprintf(format, args...))
}

// seconds is the ruler above the strip.
func seconds(cells int) string {
	var ruler strings.Builder
	for i := 0; i < cells; i += int(time.Second / cell) {
		fmt.Fprintf(&ruler, "%-*s", int(time.Second/cell), fmt.Sprintf("%ds", i*int(cell)/int(time.Second)))
	}
	return strings.TrimRight(ruler.String(), " ")
}

func (t *timeline) modeStrip(cells int) string {
	var strip strings.Builder
	now := works
	for i, next := 0, 0; i < cells; i++ {
		for ; next < len(t.modes) && t.cellOf(t.modes[next].at) <= i; next++ {
			now = t.modes[next].mode
		}
		strip.WriteString(t.paint(colourOfMode[now], signOfMode[now]))
	}
	return strip.String()
}

// stateStrip shows a cell half-open if the circuit was so for any part of it, however short.
func (t *timeline) stateStrip(cells int) string {
	var strip strings.Builder
	now := policy.Closed
	for i, next := 0, 0; i < cells; i++ {
		shown := now
		for ; next < len(t.changes) && t.cellOf(t.changes[next].At) <= i; next++ {
			now = t.changes[next].To
			if shown != policy.HalfOpen {
				shown = now
			}
		}
		strip.WriteString(t.paint(colourOfState[shown], signOfState[shown]))
	}
	return strip.String()
}

// callerStrip shows the worst that a caller of the cell got: failed, else refused, else answered.
func (t *timeline) callerStrip(cells int) string {
	got := make([][refused + 1]bool, cells)
	for _, call := range t.calls {
		got[min(t.cellOf(call.started), cells-1)][call.got] = true
	}
	var strip strings.Builder
	for _, cell := range got {
		sign := " "
		for _, what := range []answer{answered, refused, failed} {
			if cell[what] {
				sign = t.paint(colourOfAnswer[what], signOfAnswer[what])
			}
		}
		strip.WriteString(sign)
	}
	return strip.String()
}

func (t *timeline) cellOf(at time.Time) int { return int(at.Sub(t.start) / cell) }
