package main

import (
	"fmt"
	"io"
	"strings"
)

// A grid is a table of text with a header row.
type grid [][]string

func (g *grid) add(cells ...string) { *g = append(*g, cells) }

// text writes the grid in columns, the first aligned left, the others right.
func (g grid) text(w io.Writer) {
	width := make([]int, len(g[0]))
	for _, row := range g {
		for i, c := range row {
			width[i] = max(width[i], len(c))
		}
	}
	for _, row := range g {
		var line strings.Builder
		for i, c := range row {
			if i == 0 {
				fmt.Fprintf(&line, "%-*s", width[i], c)
			} else {
				fmt.Fprintf(&line, "  %*s", width[i], c)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
	fmt.Fprintln(w)
}

// markdown writes the grid as a table in Markdown.
func (g grid) markdown(w io.Writer) {
	for i, row := range g {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(row)-1))
		}
	}
	fmt.Fprintln(w)
}

func number(f float64) string { return fmt.Sprintf("%.1f", f) }

// seconds writes a time that can be missing.
func seconds(f float64, missing string) string {
	if f < 0 {
		return missing
	}
	return number(f)
}
