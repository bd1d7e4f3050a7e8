package logs_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// throttled are the lines about throttles.
func (s *site) throttled() (lines []map[string]any) {
	for _, line := range s.read() {
		if strings.Contains(line["msg"].(string), "throttled") {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestAThrottleThatComesAndGoesHasAPairOfLinesAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithPolicy(policy.Adaptive{}))
		s.Fill(http.StatusServiceUnavailable, "busy.test")
		busy := transport.Key{Scheme: "http", Host: "busy.test"}.Pattern()
		for range 100 { // a little more than ten a second
			for range 30 {
				s.call("busy.test")
			}
			s.rt.Reset(busy)
		}
		lines := s.throttled()
		require.Len(t, lines, 2, "one that began and ended, and the rest is still to be told")
		require.Equal(t, "calls throttled", lines[0]["msg"])
		require.NotContains(t, lines[0], "times")
		require.Equal(t, "calls no longer throttled", lines[1]["msg"])
		require.Equal(t, "by hand", lines[1]["reason"])

		// one that stays has its line when a minute is over, though it began before
		for range 60 {
			for range 30 {
				s.call("busy.test")
			}
			time.Sleep(2 * time.Second)
		}
		lines = append(lines, s.throttled()...)
		require.Greater(t, len(lines), 2)
		require.LessOrEqual(t, len(lines), 8)
		require.Equal(t, "calls throttled", lines[2]["msg"])
		require.GreaterOrEqual(t, lines[2]["times"], 99.0)
	})
}

func TestALineAboutAThrottleThatWaitedSaysSinceWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithPolicy(policy.Adaptive{}))
		s.Fill(http.StatusServiceUnavailable, "busy.test")
		throttle := func() {
			for range 30 {
				s.call("busy.test")
			}
		}
		throttle()
		s.rt.Reset("http://busy.test")
		throttle()
		began := time.Now()
		lines := s.throttled()
		require.Len(t, lines, 2)
		for range 70 { // it goes on
			time.Sleep(time.Second)
			s.call("busy.test")
			s.call("busy.test")
			s.call("busy.test")
		}
		lines = append(lines, s.throttled()...)
		require.GreaterOrEqual(t, len(lines), 3)
		require.Equal(t, "calls throttled", lines[2]["msg"])
		require.Contains(t, lines[2], "since")
		at, err := time.Parse(time.RFC3339Nano, lines[2]["since"].(string))
		require.NoError(t, err)
		require.WithinRange(t, at, began.Add(-time.Second), began.Add(time.Minute))
	})
}

func TestRefusalsOfAThrottleSayWhyAndHowMuchGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithPolicy(policy.Adaptive{}))
		s.Fill(http.StatusTooManyRequests, "busy.test")
		for range 30 {
			s.call("busy.test")
		}
		for _, line := range s.read() {
			if line["msg"] == "requests refused" {
				require.Equal(t, "throttled", line["reason"])
				require.Contains(t, line["why"], "the last by 429")
				require.EqualValues(t, 1, line["in_flight"])
				require.Positive(t, line["per_second"])
				return
			}
		}
		t.Fatal("nothing was refused")
	})
}
