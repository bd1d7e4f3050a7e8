package main

import (
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
)

const scatterStyle = `.title{font-weight:600}.page{fill:#fff}text{fill:#1f2328}` +
	`.small{fill:#57606a;font-size:9px}.axis{stroke:#8c959f;fill:none}` +
	`path.even{stroke:#8c959f;stroke-dasharray:3 3}circle.even{fill:#8c959f;fill-opacity:.7}` +
	`.better{fill:#2da44e;fill-opacity:.55}.worse{fill:#cf222e;fill-opacity:.75}` +
	`@media(prefers-color-scheme:dark){.page{fill:#0d1117}text{fill:#e6edf3}` +
	`.small{fill:#8b949e}.axis,path.even{stroke:#6e7681}.better{fill:#3fb950}.worse{fill:#f85149}}`

// scatterTicks are the regrets that an axis names. Its scale is of square roots, so that small ones can be told apart.
var scatterTicks = []float64{0, 5, 20, 50, 100}

// draw writes a picture of all draws into a folder: for each family Fusebox's regret against that of the peer that
// has the least in the mean of that family, a point each. It writes nothing if one of the two is not there.
func (ds *draws) draw(folder string) error {
	own := ds.subject("fusebox")
	if own < 0 || ds.bestPeer(-1) < 0 {
		return nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "families.svg"), ds.scatter(own).bytes(), 0o644)
}

func (ds *draws) scatter(own int) *svg {
	const left, top, size, gapX, gapY, columns = 34, 64, 132, 30, 52, 6
	rows := (len(ds.families) + columns - 1) / columns
	p := &svg{width: left + columns*(size+gapX), height: top + rows*(size+gapY), style: scatterStyle}
	p.text(8, 20, `class="title"`,
		"Regret of single draws: Fusebox, upwards, against the best peer of the family, to the right")
	p.text(8, 36, "",
		"percent of the requests offered; green, below the line: Fusebox is better; red, above: worse; grey: as good")
	for f, fam := range ds.families {
		x, y := float64(left+f%columns*(size+gapX)), float64(top+f/columns*(size+gapY))
		best := ds.bestPeer(f)
		p.text(x, y-6, `class="title"`, fmt.Sprintf("%s: %.1f", fam.name, ds.family(f, own).Regret))
		p.text(x, y+size+22, `class="small"`,
			fmt.Sprintf("%s: %.1f", ds.subjects[best].name, ds.family(f, best).Regret))
		p.panel(x, y, size)
		for _, r := range ds.runs[f] {
			p.point(x, y, size, r, r.measures[best].Regret, r.measures[own].Regret)
		}
	}
	return p
}

// along returns where on an axis a regret is, from 0 to 1.
func along(regret float64) float64 {
	return math.Sqrt(min(1, regret/scatterTicks[len(scatterTicks)-1]))
}

func (s *svg) panel(x, y, size float64) {
	fmt.Fprintf(s, "<path class=\"axis\" d=\"M%.0f %.0fv%.0fh%.0f\"/>\n", x, y, size, size)
	fmt.Fprintf(s, "<path class=\"even\" d=\"M%.0f %.0fl%.0f %.0f\"/>\n", x, y+size, size, -size)
	for _, tick := range scatterTicks {
		s.text(x+size*along(tick), y+size+11, `class="small" text-anchor="middle"`, fmt.Sprint(tick))
		s.text(x-3, y+size*(1-along(tick))+3, `class="small" text-anchor="end"`, fmt.Sprint(tick))
	}
}

func (s *svg) point(x, y, size float64, r run, peer, own float64) {
	class := "even"
	switch by := own - peer; {
	case by > 0.1:
		class = "worse"
	case by < -0.1:
		class = "better"
	}
	what := html.EscapeString(fmt.Sprintf("%d: %.1f, peer %.1f: %s", r.seed, own, peer, r.about))
	fmt.Fprintf(s, "<circle class=%q cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"><title>%s</title></circle>\n", class,
		x+size*along(peer), y+size*(1-along(own)), what)
}
