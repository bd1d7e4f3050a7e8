package statemachine

import (
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/policy"
)

// maxSamples is how many causes of failures a circuit keeps.
const maxSamples = 8

// samples are the latest causes of failures. The list that was given away is not changed any more.
type samples struct {
	kept  []policy.Sample // the latest first
	given bool
}

func (s *samples) add(now time.Time, r policy.Result) {
	at := slices.IndexFunc(s.kept, func(k policy.Sample) bool { return k.Cause == r.Cause })
	if s.given {
		s.kept, s.given = slices.Clone(s.kept), false
	}
	sample := policy.Sample{Cause: r.Cause}
	switch {
	case at >= 0:
		sample = s.kept[at]
	case len(s.kept) < maxSamples:
		s.kept = append(s.kept, policy.Sample{})
		at = len(s.kept) - 1
	default:
		at = maxSamples - 1
	}
	sample.Count++
	sample.At = now
	if r.Trace != "" {
		sample.Trace = r.Trace
	}
	copy(s.kept[1:at+1], s.kept[:at])
	s.kept[0] = sample
}

// list returns the samples, the latest first. It is not to be changed.
func (s *samples) list() []policy.Sample {
	if len(s.kept) > 0 {
		s.given = true
	}
	return s.kept
}
