package logs_test

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/internal/own"
	"github.com/fusebox-go/fusebox/logs"
	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

var write = flag.Bool("write", false, "write the incident into docs/operations.md")

const (
	incidentPage  = "../docs/operations.md"
	incidentBegin = "<!-- incident: go test ./logs -run TestThePageHasTheLogOfAnIncident -write -->\n"
	incidentEnd   = "<!-- end of incident -->\n"
)

// sick is an upstream that is what it is told to be.
type sick struct {
	status atomic.Int64
	takes  atomic.Int64
}

func (s *sick) RoundTrip(req *http.Request) (*http.Response, error) {
	time.Sleep(time.Duration(s.takes.Load()))
	resp := &http.Response{StatusCode: int(s.status.Load()), Header: http.Header{}, Body: http.NoBody, Request: req}
	if resp.StatusCode == http.StatusTooManyRequests {
		resp.Header.Set("Retry-After", "3")
	}
	return resp, nil
}

// advice is what an operator does about a line, by what it has in it.
var advice = []struct{ has, do string }{
	{`msg="circuit open" key=https://pay.example from=closed to=open reason=tripped`, "It opened, by the rule and the figures under `why`; `cause` is the last failure, `trace_id` a trace of it. Look at that upstream. Nothing is to be done here: probes find out when it is well."},
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
		upstream := &sick{}
		rules := policy.Adaptive{}.Rules()
		rules.Trip = policy.AnyOf(policy.Evidence{}, policy.SlowShare{Slower: 2 * time.Second, Percent: 80, Calls: 10})
		breaker := transport.New(upstream, transport.WithPolicy(rules), transport.WithObserver(logs.Observer(logger)),
			transport.WithClassifier(policy.OnStatus(policy.Failure, http.StatusTooManyRequests)),
			own.WithRandom(func() float64 { return 0.5 }).(transport.Option))
		phase := func(status int, takes, length time.Duration) {
			upstream.status.Store(int64(status))
			upstream.takes.Store(int64(takes))
			for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(40 * time.Millisecond) {
				req, err := http.NewRequest(http.MethodGet, "https://pay.example/charges", nil)
				require.NoError(t, err)
				req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
				_, err = breaker.RoundTrip(req)
				require.NoError(t, err)
			}
		}
		const quick = 10 * time.Millisecond
		phase(200, quick, 5*time.Second)
		phase(503, quick, 15*time.Second)
		phase(200, quick, 10*time.Second)
		phase(200, 3*time.Second, 45*time.Second)
		phase(200, quick, 10*time.Second)
		phase(429, quick, 5*time.Second)
		phase(200, quick, 10*time.Second)
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
	have, err := os.ReadFile(incidentPage)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(have), incidentBegin)
	require.True(t, ok)
	was, after, ok := strings.Cut(rest, incidentEnd)
	require.True(t, ok)
	if *write {
		require.NoError(t, os.WriteFile(incidentPage, []byte(before+incidentBegin+page.String()+incidentEnd+after), 0o644))
		return
	}
	require.Equal(t, was, page.String())
}
