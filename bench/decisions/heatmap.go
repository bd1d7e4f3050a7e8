package main

import (
	"fmt"
	"strings"
)

// heatSteps are the regrets from which on a cell gets the next, stronger colour.
var heatSteps = []float64{0.1, 0.5, 1, 2, 4, 8, 16, 32}

// Colours of a heat map, from no regret to the most, each with that of the text on it.
var (
	heatLight = []string{
		"#ffffff #57606a", "#fff5e6 #57606a", "#ffe8c7 #57606a", "#fdd49e #3d2a14", "#fdbb84 #3d2a14",
		"#fc8d59 #2b1408", "#ef6548 #ffffff", "#d7301f #ffffff", "#8a0f0f #ffffff",
	}
	heatDark = []string{
		"#0d1117 #8b949e", "#1d1712 #a39a91", "#2f2013 #b8a999", "#4a2d13 #e0cdb8", "#6e3f14 #f3e3d0",
		"#99530f #fff4e8", "#c9701a #160b02", "#f0994a #160b02", "#ffd3a1 #160b02",
	}
)

func (tb *table) heatMap() *svg {
	const left, top, cellW, cellH = 140, 130, 44, 18
	order := tb.ranking()
	rows := len(tb.scenarios) + 1
	p := &svg{width: left + cellW*len(order) + 60, height: top + cellH*rows + 40, style: heatStyle()}
	p.text(8, 20, `class="title"`, "Regret in percent of the requests offered")
	p.text(8, 36, ``, "good answers lost against an oracle, and half of the calls wasted")
	for n, i := range order {
		x := float64(left + cellW*n + cellW/2 + 3)
		class := ""
		if tb.subjects[i].role == roleOwn {
			class = `class="title" `
		}
		p.text(x, top-6, fmt.Sprintf(`%stransform="rotate(-40 %.1f %d)"`, class, x, top-6), tb.subjects[i].name)
	}
	for row := range rows {
		y, name := float64(top+cellH*row), "mean"
		if row < len(tb.scenarios) {
			name = tb.scenarios[row].name
		} else {
			y += 6
		}
		p.text(left-6, y+13, `text-anchor="end"`, name)
		for n, i := range order {
			regret := 0.0
			if row < len(tb.scenarios) {
				regret = tb.cells[row][i].mean.Regret
			} else {
				regret = mean(tb.column(i)).Regret
			}
			p.heatCell(left+cellW*n, y, cellW-1, cellH-1, regret)
		}
	}
	return p
}

func (s *svg) heatCell(x int, y float64, w, h int, regret float64) {
	step := 0
	for step < len(heatSteps) && regret >= heatSteps[step] {
		step++
	}
	fmt.Fprintf(s, "<g class=\"h%d\"><rect x=\"%d\" y=\"%.0f\" width=\"%d\" height=\"%d\"/>", step, x, y, w, h)
	label := fmt.Sprintf("%.1f", regret)
	if regret >= 99.95 {
		label = fmt.Sprintf("%.0f", regret)
	}
	s.text(float64(x+w-4), y+13, `text-anchor="end"`, label)
	fmt.Fprintln(s, "</g>")
}

func heatStyle() string {
	rules := func(page, text string, colours []string) string {
		var b strings.Builder
		fmt.Fprintf(&b, ".page{fill:%s}text{fill:%s}", page, text)
		for i, c := range colours {
			fill, on, _ := strings.Cut(c, " ")
			fmt.Fprintf(&b, ".h%d rect{fill:%s}.h%d text{fill:%s}", i, fill, i, on)
		}
		return b.String()
	}
	return ".title{font-weight:600}" + rules("#ffffff", "#1f2328", heatLight) +
		"@media(prefers-color-scheme:dark){" + rules("#0d1117", "#e6edf3", heatDark) + "}"
}
