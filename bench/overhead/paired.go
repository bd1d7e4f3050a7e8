package main

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"github.com/fusebox-go/fusebox/bench/internal/peer"
)

// A paired is what a subject adds to a call over loopback, found out call by call: one by it and one by the bare base,
// by chance in this order or the other, so that what else the machine does falls on both. (In turns, a connection of
// HTTP/2 has a rhythm of four calls, by which the base differs from itself by half a microsecond.)
type paired struct {
	pairs     int
	base      float64 // the median of the base's calls, in ns, as the next ones
	added     float64 // the median of the differences in a pair
	low, high float64 // between which that is in 95 of 100 such measurements
}

// pairUp measures pairs of calls of a server.
func pairUp(ours, base http.RoundTripper, url string, pairs int) (paired, error) {
	calls, chance := newCaller(url), rand.New(rand.NewPCG(1, 2))
	defer calls.cancel()
	timed := func(rt http.RoundTripper) (time.Duration, error) {
		began := time.Now()
		err := calls.read(rt)
		return time.Since(began), err
	}
	differences, bases := make([]float64, 0, pairs), make([]float64, 0, pairs)
	for i := range pairs + pairs/10 {
		first, second, turned := ours, base, chance.IntN(2) == 1
		if turned {
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
		if turned {
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

// passing does nothing but pass calls on, and watching has a body of its own as well: less than that no breaker adds
// that looks at the ends of bodies.
var (
	passing = subject{name: "passed on", new: func(base http.RoundTripper) http.RoundTripper {
		return peer.RoundTripper(func(req *http.Request) (*http.Response, error) { return base.RoundTrip(req) })
	}}
	watching = subject{name: "passed on, and its body", new: func(base http.RoundTripper) http.RoundTripper {
		return peer.RoundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Body = &passedBody{ReadCloser: resp.Body}
			}
			return resp, err
		})
	}}
)

// passedBody is a body that passes on what it is asked, and counts. It is as large as Fusebox's.
type passedBody struct {
	io.ReadCloser
	reads int
	_     [40]byte
}

func (b *passedBody) Read(p []byte) (int, error) { b.reads++; return b.ReadCloser.Read(p) }

// reportPaired writes what is added over HTTP/1.1 and over HTTP/2, and by the base to itself, which should be nothing.
func (o *options) reportPaired(out io.Writer) error {
	fmt.Fprint(out, "### paired: a real server on loopback, body read to its end, each and the base call by call\n"+
		"\n| protocol | subject | pairs | base, median ns | added, median ns | 95 % interval | % of the base | "+
		"interval |\n"+
		"|---|---|--:|--:|--:|--:|--:|--:|\n")
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
		base := server.Client().Transport
		for _, s := range []subject{bare, passing, watching, fusebox("fusebox", "", nil), gobreakerPerHost} {
			p, err := pairUp(s.new(base), base, server.URL, pairs)
			if err != nil {
				server.Close()
				return fmt.Errorf("%s, %s: %w", s.name, protocol, err)
			}
			fmt.Fprintf(out, "| %s | %s | %d | %.0f | %.0f | %.0f to %.0f | %.2f | %.2f to %.2f |\n",
				protocol, s.name, p.pairs, p.base, p.added, p.low, p.high,
				100*p.added/p.base, 100*p.low/p.base, 100*p.high/p.base)
		}
		server.Close()
	}
	fmt.Fprintln(out)
	return nil
}
