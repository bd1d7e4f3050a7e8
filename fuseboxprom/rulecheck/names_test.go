package rulecheck

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/fuseboxprom"
	"github.com/fusebox-go/fusebox/transport"
)

// exported returns the labels of every metric of the collector, by its name.
func exported(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	descs := make(chan *prometheus.Desc, 100)
	fuseboxprom.NewCollector(transport.New(nil)).Describe(descs)
	close(descs)
	written := regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)
	for d := range descs {
		parts := written.FindStringSubmatch(d.String())
		require.NotNil(t, parts, d.String())
		all[parts[1]] = strings.Split(parts[2], ",")
	}
	require.Len(t, all, 24)
	return all
}

// expressions returns what grafana.json asks for, with values for its variables.
func expressions(t *testing.T) (exprs []string) {
	t.Helper()
	text, err := os.ReadFile("../grafana.json")
	require.NoError(t, err)
	var dashboard any
	require.NoError(t, json.Unmarshal(text, &dashboard))
	var walk func(any)
	walk = func(at any) {
		switch at := at.(type) {
		case []any:
			for _, v := range at {
				walk(v)
			}
		case map[string]any:
			if expr, ok := at["expr"].(string); ok {
				exprs = append(exprs, expr)
			}
			if source, ok := at["datasource"].(map[string]any); ok {
				require.Equal(t, "${datasource}", source["uid"], "the user has the say where data come from")
			}
			if definition, ok := at["definition"].(string); ok { // of a variable: label_values(series, label)
				selector, ok := strings.CutPrefix(definition[:strings.LastIndex(definition, ",")], "label_values(")
				require.True(t, ok, definition)
				exprs = append(exprs, selector)
			}
			for _, v := range at {
				walk(v)
			}
		}
	}
	walk(dashboard)
	require.Greater(t, len(exprs), 20)
	for i, expr := range exprs {
		expr = strings.NewReplacer("$__rate_interval", "1m", "$__interval", "1m", "$job", ".*", "$instance", ".*", "$key", ".*").Replace(expr)
		require.NotContains(t, expr, "$", "a variable that is not known here")
		exprs[i] = expr
	}
	return exprs
}

func TestWhatIsAskedForExists(t *testing.T) {
	exprs := expressions(t)
	for _, rule := range rules(t) {
		exprs = append(exprs, rule.Expr)
	}
	metrics, used := exported(t), make(map[string]bool)
	for _, expr := range exprs {
		parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
		require.NoError(t, err, expr)
		parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
			selector, ok := node.(*parser.VectorSelector)
			if !ok {
				return nil
			}
			name := selector.Name
			require.Contains(t, metrics, name, expr)
			used[name] = true
			for _, m := range selector.LabelMatchers {
				if m.Name != model.MetricNameLabel && m.Name != "job" && m.Name != "instance" {
					require.Contains(t, metrics[name], m.Name, expr)
				}
			}
			return nil
		})
	}
	for name := range metrics {
		require.True(t, used[name], "nothing shows %s", name)
	}
}

// TestTheDashboardHasSomethingToShow runs what it asks for over a bad day.
func TestTheDashboardHasSomethingToShow(t *testing.T) {
	s := badDay(t)
	for _, expr := range expressions(t) {
		matrix := s.at(t, expr)
		require.NotEmpty(t, matrix, expr)
	}
}
