package main

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/transport"
)

// A paired is what Fusebox adds to a call over loopback, found out call by call: one by it, one by the bare base, and
// so on, each being the first of a pair as often as the other, so that what else the machine does falls on both.
type paired struct {
	pairs     int
	base      float64 // the median of the base's calls, in ns, as the next ones
	added     float64 // the median of the differences in a pair
	low, high float64 // between which that is in 95 of 100 such measurements
}

// pairUp measures pairs of calls of a server.
func pairUp(base http.RoundTripper, url string, pairs int) (paired, error) {
	ours, calls := transport.New(base), newCaller(url)
	defer calls.cancel()
	timed := func(rt http.RoundTripper) (time.Duration, error) {
		began := time.Now()
		err := calls.read(rt)
		return time.Since(began), err
	}
	differences, bases := make([]float64, 0, pairs), make([]float64, 0, pairs)
	for i := range pairs + pairs/10 {
		first, second := http.RoundTripper(ours), base
		if i%2 == 1 {
			first, second = second, first
		}
		a, err := timed(first)
		if err != nil {
			return paired{}, err
		}
		b, err := timed(second)
		if err != nil {
			return paired{}, err
		}
		if i%2 == 1 {
			a, b = b, a
		}
		if i >= pairs/10 { // the first ones warm up
			differences, bases = append(differences, float64(a-b)), append(bases, float64(b))
		}
	}
	low, high := medianInterval(differences)
	return paired{pairs, median(bases), median(differences), low, high}, nil
}

// medianInterval returns between which the median of what values are a sample of is, with a confidence of 95 %: the
// order statistics by the normal approximation of the binomial distribution.
func medianInterval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n := float64(len(sorted))
	half := 1.96 * math.Sqrt(n) / 2
	return sorted[max(0, int(math.Floor(n/2-half)))], sorted[min(len(sorted)-1, int(math.Ceil(n/2+half)))]
}

// reportPaired writes what is added over HTTP/1.1 and over HTTP/2.
func (o *options) reportPaired(out io.Writer) error {
	fmt.Fprint(out, "### paired: a real server on loopback, body read to its end, Fusebox and the base call by call\n"+
		"\n| protocol | pairs | base, median ns | added, median ns | 95 % interval | % of the base | interval |\n"+
		"|---|--:|--:|--:|--:|--:|--:|\n")
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write(page) })
		server := httptest.NewUnstartedServer(handler)
		server.EnableHTTP2 = protocol == "HTTP/2"
		if server.EnableHTTP2 {
			server.StartTLS()
		} else {
			server.Start()
		}
		pairs := int(time.Duration(o.rounds) * o.benchtime / (20 * time.Microsecond))
		p, err := pairUp(server.Client().Transport, server.URL, pairs)
		server.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", protocol, err)
		}
		fmt.Fprintf(out, "| %s | %d | %.0f | %.0f | %.0f to %.0f | %.2f | %.2f to %.2f |\n", protocol, p.pairs, p.base,
			p.added, p.low, p.high, 100*p.added/p.base, 100*p.low/p.base, 100*p.high/p.base)
	}
	fmt.Fprintln(out)
	return nil
}
