package decide

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fusebox-go/fusebox/cmd/fusebox/internal/record"
	"github.com/fusebox-go/fusebox/policy"
)

// traffic makes calls at a rate, of so many keys, of which a share in 1000 fail, and all in an outage of a tenth of the
// time.
func traffic(n int, gap time.Duration, keys, failing int) []record.Call {
	random := rand.New(rand.NewPCG(1, 2))
	calls := make([]record.Call, n)
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	for i := range calls {
		c := &calls[i]
		at += int64(random.ExpFloat64() * float64(gap))
		c.Start, c.Key = at, uint32(random.IntN(keys))
		c.SetTook(time.Duration(float64(20*time.Millisecond) * (0.5 + random.ExpFloat64())))
		cause := policy.Cause{Status: 200}
		if random.IntN(1000) < failing || i > n/2 && i < n*6/10 && failing >= 0 {
			cause = policy.Cause{Kind: policy.KindStatus, Status: 503}
		}
		c.SetCause(cause)
		c.SetOutcome(cause.Outcome())
	}
	return calls
}

func BenchmarkReplay(b *testing.B) {
	for _, keys := range []int{1, 10, 1000} {
		for _, failing := range []int{-1, 0, 20} {
			b.Run(fmt.Sprintf("keys=%d/failing=%d", keys, failing), func(b *testing.B) {
				calls := traffic(1e6, time.Millisecond, keys, failing)
				b.ResetTimer()
				n := 0
				for b.Loop() {
					r := New(Options{Policies: []Policy{{Name: "default", Policy: policy.Adaptive{}}}})
					for from := 0; from < len(calls); from += 8192 {
						r.Calls(calls[from:min(len(calls), from+8192)])
					}
					r.Finish()
					n += len(calls)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/call")
			})
		}
	}
}
