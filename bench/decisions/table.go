package main

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// A table holds the measures of subjects in scenarios. Rows of cells are scenarios, columns are subjects.
type table struct {
	scenarios []scenario
	subjects  []subject
	seeds     []uint64
	scales    []float64
	cells     [][]cell
}

// A cell is one subject in one scenario.
type cell struct {
	runs     []measure // one for each seed and scale
	mean     measure
	timeline *timeline // of the first run
}

// fill runs everything, as many worlds at a time as there are processors, and says on progress how far it has come.
func (tb *table) fill(t *testing.T, progress io.Writer) {
	type job struct {
		row, run int
		seed     uint64
		scale    float64
	}
	var jobs []job
	tb.cells = make([][]cell, len(tb.scenarios))
	for row := range tb.scenarios {
		tb.cells[row] = make([]cell, len(tb.subjects))
		for i := range tb.cells[row] {
			tb.cells[row][i].runs = make([]measure, len(tb.seeds)*len(tb.scales))
		}
		run := 0
		for _, seed := range tb.seeds {
			for _, scale := range tb.scales {
				jobs = append(jobs, job{row, run, seed, scale})
				run++
			}
		}
	}

	var next, done atomic.Int64
	var mu sync.Mutex // of progress
	parallel(t, func(t *testing.T) {
		for {
			n := int(next.Add(1)) - 1
			if n >= len(jobs) {
				return
			}
			j := jobs[n]
			w := tb.scenarios[j.row].world(j.seed, j.scale)
			arrivals := w.arrivals()
			var oracle *trace
			for i, s := range tb.subjects {
				tr := simulate(t, w, arrivals, s)
				if i == 0 {
					oracle = tr
				}
				c := &tb.cells[j.row][i]
				c.runs[j.run] = w.measure(tr, oracle)
				if j.run == 0 {
					c.timeline = w.timeline(tr)
				}
			}
			mu.Lock()
			fmt.Fprintf(progress, "\r%3d of %d worlds  %-24s", done.Add(1), len(jobs), w.name)
			mu.Unlock()
		}
	})
	fmt.Fprintf(progress, "\r%40s\r", "")

	for _, row := range tb.cells {
		for i := range row {
			row[i].mean = mean(row[i].runs)
		}
	}
}

// parallel runs f on every processor and waits.
func parallel(t *testing.T, f func(t *testing.T)) {
	t.Run("table", func(t *testing.T) {
		for n := range min(workers, runtime.GOMAXPROCS(0)) {
			t.Run(fmt.Sprint("worker-", n), func(t *testing.T) {
				t.Parallel()
				f(t)
			})
		}
	})
}

// column returns the measures of one subject, a scenario each.
func (tb *table) column(i int) []measure {
	var ms []measure
	for _, row := range tb.cells {
		ms = append(ms, row[i].mean)
	}
	return ms
}

// ranking returns the columns in order of their mean regret.
func (tb *table) ranking() []int {
	order := make([]int, len(tb.subjects))
	regret := make([]float64, len(tb.subjects))
	for i := range order {
		order[i], regret[i] = i, mean(tb.column(i)).Regret
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(regret[a], regret[b]) })
	return order
}

// bestPeer returns the peer with the least regret in a scenario, column except left out; -1 if there is no peer.
func (tb *table) bestPeer(row, except int) int {
	best := -1
	for i, s := range tb.subjects {
		if s.role != rolePeer || i == except {
			continue
		}
		if best < 0 || tb.cells[row][i].mean.Regret < tb.cells[row][best].mean.Regret {
			best = i
		}
	}
	return best
}

// againstPeers compares a subject with the best other peer of each scenario: in how many scenarios it is as good, to a
// tenth of a point, and where and by how much it falls behind the most.
func (tb *table) againstPeers(column int) (asGood int, worst string, behind float64) {
	for row, sc := range tb.scenarios {
		best := tb.bestPeer(row, column)
		if best < 0 {
			continue
		}
		d := tb.cells[row][column].mean.Regret - tb.cells[row][best].mean.Regret
		if d < 0.1 {
			asGood++
		}
		if worst == "" || d > behind {
			worst, behind = sc.name, d
		}
	}
	return asGood, worst, behind
}

// mean returns the mean of measures. That of seconds to open is over those that opened; that of seconds to recover
// is -1 where one never did.
func mean(ms []measure) measure {
	var sum measure
	opened := 0
	for _, m := range ms {
		sum.Regret += m.Regret
		sum.Net += m.Net
		sum.Lost += m.Lost
		sum.Wasted += m.Wasted
		sum.Good += m.Good
		sum.Refused += m.Refused
		sum.Wrongly += m.Wrongly
		sum.Burst += m.Burst
		sum.Held += m.Held
		if m.Open >= 0 {
			opened++
			sum.Open += m.Open
		}
		if m.Recover < 0 || sum.Recover < 0 {
			sum.Recover = -1
		} else {
			sum.Recover += m.Recover
		}
	}
	n := float64(max(1, len(ms)))
	sum.Regret, sum.Net, sum.Lost, sum.Wasted = sum.Regret/n, sum.Net/n, sum.Lost/n, sum.Wasted/n
	sum.Good, sum.Refused, sum.Wrongly = sum.Good/n, sum.Refused/n, sum.Wrongly/n
	sum.Burst, sum.Held = sum.Burst/n, sum.Held/n
	if sum.Recover > 0 {
		sum.Recover /= n
	}
	if sum.Open = sum.Open / float64(max(1, opened)); opened == 0 {
		sum.Open = -1
	}
	return sum
}
