package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"testing"
)

// report writes the results of a case as a Markdown table.
func report(out io.Writer, c testCase, results []result) {
	base := results[0]
	fmt.Fprintf(out, "### %s: %s\n\n", c.name, c.about)
	if c.whole {
		fmt.Fprintf(out, "The bare base takes %s ns.\n\n", number(base.ns))
	} else {
		fmt.Fprintf(out, "Over the bare base, which takes %s ns.\n\n", number(base.ns))
	}
	fmt.Fprint(out, "| subject | ns | × fastest peer per host | allocations | bytes |")
	if c.apart {
		fmt.Fprint(out, " bytes kept per host |")
	}
	fmt.Fprint(out, "\n|---|--:|--:|--:|--:|")
	if c.apart {
		fmt.Fprint(out, "--:|")
	}
	fmt.Fprintln(out)
	fastest := fastestPeer(c, results)
	for _, r := range results[1:] {
		fmt.Fprintf(out, "| %s | %s | %s | %d | %d |",
			r.subject.name, number(r.time(c)), ratio(r.time(c), fastest), round(r.allocs), round(r.bytes))
		if c.apart {
			fmt.Fprintf(out, " %d |", round(r.bytesPerHost))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
}

// fastestPeer returns the least time of a peer that keeps circuits per host; 0 if there is none.
func fastestPeer(c testCase, results []result) float64 {
	for _, r := range results[1:] { // in order of time
		if r.subject.perHost && !r.subject.own {
			return r.time(c)
		}
	}
	return 0
}

// reportFloors writes what single steps take.
func (o *options) reportFloors(out io.Writer) {
	fmt.Fprint(out, "### floors: what single steps take\n\n| step | ns | allocations |\n|---|--:|--:|\n")
	all := floors()
	ns, allocs := make([][]float64, len(all)), make([]int64, len(all))
	for range o.rounds {
		for i, f := range all {
			r := testing.Benchmark(f.bench)
			ns[i], allocs[i] = append(ns[i], nsPerOp(r)), r.AllocsPerOp()
		}
	}
	for i, f := range all {
		fmt.Fprintf(out, "| %s | %.1f | %d |\n", f.name, o.middle(ns[i]), allocs[i])
	}
	fmt.Fprintln(out)
}

// reportSubjects writes what the names stand for.
func reportSubjects(out io.Writer, all []subject) {
	fmt.Fprint(out, "| subject | what | circuits per host |\n|---|---|---|\n")
	for _, s := range all {
		keeps := "no"
		if s.native {
			keeps = "its own"
		} else if s.perHost {
			keeps = "by a sync.Map"
		}
		fmt.Fprintf(out, "| %s | %s | %s |\n", s.name, s.about, keeps)
	}
	fmt.Fprintln(out)
}

func ratio(a, b float64) string {
	if a <= 0 || b <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a/b)
}

func round(x float64) int { return int(math.Round(x)) }

// number has a decimal only where it says something.
func number(ns float64) string {
	if -10 < ns && ns < 10 {
		return fmt.Sprintf("%.1f", ns)
	}
	return fmt.Sprintf("%.0f", ns)
}

// middle is what stands for the rounds.
func (o *options) middle(ns []float64) float64 {
	if o.least {
		return slices.Min(ns)
	}
	return median(ns)
}
