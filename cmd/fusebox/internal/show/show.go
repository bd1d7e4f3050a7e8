// Package show writes what came of a replay: as text, as data, and as pictures.
package show

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/decide"
	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/read"
	"github.com/fusebox-go/fusebox/internal/visible"
)

// Facts are what there is to show.
type Facts struct {
	Result  *decide.Result
	Report  read.Report
	Name    func(key uint32) string // of a key, as the records have it
	Clients int                     // that calls were dealt out to; 1 if they were not
	Advice  *Advice                 // nil if nobody asked for it
	Explain bool                    // show lines of each reading
	Zone    *time.Location
}

// key is the name of a key with all of it visible.
func (f *Facts) key(n uint32) string {
	if name := visible.Text(f.Name(n)); name != "" {
		return name
	}
	return "(none)"
}

func (f *Facts) zone() *time.Location {
	if f.Zone == nil {
		return time.UTC
	}
	return f.Zone
}

// stamp writes a time, to the millisecond.
func (f *Facts) stamp(ns int64) string {
	return time.Unix(0, ns).In(f.zone()).Format("2006-01-02 15:04:05.000")
}

// count writes a number with its thousands apart.
func count(n int64) string {
	text := strconv.FormatInt(n, 10)
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	var b strings.Builder
	for i, digit := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return sign + b.String()
}

// share writes part of whole in percent, with as many digits as tell it from nothing.
func share(part, whole int64) string {
	if whole == 0 {
		return "–"
	}
	percent := 100 * float64(part) / float64(whole)
	switch {
	case part == 0:
		return "0 %"
	case percent < 0.01:
		return fmt.Sprintf("%.1g %%", percent)
	case percent < 1:
		return fmt.Sprintf("%.2f %%", percent)
	}
	return fmt.Sprintf("%.1f %%", percent)
}

// long writes a time that can be of any size.
func long(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + long(-d)
	case d == 0:
		return "0 s"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/1e3)
	case d < 999_500*time.Microsecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	case d < time.Second:
		return "1 s"
	case d < time.Minute && d%time.Second == 0:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d d %d h", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// seconds writes the time of many callers together.
func seconds(d time.Duration) string {
	s := d.Seconds()
	if s >= 100 || s == math.Trunc(s) {
		return count(int64(math.Round(s))) + " s"
	}
	return fmt.Sprintf("%.1f s", s)
}

// counted writes a number of things.
func counted(n int64, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return count(n) + " " + thing
}

// grid is a table of text, the first column aligned left and the others right.
type grid [][]string

func (g *grid) add(cells ...string) { *g = append(*g, cells) }

func (g grid) String() string {
	var width []int
	for _, row := range g {
		for i, cell := range row {
			if i >= len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range g {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + pad)
			} else {
				line.WriteString("  " + pad + cell)
			}
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}
