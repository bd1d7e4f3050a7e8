package logs_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/logs"
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
	s := newSite(t)
	observer := logs.Observer(slog.New(slog.NewJSONHandler(s, nil)))
	key := transport.Key{Scheme: "http", Host: "busy.test"}
	began := time.Date(2026, time.January, 2, 3, 4, 5, 0, time.UTC)
	begin := func(after time.Duration) {
		observer.OnThrottle(transport.ThrottleEvent{
			Key: key, Known: true, At: began.Add(after), Since: began.Add(after), Reason: policy.ThrottledBy503, Why: "8 of 9",
		})
	}
	end := func(after, lasted time.Duration) {
		at := began.Add(after)
		observer.OnThrottle(transport.ThrottleEvent{
			Key: key, Known: true, At: at, Over: true, Since: at.Add(-lasted), Reason: policy.ThrottleCalm, Refused: 3,
		})
	}
	refuse := func(after time.Duration) {
		observer.OnRefusal(transport.RefusalEvent{
			Key: key, Known: true, At: began.Add(after), Error: &transport.RefusedError{Reason: policy.RefusedThrottled},
		})
	}
	begin(0)
	end(40*time.Second, 40*time.Second)
	require.Len(t, s.throttled(), 2)
	begin(50 * time.Second)
	refuse(59 * time.Second)
	require.Empty(t, s.throttled(), "not within a minute")
	refuse(60 * time.Second)
	require.Equal(t, []map[string]any{{
		"level": "WARN", "msg": "calls throttled", "key": "http://busy.test", "reason": "503", "why": "8 of 9",
		"since": "2026-01-02T03:04:55Z",
	}}, s.throttled())
	refuse(61 * time.Second)
	require.Empty(t, s.throttled(), "once")
	end(100*time.Second, 50*time.Second)
	require.Equal(t, []map[string]any{{
		"level": "INFO", "msg": "calls no longer throttled", "key": "http://busy.test", "reason": "calm", "refused": 3.0,
		"lasted": "50s",
	}}, s.throttled())
	begin(110 * time.Second) // and is over before its line was due
	end(115*time.Second, 5*time.Second)
	refuse(200 * time.Second)
	require.Empty(t, s.throttled())
	begin(210 * time.Second)
	lines := s.throttled()
	require.Len(t, lines, 1)
	require.Equal(t, 2.0, lines[0]["times"])
}

func TestRefusalsOfAThrottleSayWhyAndHowMuchGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, transport.WithPolicy(policy.Adaptive{}))
		for n := range 300 {
			s.Fill(http.StatusTooManyRequests, "busy.test")
			if n%5 == 0 {
				s.Fill(http.StatusOK, "busy.test")
			}
			s.call("busy.test")
			time.Sleep(10 * time.Millisecond)
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
