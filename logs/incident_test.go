package logs_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/internal/testkit"
	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

var write = flag.Bool("write", false, "write the incident into docs/operations.md")

const (
	incidentPage  = "../docs/operations.md"
	incidentBegin = "<!-- incident: go test ./logs -run TestThePageHasTheLogOfAnIncident -write -->\n"
	incidentEnd   = "<!-- end of incident -->\n"
	throttleBegin = "<!-- throttle: go test ./logs -run TestThePageHasTheLogOfAThrottle -write -->\n"
	throttleEnd   = "<!-- end of throttle -->\n"
)

// advice is what an operator does about a line, by what it has in it.
var advice = []struct{ has, do string }{
	{`msg="circuit open" key=https://pay.example from=closed to=open reason=tripped`, "It opened, by the rule and the figures under `why`; `cause` is the last failure, `trace_id` a trace of it. Look at that upstream. Nothing is to be done here: probes find out when it is well."},
	{`cause=slow trace_id`, "It answers, and callers wait too long for it: `why` has how many, against what bound, and `trace_id` is of one of them. See where its time goes; who wants to wait so long is not to be counted so (`policy.SlowShare`)."},
	{`cause="judged so (status 429)" trace_id`, "It is well, and wants fewer calls: a classifier of yours says that this is a failure, and the status is what it saw. Nothing goes before the time that its `Retry-After` says. If it repeats, send less, or ask for more."},
	{`msg="requests refused"`, "Callers get the refusal. `refused` is how many since the last such line, one in ten seconds; if your service has to go on without this upstream, this is how many answers it made do without."},
	{`msg="probes failed"`, "It was tried, `failed` times since the last such line, and is still down by `cause`. If that differs from the cause of the trip, the trouble has changed."},
	{`msg="circuit half-open"`, "A probe was well, and traffic grows from here. Wait: most recoveries take seconds."},
	{`msg="circuit open" key=https://pay.example from=half-open`, "The upstream answered a probe and then failed under load, by `why`. If it repeats, it cannot bear what comes: find out what it can."},
	{`msg="circuit closed"`, "It is over. The time from the first line to this one is what it cost."},
}

// TestThePageHasTheLogOfAnIncident makes an outage, a time of slow answers and one of 429s.
func TestThePageHasTheLogOfAnIncident(t *testing.T) {
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.String("time", a.Value.Time().UTC().Format("15:04:05.000"))
			}
			return a
		}}))
		incident := &testkit.Incident{Speed: 1}
		breaker := transport.New(incident, transport.WithPolicy(incident.Rules()), transport.WithObserver(logs.Observer(logger)),
			transport.WithClassifier(policy.OnStatus(policy.Failure, http.StatusTooManyRequests)),
			own.WithRandom(func() float64 { return 0.5 }).(transport.Option))
		require.NoError(t, incident.Play(breaker))
	})
	var page strings.Builder
	for line := range strings.Lines(text.String()) {
		do := ""
		for _, a := range advice {
			if strings.Contains(line, a.has) {
				do = a.do
			}
		}
		require.NotEmpty(t, do, "nobody is told what to do about %s", line)
		said := ""
		if !strings.Contains(page.String(), do) {
			said = do + "\n\n"
		}
		fmt.Fprintf(&page, "```text\n%s```\n\n%s", line, said)
	}
	onPage(t, incidentBegin, page.String(), incidentEnd)
}

// onPage compares what is on the page between two lines, or writes it.
func onPage(t *testing.T, begin, text, end string) {
	t.Helper()
	have, err := os.ReadFile(incidentPage)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(have), begin)
	require.True(t, ok)
	was, after, ok := strings.Cut(rest, end)
	require.True(t, ok)
	if *write {
		require.NoError(t, os.WriteFile(incidentPage, []byte(before+begin+text+end+after), 0o644))
		return
	}
	require.Equal(t, was, text)
}

// TestThePageHasTheLogOfAThrottle plays an upstream that answers ten calls a second, of the forty that come for a while.
func TestThePageHasTheLogOfAThrottle(t *testing.T) {
	var log, page bytes.Buffer
	var refusal string
	synctest.Test(t, func(t *testing.T) {
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.String("time", a.Value.Time().UTC().Format("15:04:05.000"))
			}
			return a
		}}))
		began, last, room := time.Now(), time.Now(), 10.0
		upstream := testkit.RoundTripper(func(req *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Millisecond)
			room = min(10, room+10*time.Since(last).Seconds())
			if last = time.Now(); room < 1 {
				return testkit.Answer(http.StatusTooManyRequests, "")(req)
			}
			room--
			return testkit.Answer(http.StatusOK, "")(req)
		})
		breaker := transport.New(upstream, transport.WithObserver(logs.Observer(logger)))
		for gap := time.Duration(0); time.Since(began) < time.Minute; time.Sleep(gap) {
			gap = 200 * time.Millisecond
			if at := time.Since(began); at > 5*time.Second && at < 20*time.Second {
				gap = 20 * time.Millisecond
			}
			req, err := http.NewRequest(http.MethodGet, "https://pay.example/charges", nil)
			require.NoError(t, err)
			resp, err := breaker.RoundTrip(req)
			require.NoError(t, err)
			if text, _ := io.ReadAll(resp.Body); transport.Refused(resp) && refusal == "" {
				refusal = string(text)
			}
		}
	})
	fmt.Fprintf(&page, "```text\n%s```\n\nand who is refused reads\n\n```text\n%s```\n\n", log.String(), refusal)
	onPage(t, throttleBegin, page.String(), throttleEnd)
}
