package main

import (
	"encoding/json"
	"fmt"
	"io"
)

// report writes the summary, the regrets and, if detail is set, everything else, in the form that write gives a grid.
func (tb *table) report(w io.Writer, write func(grid, io.Writer), detail bool) {
	fmt.Fprintf(w, "%d scenarios, seeds %v, scale %v. Percent of the requests offered, means over the scenarios.\n\n",
		len(tb.scenarios), tb.seeds, tb.scales)
	order := tb.ranking()
	write(tb.summary(order), w)
	fmt.Fprint(w, "Regret by scenario; columns as numbered above.\n\n")
	write(tb.regrets(order), w)
	if !detail {
		return
	}
	for _, i := range order {
		fmt.Fprintf(w, "- %s: %s\n", tb.subjects[i].name, tb.subjects[i].about)
	}
	for row, sc := range tb.scenarios {
		fmt.Fprintf(w, "\n%s: %s\n\n", sc.name, sc.about)
		write(tb.details(row, order), w)
	}
}

func (tb *table) summary(order []int) grid {
	g := grid{{
		"subject", "#", "regret", "lost", "wasted/2", "held s/1000",
		"as good as best peer", "worst vs best peer", "where",
	}}
	for n, i := range order {
		m := mean(tb.column(i))
		asGood, worst, behind := "-", "", "-"
		if n, where, by := tb.againstPeers(i); where != "" {
			asGood, worst, behind = fmt.Sprintf("%d of %d", n, len(tb.scenarios)), where, fmt.Sprintf("%+.1f", by)
		}
		g.add(tb.subjects[i].name, fmt.Sprint(n+1),
			fmt.Sprintf("%.2f", m.Regret), fmt.Sprintf("%.2f", m.Lost), fmt.Sprintf("%.2f", m.Wasted/2), number(m.Held),
			asGood, behind, worst)
	}
	return g
}

func (tb *table) regrets(order []int) grid {
	header := []string{"scenario"}
	for n := range order {
		header = append(header, fmt.Sprint(n+1))
	}
	g := grid{header}
	for row, sc := range tb.scenarios {
		line := []string{sc.name}
		for _, i := range order {
			line = append(line, number(tb.cells[row][i].mean.Regret))
		}
		g.add(line...)
	}
	line := []string{"mean"}
	for _, i := range order {
		line = append(line, number(mean(tb.column(i)).Regret))
	}
	g.add(line...)
	return g
}

func (tb *table) details(row int, order []int) grid {
	g := grid{{"subject", "regret", "lost", "wasted", "good", "refused", "open s", "recover s", "burst", "held s/1000"}}
	for _, i := range order {
		m := tb.cells[row][i].mean
		g.add(tb.subjects[i].name,
			fmt.Sprintf("%.2f", m.Regret), fmt.Sprintf("%.2f", m.Lost), fmt.Sprintf("%.2f", m.Wasted),
			fmt.Sprintf("%.2f", m.Good), fmt.Sprintf("%.2f", m.Refused),
			seconds(m.Open, "-"), seconds(m.Recover, "never"), fmt.Sprintf("%.0f", m.Burst), number(m.Held))
	}
	return g
}

// json writes every run.
func (tb *table) json(w io.Writer) error {
	type entry struct {
		Scenario string    `json:"scenario"`
		Subject  string    `json:"subject"`
		Mean     measure   `json:"mean"`
		Runs     []measure `json:"runs"` // by seed, then by scale
	}
	all := struct {
		Seeds  []uint64  `json:"seeds"`
		Scales []float64 `json:"scales"`
		Cells  []entry   `json:"cells"`
	}{Seeds: tb.seeds, Scales: tb.scales}
	for row, sc := range tb.scenarios {
		for i, s := range tb.subjects {
			c := tb.cells[row][i]
			all.Cells = append(all.Cells, entry{sc.name, s.name, c.mean, c.runs})
		}
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(all)
}
