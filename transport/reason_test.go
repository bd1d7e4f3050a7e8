package transport_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fusebox-go/fusebox/policy"
	"github.com/fusebox-go/fusebox/transport"
)

// failsFor says Failure of every call, and why.
func failsFor(reason string) policy.Classifier {
	return func(c *policy.Call) policy.Outcome {
		c.Reason = reason
		return policy.Failure
	}
}

func TestAClassifiersReasonIsInTheCauseOfItsFailure(t *testing.T) {
	silent := policy.When(policy.Failure, func(*policy.Call) bool { return true })
	gossip := func(c *policy.Call) policy.Outcome {
		c.Reason, c.RetryAfter = "nobody asked me", time.Hour
		return policy.Undecided
	}
	for name, c := range map[string]struct {
		status   int
		classify policy.Classifier
		want     string
	}{
		"of a response that is well":         {200, failsFor("quota used up"), "judged so: quota used up"},
		"at the end":                         {200, policy.AtEnd(0, failsFor("quota used up")), "judged so: quota used up"},
		"of one that fails by its status":    {503, failsFor("quota used up"), "status 503: quota used up"},
		"none":                               {200, silent, "judged so"},
		"of who did not decide":              {503, gossip, "status 503"},
		"of who did not decide, and another": {200, policy.FirstOf(gossip, silent), "judged so"},
		"of who did not decide, at the end":  {200, policy.AtEnd(0, policy.FirstOf(gossip, silent)), "judged so"},
		"of many lines":                      {200, failsFor("a\r\nb\x00\x1b[31mc\u2028d"), "judged so: a  b  [31mc d"},
		"of no known script":                 {200, failsFor("a\xff\xfeb"), "judged so: a\ufffd\ufffdb"},
		"too long":                           {200, failsFor(strings.Repeat("x", 65)), "judged so: " + strings.Repeat("x", 64)},
		"too long by half a letter":          {200, failsFor(strings.Repeat("x", 63) + "é"), "judged so: " + strings.Repeat("x", 63)},
		"too long, and no text":              {200, failsFor(strings.Repeat("\x80", 100)), "judged so: " + strings.Repeat("\ufffd", 21)},
	} {
		t.Run(name, func(t *testing.T) {
			rt := transport.New(answer(c.status, "body"), transport.WithClassifier(c.classify))
			resp, err := call(t, rt)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, c.want, circuit(t, rt, here).Cause.String())

			var saved bytes.Buffer
			rt.SetState(here, policy.Open)
			require.NoError(t, rt.SaveTo(&saved))
			restored := transport.New(answer(200, ""))
			_, err = restored.RestoreFrom(&saved, time.Hour)
			require.NoError(t, err)
			require.Equal(t, c.want, circuit(t, restored, here).Samples[0].Cause.String())
		})
	}
}

func TestAClassifierCanSayForHowLongTheUpstreamAsksToBeLeftAlone(t *testing.T) {
	asks := func(d time.Duration) policy.Classifier {
		return func(c *policy.Call) policy.Outcome {
			c.RetryAfter = d
			return policy.Failure
		}
	}
	for name, c := range map[string]struct {
		header   string
		classify policy.Classifier
		want     time.Duration
	}{
		"by its word":               {"", asks(time.Minute), time.Minute},
		"at the end":                {"", policy.AtEnd(0, asks(time.Minute)), time.Minute},
		"the header's is longer":    {"120", asks(time.Minute), 2 * time.Minute},
		"the header's is shorter":   {"7", asks(time.Minute), time.Minute},
		"a negative one":            {"", asks(-time.Minute), time.Second},
		"more than the policy lets": {"", asks(1 << 62), 5 * time.Minute},
		"of who did not decide":     {"", policy.FirstOf(func(c *policy.Call) policy.Outcome { c.RetryAfter = time.Minute; return policy.Undecided }, asks(0)), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			answers := base(func(req *http.Request) (*http.Response, error) {
				resp, err := answer(200, "body").RoundTrip(req)
				resp.Header = http.Header{"Retry-After": {c.header}}
				return resp, err
			})
			rt := transport.New(answers, transport.WithClassifier(c.classify), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Second}))
			resp, err := call(t, rt)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			is := circuit(t, rt, here)
			require.Equal(t, c.want, is.NextProbe.Sub(is.Since))
		})
	}
}

func TestATimeInHeadersIsCountedFromWhenTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := base(func(req *http.Request) (*http.Response, error) {
			resp, err := answer(200, "body").RoundTrip(req)
			there := time.Now().Add(time.Hour)
			resp.Header = http.Header{
				"Date": {there.UTC().Format(http.TimeFormat)}, "Retry-After": {there.Add(time.Minute).UTC().Format(http.TimeFormat)},
			}
			return resp, err
		})
		failed := policy.AtEnd(0, func(*policy.Call) policy.Outcome { return policy.Failure })
		rt := transport.New(answers, transport.WithClassifier(failed), transport.WithPolicy(policy.Classic{Failures: 1, OpenFor: time.Second}))
		resp, err := call(t, rt)
		require.NoError(t, err)
		time.Sleep(20 * time.Second)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, 40*time.Second, time.Until(circuit(t, rt, here).NextProbe))
	})
}
