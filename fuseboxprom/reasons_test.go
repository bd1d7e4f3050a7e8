package fuseboxprom_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/common/expfmt"
	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// said has every call fail, and the classifier say of it what its path is.
func said(t *testing.T) *site {
	s := newSite(t, nil)
	s.registry.Unregister(s.collector)
	s.rt = transport.New(testkit.Answer(200, ""), transport.WithPolicy(policy.Classic{Failures: 1 << 30}),
		transport.WithClassifier(func(c *policy.Call) policy.Outcome {
			c.Reason = strings.TrimPrefix(c.Request.URL.Path, "/")
			return policy.Failure
		}))
	s.collect()
	return s
}

func (s *site) say(host, reason string) {
	req, err := http.NewRequest(http.MethodGet, "http://"+host, nil)
	require.NoError(s, err)
	req.URL.Path = "/" + reason
	s.rt.RoundTrip(req)
}

func reasonSeries(host, reason string) string {
	return fmt.Sprintf("failures_total{class=%q,key=%q,reason=%q}", "judged", "http://"+host, reason)
}

func TestAClassifiersReasonIsASeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := said(t)
		for _, reason := range []string{"out of stock", "out of stock", "quota of the tenant", ""} {
			s.say("shop.test", reason)
		}
		got := s.scrape()
		require.Equal(t, 2.0, got[reasonSeries("shop.test", "out of stock")])
		require.Equal(t, 1.0, got[reasonSeries("shop.test", "quota of the tenant")])
		require.Equal(t, 1.0, got[reasonSeries("shop.test", "")])
	})
}

func TestAFloodOfReasonsIsAFewSeriesAndNoneOfAnotherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := said(t)
		s.say("flood.test", "known before")
		for i := range 5000 {
			s.say("flood.test", fmt.Sprintf("made up %d", i))
		}
		s.say("flood.test", "known before")
		s.say("well.test", "out of stock")
		got := s.scrape()
		series, calls := 0, 0.0
		for name, n := range got {
			if strings.HasPrefix(name, "failures_total") && strings.Contains(name, "flood.test") {
				series, calls = series+1, calls+n
			}
		}
		require.Equal(t, 8+1, series)
		require.Equal(t, 5002.0, calls, "nothing is lost")
		require.Equal(t, 2.0, got[reasonSeries("flood.test", "known before")], "who has a place keeps it")
		require.Equal(t, 5000.0-7, got[reasonSeries("flood.test", "other")])
		require.Equal(t, 1.0, got[reasonSeries("well.test", "out of stock")])
	})
}

// What strangers have said is read back as it is meant, and no line of it is another series.
func TestWhateverIsInAReasonIsOneLineOfText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := said(t)
		for _, reason := range []string{
			"a\nfusebox_local_trouble 1", `"} 7`, "\xff\xfe no text", "\u202eturned\u0000", strings.Repeat("é", 500), `\`,
		} {
			s.say("hostile.test", reason)
		}
		families, err := s.registry.Gather()
		require.NoError(t, err)
		var text strings.Builder
		for _, family := range families {
			_, err := expfmt.MetricFamilyToText(&text, family)
			require.NoError(t, err)
		}
		require.NotContains(t, text.String(), "\nfusebox_local_trouble 1")
		got := s.scrape()
		for _, want := range []string{
			"a fusebox_local_trouble 1", `"} 7`, "\ufffd\ufffd no text", " turned ", strings.Repeat("é", 32), `\`,
		} {
			require.Equal(t, 1.0, got[reasonSeries("hostile.test", want)], "%q", want)
		}
	})
}
