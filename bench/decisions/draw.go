package main

import (
	"fmt"
	"html"
	"os"
	"path/filepath"
	"strings"
)

// draw writes a heat map of all regrets and a timeline for each scenario into a folder.
func (tb *table) draw(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	pictures := map[string]*svg{"regret.svg": tb.heatMap()}
	for row, sc := range tb.scenarios {
		pictures[sc.name+".svg"] = tb.timelines(row)
	}
	for name, p := range pictures {
		if err := os.WriteFile(filepath.Join(folder, name), p.bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// An svg is a picture that follows the reader's colour scheme.
type svg struct {
	strings.Builder
	width, height int
	style         string
}

func (s *svg) bytes() []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" `+
		`width="%[1]d" height="%[2]d" font-family="system-ui, sans-serif" font-size="11">
<style>%[3]s</style>
<rect class="page" width="%[1]d" height="%[2]d"/>
%[4]s</svg>
`, s.width, s.height, s.style, s.String())
}

// text writes a text; attrs are further attributes.
func (s *svg) text(x, y float64, attrs, text string) {
	fmt.Fprintf(s, "<text x=\"%.1f\" y=\"%.1f\" %s>%s</text>\n", x, y, attrs, html.EscapeString(text))
}
