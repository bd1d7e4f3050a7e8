package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
)

// worstShown is how many single draws are printed: those in which Fusebox is the farthest behind the best rival.
const worstShown = 12

// report writes the means, families by subjects, what Fusebox is behind in, and the worst draws, in the form that
// write gives a grid.
func (ds *draws) report(w io.Writer, write func(grid, io.Writer)) {
	fmt.Fprintf(w, "%d families, %d draws of each, of the set to %s. Regret in percent of the requests offered, "+
		"mean of the families;\nin brackets where nine of ten resamples of the draws lie.\n\n",
		len(ds.families), len(ds.seeds), ds.set)
	order := ds.ranking()
	write(ds.summary(order), w)
	if ds.bestPeer(-1) >= 0 {
		ofFamily, ofDraw := 0.0, 0.0
		for f := range ds.families {
			ofFamily += ds.family(f, ds.bestPeer(f)).Regret / float64(len(ds.families))
			ofDraw += ds.afterwards(f) / float64(len(ds.families))
		}
		fmt.Fprintf(w, "Of peers that are chosen afterwards, those that do best in each family have %.2f, "+
			"and in each draw %.2f.\n\n", ofFamily, ofDraw)
	}
	fmt.Fprint(w, "Regret by family; columns as numbered above. "+
		"Wrong is the percent of requests that Fusebox refused though they would have been served.\n\n")
	write(ds.byFamily(order), w)
	own, was := ds.subject("fusebox"), ds.subject(before)
	if own >= 0 && was >= 0 {
		fmt.Fprint(w, "Fusebox as it was and is, over the same draws.\n\n")
		write(ds.changes(own, was), w)
	}
	if own < 0 || ds.bestPeer(-1) < 0 {
		return
	}
	fmt.Fprintf(w, "Single draws in which Fusebox is the farthest behind the best of %v.\n\n", rivals)
	write(ds.worst(own), w)
}

func (ds *draws) summary(order []int) grid {
	g := grid{{"subject", "#", "regret", "of 90 %", "lost", "wasted/2", "of the best peer", "of 90 %", "net"}}
	best := ds.bestPeer(-1)
	for n, i := range order {
		m := mean(ds.column(i))
		in := ds.spread(i, i, first)
		cells := []string{
			ds.subjects[i].name, fmt.Sprint(n + 1), fmt.Sprintf("%.2f", m.Regret), in.String(),
			fmt.Sprintf("%.2f", m.Lost), fmt.Sprintf("%.2f", m.Wasted/2), "", "", fmt.Sprintf("%.2f", m.Net),
		}
		if best >= 0 && ds.subjects[i].role == roleOwn {
			cells[6] = fmt.Sprintf("%.2f", m.Regret/mean(ds.column(best)).Regret)
			cells[7] = ds.spread(i, best, ratio).String()
		}
		g.add(cells...)
	}
	return g
}

// String writes an interval.
func (in interval) String() string { return fmt.Sprintf("[%.2f, %.2f]", in.low, in.high) }

func (ds *draws) byFamily(order []int) grid {
	header := []string{"family"}
	for n := range order {
		header = append(header, fmt.Sprint(n+1))
	}
	own := ds.subject("fusebox")
	g := grid{append(header, "behind", "best peer there", "of each draw", "wrong")}
	for f, fam := range ds.families {
		line := []string{fam.name}
		for _, i := range order {
			line = append(line, fmt.Sprintf("%.1f", ds.family(f, i).Regret))
		}
		behind, name, afterwards, wrong := "", "", "", ""
		if best := ds.bestPeer(f); best >= 0 && own >= 0 {
			behind = fmt.Sprintf("%+.1f", ds.family(f, own).Regret-ds.family(f, best).Regret)
			name = ds.subjects[best].name
			afterwards = fmt.Sprintf("%.1f", ds.afterwards(f))
		}
		if own >= 0 {
			wrong = fmt.Sprintf("%.2f", ds.family(f, own).Wrongly)
		}
		g.add(append(line, behind, name, afterwards, wrong)...)
	}
	line := []string{"mean"}
	for _, i := range order {
		line = append(line, fmt.Sprintf("%.1f", mean(ds.column(i)).Regret))
	}
	g.add(append(line, "", "", "", "")...)
	return g
}

func (ds *draws) worst(own int) grid {
	type behind struct {
		run
		rival int
		by    float64
	}
	var all []behind
	for _, runs := range ds.runs {
		for _, r := range runs {
			if best := ds.bestRival(r); best >= 0 {
				all = append(all, behind{r, best, r.measures[own].Regret - r.measures[best].Regret})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b behind) int { return cmp.Compare(b.by, a.by) })
	g := grid{{"draw", "behind", "Fusebox", "rival", ""}}
	for _, b := range all[:min(worstShown, len(all))] {
		g.add(fmt.Sprintf("%s %d: %s", b.family, b.seed, b.about), fmt.Sprintf("%+.1f", b.by),
			number(b.measures[own].Regret), number(b.measures[b.rival].Regret), ds.subjects[b.rival].name)
	}
	return g
}
