package rulecheck

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"
)

const scrapeEvery = 15 * time.Second

// scrapes is what a Prometheus server has of a process that it scrapes. It is a storage.Queryable.
type scrapes struct {
	series     map[string]*series // by their labels
	start, end time.Time
}

type series struct {
	labels  labels.Labels
	samples []chunks.Sample
}

func newScrapes() *scrapes { return &scrapes{series: make(map[string]*series)} }

// scrape adds what a process shows now.
func (s *scrapes) scrape(tb testing.TB, from prometheus.Gatherer) {
	families, err := from.Gather()
	require.NoError(tb, err)
	now := time.Now()
	if s.start.IsZero() {
		s.start = now
	}
	s.end = now
	for _, family := range families {
		for _, m := range family.Metric {
			s.add(now, labelsOf(family.GetName(), m), m.GetGauge().GetValue()+m.GetCounter().GetValue())
		}
	}
}

func (s *scrapes) add(now time.Time, ls labels.Labels, value float64) {
	at := s.series[ls.String()]
	if at == nil {
		at = &series{labels: ls}
		s.series[ls.String()] = at
	}
	if n := len(at.samples); n > 0 && now.UnixMilli()-at.samples[n-1].T() > scrapeEvery.Milliseconds() {
		// As a server marks the end of a series that a scrape does not find.
		at.samples = append(at.samples, sample{at.samples[n-1].T() + scrapeEvery.Milliseconds(), stale})
	}
	at.samples = append(at.samples, sample{now.UnixMilli(), value})
}

// done marks the series that ended before the last scrape.
func (s *scrapes) done() {
	for _, at := range s.series {
		if last := at.samples[len(at.samples)-1].T(); last < s.end.UnixMilli() {
			at.samples = append(at.samples, sample{last + scrapeEvery.Milliseconds(), stale})
		}
	}
}

func labelsOf(name string, m *dto.Metric) labels.Labels {
	b := labels.NewScratchBuilder(len(m.Label) + 3)
	for _, l := range m.Label {
		b.Add(l.GetName(), l.GetValue())
	}
	b.Add(model.MetricNameLabel, name)
	b.Add("job", "shop")
	b.Add("instance", "shop-1")
	b.Sort()
	return b.Labels()
}

// stale is the value by which a series ends.
var stale = math.Float64frombits(0x7ff0000000000002)

type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                      { return s.t }
func (s sample) ST() int64                     { return 0 }
func (s sample) F() float64                    { return s.v }
func (s sample) H() *histogram.Histogram       { return nil }
func (s sample) FH() *histogram.FloatHistogram { return nil }
func (s sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample           { return s }

// Querier makes scrapes a storage.Queryable.
func (s *scrapes) Querier(from, to int64) (storage.Querier, error) { return querier{s, from, to}, nil }

type querier struct {
	*scrapes
	from, to int64
}

func (q querier) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var found []storage.Series
	for _, at := range q.series {
		if matches(at.labels, matchers) {
			var in []chunks.Sample
			for _, s := range at.samples {
				if q.from <= s.T() && s.T() <= q.to {
					in = append(in, s)
				}
			}
			found = append(found, storage.NewListSeries(at.labels, in))
		}
	}
	return &seriesSet{found, -1}
}

func matches(ls labels.Labels, matchers []*labels.Matcher) bool {
	for _, m := range matchers {
		if !m.Matches(ls.Get(m.Name)) {
			return false
		}
	}
	return true
}

var errNotHere = errors.New("not here")

func (q querier) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errNotHere
}

func (q querier) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, errNotHere
}

func (q querier) Close() error { return nil }

type seriesSet struct {
	series []storage.Series
	at     int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.series) }
func (s *seriesSet) At() storage.Series                { return s.series[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// at evaluates an expression at every scrape.
func (s *scrapes) at(t *testing.T, expr string) promql.Matrix {
	t.Helper()
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 10_000_000, Timeout: time.Minute})
	query, err := engine.NewRangeQuery(context.Background(), s, nil, expr, s.start, s.end, scrapeEvery)
	require.NoError(t, err, expr)
	defer query.Close()
	result := query.Exec(context.Background())
	require.NoError(t, result.Err, expr)
	matrix, err := result.Matrix()
	require.NoError(t, err)
	copied := make(promql.Matrix, len(matrix)) // what it has is used again
	for i, series := range matrix {
		copied[i] = promql.Series{Metric: series.Metric, Floats: append([]promql.FPoint(nil), series.Floats...)}
	}
	return copied
}
