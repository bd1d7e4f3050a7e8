package rules

import (
	"strings"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

func TestAPolicyIsReadByTheNamesOfItsFields(t *testing.T) {
	for text, want := range map[string]struct {
		policy policy.Policy
		code   string
	}{
		"default": {policy.Adaptive{}, "policy.Adaptive{}"},
		"classic failures=5 openfor=30s": {
			policy.Classic{Failures: 5, OpenFor: 30 * time.Second}, "policy.Classic{Failures: 5, OpenFor: 30 * time.Second}",
		},
		"adaptive evidence=8": {
			policy.Adaptive{Trip: policy.Evidence{Threshold: 8}}, "policy.Adaptive{Trip: policy.Evidence{Threshold: 8}}",
		},
		"adaptive threshold=8 Spacing=0.5 hold=off limits.inflight=9": {
			policy.Adaptive{
				Trip: policy.Evidence{Threshold: 8}, Probe: policy.Squares{Spacing: 0.5},
				Hold: policy.Hold{Off: true}, Limits: policy.Limits{InFlight: 9},
			},
			"policy.Adaptive{Trip: policy.Evidence{Threshold: 8}, Probe: policy.Squares{Spacing: 0.5}, " +
				"Hold: policy.Hold{Off: true}, Limits: policy.Limits{InFlight: 9}}",
		},
		"share percent=50% window=10s openfor=1m": {
			Share{Trip: policy.FailureShare{Percent: 50, Window: 10 * time.Second}, Probe: policy.OpenTime{For: time.Minute}},
			"policy.Rules{Trip: policy.FailureShare{Percent: 50, Window: 10 * time.Second}, " +
				"Probe: policy.OpenTime{For: time.Minute}, Recover: policy.Trial{}}",
		},
	} {
		got, err := Parse(text)
		if err != nil || got != want.policy {
			t.Errorf("%s is %v, %v", text, got, err)
		}
		if code := Code(got); code != want.code {
			t.Errorf("%s is\n%s, not\n%s", text, code, want.code)
		}
	}
}

func TestWhatIsWrongWithAPolicyIsSaid(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "the policy is empty",
		"clasic":                        `there is no policy "clasic"; write default, adaptive, classic, share or slow`,
		"default evidence=8":            "write 'adaptive evidence=8'",
		"classic failure=5":             `has no field "failure"; it has failures, limits.inflight,`,
		"classic failures":              "is no field with a value",
		"classic failures=five":         `failures: "five" is no whole number`,
		"classic openfor=30":            `openfor: "30" is no time; write such as 30s`,
		"classic failures=-1":           "Failures is -1",
		"adaptive worth=2":              "recover.worth or trip.worth; write which",
		"adaptive hold=maybe":           "write hold=off",
		"adaptive limits.timeout=1s":    "would have changed how calls ended",
		"slow percent=50":               "SlowShare.Slower",
		"share percent=50 percent=wide": `"wide" is no whole number`,
		"classic failures=5 failures=6": "failures is there twice",
	} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}
