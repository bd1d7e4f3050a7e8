package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// Sets of seeds. One is to tune on, one to look at now and then, each look being logged, and one to be judged by
// once, when all is done. A family draws another scenario for each.
var sets = map[string]uint64{"tune": 10_000, "look": 20_000, "final": 30_000}

// rivals are the three peers of whom the best of each draw is what Fusebox should never be far behind: a breaker, one
// with a limit that users set, and one with a limit that sets itself. None of them draws by chance.
var rivals = []string{"gobreaker-tuned", "limit-10", "failsafe-limiter"}

// Draws hold the measures of subjects in draws of families.
type draws struct {
	set      string
	families []family
	subjects []subject
	seeds    []uint64
	runs     [][]run // by family, then by seed
}

// A run is what came of one draw.
type run struct {
	draw
	requests int
	measures []measure // by subject
}

// fill runs everything, as many draws at a time as there are workers, and says on progress how far it has come.
func (ds *draws) fill(t *testing.T, progress io.Writer) {
	ds.runs = make([][]run, len(ds.families))
	for i := range ds.runs {
		ds.runs[i] = make([]run, len(ds.seeds))
	}
	all := len(ds.families) * len(ds.seeds)
	var next, done atomic.Int64
	var mu sync.Mutex // of progress
	parallel(t, func(t *testing.T) {
		for {
			n := int(next.Add(1)) - 1
			if n >= all {
				return
			}
			f, i := ds.families[n%len(ds.families)], n/len(ds.families)
			r := run{draw: f.drawn(ds.seeds[i])}
			r.play(t, ds.subjects)
			ds.runs[n%len(ds.families)][i] = r
			mu.Lock()
			fmt.Fprintf(progress, "\r%4d of %d draws  %-12s", done.Add(1), all, f.name)
			mu.Unlock()
		}
	})
	fmt.Fprintf(progress, "\r%40s\r", "")
}

func (r *run) play(t *testing.T, subjects []subject) {
	w := r.world(r.seed, 1)
	arrivals := w.arrivals()
	r.requests = len(arrivals)
	var oracle *trace
	for i, s := range subjects {
		tr := simulate(t, w, arrivals, s)
		if i == 0 {
			oracle = tr
		}
		r.measures = append(r.measures, w.measure(tr, oracle))
	}
}

// family returns the mean of a subject in a family.
func (ds *draws) family(f, subject int) measure {
	var ms []measure
	for _, r := range ds.runs[f] {
		ms = append(ms, r.measures[subject])
	}
	return mean(ms)
}

// column returns a subject's means, a family each.
func (ds *draws) column(subject int) []measure {
	var ms []measure
	for f := range ds.families {
		ms = append(ms, ds.family(f, subject))
	}
	return ms
}

// ranking returns the subjects in order of the mean of their families.
func (ds *draws) ranking() []int {
	order := make([]int, len(ds.subjects))
	regret := make([]float64, len(ds.subjects))
	for i := range order {
		order[i], regret[i] = i, mean(ds.column(i)).Regret
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(regret[a], regret[b]) })
	return order
}

// bestPeer returns the peer that does best in the mean of all families, or in family f if that is not negative; -1 if
// there are no peers.
func (ds *draws) bestPeer(f int) int {
	best, least := -1, 0.0
	for i, s := range ds.subjects {
		if s.role != rolePeer {
			continue
		}
		var regret float64
		if f < 0 {
			regret = mean(ds.column(i)).Regret
		} else {
			regret = ds.family(f, i).Regret
		}
		if best < 0 || regret < least {
			best, least = i, regret
		}
	}
	return best
}

// bestRival returns the rival that does best in a run, or -1.
func (ds *draws) bestRival(r run) int {
	best := -1
	for i, s := range ds.subjects {
		if slices.Contains(rivals, s.name) && (best < 0 || r.measures[i].Regret < r.measures[best].Regret) {
			best = i
		}
	}
	return best
}

// subject returns the number of the subject of that name, or -1.
func (ds *draws) subject(name string) int {
	return slices.IndexFunc(ds.subjects, func(s subject) bool { return s.name == name })
}

// afterwards returns what the best peer of each draw of a family comes to in the mean: less than any of them has, since
// nobody can choose so before, and chance is chosen, too.
func (ds *draws) afterwards(f int) float64 {
	sum := 0.0
	for _, r := range ds.runs[f] {
		least := math.Inf(1)
		for i, s := range ds.subjects {
			if s.role == rolePeer {
				least = min(least, r.measures[i].Regret)
			}
		}
		sum += least
	}
	return sum / float64(len(ds.runs[f]))
}
